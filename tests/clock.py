"""Virtual time: hours of a call in seconds, with the real event loop, sockets and framework.

When every task waits, the clock jumps to the next timer. Over loopback, what was sent has arrived,
so nothing is skipped that was on its way. Each turn of the loop takes a little time, so that code
that polls comes to an end. LiveKit's chat items are dated by it, too.
"""

from __future__ import annotations

import asyncio
import functools
import random
import selectors
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, Final, ParamSpec, TypeVar
from unittest.mock import patch

from livekit.agents import llm

for _item in (llm.ChatMessage, llm.FunctionCall, llm.FunctionCallOutput):
    # They hold the function, and not its name: it would stay that of the real time.
    _item.model_fields["created_at"].default_factory = lambda: time.time()
    _item.model_rebuild(force=True)

TURN_S: Final = 50e-6
"""What one turn of the loop takes."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class VirtualClock(selectors.DefaultSelector):
    """A selector that waits by moving the clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        """Seconds since long ago."""
        self.n_turns = 0
        """How often the loop has come around."""
        self.alarms: dict[int, Callable[[], None]] = {}
        """What to do at a turn of the loop."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; where nothing is, the wait is over at once."""
        self.now += TURN_S
        self.n_turns += 1
        if alarm := self.alarms.pop(self.n_turns, None):
            alarm()
            timeout = 0
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # only another thread can end this
            return super().select(1.0)
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.clock = clock

    def time(self) -> float:
        """Return the virtual time."""
        return self.clock.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for threads, which live in real time, as long as it takes."""
        await super().shutdown_default_executor()


async def turns(count: int) -> None:
    """Wait for so many turns of the loop, which wakes up for nothing but what it has to do."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "in virtual time"
    come = asyncio.Event()
    loop.clock.alarms[loop.clock.n_turns + count] = come.set
    await come.wait()


def run(main: Callable[[], Coroutine[Any, Any, _T]], *, seed: int = 0) -> _T:
    """Run a coroutine in virtual time; what is random is the same for the same seed."""
    clock = VirtualClock()
    began_at = time.time()
    state = random.getstate()
    random.seed(seed)
    try:
        with ExitStack() as patches:
            for name in ("monotonic", "perf_counter"):
                patches.enter_context(patch.object(time, name, lambda: clock.now))
            patches.enter_context(patch.object(time, "time", lambda: began_at + clock.now))
            with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
                return runner.run(main())
    finally:
        random.setstate(state)


def in_virtual_time(
    test: Callable[_P, Coroutine[Any, Any, None]],
) -> Callable[_P, None]:
    """Make a test of a coroutine function, with a clock of its own."""

    @functools.wraps(test)
    def run_test(*args: _P.args, **kwargs: _P.kwargs) -> None:
        run(lambda: test(*args, **kwargs))

    return run_test
