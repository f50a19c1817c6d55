"""The command: options, progress, the table, and the JSON for programs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import typer
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, Agent
from livekit.agents.types import NOT_GIVEN
from rich.console import Console
from rich.table import Table
from rich.text import Text

from livekit_plugins_hydra import __version__
from livekit_plugins_hydra.commands import server
from livekit_plugins_hydra.commands.calling import RATE_HZ, Caller, CallFailed, Recording
from livekit_plugins_hydra.commands.exits import Exit, errors, require_writable, stop
from livekit_plugins_hydra.commands.scenarios import scenario_option
from livekit_plugins_hydra.options import (
    Options,
    resolve_auth,
    resolve_key,
    resolve_url,
    resolve_voice,
)
from livekit_plugins_hydra.protocol.errors import ConfigurationError
from livekit_plugins_hydra.testing import Call, Context, Emulator, Reply, Say, Scenario, recordings

from . import machine, network
from .examination import MAX_CONNECTIONS, Examination, examine, question
from .findings import Finding, Status
from .observed import LiveKitTurn

_MARKS: Final[dict[Status, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "note": ("•", "cyan"),
    "warn": ("!", "yellow"),
    "fail": ("✗", "bold red"),
    "skip": ("-", "dim"),
}

_GROUPS: Final = {
    "machine": "This machine",
    "network": "The way there",
    "session": "The session",
    "protocol": "Open questions of the protocol",
    "call": "A call",
}


def doctor(
    model: server.Model = "",
    voice: server.Voice = "",
    base_url: server.BaseUrl = "",
    header: server.Header = False,
    offline: server.Offline = False,
    scenario: Annotated[
        Path | None, typer.Option(help="With --offline: how the emulator behaves, .toml or .py.")
    ] = None,
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
        Path | None, typer.Option(help="Write each frame to this file, as calls do.")
    ] = None,
) -> None:
    """Check everything between this machine and a spoken answer, and what the protocol leaves open.

    Python, versions and key; DNS, TCP, TLS and handshake with their times; model, voice and output
    rate; the questions that the pages leave open, asked of this server; a call of one turn. It
    makes at most eight connections, one after the other, of about a session minute in all, which
    Hydra bills; --quick makes one. What it prints is worth pasting into an issue: there is no key
    and no private text in it.
    """
    logging.basicConfig(format="log: %(message)s", level=logging.ERROR)
    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    behaviour = scenario_option(scenario, is_offline=offline)
    audio = _audio_of(question_file)
    if wire_log is not None:
        require_writable(wire_log, "Name another file with --wire-log.")
    examination, options = asyncio.run(
        _run(
            model=model,
            voice=voice,
            base_url=base_url,
            header=header,
            offline=offline,
            scenario=behaviour,
            quick=quick,
            audio=audio,
            wire_log=wire_log,
            quiet=as_json,
        )
    )
    code = exit_code(examination)
    if as_json:
        typer.echo(_as_json(examination, options, code, is_offline=offline))
    else:
        console = Console(highlight=False)
        print_findings(console, examination)
    raise typer.Exit(code)


def _audio_of(path: Path | None) -> bytes:
    if path is None:
        return question()
    try:
        return recordings.read(path, rate_hz=RATE_HZ).tobytes()
    except recordings.RecordingUnreadable as problem:
        stop(Exit.USAGE, str(problem))


async def _run(
    *,
    model: str,
    voice: str,
    base_url: str,
    header: bool,
    offline: bool,
    scenario: Scenario | None,
    quick: bool,
    audio: bytes,
    wire_log: Path | None,
    quiet: bool,
) -> tuple[Examination, Options]:
    behaviour = scenario or Scenario(replies=_answer, think_s=0.2)
    async with server.emulated(behaviour, is_offline=offline) as emulator:
        options = _options(emulator, model, voice, base_url, header, wire_log)
        found = Examination()
        found.add(machine.python(), machine.packages(), machine.key(is_offline=offline))
        found.add(machine.settings(options))
        if not offline and found.failed("key_present"):
            found.add(*await network.look_at(network.Address.of(options.base_url)))
            return found, options

        async def one_turn() -> LiveKitTurn:
            return await hold_one_turn(emulator, options, audio, header=header, wire_log=wire_log)

        console = errors()
        status: AbstractContextManager[Any] = nullcontext()
        if not quiet and console.is_terminal:
            status = console.status("Looking")

        def progress(what: str) -> None:
            if hasattr(status, "update"):
                status.update(f"Looking at {what}")

        with status:
            examined = await examine(
                options,
                one_turn=one_turn,
                is_quick=quick,
                progress=progress,
                audio=audio,
            )
        examined.findings = [*found.findings, *examined.findings]
        return examined, options


def _options(
    emulator: Emulator | None,
    model: str,
    voice: str,
    base_url: str,
    header: bool,
    wire_log: Path | None,
) -> Options:
    try:
        tag, name = resolve_voice(model or NOT_GIVEN, voice or NOT_GIVEN)
        url = resolve_url(emulator.url if emulator else base_url or None)
        auth = resolve_auth("header" if header else "query")
    except ConfigurationError as problem:
        stop(Exit.USAGE, str(problem))
    try:
        key = server.OFFLINE_KEY if emulator else resolve_key(None)
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


async def hold_one_turn(
    emulator: Emulator | None,
    options: Options,
    audio: bytes,
    *,
    header: bool,
    wire_log: Path | None,
) -> LiveKitTurn:
    """Hold a call of one turn through a real `AgentSession`."""
    model = server.model_of(
        emulator,
        model=options.model,
        voice=options.voice,
        base_url=options.base_url,
        header=header,
        wire_log=None if wire_log is None else os.fspath(wire_log),
    )
    agent = Agent(instructions="You are friendly. Answer in one short sentence.")
    caller = Caller(model, agent, lambda at_s, who, what: None)
    recording = Recording(Path("question"), np.frombuffer(audio, dtype=np.int16))
    try:
        await caller.hold([recording], barge_in_s=None)
    except (CallFailed, TimeoutError) as problem:
        what = str(problem) or "Hydra was not ready in time."
        remedy = getattr(problem, "remedy", "") or "Run it again with --wire-log wire.jsonl."
        return LiveKitTurn(failure=what, remedy=remedy)
    played = caller.loudspeaker.heard
    return LiveKitTurn(
        waited_s=played[0].started_at - caller.microphone.ended_at,
        answer_s=sum(playout.duration_s for playout in played),
    )


# ------------------------------------------------------------------------- what is printed


def exit_code(examination: Examination) -> Exit:
    """Return the exit code that says what is wrong."""
    if examination.failed("key_present") or examination.failed("auth"):
        return Exit.NO_KEY
    if any(examination.failed(name) for name in ("dns", "tcp", "tls", "connection")):
        return Exit.NO_CONNECTION
    is_well = all(each.status != "fail" for each in examination.findings)
    return Exit.OK if is_well else Exit.FAILED


def print_findings(console: Console, examination: Examination) -> None:
    """Print the table: a mark and an answer for each finding, and the remedy under it."""
    for group, heading in _GROUPS.items():
        found = [each for each in examination.findings if each.group == group]
        if not found:
            continue
        console.print(f"[bold]{heading}[/]")
        console.print(_table(found))
        console.print()
    counts = dict.fromkeys(_MARKS, 0)
    for each in examination.findings:
        counts[each.status] += 1
    console.print(
        f"{counts['ok']} good, {counts['note']} answers to open questions,"
        f" {counts['warn']} warnings, {counts['fail']} failures."
    )
    if examination.ledger.n_connections:
        console.print(f"This took {examination.ledger.sentence}; at most {MAX_CONNECTIONS}.")


def _table(found: Iterable[Finding]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(width=34, no_wrap=True)
    table.add_column(overflow="fold")
    for each in found:
        mark, color = _MARKS[each.status]
        answer = Text(each.answer, style="dim" if each.status == "skip" else "")
        if each.remedy:
            answer.append(f"\n→ {each.remedy}", style="yellow" if each.status != "note" else "dim")
        if each.known and each.status == "note":
            answer.append(f"\n  known: {each.known}", style="dim")
        table.add_row(Text(mark, style=color), each.title, answer)
    return table


def _as_json(examination: Examination, options: Options, code: Exit, *, is_offline: bool) -> str:
    address = network.Address.of(options.base_url)
    document = {
        "plugin": __version__,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "server": "emulated" if is_offline else f"{address.host}:{address.port}",
        "model": options.model,
        "voice": options.voice,
        "auth": options.auth,
        "exit_code": int(code),
        "connections": examination.ledger.n_connections,
        "connected_s": round(examination.ledger.connected_s, 1),
        "findings": [asdict(each) for each in examination.findings],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
