"""How the emulated server behaves: one frozen value, each field a switch.

The defaults are what the vendor's pages say, corrected by what was seen on the wire. Every other
value is a behaviour that the pages leave open, so that a client can be tried against each.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from livekit_plugins_hydra.protocol import voices

from .records import RULES, Rule
from .replies import (
    Call,
    Context,
    End,
    Reply,
    Say,
    Script,
    TranscriptDeltas,
    UserTurn,
    Wait,
    pieces_of,
    require_amounts,
)
from .sentence import DEFAULT_REPLY
from .switches import FAULTS, SWITCHES


@dataclass(frozen=True, kw_only=True, repr=False)
class Scenario:
    """A server's behaviour. `dataclasses.replace` changes one; see also `with_switches`."""

    # ------------------------------------------------------------------ what it answers

    replies: Script = ()
    """One entry for each response, over all connections; or a callable that gets the `Context`."""

    default_reply: Reply = DEFAULT_REPLY
    """What it answers when `replies` has run out: by default a spoken sentence."""

    repeats_last_reply: bool = False
    """Whether the last of `replies` is repeated instead."""

    audio_speed: float = 10.0
    """Seconds of audio sent in one second. Source: the vendor's reference client."""

    delta_ms: int = 40
    """Length of the audio in one delta."""

    ragged_deltas: bool = False
    """Some deltas are empty, of an odd length, or shorter than 6 bytes; the sum is the same."""

    # ------------------------------------------------------------------ how fast it is

    think_s: float = 0.05
    """From the reason to answer to `response.created`."""

    thinks: Literal["after_speech_stopped", "before_speech_stopped"] = "after_speech_stopped"
    """Where `think_s` lies for a user's turn; if before, the response comes 10 ms after
    `speech_stopped`. Source of the latter: eva, July 2026."""

    first_audio_delay_s: float = 0.0
    """Before the first audio of a response; how long Hydra takes is unpublished."""

    connect_delay_s: float = 0.0
    """Before the HTTP answer."""

    created_delay_s: float = 0.0
    """Before `session.created`."""

    configure_delay_s: float = 0.0
    """From `session.configure` to `session.configured`."""

    # ------------------------------------------------------------------ who may come in

    keys: Collection[str] | Callable[[str], bool] | None = field(default=None, repr=False)
    """The valid keys, or a predicate; None takes any that isn't empty."""

    bad_key: Literal["http_401", "http_403", "close_1008"] = "http_401"
    """How another key is refused. An early model card said 1008; 401 was probed."""

    token_lifetime_s: float | None = None
    """How long after its first use a key that begins with ``wat_`` opens connections."""

    expired_token: Literal["kept", "closed"] = "kept"
    """Whether a session survives its token, or ends with 1008 when it expires."""

    http_refusals: int = 0
    """The first so many attempts to connect are answered with `http_refusal_status`; counted from
    when the emulator got the scenario."""

    http_refusal_status: int = 503
    http_retry_after_s: int | None = 1
    """The `Retry-After` of those answers."""

    server_full_connections: int = 0
    """The first so many connections get `server_full` and close 1013; counted in the same way."""

    deprecated_models: Collection[str] = frozenset({"hydra"})
    """The tags whose connections begin with a `warning` frame."""

    warning: Literal["flat", "nested", "none"] = "flat"
    """The envelope of that frame, which is unpublished."""

    # ------------------------------------------------------------------ the handshake

    handshake: Literal["completes", "never_created", "never_configured"] = "completes"
    echoes_rates: bool = True
    """Whether `session.configured` names formats and rates, as the wire does and the docs don't."""

    output_rate_hz: int | None = None
    """Rate of the server's audio; None: 24,000 on v1.1, 48,000 on the other tags."""

    obeys_requested_rate: bool = False
    """Whether the `output_audio_sample_rate` of a configuration holds, as near as 8 to 48 kHz are.
    The vendor's quickstart asks for 16 kHz; the authors of its docs say that the server decides."""

    seed_voices: Literal["refused", "accepted"] = "refused"
    """What becomes of the six launch voices. Source of "refused": probe of 2026-08-20."""

    more_voices: Collection[str] = ()
    """Voices that are accepted whatever else holds; the vendor's demo offers ``marin``."""

    unknown_voice: Literal["refused", "replaced"] = "refused"
    """Whether a voice in no roster is an error, or silently becomes the default voice."""

    after_refused_configure: Literal["ignores", "accepts", "closes"] = "ignores"
    """What a server does with a second `session.configure` after a refused one, or before it."""

    early_audio: Literal["dropped", "session_ended"] = "dropped"
    """What becomes of audio before `session.configured`."""

    payload_ceiling_bytes: int | None = 32_768
    """What is larger silences the server without an error. Source: eva, 2026-07-02."""

    payload_ceiling_of: Literal["configuration", "context"] = "configuration"
    """What is weighed: instructions and tools; or these and every item that the client has sent.
    Source of both: eva."""

    # ------------------------------------------------------------------ turns

    threshold_dbfs: float = -45.0
    """Level (RMS) from which sound may be speech."""

    speech_start_ms: int = 80
    """Speech needed before a turn begins."""

    silence_ms: int = 400
    """Silence needed before it ends."""

    min_turn_ms: int = 350
    """A turn that is shorter, from its first sound to its last, is discarded: a cough."""

    discard_turn: Callable[[UserTurn], bool] | None = None
    """Discards further turns."""

    user_item: Literal["at_start", "at_end"] = "at_start"
    """Whether the user's item is added when the turn begins, as the vendor's pages show it, or when
    it ends, as the AsyncAPI says: "will be created when the turn ends"."""

    barge_in: Literal["at_once", "when_settled"] = "at_once"
    """Whether a response is cancelled when the user begins, or once the turn is known to count.

    At once, as the vendor's demo, Pair and HeyClicky play all audio that follows `speech_started`:
    if Hydra went on for a while, their users would hear it.
    """

    speech_stopped: Literal["on_time", "late", "missing_if_discarded", "missing"] = "on_time"
    """``late`` is after `response.created` and some audio."""

    cancelled_items_close: bool = True
    """Whether a cancelled response sends `output_audio.done` and the item's end."""

    cancelled_done: Literal["at_once", "after_next_created"] = "at_once"
    """When an interrupted response says that it has ended; a discarded turn has no next one, so
    then it comes with the turn's end. The docs call both orders a sign of barge-in."""

    late_deltas: int = 0
    """Deltas of a cancelled response that follow its `response.done`.

    The last of several comes after the next `response.created`.
    """

    # ------------------------------------------------------------------ responses and tools

    bare_response_create: Literal["spoken", "refused", "ignored"] = "spoken"
    """What becomes of a `response.create` that answers no tool outputs."""

    create_beside_turn: Literal["one_answer", "two_answers"] = "one_answer"
    """What a `response.create` gets while a user's turn, or another reason of the server's own, has
    no answer yet. Nobody has published it; a server that queues its requests answers both."""

    busy_response_create: Literal["refused", "ignored", "queued"] = "refused"
    """What becomes of a `response.create` while a response is in flight."""

    message_items: Literal["accepted", "refused", "dropped"] = "accepted"
    """``dropped``: no error, and the model never gets to know it."""

    calling_response_done: Literal["before_outputs", "after_outputs", "never"] = "before_outputs"
    """When the `response.done` of a response with function calls comes."""

    speaks_before_calls: bool = False
    """Whether 0.4 s of speech come before a reply of function calls alone, in the same response."""

    tool_response_timeout_s: float | None = 20.0
    """From the last function call to its output and `response.create`; the real one is unknown."""

    echoes_client_items: bool = False
    """Whether items of the client come back as `conversation.item.added` and `done`."""

    # ------------------------------------------------------------------ what events carry

    item_ids: bool = True
    delta_item_ids: Literal["all", "audio", "text"] = "all"
    """Which deltas of a response name their item."""

    indexes: bool = True
    """`output_index` and `content_index`."""

    function_call_ids: bool = True
    """Whether function call events name their item and its index; the vendor's AsyncAPI and SDK
    have neither, its TypeScript types have both as optional."""

    audio_delta_field: Literal["delta", "audio"] = "delta"
    """Where audio deltas have their audio; the vendor's quickstart reads either."""

    event_ids: bool = True
    echoes_event_ids: bool = True
    """Whether an `error` names the client's event."""

    explicit_nulls: bool = False
    """Absent fields are sent as null."""

    response_output: bool = True
    """Whether `response.done` lists its items."""

    usage: Literal["present", "zero", "absent"] = "present"
    transcripts: bool = False
    """Whether `response.output_audio_transcript.delta` is sent. Undocumented; seen on `hydra`."""

    transcript_deltas: TranscriptDeltas = "phrases"
    """Whether they are phrases without the space between them, as eva joins them (July 2026);
    phrases with it, as the vendor's quickstart prints them; or parts of words, with it."""

    user_text: str | Callable[[UserTurn], str] | None = None
    """Text in the user's item, as the vendor's demo shows; None by the docs."""

    error_codes: Literal["by_page", "invalid_request_error", "invalid_frame"] = "by_page"
    """Which code refusals have; the dated probes differ from the page."""

    unknown_types: Literal["refused", "ignored"] = "refused"
    """What becomes of frames of an unknown type. Once documented as ignored."""

    # ------------------------------------------------------------------ the connection

    answers_pings: bool = True
    idle_timeout_s: float | None = 30.0
    """Close 1000 after so long without a frame from either side."""

    max_lead_s: float | None = 2.5
    """The session ends when the client's audio is further ahead of the clock than this."""

    flood_clock: Literal["session", "queue"] = "session"
    """Ahead of what: of the time since `session.configured`, or of a queue read in real time."""

    min_append_bytes: int = 320
    """Shorter audio is `invalid_audio`."""

    closes_after: Collection[str] = frozenset({"server_full", "session_ended"})
    """The `error` codes after which the server closes."""

    # ------------------------------------------------------------------ strictness

    tolerate: Collection[Rule] = frozenset()
    """Rules whose violations aren't held against the client."""

    race_grace_s: float = 0.25
    """What the server said less than this ago, the client may not have known."""

    records_audio: bool = True
    """Whether the client's audio and its arrivals are kept; False for load tests."""

    def __post_init__(self) -> None:
        if isinstance(self.replies, Say | Call | Wait | End):
            raise TypeError("replies takes a list of replies, or a callable")
        for reply in (*(() if callable(self.replies) else self.replies), self.default_reply):
            pieces_of(reply)
        for name in ("keys", "deprecated_models", "more_voices", "closes_after", "tolerate"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name} takes a list of texts, not one text")
        HTTPStatus(self.http_refusal_status)
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and each.name != "threshold_dbfs":
                require_amounts(**{each.name: value})
        for name in ("audio_speed", "delta_ms", "output_rate_hz"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} = 0 can't be: it takes more than 0")
        if unknown := sorted(set(self.tolerate) - set(RULES)):
            raise ValueError(f"there is no rule {unknown[0]!r}; there are: {', '.join(RULES)}")

    def rate_of(self, model: str) -> int:
        """Return the output rate of `model` in hertz."""
        return self.output_rate_hz or voices.output_rate_hz(model)

    def reply_to(self, context: Context) -> Reply:
        """Return what the model answers."""
        if callable(self.replies):
            return self.replies(context)
        number = context.response_number
        if number <= len(self.replies):
            return self.replies[number - 1]
        return self.replies[-1] if self.repeats_last_reply and self.replies else self.default_reply

    def with_switches(self, *names: str) -> Scenario:
        """Return this scenario with what `SWITCHES` or `FAULTS` have under these names."""
        known = {**SWITCHES, **FAULTS}
        merged: dict[str, Any] = {}
        for name in names:
            merged |= known[name]
        return dataclasses.replace(self, **merged)

    @classmethod
    def random(cls, seed: int, **fields: Any) -> Scenario:
        """Return a random combination of `SWITCHES`, the same for the same seed.

        Args:
            seed: any number.
            fields: fields that shall hold whatever the dice say.
        """
        return dataclasses.replace(cls().with_switches(*random_switches(seed)), **fields)

    def changes(self) -> Mapping[str, object]:
        """Return the fields that differ from the defaults; never the keys."""
        return {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.repr and getattr(self, each.name) != each.default
        }

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.changes().items())
        return f"Scenario({inside})"


def random_switches(seed: int) -> tuple[str, ...]:
    """Return the names of the switches that `Scenario.random` throws for `seed`."""
    dice = random.Random(seed)
    thrown = [name for name in SWITCHES if dice.random() < 0.3]
    dice.shuffle(thrown)
    return tuple(thrown)
