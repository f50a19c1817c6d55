"""What outlives a connection: owed replies, results nobody told yet, changed instructions.

A `Call` drives one `Conversation` after another and, like them, does no I/O: it takes the
server's events and the session's wishes, and returns effects.

Replies on demand. The only documented way to make Hydra speak is `generate_initial_response` in
the one-shot configuration; `response.create` is documented for function outputs alone. So a reply
goes the first of these ways that can work:

1. Before the configuration is sent, it becomes that connection's first response.
2. It answers function outputs: a bare `response.create`, as documented.
3. Nothing was said or heard on this connection: a new one, with the reply as its first response.
4. Otherwise text items and `response.create`. When the server refuses (an `error` that names our
   event), or stays silent and nothing would be forgotten, a new connection as in 3.

A response that the server begins by itself meanwhile is adopted, unless the reply is about
something that the server does not know yet. What the server refused is
remembered in `Learned`, for all calls of a model object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from . import effects as fx
from . import events as ev
from .backoff import DIALS_PER_MINUTE, Allowance
from .conversation import Conversation
from .errors import ServerError
from .states import Handshake, Round, Turn

GREETING_WINDOW_S: Final = 0.05
"""How long the first configuration waits for a greeting to join it.

`on_enter` asks about 2 ms after the session is configured (measured, livekit-agents 1.8.9).
"""

REPLY_DEADLINE_S: Final = 10.0
"""A reply that has not begun by then fails; every other LiveKit plugin waits as long."""

REPLY_SILENCE_S: Final = 5.0
"""No `response.created` for so long means that the server ignores the request. Our choice."""

SILENCE_REDIAL_EVERY_S: Final = 30.0
"""Silence is a weak sign: at most one new connection for it in this time."""

NARRATE_AFTER_S: Final = 0.1
"""How long the framework may take to ask for the reply to outputs before the call does."""

DEBT_BLOCKS_S: Final = 3.0
"""How long a cancelled reply's response may hold back the next request."""

KEPT_TURN_S: Final = 3.0
"""How long a new server may take to notice the speech that it is sent again. Our choice."""

INSTRUCTIONS_DEBOUNCE_S: Final = 0.5
"""Changes of instructions within this time make one new connection."""

INSTRUCTIONS_REDIAL_EVERY_S: Final = 15.0
"""At most one new connection for changed instructions in this time."""

_CONFIGURED: Final = frozenset({Handshake.CONFIGURING, Handshake.READY})
"""From here on, what changes has to be sent; before, it goes into the configuration."""

_PASSING: Final = "internal_error"
"""The code of errors that say nothing about what was sent. Source: docs of 2026-08-21."""

MAX_UNWRITTEN: Final = 256
"""How many turns and responses without a text are told apart."""

_STALE: Final = "the instructions have changed"

ANSWER_TEXT: Final = "Answer the user's last message, which was typed and not spoken."
ANSWER_TOOLS: Final = "Tell the user what the last tool call above returned."
GO_ON: Final = "Go on with the conversation: say what comes next."


@dataclass
class Learned:
    """What servers refused or did; shared by all calls of a model object, for its life."""

    items_refused: bool = False
    """Text items in `conversation.item.create`."""
    create_refused: bool = False
    """`response.create` without a user turn or function outputs before it."""
    create_speaks: bool = False
    """`response.create` alone has made the server speak."""
    voices_refused: set[str] = field(default_factory=set)


class _Stage(Enum):
    HELD = "waits for its moment"
    GREETING = "the configuration has asked for it"
    ASKED = "response.create was sent"


@dataclass(slots=True)
class _Reply:
    """A reply that is owed."""

    id: str | None
    """None for one that the call asks for by itself."""
    instructions: str
    opening: str
    """What it is about, should it become the first response of a connection."""
    stage: _Stage = _Stage.HELD
    knows_outputs: bool = False
    """Whether the server was sent outputs right before it was asked."""
    answers_outputs: bool = False
    """Whether they are all that it was asked about."""
    was_refused: bool = False
    brings_outputs: bool = False
    """Whether it has words of its own for what functions have returned."""
    event_ids: set[str] = field(default_factory=set)

    @property
    def tells_outputs(self) -> bool:
        """Whether it was asked for because functions have returned."""
        return self.opening == ANSWER_TOOLS or self.brings_outputs

    def hold(self) -> None:
        """Begin anew: nothing was asked yet."""
        self.stage = _Stage.HELD
        self.knows_outputs = self.answers_outputs = self.was_refused = False
        self.event_ids.clear()


