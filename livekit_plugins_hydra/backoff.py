"""How long to wait before the next connection, and what counts as a good one."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

FIRST_DELAY_S: Final = 0.5
"""Upper bound of the first delay; each further one doubles."""

MAX_DELAY_S: Final = 8.0
"""Upper bound of any delay: a caller on the phone does not wait longer."""

STABLE_S: Final = 5.0
"""A connection that was READY for this long was good: the count of attempts begins anew.

A successful dial proves nothing: `server_full` comes after the upgrade.
"""

DIALS_PER_MINUTE: Final = 6
"""Bound on the connections made for other reasons than a loss."""


def delays(uniform: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Yield the delays before retry 0, 1, 2...: U(1/2, 1) * min(8, 0.5 * 2^n) seconds.

    The jitter keeps the callers of a server that comes back from arriving all at once.
    """
    bound = FIRST_DELAY_S
    while True:
        yield uniform(0.5, 1.0) * bound
        bound = min(MAX_DELAY_S, bound * 2)


class Allowance:
    """At most so many in so much time, in a sliding window."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._taken: deque[float] = deque()

    def wait_s(self, now: float) -> float:
        """Return how long until `take` will say yes; 0.0 when it would now."""
        while self._taken and self._taken[0] <= now - self._window_s:
            self._taken.popleft()
        if len(self._taken) < self._limit:
            return 0.0
        return self._taken[0] + self._window_s - now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        if self.wait_s(now) > 0:
            return False
        self._taken.append(now)
        return True
