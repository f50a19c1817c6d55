"""Functions of every kind, and every way in which a round of calls can go."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import (
    Agent,
    AgentTask,
    RunContext,
    StopResponse,
    ToolError,
    function_tool,
    llm,
)

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import (
    Call,
    ConnectionRecord,
    Context,
    Loudspeaker,
    Reply,
    Samples,
    Say,
    Scenario,
)
from livekit_plugins_hydra.testing import Wait as Pause
from tests.calls import COUGH, Desk, call, tone
from tests.direct import calls_of, hear, line

from .test_reconnects import until_ready

RESULT = Say(duration_s=0.3, tone_hz=700, text="It is sunny in Rome.")
OKAY = Say(duration_s=0.3, tone_hz=500, text="Okay.")
WEATHER = Call("weather", {"city": "Rome"})
ENDINGS = ["before_outputs", "after_outputs", "never"]
"""When the `response.done` of a response with calls comes."""


@function_tool
async def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: where.
    """
    return f"sunny in {city}"


@function_tool
async def clock() -> str:
    """Tell the time."""
    return "noon"


@function_tool(
    raw_schema={
        "name": "roll",
        "description": "Roll a die.",
        "parameters": {"type": "object", "properties": {"sides": {"type": "integer"}}},
    }
)
async def roll(raw_arguments: dict[str, object]) -> str:
    """Roll a die."""
    return f"4 of {raw_arguments['sides']}"


def scripted(*replies: Reply, **fields: Any) -> Scenario:
    """Return a scenario that calls first, and answers with `RESULT` when it is asked."""
    return Scenario(replies=replies, default_reply=RESULT, think_s=0.01, silence_ms=200, **fields)


def outputs(desk: Desk) -> list[str | None]:
    """Return the function outputs that the server was sent, in order."""
    items = [event.item for event in desk.server.events_of(ev.ConversationItemCreate)]
    return [item.output for item in items if item.type == "function_call_output"]


def texts(desk: Desk) -> list[str]:
    """Return the text items that the server was sent, in order."""
    items = [event.item for event in desk.server.events_of(ev.ConversationItemCreate)]
    return [item.text for item in items if item.type == "message"]


def n_creates(desk: Desk) -> int:
    """Return how many responses the server was asked for."""
    return len(desk.server.events_of(ev.ResponseCreate))


def offered(record: ConnectionRecord) -> dict[str, ev.Tool]:
    """Return the tools that the model may call, by name."""
    return {tool.name: tool for tool in record.configuration.tools or ()}


async def ask(desk: Desk) -> None:
    """Say something that the server answers."""
    await desk.say(tone(0.4))


# ------------------------------------------------------------------------ kinds of functions


async def test_functions_of_every_kind_are_offered_and_called() -> None:
    """Plain, raw, without arguments, in toolsets: each has its schema, its call and its output."""
    toolset = llm.Toolset(id="desk", tools=[clock])
    agent = Agent(instructions="Be kind.", tools=[weather, roll, toolset])
    calls = [WEATHER, Call("roll", {"sides": 6}), Call("clock")]
    async with call(scripted(calls), agent) as desk:
        await ask(desk)
        await desk.until_heard(1)

        tools = offered(desk.server.connection)
        assert list(tools) == ["weather", "roll", "clock"]
        assert (tools["weather"].description or "").strip() == "Tell the weather."
        assert tools["weather"].parameters is not None
        assert tools["weather"].parameters["properties"]["city"]["description"] == "where."
        assert tools["weather"].parameters["required"] == ["city"]
        assert tools["roll"].description == "Roll a die."
        assert tools["roll"].parameters == {
            "type": "object",
            "properties": {"sides": {"type": "integer"}},
        }
        assert sorted(str(output) for output in outputs(desk)) == [
            "4 of 6",
            "noon",
            "sunny in Rome",
        ]
        assert n_creates(desk) == 1


