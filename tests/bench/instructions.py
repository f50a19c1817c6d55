"""Instructions in a second of a call, as valgrind counts them: a busy machine hardly changes that.

``python -m tests.bench.instructions NAME`` runs itself under valgrind and counts while calls speak;
what the kernel does is not in it. Without valgrind on the machine the row is left out.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
from typing import Final

from . import servers
from .away import Row, away, tell
from .clients import CONTENDERS, DIALECTS, Calls, Terms, beside

N_CALLS: Final = 2
"""Few, as valgrind makes everything some thirty times slower, and calls are held at real time."""

WARM_UP_S: Final = 3.0
COUNTED_S: Final = 8.0

_COLLECTED: Final = re.compile(rb"Collected : (\d+)")


async def measure(name: str) -> float:
    """Return the instructions of one second of one call."""
    process = await asyncio.create_subprocess_exec(
        *("valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"),
        *(sys.executable, "-W", "ignore", "-m", "tests.bench.instructions", name, "held"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaints = await process.communicate()
    collected = _COLLECTED.search(complaints)
    if process.returncode or collected is None:
        raise RuntimeError(f"valgrind failed:\n{complaints.decode()[-2000:]}")
    return int(collected[1]) / N_CALLS / float(printed.splitlines()[-1])


async def hold(name: str) -> float:
    """Hold calls under valgrind; return for how many seconds they were counted."""
    async with servers.running(DIALECTS[name]) as port:
        calls = Calls(name, Terms(port))
        await calls.add(N_CALLS)
        await asyncio.sleep(WARM_UP_S)
        await _instrument("on")
        began_at = time.monotonic()
        await asyncio.sleep(COUNTED_S)
        await _instrument("off")
        counted_s = time.monotonic() - began_at
        calls.check()
        await calls.end()
    return counted_s


async def _instrument(switch: str) -> None:
    control = await asyncio.create_subprocess_exec(
        *("callgrind_control", "--instr=" + switch, str(os.getpid())),
        stdout=asyncio.subprocess.DEVNULL,
    )
    await control.wait()


async def rows() -> list[Row]:
    """Return the ratio to each of the others, if there is a valgrind."""
    if shutil.which("valgrind") is None:
        return []
    counts = {name: await away("instructions", name) for name in CONTENDERS}
    millions = {name: count / 1e6 for name, count in counts.items()}
    ours = f"{millions['plugin']:.1f} million"
    return [("Instructions in a call-second, by valgrind", ours, beside(millions, ".1f"), "")]


if __name__ == "__main__":
    tell(hold(sys.argv[1]) if sys.argv[2:] else measure(sys.argv[1]))
