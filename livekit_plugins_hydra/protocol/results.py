"""What functions have returned, and who tells the user about it.

The server does not speak about an output before it gets `response.create`, usually from LiveKit.
But if the user spoke while the function ran, LiveKit posts the output and asks for nothing. If that
turn was only a cough, the user would never hear the result. So each running function has a `Fate`,
and this call asks for the reply itself where LiveKit does not, once it is quiet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .states import FATE, Fate, Input, next_state

NARRATE_AFTER_S: Final = 0.1
"""How long LiveKit may take to ask for the reply to outputs before this call does. Our choice."""


@dataclass(slots=True)
class Results:
    """Which functions of a call run, and which results the user was not told."""

    due_at: float | None = None
    """When this call asks for the reply to results; None if it has not to."""
    is_sent: bool = False
    """Whether the server was sent outputs since its last response began; ends with a connection."""
    is_given_up: bool = False
    """Whether the reply to them was given up, and none has come since; ends with a connection."""
    has_news: bool = False
    """Whether a result was sent that no response has followed, on whichever connection."""
    sent_at: float = float("-inf")
    """When the last output was sent; monotonic clock."""
    _running: dict[str, Fate] = field(default_factory=dict)
    """Functions whose outputs were not posted, of all connections."""
    _announced: list[str] = field(default_factory=list)
    """Those of them that have returned, and whose outputs LiveKit may drop."""

    def called(self, call_id: str) -> None:
        """The model calls a function."""
        self._running[call_id] = Fate.FRAMEWORK

    def move(self, why: Input) -> None:
        """Something happened that may change who asks for the replies."""
        for call_id, fate in self._running.items():
            self._running[call_id] = next_state(FATE, fate, why) or fate

    def announced(self, call_id: str) -> bool:
        """A function has returned; return whether LiveKit may drop its output."""
        if self._running.get(call_id) is not Fate.OURS:
            return False
        self._announced.append(call_id)
        return True

    def take_dropped(self) -> list[str]:
        """Return the functions whose outputs were announced and not posted, once."""
        dropped = [call_id for call_id in self._announced if call_id in self._running]
        self._announced.clear()
        return dropped

    def returned(self, call_id: str, output: str, now: float) -> None:
        """An output is posted; an empty one needs no reply."""
        if self._running.pop(call_id, None) is Fate.OURS and output:
            self.due_at = now + NARRATE_AFTER_S

    def sent(self, output: str, now: float) -> None:
        """An output is sent to the server that waits for it; an empty one is no news."""
        self.is_sent = True
        self.has_news |= bool(output)
        self.sent_at = now

    def told(self, *, but_texts: bool) -> None:
        """A response begins: it knows all results except those that wait as texts."""
        self.is_sent = self.is_given_up = self.has_news = False
        if not but_texts:
            self.due_at = None

    def lost(self) -> None:
        """The connection has ended: the next server has no outputs yet."""
        self.is_sent = self.is_given_up = False
