"""A call with everything in it, and what is remembered of it: turn by turn, what was played."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import pytest
from livekit.agents import Agent, function_tool

from livekit_plugins_hydra.testing import Call, Samples, Say, Scenario
from tests.calls import COUGH, Desk, call, told, tone
from tests.recognisers import ToneSTT, Vocabulary


def say(hz: float, seconds: float, text: str) -> Say:
    """Return something that the agent says."""
    return Say(tone_hz=hz, duration_s=seconds, text=text)


LINE_S = 1.0
"""With the half second that a text may come late, long enough for an STT that takes 1 s."""

HELLO = say(1000, LINE_S, "Hello, this is the front desk.")
HOURS = say(1100, LINE_S, "We are open until six.")
STORY = say(1200, 3.0, "Once upon a time there was a house that had a hundred rooms in it.")
FEES = say(1300, LINE_S, "It is ten euros a head.")
SUNNY = say(1400, LINE_S, "It is sunny in Rome.")
TALE = say(1500, 3.0, "There are paintings by many masters from many lands in all our halls.")
STAIRS = say(1600, LINE_S, "The stairs are on the left.")
CLERK = say(1700, LINE_S, "I am the clerk, good day.")
YES = say(1800, LINE_S, "Yes, you may do that.")
PARK = say(1900, LINE_S, "The park is behind the house.")
BYE = say(2000, LINE_S, "Goodbye and thank you.")
AGENT_SAYS = [HELLO, HOURS, STORY, FEES, SUNNY, TALE, STAIRS, CLERK, YES, PARK, BYE]

USER_SAYS = {
    300.0: "When do you close today?",
    340.0: "Tell me about the house.",
    380.0: "No, what does it cost?",
    420.0: "How is the weather there?",
    460.0: "And what can one see?",
    500.0: "Stop, where are the stairs?",
    540.0: "Give me the clerk now.",
    580.0: "May I take a picture?",
    620.0: "Where is the park please?",
    660.0: "That was all, thank you.",
}
TURN_S = 0.7


class Clerk(Agent):
    """Takes over, and greets."""

    async def on_enter(self) -> None:
        """Greet."""
        self.session.generate_reply()


class Desk1(Agent):
    """Greets, knows the weather, connects with the clerk."""

    async def on_enter(self) -> None:
        """Greet."""
        self.session.generate_reply()

    @function_tool
    async def weather(self) -> str:
        """Tell the weather."""
        return "sunny"

    @function_tool
    async def connect(self) -> Agent:
        """Connect with the clerk, who has to be called first."""
        await asyncio.sleep(1.5)
        return Clerk(instructions="You are the clerk.", chat_ctx=self.chat_ctx)


SCENARIO = Scenario(
    replies=[
        HELLO,
        HOURS,
        STORY,
        FEES,
        Call("weather"),
        SUNNY,
        TALE,
        STAIRS,
        Call("connect"),
        CLERK,
        YES,
        PARK,
        BYE,
    ]
)


async def hold_call(desk: Desk) -> list[tuple[str, str]]:
    """Hold the call: ten turns of the user's, and a cough; return what the first agent knew."""
    turns = iter(tone(TURN_S, hz=hz) for hz in USER_SAYS)

    async def ask(n_heard: int, sound: Samples | None = None) -> None:
        """Say something, and listen to what comes."""
        await desk.say(next(turns) if sound is None else sound)
        await desk.until_heard(n_heard)
        await desk.until_state("listening")

    async def interrupt(n_heard: int) -> None:
        """Ask, and speak into the answer when a part of it was heard."""
        await desk.say(next(turns))
        await desk.until(lambda: len(desk.loudspeaker.heard) == n_heard)
        await ask(n_heard + 1, np.concatenate([np.zeros(24_000, np.int16), next(turns)]))

    await desk.until_heard(1)
    await desk.until_state("listening")
    await ask(2)
    await interrupt(3)
    await desk.say(COUGH)
    await desk.until(lambda: desk.server.connection.discarded_turns)
    await ask(5)
    await interrupt(6)
    first_agents = desk.line
    await ask(8)
    known = told(first_agents.chat_ctx)
    await ask(9)
    n_connections = len(desk.server.connections)
    desk.server.drop()
    await desk.server.wait_connections(n_connections + 1, timeout=20)
    await desk.until(lambda: desk.server.connection.configured_at_s)
    await ask(10)
    await ask(11)
    return known


def everything() -> list[tuple[str, str]]:
    """Return what was said, with what was interrupted as the whole of what was meant."""
    words = iter(USER_SAYS.values())
    said = [("assistant", HELLO.text)]
    answers = [[HOURS], [STORY], [FEES], [SUNNY], [TALE], [STAIRS], [CLERK], [YES], [PARK], [BYE]]
    for answer in answers:
        said.append(("user", next(words)))
        said += [("assistant", each.text) for each in answer]
    return [(who, text or "") for who, text in said]


@pytest.mark.parametrize("delay_s", [0.0, 1.0], ids=["fast STTs", "STTs that take 1 s"])
async def test_ten_turns_are_remembered_as_they_were_heard(
    delay_s: float,
) -> None:
    """Barge-ins, a cough, a tool, a handoff and a drop: the session's history is the call's."""
    users = Vocabulary({hz: (text, TURN_S) for hz, text in USER_SAYS.items()})
    agents = Vocabulary({each.tone_hz: (each.text or "", each.duration_s) for each in AGENT_SAYS})
    options: dict[str, Any] = {
        "input_stt": ToneSTT(users, delay_s=delay_s),
        "output_stt": ToneSTT(agents, delay_s=delay_s),
    }
    async with call(SCENARIO, Desk1(instructions="You are the desk."), **options) as desk:
        known = await hold_call(desk)
        said = everything()
        await desk.until(lambda: len(desk.remembered) == len(said))

        for (who, text), (speaker, remembered) in zip(said, known, strict=False):
            assert speaker == who
            if text in (STORY.text, TALE.text):
                assert 0 < len(remembered) < len(text)
                assert text.startswith(remembered)
            else:
                assert remembered == text
        assert len(known) == said.index(("assistant", CLERK.text or ""))
        # The next agent is told what LiveKit has: without captions, all of what was interrupted.
        for (who, text), (speaker, remembered) in zip(said, desk.remembered, strict=True):
            assert speaker == who
            assert remembered
            assert text.startswith(remembered)
            assert text in (STORY.text, TALE.text) or remembered == text
        assert len(desk.server.connections) == 3
        replayed = desk.server.connection.configuration.instructions or ""
        for _, text in desk.remembered[:-4]:
            assert f'"{text}"' in replayed
        missed = [each for each in desk.remembered if each not in desk.told]
        print(f"LiveKit's history misses {len(missed)} of {len(said)}: {missed}")
        assert len(missed) == (2 if delay_s else 0)
        assert all(text.startswith(("Once", "There")) for _, text in missed)


async def test_ten_turns_without_text_are_held_and_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same call without an STT: all is played, and one warning says what lacks."""
    async with call(SCENARIO, Desk1(instructions="You are the desk.")) as desk:
        await hold_call(desk)

        assert len(desk.loudspeaker.heard) == len(AGENT_SAYS)
        assert desk.told == []
    warnings = [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "no text" in record.getMessage()
    ]
    assert len(warnings) == 1
