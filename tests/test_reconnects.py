"""Lost connections: the call goes on, and nothing that was said is lost."""

from __future__ import annotations

import numpy as np
import pytest

from livekit_plugins_hydra import events as ev
from livekit_plugins_hydra.emulator import Call, Say, Scenario

from .calls import Desk, call, tone
from .test_calls import GREETING, Greeter, Silent

ANSWER = Say(duration_s=0.5, tone_hz=600, text="Yes.")


async def until_ready(desk: Desk, number: int = 1) -> None:
    """Wait until so many connections were made and the newest is configured."""
    await desk.server.wait_connections(number, timeout=20)
    await desk.until(lambda: desk.server.connection.configured_at_s)


def heard_tone_s(pcm: bytes | bytearray, hz: float) -> float:
    """Return for how long a tone stands in sound that the server got, int16 mono 16 kHz."""
    samples = np.frombuffer(bytes(pcm), dtype=np.int16).astype(np.float64)
    window = 320
    frames = samples[: samples.size // window * window].reshape(-1, window)
    times = np.arange(window) / 16_000
    probe = np.exp(-2j * np.pi * hz * times)
    strength = np.abs(frames @ probe) * 2 / window
    return float((strength > 2_000).sum()) * window / 16_000


async def test_a_turn_cut_by_a_drop_is_answered() -> None:
    """Words spoken before, during and after the loss of the connection reach the next one."""
    async with call(Scenario(default_reply=ANSWER), Silent()) as desk:
        await until_ready(desk)
        desk.microphone.say(tone(1.5))
        await desk.server.wait_for(ev.InputAudioBufferSpeechStarted)
        desk.server.drop()
        await until_ready(desk, 2)
        await desk.microphone.wait_quiet()
        await desk.until_heard(1)

        assert heard_tone_s(desk.server.connection.received_audio, 300) == pytest.approx(
            1.5, abs=0.1
        )
        assert len(desk.server.responses) == 1
        await desk.until(lambda: desk.session.user_state == "listening")


async def test_an_unanswered_turn_is_asked_again() -> None:
    """A drop between the end of a question and its answer: the question is heard once more."""
    async with call(Scenario(default_reply=ANSWER, think_s=3600), Silent()) as desk:
        await until_ready(desk)
        await desk.say(tone(0.8))
        await desk.server.wait_for(ev.InputAudioBufferSpeechStopped)
        desk.server.scenario = Scenario(default_reply=ANSWER)
        desk.server.drop()
        await desk.until_heard(1)

        assert heard_tone_s(desk.server.connection.received_audio, 300) == pytest.approx(
            0.8, abs=0.1
        )


async def test_a_tool_that_runs_through_a_drop_is_told() -> None:
    """The result of a function that was called on the lost connection is spoken on the next."""
    agent = Greeter(tool_s=0.8)
    replies = (GREETING, Call("weather", {"city": "Rome"}), ANSWER)
    async with call(Scenario(replies=replies), agent) as desk:
        await desk.until_heard(1)
        await desk.say(tone(0.6))
        await agent.tool_began.wait()
        desk.server.drop()
        await desk.until_heard(2)

        instructions = desk.server.connection.configuration.instructions or ""
        assert "sunny in Rome" in instructions
        assert desk.heard_s == [0.6, 0.5]
        await desk.until_state("listening")


async def test_a_reply_that_was_owed_is_asked_for_again() -> None:
    """A drop before a greeting has begun: it is spoken all the same, once."""
    async with call(Scenario(default_reply=ANSWER, think_s=3600), Greeter()) as desk:
        await desk.server.wait_for(ev.SessionConfigured)
        desk.server.scenario = Scenario(default_reply=ANSWER)
        desk.server.drop()
        await desk.until_heard(1)

        assert desk.server.connection.configuration.generate_initial_response
        assert len(desk.server.responses) == 1


async def test_the_greeting_is_not_repeated() -> None:
    """After a reconnect the bot does not greet again."""
    async with call(Scenario(default_reply=ANSWER), Greeter()) as desk:
        await desk.until_heard(1)
        desk.server.drop()
        await until_ready(desk, 2)
        await desk.say(tone(0.6))
        await desk.until_heard(2)

        assert not desk.server.connection.configuration.generate_initial_response
        assert len(desk.server.responses) == 2
