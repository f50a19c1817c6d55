"""One response of the server, and its state.

What comes of a response after its streams were closed is a *part* of its own, `<id>+n`: LiveKit
can't open a stream again, and a late function call must be answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from . import effects as fx
from . import events as ev
from .errors import RemoteProtocolError, ServerError
from .states import RESPONSE, Input, ResponseState, Signal, next_state

GRACE_S: Final = 0.2
"""Quiet after the last function call before the response counts as waiting for outputs.

The docs ask for 200 ms between parallel calls and the request for a response; the vendor's client
waits 220 ms. Whether `response.done` comes before the outputs is unknown.
"""

STALL_S: Final = 15.0
"""A response without any event for so long is closed; a later event opens it again.

Our choice: audio comes ten times faster than real time.
"""

CUT_OVERDUE_S: Final = 1.0
"""A cut response that sends nothing for so long is over, without `response.done`."""

END_OVERDUE_S: Final = 1.0
"""A response whose audio and item have ended is over without its `response.done`. Our choice."""

SILENCES_S: Final = {"end": END_OVERDUE_S, "grace": GRACE_S, "stall": STALL_S, "cut": CUT_OVERDUE_S}
"""After how long without an event each timer of a response acts, by its name."""

_ENDS: Final = {ev.ResponseOutputAudioDone, ev.ConversationItemDone}
_OPEN: Final = {ResponseState.GENERATING, ResponseState.CUT_LATE, ResponseState.IDLE_LATE}
_IN_FLIGHT: Final = {ResponseState.GENERATING, ResponseState.CUT, ResponseState.CUT_LATE}


@dataclass(slots=True)
class Response:
    """What is known of one response."""

    id: str
    requested_at: float
    last_event_at: float
    state: ResponseState = ResponseState.IDLE
    first_audio_at: float | None = None
    cut_by: Input | None = None
    """What interrupted it, if anything did."""
    is_accounted: bool = False
    """Whether its end was reported; after an overdue end, more may still come."""
    call_ids: set[str] = field(default_factory=set)
    """The server's ids of the functions that it has called."""
    items: set[str] = field(default_factory=set)
    """Its message items, by their audio."""
    ended: set[type[ev.Event]] = field(default_factory=set)
    """Which of its audio and its item the server has ended."""
    has_begun: bool = False
    """Whether its current part has said something or called a function."""
    part: int = 0
    """How often it got new streams for something late."""

    @property
    def has_called(self) -> bool:
        """Whether it has called a function."""
        return bool(self.call_ids)

    @property
    def has_answered(self) -> bool:
        """Whether it has said something or called a function."""
        return self.first_audio_at is not None or self.has_called

    @property
    def is_open(self) -> bool:
        """Whether the streams of its current part are open."""
        return self.state in _OPEN

    @property
    def is_in_flight(self) -> bool:
        """Whether the server may still work on it."""
        return self.state in _IN_FLIGHT

    @property
    def is_cut(self) -> bool:
        """Whether it was interrupted."""
        return self.cut_by is not None

    @property
    def part_id(self) -> str:
        """The id of its current part."""
        return f"{self.id}+{self.part}" if self.part else self.id

    def move(self, why: Input) -> list[fx.Effect]:
        """Change the state; close the streams if the new state has none."""
        was_open = self.is_open
        self.state = next_state(RESPONSE, self.state, why) or self.state
        if not was_open or self.is_open:
            return []
        is_cut = self.state is ResponseState.CUT and why is self.cut_by
        # Text alone is no answer: the server sends it without audio when it holds too much.
        is_heard = is_cut or self.has_answered
        answered = [fx.UserAnswered()] if self.has_begun and is_heard else []
        return [*answered, fx.EndStreams(self.part_id, cut=is_cut)]

    def begin(self) -> list[fx.Effect]:
        """The server has announced it."""
        self.move(ev.ResponseCreated)
        return [fx.BeginResponse(self.id), fx.StartTimer(f"stall:{self.id}", STALL_S)]

    def reopen(self) -> list[fx.Effect]:
        """Begin a new part if the streams are closed."""
        if self.is_open:
            return []
        self.part += 1
        self.has_begun = False
        self.move(Signal.REOPENED)
        return [fx.BeginResponse(self.part_id, is_late=True), self.start_grace()]

    def part_ended(self, why: type[ev.Event], now: float) -> list[fx.Effect]:
        """Its audio or its item has ended; when both have, its end is due."""
        self.last_event_at = now
        self.ended.add(why)
        is_due = len(self.ended) == len(_ENDS) and self.state is ResponseState.GENERATING
        return [fx.StartTimer(f"end:{self.id}", END_OVERDUE_S)] if is_due else []

    def start_grace(self) -> fx.StartTimer:
        """Close the streams after the grace, unless more comes."""
        return fx.StartTimer(f"grace:{self.id}", GRACE_S)

    def cut(self, why: Input) -> list[fx.Effect]:
        """It is interrupted."""
        self.cut_by = why
        return [*self.move(why), fx.StartTimer(f"cut:{self.id}", CUT_OVERDUE_S)]

    def retire(self, status_if_open: str) -> list[fx.Effect]:
        """Report its end without waiting for `response.done` any longer."""
        status = status_if_open if self.is_open else "completed"
        status = "cancelled" if self.is_cut else status
        return [*self.move(Signal.LOST), *self.account(status, None, self.last_event_at)]

    def silent(self, kind: str, now: float, *, speaks: bool, is_late: bool) -> list[fx.Effect]:
        """A timer has run out: act if it was silent for long enough, else wait on.

        Args:
            kind: the timer.
            now: monotonic clock.
            speaks: whether the user speaks.
            is_late: whether what still comes of the response is kept.
        """
        silence_s = SILENCES_S[kind]
        silence_ends_in_s = self.last_event_at + silence_s - now
        if kind != "cut" and not self.is_open:
            return []
        if silence_ends_in_s > 0:
            return [fx.StartTimer(f"{kind}:{self.id}", silence_ends_in_s)]
        if kind == "cut" and speaks:
            return [fx.StartTimer(f"{kind}:{self.id}", silence_s)]
        if kind == "grace":
            return self.move(Signal.STREAMS_CLOSED)
        out = self.move(Signal.OVERDUE)
        if kind == "cut" and is_late and not self.has_answered:
            return out  # the server may still work on it: what it says would be late
        status = "completed" if kind == "end" else "incomplete"
        out += self.account("cancelled" if self.is_cut else status, None, now)
        if kind == "stall":
            fault = RemoteProtocolError(f"a response stopped without its end for {STALL_S:g} s")
            out.append(fx.Fault(fault, fatal=False))
        return out

    def account(self, status: str, usage: ev.Usage | None, ended_at: float) -> list[fx.Effect]:
        """Report its end, once."""
        if self.is_accounted:
            return []
        self.is_accounted = True
        return [
            fx.EndResponse(
                response_id=self.id,
                status=status,
                usage=usage,
                requested_at=self.requested_at,
                first_audio_at=self.first_audio_at,
                ended_at=ended_at,
                has_called=self.has_called,
            )
        ]


def failure_of(body: ev.Response) -> ServerError:
    """Return why a response has failed."""
    details = body.status_details
    error = details.error if details else None
    return ServerError(
        (error and (error.code or error.type)) or "response_failed",
        (error and error.message) or f"response {body.id} failed",
    )


def without_answer(effects: list[fx.Effect]) -> list[fx.Effect]:
    """Return effects without the one that says that the user was answered."""
    return [effect for effect in effects if not isinstance(effect, fx.UserAnswered)]
