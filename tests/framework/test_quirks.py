"""What is said of LiveKit's code, and of ours, is there to be read, and is true."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from livekit import agents, rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.llm import RealtimeModelFallbackAdapter

import livekit_plugins_hydra
from livekit_plugins_hydra.framework import quirks
from livekit_plugins_hydra.testing import Emulator, Say, Scenario
from tests.calls import KEY, call, tone
from tests.direct import line

YES = Say(duration_s=0.3, tone_hz=500)

OURS = Path(livekit_plugins_hydra.__file__).parent
LIVEKIT = [Path(agents.__file__).parent, Path(rtc.__file__).parent]
TEXT = re.sub(r"\s+", " ", Path(quirks.__file__).read_text())


@pytest.mark.parametrize(
    ("file", "name"), sorted(set(re.findall(r"Source: `([\w/]+\.py)`[^,]*, `(\w+)`", TEXT)))
)
def test_the_source_of_a_quirk_is_there(file: str, name: str) -> None:
    """A new version of LiveKit's that moves what we work around makes this fail: read it again."""
    paths = [folder / file for folder in LIVEKIT if (folder / file).exists()]

    assert paths
    assert name in names_in(paths[0])


@pytest.mark.parametrize(
    ("module", "name"), sorted(set(re.findall(r"Here: `([\w/]+)`, `(\w+)`", TEXT)))
)
def test_a_quirk_is_met_where_it_is_said_to_be(module: str, name: str) -> None:
    """The table of quirks names what there is."""
    assert name in names_in(OURS / f"{module}.py")


# ------------------------------------------------------------------------ the session of a call


@pytest.mark.parametrize("n_adapters", [0, 1, 2])
async def test_a_call_knows_the_session_that_it_serves(n_adapters: int) -> None:
    """Also behind the fallback adapter, and behind two of them; an ended call serves none."""
    made: list[livekit_plugins_hydra.RealtimeSession] = []

    class Model(livekit_plugins_hydra.RealtimeModel):
        def session(self, **options: Any) -> livekit_plugins_hydra.RealtimeSession:
            made.append(super().session(**options))
            return made[-1]

    async with Emulator(Scenario()) as server:
        model: agents.llm.RealtimeModel = Model(api_key=KEY, base_url=server.url)
        for _ in range(n_adapters):
            model = RealtimeModelFallbackAdapter([model])
        async with call(Scenario(), Agent(instructions=""), model=model) as desk:
            assert quirks.agent_session(made[0]) is desk.session
        assert quirks.agent_session(made[0]) is None


async def test_a_call_without_an_agent_serves_no_session() -> None:
    """Whoever drives a session directly listens to it, too."""
    async with line() as opened:
        assert quirks.agent_session(opened.session) is None


async def test_a_second_session_is_heard_while_nobody_hears_the_first() -> None:
    """Two calls of one job: each waits for the audience of its own room, and for no other."""
    rooms: dict[Any, Any] = {}

    def room_of(session: AgentSession[Any]) -> Any:
        if session not in rooms:
            subscribed = asyncio.get_running_loop().create_future()
            rooms[session] = SimpleNamespace(
                audio_output=session.output.audio, subscribed_fut=subscribed
            )
        return rooms[session]

    scenario = Scenario(default_reply=YES, silence_ms=200)
    with patch.object(AgentSession, "room_io", property(room_of)):
        async with (
            call(scenario, Agent(instructions="")) as first,
            call(scenario, Agent(instructions="")) as second,
        ):
            room_of(second.session).subscribed_fut.set_result(None)
            await first.say(tone(0.4))
            await second.say(tone(0.4))
            await second.until_heard(1)
            await asyncio.sleep(5.0)
            assert first.heard_s == []

            room_of(first.session).subscribed_fut.set_result(None)
            await first.until_heard(1)


def names_in(path: Path) -> set[str]:
    """Return what a module defines or mentions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
    return found
