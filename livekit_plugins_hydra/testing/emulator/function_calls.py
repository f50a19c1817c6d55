"""The function calls of one connection: which are open, what they returned, and for how long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from .replies import ToolOutput

if TYPE_CHECKING:
    from .link import Link
    from .outgoing import OutgoingResponse

_SETTLING_S: Final = 0.2
"""Function calls further apart than this may be answered apart: a client that got no
`response.done` can't wait longer. Source: docs ("200 ms after the last output")."""


@dataclass
class _OfResponse:
    """The function calls of one response."""

    response: OutgoingResponse
    missing: set[str] = field(default_factory=set)
    """The ids of those that have no output yet."""

    timer: asyncio.Task[None] | None = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass
class _Issued:
    """One function call."""

    call: ToolOutput
    group: _OfResponse
    issued_at_s: float
    batch: int
    """Function calls that came close together share it."""

    is_answered: bool = False


class FunctionCalls:
    """Keeps the function calls of one connection, and ends the responses that wait for them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._scenario = link.scenario
        self._issued: dict[str, _Issued] = {}
        self._newest: _Issued | None = None
        self._open: _OfResponse | None = None
        self.outputs: list[ToolOutput] = []
        """What no response has taken up yet."""

    def add(self, response: OutgoingResponse, call: ToolOutput) -> None:
        """Keep a function call that `response` has made; the time for its output begins."""
        group = self._open
        if group is None or group.response is not response:
            self._close()
            self._open = group = _OfResponse(response)
        now, newest = self._link.now(), self._newest
        batch = newest.batch if newest else 0
        if newest is None or now - newest.issued_at_s > _SETTLING_S:
            batch += 1
        self._newest = self._issued[call.call_id] = _Issued(call, group, now, batch)
        group.missing.add(call.call_id)
        group.stop_timer()
        timeout_s = self._scenario.tool_response_timeout_s
        if timeout_s is not None:
            group.timer = self._link.after(timeout_s, lambda: self._give_up(group))

    def answer(self, call_id: str | None, output: str) -> str | None:
        """Take up an output of the client; return what is wrong with it, if anything."""
        issued = self._issued.get(call_id or "")
        if issued is None:
            self._link.violate("unknown_call_id", str(call_id))
            return "unknown call_id"
        if issued.is_answered:
            self._link.violate("duplicate_output", issued.call.call_id)
            return "this function call has its output"
        issued.is_answered = True
        self.outputs.append(replace(issued.call, output=output))
        issued.group.missing.discard(issued.call.call_id)
        self._finish_if_answered(issued.group)
        return None

    def check_that_outputs_are_complete(self) -> None:
        """Hold it against the client if it asks for an answer to some outputs of several."""
        if self._open is not None:
            batches = {self._issued[output.call_id].batch for output in self.outputs}
            missing = [self._issued[call_id].batch for call_id in self._open.missing]
            if n_missing := sum(batch in batches for batch in missing):
                self._link.violate("early_create", f"{n_missing} outputs missing")

    def stop_timer_if_answered(self) -> None:
        """The client has asked for an answer: if no output is missing, none comes too late."""
        if self._open is not None and not self._open.missing:
            self._open.stop_timer()

    def take_outputs(self) -> tuple[ToolOutput, ...]:
        """Return the outputs that no response has taken up yet, for the one that now begins."""
        if self._open is not None and not self._open.missing:
            self._close()
        outputs, self.outputs = tuple(self.outputs), []
        return outputs

    def ended(self, response: OutgoingResponse) -> None:
        """Send the end of a response that was not cut, when the scenario has it."""
        made = [self._issued[call_id] for call_id in response.record.call_ids]
        if not made or self._scenario.calling_response_done == "before_outputs":
            response.send_done()
        else:
            self._finish_if_answered(made[-1].group)

    def cut(self, response: OutgoingResponse) -> None:
        """Wait for no output of a response that was cut; each may come all the same."""
        if self._open is not None and self._open.response is response:
            self._close()

    def _finish_if_answered(self, group: _OfResponse) -> None:
        response = group.response
        is_waiting = not response.is_active and response.record.status != "cancelled"
        if (
            is_waiting
            and not group.missing
            and self._scenario.calling_response_done == "after_outputs"
        ):
            response.send_done()

    def _close(self) -> None:
        if self._open is not None:
            self._open.stop_timer()
            self._open = None

    def _give_up(self, group: _OfResponse) -> None:
        self._open = None
        response = group.response
        if self._scenario.calling_response_done == "after_outputs" and not response.is_active:
            response.record.status = "failed"
            response.record.reason = "tool_response_timeout"
            response.send_done()
        self._link.send_error(
            "tool_response_timeout", "the output and response.create did not come in time"
        )
