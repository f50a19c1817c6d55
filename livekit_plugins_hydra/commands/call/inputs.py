"""What a call needs before it begins: recordings, function tools, a folder for its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from livekit.agents import llm

from livekit_plugins_hydra.commands.calling import RATE_HZ, Recording
from livekit_plugins_hydra.commands.exits import Exit, stop
from livekit_plugins_hydra.commands.files import make_folder, read_audio, require_writable
from livekit_plugins_hydra.commands.functions import FunctionUnusable, load_all


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


LOG: Final = "wire.jsonl"
RECORDING: Final = "call.wav"
PAGE: Final = "report.html"

ANOTHER_FOLDER: Final = "Name another folder with --out."


def make_room(out: Path, files: Sequence[Path]) -> None:
    """Make the folder, or end the command where something is in the way of its files."""
    make_folder(out, ANOTHER_FOLDER)
    for name in (LOG, RECORDING, PAGE):
        require_writable(out / name, ANOTHER_FOLDER)
    recording = out / RECORDING
    for path in files:
        if recording.exists() and path.samefile(recording):
            stop(
                Exit.USAGE,
                f"{path} would be overwritten by the recording of the call.",
                ANOTHER_FOLDER,
            )