@dataclass(frozen=True, slots=True)
class _Text:
    """A text item that waits for the next request."""

    role: str
    text: str
    opening: str


@dataclass(slots=True)
class _Line:
    """What is true of one connection, and ends with it."""

    conversation: Conversation
    expects_turn: bool = False
    """Whether its server will hear speech at once, and answer that."""
    greeting_is_due: bool = False
    """Whether it was asked for a first response that has not begun."""
    begun: tuple[str, _Reply] | None = None
    """The last reply that has begun, and its response: without a sound, it is still owed."""
    owes_cancel: bool = False
    """Whether a response is to be cancelled when it begins: its reply was given up."""
    debt_blocks: bool = False
    """Whether that response holds back the next request."""
    sent_texts: dict[str, _Text | None] = field(default_factory=dict)
    """By the id of the event; None for the instructions of a reply."""
    has_new_outputs: bool = False
    """Whether outputs were sent since the last response began."""
    is_untold: bool = False
    """Whether a reply to outputs was given up, and none has come since."""
    unwritten: set[str] = field(default_factory=set)
    """What was said and whose text is not at hand."""
    is_forgotten: bool = False
    """Whether there is too much of that to keep count."""


class Call:
    """One call, over all its connections."""

    def __init__(
        self,
        *,
        new_event_id: Callable[[], str],
        learned: Learned | None = None,
        greet: bool = False,
        heard_until: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Begin a call.

        Args:
            new_event_id: mints the `event_id` of each event that we send.
            learned: what is known of the server; amended here.
            greet: the model speaks first, without being asked.
            heard_until: tells when what was said so far will have been heard; monotonic clock.
        """
        self._new_event_id = new_event_id
        self._heard_until = heard_until
        self._learned = learned if learned is not None else Learned()
        self._line = _Line(Conversation(new_event_id))
        self._is_configurable = False
        self._window_is_open = True

        self._owes_greeting = greet
        """Whether the model was to speak first, and has not spoken yet."""
        self._reply: _Reply | None = None
        self._texts: list[_Text] = []
        self._running_calls: set[str] = set()
        """Calls whose outputs have not been posted, whichever connection they came by."""
        self._left_calls: set[str] = set()
        """Those of them that ran when the application last interrupted."""
        self._interrupted_calls: set[str] = set()
        """Those for whose outputs the framework asks for no reply."""
        self._narrates_at: float | None = None
        """When to tell what functions have returned and nobody has told; None for nothing."""
        self._stale_since: float | None = None
        self._was_touched = False
        """Whether something was said on an earlier connection."""

        self._redials = Allowance(DIALS_PER_MINUTE, 60.0)
        self._silence_redials = Allowance(1, SILENCE_REDIAL_EVERY_S)
        self._instruction_redials = Allowance(1, INSTRUCTIONS_REDIAL_EVERY_S)

    def __repr__(self) -> str:
        reply = self._reply.stage.name if self._reply else "none"
        return f"<Call {self.conversation!r} reply={reply}>"

    @property
    def conversation(self) -> Conversation:
        """The present connection's conversation."""
        return self._line.conversation

    @property
    def is_occupied(self) -> bool:
        """Whether something is to be said: a reply is owed, functions run, or results wait."""
        is_calling = self.conversation.round is not Round.NONE
        return is_calling or self._reply is not None or self._narrates_at is not None

    # ----------------------------------------------------------------- the connection's life

    def open(self) -> list[fx.Effect]:
        """The socket is open."""
        return self.conversation.open()

    def receive(self, event: ev.ServerEvent | ev.UnknownEvent, now: float) -> list[fx.Effect]:
        """Take one event of the server."""
        user_was_quiet = self.conversation.turn is Turn.QUIET
        effects = self.conversation.receive(event, now)
        if type(event) is ev.ResponseOutputAudioDelta:  # fifty a second: little follows from it
            return self._relay_sound(effects)
        out: list[fx.Effect] = []
        for effect in effects:
            out += self._relay(effect, now, user_was_quiet=user_was_quiet)
        return out + self._advance(now)

    def configurable(self, now: float) -> list[fx.Effect]:
        """Instructions, history and tools are known: `Compose` may be asked for."""
        self._is_configurable = True
        return [fx.StartTimer("greeting_window", GREETING_WINDOW_S), *self._advance(now)]

    def configure(self, session: ev.ClientSession, now: float) -> list[fx.Effect]:
        """Send the configuration that `Compose` asked for; it holds all texts so far."""
        out = self.conversation.configure(session, now)
        self._window_is_open = False
        self._stale_since = None
        self._texts.clear()
        if session.generate_initial_response:
            self._line.greeting_is_due = True
            if self._reply:
                self._reply.stage = _Stage.GREETING
        return [*out, fx.CancelTimer("greeting_window")]

    def lose(self, now: float, *, keeps_turn: bool = False) -> list[fx.Effect]:
        """The connection has ended: the next one is a new conversation; replies stay owed.

        Args:
            now: monotonic clock.
            keeps_turn: the next server will hear speech at once, so that it answers that, and is
                asked for a reply only if it does not.
        """
        keeps_turn |= self._line.expects_turn and not self.conversation.is_ready
        line, self._line = self._line, _Line(Conversation(self._new_event_id), keeps_turn)
        has_called = bool(line.conversation.open_calls)
        out = line.conversation.lose()
        out += self._owe_again(line, out, now) if not has_called else []
        self._was_touched |= not line.conversation.is_untouched
        if self._reply:
            self._reply.hold()
        stale = ("reply_silence", "greeting", "kept_turn")
        return [*out, *(fx.CancelTimer(name) for name in stale)]

    def _owe_again(self, line: _Line, lost: list[fx.Effect], now: float) -> list[fx.Effect]:
        """Owe what was lost before its first sound; the framework believes that it was said."""
        unheard = [
            effect.response_id
            for effect in lost
            if isinstance(effect, fx.EndResponse)
            and effect.status == "lost"
            and effect.first_audio_at is None
        ]
        if line.is_untold and self._reply is None:
            self._narrates_at = now
        if self._reply is not None or line.begun is None or line.begun[0] not in unheard:
            return []
        self._reply = replace(line.begun[1], id=None)
        return [fx.StartTimer("reply_deadline", REPLY_DEADLINE_S)]

    def end(self, reason: str, now: float) -> list[fx.Effect]:
        """The call is over; nothing stays open or owed."""
        self._line.begun = None
        return [*self._give_up_reply(reason, now), *self.lose(now)]

    def timer(self, name: str, now: float) -> list[fx.Effect]:
        """A timer that an effect asked for has run out."""
        out: list[fx.Effect] = []
        match name:
            case "greeting_window":
                self._window_is_open = False
            case "greeting":
                self._line.greeting_is_due = False
            case "reply_deadline":
                self._line.is_untold = self._reply is not None and self._reply.tells_outputs
                if self._line.is_untold and not self.conversation.is_ready:
                    self._narrates_at = now
                reason = f"Hydra began no response in {REPLY_DEADLINE_S:g} s"
                out += self._give_up_reply(f"generate_reply timed out: {reason}", now)
                if self._line.is_untold:  # it is welcome whenever it comes: nobody else will tell
                    self._line.owes_cancel = False
            case "reply_silence":
                out += self._meet_silence(now)
            case "debt":
                self._line.debt_blocks = False
            case "kept_turn":
                self._line.expects_turn = False
            case "narrate" | "instructions":
                pass  # _advance() sees whether the moment has come
            case _:
                for effect in self.conversation.timer(name, now):
                    out += self._relay(effect, now, user_was_quiet=True)
        return out + self._advance(now)

    # ------------------------------------------------------------------- the session's wishes

    def generate_reply(self, reply_id: str, instructions: str, now: float) -> list[fx.Effect]:
        """Owe a reply; it takes the place of one that is pending."""
        out: list[fx.Effect] = []
        reply, older = _Reply(reply_id, instructions, self._opening(instructions)), self._reply
        reply.brings_outputs = any(text.opening == ANSWER_TOOLS for text in self._texts)
        reply.brings_outputs |= older is not None and older.tells_outputs
        if older and older.id is not None:
            out.append(fx.ReplyFailed(older.id, "superseded by a newer generate_reply()"))
        if older and older.stage is not _Stage.HELD and not self._is_news(instructions, older):
            reply = replace(older, id=reply_id)
        else:
            out += self._drop_reply(now)
        self._reply = reply
        self._narrates_at = None
        self._interrupted_calls |= self._left_calls & self._running_calls
        self._left_calls.clear()
        out.append(fx.StartTimer("reply_deadline", REPLY_DEADLINE_S))
        return out + self._advance(now)

    def _is_news(self, instructions: str, older: _Reply) -> bool:
        """Whether there is more to say now than the older request can lead to."""
        has_newer_outputs = self._line.has_new_outputs and not older.knows_outputs
        return bool(instructions or self._texts) or has_newer_outputs

    def cancel_reply(self, reply_id: str, now: float) -> list[fx.Effect]:
        """Stop owing a reply; its response is cancelled should it come all the same."""
        if self._reply is None or self._reply.id != reply_id:
            return []
        return [*self._drop_reply(now), *self._advance(now)]

    def add_text(self, role: str, text: str) -> None:
        """Note a text item that is already in the session's history.

        It waits for the next request, so that a new connection's history can hold it instead.
        """
        self._texts.append(_Text(role, text, ANSWER_TEXT if role == "user" else GO_ON))

    def was_interrupted(self, call_id: str) -> bool:
        """Tell whether the user has spoken while a function ran whose output was not posted."""
        return call_id in self._interrupted_calls

    def post_output(
        self, call_id: str, output: str, *, as_text: str, now: float
    ) -> list[fx.Effect]:
        """Send a function's output; `as_text` where this connection did not issue the call."""
        out: list[fx.Effect] = []
        self._running_calls.discard(call_id)
        if call_id in self.conversation.open_calls:
            out += self.conversation.post_output(call_id, output)
            self._line.has_new_outputs = True
        elif output:
            self._texts.append(_Text("system", as_text, ANSWER_TOOLS))
        if call_id in self._interrupted_calls:
            self._interrupted_calls.remove(call_id)
            if output:
                self._narrates_at = now + NARRATE_AFTER_S
        return out + self._advance(now)

    def update_tools(self, tools: list[ev.Tool]) -> list[fx.Effect]:
        """Replace the tools; before the configuration, that is where they go."""
        if self.conversation.handshake in _CONFIGURED:
            return self.conversation.update_tools(tools)
        return []

    def instructions_changed(self, now: float) -> list[fx.Effect]:
        """Make a new connection with the new instructions at the next quiet moment."""
        if self.conversation.handshake not in _CONFIGURED:
            return []
        self._stale_since = now
        return self._advance(now)

    def interrupt(self) -> list[fx.Effect]:
        """Cancel the response that is generating, if one is.

        Functions that run go on. The framework asks for no reply to their outputs then, which is
        what the application wants if it says nothing more; but if it asks for something else, as
        a room does with typed text, nobody would ever tell them.
        """
        self._left_calls = set(self._running_calls)
        return self.conversation.cancel_response()

    def _await_text(self, key: str) -> None:
        """Something is said, and its text is not known yet."""
        self._line.is_forgotten |= len(self._line.unwritten) >= MAX_UNWRITTEN
        if not self._line.is_forgotten:
            self._line.unwritten.add(key)

    def note_text(self, key: str) -> None:
        """The text of a turn (its item id) or response (its id) is at hand."""
        self._line.unwritten.discard(key)

    # -------------------------------------------------------------------------- relaying

    def _relay(self, effect: fx.Effect, now: float, *, user_was_quiet: bool) -> list[fx.Effect]:
        """Pass on an effect of the conversation, with what it means for the call."""
        match effect:
            case fx.BeginResponse(is_late=False):
                return self._begin(effect, user_was_quiet=user_was_quiet)
            case fx.SessionReady() if self._line.expects_turn:
                return [effect, fx.StartTimer("kept_turn", KEPT_TURN_S)]
            case fx.SessionReady() if self._line.greeting_is_due:
                return [effect, fx.StartTimer("greeting", REPLY_SILENCE_S)]
            case fx.UserStarted(item_id=item_id):
                self._line.expects_turn = False
                self._interrupted_calls |= self._running_calls
                self._await_text(item_id or "")
                is_ours = self._reply is not None and self._reply.id is None
                dropped = self._drop_reply(now) if is_ours else []
                return [effect, *dropped, *self._send_texts()]
            case fx.EndStreams(generation_id=generation_id, cut=True):
                self._take_back(generation_id, now)
            case fx.CallFunction(call_id=call_id):
                self._running_calls.add(call_id)
            case fx.UserStopped():
                self._line.owes_cancel = False
            case fx.UserText(item_id=key) | fx.OutputText(generation_id=key):
                self.note_text(key)
            case fx.UserDiscarded(item_id=item_id):
                self.note_text(item_id or "")
            case fx.EndResponse(response_id=response_id, first_audio_at=None):
                self.note_text(response_id)
            case fx.Fault(error=ServerError() as error, fatal=False):
                return self._meet_refusal(error) or [effect]
        return [effect]

    def _take_back(self, generation_id: str, now: float) -> None:
        """The user's speech cuts a response; one that said nothing yet has told no results."""
        begun = self._line.begun
        is_telling = begun and begun[0] == generation_id and begun[1].tells_outputs
        if is_telling and not self.conversation.has_begun_to_answer:
            self._line.has_new_outputs = True
            self._narrates_at = now

    def _relay_sound(self, effects: list[fx.Effect]) -> list[fx.Effect]:
        """Pass on what follows from sound; the narration may be a late part of what called."""
        reply = self._reply
        if reply is None or reply.stage is not _Stage.ASKED or not reply.answers_outputs:
            return effects
        out: list[fx.Effect] = []
        for effect in effects:
            out += self._fulfil(effect) if isinstance(effect, fx.BeginResponse) else [effect]
        return out

    def _begin(self, effect: fx.BeginResponse, *, user_was_quiet: bool) -> list[fx.Effect]:
        """Say whose response this is: nobody's, the server's own, or the owed reply."""
        settled: list[fx.Effect] = [fx.CancelTimer("greeting"), fx.CancelTimer("debt")]
        is_unwanted, is_greeting = self._line.owes_cancel, self._owes_greeting
        self._owes_greeting = self._line.greeting_is_due = self._line.expects_turn = False
        self._line.owes_cancel = self._line.debt_blocks = False
        if is_unwanted:
            cancelled = self.conversation.cancel_response()
            return settled + [e for e in cancelled if not isinstance(e, fx.EndStreams)]
        self._await_text(effect.generation_id)
        reply = self._reply
        if reply is None or (reply.stage is _Stage.HELD and (self._texts or reply.instructions)):
            opening = "" if self._narrates_at is None else ANSWER_TOOLS
            if reply is None and (is_greeting or opening):
                self._line.begun = (effect.generation_id, _Reply(None, "", opening))
            self._outputs_are_told()
            return [*settled, effect]
        if reply.stage is _Stage.ASKED and not reply.knows_outputs and user_was_quiet:
            self._learned.create_speaks = True
        return [*settled, *self._fulfil(effect)]

    def _fulfil(self, effect: fx.BeginResponse) -> list[fx.Effect]:
        """The owed reply begins."""
        reply, self._reply = self._reply, None
        self._line.begun = (effect.generation_id, reply) if reply else None
        self._outputs_are_told()
        return [
            fx.CancelTimer("reply_deadline"),
            fx.CancelTimer("reply_silence"),
            replace(effect, reply_id=reply.id if reply else None),
        ]

    def _outputs_are_told(self) -> None:
        """A response begins; the server knows all results so far but those that wait as text."""
        self._line.has_new_outputs = self._line.is_untold = False
        if not any(text.opening == ANSWER_TOOLS for text in self._texts):
            self._narrates_at = None

    def _meet_refusal(self, error: ServerError) -> list[fx.Effect]:
        """Take an error that names what we sent: learn from it, and go another way."""
        event_id = error.event_id or ""
        is_text = event_id in self._line.sent_texts
        reply = self._reply if self._reply and event_id in self._reply.event_ids else None
        if reply is None and not is_text:
            return []
        is_lasting = error.code != _PASSING
        # While somebody speaks or a function runs, it may be about that and say nothing in general.
        is_free = self.conversation.is_free
        is_calling = bool(self.conversation.open_calls)
        if is_text:
            self._learned.items_refused |= is_lasting
            if text := self._line.sent_texts.pop(event_id):
                self._texts.append(text)
        elif is_free and not is_calling and reply and not reply.answers_outputs:
            self._learned.create_refused |= is_lasting
        if reply is None or reply.stage is not _Stage.ASKED or reply.answers_outputs:
            return [fx.Fault(error, fatal=False)]
        reply.hold()
        reply.was_refused = is_free
        return [fx.CancelTimer("reply_silence")]

    # -------------------------------------------------------------------------- advancing

    def _advance(self, now: float) -> list[fx.Effect]:
        """Do what has become possible; called after every change."""
        if self.conversation.handshake is Handshake.CREATED:
            return self._compose() if self._is_configurable else []
        if self._reply is not None:
            return self._advance_reply(self._reply, now)
        if self._is_quiet and self._narrates_at is not None:
            return self._advance_narration(self._narrates_at, now)
        if self._is_quiet and self._stale_since is not None:
            return self._advance_instructions(self._stale_since, now)
        return []

    @property
    def _is_quiet(self) -> bool:
        """Whether nobody speaks, nothing is in flight and nothing is awaited."""
        conversation = self.conversation
        return (
            conversation.is_free
            and conversation.round is Round.NONE
            and not self._line.greeting_is_due
            and not self._line.debt_blocks
            and not self._line.expects_turn
        )

    def _compose(self) -> list[fx.Effect]:
        reply = self._reply
        is_owed = self._owes_greeting or reply is not None or self._narrates_at is not None
        greet = is_owed and not self._line.expects_turn
        if self._window_is_open and reply is None:
            return []
        if not greet:
            return [fx.Compose(greet=False, opening="")]
        return [fx.Compose(greet=True, opening=reply.opening if reply else self._opening(""))]

    def _opening(self, instructions: str) -> str:
        """Say what a response is about that nothing on its own connection has led up to."""
        if instructions:
            return instructions
        if self._texts:
            return self._texts[-1].opening
        if self._line.has_new_outputs or self._narrates_at is not None:
            return ANSWER_TOOLS
        is_beginning = self.conversation.is_untouched and not self._was_touched
        return "" if is_beginning else GO_ON

    def _advance_reply(self, reply: _Reply, now: float) -> list[fx.Effect]:
        conversation = self.conversation
        if reply.stage is not _Stage.HELD or conversation.handshake not in _CONFIGURED:
            return []
        if self._line.greeting_is_due and not self._texts:
            reply.stage = _Stage.GREETING
        if self._line.greeting_is_due or self._line.expects_turn:
            return []
        can_ask = conversation.is_free and not self._line.debt_blocks
        if not can_ask and not conversation.is_untouched:
            return []
        reply.knows_outputs = self._line.has_new_outputs
        reply.answers_outputs = reply.knows_outputs and not (reply.instructions or self._texts)
        reason = "" if reply.answers_outputs else self._reason_to_redial(reply, now)
        if reason:
            return self._redial_for_reply(reason, now)
        return self._ask(reply, now) if can_ask else []

    def _reason_to_redial(self, reply: _Reply, now: float) -> str:
        """Say why only a new connection can speak this reply; empty where this one can."""
        learned = self._learned
        needs_items = bool(reply.instructions or self._texts)
        if reply.was_refused or learned.create_refused:
            return "the server refused to speak on demand"
        if needs_items and learned.items_refused:
            return "the server takes no text items"
        if self.conversation.is_untouched and not learned.create_speaks:
            return "nothing was said yet, and only a first response is documented"
        if self._stale_since is not None and not self._wait_for_instructions_s(now):
            return _STALE
        return ""

    def _ask(self, reply: _Reply, now: float) -> list[fx.Effect]:
        out: list[fx.Effect] = self._send_texts()
        if reply.instructions and not self._learned.items_refused:
            out += self._send_item("system", reply.instructions, None)
        out += self.conversation.create_response(now)
        reply.stage = _Stage.ASKED
        reply.event_ids = _event_ids(out)
        self._line.owes_cancel = False
        if not reply.answers_outputs:
            out.append(fx.StartTimer("reply_silence", REPLY_SILENCE_S))
        return out

    def _send_texts(self) -> list[fx.Effect]:
        """Send the texts that wait, unless the server takes none: the history has them."""
        if not self.conversation.is_ready or self._learned.items_refused:
            return []
        out: list[fx.Effect] = []
        for text in self._texts:
            out += self._send_item(text.role, text.text, text)
        self._texts.clear()
        return out

    def _send_item(self, role: str, text: str, source: _Text | None) -> list[fx.Effect]:
        """Send a text item; `source` waits for the next request again, should it be refused."""
        sent = self.conversation.add_message(role, text)
        self._line.sent_texts |= dict.fromkeys(_event_ids(sent), source)
        return sent

    def _advance_narration(self, narrates_at: float, now: float) -> list[fx.Effect]:
        """Ask for the reply to outputs that the framework does not ask for.

        When the user speaks while a tool runs, the framework posts the outputs and leaves it at
        that. If the turn was only a cough, nobody would ever tell the result.

        It waits until the answer before it was heard: what the framework has queued behind that
        is dropped when the user speaks, and the server believes that it was told.
        """
        wait_s = max(narrates_at, self._heard_until()) - now
        if wait_s > 0:
            return [fx.StartTimer("narrate", wait_s)]
        self._narrates_at = None
        self._reply = _Reply(None, "", ANSWER_TOOLS)
        deadline = fx.StartTimer("reply_deadline", REPLY_DEADLINE_S)
        return [deadline, *self._advance_reply(self._reply, now)]

    def _advance_instructions(self, stale_since: float, now: float) -> list[fx.Effect]:
        """Make a new connection when nobody speaks: while it is made, none hears the user."""
        debounce_s = stale_since + INSTRUCTIONS_DEBOUNCE_S - now
        heard_in_s = self._heard_until() - now
        wait_s = max(debounce_s, heard_in_s, self._wait_for_instructions_s(now))
        if wait_s > 0:
            return [fx.StartTimer("instructions", wait_s)]
        self._redials.take(now)
        return self._redial(_STALE, now)

    def _wait_for_instructions_s(self, now: float) -> float:
        """Return how long no connection may be made for new instructions."""
        return max(self._instruction_redials.wait_s(now), self._redials.wait_s(now))

    # ------------------------------------------------------------------- failing, redialling

    def _meet_silence(self, now: float) -> list[fx.Effect]:
        reply = self._reply
        if reply is None or reply.stage is not _Stage.ASKED or not self.conversation.is_free:
            return []
        is_written = not self._line.unwritten and not self._line.is_forgotten
        if is_written and self._silence_redials.take(now):
            return self._redial_for_reply("the server ignored response.create", now)
        return self._give_up_reply(
            f"Hydra ignored response.create for {REPLY_SILENCE_S:g} s: it is only documented to"
            " speak after user speech or function outputs. A new connection could make it speak,"
            " but would forget what was said so far, because there is no text of it.",
            now,
        )

    def _redial_for_reply(self, reason: str, now: float) -> list[fx.Effect]:
        if not self._redials.take(now):
            return self._give_up_reply(
                f"a new connection is needed ({reason}), and {DIALS_PER_MINUTE} were made within"
                " a minute already; ask again later",
                now,
            )
        return self._redial(reason, now)

    def _redial(self, reason: str, now: float) -> list[fx.Effect]:
        if self._stale_since is not None:
            self._instruction_redials.take(now)
        return [*self.lose(now), fx.Redial(reason)]

    def _give_up_reply(self, reason: str, now: float) -> list[fx.Effect]:
        """Fail the reply; its response is cancelled should it come all the same."""
        reply = self._reply
        failed = [fx.ReplyFailed(reply.id, reason)] if reply and reply.id is not None else []
        return [*failed, *self._drop_reply(now)]

    def _drop_reply(self, now: float) -> list[fx.Effect]:
        """Forget the reply; remember to cancel its response if it was asked for."""
        reply, self._reply = self._reply, None
        if reply is None:
            return []
        out: list[fx.Effect] = [fx.CancelTimer("reply_deadline"), fx.CancelTimer("reply_silence")]
        turn = self.conversation.turn
        if turn is not Turn.QUIET and reply.tells_outputs:  # it may have been dropped for a cough
            self._narrates_at = now
        if reply.stage is not _Stage.HELD:
            self._line.owes_cancel = turn is not Turn.ENDED  # the answer to the user comes next
            self._line.debt_blocks = True
            self._line.greeting_is_due = False
            out.append(fx.StartTimer("debt", DEBT_BLOCKS_S))
        return out


def _event_ids(effects: list[fx.Effect]) -> set[str]:
    """Return the ids of the events that `effects` send."""
    events = [effect.event for effect in effects if isinstance(effect, fx.Send)]
    return {event.event_id for event in events if event.event_id}
