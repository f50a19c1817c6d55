"""Sessions that are handed on: to another agent, and to another model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit.agents import Agent, APIConnectOptions, function_tool, llm
from livekit.agents.llm import RealtimeModelFallbackAdapter

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.states import About
from livekit_plugins_hydra.testing import Emulator, Microphone, Say, Scenario
from tests.calls import KEY, call, tone

YES = Say(duration_s=0.3, tone_hz=500, text="Yes, of course.")
POLITE = Scenario(default_reply=YES, transcripts=True, user_text="Is anybody there?")


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@function_tool
async def clock() -> str:
    """Tell the time."""
    return "noon"


class Greeter(Agent):
    """Speaks first."""

    async def on_enter(self) -> None:
        """Greet."""
        self.session.generate_reply(instructions="Say who you are.")


# --------------------------------------------------------------------------- other agents


async def test_an_agent_with_other_tools_takes_over_the_connection() -> None:
    """Same instructions, other tools: the call goes on, with one `session.update`."""
    first = Agent(instructions="Be kind.", tools=[weather])
    second = Agent(instructions="Be kind.", tools=[clock])
    third = Agent(instructions="Be kind.", tools=[clock])
    async with call(Scenario(default_reply=YES), first) as desk:
        await desk.say(tone(0.5))
        await desk.until_heard(1)
        desk.session.update_agent(second)
        await desk.server.wait_for(ev.SessionUpdated)
        desk.session.update_agent(third)
        await desk.say(tone(0.5))
        await desk.until_heard(2)

        (update,) = desk.server.events_of(ev.SessionUpdate)
        assert [tool.name for tool in update.session.tools or ()] == ["clock"]
        assert len(desk.server.dials) == 1
        assert desk.session.current_agent is third


async def test_an_agent_with_other_instructions_has_its_own_connection() -> None:
    """Instructions are frozen, so another agent is another connection; the old one is closed."""
    first = Agent(instructions="Be kind.")
    second = Greeter(instructions="Be strict.")
    async with call(POLITE, first) as desk:
        await desk.say(tone(0.5))
        await desk.until_heard(1)
        desk.session.update_agent(second)
        await desk.until_heard(2)
        await desk.until(lambda: len(desk.server.open_connections) == 1)

        old, new = desk.server.connections
        assert old.close_code == 1000
        assert (new.configuration.instructions or "").startswith("Be strict.")
        assert "Say who you are." in (new.configuration.instructions or "")
        assert new.responses[0].trigger == "greeting"


async def test_an_agent_that_is_given_the_history_knows_it() -> None:
    """What the new agent is constructed with goes into its connection's instructions."""
    first = Agent(instructions="Be kind.")
    async with call(POLITE, first) as desk:
        await desk.say(tone(0.5))
        await desk.until_heard(1)
        await desk.until(lambda: len(first.chat_ctx.messages()) == 2)
        desk.session.update_agent(Greeter(instructions="Be strict.", chat_ctx=first.chat_ctx))
        await desk.until_heard(2)

        instructions = desk.server.connection.configuration.instructions or ""
        assert 'user: "Is anybody there?"\nassistant: "Yes, of course."' in instructions
        assert len(desk.server.connections) == 2


# --------------------------------------------------------------------------- other models


def hydra_at(server: Emulator, **options: Any) -> hydra.RealtimeModel:
    """Return a model for a server, which gives up at the first failure."""
    conn_options = APIConnectOptions(max_retry=0)
    return hydra.RealtimeModel(
        api_key=KEY, base_url=server.url, conn_options=conn_options, **options
    )


async def test_behind_an_adapter_a_call_is_as_without() -> None:
    """As the first model of an adapter Hydra greets in its configuration, on one connection."""
    async with Emulator() as spare, Emulator(POLITE) as server:
        adapter = RealtimeModelFallbackAdapter([hydra_at(server), hydra_at(spare)])
        agent = Greeter(instructions="Be kind.", tools=[weather])
        async with call(Scenario(), agent, model=adapter) as desk:
            await desk.until_heard(1)
            await desk.say(tone(0.5))
            await desk.until_heard(2)

        (configure,) = server.connection.configures
        assert (configure.session.instructions or "").startswith("Be kind.")
        assert [tool.name for tool in configure.session.tools or ()] == ["weather"]
        assert [each.trigger for each in server.responses] == ["greeting", "user_turn"]
        assert len(server.dials) == 1
        assert spare.dials == []


def with_history(*items: llm.ChatItem) -> llm.ChatContext:
    """Return a context of what was said, and called, in an earlier call."""
    said = llm.ChatMessage(role="user", content=["Please connect me to sales."])
    return llm.ChatContext([said, *items])


HISTORIES = {
    "the user": with_history(),
    "the agent": with_history(llm.ChatMessage(role="assistant", content=["I will."])),
    "the application": with_history(llm.ChatMessage(role="system", content=["They are angry."])),
    "a function": with_history(
        llm.FunctionCall(call_id="c1", name="clock", arguments="{}"),
        llm.FunctionCallOutput(call_id="c1", name="clock", output="noon", is_error=False),
    ),
}


