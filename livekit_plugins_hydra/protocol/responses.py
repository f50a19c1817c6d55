"""One response of the server, with the state that it is in.

What of a response comes after its streams were closed is a *part* of its own, `<id>+n`: a late
function call must be answered, and what is heard twice in one stream would not be played.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from . import effects as fx
from . import events as ev
from .states import RESPONSE, Input, ResponseState, next_state

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
    """Whether its end was told: one whose end was overdue may go on all the same."""
    has_called: bool = False
    has_begun: bool = False
    """Whether something of its current part was said or called."""
    part: int = 0
    """How often its streams were opened again for something late."""
    heard_items: set[str | None] = field(default_factory=set)
    """Message items whose sound came."""
    written_items: set[str] = field(default_factory=set)
    """Message items whose text came in deltas already."""

    @property
    def is_open(self) -> bool:
        """Whether the streams of its current part are open."""
        return self.state in _OPEN

    @property
    def is_in_flight(self) -> bool:
        """Whether the server still works on it, as far as is known."""
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
        """Move on; streams that do not stay open are closed."""
        was_open = self.is_open
        self.state = next_state(RESPONSE, self.state, why) or self.state
        if not was_open or self.is_open:
            return []
        is_cut = self.state is ResponseState.CUT and why is self.cut_by
        answered = [] if is_cut and not self.has_begun else [fx.UserAnswered()]
        return [*answered, fx.EndStreams(self.part_id, cut=is_cut)]

    def account(self, status: str, usage: ev.Usage | None, ended_at: float) -> list[fx.Effect]:
        """Tell its end, once."""
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
