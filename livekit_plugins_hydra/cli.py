"""``livekit-hydra``: the command line. One function for each command, its work elsewhere."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from .emulator import Emulator, Scenario
from .emulator.console import ConsoleObserver, serve_until_stopped

app = typer.Typer(
    name="livekit-hydra",
    help="Tools around Hydra, Smallest AI's speech-to-speech model, for LiveKit Agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    # With a callback, typer keeps the commands' names even while there is only one.
    pass


@app.command()
def emulator(
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes a free port.")] = 8765,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    think: Annotated[float, typer.Option(help="Seconds before each answer.", min=0)] = 0.3,
    quiet: Annotated[bool, typer.Option("--quiet", help="Don't print the conversations.")] = False,
) -> None:
    """Run a local Hydra that hears turns and answers with a tone, until Ctrl-C."""
    observer = None if quiet else ConsoleObserver(typer.echo)
    server = Emulator(
        Scenario(think_s=think), host=host, port=port, strict=False, observer=observer
    )
    try:
        asyncio.run(serve_until_stopped(server, typer.echo))
    except OSError as fault:
        typer.echo(f"Can't listen on {host}:{port}: {fault.strerror or fault}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        pass  # where the loop has no signal handlers: Windows


def main() -> None:
    """Run the command line."""
    app()
