"""Runs an examination from this machine: of a server, or of the emulator beside it."""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.types import NOT_GIVEN

from livekit_plugins_hydra.commands.console import errors
from livekit_plugins_hydra.commands.exits import Exit, stop
from livekit_plugins_hydra.commands.target import OFFLINE_KEY, Target
from livekit_plugins_hydra.options import (
    Options,
    resolve_auth,
    resolve_key,
    resolve_url,
    resolve_voice,
)
from livekit_plugins_hydra.protocol.errors import ConfigurationError
from livekit_plugins_hydra.testing import Call, Context, Emulator, Reply, Say, Scenario

from . import machine
from .examination import Examination, examine
from .observed import LiveKitTurn
from .one_turn import hold_one_turn


async def run(
    target: Target,
    scenario: Scenario | None,
    *,
    is_quick: bool,
    question: bytes,
    wire_log: Path | None,
    is_quiet: bool,
) -> tuple[Examination, Options]:
    """Look at this machine and at a server; return what was found, and with which options.

    Args:
        target: the server.
        scenario: how it behaves, where it is emulated; None is as the pages say.
        is_quick: ends after the handshake.
        question: what is asked, int16 mono 16 kHz.
        wire_log: a file for the frames.
        is_quiet: shows no progress.
    """
    behaviour = scenario or Scenario(replies=_answer, think_s=0.2)
    async with target.emulated(behaviour) as emulator:
        options = _options(target, emulator, wire_log)
        found = Examination()
        found.add(machine.python(), machine.packages(), machine.key(is_offline=target.is_offline))
        found.add(machine.settings(options))

        async def one_turn() -> LiveKitTurn:
            return await hold_one_turn(target, emulator, question, wire_log)

        console = errors()
        status: AbstractContextManager[Any] = nullcontext()
        if not is_quiet and console.is_terminal:
            status = console.status("Looking")

        def progress(what: str) -> None:
            if hasattr(status, "update"):
                status.update(f"Looking at {what}")

        try:
            with status:
                if not target.is_offline and found.failed("key_present"):
                    await found.look_at_network(options)
                else:
                    await examine(
                        options,
                        found=found,
                        one_turn=one_turn,
                        is_quick=is_quick,
                        progress=progress,
                        audio=question,
                    )
        except asyncio.CancelledError:  # Ctrl-C: what is known by now is worth printing
            found.interrupted()
        return found, options


def _options(target: Target, emulator: Emulator | None, wire_log: Path | None) -> Options:
    try:
        tag, name = resolve_voice(target.model or NOT_GIVEN, target.voice or NOT_GIVEN)
        url = resolve_url(emulator.url if emulator else target.base_url or None)
        auth = resolve_auth("header" if target.header else "query")
    except ConfigurationError as problem:
        stop(Exit.USAGE, str(problem))
    try:
        key = OFFLINE_KEY if emulator else resolve_key(None)
    except ConfigurationError:
        key = ""  # said as a finding; no connection is made
    return Options(
        model=tag,
        voice=name,
        api_key=key,
        base_url=url,
        auth=auth,
        generate_initial_response=False,
        input_stt=None,
        output_stt=None,
        resume_false_interruption=False,
        conn_options=DEFAULT_API_CONNECT_OPTIONS,
        wire_log=None if wire_log is None else os.fspath(wire_log),
    )


def _answer(context: Context) -> Reply:
    """Do what the doctor asks for: what the emulator answers offline."""
    if context.trigger == "user_turn" and context.tools:
        return Call(context.tools[0].name, {"city": "Lisbon"})
    return Say(duration_s=0.8, tone_hz=330, text="Banana.")
