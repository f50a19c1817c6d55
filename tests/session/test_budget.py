"""The size of a configuration: above a ceiling the server falls silent without an error."""

from __future__ import annotations

import logging

import pytest
from livekit.agents import Agent, function_tool, llm

from livekit_plugins_hydra.protocol import wire
from livekit_plugins_hydra.protocol.ceiling import CEILING_BYTES, SPARE_BYTES
from livekit_plugins_hydra.testing import Call, Say, Scenario
from tests.calls import call, tone
from tests.direct import Line, hear, line

YES = Say(duration_s=0.3, text="Yes.")
FORGIVING = Scenario(default_reply=YES, tolerate=frozenset({"over_ceiling"}))


def spoken(n_turns: int, text: str) -> llm.ChatContext:
    """Return a conversation of so many turns, numbered."""
    ctx = llm.ChatContext.empty()
    for number in range(n_turns):
        role = "assistant" if number % 2 else "user"
        ctx.add_message(role=role, content=f"turn {number}: {text}")  # type: ignore[arg-type]
    return ctx


def big_tool(name: str, n_characters: int) -> llm.Tool:
    """Return a tool with a long description."""

    async def run(raw_arguments: dict[str, object]) -> str:
        return ""

    schema = {"name": name, "description": "x" * n_characters, "parameters": {"type": "object"}}
    return function_tool(run, raw_schema=schema)


def told_sizes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings about sizes."""
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if "too large" in message]


def configured_bytes(opened: Line) -> int:
    """Return the size of the last configuration, its non-ASCII characters escaped."""
    return wire.escaped_size(opened.server.connection.configures[-1])


@pytest.mark.parametrize("text", ["all is well. " * 20, "schön 😀 " * 40, '"\\\n\t' * 60])
async def test_a_long_history_is_cut_to_the_budget(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a history that is too long the newest turns are told; the persona is never shortened."""
    async with line(Scenario(default_reply=YES)) as opened:
        persona = "You are kind, and you have a long memory. " * 20
        await opened.session._update_session(
            instructions=persona, chat_ctx=spoken(400, text), tools=[big_tool("recall", 2_000)]
        )
        await hear(await opened.session.generate_reply(instructions="Say hello."))

        instructions = opened.server.connection.configuration.instructions or ""
        assert configured_bytes(opened) <= CEILING_BYTES
        assert configured_bytes(opened) > 0.9 * (CEILING_BYTES - SPARE_BYTES)
        assert instructions.startswith(persona)
        assert instructions.endswith("Say hello.")
        assert "turn 399:" in instructions
        assert "turn 0:" not in instructions
        assert opened.server.responses[0].pcm
    assert told_sizes(caplog) == []


async def test_a_giant_turn_does_not_push_out_the_rest() -> None:
    """One turn that is larger than the budget is itself what is shortened or left out."""
    async with line(Scenario(default_reply=YES)) as opened:
        ctx = spoken(6, "all is well")
        ctx.add_message(role="user", content="giant " * 20_000)
        await opened.session._update_session(chat_ctx=ctx)
        await opened.ready()

        instructions = opened.server.connection.configuration.instructions or ""
        assert configured_bytes(opened) <= CEILING_BYTES
        assert "turn 5:" in instructions


async def test_a_call_that_grows_stays_inside_the_budget() -> None:
    """A reconnect late in a long call is configured inside the budget, too."""
    async with line(Scenario(default_reply=YES)) as opened:
        await opened.session._update_session(instructions="Be kind.")
        await opened.ready()
        await opened.session.update_chat_ctx(spoken(400, "all is well. " * 20))
        opened.server.drop()
        record = await opened.ready(2)

        assert configured_bytes(opened) <= CEILING_BYTES
        assert "turn 399:" in (record.configuration.instructions or "")


async def test_a_persona_that_is_too_large_is_told_once_with_its_size(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Instructions and tools are never cut: one warning has the sizes, and they are sent whole."""
    persona = "x" * 40_000
    async with line(FORGIVING) as opened:
        await opened.session._update_session(
            instructions=persona, tools=[big_tool("recall", 2_000)]
        )
        record = await opened.ready()
        opened.session.update_options(tool_choice="none")
        opened.session.update_options(tool_choice="auto")
        assert record.configuration.instructions == persona
    (told,) = told_sizes(caplog)
    assert "40000 characters" in told
    assert "1 tools" in told


async def test_tools_that_come_later_count_too(caplog: pytest.LogCaptureFixture) -> None:
    """What `session.update` adds to a small configuration can exceed the budget as well."""
    caplog.set_level(logging.WARNING)
    async with line(FORGIVING) as opened:
        await opened.session._update_session(instructions="Be kind.")
        await opened.ready()
        assert told_sizes(caplog) == []
        tools: list[llm.Tool] = [big_tool(f"recall_{number}", 5_000) for number in range(7)]
        await opened.session.update_tools(tools)
        await opened.session.update_tools(tools)
    (told,) = told_sizes(caplog)
    assert "7 tools" in told


async def test_a_large_result_is_told_however_large_the_persona_is() -> None:
    """Each time that the function is called: what is sent of its result is what still fits."""

    @function_tool
    async def look_up() -> str:
        """Look something up."""
        return "x" * 20_000

    scenario = Scenario(
        replies=lambda context: Call("look_up") if context.trigger == "user_turn" else YES,
        payload_ceiling_of="context",
    )
    agent = Agent(instructions="p" * (CEILING_BYTES - SPARE_BYTES - 1_500), tools=[look_up])
    async with call(scenario, agent) as desk:
        for number in range(1, 4):
            await desk.say(tone(0.4))
            await desk.until_heard(number)
            await desk.until_state("listening")
