"""Where commands print: what files, functions and servers say is text, and never markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def output(*, soft_wrap: bool = True) -> Console:
    """Return where results are printed.

    Args:
        soft_wrap: leaves it to the terminal to wrap lines.
    """
    return _console(stderr=False, soft_wrap=soft_wrap)


def errors() -> Console:
    """Return where errors are printed."""
    return _console(stderr=True, soft_wrap=True)


def _console(*, stderr: bool, soft_wrap: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)
