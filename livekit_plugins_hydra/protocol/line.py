"""What is true of one connection of a call, and ends with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from . import effects as fx
from .conversation import Conversation
from .reply import MAX_WAITING, Reply, Text
from .results import Results
from .states import AWAITED, About, Asked, Awaited, Input, Signal, Turn, next_state

DEBT_S: Final = 3.0
"""How long a reply that was given up may hold back the next request. Our choice."""

KEPT_TURN_S: Final = 3.0
"""How long a new server may take to notice the speech that it is sent again. Our choice."""

GREETING_S: Final = 5.0
"""How long a first response may take to begin. Our choice."""

_HOLDS_BACK: Final = {Awaited.TURN, Awaited.GREETING, Awaited.DEBT, Awaited.SPENT}
_SINCE_READY_S: Final = {Awaited.TURN: KEPT_TURN_S, Awaited.GREETING: GREETING_S}


@dataclass(slots=True)
class Line:
    """What is true of one connection, and ends with it."""

    conversation: Conversation
    awaited: Awaited = Awaited.NOTHING
    begun: tuple[str, Reply] | None = None
    """The last reply that has begun, and its response; it is still owed until it has audio."""
    cut: str = ""
    """The newest response, if the user has cut it before it had said or called anything."""
    unsaid: Reply | None = None
    """What that was about, once the server has ended it: all of it is owed again after a cough."""
    answers_turn: bool = False
    """Whether the newest response answers something that the user has said."""
    sent_texts: dict[str, Text | None] = field(default_factory=dict)
    """The newest, by event id; None for the instructions of a reply."""

    def note_sent(self, event_ids: Iterable[str], source: Text | None) -> None:
        """Remember texts that are sent: the server may refuse them."""
        self.sent_texts |= dict.fromkeys(event_ids, source)
        while len(self.sent_texts) > MAX_WAITING:
            del self.sent_texts[next(iter(self.sent_texts))]

    def cut_unsaid(self, part_id: str, results: Results, now: float) -> None:
        """The user cuts a response that has said nothing: if it was about results, they are due."""
        begun = self.begun
        if begun is None or begun[0] != part_id or not begun[1].tells_outputs:
            self.cut = part_id
            return
        results.is_sent = begun[1].asked in (Asked.OUTPUTS, Asked.BOTH)
        results.due_at = now

    def ended(self, end: fx.EndResponse) -> None:
        """A response has ended: nothing is left of one that was cut before its first sound."""
        if end.response_id != self.cut or end.first_audio_at is not None or end.has_called:
            return
        begun = self.begun
        is_reply = begun is not None and begun[0] == end.response_id
        self.unsaid = begun[1].anew() if begun and is_reply else Reply(None, about=About.NEXT)

    def make_up(self) -> None:
        """Another response makes up for what was cut."""
        self.cut, self.unsaid = "", None

    @property
    def is_held_back(self) -> bool:
        """Whether no response may be asked for before what is awaited."""
        return self.awaited in _HOLDS_BACK

    def move(self, why: Input) -> list[fx.Effect]:
        """Change what is awaited."""
        before, self.awaited = self.awaited, next_state(AWAITED, self.awaited, why) or self.awaited
        if self.awaited is before or (before, self.awaited) == (Awaited.DEBT, Awaited.SPENT):
            return []
        if self.awaited is Awaited.DEBT:
            return [fx.StartTimer("awaited", DEBT_S)]
        return [fx.CancelTimer("awaited")]

    def overdue(self) -> list[fx.Effect]:
        """What was awaited did not come in time."""
        is_kept = self.awaited is Awaited.TURN and self.conversation.turn is Turn.QUIET
        return [*self.move(Signal.OVERDUE), *([fx.UserTurnKept()] if is_kept else [])]

    def ready(self) -> list[fx.Effect]:
        """The server listens: from now on, what the connection was made for may be overdue."""
        delay_s = _SINCE_READY_S.get(self.awaited)
        return [] if delay_s is None else [fx.StartTimer("awaited", delay_s)]
