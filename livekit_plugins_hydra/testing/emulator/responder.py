"""Decides when the model answers: pending reasons, barge-ins, function calls, time-outs.

A reason to answer waits `think_s`, and while the user speaks; the answer takes up every output and
text that came until then. A later reason replaces an earlier one that has not been answered, unless
the scenario answers both a `response.create` and what else there is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from livekit_plugins_hydra.protocol import events

from .outgoing import OutgoingResponse
from .replies import Call, Context, Piece, Reply, Say, ToolOutput, Trigger, UserTurn, pieces_of

if TYPE_CHECKING:
    from .ceiling import Ceiling
    from .link import Link


_SETTLING_S: Final = 0.2
"""Function calls further apart than this may be answered apart: a client that got no
`response.done` can't wait longer. Source: docs ("200 ms after the last output")."""


_ANSWERS_WITHIN_S: Final = 0.01
"""From `speech_stopped` to the response, where the thinking is done before. Source: eva."""

_ONE_MOMENT: Final = Say(tone_hz=330.0, duration_s=0.4, text="One moment.")
"""What `speaks_before_calls` puts before a reply of function calls alone."""


@dataclass
class _Issued:
    """A function call of this connection."""

    call: ToolOutput
    issued_at_s: float
    batch: int
    """Function calls that came close together share it."""

    is_answered: bool = False


@dataclass
class _OpenFunctionCalls:
    """The function calls of one response."""

    response: OutgoingResponse
    missing: set[str] = field(default_factory=set)
    timer: asyncio.Task[None] | None = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


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
        self._open_calls: _OpenFunctionCalls | None = None
        self._calls: dict[str, _Issued] = {}
        self._newest: _Issued | None = None
        self._outputs: list[ToolOutput] = []
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
            self._pending = [replace(self._pending[0], is_create=True)]
            self._stop_timer_of_answered_calls()
            return
        active = self._active
        if active is not None and not self._may_create_during(active, event_id):
            return
        trigger: Trigger = "tool_outputs" if self._outputs else "bare_create"
        if self._texts and not self._outputs:
            trigger = "text"
        if trigger == "tool_outputs":
            self._check_that_outputs_are_complete()
        elif self._scenario.bare_response_create != "spoken":
            if self._scenario.bare_response_create == "refused":
                self._refuse("there is nothing to respond to", event_id)
            return
        self._stop_timer_of_answered_calls()
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
        issued = self._calls.get(call_id or "")
        if issued is None:
            self._link.violate("unknown_call_id", str(call_id))
            return "unknown call_id"
        if issued.is_answered:
            self._link.violate("duplicate_output", issued.call.call_id)
            return "this function call has its output"
        issued.is_answered = True
        self._outputs.append(replace(issued.call, output=output))
        if self._open_calls is not None:
            self._open_calls.missing.discard(issued.call.call_id)
            self._finish_calling_response(self._open_calls)
        return None

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

    def _check_that_outputs_are_complete(self) -> None:
        if self._open_calls is None or self._texts:
            return  # with a text, the client asks for more than an answer to the outputs
        batches = {self._calls[output.call_id].batch for output in self._outputs}
        n_missing = sum(
            self._calls[call_id].batch in batches for call_id in self._open_calls.missing
        )
        if n_missing:
            self._link.violate("early_create", f"{n_missing} outputs missing")

    def _stop_timer_of_answered_calls(self) -> None:
        if self._open_calls is not None and not self._open_calls.missing:
            self._open_calls.stop_timer()

    def _refuse(self, message: str, event_id: str | None) -> None:
        codes = self._scenario.error_codes
        code = "invalid_request_error" if codes == "by_page" else codes
        self._link.send_error(code, message, param="response", event_id=event_id)

    def _ask(self, pending: _Pending) -> None:
        kept = []
        if self._scenario.create_beside_turn == "two_answers":
            kept = [each for each in self._pending if each.is_create != pending.is_create]
        self._pending = [*kept, pending]
        if kept:
            self._continue()
        else:
            self._think()

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
            outputs=tuple(self._outputs),
            texts=tuple(self._texts),
            instructions=session.instructions or "",
            tools=tuple(session.tools or ()),
            model=self._link.record.model,
            voice=session.voice or "",
            response_number=self._link.owner.next_response_number(),
            connection_number=self._link.record.number,
        )
        self._outputs, self._texts = [], []
        if self._open_calls is not None and not self._open_calls.missing:
            self._open_calls.stop_timer()
            self._open_calls = None
        reply = pending.reply if pending.reply is not None else self._scenario.reply_to(context)
        self._response = OutgoingResponse(
            self._link,
            context,
            self._with_speech(pieces_of(reply)),
            late_events=pending.late_events,
            silent=self._ceiling.is_exceeded,
            on_call=self._called,
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
        if self._open_calls is not None and self._open_calls.response is response:
            # What was called before the cut may still be answered, but nothing waits for it.
            self._open_calls.stop_timer()
            self._open_calls = None
        self._continue()

    def _called(self, call: ToolOutput) -> None:
        assert self._response is not None, "only a response calls"
        now, newest = self._link.now(), self._newest
        batch = newest.batch if newest else 0
        if newest is None or now - newest.issued_at_s > _SETTLING_S:
            batch += 1
        self._newest = self._calls[call.call_id] = _Issued(call, now, batch)
        if self._open_calls is None or self._open_calls.response is not self._response:
            if self._open_calls is not None:
                self._open_calls.stop_timer()
            self._open_calls = _OpenFunctionCalls(self._response)
        self._open_calls.missing.add(call.call_id)
        self._open_calls.stop_timer()
        if self._scenario.tool_response_timeout_s is not None:
            self._open_calls.timer = self._link.after(
                self._scenario.tool_response_timeout_s, self._give_up_calls
            )

    def _ended(self, response: OutgoingResponse) -> None:
        if not response.record.call_ids or self._scenario.calling_response_done == (
            "before_outputs"
        ):
            response.send_done()
        elif self._open_calls is not None and self._open_calls.response is response:
            self._finish_calling_response(self._open_calls)
        self._continue()

    def _continue(self) -> None:
        if self._pending and self._thinking is None:
            self._think()

    def _finish_calling_response(self, open_calls: _OpenFunctionCalls) -> None:
        ended = not open_calls.response.is_active and not open_calls.missing
        if ended and self._scenario.calling_response_done == "after_outputs":
            open_calls.response.send_done()

    def _give_up_calls(self) -> None:
        open_calls, self._open_calls = self._open_calls, None
        if open_calls is None:
            return
        response = open_calls.response
        if self._scenario.calling_response_done == "after_outputs" and not response.is_active:
            response.record.status = "failed"
            response.record.reason = "tool_response_timeout"
            response.send_done()
        self._link.send_error(
            "tool_response_timeout", "the output and response.create did not come in time"
        )
