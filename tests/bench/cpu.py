"""CPU time of a second of a call: floor, this plugin, and other engines, interleaved.

``python -m tests.bench.cpu NAME [FRAME_S [RATE_HZ]]`` measures one of them, ``python -m
tests.bench.cpu NAME profile`` counts what it calls, which a busy machine hardly changes, and tells
whose time that is.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from livekit_plugins_hydra.audio import INPUT_RATE_HZ

from . import servers
from .away import Row, away, keep_to_core, tell
from .clients import CONTENDERS, DIALECTS, FRAME_HZ, FRAME_S, Calls, Terms, beside

ROUNDS: Final = 3
HYDRAS: Final = "plugin at 16 kHz"
"""A room that gives what Hydra wants: ``AudioInputOptions(sample_rate=16000)``."""

ENGINES: Final = ("plugin", "openai")
N_CALLS: Final = 100
"""Many, so that the process is busy: with few, most of the cost is waking it up, whoever it is."""
SECONDS: Final = 6.0
N_COUNTED: Final = 10
COUNTED_S: Final = 3.0

OWNERS: Final = {
    "livekit_plugins_hydra": "the plugin's own steps",
    "websockets": "websockets",
    "soxr": "soxr",
    "asyncio": "the event loop and the kernel",
    "selectors.py": "the event loop and the kernel",
    "bench": "this bench",
}
"""Whose code it is, by a part of its path; what C functions take is their callers'."""

Profile = dict[str, tuple[float, float]]
"""By owner: functions called in a second of a call, and their share of the time."""

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


async def profile(name: str) -> Profile:
    """Return how many functions a call calls in a second, and their share of the time, by owner.

    Time is that of Python's profiler, which makes small functions dearer than they are.
    """
    keep_to_core(0)
    async with servers.running(DIALECTS[name], core=1) as port:
        calls = Calls(name, Terms(port))
        await calls.add(N_COUNTED)
        await asyncio.sleep(WARM_UP_S)
        profiler, began_at = cProfile.Profile(), time.monotonic()
        profiler.enable()
        await asyncio.sleep(COUNTED_S)
        profiler.disable()
        wall_s = time.monotonic() - began_at
        calls.check()
        await calls.end()
    found: Profile = {}
    for owner, n_calls, own_s in _spent(pstats.Stats(profiler)):
        counted, spent_s = found.get(owner, (0.0, 0.0))
        found[owner] = (counted + n_calls / N_COUNTED / wall_s, spent_s + own_s)
    all_s = sum(spent_s for _, spent_s in found.values())
    return {owner: (counted, spent_s / all_s) for owner, (counted, spent_s) in found.items()}


def n_called(found: Profile) -> float:
    """Return how many functions a profile has counted in all."""
    return sum(counted for counted, _ in found.values())


def _spent(stats: Any) -> Iterator[tuple[str, int, float]]:
    """Give the owner, the calls and the time of each function; waiting is nobody's time."""
    for (path, _, name), (_, n_calls, own_s, _, callers) in stats.stats.items():
        if path != "~":
            yield _owner(path), n_calls, own_s
        elif "'poll' of 'select." not in name:
            for (caller, _, _), (n_from_it, _, own_from_it_s, _) in callers.items():
                yield _owner(caller), n_from_it, own_from_it_s


def _owner(path: str) -> str:
    parts = Path(path).parts
    return next((owner for part, owner in OWNERS.items() if part in parts), "others")


async def _cost() -> float:
    cpu_s, wall_s = time.process_time(), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    return (time.process_time() - cpu_s) * 1000 / N_CALLS / (time.monotonic() - wall_s)


async def rows() -> list[Row]:
    """Return ratios of the best of a few rounds; in brackets those of each round."""
    room = [
        {name: await away("cpu", name) for name in CONTENDERS}
        | {HYDRAS: await away("cpu", "plugin", FRAME_S, INPUT_RATE_HZ)}
        for _ in range(ROUNDS)
    ]
    long = [{name: await away("cpu", name, 0.1) for name in ENGINES} for _ in range(ROUNDS)]
    profiles = {name: await away("cpu", name, "profile") for name in CONTENDERS}
    counts = {name: n_called(found) for name, found in profiles.items()}
    shares = sorted(((share, owner) for owner, (_, share) in profiles["plugin"].items()))
    what = f"CPU per call-second, {N_CALLS} calls"
    return [
        _row(f"{what}, against a bare client", room, "floor", "1.6x"),
        _row(f"{what}, against OpenAI", room, "openai", "0.8x"),
        _row(f"{what}, where the room gives it 16 kHz, against OpenAI", room, "openai", "", HYDRAS),
        _row(f"{what}, frames of 100 ms, against OpenAI", long, "openai", ""),
        _row(f"{what}, against Ultravox", room, "ultravox", ""),
        (
            "Functions called in a call-second",
            f"{counts['plugin']:,.0f}",
            beside(counts, ",.0f"),
            "",
        ),
        (
            "Whose time it is, by Python's profiler",
            ", ".join(f"{owner} {share:.0%}" for share, owner in reversed(shares)),
            "",
            "",
        ),
    ]


def _row(
    what: str, rounds: list[dict[str, float]], other: str, target: str, ours: str = "plugin"
) -> Row:
    ratios = [each[ours] / each[other] for each in rounds]
    best, best_other = (min(each[name] for each in rounds) for name in (ours, other))
    return (
        what,
        f"{best / best_other:.2f}x ({', '.join(f'{ratio:.2f}' for ratio in ratios)})",
        f"{best:.2f} against {best_other:.2f} ms",
        target,
    )


if __name__ == "__main__":
    if sys.argv[2:] == ["profile"]:
        tell(profile(sys.argv[1]))
    else:
        tell(measure(sys.argv[1], *map(float, sys.argv[2:])))
