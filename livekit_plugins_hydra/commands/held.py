"""The call of ``livekit-hydra call``: what it needs, how it goes, and what is left of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from livekit.agents import Agent, llm
from rich.console import Console
from rich.markup import escape

from livekit_plugins_hydra.report import LogUnreadable, calls_in, read, render, timeline_of
from livekit_plugins_hydra.report.lines import LogLine
from livekit_plugins_hydra.report.page import AUDIO_RATE_HZ
from livekit_plugins_hydra.testing import Scenario, recordings, write_call

from .calling import RATE_HZ, Caller, CallFailed, Recording
from .exits import Exit, errors, stop
from .files import make_folder, read_audio, require_writable, write_page
from .functions import FunctionUnusable, load_all
from .latencies import print_latencies
from .target import Target

_COLORS: Final = {"user": "cyan", "agent": "magenta", "tool": "yellow", "hydra": "dim"}


def said_in_turn(
    files: Sequence[Path], turns: int | None, barge_in: float | None
) -> list[Recording]:
    """Return what the user says; one file and a barge-in are two turns."""
    recorded = [Recording(path, read_audio(path, rate_hz=RATE_HZ)[:, 0]) for path in files]
    default = max(len(recorded), 2) if barge_in is not None else len(recorded)
    return [recorded[number % len(recorded)] for number in range(turns or default)]


def load_tools(specs: Sequence[str]) -> list[llm.Tool | llm.Toolset]:
    """Return the function tools that are named, or end the command."""
    try:
        return [*load_all(specs)]
    except FunctionUnusable as problem:
        stop(Exit.USAGE, str(problem))


def prepare(out: Path, files: Sequence[Path]) -> None:
    """Make the folder, or end the command where something is in the way."""
    make_folder(out, "Name another folder with --out.")
    require_writable(out / "wire.jsonl", "Name another folder with --out.")
    recording = out / "call.wav"
    for path in files:
        if recording.exists() and path.samefile(recording):
            stop(
                Exit.USAGE,
                f"{path} would be overwritten by the recording of the call.",
                "Name another folder with --out.",
            )


async def hold(
    agent: Agent,
    said: list[Recording],
    target: Target,
    scenario: Scenario,
    *,
    barge_in: float | None,
    patience: float,
    out: Path,
) -> CallFailed | None:
    """Hold the call and write its files; return how it failed, if it did."""
    console = Console(soft_wrap=True, highlight=False)
    log = out / "wire.jsonl"
    failure: CallFailed | None = None
    async with target.emulated(scenario) as emulator:
        if emulator is not None:
            console.print(
                "Hydra is emulated here: what it answers and how fast says nothing of the real one."
            )
        caller = Caller(
            target.realtime_model(emulator, log),
            agent,
            lambda at_s, who, what: _print(console, at_s, who, what),
            patience_s=patience,
        )
        try:
            await caller.hold(said, barge_in_s=barge_in)
        except CallFailed as problem:
            failure = problem
        except TimeoutError:
            failure = CallFailed("Hydra was not ready in time.", kind="connection")
        except asyncio.CancelledError:  # Ctrl-C
            _write_files(console, caller, log, out)
            raise
    _write_files(console, caller, log, out)
    return failure


def _print(console: Console, at_s: float, who: str, what: str) -> None:
    color = _COLORS.get(who, "default")
    console.print(f"[dim]{at_s:7.2f}[/]  [{color}]{who:<6}[/] {escape(what)}")


def _write_files(console: Console, caller: Caller, log: Path, out: Path) -> None:
    try:
        calls = calls_in(read(log)).values()
    except LogUnreadable as problem:  # there was no connection, or the log has warned
        errors().print(f"There is no report of this call: {problem}", markup=False)
        return
    # Earlier calls may stand in the log, and one that began meanwhile.
    lines = next((lines for lines in calls if _began_at(lines) >= caller.began_at), None)
    if lines is None:
        return
    recording = out / "call.wav"
    try:
        write_call(recording, caller.microphone, caller.loudspeaker, began_at=_began_at(lines))
    except ValueError:  # nobody said anything
        recording = None  # type: ignore[assignment]
    except OSError as error:
        errors().print(f"{recording} can't be written: {error.strerror or error}", markup=False)
        recording = None  # type: ignore[assignment]
    audio = None
    if recording is not None:
        audio = recordings.read(recording, rate_hz=AUDIO_RATE_HZ, n_channels=2)
    page = out / "report.html"
    write_page(page, render(lines, audio=audio))
    print_latencies(console, timeline_of(lines))
    written = [path for path in (recording, log, page) if path is not None]
    console.print(f"Written: {', '.join(str(path) for path in written)}", markup=False)


def _began_at(lines: list[LogLine]) -> float:
    """Return when the log, and so the recording, begins, by the monotonic clock."""
    wall = datetime.fromisoformat(lines[0].time).timestamp() - lines[0].offset_s
    return wall - (time.time() - time.monotonic())
