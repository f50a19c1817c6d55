"""``livekit-hydra call``: recorded speech through a real `AgentSession`, and what came of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from livekit.agents import Agent, llm
from rich.console import Console
from rich.table import Table

from livekit_plugins_hydra.report import (
    Exchange,
    LogUnreadable,
    Timeline,
    calls_in,
    read,
    render,
    timeline_of,
)
from livekit_plugins_hydra.report.lines import LogLine
from livekit_plugins_hydra.report.page import AUDIO_RATE_HZ
from livekit_plugins_hydra.testing import Scenario, recordings, write_call

from . import server
from .calling import PATIENCE_S, RATE_HZ, Caller, CallFailed, Recording
from .exits import Exit, errors, require_writable, stop
from .functions import FunctionUnusable, load_all
from .report import write
from .scenarios import scenario_option

INSTRUCTIONS: Final = (
    "You are a friendly voice assistant on the phone. Answer in one or two short sentences."
)

_COLORS: Final = {"user": "cyan", "agent": "magenta", "tool": "yellow", "hydra": "dim"}


def call(
    files: Annotated[
        list[Path],
        typer.Argument(help="What the user says, a turn each: wav, flac, ogg, mp3.", exists=False),
    ],
    instructions: Annotated[str, typer.Option(help="What the agent is told to be.")] = INSTRUCTIONS,
    model: server.Model = "",
    voice: server.Voice = "",
    tools: Annotated[
        list[str] | None,
        typer.Option(help="A function tool, module:function or file.py:function; may repeat."),
    ] = None,
    barge_in: Annotated[
        float | None,
        typer.Option(help="Speak again after so many SECONDS of each answer.", min=0.0),
    ] = None,
    turns: Annotated[
        int | None,
        typer.Option(help="How many turns; the files are said again and again.", min=1),
    ] = None,
    patience: Annotated[
        float, typer.Option(help="How many seconds to wait for an answer.", min=0.1)
    ] = PATIENCE_S,
    out: Annotated[
        Path, typer.Option(help="Folder for call.wav, wire.jsonl and report.html.")
    ] = Path(),
    offline: server.Offline = False,
    scenario: Annotated[
        Path | None, typer.Option(help="With --offline: how the emulator behaves, .toml or .py.")
    ] = None,
    base_url: server.BaseUrl = "",
    header: server.Header = False,
) -> None:
    """Hold a call with recorded speech as the user, measure it, and show it as files.

    The files are played at real time through a real AgentSession. Files that are written:
    call.wav (user left, agent right), wire.jsonl (every frame, without the audio), report.html.

    Example: livekit-hydra call --offline question.wav
    """
    said = _say_in_turn(files, turns, barge_in)
    functions = _load(tools or [])
    behaviour = scenario_option(scenario, is_offline=offline)
    server.require_key(is_offline=offline)
    _prepare(out, files)
    logging.basicConfig(format="        log    %(message)s", level=logging.WARNING)
    # LiveKit warns that this loudspeaker can't pause, and of each message without a text.
    logging.getLogger("livekit.agents").setLevel(logging.ERROR)
    agent = Agent(instructions=instructions, tools=functions)
    failure = asyncio.run(
        _hold(
            agent,
            said,
            barge_in=barge_in,
            patience=patience,
            out=out,
            offline=offline,
            scenario=behaviour,
            model=model,
            voice=voice,
            base_url=base_url,
            header=header,
        )
    )
    if failure is not None:
        code = {"key": Exit.NO_KEY, "connection": Exit.NO_CONNECTION}.get(failure.kind, Exit.FAILED)
        stop(code, f"The call has failed: {failure}", failure.remedy)


def _say_in_turn(
    files: Sequence[Path], turns: int | None, barge_in: float | None
) -> list[Recording]:
    """Return what the user says; one file and a barge-in are two turns."""
    recorded: list[Recording] = []
    for path in files:
        try:
            samples = recordings.read(path, rate_hz=RATE_HZ)[:, 0]
        except recordings.RecordingUnreadable as problem:
            stop(Exit.USAGE, str(problem))
        recorded.append(Recording(path, samples))
    default = max(len(recorded), 2) if barge_in is not None else len(recorded)
    return [recorded[number % len(recorded)] for number in range(turns or default)]


def _load(specs: Sequence[str]) -> list[llm.Tool | llm.Toolset]:
    try:
        return [*load_all(specs)]
    except FunctionUnusable as problem:
        stop(Exit.USAGE, str(problem))


def _prepare(out: Path, files: Sequence[Path]) -> None:
    """Make the folder, or end the command where something is in the way."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        stop(
            Exit.USAGE,
            f"{out} can't be made: {error.strerror or error}",
            "Name another folder with --out.",
        )
    require_writable(out / "wire.jsonl", "Name another folder with --out.")
    recording = out / "call.wav"
    for path in files:
        if recording.exists() and path.samefile(recording):
            stop(
                Exit.USAGE,
                f"{path} would be overwritten by the recording of the call.",
                "Name another folder with --out.",
            )


