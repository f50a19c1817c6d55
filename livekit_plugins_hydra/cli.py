"""``livekit-hydra``: the command line. Each command is a module of `commands`."""

from __future__ import annotations

import io
import sys

import typer

from .commands.call import call
from .commands.doctor import doctor
from .commands.emulator import emulator
from .commands.exits import EPILOG
from .commands.report import report

app = typer.Typer(
    name="livekit-hydra",
    help="Tools around Hydra, Smallest AI's speech-to-speech model, for LiveKit Agents.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for _command in (call, report, doctor, emulator):
    app.command(epilog=EPILOG)(_command)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a code page without a check mark
    app()