@pytest.mark.real_time
async def test_functions_of_an_mcp_server_are_offered_and_called() -> None:
    """What a real MCP server lists is offered under its schema, and runs over there."""
    from livekit.agents.llm import mcp

    server = mcp.MCPServerStdio(
        sys.executable,
        [str(Path(__file__).parents[1] / "mcp_server.py")],
        client_session_timeout_seconds=30,
    )
    agent = Agent(instructions="Be kind.", tools=[mcp.MCPToolset(id="library", mcp_server=server)])
    async with call(scripted(Call("lend", {"title": "Emma"})), agent) as desk:
        await ask(desk)
        await desk.until_heard(1)

        (tool,) = offered(desk.server.connection).values()
        assert tool.name == "lend"
        assert tool.parameters is not None
        assert set(tool.parameters["properties"]) == {"title", "days"}
        (output,) = outputs(desk)
        assert json.loads(output or "")["text"] == "Emma is yours for 14 days"


class Search(llm.ProviderTool):
    """A tool that another provider runs."""

    def __init__(self, name: str) -> None:
        super().__init__(id=name)


async def test_tools_of_other_providers_are_named_in_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What Hydra can't run is left out and named, once; the rest works."""
    tools: list[llm.Tool | llm.Toolset] = [Search("web_search"), weather, Search("file_search")]
    agent = Agent(instructions="Be kind.", tools=tools)
    async with call(scripted(WEATHER), agent) as desk:
        await ask(desk)
        await desk.until_heard(1)
        await agent.update_tools([*tools, clock])
        await desk.server.wait_for(ev.SessionUpdated)

        assert list(offered(desk.server.connection)) == ["weather", "clock"]
    told = [record.getMessage() for record in caplog.records if "search" in record.getMessage()]
    assert len(told) == 1
    assert "web_search, file_search" in told[0]


# -------------------------------------------------------------------------- rounds of calls


@pytest.mark.parametrize("done", ENDINGS)
async def test_parallel_calls_are_one_round(done: Any) -> None:
    """All outputs of a response's calls go out before the one request for a response."""
    calls = [Call("weather", {"city": city}, delta_s=0.02) for city in ("Rome", "Oslo", "Bonn")]
    agent = Agent(instructions="Be kind.", tools=[weather])
    async with call(scripted(calls, calling_response_done=done), agent) as desk:
        await ask(desk)
        await desk.until_heard(1)
        await desk.until_state("listening")

        assert sorted(str(output) for output in outputs(desk)) == [
            "sunny in Bonn",
            "sunny in Oslo",
            "sunny in Rome",
        ]
        assert n_creates(desk) == 1
        assert len(desk.of("function_tools_executed")) == 1
        assert len(desk.server.responses[1].pcm) > 0


@pytest.mark.parametrize("done", ENDINGS)
async def test_speech_and_calls_in_one_response_both_count(done: Any) -> None:
    """What is said before a function call is played in full, then the result."""
    reply: Reply = [OKAY, WEATHER]
    agent = Agent(instructions="Be kind.", tools=[weather])
    async with call(scripted(reply, calling_response_done=done), agent) as desk:
        await ask(desk)
        await desk.until_heard(2)

        assert desk.heard_s == [OKAY.duration_s, RESULT.duration_s]
        assert outputs(desk) == ["sunny in Rome"]
        assert n_creates(desk) == 1


async def test_a_call_that_comes_late_is_answered_too() -> None:
    """One that comes after its response's streams were closed is a round of its own."""
    reply: Reply = [WEATHER, Pause(0.6), Call("clock")]
    agent = Agent(instructions="Be kind.", tools=[weather, clock])
    async with call(scripted(reply), agent) as desk:
        await ask(desk)
        await desk.until(lambda: len(outputs(desk)) == 2)
        await desk.until_heard(1)
        await desk.until_state("listening")

        assert outputs(desk) == ["sunny in Rome", "noon"]
        assert len(desk.of("function_tools_executed")) == 2


LOOK = Say(duration_s=3.0, tone_hz=600, text="Let me look.")
NOT_RUN = "Not run: it was still waiting when you were interrupted. Call it again if wanted."


