"""What a server was seen to do; all calls of a model object share it.

A refusal may be about that moment (a busy server, a text that is too long), so it costs the reply
that met it a new connection, and no other. Only a way that failed again, and has not worked for ten
minutes, is not tried for a while.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final

from .voices import SERVER_DEFAULT_VOICE

FORGET_S: Final = 600.0
"""After so long a way that failed is tried again, and success proves nothing more: servers change.
Our choice."""


class Way(Enum):
    """What a reply on demand needs of the server."""

    ITEMS = "it takes text items in conversation.item.create"
    CREATE = "it takes response.create without a user turn or function outputs before it"
    ANSWER = "it answers such a response.create at all, be it with an error"


_LASTING: Final = {Way.ITEMS: 2, Way.CREATE: 2, Way.ANSWER: 1}
"""How often a way fails until it is not tried any more. Silence costs the caller 5 s each time."""


@dataclass(slots=True)
class Learned:
    """Which ways work with the server, and which voices it has refused."""

    voices_refused: set[str] = field(default_factory=set)
    _worked_at: dict[Way, float] = field(default_factory=dict)
    _failed_at: dict[Way, deque[float]] = field(default_factory=dict)

    def voice_for(self, voice: str) -> str:
        """Return `voice`, or the server's default if the server has refused it."""
        return SERVER_DEFAULT_VOICE if voice in self.voices_refused else voice

    def worked(self, way: Way, now: float) -> None:
        """A way has worked: its failures are forgotten."""
        self._worked_at[way] = now
        self._failed_at.pop(way, None)

    def failed(self, way: Way, now: float) -> None:
        """A way has failed; one that has worked lately is tried again all the same."""
        self._failed_at.setdefault(way, deque(maxlen=_LASTING[way])).append(now)

    def has_worked(self, way: Way) -> bool:
        """Return whether a way was ever seen to work."""
        return way in self._worked_at

    def is_closed(self, way: Way, now: float) -> bool:
        """Return whether a way is not worth another try now."""
        failed_at = self._failed_at.get(way)
        if failed_at is None or now - self._worked_at.get(way, -inf) < FORGET_S:
            return False
        return len(failed_at) == _LASTING[way] and now - failed_at[0] < FORGET_S
