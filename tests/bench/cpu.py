"""CPU time of a second of a call: floor, this plugin, and OpenAI's engine, interleaved.

``python -m tests.bench.cpu NAME [FRAME_S [RATE_HZ]]`` measures one of them, ``python -m
tests.bench.cpu NAME calls`` counts what it calls: a busy machine hardly changes that.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import time
from typing import Final

from livekit_plugins_hydra.audio import INPUT_RATE_HZ

from . import servers
from .away import Row, away, keep_to_core, tell
from .clients import CONTENDERS, DIALECTS, FRAME_HZ, FRAME_S, Calls, Terms

ROUNDS: Final = 3
HYDRAS: Final = "plugin at 16 kHz"
"""A room that gives what Hydra wants: ``AudioInputOptions(sample_rate=16000)``."""

ENGINES: Final = ("plugin", "openai")
N_CALLS: Final = 20
SECONDS: Final = 6.0
N_COUNTED: Final = 10
COUNTED_S: Final = 3.0
WINDOW_S: Final = 0.5
WARM_UP_S: Final = 1.0


async def measure(name: str, frame_s: float = FRAME_S, rate_hz: float = FRAME_HZ) -> float:
    """Return the milliseconds of CPU time that one second of one call takes the client.

    Another process on the machine only adds to it, so it is the lower quartile of many windows;
    the server keeps to another core, where there is one.
    """
    keep_to_core(0)
    async with servers.running(DIALECTS[name], core=1) as port:
        calls = Calls(name, Terms(port, frame_s=frame_s, rate_hz=int(rate_hz)))
        await calls.add(N_CALLS)
        await asyncio.sleep(WARM_UP_S)
        costs = [await _cost() for _ in range(int(SECONDS / WINDOW_S))]
        calls.check()
        await calls.end()
    return sorted(costs)[len(costs) // 4]


async def count(name: str) -> float:
    """Return how many functions one second of one call calls in the client, asyncio included."""
    async with servers.running(DIALECTS[name]) as port:
        calls = Calls(name, Terms(port))
        await calls.add(N_COUNTED)
        await asyncio.sleep(WARM_UP_S)
        profile, began_at = cProfile.Profile(), time.monotonic()
        profile.enable()
        await asyncio.sleep(COUNTED_S)
        profile.disable()
        wall_s = time.monotonic() - began_at
        calls.check()
        await calls.end()
    n_calls: int = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
    return n_calls / N_COUNTED / wall_s


async def _cost() -> float:
    cpu_s, wall_s = time.process_time(), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    return (time.process_time() - cpu_s) * 1000 / N_CALLS / (time.monotonic() - wall_s)


async def rows() -> list[Row]:
    """Return the best ratios of a few rounds, and what the best round cost."""
    room = [
        {name: await away("cpu", name) for name in CONTENDERS}
        | {HYDRAS: await away("cpu", "plugin", FRAME_S, INPUT_RATE_HZ)}
        for _ in range(ROUNDS)
    ]
    long = [{name: await away("cpu", name, 0.1) for name in ENGINES} for _ in range(ROUNDS)]
    counts = {name: await away("cpu", name, "calls") for name in CONTENDERS}
    what = f"CPU per call-second, {N_CALLS} calls"
    return [
        _row(f"{what}, against a bare client", room, "floor", "1.6x"),
        _row(f"{what}, against OpenAI", room, "openai", "0.8x"),
        _row("the same where the room gives the plugin 16 kHz", room, "openai", "", ours=HYDRAS),
        _row("the same with frames of 100 ms: both write 10 times a second", long, "openai", ""),
        (
            "Functions called in a call-second",
            f"{counts['plugin']:,.0f}",
            f"bare {counts['floor']:,.0f} ({counts['plugin'] / counts['floor']:.2f}x), "
            f"OpenAI {counts['openai']:,.0f} ({counts['plugin'] / counts['openai']:.2f}x)",
            "",
        ),
    ]


def _row(
    what: str, rounds: list[dict[str, float]], other: str, target: str, ours: str = "plugin"
) -> Row:
    ratios = [each[ours] / each[other] for each in rounds]
    cost, beside = (min(each[name] for each in rounds) for name in (ours, other))
    return (
        what,
        f"{min(ratios):.2f}x ({', '.join(f'{ratio:.2f}' for ratio in ratios)})",
        f"{cost:.2f} against {beside:.2f} ms",
        target,
    )


if __name__ == "__main__":
    if sys.argv[2:] == ["calls"]:
        tell(count(sys.argv[1]))
    else:
        tell(measure(sys.argv[1], *map(float, sys.argv[2:])))
