"""The files that commands read and write; one that can't be used ends the command."""

from __future__ import annotations

import os
from pathlib import Path

from livekit_plugins_hydra.testing import Samples, Scenario, recordings
from livekit_plugins_hydra.testing.emulator.scenario_file import ScenarioUnreadable, read_scenario

from .exits import Exit, stop


def read_audio(path: Path, *, rate_hz: int, n_channels: int = 1) -> Samples:
    """Return the audio of a file: int16 (n_samples, n_channels)."""
    try:
        return recordings.read(path, rate_hz=rate_hz, n_channels=n_channels)
    except recordings.RecordingUnreadable as problem:
        stop(Exit.USAGE, str(problem))


def scenario_in(path: Path | None, *, is_offline: bool = True) -> Scenario | None:
    """Return the scenario in a file, None without one.

    One that nobody would play ends the command, too: the server is Hydra itself, and bills.
    """
    if path is None:
        return None
    if not is_offline:
        stop(Exit.USAGE, "--scenario is what the emulator plays, so it needs --offline.")
    try:
        return read_scenario(path)
    except ScenarioUnreadable as problem:
        stop(Exit.USAGE, f"--scenario {problem}")


def make_folder(path: Path, remedy: str) -> None:
    """Make a folder where there is none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        stop(Exit.USAGE, f"{path} can't be made: {error.strerror or error}", remedy)


def require_writable(path: Path, remedy: str) -> None:
    """Look whether a file can be written, before a call that would write it; make none."""
    try:
        is_new = not os.path.lexists(path)
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        stop(Exit.USAGE, f"{path} can't be written: {error.strerror or error}", remedy)


def write_page(path: Path, page: str, remedy: str) -> None:
    """Write a page."""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        stop(Exit.USAGE, f"{path} can't be written: {error.strerror or error}", remedy)
