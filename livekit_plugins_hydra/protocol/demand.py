"""A reply on demand: what it is about, and how the server can be made to speak it.

The only documented way to make Hydra speak is `generate_initial_response` in the one-shot
configuration; `response.create` is documented for function outputs alone. So a reply takes the
first of these ways that can work:

1. Before the configuration is sent, it becomes that connection's first response.
2. It answers function outputs: a bare `response.create`, as documented.
3. Nobody has spoken on this connection yet: a new one, with the reply as its first response.
4. Otherwise text items and `response.create`. When the server refuses (an `error` that names our
   event), a new connection as in 3. The same when it stays silent, if the text of all that was
   said is known.

A response that the server begins by itself meanwhile counts as the reply, unless the reply is
about something that the server does not know yet. `Learned` remembers what the server refused,
for all calls of a model object.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from . import effects as fx
from .backoff import RECONNECTS_PER_MINUTE, Allowance
from .errors import CODES_OF_BAD_CONFIGURATION, ServerError
from .learned import Learned, Way
from .line import Line
from .reply import Reply, Text, Texts
from .results import Results
from .states import About, Asked, Awaited, Handshake, Signal, Turn

REPLY_DEADLINE_S: Final = 10.0
"""A reply fails that could have begun for so long. All LiveKit plugins wait as long."""

REPLY_LIMIT_S: Final = 60.0
"""A reply fails after so long in any case: nobody waits for it any more. Our choice."""

REPLY_SILENCE_S: Final = 5.0
"""After so long without `response.created` the server ignores the request. Our choice."""

CONFIGURED: Final = frozenset({Handshake.CONFIGURING, Handshake.READY})
"""States in which a change has to be sent; before, it goes into the configuration."""

_ABOUT_THE_REQUEST: Final = CODES_OF_BAD_CONFIGURATION
"""Other codes, such as a rate limit, say nothing about what was sent."""

_TIMERS: Final = ("reply_deadline", "reply_limit", "reply_silence")

_KNOWS_OUTPUTS: Final = {Asked.OUTPUTS, Asked.BOTH}


class Demand:
    """The reply that is owed, if one is, and the texts that go with the next request."""

    def __init__(self, learned: Learned, results: Results) -> None:
        self.learned = learned
        self.reply: Reply | None = None
        self.texts = Texts()
        self.reconnects = Allowance(RECONNECTS_PER_MINUTE, 60.0)
        self._results = results

    @property
    def has_result_as_text(self) -> bool:
        """Whether a result waits as text: an earlier connection called the function."""
        return any(text.about is About.OUTPUTS for text in self.texts)

    @property
    def _is_undocumented(self) -> bool:
        """Whether the reply was asked for in a way that no page documents."""
        return self.reply is not None and self.reply.asked is not Asked.OUTPUTS

    # -------------------------------------------------------------------- wanting, giving up

    def want(
        self, reply_id: str, instructions: str, about: About, line: Line, now: float
    ) -> list[fx.Effect]:
        """Owe a reply; it replaces one that is pending."""
        out: list[fx.Effect] = []
        older = self.reply
        is_about_outputs = about is About.OUTPUTS and not instructions
        replaces_teller = older is not None and older.tells_outputs
        tells = is_about_outputs or self.has_result_as_text or replaces_teller
        takes_over = self._results.due_at is not None or (older is not None and older.takes_over)
        reply = Reply(reply_id, instructions, about, tells or takes_over, takes_over)
        if older and older.id is not None:
            out.append(fx.ReplyFailed(older.id, "superseded by a newer generate_reply()"))
        if older and older.is_asked and not self._is_news(instructions, older):
            reply = replace(older, id=reply_id, waited_s=0.0, could_begin_at=None)
        else:
            out += self.drop(line, now)
        return [*out, *self.owe(reply)]

    def owe(self, reply: Reply) -> list[fx.Effect]:
        """Owe a reply from now on."""
        self.reply = reply
        return [fx.StartTimer("reply_limit", REPLY_LIMIT_S)]

    def clock(self, line: Line, now: float) -> list[fx.Effect]:
        """Let a reply's time run while it could begin: nobody speaks, and the link is up."""
        reply = self.reply
        if reply is None:
            return []
        conversation = line.conversation
        is_up = conversation.is_ready and conversation.turn is not Turn.SPEAKING
        runs = is_up and (reply.is_asked or conversation.is_free)
        if runs and reply.could_begin_at is None:
            reply.could_begin_at = now
            left_s = max(0.0, REPLY_DEADLINE_S - reply.waited_s)
            return [fx.StartTimer("reply_deadline", left_s)]
        if not runs and reply.could_begin_at is not None:
            reply.waited_s += now - reply.could_begin_at
            reply.could_begin_at = None
            return [fx.CancelTimer("reply_deadline")]
        return []

    def _is_news(self, instructions: str, older: Reply) -> bool:
        """Whether the older request can't lead to all that is to be said now."""
        has_newer_outputs = self._results.is_sent and older.asked not in _KNOWS_OUTPUTS
        return bool(instructions or self.texts) or has_newer_outputs

    def give_up(self, reason: str, line: Line, now: float) -> list[fx.Effect]:
        """Fail the reply; if its response comes anyway, it is cancelled."""
        reply = self.reply
        failed = [fx.ReplyFailed(reply.id, reason)] if reply and reply.id is not None else []
        return [*failed, *self.drop(line, now)]

    def drop(self, line: Line, now: float) -> list[fx.Effect]:
        """Forget the reply; if the server was asked for it, its response is a debt."""
        reply, self.reply = self.reply, None
        if reply is None:
            return []
        out: list[fx.Effect] = [fx.CancelTimer(name) for name in _TIMERS]
        turn = line.conversation.turn
        if turn is not Turn.QUIET and reply.tells_outputs:  # the turn may be a cough
            self._results.due_at = now
        if reply.is_asked:
            out += line.move(Signal.DROPPED)
            if turn is Turn.ENDED:  # the answer to the user comes next
                out += line.move(Signal.STOPPED)
        return out

    def cancel(self, line: Line, now: float) -> list[fx.Effect]:
        """The application does not want the reply; what the call would have told is due again."""
        takes_over = self.reply is not None and self.reply.takes_over
        out = self.drop(line, now)
        if takes_over:
            self._results.due_at = now
        return out

    def interrupted(self, line: Line, now: float) -> list[fx.Effect]:
        """The user speaks: what the call was to tell by itself is due again after that."""
        reply = self.reply
        is_own = reply is not None and reply.id is None and reply.tells_outputs
        return self.drop(line, now) if is_own else []

    def passed_over(self, line: Line, now: float) -> list[fx.Effect]:
        """The user was answered: what nobody waits for would come too late."""
        reply = self.reply
        if reply is None or reply.id is not None or reply.tells_outputs or self.texts:
            return []
        return self.drop(line, now)

    def overdue(self, line: Line, now: float) -> list[fx.Effect]:
        """The reply has not begun in time."""
        tells = self.reply is not None and self.reply.tells_outputs
        self._results.is_given_up = tells
        if tells and not line.conversation.is_ready:
            self._results.due_at = now
        reason = f"Hydra began no response in {REPLY_DEADLINE_S:g} s"
        if not line.conversation.is_ready:
            reason = "there was no connection to Hydra for too long"
        out = self.give_up(f"generate_reply timed out: {reason}", line, now)
        if tells:  # nothing else will tell the results, so it may come late
            out += line.move(Signal.WELCOME)
        return out

    # ---------------------------------------------------------------------------- asking

    def advance(
        self, line: Line, now: float, *, renewal: str, is_remembered: bool
    ) -> list[fx.Effect]:
        """Ask for the reply, or for a new connection, if that is possible now.

        Args:
            line: the connection.
            now: monotonic clock.
            renewal: why a new connection is wanted anyway; empty if none is.
            is_remembered: whether the text of all that was said is known.
        """
        conversation, reply = line.conversation, self.reply
        if reply is None or reply.is_asked or conversation.handshake not in CONFIGURED:
            return []
        is_other = bool(reply.instructions) and reply.tells_outputs  # than what the greeting tells
        if line.awaited is Awaited.GREETING and not (self.texts or is_other):
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
        reason = "" if is_documented else self._closed_way(reply, line, now, is_remembered)
        if not is_documented and (reason or renewal):
            return self._reconnect(reason or renewal, line, now)
        return self._ask(reply, asked, line, now) if can_ask else []

    def _closed_way(self, reply: Reply, line: Line, now: float, is_remembered: bool) -> str:
        """Return why only a new connection can speak this reply; empty if this one can."""
        learned = self.learned
        if reply.was_refused or learned.is_closed(Way.CREATE, now):
            return "the server refused to speak on demand"
        if (reply.instructions or self.texts) and learned.is_closed(Way.ITEMS, now):
            return "the server takes no text items"
        if any(text.was_refused for text in self.texts):
            return "the server refused a text"
        if is_remembered and learned.is_closed(Way.ANSWER, now):
            return "the server has ignored response.create before"
        if line.conversation.is_untouched and not learned.has_worked(Way.CREATE):
            return (
                "nothing was said yet, and only a first response is documented (asked for at the"
                " start of Agent.on_enter, it comes with the first connection, and costs no other)"
            )
        return ""

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
        out = self.send_texts(line, now)
        if reply.instructions and not self.learned.is_closed(Way.ITEMS, now):
            out += self._send_item("system", reply.instructions, None, line)
        out += line.conversation.create_response(now)
        reply.asked = asked
        reply.event_ids = _event_ids(out)
        out += line.move(Signal.ASKED)
        if asked is not Asked.OUTPUTS:
            out.append(fx.StartTimer("reply_silence", REPLY_SILENCE_S))
        return out

    def send_texts(self, line: Line, now: float) -> list[fx.Effect]:
        """Send the texts that wait; if the server takes none, the history still has them."""
        if not line.conversation.is_ready or self.learned.is_closed(Way.ITEMS, now):
            return []
        out: list[fx.Effect] = []
        for text in self.texts.take():
            out += self._send_item(text.role, text.text, text, line)
        return out

    def _send_item(self, role: str, text: str, source: Text | None, line: Line) -> list[fx.Effect]:
        """Send a text item; if it is refused, `source` waits for the next request again."""
        sent = line.conversation.add_message(role, text)
        line.note_sent(_event_ids(sent), source)
        return sent

    # ---------------------------------------------------------------- what the server does

    def accepts(self) -> bool:
        """Return whether a response that begins counts as the reply."""
        reply = self.reply
        return reply is not None and (reply.is_asked or not (self.texts or reply.instructions))

    def learn_from_response(self, line: Line, now: float, *, user_was_quiet: bool) -> None:
        """A response begins: without another cause it proves that `response.create` works."""
        if self.reply is not None and self.reply.asked is Asked.WORDS and user_was_quiet:
            self.learned.worked(Way.CREATE, now)
            self.learned.worked(Way.ANSWER, now)
            if self.reply.event_ids & line.sent_texts.keys():
                self.learned.worked(Way.ITEMS, now)

    def fulfil(self, begun: fx.BeginResponse, line: Line) -> list[fx.Effect]:
        """The owed reply begins."""
        reply, self.reply = self.reply, None
        line.begun = (begun.part_id, reply) if reply else None
        self._results.told(but_texts=self.has_result_as_text)
        return [
            *[fx.CancelTimer(name) for name in _TIMERS],
            replace(begun, reply_id=reply.id if reply else None),
        ]

    def refused(self, error: ServerError, line: Line, now: float) -> list[fx.Effect]:
        """Take an error that names what we sent: remember it, and try another way."""
        event_id = error.event_id or ""
        is_text = event_id in line.sent_texts
        reply = self.reply if self.reply and event_id in self.reply.event_ids else None
        if reply is None and not is_text:
            return []
        is_about_request = error.code in _ABOUT_THE_REQUEST
        # While somebody speaks or a function runs, the refusal may be for that reason only.
        is_free = line.conversation.is_free
        is_calling = bool(line.conversation.open_calls)
        if is_text:
            if is_about_request:
                self.learned.failed(Way.ITEMS, now)
            if text := line.sent_texts.pop(event_id):
                self.texts.add_again(text)
        elif is_about_request and is_free and not is_calling and self._is_undocumented:
            self.learned.failed(Way.CREATE, now)
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
            is_remembered: whether the text of all that was said is known.
        """
        if not line.conversation.is_free:  # somebody speaks: look again when that is over
            return [fx.StartTimer("reply_silence", REPLY_SILENCE_S)]
        self.learned.failed(Way.ANSWER, now)
        if is_remembered:
            return self._reconnect("the server ignored response.create", line, now)
        return self.give_up(
            f"Hydra ignored response.create for {REPLY_SILENCE_S:g} s: it is only documented to"
            " speak after user speech or function outputs. A new connection could make it speak,"
            " but would forget what was said so far, because there is no text of it: give"
            " hydra.RealtimeModel an input_stt= and an output_stt=.",
            line,
            now,
        )


def _event_ids(effects: list[fx.Effect]) -> set[str]:
    """Return the ids of the events that `effects` send."""
    events = [effect.event for effect in effects if isinstance(effect, fx.Send)]
    return {event.event_id for event in events if event.event_id}
