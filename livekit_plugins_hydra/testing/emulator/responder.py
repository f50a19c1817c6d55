"""Decides when the model answers, and when the user breaks into an answer.

A reason to answer waits `think_s`, and while the user speaks; the answer takes up every output and
text that came until then. A later reason replaces an earlier one that has not been answered, unless
one of them is the test's own wish, or the scenario answers both a `response.create` and what else
there is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from livekit_plugins_hydra.protocol import events

from .function_calls import FunctionCalls
from .outgoing import OutgoingResponse
from .replies import Call, Context, Piece, Reply, Say, Trigger, UserTurn, pieces_of

if TYPE_CHECKING:
    from .ceiling import Ceiling
    from .link import Link

_ANSWERS_WITHIN_S: Final = 0.01
"""From `speech_stopped` to the response, where the thinking is done before. Source: eva."""

_ONE_MOMENT: Final = Say(tone_hz=330.0, duration_s=0.4, text="One moment.")
"""What `speaks_before_calls` puts before a reply of function calls alone."""


@dataclass(frozen=True)
class _Pending:
    """A reason to answer."""

    trigger: Trigger
    turn: UserTurn | None = None
    late_events: tuple[events.ServerEvent, ...] = ()
    reply: Reply | None = None
    is_create: bool = False


class Responder:
    """Everything about responses on one connection."""

    def __init__(self, link: Link, ceiling: Ceiling) -> None:
        self._link = link
        self._ceiling = ceiling
        self._scenario = link.scenario
        self._user_speaks = False
        self._pending: list[_Pending] = []
        self._thinking: asyncio.Task[None] | None = None
        self._response: OutgoingResponse | None = None
        self._cut: OutgoingResponse | None = None
        self._calls = FunctionCalls(link)
        self._texts: list[events.Item] = []

    # ---------------------------------------------------------------------- reasons to answer

    def greet(self) -> None:
        """Speak first."""
        self._ask(_Pending("greeting"))

    def speak_unasked(self, reply: Reply) -> None:
        """Answer nothing, with `reply`."""
        self._ask(_Pending("unasked", reply=reply))

    def flush(self) -> None:
        """Send what was held back for an answer, for the user is about to speak again."""
        for pending in self._pending:
            for event in pending.late_events:
                self._link.send(event)
        self._pending = [replace(pending, late_events=()) for pending in self._pending]
        if self._active is not None:
            self._active.send_late_events()

    def user_started(self) -> None:
        """The user begins: what is in flight is cut, what is pending waits."""
        self._user_speaks = True
        if self._scenario.barge_in == "at_once":
            self._interrupt()

    def user_turn(self, turn: UserTurn, late_events: tuple[events.ServerEvent, ...]) -> None:
        """The user has said something that counts."""
        self._user_speaks = False
        self._interrupt()
        self._ask(_Pending("user_turn", turn=turn, late_events=late_events))

    def user_discarded(self) -> None:
        """It was a cough: go on with what was pending."""
        self._user_speaks = False
        self._finish_cut()
        if self._pending:
            self._think()

    def create(self, event_id: str | None) -> None:
        """Obey a `response.create`, refuse it or ignore it."""
        if any(pending.is_create for pending in self._pending):
            self._link.violate("duplicate_create")
            return
        if self._pending and self._scenario.create_beside_turn == "one_answer":
            # Client and server had the same idea.
            self._pending[0] = replace(self._pending[0], is_create=True)
            self._calls.stop_timer_if_answered()
            return
        active = self._active
        if active is not None and not self._may_create_during(active, event_id):
            return
        trigger: Trigger = "text" if self._texts else "bare_create"
        if self._calls.outputs:
            trigger = "tool_outputs"
            if not self._texts:  # with a text, the client asks for more than an answer to them
                self._calls.check_that_outputs_are_complete()
        elif self._scenario.bare_response_create != "spoken":
            if self._scenario.bare_response_create == "refused":
                self._refuse("there is nothing to respond to", event_id)
            return
        self._calls.stop_timer_if_answered()
        self._ask(_Pending(trigger, is_create=True))

    def cancel(self, response_id: str | None) -> None:
        """Obey a `response.cancel`; silence if nothing, or another one, is in flight."""
        active = self._active
        if active is not None and response_id in (None, active.id):
            self._cut_short(active, "client_cancelled")

    # ---------------------------------------------------------------------- what the model knows

    def add_text(self, item: events.Item) -> None:
        """Take up a message item."""
        self._texts.append(item)

    def add_output(self, call_id: str | None, output: str) -> str | None:
        """Take up a function call's output; return what is wrong with it, if anything."""
        return self._calls.answer(call_id, output)

    # ---------------------------------------------------------------------- inside

    @property
    def _active(self) -> OutgoingResponse | None:
        response = self._response
        return response if response is not None and response.is_active else None

    def _may_create_during(self, active: OutgoingResponse, event_id: str | None) -> bool:
        if active.record.call_ids:
            # The client may take the calls for complete, as no response.done is promised with them.
            return True
        age_s = self._link.now() - active.record.created_at_s
        asked = active.record.trigger in ("tool_outputs", "text", "bare_create")
        if asked or age_s > self._scenario.race_grace_s:
            self._link.violate("create_in_flight", active.id)
        if self._scenario.busy_response_create == "refused":
            self._refuse("a response is in flight", event_id)
        return self._scenario.busy_response_create == "queued"

    def _refuse(self, message: str, event_id: str | None) -> None:
        codes = self._scenario.error_codes
        code = "invalid_request_error" if codes == "by_page" else codes
        self._link.send_error(code, message, param="response", event_id=event_id)

    def _ask(self, pending: _Pending) -> None:
        kept = [each for each in self._pending if not self._is_replaced(each, pending)]
        self._pending = [*kept, pending]
        if kept:
            self._continue()
        else:
            self._think()

    def _is_replaced(self, earlier: _Pending, later: _Pending) -> bool:
        if "unasked" in (earlier.trigger, later.trigger):
            return False
        answers_both = self._scenario.create_beside_turn == "two_answers"
        return not answers_both or earlier.is_create == later.is_create

    def _think(self) -> None:
        if self._thinking is not None:
            self._thinking.cancel()
        is_turn = self._pending[0].turn is not None
        is_thought_out = is_turn and self._scenario.thinks == "before_speech_stopped"
        think_s = _ANSWERS_WITHIN_S if is_thought_out else self._scenario.think_s
        self._thinking = self._link.after(think_s, self._begin_when_free)

    def _begin_when_free(self) -> None:
        self._thinking = None
        if self._pending and not self._user_speaks and self._active is None:
            self._begin(self._pending.pop(0))

    def _begin(self, pending: _Pending) -> None:
        session = self._link.record.configuration
        context = Context(
            trigger=pending.trigger,
            turn=pending.turn,
            outputs=self._calls.take_outputs(),
            texts=tuple(self._texts),
            instructions=session.instructions or "",
            tools=tuple(session.tools or ()),
            model=self._link.record.model,
            voice=session.voice or "",
            response_number=self._link.owner.next_response_number(),
            connection_number=self._link.record.number,
        )
        self._texts = []
        reply = pending.reply if pending.reply is not None else self._scenario.reply_to(context)
        self._response = OutgoingResponse(
            self._link,
            context,
            self._with_speech(pieces_of(reply)),
            late_events=pending.late_events,
            silent=self._ceiling.is_exceeded,
            on_call=self._calls.add,
            on_end=self._ended,
        )
        self._response.begin()
        self._finish_cut()

    def _with_speech(self, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        only_calls = bool(pieces) and all(isinstance(piece, Call) for piece in pieces)
        if self._scenario.speaks_before_calls and only_calls:
            return (_ONE_MOMENT, *pieces)
        return pieces

    def _finish_cut(self) -> None:
        if self._cut is not None:
            self._cut.send_late_deltas(1 if self._scenario.late_deltas > 1 else 0)
            self._cut.close_cancelled()
            self._cut = None

    def _interrupt(self) -> None:
        if self._active is not None:
            self._cut_short(self._active, "interrupted")

    def _cut_short(self, response: OutgoingResponse, reason: str) -> None:
        response.cancel(reason)
        late = self._scenario.late_deltas
        is_deferred = (
            reason == "interrupted" and self._scenario.cancelled_done == "after_next_created"
        )
        if not is_deferred:
            response.close_cancelled()
        response.send_late_deltas(late - 1 if late > 1 else late)
        self._cut = response if is_deferred or late > 1 else None
        self._calls.cut(response)
        self._continue()

    def _ended(self, response: OutgoingResponse) -> None:
        self._calls.ended(response)
        self._continue()

    def _continue(self) -> None:
        if self._pending and self._thinking is None:
            self._think()
