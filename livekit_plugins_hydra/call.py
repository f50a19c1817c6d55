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

A response that the server begins by itself meanwhile is adopted. What the server refused is
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

_ANSWER_TEXT: Final = "Answer the user's last message, which was typed and not spoken."
_ANSWER_TOOLS: Final = "Tell the user what the last tool call above returned."
_GO_ON: Final = "Go on with the conversation: say what comes next."


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
    answers_outputs: bool = False
    was_refused: bool = False
    event_ids: set[str] = field(default_factory=set)

    def hold(self) -> None:
        """Begin anew: nothing was asked yet."""
        self.stage = _Stage.HELD
        self.answers_outputs = self.was_refused = False
        self.event_ids.clear()


@dataclass(frozen=True, slots=True)
class _Text:
    """A text item that waits for the next request."""

    role: str
    text: str
    opening: str


class Call:
    """One call, over all its connections."""

    def __init__(
        self,
        *,
        new_event_id: Callable[[], str],
        learned: Learned | None = None,
        greet: bool = False,
    ) -> None:
        """Begin a call.

        Args:
            new_event_id: mints the `event_id` of each event that we send.
            learned: what is known of the server; amended here.
            greet: the model speaks first, without being asked.
        """
        self._new_event_id = new_event_id
        self._learned = learned if learned is not None else Learned()
        self._conversation = Conversation(new_event_id)
        self._is_configurable = False
        self._window_is_open = True

        self._greeting_is_due = greet
        self._reply: _Reply | None = None
        self._owes_cancel = False
        self._debt_blocks = False
        self._texts: list[_Text] = []
        self._sent_texts: set[str] = set()
        self._has_new_outputs = False
        self._interrupted_calls: set[str] = set()
        self._has_untold_outputs = False
        self._stale_since: float | None = None
        self._unwritten: set[str] = set()
        self._was_touched = False
        self._expects_turn = False
        """Whether the next server will hear speech at once, and answer that."""

        self._redials = Allowance(DIALS_PER_MINUTE, 60.0)
        self._silence_redials = Allowance(1, SILENCE_REDIAL_EVERY_S)
        self._instruction_redials = Allowance(1, INSTRUCTIONS_REDIAL_EVERY_S)

    def __repr__(self) -> str:
        reply = self._reply.stage.name if self._reply else "none"
        return f"<Call {self._conversation!r} reply={reply}>"

    @property
    def conversation(self) -> Conversation:
        """The present connection's conversation."""
        return self._conversation

    @property
    def reply_is_pending(self) -> bool:
        """Whether a reply is owed that has not begun."""
        return self._reply is not None

    @property
    def is_occupied(self) -> bool:
        """Whether something is to be said: a reply is owed, functions run, or results wait."""
        is_calling = self._conversation.round is not Round.NONE
        return self.reply_is_pending or is_calling or self._has_untold_outputs

    # ----------------------------------------------------------------- the connection's life

    def open(self) -> list[fx.Effect]:
        """The socket is open."""
        return self._conversation.open()

    def receive(self, event: ev.ServerEvent | ev.UnknownEvent, now: float) -> list[fx.Effect]:
        """Take one event of the server."""
        user_was_quiet = self._conversation.turn is Turn.QUIET
        out: list[fx.Effect] = []
        for effect in self._conversation.receive(event, now):
            if type(effect) is fx.OutputAudio:  # fifty a second: nothing follows from it here
                return [*out, effect]
            out += self._relay(effect, now, user_was_quiet=user_was_quiet)
        return out + self._advance(now)

    def configurable(self, now: float) -> list[fx.Effect]:
        """Instructions, history and tools are known: `Compose` may be asked for."""
        self._is_configurable = True
        return self._advance(now)

    def configure(self, session: ev.ClientSession, now: float) -> list[fx.Effect]:
        """Send the configuration that `Compose` asked for; it holds all texts so far."""
        out = self._conversation.configure(session, now)
        self._window_is_open = False
        self._stale_since = None
        self._texts.clear()
        if session.generate_initial_response:
            self._greeting_is_due = True
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
        out = self._conversation.lose(now)
        self._expects_turn = keeps_turn
        self._was_touched |= not self._conversation.is_untouched
        self._conversation = Conversation(self._new_event_id)
        self._owes_cancel = self._debt_blocks = False
        self._has_new_outputs = False
        self._sent_texts.clear()
        self._unwritten.clear()
        if self._reply:
            self._reply.hold()
        return [*out, fx.CancelTimer("reply_silence")]

    def end(self, reason: str, now: float) -> list[fx.Effect]:
        """The call is over; nothing stays open or owed."""
        return [*self._give_up_reply(reason), *self.lose(now)]

    def timer(self, name: str, now: float) -> list[fx.Effect]:
        """A timer that an effect asked for has run out."""
        out: list[fx.Effect] = []
        match name:
            case "greeting_window":
                self._window_is_open = False
            case "reply_deadline":
                out += self._give_up_reply(
                    f"generate_reply timed out: Hydra began no response in {REPLY_DEADLINE_S:g} s"
                )
            case "reply_silence":
                out += self._meet_silence(now)
            case "narrate":
                out += self._narrate()
            case "debt":
                self._debt_blocks = False
            case "kept_turn":
                self._expects_turn = False
            case "instructions":
                pass  # _advance() sees whether the moment has come
            case _:
                for effect in self._conversation.timer(name, now):
                    out += self._relay(effect, now, user_was_quiet=True)
        return out + self._advance(now)

    # ------------------------------------------------------------------- the session's wishes

    def generate_reply(self, reply_id: str, instructions: str, now: float) -> list[fx.Effect]:
        """Owe a reply; it takes the place of one that is pending."""
        out: list[fx.Effect] = []
        reply = _Reply(reply_id, instructions, self._opening(instructions))
        if self._reply and self._reply.id is not None:
            out.append(fx.ReplyFailed(self._reply.id, "superseded by a newer generate_reply()"))
        if self._reply and (instructions or self._texts):
            out += self._drop_reply()
        elif self._reply:  # nothing new to say: go on with the one that is on its way
            reply = replace(self._reply, id=reply_id)
        self._reply = reply
        self._has_untold_outputs = False
        out += [fx.CancelTimer("narrate"), fx.StartTimer("reply_deadline", REPLY_DEADLINE_S)]
        return out + self._advance(now)

    def cancel_reply(self, reply_id: str, now: float) -> list[fx.Effect]:
        """Stop owing a reply; its response is cancelled should it come all the same."""
        if self._reply is None or self._reply.id != reply_id:
            return []
        return [*self._drop_reply(), *self._advance(now)]

    def add_text(self, role: str, text: str) -> None:
        """Note a text item that is already in the session's history.

        It waits for the next request, so that a new connection's history can hold it instead.
        """
        self._texts.append(_Text(role, text, _ANSWER_TEXT if role == "user" else _GO_ON))

    def post_output(
        self, call_id: str, output: str, *, as_text: str, now: float
    ) -> list[fx.Effect]:
        """Send a function's output; `as_text` where this connection did not issue the call."""
        out: list[fx.Effect] = []
        if call_id in self._conversation.open_calls:
            out += self._conversation.post_output(call_id, output)
            self._has_new_outputs = True
        elif output:
            self._texts.append(_Text("system", as_text, _ANSWER_TOOLS))
        if call_id in self._interrupted_calls:
            self._interrupted_calls.remove(call_id)
            self._has_untold_outputs |= bool(output)
        return out + self._advance(now)

    def update_tools(self, tools: list[ev.Tool]) -> list[fx.Effect]:
        """Replace the tools; before the configuration, that is where they go."""
        if self._conversation.handshake in _CONFIGURED:
            return self._conversation.update_tools(tools)
        return []

    def instructions_changed(self, now: float) -> list[fx.Effect]:
        """Make a new connection with the new instructions at the next quiet moment."""
        if self._conversation.handshake not in _CONFIGURED:
            return []
        self._stale_since = now
        return self._advance(now)

    def interrupt(self) -> list[fx.Effect]:
        """Cancel the response that is generating, if one is."""
        return self._conversation.cancel_response()

    def note_text(self, key: str) -> None:
        """The text of a turn (its item id) or response (its id) is at hand."""
        self._unwritten.discard(key)

    # -------------------------------------------------------------------------- relaying

    def _relay(self, effect: fx.Effect, now: float, *, user_was_quiet: bool) -> list[fx.Effect]:
        """Pass on an effect of the conversation, with what it means for the call."""
        match effect:
            case fx.BeginResponse(is_late=False):
                return self._begin(effect, user_was_quiet=user_was_quiet)
            case fx.SessionReady() if self._expects_turn:
                return [effect, fx.StartTimer("kept_turn", KEPT_TURN_S)]
            case fx.UserStarted(item_id=item_id):
                self._expects_turn = False
                self._interrupted_calls |= self._conversation.open_calls
                self._unwritten.add(item_id or "")
                return [effect, fx.CancelTimer("narrate"), *self._send_texts()]
            case fx.UserStopped():
                self._owes_cancel = False
            case fx.UserText(item_id=key) | fx.OutputText(generation_id=key):
                self.note_text(key)
            case fx.UserDiscarded(item_id=item_id):
                self.note_text(item_id or "")
            case fx.EndResponse(response_id=response_id, first_audio_at=None):
                self.note_text(response_id)
            case fx.Fault(error=ServerError() as error, fatal=False):
                return self._meet_refusal(error) or [effect]
        return [effect]

    def _begin(self, effect: fx.BeginResponse, *, user_was_quiet: bool) -> list[fx.Effect]:
        """Say whose response this is: nobody's, the server's own, or the owed reply."""
        self._greeting_is_due = False
        if self._owes_cancel:
            self._owes_cancel = self._debt_blocks = False
            return [fx.CancelTimer("debt"), *self._conversation.cancel_response()]
        self._unwritten.add(effect.generation_id)
        self._has_untold_outputs = self._has_new_outputs = False
        reply = self._reply
        if reply is None or (reply.stage is _Stage.HELD and self._texts):
            return [effect]
        if reply.stage is _Stage.ASKED and not reply.answers_outputs and user_was_quiet:
            self._learned.create_speaks = True
        self._reply = None
        return [
            fx.CancelTimer("reply_deadline"),
            fx.CancelTimer("reply_silence"),
            fx.BeginResponse(effect.generation_id, reply_id=reply.id),
        ]

    def _meet_refusal(self, error: ServerError) -> list[fx.Effect]:
        """Take an error that names our request: learn from it, and go another way."""
        event_id = error.event_id
        is_text = event_id in self._sent_texts
        reply = self._reply
        is_reply = reply is not None and event_id in reply.event_ids
        if event_id is None or not (is_text or is_reply):
            return []
        # While somebody speaks, the refusal may be about that and say nothing in general.
        if self._conversation.is_free:
            self._learned.items_refused |= is_text
            if is_reply and not is_text and reply and not reply.answers_outputs:
                self._learned.create_refused = True
        if reply is None or reply.stage is not _Stage.ASKED or reply.answers_outputs:
            return [fx.Fault(error, fatal=False)]
        reply.stage = _Stage.HELD
        reply.was_refused = self._conversation.is_free
        return [fx.CancelTimer("reply_silence")]

    # -------------------------------------------------------------------------- advancing

    def _advance(self, now: float) -> list[fx.Effect]:
        """Do what has become possible; called after every change."""
        if self._conversation.handshake is Handshake.CREATED:
            return self._compose() if self._is_configurable else []
        if self._reply is not None:
            return self._advance_reply(self._reply, now)
        if self._is_quiet and self._has_untold_outputs:
            return [fx.StartTimer("narrate", NARRATE_AFTER_S)]
        if self._is_quiet and self._stale_since is not None:
            return self._advance_instructions(self._stale_since, now)
        return []

    @property
    def _is_quiet(self) -> bool:
        """Whether nobody speaks, nothing is in flight and nothing is awaited."""
        conversation = self._conversation
        return (
            conversation.is_free
            and conversation.round is Round.NONE
            and not self._greeting_is_due
            and not self._debt_blocks
            and not self._expects_turn
        )

    def _compose(self) -> list[fx.Effect]:
        reply = self._reply
        is_owed = self._greeting_is_due or reply is not None or self._has_untold_outputs
        greet = is_owed and not self._expects_turn
        if self._window_is_open and not greet:
            return [fx.StartTimer("greeting_window", GREETING_WINDOW_S)]
        if not greet:
            return [fx.Compose(greet=False, opening="")]
        return [fx.Compose(greet=True, opening=reply.opening if reply else self._opening(""))]

    def _opening(self, instructions: str) -> str:
        """Say what a response is about that nothing on its own connection has led up to."""
        if instructions:
            return instructions
        if self._texts:
            return self._texts[-1].opening
        if self._has_new_outputs or self._has_untold_outputs:
            return _ANSWER_TOOLS
        is_beginning = self._conversation.is_untouched and not self._was_touched
        return "" if is_beginning else _GO_ON

    def _advance_reply(self, reply: _Reply, now: float) -> list[fx.Effect]:
        if reply.stage is not _Stage.HELD or self._conversation.handshake not in _CONFIGURED:
            return []
        if self._greeting_is_due and not self._texts:
            reply.stage = _Stage.GREETING
            return []
        must_wait = self._debt_blocks or self._greeting_is_due or self._expects_turn
        if must_wait or not self._conversation.is_free:
            return []
        reply.answers_outputs = self._has_new_outputs
        reason = "" if reply.answers_outputs else self._reason_to_redial(reply)
        if reason:
            return self._redial_for_reply(reason, now)
        return self._ask(reply, now)

    def _reason_to_redial(self, reply: _Reply) -> str:
        """Say why only a new connection can speak this reply; empty where this one can."""
        learned = self._learned
        needs_items = bool(reply.instructions or self._texts)
        if reply.was_refused or learned.create_refused:
            return "the server refused to speak on demand"
        if needs_items and learned.items_refused:
            return "the server takes no text items"
        if self._conversation.is_untouched and not learned.create_speaks:
            return "nothing was said yet, and only a first response is documented"
        if self._stale_since is not None:
            return "the instructions have changed"
        return ""

    def _ask(self, reply: _Reply, now: float) -> list[fx.Effect]:
        out: list[fx.Effect] = self._send_texts()
        if reply.instructions and not self._learned.items_refused:
            out += self._send_text("system", reply.instructions)
        out += self._conversation.create_response(now)
        reply.stage = _Stage.ASKED
        reply.event_ids = _event_ids(out)
        self._owes_cancel = False
        if not reply.answers_outputs:
            out.append(fx.StartTimer("reply_silence", REPLY_SILENCE_S))
        return out

    def _send_texts(self) -> list[fx.Effect]:
        """Send the texts that wait, unless the server takes none: the history has them."""
        if not self._conversation.is_ready or self._learned.items_refused:
            return []
        out: list[fx.Effect] = []
        for text in self._texts:
            out += self._send_text(text.role, text.text)
        self._texts.clear()
        return out

    def _send_text(self, role: str, text: str) -> list[fx.Effect]:
        sent = self._conversation.add_message(role, text)
        self._sent_texts |= _event_ids(sent)
        return sent

    def _narrate(self) -> list[fx.Effect]:
        """Ask for the reply to outputs that the framework will not ask for.

        When the user speaks while a tool runs, the framework posts the outputs and leaves it at
        that. If the turn was only a cough, nobody would ever tell the result.
        """
        if self._reply or not self._has_untold_outputs or not self._is_quiet:
            return []
        self._reply = _Reply(None, "", self._opening(""))
        self._has_untold_outputs = False
        return [fx.StartTimer("reply_deadline", REPLY_DEADLINE_S)]

    def _advance_instructions(self, stale_since: float, now: float) -> list[fx.Effect]:
        wait_s = max(
            stale_since + INSTRUCTIONS_DEBOUNCE_S - now,
            self._instruction_redials.wait_s(now),
            self._redials.wait_s(now),
        )
        if wait_s > 0:
            return [fx.StartTimer("instructions", wait_s)]
        self._instruction_redials.take(now)
        self._redials.take(now)
        return self._redial("the instructions have changed", now)

    # ------------------------------------------------------------------- failing, redialling

    def _meet_silence(self, now: float) -> list[fx.Effect]:
        reply = self._reply
        if reply is None or reply.stage is not _Stage.ASKED or not self._conversation.is_free:
            return []
        if not self._unwritten and self._silence_redials.take(now):
            return self._redial_for_reply("the server ignored response.create", now)
        return self._give_up_reply(
            f"Hydra ignored response.create for {REPLY_SILENCE_S:g} s: it is only documented to"
            " speak after user speech or function outputs. A new connection could make it speak,"
            " but would forget what was said so far, because there is no text of it."
        )

    def _redial_for_reply(self, reason: str, now: float) -> list[fx.Effect]:
        if not self._redials.take(now):
            return self._give_up_reply(
                f"a new connection is needed ({reason}), and {DIALS_PER_MINUTE} were made within"
                " a minute already; ask again later"
            )
        return self._redial(reason, now)

    def _redial(self, reason: str, now: float) -> list[fx.Effect]:
        return [*self.lose(now), fx.Redial(reason)]

    def _give_up_reply(self, reason: str) -> list[fx.Effect]:
        """Fail the reply; its response is cancelled should it come all the same."""
        reply = self._reply
        failed = [fx.ReplyFailed(reply.id, reason)] if reply and reply.id is not None else []
        return [*failed, *self._drop_reply()]

    def _drop_reply(self) -> list[fx.Effect]:
        """Forget the reply; remember to cancel its response if it was asked for."""
        reply, self._reply = self._reply, None
        out: list[fx.Effect] = [fx.CancelTimer("reply_deadline"), fx.CancelTimer("reply_silence")]
        if reply and reply.stage is not _Stage.HELD:
            self._owes_cancel = self._debt_blocks = True
            self._greeting_is_due = False
            out.append(fx.StartTimer("debt", DEBT_BLOCKS_S))
        return out


def _event_ids(effects: list[fx.Effect]) -> set[str]:
    """Return the ids of the events that `effects` send."""
    events = [effect.event for effect in effects if isinstance(effect, fx.Send)]
    return {event.event_id for event in events if event.event_id}
