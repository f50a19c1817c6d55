"""The command: its options, and what it does with them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer

from livekit_plugins_hydra.commands import flags
from livekit_plugins_hydra.commands.console import output


def doctor(
    model: flags.Model = "",
    voice: flags.Voice = "",
    base_url: flags.BaseUrl = "",
    header: flags.Header = False,
    offline: flags.Offline = False,
    scenario: flags.OfflineScenario = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Stop after the handshake: one connection.")
    ] = False,
    question_file: Annotated[
        Path | None,
        typer.Option("--question", help="What is asked: a recording that asks for the weather."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for programs and for issues.")
    ] = False,
    wire_log: Annotated[
        Path | None,
        typer.Option(help="Write each frame to this file, as calls do.", envvar="HYDRA_WIRE_LOG"),
    ] = None,
) -> None:
    """Check everything between this machine and a spoken answer, and what the protocol leaves open.

    Python, versions and key; DNS, TCP, TLS and handshake with their times; model, voice and output
    rate; the questions that the pages leave open, asked of this server; a call of one turn. It
    makes at most eight connections, one after the other, of about a session minute in all, which
    Hydra bills; --quick makes one. What it prints is worth pasting into an issue: there is no key
    and no private text in it.
    """
    from livekit_plugins_hydra.commands.calling import RATE_HZ
    from livekit_plugins_hydra.commands.files import read_audio, require_writable, scenario_in
    from livekit_plugins_hydra.commands.target import Target

    from . import verdict
    from .examination import question
    from .running import run

    logging.basicConfig(format="log: %(message)s", level=logging.ERROR)
    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    behaviour = scenario_in(scenario, is_offline=offline)
    if question_file is None:
        asked = question()
    else:
        asked = read_audio(question_file, rate_hz=RATE_HZ).tobytes()
    if wire_log is not None:
        require_writable(wire_log, "Name another file with --wire-log.")
    examination, options = asyncio.run(
        run(
            Target(model, voice, base_url, header, offline),
            behaviour,
            is_quick=quick,
            question=asked,
            wire_log=wire_log,
            is_quiet=as_json,
        )
    )
    code = verdict.exit_code(examination)
    if as_json:
        typer.echo(verdict.as_json(examination, options, code, is_offline=offline))
    else:
        verdict.print_findings(output(soft_wrap=False), examination)
    raise typer.Exit(code)
