"""How commands end: exit codes, and errors that name the remedy."""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

import typer

from .console import errors


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    FAILED = 1
    """The command ran, and what it looked at is not as it should be."""
    USAGE = 2
    """Options, files or functions that can't be used; a voice that the server refuses, too."""
    NO_KEY = 3
    """There is no key, or the server refused it."""
    NO_CONNECTION = 4
    """The server could not be reached, or has no room."""
    INTERRUPTED = 130
    """Ctrl-C; what is known by then is printed."""


EPILOG = (
    "Exit codes: 0 all is well; 1 it ran, and something is not as it should be; 2 options or"
    " files that can't be used, or a voice that was refused; 3 no key, or one that was refused;"
    " 4 no connection; 130 interrupted with Ctrl-C."
)
"""For `--help`."""


def stop(code: Exit, what: str, remedy: str = "") -> NoReturn:
    """End the command with a sentence, and one about what to do.

    Raises:
        typer.Exit: always.
    """
    console = errors()
    console.print(what, style="bold red")
    if remedy:
        console.print(remedy)
    raise typer.Exit(code)
