"""How many calls one process holds on one core, and what memory one takes.

``python -m tests.bench.capacity NAME`` adds calls until their sound comes late twice,
``python -m tests.bench.capacity NAME memory`` holds a fixed number and weighs them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import Final

from . import servers
from .away import Row, away, keep_to_core, percentile, tell
from .clients import CONTENDERS, DIALECTS, Calls, Terms, beside

STEP: Final = 10
"""Calls that are added at a time."""

HELD_S: Final = 2.5
"""How long each number of calls is held."""

TOO_LATE_S: Final = 0.02
"""What the lateness of 99 in 100 pieces of sound may reach: half of a delta."""

MOST_CALLS: Final = 500

N_WEIGHED: Final = 30
"""Calls that are weighed."""

WEIGHED_AFTER_S: Final = 20.0
"""Longer than the session keeps what was said."""


async def measure(name: str) -> int:
    """Return how many calls stay in time."""
    keep_to_core(0)
    late: list[float] = []
    async with servers.running(DIALECTS[name], core=1) as port:
        calls = Calls(name, Terms(port, note=late.append))
        n_in_time = 0
        while n_in_time < MOST_CALLS:
            await calls.add(STEP)
            # Again, as another tenant of the machine may have been in the way.
            if await _is_late(calls, late) and await _is_late(calls, late):
                break
            n_in_time = len(calls.tasks)
        await calls.end()
    return n_in_time


async def _is_late(calls: Calls, late: list[float]) -> bool:
    late.clear()
    await asyncio.sleep(HELD_S)
    calls.check()
    return not late or percentile(late, 99) > TOO_LATE_S


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def weigh(name: str) -> float:
    """Return the KiB of memory that a call adds to the process."""
    async with servers.running(DIALECTS[name]) as port:
        calls = Calls(name, Terms(port, script="greeting"))
        await calls.add(2)  # what is shared, and what is loaded late
        await asyncio.sleep(WEIGHED_AFTER_S / 4)
        gc.collect()
        before = _resident_bytes()
        await calls.add(N_WEIGHED)
        await asyncio.sleep(WEIGHED_AFTER_S)
        gc.collect()
        grown = _resident_bytes() - before
        calls.check()
        await calls.end()
    return grown / N_WEIGHED / 1024


async def rows() -> list[Row]:
    """Return both."""
    most = {name: await away("capacity", name) for name in CONTENDERS}
    weight = {name: await away("capacity", name, "memory") for name in ("floor", "plugin")}
    return [
        (
            f"Calls on one core before p99 is {TOO_LATE_S * 1000:g} ms late",
            f"{most['plugin']}",
            beside(most, ".0f"),
            "",
        ),
        (
            f"Memory of a session that has listened for {WEIGHED_AFTER_S:g} s",
            f"{weight['plugin']:.0f} KiB",
            f"bare {weight['floor']:.0f} KiB",
            "300 KiB",
        ),
    ]


if __name__ == "__main__":
    tell(weigh(sys.argv[1]) if sys.argv[2:] else measure(sys.argv[1]))
