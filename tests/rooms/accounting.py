"""Who uses the CPU: processes by /proc, and within an event loop the plugin against all else."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import livekit_plugins_hydra as hydra

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")

_PLUGINS_FILES: Final = ("/livekit_plugins_hydra/", "/websockets/")
"""The plugin's websocket is the only one of a call that Python reads: LiveKit's is in Rust."""


class LoopAccount:
    """Adds up the time of the event loop's thread: all of it, and the plugin's.

    The plugin's is that of its tasks and of its websocket, with all that they call, LiveKit's
    listeners included; and that of `push_audio`, which LiveKit calls for each frame.
    """

    def __init__(self) -> None:
        self.plugin_s = 0.0
        self._is_counting = False

    def open(self) -> None:
        """Count from now on, in this process."""
        account = self
        run = asyncio.Handle._run
        push = hydra.RealtimeSession.push_audio

        def counted_run(handle: asyncio.Handle) -> None:
            if not _is_plugins(handle._callback):  # type: ignore[attr-defined]
                run(handle)
                return
            account._count(run, handle)

        def counted_push(session: hydra.RealtimeSession, frame: Any) -> None:
            account._count(push, session, frame)

        asyncio.Handle._run = counted_run  # type: ignore[method-assign,assignment]
        hydra.RealtimeSession.push_audio = counted_push  # type: ignore[method-assign,assignment]

    def _count(self, call: Callable[..., Any], *arguments: Any) -> None:
        if self._is_counting:
            call(*arguments)
            return
        self._is_counting = True
        began_s = time.thread_time()
        try:
            call(*arguments)
        finally:
            self.plugin_s += time.thread_time() - began_s
            self._is_counting = False


def _is_plugins(callback: Any) -> bool:
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        code = getattr(owner.get_coro(), "cr_code", None)
    elif isinstance(owner, asyncio.Transport):
        protocol: Any = owner.get_protocol()
        return type(protocol).__module__.startswith("websockets")
    else:
        code = getattr(getattr(callback, "__func__", callback), "__code__", None)
    return code is not None and any(part in code.co_filename for part in _PLUGINS_FILES)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def memory_mb(pid: int) -> float:
    """Return the memory that belongs to a process alone, its share of the common included."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def machine_s() -> float:
    """Return the CPU seconds that the whole machine has used."""
    user, nice, system, _, _, irq, soft, *_ = (
        int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + soft) * _TICK_S


def family(pid: int) -> set[int]:
    """Return a process and all that descend from it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = {pid}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


class Usage:
    """The CPU seconds of a family of processes since it was last looked at."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = self._now()

    def _now(self) -> dict[int, float]:
        return {pid: cpu_s(pid) for pid in family(self._pid)}

    def since_begin(self) -> float:
        """Return what was used since this object was made."""
        now = self._now()
        return sum(seconds - self._before.get(pid, 0.0) for pid, seconds in now.items())
