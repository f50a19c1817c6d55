"""CPU time of a second of a call: floor, this plugin, and OpenAI's engine, interleaved.

``python -m tests.bench.cpu NAME CALLS SECONDS`` measures one of them.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from . import servers
from .away import Row, away, tell
from .clients import CONTENDERS, DIALECTS, Calls

ROUNDS: Final = 3
N_CALLS: Final = 20
SECONDS: Final = 6.0
WINDOW_S: Final = 0.5
WARM_UP_S: Final = 1.0


async def measure(name: str, n_calls: int = N_CALLS, seconds: float = SECONDS) -> float:
    """Return the milliseconds of CPU time that one second of one call takes the client.

    Another process on the machine only adds to it, so it is the lower quartile of many windows.
    """
    async with servers.running(DIALECTS[name]) as port:
        calls = Calls(name, port)
        await calls.add(n_calls)
        await asyncio.sleep(WARM_UP_S)
        costs = [await _cost(n_calls) for _ in range(int(seconds / WINDOW_S))]
        calls.check()
        await calls.end()
    return sorted(costs)[len(costs) // 4]


async def _cost(n_calls: int) -> float:
    cpu_s, wall_s = time.process_time(), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    return (time.process_time() - cpu_s) * 1000 / n_calls / (time.monotonic() - wall_s)


async def rows() -> list[Row]:
    """Return the best ratios of a few rounds, and what the best round cost."""
    rounds = [{name: await away("cpu", name) for name in CONTENDERS} for _ in range(ROUNDS)]
    best = {name: min(each[name] for each in rounds) for name in CONTENDERS}
    what = f"CPU per call-second, {N_CALLS} calls"
    found = []
    for other, title, target in (("floor", "a bare client", 1.6), ("openai", "OpenAI", 0.8)):
        ratios = [each["plugin"] / each[other] for each in rounds]
        all_of_them = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        found.append(
            (
                f"{what}, against {title}",
                f"{min(ratios):.2f}x ({all_of_them})",
                f"{best['plugin']:.2f} against {best[other]:.2f} ms",
                f"{target:g}x",
            )
        )
    return found


if __name__ == "__main__":
    tell(measure(sys.argv[1], *map(int, sys.argv[2:3]), *map(float, sys.argv[3:4])))
