"""A question that the next server hears again: it stands once in every history."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from livekit.agents import Agent

from livekit_plugins_hydra.testing import Say, Scenario
from livekit_plugins_hydra.testing.emulator.replies import UserTurn
from tests.calls import Desk, call, silence, tone
from tests.recognisers import ToneSTT, Vocabulary

ASKED = "When does the museum close tonight?"
MORE = "And what is a ticket?"
WORDS = Vocabulary({300.0: (ASKED, 0.8), 400.0: (MORE, 0.8)})
ANSWER = Say(duration_s=0.5, text="At six.")


def transcribed_by(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of a scenario and of a model, by who transcribes the user."""
    if source == "the server":
        return {"user_text": read}, {}
    return {}, {"input_stt": ToneSTT(WORDS, streaming=source == "a streaming STT")}


def read(turn: UserTurn) -> str:
    """Return what was said in a turn."""
    return WORDS.read(np.frombuffer(turn.pcm, dtype=np.int16), 16_000)


def captions(desk: Desk) -> list[str]:
    """Return what was told as final text of the user's."""
    events = desk.of("user_input_transcribed")
    return [event.transcript for event in events if event.is_final]


def assert_asked(desk: Desk, *texts: str) -> None:
    """See that the user has said this, in both histories and in the captions."""
    for history in (desk.told, desk.remembered):
        assert [text for role, text in history if role == "user"] == list(texts)
    assert captions(desk) == list(texts)


@pytest.mark.parametrize("think_s", [1.0, 7.0])
@pytest.mark.parametrize("n_drops", [1, 2])
@pytest.mark.parametrize("source", ["the server", "an STT", "a streaming STT"])
async def test_a_question_that_several_servers_hear_stands_once(
    source: str, n_drops: int, think_s: float
) -> None:
    """The link drops before the answer, once the text was told, or while it is awaited."""
    served, options = transcribed_by(source)
    scenario = Scenario(replies=[ANSWER], think_s=think_s, transcripts=True, **served)
    async with call(scenario, Agent(instructions=""), **options) as desk:
        await desk.say(tone(0.8))
        for n in range(n_drops):
            await desk.until(lambda n=n: desk.server.connections[n].turns)  # type: ignore[misc]
            await asyncio.sleep(think_s - 0.5)
            desk.server.drop()
            await desk.server.wait_connections(n + 2)
        await desk.until_heard(1)
        await asyncio.sleep(3.0)

        assert_asked(desk, ASKED)
        assert desk.told == desk.remembered == [("user", ASKED), ("assistant", ANSWER.text)]


@pytest.mark.parametrize("source", ["the server", "an STT", "a streaming STT"])
@pytest.mark.parametrize("pause_s", [0.1, 0.8])
async def test_what_the_user_adds_meanwhile_is_told_alone(source: str, pause_s: float) -> None:
    """Whether the next server hears one turn or two: each word stands once."""
    served, options = transcribed_by(source)
    scenario = Scenario(replies=[ANSWER], think_s=2.5, **served)
    async with call(scenario, Agent(instructions=""), **options) as desk:
        await desk.say(tone(0.8))
        await desk.until(lambda: desk.server.connection.turns)
        await asyncio.sleep(0.2)
        desk.server.drop()
        await desk.say(np.concatenate([silence(pause_s), tone(0.8, hz=400.0)]))
        await desk.until_heard(1)
        await asyncio.sleep(3.0)

        said = " ".join(captions(desk))
        assert said == f"{ASKED} {MORE}"
        assert_asked(desk, *captions(desk))


@pytest.mark.parametrize("source", ["the server", "an STT", "a streaming STT"])
async def test_who_asks_once_more_has_asked_twice(source: str) -> None:
    """The same words, but said again: only what is sent again is heard again."""
    served, options = transcribed_by(source)
    scenario = Scenario(replies=[ANSWER], think_s=4.0, **served)
    async with call(scenario, Agent(instructions=""), **options) as desk:
        await desk.say(tone(0.8))
        await desk.until(lambda: desk.server.connection.turns)
        await asyncio.sleep(0.5)
        desk.server.drop()
        await desk.until(lambda: len(desk.server.connections) == 2)
        await desk.until(lambda: desk.server.connection.turns)
        await desk.say(tone(0.8))
        await desk.until_heard(1)
        await asyncio.sleep(3.0)

        assert_asked(desk, ASKED, ASKED)


async def test_a_turn_is_told_once_though_its_text_comes_twice() -> None:
    """The STT's words were told when the answer began; the server's own come too late."""
    stt = ToneSTT(WORDS)
    async with call(Scenario(replies=[ANSWER]), Agent(instructions=""), input_stt=stt) as desk:
        await desk.say(tone(0.8))
        await desk.until_heard(1)
        await desk.until(lambda: captions(desk))
        turn = desk.server.connection.turns[0]
        content = [{"type": "input_audio", "transcript": "When does it close?"}]
        item = {"id": turn.item_id, "type": "message", "role": "user", "status": "completed"}
        desk.server.send({"type": "conversation.item.done", "item": item | {"content": content}})
        await asyncio.sleep(1.0)

        assert_asked(desk, ASKED)
