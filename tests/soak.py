"""The long runs: ``sh tests/run.sh soak``, or ``python -m tests.soak calls hours`` for some.

Each one says what it showed, and what it broke by its seed. All in virtual time but `link`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import Emulator

from . import clock
from .direct import line
from .fuzz.frames import fuzz
from .promises import broken
from .proxy import FaultProxy
from .session.test_closing import close_at_each
from .session.test_long_calls import MAX_GROWTH_BYTES, Footprint, footprints
from .storm import Plan, hold
from .transport.test_links import NOTICED_WITHIN_S, talk

N_CALLS: Final = 500
N_FRAMES: Final = 1_000_000
N_INPUTS: Final = 200_000
N_HOURS: Final = 10.0
_BATCH: Final = 50_000


def hold_one(seed: int) -> tuple[int, dict[str, list[str]]]:
    """Hold the call of a seed; return the promises that it broke."""
    return seed, broken(clock.run(partial(hold, Plan.random(seed)), seed=seed))


def calls() -> bool:
    """Random calls, each judged by all promises."""
    n_kept = 0
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for seed, found in workers.map(hold_one, range(1, N_CALLS + 1)):
            n_kept += not found
            if found:
                print(f"  seed {seed}: {found}", flush=True)
    print(f"{n_kept} of {N_CALLS} random calls kept every promise")
    return n_kept == N_CALLS


def frames() -> bool:
    """Damaged frames for the codec and the call."""
    n_seen = n_refused = 0
    for seed in range(N_FRAMES // _BATCH):
        seen = fuzz(_BATCH, seed)
        n_seen += seen.total()
        n_refused += seen["refused"]
    print(f"{n_seen} fuzzed frames, {n_refused} of them refused: no undocumented exception")
    return n_seen == N_FRAMES


def inputs() -> bool:
    """Inputs that atheris finds, where it is installed."""
    command = [sys.executable, "-m", "tests.fuzz.with_atheris", f"-runs={N_INPUTS}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    print(ended.stderr.strip().splitlines()[-1] if ended.stderr else "atheris said nothing")
    return ended.returncode == 0 or "No module named 'atheris'" in ended.stderr


def hours() -> bool:
    """One call of many hours."""

    async def collect() -> list[Footprint]:
        return [each async for each in footprints(N_HOURS, 1800.0)]

    seen = clock.run(collect)
    early, late = seen[2], seen[-1]
    growth_bytes = late.rss_bytes - early.rss_bytes
    print(
        f"{late.at_s / 3600:.1f} hours, {late.n_turns} turns, {late.n_connections - 1} reconnects:"
        f" {growth_bytes / 1e6:+.1f} MB since hour {early.at_s / 3600:.1f},"
        f" {late.n_tasks - early.n_tasks:+d} tasks, {late.n_files - early.n_files:+d} files"
    )
    is_flat = late.n_tasks <= early.n_tasks + 2 and late.n_files <= early.n_files + 2
    return is_flat and growth_bytes < MAX_GROWTH_BYTES


def closings() -> bool:
    """`aclose()` at every turn of the event loop through a whole life of a call."""
    print(f"{len(close_at_each(1))} closings, each in time, with nothing left")
    return True


def link() -> bool:
    """A dead link in real time."""
    took_s = asyncio.run(_notice())
    print(f"a dead link was noticed after {took_s:.1f} s of real time")
    return took_s <= NOTICED_WITHIN_S


async def _notice() -> float:
    async with (
        Emulator() as server,
        FaultProxy(server.port) as proxy,
        line(base_url=proxy.url) as opened,
    ):
        await talk(opened, 0.1)
        await server.wait_for(ev.SessionConfigured)
        proxy.stall()
        began_at = time.monotonic()
        talking = asyncio.ensure_future(talk(opened, 60.0))
        await opened.until(lambda: opened.of("error"))
        talking.cancel()
        return time.monotonic() - began_at


RUNS: Final[dict[str, Callable[[], bool]]] = {
    run.__name__: run for run in (calls, frames, inputs, hours, closings, link)
}


def main(names: list[str]) -> int:
    """Do the named runs, or all; return how many failed."""
    logging.basicConfig(level=logging.ERROR)  # reconnects warn, and there are thousands
    n_failed = 0
    for name in names or RUNS:
        print(f"== {name}: {RUNS[name].__doc__}", flush=True)
        began_at = time.monotonic()
        n_failed += not RUNS[name]()
        print(f"   in {time.monotonic() - began_at:.0f} s", flush=True)
    return n_failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
