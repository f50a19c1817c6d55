"""Everything in one table: ``python -m tests.bench [cpu] [latency] [call_setup] ...``.

Ratios and distributions of one run on one machine; nothing is asserted. A quiet machine with two
cores or more is needed for figures that mean something: the server is a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

from . import call_setup, capacity, cpu, growth, instructions, latency

PARTS: Final = {
    "cpu": cpu.rows,
    "instructions": instructions.rows,
    "latency": latency.rows,
    "call_setup": call_setup.rows,
    "capacity": capacity.rows,
    "growth": growth.rows,
}

PACKAGES: Final = (
    "livekit-agents",
    "livekit-plugins-openai",
    "livekit-plugins-ultravox",
    "websockets",
    "msgspec",
    "soxr",
)


def machine() -> str:
    """Return what this was measured on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        name = next((it.split(":")[1].strip() for it in lines if it.startswith("model name")), name)
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"{os.cpu_count()} cores of {name}, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def load() -> str:
    """Return how busy the machine is."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


async def main(parts: list[str]) -> None:
    """Measure, and print the table."""
    began_at = time.monotonic()
    print(f"{machine()}; load average {load()} before\n")
    print("| Measured | This plugin | Beside it | Target |\n|---|---|---|---|", flush=True)
    for part in parts or PARTS:
        for row in await PARTS[part]():
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{time.monotonic() - began_at:.0f} s; load average {load()} after")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
