"""Holds a call, prints it as it goes, and keeps what is left of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from livekit.agents import Agent
from rich.console import Console
from rich.text import Text

from livekit_plugins_hydra.commands.calling import Caller, CallFailed, Recording
from livekit_plugins_hydra.commands.console import output
from livekit_plugins_hydra.commands.target import Target
from livekit_plugins_hydra.testing import Scenario

from .inputs import LOG
from .results import keep

_COLORS: Final = {"user": "cyan", "agent": "magenta", "tool": "yellow", "hydra": "dim"}


async def hold(
    agent: Agent,
    said: list[Recording],
    target: Target,
    scenario: Scenario,
    *,
    barge_in: float | None,
    patience: float,
    out: Path,
) -> CallFailed | None:
    """Hold the call and write its files; return how it failed, if it did."""
    console = output()
    failure: CallFailed | None = None
    async with target.emulated(scenario) as emulator:
        if emulator is not None:
            console.print(
                "Hydra is emulated here: what it answers and how fast says nothing of the real one."
            )
        caller = Caller(
            target.realtime_model(emulator, out / LOG),
            agent,
            lambda at_s, who, what: _print(console, at_s, who, what),
            patience_s=patience,
        )
        try:
            await caller.hold(said, barge_in_s=barge_in)
        except CallFailed as problem:
            failure = problem
        except TimeoutError:
            failure = CallFailed("Hydra was not ready in time.", kind="connection")
        except asyncio.CancelledError:  # Ctrl-C
            keep(console, caller, out)
            raise
    keep(console, caller, out)
    return failure


def _print(console: Console, at_s: float, who: str, what: str) -> None:
    color = _COLORS.get(who, "default")
    console.print(Text.assemble((f"{at_s:7.2f}", "dim"), "  ", (f"{who:<6}", color), f" {what}"))
