"""When a connection that works is left for a better one, and why.

A new connection costs the caller a moment in which nobody listens, so it is made when it is quiet,
and not often.
"""

from __future__ import annotations

from typing import Final

from .backoff import Allowance
from .ceiling import CEILING_BYTES, SPARE_BYTES, Load

INSTRUCTIONS_DEBOUNCE_S: Final = 0.5
"""Changes of instructions within this time make one new connection."""

INSTRUCTIONS_RECONNECT_EVERY_S: Final = 15.0
"""At most one new connection for changed instructions in this time."""

ANSWER_S: Final = 20.0
"""How long the user's question holds a new connection back: there it would be thought of anew."""

RECOVERY_EVERY_S: Final = 60.0
"""At most one new connection for a failure inside the server in this time. Our choice."""

_STALE: Final = "the instructions have changed"
_OVERLOADED: Final = "the server holds more than it may"


class Renewal:
    """What is wrong with the present connection, if anything is."""

    def __init__(self) -> None:
        self.reason = ""
        """Why a new connection is wanted; empty if none is."""
        self.budget_bytes = CEILING_BYTES - SPARE_BYTES
        """The most that the next configuration may be."""
        self._since = 0.0
        self._planned = Allowance(1, INSTRUCTIONS_RECONNECT_EVERY_S)
        self._recoveries = Allowance(1, RECOVERY_EVERY_S)

    @property
    def stable_at(self) -> float:
        """When no further change is waited for."""
        return self._since + INSTRUCTIONS_DEBOUNCE_S

    def instructions_changed(self, now: float, *, is_stale: bool) -> None:
        """There are new instructions, or again those that the server has."""
        self._since = now
        self.reason = _STALE if is_stale else ""

    def watch(self, load: Load, now: float) -> None:
        """Look whether the server holds too much."""
        if load.is_over and not self.reason:
            self.reason, self._since = _OVERLOADED, now

    def configured(self) -> None:
        """The present configuration is as it should be."""
        self.reason = ""

    def shrink(self, load: Load) -> None:
        """The server fell silent with this load: the next configuration is half of it at most."""
        self.budget_bytes = min(self.budget_bytes, load.bytes // 2)

    def wait_s(self, now: float) -> float:
        """Return how long no planned connection may be made."""
        return self._planned.wait_s(now)

    def made(self, now: float) -> None:
        """A new connection is made: what was wanted of it comes with it."""
        if self.reason:
            self._planned.take(now)

    def may_recover(self, now: float) -> bool:
        """Return whether a failure of the server may cost a connection now; once a minute."""
        return self._recoveries.take(now)
