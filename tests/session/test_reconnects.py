"""Lost connections: the call goes on, and nothing that was said is lost."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import Call, Emulator, Reply, Say, Scenario, Wait
from tests.calls import KEY, Desk, call, silence, tone
from tests.direct import Line, line

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


async def test_a_question_at_which_the_server_fails_is_asked_again() -> None:
    """`internal_error` before the answer: the next connection hears the question, and answers."""
    scenario = Scenario(default_reply=ANSWER, think_s=0.5)
    async with call(scenario, Silent(), complaints_are_fine=True) as desk:
        await until_ready(desk)
        await desk.say(tone(0.8))
        await desk.server.wait_for(ev.InputAudioBufferSpeechStopped)
        failure = {"type": "internal_error", "code": "internal_error", "message": "oops"}
        desk.server.send({"type": "error", "error": failure})
        await until_ready(desk, 2)
        await desk.until_heard(1)

        assert heard_tone_s(desk.server.connection.received_audio, 300) == pytest.approx(
            0.8, abs=0.1
        )


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


def heard_s(opened: Line, hz: float) -> list[float]:
    """Return for how long each server has heard a tone."""
    return [heard_tone_s(each.received_audio, hz) for each in opened.server.connections]


@pytest.mark.parametrize(
    ("think_s", "answer", "was_answered"),
    [
        (0.05, Say(duration_s=8.0), True),
        (0.05, [Wait(2.0), Say(duration_s=8.0)], False),
        (0.8, Say(duration_s=8.0), False),
    ],
    ids=["heard", "begun", "owed"],
)
async def test_who_goes_on_after_a_pause_is_heard_whole(
    think_s: float, answer: Reply, was_answered: bool
) -> None:
    """A first half without an answer is heard again with the second; one with an answer is not."""
    scenario = Scenario(default_reply=answer, think_s=think_s)
    async with line(scenario, complaints_are_fine=True) as opened:
        await opened.speak(silence(0.1))
        await opened.ready()
        first, second = tone(1.0, hz=300), tone(1.2, hz=700)
        speaking = asyncio.create_task(
            opened.speak(silence(0.3), first, silence(0.7), second, silence(3.0))
        )
        await asyncio.sleep(2.5)
        opened.server.drop()
        await speaking

        assert heard_s(opened, 300)[1] == pytest.approx(0.0 if was_answered else 1.0, abs=0.05)
        assert heard_s(opened, 700)[1] == pytest.approx(1.2, abs=0.05)


@pytest.mark.parametrize(
    ("think_s", "answer", "was_answered"),
    [
        (0.8, ANSWER, False),
        (0.05, [Wait(5.0), ANSWER], False),
        (0.05, Say(duration_s=8.0), True),
    ],
    ids=["owed", "begun", "heard"],
)
async def test_a_cough_does_not_answer_a_question(
    think_s: float, answer: Reply, was_answered: bool
) -> None:
    """It is discarded; a question before it that has no answer is heard again."""
    scenario = Scenario(default_reply=answer, think_s=think_s)
    async with line(scenario, complaints_are_fine=True) as opened:
        await opened.speak(silence(0.1))
        await opened.ready()
        question, cough = tone(1.0, hz=300), tone(0.1, hz=700)
        speaking = asyncio.create_task(
            opened.speak(silence(0.3), question, silence(0.7), cough, silence(3.0))
        )
        await opened.until(lambda: opened.server.connection.discarded_turns)
        await asyncio.sleep(0.05)
        opened.server.drop()
        await speaking

        assert heard_s(opened, 300)[1] == pytest.approx(0.0 if was_answered else 1.0, abs=0.05)


async def test_a_late_call_does_not_answer_who_speaks() -> None:
    """A response that was cut goes on to call a function: what is being said is kept."""
    async with line(Scenario(default_reply=ANSWER), complaints_are_fine=True) as opened:
        await opened.speak(silence(0.1))
        await opened.ready()
        opened.server.send({"type": "response.created", "response": {"id": "r_call"}})
        called = {"response_id": "r_call", "call_id": "c1", "name": "weather"}
        kind = "response.function_call_arguments"
        opened.server.send({"type": f"{kind}.delta", "delta": "{", **called})
        speaking = asyncio.create_task(opened.speak(silence(0.3), tone(3.0), silence(2.0)))
        await asyncio.sleep(1.0)
        opened.server.send({"type": f"{kind}.done", "arguments": "{}", **called})
        await asyncio.sleep(1.8)
        opened.server.drop()
        await speaking

        assert heard_s(opened, 300)[1] == pytest.approx(3.0, abs=0.1)


async def test_a_full_server_does_not_make_the_bot_speak_over_the_user() -> None:
    """The words still wait after a second loss: the next server answers them first."""
    scenario = Scenario(default_reply=Say(duration_s=1.5))
    async with line(scenario, complaints_are_fine=True) as opened:
        await opened.speak(silence(0.1))
        await opened.ready()
        speaking = asyncio.create_task(opened.speak(silence(0.3), tone(2.0), silence(8.0)))
        await asyncio.sleep(1.0)
        reply = opened.session.generate_reply(instructions="Tell them that the shop closes soon.")
        await asyncio.sleep(0.4)
        opened.server.scenario = dataclasses.replace(scenario, server_full_connections=1)
        opened.server.drop()
        await speaking

        connection = await opened.ready(3)
        assert not connection.configuration.generate_initial_response
        assert heard_s(opened, 300)[2] == pytest.approx(2.0, abs=0.1)
        assert len(opened.server.responses) == 2
        assert not reply.exception()


async def test_words_into_a_dead_link_outlive_a_new_connection_on_purpose() -> None:
    """A reply asks for one before the loss is noticed: the words are heard, and answered first."""
    async with line(Scenario(default_reply=ANSWER)) as opened:
        await opened.speak(silence(0.1))
        await opened.ready()
        opened.server.freeze()
        await opened.speak(silence(1.0), tone(1.0), silence(4.0))
        reply = opened.session.generate_reply(instructions="Say hello.")
        await opened.speak(silence(5.0))

        connection = await opened.ready(2)
        assert not connection.configuration.generate_initial_response
        assert heard_s(opened, 300)[1] == pytest.approx(1.0, abs=0.1)
        assert len(connection.responses) == 2
        assert (await reply).user_initiated


async def test_a_noise_on_a_good_link_is_not_sent_again() -> None:
    """A server that lives has heard it and said nothing: nothing holds up the reply."""
    async with line(Scenario(default_reply=ANSWER)) as opened:
        await opened.speak(silence(0.1))
        await opened.ready()
        await opened.speak(silence(3.0), tone(0.06), silence(1.5))
        reply = opened.session.generate_reply(instructions="Say hello.")
        await opened.speak(silence(2.0))

        connection = await opened.ready(2)
        assert connection.configuration.generate_initial_response
        assert heard_s(opened, 300)[1] == 0.0
        assert (await reply).user_initiated


async def test_a_token_whose_minting_was_cancelled_is_minted_again() -> None:
    """Calls may wait for the same token; one that is closed meanwhile cancels it for the other."""
    token: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    both = asyncio.Barrier(3)
    refused: list[object] = []

    async def mint() -> str:
        if refused:
            return KEY
        await both.wait()
        return await token

    async with Emulator(Scenario(default_reply=ANSWER)) as server:
        model = hydra.RealtimeModel(api_key=mint, base_url=server.url)
        closed, open_ = model.session(), model.session()
        open_.on("error", refused.append)
        reply = open_.generate_reply()
        await both.wait()
        await closed.aclose()

        await reply
        assert len(refused) == 1
        await model.aclose()


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
