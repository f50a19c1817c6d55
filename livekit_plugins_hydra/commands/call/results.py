"""What is left of a call: its recording, its page, and a table of its latencies."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from rich.console import Console

from livekit_plugins_hydra.commands.calling import Caller
from livekit_plugins_hydra.commands.console import errors
from livekit_plugins_hydra.commands.files import write_page
from livekit_plugins_hydra.report import LogUnreadable, calls_in, read, render, timeline_of
from livekit_plugins_hydra.report.lines import LogLine
from livekit_plugins_hydra.report.page import AUDIO_RATE_HZ
from livekit_plugins_hydra.testing import recordings, write_call

from .inputs import ANOTHER_FOLDER, LOG, PAGE, RECORDING
from .latencies import print_latencies


def keep(console: Console, caller: Caller, out: Path) -> None:
    """Write the files of a call beside its log, and print its latencies."""
    log = out / LOG
    try:
        calls = calls_in(read(log)).values()
    except LogUnreadable as problem:  # there was no connection, or the log has warned
        errors().print(f"There is no report of this call: {problem}")
        return
    # Earlier calls may stand in the log, and one that began meanwhile.
    lines = next((lines for lines in calls if _began_at(lines) >= caller.began_at), None)
    if lines is None:
        return
    recording = _record(caller, _began_at(lines), out / RECORDING)
    audio = None
    if recording is not None:
        audio = recordings.read(recording, rate_hz=AUDIO_RATE_HZ, n_channels=2)
    print_latencies(console, timeline_of(lines))
    page = out / PAGE
    write_page(page, render(lines, audio=audio), ANOTHER_FOLDER)
    written = [str(path) for path in (recording, log, page) if path is not None]
    console.print(f"Written: {', '.join(written)}")


def _record(caller: Caller, began_at: float, path: Path) -> Path | None:
    """Write the recording of a call; return its path, None where there is none."""
    try:
        write_call(path, caller.microphone, caller.loudspeaker, began_at=began_at)
    except ValueError:  # nobody said anything
        return None
    except OSError as error:
        errors().print(f"{path} can't be written: {error.strerror or error}")
        return None
    return path


def _began_at(lines: list[LogLine]) -> float:
    """Return when the log, and so the recording, begins, by the monotonic clock."""
    wall = datetime.fromisoformat(lines[0].time).timestamp() - lines[0].offset_s
    return wall - (time.time() - time.monotonic())
