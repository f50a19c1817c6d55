"""``livekit-hydra``: the command line. Each command is a module or a folder beside this one.

What a command works with is imported when it runs: ``--help`` needs none of it.
"""

from __future__ import annotations

import io
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from livekit_plugins_hydra import __version__

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


def _print_versions(is_wanted: bool) -> None:
    if is_wanted:
        agents = version("livekit-agents")
        typer.echo(f"livekit-plugins-hydra {__version__}, livekit-agents {agents}")
        raise typer.Exit


@app.callback()
def _options(
    versions: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_versions, is_eager=True, help="Print the versions and end."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a code page without a check mark
    app()
