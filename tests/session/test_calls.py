"""Whole calls: the real framework and the real plugin against the emulator, over loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit.agents import Agent, RunContext, StopResponse, function_tool

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import SWITCHES, Call, Say, Scenario
from tests.calls import COUGH, call, tone

GREETING = Say(duration_s=0.6, tone_hz=500, text="Hello, this is the front desk.")
ANSWER = Say(duration_s=5.0, tone_hz=600, text="The museum is open until six today.")
RESULT = Say(duration_s=0.8, tone_hz=700, text="It is sunny in Rome.")
GOODBYE = Say(duration_s=0.5, tone_hz=800, text="Goodbye.")


class Greeter(Agent):
    """Greets, knows the weather."""

    def __init__(self, *, instructions: str = "You are kind.", tool_s: float = 0.0) -> None:
        super().__init__(instructions=instructions)
        self.tool_s = tool_s
        self.tool_began = asyncio.Event()

    async def on_enter(self) -> None:
        """Greet."""
        self.session.generate_reply(instructions="Greet the caller.")

    @function_tool
    async def weather(self, city: str) -> str:
        """Tell the weather.

        Args:
            city: where.
        """
        self.tool_began.set()
        await asyncio.sleep(self.tool_s)
        return f"sunny in {city}"


async def hold_a_conversation(scenario: Scenario, **options: Any) -> None:
    """Greeting, a question that calls a tool, a barge-in, goodbye: as if nothing were odd."""
    n_result = 3 if scenario.speaks_before_calls else 2  # the calling response is heard, too
    async with call(scenario, Greeter(), **options) as desk:
        await desk.until_heard(1)
        await desk.say(tone(0.6))
        await desk.until_heard(n_result)

        await desk.say(tone(0.6))
        await desk.until(lambda: len(desk.loudspeaker.heard) > n_result)
        await desk.until_state("speaking")
        await desk.say(tone(0.6))
        await desk.until_heard(n_result + 2)
        await desk.until(lambda: desk.session.user_state == "listening")
        await desk.until_state("listening")

        assert len(desk.server.connections) == 1
        assert len(desk.of("function_tools_executed")) == 1
        assert len(desk.server.events_of(ev.ResponseCreate)) == 1
        heard = desk.loudspeaker.heard
        assert [playout.interrupted for playout in heard] == [*[False] * n_result, True, False]
        assert desk.heard_s[n_result] < ANSWER.duration_s
        for playout, response in zip(heard, _spoken(desk.server.responses), strict=True):
            played = playout.samples.tobytes()
            assert played == bytes(response.pcm)[: len(played)]
            assert playout.interrupted or len(played) == len(response.pcm)
            assert playout.rate_hz == desk.server.connection.output_rate_hz


def _spoken(responses: list[Any]) -> list[Any]:
    return [response for response in responses if response.pcm]


REPLIES = (GREETING, Call("weather", {"city": "Rome"}), RESULT, ANSWER, GOODBYE)


@pytest.mark.parametrize("switch", sorted(SWITCHES))
async def test_a_whole_call_goes_well_in_every_switch(switch: str) -> None:
    """Whatever the server does differently, the caller hears the same conversation."""
    await hold_a_conversation(Scenario(replies=REPLIES).with_switches(switch))


async def test_a_cough_during_a_tool_does_not_lose_its_result() -> None:
    """A discarded turn while a tool runs: the result is still spoken, once."""
    agent = Greeter(tool_s=1.5)
    async with call(Scenario(replies=REPLIES), agent) as desk:
        await desk.until_heard(1)
        await desk.say(tone(0.6))
        await agent.tool_began.wait()
        await desk.say(COUGH)
        await desk.until(lambda: desk.server.connection.discarded_turns)
        result = await desk.until_heard(2)

        assert round(result.duration_s, 1) == RESULT.duration_s
        assert len(desk.server.events_of(ev.ResponseCreate)) == 1
        assert len(desk.server.responses) == 3
        await desk.until_state("listening")


async def test_an_okay_during_a_tool_does_not_lose_its_result() -> None:
    """A turn that is answered while a tool runs: the answer is spoken, then the result, once."""
    agent = Greeter(tool_s=2.5)
    okay = Say(duration_s=0.4, tone_hz=400, text="One moment.")
    replies = (GREETING, Call("weather", {"city": "Rome"}), okay, RESULT, GOODBYE)
    async with call(Scenario(replies=replies), agent) as desk:
        await desk.until_heard(1)
        await desk.say(tone(0.6))
        await agent.tool_began.wait()
        await desk.say(tone(0.5))
        await desk.until_heard(3)

        assert desk.heard_s == [0.6, 0.4, 0.8]
        assert len(desk.server.events_of(ev.ResponseCreate)) == 1
        await desk.until_state("listening")


class Silent(Agent):
    """Says nothing by itself."""

    def __init__(self) -> None:
        super().__init__(instructions="You are kind.")

    @function_tool
    async def hang_up(self, context: RunContext[None]) -> None:
        """End."""
        raise StopResponse


UNWILLING: dict[str, dict[str, Any]] = {
    "willing": {},
    "refuses all": {"message_items": "refused", "bare_response_create": "refused"},
    "ignores all": {"message_items": "dropped", "bare_response_create": "ignored"},
    "refuses items, ignores requests": {
        "message_items": "refused",
        "bare_response_create": "ignored",
    },
}
WAYS: dict[str, dict[str, Any]] = {
    "a greeting after the start": {"instructions": "Greet the caller by name."},
    "typed text": {"user_input": "Where is room twelve?"},
    "instructions": {"instructions": "Ask for the name."},
    "nothing": {},
}


@pytest.mark.parametrize("how", sorted(UNWILLING))
@pytest.mark.parametrize("way", sorted(WAYS))
async def test_every_reply_on_demand_is_spoken(how: str, way: str) -> None:
    """Whatever the server refuses or ignores, a reply on demand reaches it and is spoken."""
    scenario = Scenario(
        default_reply=Say(duration_s=0.3, text="Yes."), transcripts=True, **UNWILLING[how]
    )
    async with call(scenario, Silent()) as desk:
        await desk.until(lambda: desk.server.connections and desk.server.connection.configured_at_s)
        if way != "a greeting after the start":
            await desk.session.generate_reply()
        n_heard = len(desk.loudspeaker.heard)

        reply = desk.session.generate_reply(**WAYS[way])
        await reply

        assert reply.exception() is None
        assert len(desk.loudspeaker.heard) == n_heard + 1
        for words in WAYS[way].values():
            assert words in _all_that_was_told(desk.server)


async def test_silence_costs_no_memory() -> None:
    """A reply that the server ignores fails with a hint where a new connection would forget."""
    scenario = Scenario(default_reply=Say(duration_s=0.3), bare_response_create="ignored")
    async with call(scenario, Silent(), complaints_are_fine=True) as desk:
        await desk.say(tone(0.6))
        await desk.until_heard(1)
        reply = desk.session.generate_reply()
        await reply

        assert "Hydra ignored response.create" in str(reply.exception())
        assert len(desk.server.connections) == 1


async def test_a_change_of_instructions_reaches_the_model() -> None:
    """`update_instructions` in mid-call: the model has them before its next reply."""
    scenario = Scenario(default_reply=Say(duration_s=0.3, text="Yes."), transcripts=True)
    agent = Silent()
    async with call(scenario, agent) as desk:
        await desk.say(tone(0.6))
        await desk.until_heard(1)
        await agent.update_instructions("You are a pirate.")
        await desk.server.wait_connections(2, timeout=20)
        await desk.until(lambda: desk.server.connection.configured_at_s)

        assert "You are a pirate." in (desk.server.connection.configuration.instructions or "")
        assert "Yes." in (desk.server.connection.configuration.instructions or "")
        await desk.say(tone(0.6))
        await desk.until_heard(2)


async def test_a_change_of_instructions_waits_until_the_agent_was_heard() -> None:
    """While a connection is made nobody hears the user, so an answer is not left before its end."""
    story = Say(duration_s=3.0, text="Once upon a time there was a king.")
    agent = Silent()
    async with call(Scenario(default_reply=story, connect_delay_s=0.5), agent) as desk:
        await desk.say(tone(0.6))
        await desk.until_state("speaking")
        await agent.update_instructions("You are a pirate.")
        await desk.server.wait_connections(2, timeout=20)

        (heard,) = desk.loudspeaker.heard
        assert heard.started_at + story.duration_s <= desk.server.dials[1].at_s + 0.01


def _all_that_was_told(server: Any) -> str:
    told = [configure.session.instructions or "" for configure in server.connection.configures]
    return "\n".join(
        [*told, *(item.item.text for item in server.events_of(ev.ConversationItemCreate))]
    )
