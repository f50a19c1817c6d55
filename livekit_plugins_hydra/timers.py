"""The named timers of a call, over one alarm of the event loop.

A turn sets some eight, and nearly all are cancelled. So starting one only notes when it is due, and
cancelling one leaves the alarm as it is: it may ring when no timer is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """Timers by name; starting one again moves it."""

    def __init__(self, on_due: Callable[[str], None]) -> None:
        """Begin without any.

        Args:
            on_due: called with the name of each that runs out, the earliest first; may start and
                cancel any.
        """
        self._on_due = on_due
        self._due_at: dict[str, float] = {}
        """By the clock of the event loop."""
        self._alarm: asyncio.TimerHandle | None = None

    def start(self, name: str, delay_s: float) -> None:
        """Start one; it runs out after `delay_s`."""
        due_at = self._due_at[name] = asyncio.get_running_loop().time() + delay_s
        if self._alarm is None or due_at < self._alarm.when():
            self._set_alarm(due_at)

    def cancel(self, name: str) -> None:
        """Stop one, if it runs."""
        self._due_at.pop(name, None)

    def close(self) -> None:
        """Stop all."""
        self._due_at.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(at, self._ring, at)

    def _ring(self, at: float) -> None:
        """Run the first that is due; the next gets a new alarm, even if it is due now."""
        self._alarm = None
        due = next((name for name, due_at in self._due_at.items() if due_at <= at), None)
        if due is not None:
            del self._due_at[due]
        if self._due_at:
            self._set_alarm(min(self._due_at.values()))
        if due is not None:
            self._on_due(due)
