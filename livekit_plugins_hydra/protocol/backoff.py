"""How long to wait before the next connection, and what counts as a good one."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from .errors import ConnectionLost, CouldNotConnect, HandshakeRefused, is_retryable

FIRST_DELAY_S: Final = 0.5
"""Upper bound of the first delay; each further one doubles."""

MAX_DELAY_S: Final = 8.0
"""Upper bound of any delay: a caller on the phone does not wait longer."""

STABLE_S: Final = 5.0
"""After this long in READY a connection was good, and the count of attempts begins anew.

An accepted upgrade proves nothing: `server_full` comes after it.
"""

LOST_CALL_BUDGET_S: Final = 20.0
"""For how long after its loss a call that was READY is retried."""

MAX_RETRY_AFTER_S: Final = 30.0
"""A call ends where the server asks for a longer wait: nobody on the phone waits so long."""

POLICY_VIOLATION: Final = 1008
"""Close code that is forgiven once, after a stable connection: it may be an expired token."""

CLOSES_OF_THE_SERVER: Final = frozenset({1001, 1011, 1012})
"""Close codes of a server that goes away, is broken or restarts: it needs time.

After any other loss the server may well be up, and the call reconnects at once.
"""

AT_ONCE_S: Final = 0.02
"""The longest delay of a reconnect "at once"; it spreads the calls of one lost link."""

RECONNECTS_PER_MINUTE: Final = 6
"""Bound on reconnects for other reasons than a loss."""


def delays(uniform: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Yield the delays before retry 0, 1, 2...: U(1/2, 1) * min(8, 0.5 * 2^n) seconds.

    Because of the jitter, not all callers reach a server that comes back at once.
    """
    bound = FIRST_DELAY_S
    while True:
        yield uniform(0.5, 1.0) * bound
        bound = min(MAX_DELAY_S, bound * 2)


class Allowance:
    """At most `limit` in `window_s` seconds, in a sliding window."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._taken: deque[float] = deque()

    def wait_s(self, now: float) -> float:
        """Return how long until `take` succeeds; 0.0 if it would now."""
        while self._taken and self._taken[0] <= now - self._window_s:
            self._taken.popleft()
        if len(self._taken) < self._limit:
            return 0.0
        return self._taken[0] + self._window_s - now

    def take(self, now: float) -> bool:
        """Take one; False if none is left."""
        if self.wait_s(now) > 0:
            return False
        self._taken.append(now)
        return True


class Recovery:
    """Whether and when to connect again after a connection failed.

    A call that was never READY gets `max_retry` more connections. A call that was READY is lost
    when its connection fails, and reconnects for `LOST_CALL_BUDGET_S`; the last delay is cut so
    that a last connection starts when the budget ends. Further failures belong to the same
    loss, until a connection was READY for `STABLE_S`.
    """

    def __init__(
        self, max_retry: int, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._max_retry = max_retry
        self._uniform = uniform
        self._delays = delays(uniform)
        self._retries = 0
        self._ready_at: float | None = None
        self._was_ready = False
        self._lost_at: float | None = None
        self._has_forgiven = False

    def ready(self, now: float) -> None:
        """A connection is READY; the one before it failed, or was left on purpose."""
        self._settle(now)
        self._ready_at = now
        self._was_ready = True

    def failed(self, error: Exception, now: float) -> float | None:
        """Return the delay in seconds before the next connection; None to end the call."""
        was_stable = self._settle(now)
        is_new = self._was_ready and self._lost_at is None
        if is_new:
            self._lost_at = now
        if not is_retryable(error) and not self._forgives(error, was_stable=was_stable):
            return None
        if is_new and _may_be_up(error):
            return self._uniform(0.0, AT_ONCE_S)
        asked_s = _retry_after_s(error)
        if asked_s > MAX_RETRY_AFTER_S:
            return None
        delay_s = max(next(self._delays), asked_s)
        if self._lost_at is not None:
            left_s = self._lost_at + LOST_CALL_BUDGET_S - now
            return min(delay_s, left_s) if left_s >= max(asked_s, FIRST_DELAY_S / 2) else None
        self._retries += 1
        return delay_s if self._retries <= self._max_retry else None

    def _settle(self, now: float) -> bool:
        """Return whether the connection that ends was stable; if so, forget earlier failures."""
        was_stable = self._ready_at is not None and now - self._ready_at >= STABLE_S
        self._ready_at = None
        if was_stable:
            self._lost_at = None
            self._delays = delays(self._uniform)
        return was_stable

    def _forgives(self, error: Exception, *, was_stable: bool) -> bool:
        is_forgivable = isinstance(error, ConnectionLost) and error.code == POLICY_VIOLATION
        if not is_forgivable or not was_stable or self._has_forgiven:
            return False
        self._has_forgiven = True
        return True


def _may_be_up(error: Exception) -> bool:
    """Return whether nothing is known against the server."""
    is_lost = isinstance(error, ConnectionLost) and error.code not in CLOSES_OF_THE_SERVER
    return is_lost or isinstance(error, CouldNotConnect)


def _retry_after_s(error: Exception) -> float:
    asked_s = error.retry_after_s if isinstance(error, HandshakeRefused) else None
    return asked_s or 0.0