async def _hold(
    agent: Agent,
    said: list[Recording],
    *,
    barge_in: float | None,
    patience: float,
    out: Path,
    offline: bool,
    scenario: Scenario | None,
    model: str,
    voice: str,
    base_url: str,
    header: bool,
) -> CallFailed | None:
    """Hold the call and write its files; return how it failed, if it did."""
    console = Console(soft_wrap=True, highlight=False)
    log = out / "wire.jsonl"
    failure: CallFailed | None = None
    async with server.emulated(scenario, is_offline=offline) as emulator:
        if emulator is not None:
            console.print(
                "Hydra is emulated here: what it answers and how fast says nothing of the real one."
            )
        realtime = server.model_of(
            emulator,
            model=model,
            voice=voice,
            base_url=base_url,
            header=header,
            wire_log=str(log),
        )
        caller = Caller(
            realtime,
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
            _write_files(console, caller, log, out)
            raise
    _write_files(console, caller, log, out)
    return failure


def _print(console: Console, at_s: float, who: str, what: str) -> None:
    from rich.markup import escape

    color = _COLORS.get(who, "default")
    console.print(f"[dim]{at_s:7.2f}[/]  [{color}]{who:<6}[/] {escape(what)}")


# ------------------------------------------------------------------------- what is left of it


def _write_files(console: Console, caller: Caller, log: Path, out: Path) -> None:
    try:
        calls = calls_in(read(log)).values()
    except LogUnreadable as problem:  # there was no connection, or the log has warned
        errors().print(f"There is no report of this call: {problem}", markup=False)
        return
    # Earlier calls may stand in the log, and one that began meanwhile.
    lines = next((lines for lines in calls if _began_at(lines) >= caller.began_at), None)
    if lines is None:
        return
    recording = out / "call.wav"
    try:
        write_call(recording, caller.microphone, caller.loudspeaker, began_at=_began_at(lines))
    except ValueError:  # nobody said anything
        recording = None  # type: ignore[assignment]
    except OSError as error:
        errors().print(f"{recording} can't be written: {error.strerror or error}", markup=False)
        recording = None  # type: ignore[assignment]
    audio = None
    if recording is not None:
        audio = recordings.read(recording, rate_hz=AUDIO_RATE_HZ, n_channels=2)
    page = out / "report.html"
    write(page, render(lines, audio=audio))
    print_latencies(console, timeline_of(lines))
    written = [path for path in (recording, log, page) if path is not None]
    console.print(f"Written: {', '.join(str(path) for path in written)}", markup=False)


def _began_at(lines: list[LogLine]) -> float:
    """Return when the log, and so the recording, begins, by the monotonic clock."""
    wall = datetime.fromisoformat(lines[0].time).timestamp() - lines[0].offset_s
    return wall - (time.time() - time.monotonic())


def print_latencies(console: Console, timeline: Timeline) -> None:
    """Print the latencies of a call as a table."""
    table = Table(box=None, pad_edge=False, header_style="dim", title=None)
    for name in ("at", "turn", "voice to voice", "detection", "thinking", "tools", "first audio"):
        table.add_column(name, justify="left" if name == "turn" else "right")
    for exchange in timeline.exchanges:
        spent: dict[str, float] = {}
        for name, seconds in exchange.segments:
            spent[name] = spent.get(name, 0.0) + seconds
        names = ("turn detection", "thinking", "tools", "first audio")
        table.add_row(
            f"{exchange.begin_s:.1f}\N{NO-BREAK SPACE}s",
            _describe(exchange),
            f"[bold]{_in_ms(exchange.voice_to_voice_s)}[/]",
            *(_in_ms(spent.get(name)) for name in names),
        )
    console.print()
    console.print(table)
    summary = timeline.summary()
    figures = []
    if summary["plain"]["count"]:
        figures.append(f"median without tools {_in_ms(summary['plain']['median_s'])}")
    if summary["tools"]["count"]:
        figures.append(f"mean with tools {_in_ms(summary['tools']['mean_s'])}")
    console.print(
        "Voice to voice: from the end of the user's speech to the first audio of the answer"
        f"{'; ' if figures else ''}{', '.join(figures)}."
    )
    console.print()


def _describe(exchange: Exchange) -> str:
    if exchange.kind != "speech":
        return "greeting" if exchange.kind == "greeting" else "asked for"
    if exchange.is_discarded:
        return "discarded"
    names = ", ".join(name for each in exchange.tools for name in each.names)
    kind = "barge-in" if exchange.is_barge_in else "user"
    return f"{kind}, {names}" if names else kind


def _in_ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.0f}\N{NO-BREAK SPACE}ms"
