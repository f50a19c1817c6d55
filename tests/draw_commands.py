"""Draws what the command line prints, as the README's picture: ``python -m tests.draw_commands``.

Each command is run, with an emulated Hydra, and what it prints is shown as it is. Half a minute.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.text import Text

from .processes import TOP

PICTURE: Final = TOP / ".github" / "commands.svg"
WIDTH: Final = 114

COMMANDS: Final = (
    "livekit-hydra call --offline question.wav",
    "livekit-hydra report wire.jsonl call.wav",
    "livekit-hydra doctor --offline --quick",
    "livekit-hydra emulator",
)

_LISTENS_S: Final = 1.5
"""After so long the emulator has said all that it says before somebody connects."""

# An image loads nothing, so the font that rich asks for would never come.
_WEB_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def printed(command: str, folder: Path) -> str:
    """Return what a command prints to a terminal, colours included."""
    program, *arguments = command.split()
    process = subprocess.Popen(
        [sys.executable, "-m", "livekit_plugins_hydra", *arguments],
        cwd=folder,
        env=os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "PYTHONPATH": str(TOP)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=_LISTENS_S if "emulator" in arguments else None)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert process.returncode == 0, f"{program}: {output}"
    return output.rstrip()


def draw() -> str:
    """Return the picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with TemporaryDirectory() as folder:
        speech = TOP / "examples" / "speech" / "user-question.wav"
        shutil.copy(speech, Path(folder, "question.wav"))
        for command in COMMANDS:
            console.print(Text(f"$ {command}", style="bold"))
            console.print(Text.from_ansi(printed(command, Path(folder))))
            if command != COMMANDS[-1]:
                console.print()
    svg = console.export_svg(title="livekit-hydra", unique_id="commands")
    return _WEB_FONTS.sub("", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas")


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
