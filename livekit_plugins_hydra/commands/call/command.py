"""The command: its options, and what it does with them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from livekit_plugins_hydra.commands import flags
from livekit_plugins_hydra.commands.exits import Exit, stop

if TYPE_CHECKING:
    from livekit_plugins_hydra.commands.calling import Failing

INSTRUCTIONS: Final = (
    "You are a friendly voice assistant on the phone. Answer in one or two short sentences."
)

_CODES: Final[dict[Failing, Exit]] = {
    "key": Exit.NO_KEY,
    "option": Exit.USAGE,
    "connection": Exit.NO_CONNECTION,
    "call": Exit.FAILED,
}
"""The exit code for each kind of failure."""


def call(
    files: Annotated[
        list[Path],
        typer.Argument(help="What the user says, a turn each: wav, flac, ogg, mp3.", exists=False),
    ],
    instructions: Annotated[str, typer.Option(help="What the agent is told to be.")] = INSTRUCTIONS,
    model: flags.Model = "",
    voice: flags.Voice = "",
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
    ] = flags.PATIENCE_S,
    out: Annotated[
        Path, typer.Option(help="Folder for call.wav, wire.jsonl and report.html.")
    ] = Path(),
    offline: flags.Offline = False,
    scenario: flags.OfflineScenario = None,
    base_url: flags.BaseUrl = "",
    header: flags.Header = False,
) -> None:
    """Hold a call with recorded speech as the user, measure it, and show it as files.

    The files are played at real time through a real AgentSession. What happens is printed, and what
    both sides say as far as there is text of it. Files that are written:
    call.wav (user left, agent right), wire.jsonl (every frame, without the audio), report.html.

    Example: livekit-hydra call --offline question.wav
    """
    from livekit.agents import Agent

    from livekit_plugins_hydra.commands.files import scenario_in
    from livekit_plugins_hydra.commands.offline import SCENARIO
    from livekit_plugins_hydra.commands.target import Target

    from .holding import hold
    from .inputs import load_tools, make_room, said_in_turn

    said = said_in_turn(files, turns, barge_in)
    functions = load_tools(tools or [])
    behaviour = scenario_in(scenario, is_offline=offline) or SCENARIO
    target = Target(model, voice, base_url, header, offline)
    target.require_key()
    make_room(out, files)
    logging.basicConfig(format="        log    %(message)s", level=logging.WARNING)
    # LiveKit warns that this loudspeaker can't pause, and of each message without a text.
    logging.getLogger("livekit.agents").setLevel(logging.ERROR)
    agent = Agent(instructions=instructions, tools=functions)
    failure = asyncio.run(
        hold(agent, said, target, behaviour, barge_in=barge_in, patience=patience, out=out)
    )
    if failure is not None:
        stop(_CODES[failure.kind], f"The call has failed: {failure}", failure.remedy)
