"""``livekit-hydra emulator``: a local Hydra, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import errors
from .exits import Exit, stop

if TYPE_CHECKING:
    from livekit_plugins_hydra.testing import ConnectionRecord, Dial, Emulator, Observed

    from .tape import Tape

_DEFAULT_THINK_S = 0.3


def emulator(
    port: Annotated[
        int, typer.Option(help="Where to listen; 0 takes a free port.", min=0, max=65_535)
    ] = 8765,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    think: Annotated[
        float | None,
        typer.Option(help="Seconds before each answer; 0.3 without --scenario.", min=0),
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option(help="How it behaves: a .toml or .py file, see --help's end.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder for wire.jsonl and a wav file of each connection."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Don't print the conversations.")] = False,
) -> None:
    r"""Run a local Hydra that hears turns and answers with a sentence, until Ctrl-C.

    A scenario says what it answers and how it behaves: every field and switch of
    livekit_plugins_hydra.testing.Scenario. In TOML: think_s = 0.4, switches = ["late_deltas"],
    and for each answer a table \[\[replies]] with say = "words", wav = "file.wav", call =
    "function" and arguments = {...}, or pieces = [...]. In Python: scenario = Scenario(...).
    """
    from livekit_plugins_hydra.testing import Emulator, Scenario
    from livekit_plugins_hydra.testing.emulator.console import ConsoleObserver

    from .files import make_folder, require_writable, scenario_in
    from .tape import Tape

    chosen = scenario_in(scenario) or Scenario(think_s=_DEFAULT_THINK_S)
    if think is not None:
        try:
            chosen = dataclasses.replace(chosen, think_s=think)
        except ValueError as problem:
            stop(Exit.USAGE, str(problem))
    tape = None
    if record is not None:
        remedy = "Name another folder with --record."
        make_folder(record, remedy)
        tape = Tape(record, typer.echo)
        require_writable(tape.log, remedy)
    console = None if quiet else ConsoleObserver(typer.echo)

    def observe(seen: ConnectionRecord, what: Observed) -> None:
        for observer in (console, tape):
            if observer is not None:
                observer(seen, what)

    faults: list[Exception] = []

    def tell(fault: Exception) -> None:
        faults.append(fault)
        errors().print(f"The scenario fails: {_said(fault)}")

    def ended(what: Dial | ConnectionRecord) -> None:
        if console is not None:
            console.ended(what)

    server = Emulator(
        chosen,
        host=host,
        port=port,
        strict=False,
        observer=observe,
        on_fault=tell,
        on_end=ended,
    )
    try:
        asyncio.run(_serve(server, tape))
    except OSError as fault:
        stop(
            Exit.FAILED,
            f"Can't listen on {host}:{port}: {fault.strerror or fault}",
            "Another program may have the port: --port 0 takes a free one.",
        )
    except KeyboardInterrupt:
        pass  # where the loop has no signal handlers: Windows
    if faults:
        times = "once" if len(faults) == 1 else f"{len(faults)} times"
        stop(Exit.FAILED, f"The scenario failed {times}, first with {_said(faults[0])}")


def _said(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}"


async def _serve(server: Emulator, tape: Tape | None) -> None:
    from livekit_plugins_hydra.testing.emulator.console import serve_until_stopped

    if tape is None:
        await serve_until_stopped(server, typer.echo)
        return
    running = asyncio.create_task(tape.run(server))
    try:
        await serve_until_stopped(server, typer.echo)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        tape.finish()
