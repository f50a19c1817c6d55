"""The examples, each as the process that a user starts."""

from __future__ import annotations

import asyncio
import socket
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import soxr

from livekit_plugins_hydra.testing import Call, Context, Emulator, Reply, Samples, Say, Scenario

from .lk import CONSOLE, RATE_HZ, Console, Registry
from .processes import TOP, python, python_running

PATIENCE_S = 60.0
"""How long a process may take for anything; far more than it does on a slow machine."""

HEALTH_PORT = 8081
"""Where a worker that was begun with ``start`` answers health checks."""


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def recording(name: str) -> Samples:
    """Return recorded speech at the rate of the console."""
    with wave.open(str(TOP / "examples" / "speech" / f"{name}.wav"), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
        return np.asarray(soxr.resample(samples, file.getframerate(), RATE_HZ))


@asynccontextmanager
async def talking(example: str, scenario: Scenario) -> AsyncIterator[tuple[Emulator, Console]]:
    """Run an example in LiveKit's console, against an emulated Hydra."""
    async with (
        Emulator(scenario) as server,
        Console() as console,
        python_running(
            *("-c", CONSOLE, "console", f"examples/{example}"),
            *("--connect-addr", console.address),
            HYDRA_BASE_URL=server.url,
            SMALLEST_API_KEY="any-key-will-do",
        ),
    ):
        yield server, console


async def test_agent_greets_and_answers_what_was_said() -> None:
    """`agent.py` speaks first, on its first connection, and answers recorded speech."""
    scenario = Scenario(replies=[Say(duration_s=1.0), Say(duration_s=2.0)])
    async with talking("agent.py", scenario) as (server, console):
        await server.wait_for(lambda _: console.heard_s == [1.0], timeout=PATIENCE_S)
        assert len(server.dials) == 1
        console.microphone.say(recording("user-question"))
        await server.wait_for(lambda _: console.heard_s == [1.0, 2.0], timeout=PATIENCE_S)

    configuration = server.connection.configuration
    assert configuration.voice == "maya"
    assert "friendly voice assistant" in (configuration.instructions or "")
    assert "Greet the user" in (configuration.instructions or "")
    assert [response.trigger for response in server.responses] == ["greeting", "user_turn"]


async def test_tools_of_every_kind_are_called_and_told() -> None:
    """`tools.py`: plain, raw and failing tools give their outputs; a slow one is told twice.

    The greeting is on the first connection.
    """
    told: list[tuple[str, str]] = []

    def reply(context: Context) -> Reply:
        told.extend((output.name, output.output) for output in context.outputs)
        told.extend(("text", item.text) for item in context.texts)
        return Say(duration_s=0.5)

    async with talking("tools.py", Scenario(replies=reply)) as (server, console):
        await server.wait_for(lambda _: console.heard_s == [0.5], timeout=PATIENCE_S)
        assert len(server.dials) == 1
        server.speak(
            [
                Call("next_train", {"city": "Porto"}),
                Call("next_train", {"city": "Atlantis"}),
                Call("set_light", {"room": "hall", "is_on": True}),
            ]
        )
        await server.wait_for(lambda _: len(told) >= 3, timeout=PATIENCE_S)
        assert sorted(told) == [
            ("next_train", "No train goes to Atlantis; there are trains to Porto, Faro."),
            ("next_train", "The next train to Porto leaves at 14:05."),
            ("set_light", "done"),
        ]

        await server.wait_for(lambda _: console.heard_s == [0.5, 0.5], timeout=PATIENCE_S)
        told.clear()
        server.speak(Call("book_seat", {"city": "Porto"}))
        await server.wait_for(lambda _: told, timeout=PATIENCE_S)
        ((name, update),) = told
        assert name == "book_seat"
        assert "The booking office for Porto is being asked" in update

        told.clear()
        await server.wait_for(lambda _: told, timeout=PATIENCE_S)
        assert any("Seat 21 on the next train to Porto is booked." in text for _, text in told)


async def test_handoff_changes_the_agent_and_the_voice() -> None:
    """`handoff.py`: the second agent speaks with its own voice and knows the problem."""
    scenario = Scenario(replies=[Say(duration_s=0.5)], default_reply=Say(duration_s=1.0))
    async with talking("handoff.py", scenario) as (server, console):
        await server.wait_for(lambda _: console.heard_s == [0.5], timeout=PATIENCE_S)
        server.speak(Call("hand_to_workshop", {"problem": "a flat tyre"}))
        await server.wait_for(lambda _: console.heard_s == [0.5, 1.0], timeout=PATIENCE_S)

    reception, workshop = (record.configuration for record in server.connections)
    assert (reception.voice, workshop.voice) == ("maya", "leo")
    assert "a flat tyre" in (workshop.instructions or "")
    assert "hand_to_workshop" not in str(workshop.tools)


@pytest.mark.parametrize(
    ("example", "command"),
    [("agent.py", "dev"), ("tools.py", "dev"), ("handoff.py", "dev"), ("agent.py", "start")],
)
async def test_example_is_a_worker_for_a_livekit_server(example: str, command: str) -> None:
    """``python examples/... dev`` (or ``start``) registers with the LiveKit server named to it."""
    if command == "start" and not is_free(HEALTH_PORT):
        pytest.skip(f"port {HEALTH_PORT}, which LiveKit's workers listen on, is taken")
    async with (
        Registry().listening() as livekit,
        python_running(
            *(f"examples/{example}", command),
            LIVEKIT_URL=livekit.url,
            LIVEKIT_API_KEY="any-key",
            LIVEKIT_API_SECRET="a-secret-of-thirty-two-characters",
            SMALLEST_API_KEY="any-key-will-do",
        ),
        asyncio.timeout(PATIENCE_S),
    ):
        await livekit.registered.wait()


async def test_example_offers_the_commands_of_a_worker() -> None:
    """``python examples/agent.py`` lists console, dev and start."""
    shown = await python("examples/agent.py", "--help")

    assert shown.code == 0
    assert all(f" {command} " in shown.text for command in ("console", "dev", "start"))
