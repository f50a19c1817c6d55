"""What a call needs before it begins: recordings, function tools, a folder for its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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


def make_room(out: Path, files: Sequence[Path]) -> None:
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