@pytest.mark.parametrize("sound", [tone(0.4), COUGH], ids=["words", "a cough"])
@pytest.mark.parametrize("done", ENDINGS)
async def test_a_call_that_the_user_kept_from_running_is_answered_too(
    done: Any, sound: Samples
) -> None:
    """The framework drops a call that waits for a speech to end: the server is told so, once."""
    late = Call("clock")
    first: Reply = [LOOK, WEATHER, Pause(0.3), late]
    agent = Agent(instructions="Be kind.", tools=[weather, clock])
    async with call(scripted(first, calling_response_done=done), agent) as desk:
        await ask(desk)
        await desk.until(lambda: [len(it.call_ids) for it in desk.server.responses] == [2])
        await desk.until_state("speaking")
        n_heard = len(desk.loudspeaker.heard)
        await desk.say(sound)
        await desk.until(lambda: len(desk.loudspeaker.heard) > n_heard)
        await desk.until_state("listening")

        assert sorted(each or "" for each in outputs(desk)) == [
            NOT_RUN,
            "sunny in Rome",
        ]
        await desk.session.current_agent.update_instructions("Be even kinder.")
        await desk.server.wait_connections(2)  # nothing is awaited any more


@pytest.mark.parametrize("is_typing", [False, True])
async def test_a_call_that_the_application_kept_from_running_is_answered_too(
    is_typing: bool,
) -> None:
    """As for the user's speech; and typed text, which interrupts as well, has its own answer."""
    first: Reply = [LOOK, WEATHER, Pause(0.3), Call("clock")]
    agent = Agent(instructions="Be kind.", tools=[weather, clock])
    async with call(scripted(first), agent) as desk:
        await ask(desk)
        await desk.until(lambda: len(desk.of("speech_created")) == 2)
        await desk.until_state("speaking")
        desk.session.interrupt()
        if is_typing:
            desk.session.generate_reply(user_input="Never mind.")
            await desk.until_heard(2)
        await desk.until(lambda: len(outputs(desk)) == 2)
        await desk.until_state("listening")

        assert sorted(each or "" for each in outputs(desk)) == [NOT_RUN, "sunny in Rome"]
        assert desk.of("function_tools_executed")
        await desk.session.current_agent.update_instructions("Be even kinder.")
        await desk.server.wait_connections(2)


async def test_a_call_behind_an_asked_reply_that_the_user_interrupts_is_answered() -> None:
    """The framework plays what it has asked for first, though the call came before it."""
    agent = Agent(instructions="Be kind.", tools=[weather])
    scenario = Scenario(
        replies=[OKAY, WEATHER, LOOK], default_reply=RESULT, think_s=0.3, silence_ms=200
    )
    async with call(scenario, agent) as desk:
        await ask(desk)
        await desk.until_heard(1)
        desk.microphone.say(tone(0.4))
        await desk.until(lambda: len(desk.server.connection.turns) == 2)
        desk.session.generate_reply(instructions="Say that it takes a while.")
        await desk.until(lambda: len(desk.server.responses) == 3)
        await desk.until_state("speaking")
        await ask(desk)
        await desk.until(lambda: outputs(desk))

        assert outputs(desk) == [NOT_RUN]
        assert not desk.of("function_tools_executed")


