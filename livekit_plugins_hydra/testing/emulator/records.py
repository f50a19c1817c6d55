"""What an emulator keeps about the clients it served, and what it holds against them.

No record ever holds a key. Times are those of the event loop's clock, in seconds: `time.monotonic`
unless the loop has another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, TypeVar

from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.protocol.errors import ProtocolError

from .replies import Trigger, UserTurn

REDACTED: Final = "<redacted>"
"""What stands in a record where the key was."""

Rule: TypeAlias = Literal[
    "audio_before_configured",
    "event_before_configured",
    "second_configure",
    "over_ceiling",
    "empty_voice",
    "missing_model",
    "invalid_audio",
    "oversized_audio",
    "flooded",
    "binary_frame",
    "malformed_frame",
    "unknown_type",
    "bad_update",
    "bad_item",
    "response_fields",
    "unknown_call_id",
    "duplicate_output",
    "create_in_flight",
    "duplicate_create",
    "early_create",
]
"""The rules that a client can break; `RULES` says them in words."""

RULES: Final[dict[Rule, str]] = {
    "audio_before_configured": "audio may flow only after session.configured",
    "event_before_configured": "only session.configure may come before session.configured",
    "second_configure": "session.configure is sent once per connection",
    "over_ceiling": "what is over the payload ceiling silences the server",
    "empty_voice": "the voice must be named: the server's default fits no roster but one",
    "missing_model": "the model must be named in the query",
    "invalid_audio": "audio is base64 of whole int16 samples, 320 bytes at least",
    "oversized_audio": "audio chunks over 100 ms are unproven",
    "flooded": "audio may not run ahead of real time",
    "binary_frame": "frames are text",
    "malformed_frame": "frames are JSON objects that fit their type",
    "unknown_type": "the event type is not documented",
    "bad_update": "session.update takes tools and nothing else",
    "bad_item": "items are function outputs, or messages",
    "response_fields": "response.create has no documented fields",
    "unknown_call_id": "outputs answer function calls of this connection",
    "duplicate_output": "a function call has one output",
    "create_in_flight": "response.create waits until no response is in flight",
    "duplicate_create": "one response.create asks for one response",
    "early_create": "response.create follows the last output of several, not each",
}
"""What each rule asks for. Source: `protocol.md` sections 1 to 4, by the vendor's docs."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that a client did wrong."""

    rule: Rule
    connection: int
    """The connection's number, from 1."""

    at_s: float
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"connection {self.connection}: {self.rule}: {RULES[self.rule]}{detail}"


class ProtocolViolation(ProtocolError):
    """The client broke rules of the protocol; raised when the emulator is left."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(tuple(violations))
        self.violations = tuple(violations)

    def __str__(self) -> str:
        lines = [f"  {violation}" for violation in self.violations]
        return "\n".join([f"the client broke the protocol {len(lines)} times:", *lines])


_E = TypeVar("_E", bound=events.Event)


@dataclass(frozen=True, slots=True)
class Received:
    """One frame of the client."""

    at_s: float
    event: events.ClientEvent | events.UnknownEvent
    """Without its audio, which is in `ConnectionRecord.received_audio`."""

    n_audio_bytes: int = 0
    size_bytes: int = 0
    """Length of the whole frame."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One frame of the server."""

    at_s: float
    event: events.ServerEvent | str
    """Without its audio, which is in `ResponseRecord.pcm`; a str is what a test sent raw."""

    n_audio_bytes: int = 0


@dataclass(slots=True)
class ResponseRecord:
    """One response of the server."""

    id: str
    trigger: Trigger
    created_at_s: float
    pcm: bytearray = field(default_factory=bytearray, repr=False)
    """The audio sent, up to a cancellation."""

    late_pcm: bytearray = field(default_factory=bytearray, repr=False)
    """What was sent after the cancellation, where the scenario does that."""

    call_ids: list[str] = field(default_factory=list)
    status: str = "in_progress"
    reason: str | None = None
    ended_at_s: float | None = None
    """When it ended, whether `response.done` was sent or not."""


@dataclass(frozen=True, slots=True)
class Dial:
    """One attempt to connect."""

    at_s: float
    status: int
    """The HTTP status: 101 if a connection was made, 0 if it was cut without an answer."""

    model: str | None
    auth: Literal["query", "header", "none"]


@dataclass(kw_only=True)
class ConnectionRecord:
    """One connection, from its upgrade to its end."""

    number: int
    """From 1, in the order of the upgrades."""

    model: str
    """The tag served: what the query named, or the server's default."""

    auth: Literal["query", "header", "none"]
    query: dict[str, str]
    """Without the key."""

    headers: dict[str, str]
    """Names in lower case; without the key."""

    opened_at_s: float
    session_id: str = ""
    configured_at_s: float | None = None
    output_rate_hz: int = 0
    configuration: events.ClientSession = field(default_factory=events.ClientSession)
    """What holds now: the configuration, and the tools of later updates."""

    client_events: list[Received] = field(default_factory=list, repr=False)
    server_events: list[Sent] = field(default_factory=list, repr=False)
    received_audio: bytearray = field(default_factory=bytearray, repr=False)
    """What the client sent after `session.configured`, int16 mono 16 kHz."""

    turns: list[UserTurn] = field(default_factory=list, repr=False)
    """The user's turns that were answered, or would have been."""

    discarded_turns: list[UserTurn] = field(default_factory=list, repr=False)
    responses: list[ResponseRecord] = field(default_factory=list, repr=False)
    violations: list[Violation] = field(default_factory=list)
    close_code: int | None = None
    close_reason: str = ""
    closed_by_client: bool | None = None
    """Who sent the first close frame; None while open, and where none was sent."""

    closed_at_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection still stands."""
        return self.closed_at_s is None

    @property
    def configures(self) -> list[events.SessionConfigure]:
        """Every `session.configure` that came."""
        return self.events_of(events.SessionConfigure)

    def events_of(self, kind: type[_E]) -> list[_E]:
        """Return the client's or the server's events of one class, oldest first."""
        frames: list[Any] = [*self.client_events, *self.server_events]
        return [frame.event for frame in frames if isinstance(frame.event, kind)]

    def types_sent(self, *, without_audio: bool = True) -> list[str]:
        """Return the types of what the server sent, in order.

        Args:
            without_audio: leave out `response.output_audio.delta`.
        """
        return [
            sent.event.type
            for sent in self.server_events
            if not isinstance(sent.event, str)
            and not (without_audio and isinstance(sent.event, events.ResponseOutputAudioDelta))
        ]
