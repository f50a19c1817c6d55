"""A reply on demand: what it is about, and by which way the server can be made to speak it.

The only documented way to make Hydra speak is `generate_initial_response` in the one-shot
configuration; `response.create` is documented for function outputs alone. So a reply goes the
first of these ways that can work:

1. Before the configuration is sent, it becomes that connection's first response.
2. It answers function outputs: a bare `response.create`, as documented.
3. Nothing was said or heard on this connection: a new one, with the reply as its first response.
4. Otherwise text items and `response.create`. When the server refuses (an `error` that names our
   event), or stays silent and nothing would be forgotten, a new connection as in 3.

A response that the server begins by itself meanwhile is adopted, unless the reply is about
something that the server does not know yet. What the server refused is remembered in `Learned`,
for all calls of a model object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from . import effects as fx
from .backoff import RECONNECTS_PER_MINUTE, Allowance
from .errors import ServerError
from .line import Line
from .reply import Reply, Text
from .results import Results
from .states import About, Asked, Awaited, Handshake, Signal, Turn
from .voices import SERVER_DEFAULT_VOICE

REPLY_DEADLINE_S: Final = 10.0
"""A reply that has not begun by then fails; every other LiveKit plugin waits as long."""

REPLY_SILENCE_S: Final = 5.0
"""No `response.created` for so long means that the server ignores the request. Our choice."""

SILENCE_RECONNECT_EVERY_S: Final = 30.0
"""Silence is a weak sign: at most one new connection for it in this time."""

CONFIGURED: Final = frozenset({Handshake.CONFIGURING, Handshake.READY})
"""From here on, what changes has to be sent; before, it goes into the configuration."""

STALE: Final = "the instructions have changed"

_PASSING: Final = "internal_error"
"""The code of errors that say nothing about what was sent. Source: docs of 2026-08-21."""

_KNOWS_OUTPUTS: Final = {Asked.OUTPUTS, Asked.BOTH}


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

    def voice_for(self, voice: str) -> str:
        """Return what to speak with instead of a voice, if the server has refused it."""
        return SERVER_DEFAULT_VOICE if voice in self.voices_refused else voice


class Demand:
    """The reply that is owed, if one is, and the texts that go with the next request."""

    def __init__(self, learned: Learned, results: Results) -> None:
        self.learned = learned
        self.reply: Reply | None = None
        self.texts: list[Text] = []
        self.reconnects = Allowance(RECONNECTS_PER_MINUTE, 60.0)
        self._results = results
        self._silence_reconnects = Allowance(1, SILENCE_RECONNECT_EVERY_S)

    @property
    def has_result_as_text(self) -> bool:
        """Whether a function's result waits as a text: this connection did not call it."""
        return any(text.about is About.OUTPUTS for text in self.texts)

    # -------------------------------------------------------------------- wanting, giving up

    def want(
        self, reply_id: str, instructions: str, about: About, line: Line, now: float
    ) -> list[fx.Effect]:
        """Owe a reply; it takes the place of one that is pending."""
        out: list[fx.Effect] = []
        older = self.reply
        is_about_outputs = about is About.OUTPUTS and not instructions
        replaces_teller = older is not None and older.tells_outputs
        tells = is_about_outputs or self.has_result_as_text or replaces_teller
        reply = Reply(reply_id, instructions, about, tells)
        if older and older.id is not None:
            out.append(fx.ReplyFailed(older.id, "superseded by a newer generate_reply()"))
        if older and older.is_asked and not self._is_news(instructions, older):
            reply = replace(older, id=reply_id)
        else:
            out += self.drop(line, now)
        self.reply = reply
        return [*out, fx.StartTimer("reply_deadline", REPLY_DEADLINE_S)]

    def _is_news(self, instructions: str, older: Reply) -> bool:
        """Whether there is more to say now than the older request can lead to."""
        has_newer_outputs = self._results.is_sent and older.asked not in _KNOWS_OUTPUTS
        return bool(instructions or self.texts) or has_newer_outputs

    def give_up(self, reason: str, line: Line, now: float) -> list[fx.Effect]:
        """Fail the reply; its response is cancelled should it come all the same."""
        reply = self.reply
        failed = [fx.ReplyFailed(reply.id, reason)] if reply and reply.id is not None else []
        return [*failed, *self.drop(line, now)]

    def drop(self, line: Line, now: float) -> list[fx.Effect]:
        """Forget the reply; what it was asked of the server for is a debt then."""
        reply, self.reply = self.reply, None
        if reply is None:
            return []
        out: list[fx.Effect] = [fx.CancelTimer("reply_deadline"), fx.CancelTimer("reply_silence")]
        turn = line.conversation.turn
        if turn is not Turn.QUIET and reply.tells_outputs:  # it may have been dropped for a cough
            self._results.due_at = now
        if reply.is_asked:
            out += line.move(Signal.DROPPED)
            if turn is Turn.ENDED:  # the answer to the user comes next
                out += line.move(Signal.STOPPED)
        return out

    def overdue(self, line: Line, now: float) -> list[fx.Effect]:
        """The reply has not begun in time."""
        tells = self.reply is not None and self.reply.tells_outputs
        self._results.is_given_up = tells
        if tells and not line.conversation.is_ready:
            self._results.due_at = now
        reason = f"Hydra began no response in {REPLY_DEADLINE_S:g} s"
        out = self.give_up(f"generate_reply timed out: {reason}", line, now)
        if tells:  # it is welcome whenever it comes: nobody else will tell
            out += line.move(Signal.WELCOME)
        return out

    # ---------------------------------------------------------------------------- asking

    def advance(self, line: Line, now: float, *, is_stale: bool) -> list[fx.Effect]:
        """Ask for the reply, or for a new connection, if its moment has come."""
        conversation, reply = line.conversation, self.reply
        if reply is None or reply.is_asked or conversation.handshake not in CONFIGURED:
            return []
        if line.awaited is Awaited.GREETING and not self.texts:
            reply.asked = Asked.GREETING
        if line.awaited in (Awaited.GREETING, Awaited.TURN):
            return []
        can_ask = conversation.is_free and not line.is_held_back
        if not can_ask and not conversation.is_untouched:
            return []
        has_words = bool(reply.instructions or self.texts)
        if not self._results.is_sent:
            asked = Asked.WORDS
        else:
            asked = Asked.BOTH if has_words else Asked.OUTPUTS
        is_documented = asked is Asked.OUTPUTS
        reason = (
            "" if is_documented else self._reason_to_reconnect(reply, line, has_words, is_stale)
        )
        if reason:
            return self._reconnect(reason, line, now)
        return self._ask(reply, asked, line, now) if can_ask else []

    def _reason_to_reconnect(
        self, reply: Reply, line: Line, needs_items: bool, is_stale: bool
    ) -> str:
        """Say why only a new connection can speak this reply; empty where this one can."""
        learned = self.learned
        if reply.was_refused or learned.create_refused:
            return "the server refused to speak on demand"
        if needs_items and learned.items_refused:
            return "the server takes no text items"
        if line.conversation.is_untouched and not learned.create_speaks:
            return "nothing was said yet, and only a first response is documented"
        return STALE if is_stale else ""

    def _reconnect(self, reason: str, line: Line, now: float) -> list[fx.Effect]:
        if not self.reconnects.take(now):
            return self.give_up(
                f"a new connection is needed ({reason}), and {RECONNECTS_PER_MINUTE} were made"
                " within a minute already; ask again later",
                line,
                now,
            )
        return [fx.Reconnect(reason)]

    def _ask(self, reply: Reply, asked: Asked, line: Line, now: float) -> list[fx.Effect]:
        out = self.send_texts(line)
        if reply.instructions and not self.learned.items_refused:
            out += self._send_item("system", reply.instructions, None, line)
        out += line.conversation.create_response(now)
        reply.asked = asked
        reply.event_ids = _event_ids(out)
        out += line.move(Signal.ASKED)
        if asked is not Asked.OUTPUTS:
            out.append(fx.StartTimer("reply_silence", REPLY_SILENCE_S))
        return out

    def send_texts(self, line: Line) -> list[fx.Effect]:
        """Send the texts that wait, unless the server takes none: the history has them."""
        if not line.conversation.is_ready or self.learned.items_refused:
            return []
        out: list[fx.Effect] = []
        for text in self.texts:
            out += self._send_item(text.role, text.text, text, line)
        self.texts.clear()
        return out

    def _send_item(self, role: str, text: str, source: Text | None, line: Line) -> list[fx.Effect]:
        """Send a text item; `source` waits for the next request again, should it be refused."""
        sent = line.conversation.add_message(role, text)
        line.sent_texts |= dict.fromkeys(_event_ids(sent), source)
        return sent

    # ---------------------------------------------------------------- what the server does

    def accepts(self) -> bool:
        """Tell whether a response that begins is what was asked for, or can stand for it."""
        reply = self.reply
        return reply is not None and (reply.is_asked or not (self.texts or reply.instructions))

    def learn_from_response(self, *, user_was_quiet: bool) -> None:
        """A response begins: if nothing else can have led to it, `response.create` has."""
        was_words = self.reply is not None and self.reply.asked is Asked.WORDS
        self.learned.create_speaks |= was_words and user_was_quiet

    def fulfil(self, begun: fx.BeginResponse, line: Line) -> list[fx.Effect]:
        """The owed reply begins."""
        reply, self.reply = self.reply, None
        line.begun = (begun.part_id, reply) if reply else None
        self._results.told(but_texts=self.has_result_as_text)
        return [
            fx.CancelTimer("reply_deadline"),
            fx.CancelTimer("reply_silence"),
            replace(begun, reply_id=reply.id if reply else None),
        ]

    def refused(self, error: ServerError, line: Line) -> list[fx.Effect]:
        """Take an error that names what we sent: learn from it, and go another way."""
        event_id = error.event_id or ""
        is_text = event_id in line.sent_texts
        reply = self.reply if self.reply and event_id in self.reply.event_ids else None
        if reply is None and not is_text:
            return []
        is_lasting = error.code != _PASSING
        # While somebody speaks or a function runs, it may be about that and say nothing in general.
        is_free = line.conversation.is_free
        is_calling = bool(line.conversation.open_calls)
        if is_text:
            self.learned.items_refused |= is_lasting
            if text := line.sent_texts.pop(event_id):
                self.texts.append(text)
        elif is_free and not is_calling and reply and reply.asked is not Asked.OUTPUTS:
            self.learned.create_refused |= is_lasting
        if reply is None or not reply.is_asked or reply.asked is Asked.OUTPUTS:
            return [fx.Fault(error, fatal=False)]
        reply.hold()
        reply.was_refused = is_free
        return [fx.CancelTimer("reply_silence"), *line.move(Signal.REFUSED)]

    def ignored(self, line: Line, now: float, *, is_remembered: bool) -> list[fx.Effect]:
        """The server does not answer `response.create`.

        Args:
            line: the connection.
            now: monotonic clock.
            is_remembered: whether a new connection can be told all that was said.
        """
        reply = self.reply
        if reply is None or not reply.is_asked or not line.conversation.is_free:
            return []
        if is_remembered and self._silence_reconnects.take(now):
            return self._reconnect("the server ignored response.create", line, now)
        return self.give_up(
            f"Hydra ignored response.create for {REPLY_SILENCE_S:g} s: it is only documented to"
            " speak after user speech or function outputs. A new connection could make it speak,"
            " but would forget what was said so far, because there is no text of it.",
            line,
            now,
        )


def _event_ids(effects: list[fx.Effect]) -> set[str]:
    """Return the ids of the events that `effects` send."""
    events = [effect.event for effect in effects if isinstance(effect, fx.Send)]
    return {event.event_id for event in events if event.event_id}