@pytest.mark.parametrize("done", ENDINGS)
async def test_rounds_follow_each_other(done: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A narration may call again; each round has one request, and the last one is played."""
    agent = Agent(instructions="Be kind.", tools=[weather, clock])
    scenario = scripted(WEATHER, Call("clock"), calling_response_done=done)
    async with call(scenario, agent) as desk:
        await ask(desk)
        await desk.until_heard(1)

        assert outputs(desk) == ["sunny in Rome", "noon"]
        assert n_creates(desk) == 2
        triggers = [response.trigger for response in desk.server.responses]
        assert triggers == ["user_turn", "tool_outputs", "tool_outputs"]
    assert "without any audio" not in caplog.text


# --------------------------------------------------------------------- functions that fail


@function_tool
async def fail_politely() -> str:
    """Fail."""
    raise ToolError("the archive is closed on Mondays")


@function_tool
async def fail_badly() -> str:
    """Fail."""
    raise RuntimeError("a secret of the house")


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Call("fail_politely"), "the archive is closed on Mondays"),
        (Call("fail_badly"), "An internal error occurred"),
        (Call("nobody"), "nobody"),
        (Call("weather", '{"city": '), ""),
        (Call("weather", "Rome, please"), ""),
        (Call("weather", {"town": "Rome"}), ""),
        (Call("weather", ""), ""),
    ],
    ids=["ToolError", "exception", "unknown", "cut off", "no JSON", "wrong", "empty"],
)
async def test_a_call_that_fails_is_answered_all_the_same(reply: Call, told: str) -> None:
    """Whatever goes wrong with a call, its output says so, and the model speaks about it."""
    agent = Agent(instructions="Be kind.", tools=[weather, fail_politely, fail_badly])
    async with call(scripted(reply), agent, complaints_are_fine=True) as desk:
        await ask(desk)
        await desk.until_heard(1)

        (output,) = outputs(desk)
        assert told in (output or "")
        assert "secret" not in (output or "")
        assert n_creates(desk) == 1
        await desk.until_state("listening")


@function_tool
async def stop() -> str:
    """Stop."""
    raise StopResponse


@function_tool
async def note() -> None:
    """Note something."""


@pytest.mark.parametrize("name", ["stop", "note"])
async def test_a_call_that_wants_no_reply_gets_none(name: str) -> None:
    """After StopResponse, or without a result, the server has its output and is not asked."""
    agent = Agent(instructions="Be kind.", tools=[stop, note])
    async with call(scripted(Call(name)), agent) as desk:
        await ask(desk)
        await desk.until(lambda: outputs(desk))
        await desk.until_state("listening")
        assert outputs(desk) == [""]
        assert n_creates(desk) == 0

        await ask(desk)
        await desk.until_heard(1)
        assert n_creates(desk) == 0


async def test_one_result_is_enough_for_a_reply() -> None:
    """In a round of several, a call that wants no reply does not silence the others."""
    agent = Agent(instructions="Be kind.", tools=[stop, clock])
    async with call(scripted([Call("stop"), Call("clock")]), agent) as desk:
        await ask(desk)
        await desk.until_heard(1)

        assert sorted(str(output) for output in outputs(desk)) == ["", "noon"]
        assert n_creates(desk) == 1


# ------------------------------------------------------------------ functions that hand over


class Librarian(Agent):
    """Speaks first."""

    def __init__(self) -> None:
        super().__init__(instructions="You know all books.")

    async def on_enter(self) -> None:
        """Greet."""
        self.session.generate_reply(instructions="Say that you are the librarian.")


@function_tool
async def transfer() -> Agent:
    """Go to the librarian."""
    return Librarian()


@function_tool
async def announce() -> tuple[Agent, str]:
    """Go to the librarian, with an announcement."""
    return Librarian(), "the librarian comes"


@pytest.mark.parametrize("done", ENDINGS)
async def test_a_function_may_hand_over_in_silence(done: Any) -> None:
    """A function that returns an agent: the next voice is the new agent's."""
    agent = Agent(instructions="Be kind.", tools=[transfer])
    async with call(scripted(Call("transfer"), calling_response_done=done), agent) as desk:
        await ask(desk)
        await desk.until_heard(1)

        first, second = desk.server.connections
        assert (second.configuration.instructions or "").startswith("You know all books.")
        assert [response.trigger for response in second.responses] == ["greeting"]
        assert len(first.responses) == 1
        assert n_creates(desk) == 0


async def test_a_function_may_hand_over_with_a_word() -> None:
    """With a result, the old agent tells it, without tools; then the new one speaks."""
    agent = Agent(instructions="Be kind.", tools=[announce])
    async with call(scripted(Call("announce")), agent) as desk:
        await ask(desk)
        await desk.until_heard(2)

        first, second = desk.server.connections
        assert outputs(desk) == ["the librarian comes"]
        assert [response.trigger for response in first.responses] == ["user_turn", "tool_outputs"]
        assert [response.trigger for response in second.responses] == ["greeting"]


class Consent(AgentTask[str]):
    """Asks whether it may go on."""

    def __init__(self) -> None:
        super().__init__(instructions="Ask for consent.")

    async def on_enter(self) -> None:
        """Ask."""
        self.session.generate_reply(instructions="Ask whether recording is fine.")

    @function_tool
    async def agree(self) -> None:
        """The user agrees."""
        self.complete("the user agrees")


@function_tool
async def get_consent() -> str:
    """Ask for consent."""
    return await Consent()


async def test_a_function_may_hold_a_conversation_of_its_own() -> None:
    """An AgentTask inside a function: three connections, and its result is spoken on the last."""

    def reply(context: Context) -> Reply:
        if context.trigger == "user_turn":
            return Call("get_consent" if context.connection_number == 1 else "agree")
        return OKAY if context.connection_number == 2 else RESULT

    agent = Agent(instructions="Be kind.", tools=[get_consent])
    async with call(Scenario(replies=reply), agent) as desk:
        await ask(desk)
        await desk.until_heard(1)
        await ask(desk)
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert desk.heard_s == [OKAY.duration_s, RESULT.duration_s]
        last = desk.server.connections[-1]
        assert (last.configuration.instructions or "").startswith("Be kind.")
        assert "the user agrees" in "\n".join([last.configuration.instructions or "", *texts(desk)])
        assert "unknown_call_id" not in [each.rule for each in desk.server.violations]


# --------------------------------------------------------------------------- tool choice


def eager(context: Context) -> Reply:
    """Call as long as there is something to call."""
    return WEATHER if context.tools else RESULT


async def test_steps_come_to_an_end() -> None:
    """After `max_tool_steps` the last reply is made without tools, and then they are back."""
    agent = Agent(instructions="Be kind.", tools=[weather])
    options = {"max_tool_steps": 2}
    async with call(Scenario(replies=eager), agent, session_options=options) as desk:
        await ask(desk)
        await desk.until_heard(1)
        await desk.server.wait_for(ev.SessionUpdated, count=2)

        assert outputs(desk) == ["sunny in Rome"] * 3
        updates = [event.session.tools for event in desk.server.events_of(ev.SessionUpdate)]
        assert [len(tools or ()) for tools in updates] == [0, 1]
        assert n_creates(desk) == 3


async def test_a_reply_can_be_made_without_tools() -> None:
    """`generate_reply(tool_choice="none")` takes the tools away for that reply alone."""
    agent = Agent(instructions="Be kind.", tools=[weather])
    async with call(Scenario(replies=eager), agent) as desk:
        await until_ready(desk)
        await desk.session.generate_reply(tool_choice="none")
        assert desk.heard_s == [RESULT.duration_s]
        assert outputs(desk) == []

        await desk.until(lambda: offered(desk.server.connection))
        await ask(desk)
        await desk.until(lambda: outputs(desk))


async def test_a_call_without_leave_is_answered_all_the_same() -> None:
    """A model may call what was taken away: the framework ignores that, and the call goes on."""
    agent = Agent(instructions="Be kind.", tools=[weather])
    scenario = scripted(WEATHER, tool_response_timeout_s=None)
    async with call(scenario, agent, complaints_are_fine=True) as desk:
        await until_ready(desk)
        await desk.session.generate_reply(tool_choice="none")
        await desk.until(lambda: outputs(desk))
        assert "may be called now" in (outputs(desk)[0] or "")
        assert not desk.of("function_tools_executed")

        await agent.update_instructions("Be brief.")
        await desk.until(lambda: len(desk.server.connections) == 2)


async def test_a_reply_can_be_made_with_some_of_the_tools() -> None:
    """`generate_reply(tools=[...])` offers these for that reply, and all of them afterwards."""
    seen: list[list[str]] = []

    def reply(context: Context) -> Reply:
        seen.append([tool.name for tool in context.tools])
        return OKAY

    agent = Agent(instructions="Be kind.", tools=[weather, clock])
    async with call(Scenario(replies=reply), agent) as desk:
        await ask(desk)
        await desk.until_heard(1)
        await desk.session.generate_reply(tools=["clock"])
        await desk.until(lambda: len(offered(desk.server.connection)) == 2)
        await ask(desk)
        await desk.until_heard(3)

    assert seen == [["weather", "clock"], ["clock"], ["weather", "clock"]]


# -------------------------------------------------------------------------- long functions


@function_tool(flags=llm.ToolFlag.CANCELLABLE)
async def search(context: RunContext[None], query: str) -> str:
    """Search, and say so."""
    await context.update("searching, one moment")
    await asyncio.sleep(0.5)
    return f"found {query} in the basement"


@pytest.mark.parametrize("items", ["accepted", "refused", "dropped"])
async def test_a_function_that_reports_is_told_twice(items: Any) -> None:
    """`ctx.update()` is the output; the result follows as text, or over a new connection."""
    agent = Agent(instructions="Be kind.", tools=[search])
    scenario = scripted(Call("search", {"query": "Emma"}), message_items=items, transcripts=True)
    async with call(scenario, agent) as desk:
        await ask(desk)
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert len(outputs(desk)) == 1
        assert "searching, one moment" in (outputs(desk)[0] or "")
        told = [record.configuration.instructions or "" for record in desk.server.connections]
        assert "found Emma in the basement" in "\n".join([*texts(desk), *told])
        assert len(desk.server.connections) == (2 if items == "refused" else 1)


async def test_a_server_that_gives_up_waiting_is_told_later() -> None:
    """`tool_response_timeout` is an error with a hint; the late output is not lost."""

    @function_tool
    async def ponder() -> str:
        """Think for long."""
        await desk.until(lambda: desk.of("error"))
        return "forty-two"

    agent = Agent(instructions="Be kind.", tools=[ponder])
    scenario = scripted(Call("ponder"), tool_response_timeout_s=0.3)
    async with call(scenario, agent) as desk:
        await ask(desk)
        await desk.until_heard(1)

        (event,) = desk.of("error")
        assert event.error.recoverable
        assert "ctx.update()" in str(event.error.error)
        assert outputs(desk) == []
        told = [record.configuration.instructions or "" for record in desk.server.connections]
        assert "forty-two" in "\n".join([*texts(desk), *told])


# --------------------------------------------------------------------------- interruptions


class Slow(Agent):
    """Has a function that waits until it is told to end."""

    def __init__(self) -> None:
        super().__init__(instructions="Be kind.")
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()

    @function_tool
    async def lookup(self) -> str:
        """Look something up."""
        self.began.set()
        await self.may_end.wait()
        return "forty-two"


async def until_answered_and_told(desk: Desk, agent: Slow) -> None:
    """Hear what was said meanwhile answered, let the function end, and hear its result, once."""
    await desk.until_heard(1)
    agent.may_end.set()
    await desk.until_heard(2)
    await desk.until_state("listening")
    assert desk.heard_s == [OKAY.duration_s, RESULT.duration_s]


async def test_a_question_during_a_function_is_answered_and_so_is_the_function() -> None:
    """A user who speaks while a function runs hears the answer, then the result, once."""
    agent = Slow()
    async with call(scripted(Call("lookup"), OKAY), agent) as desk:
        await ask(desk)
        await agent.began.wait()
        await ask(desk)
        await until_answered_and_told(desk, agent)

        assert outputs(desk) == ["forty-two"]
        assert n_creates(desk) == 1


async def test_each_call_is_run_where_the_server_uses_its_ids_again() -> None:
    """In the next turn, and on the next connection: each has its result, under the server's id."""
    agent = Agent(instructions="", tools=[weather])
    cities = ("Rome", "Oslo", "Pune")
    replies = [
        reply
        for city in cities
        for reply in (Call("weather", {"city": city}, call_id="call_1"), RESULT)
    ]
    async with call(scripted(*replies), agent) as desk:
        await ask(desk)
        await desk.until_heard(1)
        await ask(desk)
        await desk.until_heard(2)
        desk.server.drop()
        await until_ready(desk, 2)
        await ask(desk)
        await desk.until_heard(3)

        posted = [
            (event.item.call_id, event.item.output)
            for event in desk.server.events_of(ev.ConversationItemCreate)
        ]
        assert posted == [("call_1", f"sunny in {city}") for city in cities]
        executed = [each.function_calls[0] for each in desk.of("function_tools_executed")]
        assert len({each.call_id for each in executed}) == len(cities)


async def test_a_result_that_the_framework_drops_is_told() -> None:
    """It waits for the end of a long answer to what was said meanwhile, and gives up after 5 s."""
    answer = Say(duration_s=7.0, tone_hz=500, text="Yes, and there is a lot to say about that.")
    agent = Slow()
    async with call(scripted(Call("lookup"), answer), agent, complaints_are_fine=True) as desk:
        await ask(desk)
        await agent.began.wait()
        await ask(desk)
        await desk.until_state("speaking")
        agent.may_end.set()
        await desk.until_heard(2)

        assert desk.heard_s == [answer.duration_s, RESULT.duration_s]
        assert outputs(desk) == ["forty-two"]
        assert n_creates(desk) == 1


class Firm(Slow):
    """Has one that may not be interrupted, too."""

    @function_tool
    async def book(self, context: RunContext[None]) -> str:
        """Book something."""
        context.disallow_interruptions()
        self.began.set()
        await self.may_end.wait()
        return "two seats"


async def test_a_function_that_may_not_be_interrupted_is_told_once() -> None:
    """The framework hands its result over after any answer, and asks for the reply itself."""
    answer = Say(duration_s=9.0, tone_hz=500)
    agent = Firm()
    async with call(scripted(Call("book"), answer), agent) as desk:
        await ask(desk)
        await agent.began.wait()
        await ask(desk)
        await desk.until_state("speaking")
        agent.may_end.set()
        await desk.until_heard(2)
        await ask(desk)
        await desk.until_heard(3)

        assert desk.heard_s == [answer.duration_s, RESULT.duration_s, RESULT.duration_s]
        assert outputs(desk) == ["two seats"]
        assert n_creates(desk) == 1


async def test_a_result_outlives_a_cough_over_the_answer_before_it() -> None:
    """The framework drops what it has queued behind an answer; the result is told all the same."""
    answer = Say(duration_s=3.0, tone_hz=500, text="Yes, and there is a lot to say about that.")
    agent = Slow()
    async with call(scripted(Call("lookup"), answer), agent) as desk:
        await ask(desk)
        await agent.began.wait()
        desk.server.drop()
        await until_ready(desk, 2)
        desk.microphone.say(tone(1.0))
        await desk.until(lambda: desk.session.user_state == "speaking")
        agent.may_end.set()
        await desk.until_state("speaking")
        await asyncio.sleep(1.0)
        await desk.say(COUGH)
        await desk.until(lambda: RESULT.duration_s in desk.heard_s)

        assert texts(desk) == ["Result of the function lookup: forty-two"]


async def test_an_output_that_comes_while_the_user_speaks_is_told_with_the_answer() -> None:
    """The server has the output before it answers the turn: nothing is asked for, nothing lost."""
    seen: list[Context] = []

    def reply(context: Context) -> Reply:
        seen.append(context)
        return Call("lookup") if context.response_number == 1 else RESULT

    agent = Slow()
    async with call(Scenario(replies=reply), agent) as desk:
        await ask(desk)
        await agent.began.wait()
        desk.microphone.say(tone(1.0))
        await desk.until(lambda: desk.session.user_state == "speaking")
        agent.may_end.set()
        await desk.until_heard(1)
        await desk.until_state("listening")

        assert [output.output for output in seen[1].outputs] == ["forty-two"]
        assert n_creates(desk) == 0
        assert desk.heard_s == [RESULT.duration_s]


@pytest.mark.parametrize("loses", ["the connection", "its patience"])
async def test_a_function_that_outlives_its_connection_is_told_to_a_user_who_spoke(
    loses: str,
) -> None:
    """The line drops, or the server waits no longer, and the user asks something: both come."""
    agent = Slow()
    patience_s = 0.5 if loses == "its patience" else None
    scenario = scripted(Call("lookup"), OKAY, tool_response_timeout_s=patience_s)
    async with call(scenario, agent) as desk:
        await ask(desk)
        await agent.began.wait()
        if loses == "its patience":
            await desk.until(lambda: desk.of("error"))
        else:
            desk.server.drop()
            await until_ready(desk, 2)
        await ask(desk)
        await until_answered_and_told(desk, agent)

        assert outputs(desk) == []
        assert texts(desk) == ["Result of the function lookup: forty-two"]
        assert n_creates(desk) == 1


async def test_a_function_is_told_though_something_was_typed_meanwhile() -> None:
    """A room's text input interrupts, and is answered; the result follows when it is there."""
    agent = Slow()
    async with call(scripted(Call("lookup"), OKAY), agent) as desk:
        await ask(desk)
        await agent.began.wait()
        desk.session.interrupt()
        desk.session.generate_reply(user_input="How long will it take?")
        await until_answered_and_told(desk, agent)

        assert outputs(desk) == ["forty-two"]
        assert n_creates(desk) == 2


@pytest.mark.parametrize("done", ENDINGS)
async def test_a_cough_over_the_calling_responses_own_words_loses_nothing(done: Any) -> None:
    """A cough cuts "one moment" while its function runs: the result is still told, once."""
    agent = Slow()
    reply: Reply = [Say(duration_s=3.0), Call("lookup")]
    async with call(scripted(reply, calling_response_done=done), agent) as desk:
        await ask(desk)
        await agent.began.wait()
        await desk.until_state("speaking")
        await desk.say(COUGH)
        await desk.until(lambda: desk.server.connection.discarded_turns)
        agent.may_end.set()
        await desk.until(lambda: len(desk.server.responses) == 2)
        await desk.until(lambda: desk.loudspeaker.heard[-1].duration_s == RESULT.duration_s)
        await desk.until_state("listening")

        assert outputs(desk) == ["forty-two"]
        assert n_creates(desk) == 1


async def test_a_cough_before_the_first_word_of_a_narration_leaves_no_dead_air() -> None:
    """The server has begun to tell a result, and gives it up for a cough: it is told, once."""
    agent = Agent(instructions="Be kind.", tools=[weather])
    async with call(scripted(WEATHER, [Pause(1.0), RESULT]), agent) as desk:
        await ask(desk)
        await desk.until(lambda: len(desk.server.responses) == 2)
        await desk.say(COUGH)
        await desk.until_heard(1)
        await desk.until_state("listening")

        assert desk.server.connection.discarded_turns
        assert desk.heard_s == [RESULT.duration_s]
        assert n_creates(desk) == 2


# --------------------------------------------------------------------------------- timing

LIMITS_MS = [
    ("before_outputs", ev.ResponseDone, 5.0),
    ("after_outputs", ev.ResponseFunctionCallArgumentsDone, 220.0),
    ("never", ev.ResponseFunctionCallArgumentsDone, 220.0),
]
"""When the server ends a calling response, from what the time counts, and how long it may be."""

NOISE_MS = 20.0
"""How much later things happen on a machine that is busy with other tests."""


def took_ms(record: ConnectionRecord, since: type[ev.Event]) -> float:
    """Return the milliseconds from an event of the server to the request for a response."""
    asked_at = [
        each.at_s for each in record.client_events if isinstance(each.event, ev.ResponseCreate)
    ][-1]
    sent = [each.at_s for each in record.server_events if isinstance(each.event, since)]
    return 1000 * (asked_at - max(at for at in sent if at < asked_at))


def show(what: str, took: list[float]) -> None:
    """Print a distribution."""
    print(f"\n{what}: {', '.join(f'{ms:.1f}' for ms in sorted(took))} ms")


def calling(done: Any) -> Scenario:
    """Return a scenario that answers each turn with a call, and each output with words."""
    return Scenario(
        replies=lambda context: OKAY if context.outputs else Call("clock"),
        calling_response_done=done,
        silence_ms=200,
    )


@pytest.mark.parametrize(("done", "since", "limit_ms"), LIMITS_MS)
async def test_a_round_waits_for_next_to_nothing(
    done: Any, since: type[ev.Event], limit_ms: float
) -> None:
    """What the plugin adds to a round: nothing if the server ends it, else the grace."""
    took: list[float] = []
    async with line(calling(done)) as opened:
        for number in range(1, 9):
            opened.say(tone(0.4))
            (made,) = await calls_of(await opened.generation(2 * number - 1))
            ctx = opened.session.chat_ctx
            ctx.items.append(
                llm.FunctionCallOutput(
                    call_id=made.call_id, name=made.name, output="noon", is_error=False
                )
            )
            await opened.session.update_chat_ctx(ctx)
            opened.session.interrupt()
            await hear(await opened.session.generate_reply())
            took.append(took_ms(opened.server.connection, since))
    show(f"added by the plugin, {done}", took)
    assert min(took) < limit_ms
    assert statistics.median(took) < limit_ms + NOISE_MS


@pytest.mark.parametrize(("done", "since", "limit_ms"), LIMITS_MS)
async def test_a_round_of_the_framework_is_quick(
    done: Any, since: type[ev.Event], limit_ms: float
) -> None:
    """With what the framework itself needs, a round is quick as well."""
    took: list[float] = []
    agent = Agent(instructions="Be kind.", tools=[clock])
    async with call(calling(done), agent, loudspeaker=Loudspeaker(speed=4.0)) as desk:
        for number in range(1, 6):
            await desk.say(tone(0.4))
            await desk.until_heard(number)
            took.append(took_ms(desk.server.connection, since))
    show(f"with the framework, {done}", took)
    assert statistics.median(took) < limit_ms + 4 * NOISE_MS
