"""``livekit-hydra``: the command line. Each command is a module beside this one."""

from __future__ import annotations

import io
import sys

import typer

from .call import call
from .doctor import doctor
from .emulator import emulator
from .exits import EPILOG
from .report import report

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