class Host(Agent):
    """Speaks first, about nothing in particular."""

    async def on_enter(self) -> None:
        """Speak."""
        self.session.generate_reply()


class Reader(Agent):
    """Answers a letter at once."""

    async def on_enter(self) -> None:
        """Answer."""
        self.session.generate_reply(user_input="Where is room twelve?")


async def configured_with(agent: Agent, *, is_behind_an_adapter: bool) -> ev.ClientSession:
    """Return what the server is configured with for the first words of an agent."""
    async with Emulator(Scenario(default_reply=YES)) as server:
        model: llm.RealtimeModel = hydra_at(server)
        if is_behind_an_adapter:
            model = RealtimeModelFallbackAdapter([model])
        async with call(Scenario(), agent, model=model) as desk:
            await desk.until_heard(1)
        (record,) = server.connections
        return record.configuration


@pytest.mark.parametrize("last", HISTORIES)
async def test_behind_an_adapter_a_history_is_no_request(last: str) -> None:
    """Whoever spoke last in it: the first words are asked for in the same words as without."""
    plain, behind = [
        await configured_with(
            Host(instructions="Be kind.", chat_ctx=HISTORIES[last], tools=[clock]),
            is_behind_an_adapter=is_behind,
        )
        for is_behind in (False, True)
    ]

    assert "Please connect me to sales." in (plain.instructions or "")
    assert behind == plain


@pytest.mark.parametrize("is_behind_an_adapter", [False, True])
async def test_what_is_typed_at_once_is_answered(is_behind_an_adapter: bool) -> None:
    """Text of this call that comes before the configuration is a request, and no history."""
    agent = Reader(instructions="Be kind.", chat_ctx=HISTORIES["the agent"])
    configured = await configured_with(agent, is_behind_an_adapter=is_behind_an_adapter)

    assert (configured.instructions or "").endswith(About.TEXT.value)


async def test_behind_an_adapter_a_phone_may_ring_for_long() -> None:
    """Nobody is in the room yet: the one connection is configured, and kept alive."""
    microphone = Microphone()
    microphone.mute()
    async with Emulator(Scenario()) as server:
        adapter = RealtimeModelFallbackAdapter([hydra_at(server)])
        agent = Agent(instructions="Be kind.")
        async with call(Scenario(), agent, model=adapter, microphone=microphone) as desk:
            await asyncio.sleep(150.0)

            assert len(server.dials) == 1
            assert server.connection.configured_at_s is not None
            assert desk.of("error") == []


async def test_where_the_first_model_refuses_the_second_takes_over() -> None:
    """A key that is refused does not end the call: the second model answers, configured alike.

    What `on_enter` asked for is lost: the adapter repeats only what was thought or spoken.
    """
    async with Emulator(Scenario(keys=())) as broken, Emulator(POLITE) as server:
        adapter = RealtimeModelFallbackAdapter([hydra_at(broken), hydra_at(server, voice="maya")])
        agent = Greeter(instructions="Be kind.", tools=[weather])
        async with call(Scenario(), agent, model=adapter, complaints_are_fine=True) as desk:
            await desk.until(lambda: desk.of("error"))
            await server.wait_for(
                lambda books: books.connections and books.connection.configured_at_s
            )
            await desk.say(tone(0.5))
            await desk.until_heard(1)

        assert [event.error.recoverable for event in desk.of("error")] == [True]
        assert desk.of("close")[-1].error is None
        configured = server.connection.configuration
        assert (configured.voice, configured.instructions) == ("maya", "Be kind.")
        assert [tool.name for tool in configured.tools or ()] == ["weather"]
        assert len(broken.dials) == 1


async def test_where_the_first_model_breaks_the_second_goes_on() -> None:
    """A call that can't go on moves to the next model, with its history, in mid-sentence."""
    story = Say(duration_s=10.0, text="Once upon a time there was a king who had no shoes at all.")
    async with (
        Emulator(Scenario(replies=[YES, story], transcripts=True)) as first,
        Emulator(POLITE) as second,
    ):
        adapter = RealtimeModelFallbackAdapter([hydra_at(first), hydra_at(second)])
        agent = Agent(instructions="Be kind.", tools=[weather])
        async with call(Scenario(), agent, model=adapter, complaints_are_fine=True) as desk:
            await desk.say(tone(0.5))
            await desk.until_heard(1)
            await desk.say(tone(0.5))
            await desk.until_state("speaking")
            first.close(4000, "gone")
            await desk.until_heard(3)
            await desk.until_state("listening")

        instructions = second.connection.configuration.instructions or ""
        assert instructions.startswith("Be kind.")
        assert 'assistant: "Yes, of course."' in instructions
        assert "no shoes" not in instructions
        assert desk.loudspeaker.heard[2].duration_s == pytest.approx(YES.duration_s, abs=0.01)
        assert [each.trigger for each in second.responses] == ["greeting"]
