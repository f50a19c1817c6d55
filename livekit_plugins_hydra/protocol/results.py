"""What functions have returned, and who tells the user about it.

The server says nothing of an output by itself: somebody asks it to, with `response.create`. That is
LiveKit, as a rule. But where the user has spoken while a function ran, LiveKit posts the output and
leaves it at that; if the user's turn was only a cough, nobody would ever tell the result. So each
running function has a `Fate`, and a result that is left to this call is asked about when it is
quiet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .states import FATE, Fate, Input, next_state

NARRATE_AFTER_S: Final = 0.1
"""How long LiveKit may take to ask for the reply to outputs before this call does. Our choice."""


@dataclass(slots=True)
class Results:
    """The ledger of a call: which functions run, and which results nobody has told."""

    due_at: float | None = None
    """When this call asks for the reply to results by itself; None where none is left to it."""
    is_sent: bool = False
    """Whether the server was sent outputs since its last response began; ends with a connection."""
    is_given_up: bool = False
    """Whether the reply to them was given up, and none has come since; ends with a connection."""
    _running: dict[str, Fate] = field(default_factory=dict)
    """Functions whose outputs were not posted, whichever connection called them."""
    _announced: list[str] = field(default_factory=list)
    """Those of them that have returned, and whose outputs LiveKit may drop."""

    def called(self, call_id: str) -> None:
        """The model calls a function."""
        self._running[call_id] = Fate.FRAMEWORK

    def move(self, why: Input) -> None:
        """Something has happened that matters to all functions that run."""
        for call_id, fate in self._running.items():
            self._running[call_id] = next_state(FATE, fate, why) or fate

    def announced(self, call_id: str) -> bool:
        """A function has returned; tell whether its output is one that LiveKit may drop."""
        if self._running.get(call_id) is not Fate.OURS:
            return False
        self._announced.append(call_id)
        return True

    def take_dropped(self) -> list[str]:
        """Return the functions whose outputs were announced and never posted, once."""
        dropped = [call_id for call_id in self._announced if call_id in self._running]
        self._announced.clear()
        return dropped

    def returned(self, call_id: str, output: str, now: float) -> None:
        """A function has returned; an empty output wants no reply."""
        if self._running.pop(call_id, None) is Fate.OURS and output:
            self.due_at = now + NARRATE_AFTER_S

    def told(self, *, but_texts: bool) -> None:
        """A response begins: the server knows all results, but those that still wait as texts."""
        self.is_sent = self.is_given_up = False
        if not but_texts:
            self.due_at = None

    def lost(self) -> None:
        """The connection has ended: the next server was sent nothing yet."""
        self.is_sent = self.is_given_up = False
