"""What the log says of a call."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from livekit.agents import Agent, function_tool

from livekit_plugins_hydra.testing import Call, Say, Scenario
from tests.calls import COUGH, KEY, call, silence, tone

from .test_reconnects import until_ready

ANSWER = Say(duration_s=0.3, tone_hz=500, text="Yes, of course.")
STORY = Say(duration_s=6.0, tone_hz=600, text="It is a long story and it has no end.")


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """Return what the plugin has logged at a level, with numbers and ids as #."""
    return [
        re.sub(r"session [-\w]+|resp_\w+|(?<!\.)\b\d+\.\d+\b(?!\.)", "#", record.getMessage())
        for record in caplog.records
        if record.levelno == level and record.name == "livekit.plugins.hydra"
    ]


@function_tool
async def look() -> str:
    """Look."""
    return "seen"


async def test_a_call_is_a_few_lines_at_info(caplog: pytest.LogCaptureFixture) -> None:
    """One when it is up, one when it is up again, and one at its end, with the numbers."""
    caplog.set_level(logging.INFO, "livekit.plugins.hydra")
    scenario = Scenario(
        replies=[STORY], default_reply=ANSWER, think_s=0.5, silence_ms=200, transcripts=True
    )
    async with call(scenario, Agent(instructions="Be kind.")) as desk:
        await desk.say(tone(0.4))
        await desk.until_state("speaking")
        await desk.say(tone(0.6))
        await desk.until_heard(2)
        await desk.say(COUGH)
        await desk.say(silence(1.0))
        desk.server.drop()
        await until_ready(desk, 2)
        await desk.say(tone(0.4))
        await desk.until_heard(3)

    assert logged(caplog, logging.INFO) == [
        "connected to Hydra at 127.0.0.1 in # s: #",
        "connected to Hydra at 127.0.0.1 again, # s after the last connection, attempt 1: #",
        "the call with Hydra has ended after # s; turns: 3, interruptions: 1, reconnects: 1, voice"
        " to voice: # s (median)",
    ]
    (ended,) = [each for each in caplog.messages if "has ended after" in each]
    median = re.search(r"voice to voice: (\S+) s", ended)
    assert median
    assert 0.4 < float(median[1]) < 0.9


async def test_a_call_that_never_was_has_no_end(caplog: pytest.LogCaptureFixture) -> None:
    """Its errors say enough."""
    caplog.set_level(logging.INFO, "livekit.plugins.hydra")
    agent = Agent(instructions="Be kind.")
    async with call(Scenario(keys=()), agent, complaints_are_fine=True):
        await asyncio.sleep(1.0)

    assert logged(caplog, logging.INFO) == []


async def test_turns_responses_and_function_calls_are_lines_at_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One each; none has what was said, or the key."""
    caplog.set_level(logging.DEBUG, "livekit.plugins.hydra")
    scenario = Scenario(
        replies=[Call("look", call_id="call_1")],
        default_reply=ANSWER,
        silence_ms=200,
        transcripts=True,
        user_text="Is it there?",
    )
    async with call(scenario, Agent(instructions="", tools=[look])) as desk:
        await desk.say(tone(0.4))
        await desk.until_heard(1)

    assert logged(caplog, logging.DEBUG) == [
        "the user has spoken for # s",
        "Hydra calls look (call_1)",
        "response # without audio: completed",
        "response # after # s: completed",
    ]
    assert not [each for each in caplog.messages if KEY in each or "Is it there?" in each]
