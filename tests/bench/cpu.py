"""CPU time of a second of a call: this plugin beside a bare client and other engines.

Two at a time share one core, so that whatever the machine does to one it does to the other, and
the ratio of each half second counts: one after the other, they differ by 30 % from run to run, as
the machine does. ``python -m tests.bench.cpu NAME profile`` counts what a call calls, which a busy
machine hardly changes, and tells whose time that is.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from livekit_plugins_hydra.voice.audio import INPUT_RATE_HZ

from . import servers
from .away import Row, away, keep_to_core, tell
from .clients import CONTENDERS, DIALECTS, FRAME_HZ, FRAME_S, Calls, Terms, beside

ROUNDS: Final = 3
HYDRAS_HZ: Final = INPUT_RATE_HZ
"""A room that gives what Hydra wants: ``AudioInputOptions(sample_rate=16000)``."""

N_CALLS: Final = 50
"""Many, so that a process is busy: with few, most of the cost is waking it up, whoever it is."""
N_WINDOWS: Final = 20
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
SET_UP_S: Final = 18.0
"""How long two processes may take until all their calls speak."""


async def measure(
    name: str, begin_at: float, frame_s: float, rate_hz: int, delta_s: float
) -> list[float]:
    """Return the milliseconds of CPU time that one second of one call takes, window by window.

    Args:
        name: who holds the calls.
        begin_at: when the first window begins; monotonic clock, which processes share.
        frame_s: how long a frame of the microphone is.
        rate_hz: its rate.
        delta_s: how long a delta of the server is.
    """
    keep_to_core(0)
    async with servers.running(DIALECTS[name], core=1, delta_s=delta_s) as port:
        calls = Calls(name, Terms(port, frame_s=frame_s, rate_hz=rate_hz))
        await calls.add(N_CALLS)
        if (left_s := begin_at - time.monotonic()) < WARM_UP_S:
            raise RuntimeError(f"the calls were set up {WARM_UP_S - left_s:.1f} s late")
        await asyncio.sleep(left_s)
        costs = [await _cost(begin_at + (i + 1) * WINDOW_S) for i in range(N_WINDOWS)]
        calls.check()
        await calls.end()
    return costs


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


async def _cost(end_at: float) -> float:
    cpu_s, began_at = time.process_time(), time.monotonic()
    await asyncio.sleep(end_at - began_at)
    return (time.process_time() - cpu_s) * 1000 / N_CALLS / (time.monotonic() - began_at)


async def rows() -> list[Row]:
    """Return the ratio to each of the others: the middle round's, in brackets each round's."""
    profiles = {name: await away("cpu", name, "profile") for name in CONTENDERS}
    counts = {name: n_called(found) for name, found in profiles.items()}
    shares = sorted(((share, owner) for owner, (_, share) in profiles["plugin"].items()))
    what = f"CPU per call-second, {N_CALLS} calls each on one core"
    return [
        await _beside("floor", f"{what}, against a bare client", "1.6x"),
        await _beside("openai", f"{what}, against OpenAI", "0.8x"),
        await _beside("openai", f"{what}, frames of 100 ms, against OpenAI", "", frame_s=0.1),
        await _beside(
            "openai", f"{what}, rooms that give 16 kHz, against OpenAI", "", rate_hz=HYDRAS_HZ
        ),
        await _beside("openai", f"{what}, deltas of 20 ms, against OpenAI", "", delta_s=0.02),
        await _beside("openai", f"{what}, deltas of 100 ms, against OpenAI", "", delta_s=0.1),
        await _beside("ultravox", f"{what}, against Ultravox", ""),
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


async def _beside(
    other: str,
    what: str,
    target: str,
    *,
    frame_s: float = FRAME_S,
    rate_hz: int = FRAME_HZ,
    delta_s: float = servers.DELTA_S,
) -> Row:
    """Return the row of the plugin beside another; the other's room gives what it usually gives."""
    rounds: list[tuple[float, float, float]] = []
    for _ in range(ROUNDS):
        begin_at = time.monotonic() + SET_UP_S
        ours, theirs = await asyncio.gather(
            away("cpu", "plugin", begin_at, frame_s, rate_hz, delta_s),
            away("cpu", other, begin_at, frame_s, FRAME_HZ, delta_s),
        )
        ratio = statistics.median(one / two for one, two in zip(ours, theirs, strict=True))
        rounds.append((ratio, statistics.median(ours), statistics.median(theirs)))
    ratio, our_ms, their_ms = sorted(rounds)[ROUNDS // 2]
    return (
        what,
        f"{ratio:.2f}x ({', '.join(f'{each:.2f}' for each, _, _ in rounds)})",
        f"{our_ms:.2f} against {their_ms:.2f} ms",
        target,
    )


if __name__ == "__main__":
    if sys.argv[2:] == ["profile"]:
        tell(profile(sys.argv[1]))
    else:
        name, begin_at, frame_s, rate_hz, delta_s = sys.argv[1:]
        tell(measure(name, float(begin_at), float(frame_s), int(rate_hz), float(delta_s)))
