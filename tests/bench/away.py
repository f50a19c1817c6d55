"""Measurements in processes of their own, so that none inherits another's heap."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, Final

TIMEOUT_S: Final = 240.0

_CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
"""Of this machine, before any process was kept to one."""

Row = tuple[str, str, str, str]
"""What was measured; this plugin's figure; what stands beside it; the target."""


async def away(module: str, *arguments: object) -> Any:
    """Run a measurement as ``python -m tests.bench.MODULE ARGUMENTS``, and return its result."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", f"tests.bench.{module}"),
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            printed, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{module} {arguments} failed:\n{complaints.decode()[-2000:]}")
    return json.loads(printed.splitlines()[-1])


def tell(measurement: Coroutine[Any, Any, Any]) -> None:
    """Run a measurement, and print its result for `away`."""
    print(json.dumps(asyncio.run(measurement)), flush=True)


def keep_to_core(number: int, pid: int = 0) -> None:
    """Keep a process on one core, where the system can: what is measured shares it with nobody."""
    if len(_CORES) > 1:
        os.sched_setaffinity(pid, {_CORES[number]})


def percentile(values: Sequence[float], share: float) -> float:
    """Return what so many hundredths of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


def spread_ms(values_s: Sequence[float]) -> str:
    """Return p50, p99 and maximum in milliseconds."""
    if not values_s:
        return "-"
    cells = (statistics.median(values_s), percentile(values_s, 99), max(values_s))
    return " / ".join(f"{cell * 1000:.2f}" for cell in cells)
