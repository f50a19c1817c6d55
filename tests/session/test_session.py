"""The session's surface, driven directly: what LiveKit calls, and what it is told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession, function_tool, llm
from livekit.agents.types import NOT_GIVEN, NotGivenOr

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import Call, Emulator, Say, Scenario
from tests.calls import COUGH, KEY, tone
from tests.direct import Line, calls_of, hear, line
from tests.odd_texts import Safe, Scalar

YES = Say(duration_s=0.3, tone_hz=500, text="Yes, of course.")
LONG = Say(duration_s=20.0, tone_hz=600, text="It is a long story and it has no end.")
FAST = Scenario(default_reply=YES, think_s=0.01)
CALLING = Call("weather", {"city": "Rome"}, call_id="call_rome")


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@function_tool
async def clock() -> str:
    """Tell the time."""
    return "noon"


def texts_sent(opened: Line) -> list[tuple[str | None, str]]:
    """Return role and text of the message items that the server was sent."""
    items = [event.item for event in opened.server.events_of(ev.ConversationItemCreate)]
    return [(item.role, item.text) for item in items if item.type == "message"]


def outputs_sent(opened: Line) -> list[tuple[str | None, str | None]]:
    """Return call id and output of the function outputs that the server was sent."""
    items = [event.item for event in opened.server.events_of(ev.ConversationItemCreate)]
    return [(item.call_id, item.output) for item in items if item.type == "function_call_output"]


def n_creates(opened: Line) -> int:
    """Return how many responses the server was asked for."""
    return len(opened.server.events_of(ev.ResponseCreate))


async def answered(opened: Line) -> list[Any]:
    """Have the user say something and the model answer; return what was heard."""
    count = len(opened.of("generation_created"))
    opened.say(tone(0.5))
    heard = await hear(await opened.generation(count + 1))
    await opened.until(lambda: opened.server.responses[-1].ended_at_s)
    return heard


def with_items(opened: Line, *items: llm.ChatItem) -> llm.ChatContext:
    """Return the session's own context and more, as the framework hands it back."""
    ctx = opened.session.chat_ctx
    ctx.items.extend(items)
    return ctx


def typed(text: str) -> llm.ChatMessage:
    """Return what the user has typed."""
    return llm.ChatMessage(role="user", content=[text])


def output_of(call: llm.FunctionCall, output: str) -> llm.FunctionCallOutput:
    """Return what the framework posts for a call."""
    return llm.FunctionCallOutput(
        call_id=call.call_id, name=call.name, output=output, is_error=False
    )


# ----------------------------------------------------------------------------- replies


async def test_a_reply_may_be_the_first_that_a_session_is_asked_for() -> None:
    """`generate_reply` alone configures and is answered; audio is complete, at the true rate."""
    async with line(FAST) as opened:
        generation = await opened.session.generate_reply()
        (heard,) = await hear(generation)

        assert generation.user_initiated
        assert generation.response_id == opened.server.responses[0].id
        assert heard.pcm == bytes(opened.server.responses[0].pcm)
        assert heard.rates_hz == {24_000}
        assert heard.modalities == ["audio", "text"]
        assert await calls_of(generation) == []
        assert opened.of("generation_created") == [generation]


async def test_sound_may_be_the_first_that_a_session_gets() -> None:
    """`push_audio` alone configures the session; the answer is the server's own."""
    async with line(FAST) as opened:
        (heard,) = await answered(opened)

        assert not opened.of("generation_created")[0].user_initiated
        assert heard.pcm == bytes(opened.server.responses[0].pcm)
        assert opened.server.connection.configuration.generate_initial_response is False
        assert n_creates(opened) == 0


async def test_what_was_updated_first_is_in_the_configuration() -> None:
    """`update_*` before the first request all go into the one `session.configure`."""
    async with line(FAST) as opened:
        history = llm.ChatContext.empty()
        history.add_message(role="user", content="My name is Ann.")
        await opened.session.update_instructions("You are a pirate.")
        await opened.session.update_chat_ctx(history)
        await opened.session.update_tools([weather])
        await opened.until(lambda: opened.session.session_id)
        assert opened.server.connection.configures == []

        await hear(await opened.session.generate_reply(instructions="Say hello."))

        (configure,) = opened.server.connection.configures
        instructions = configure.session.instructions or ""
        assert instructions.startswith("You are a pirate.")
        assert "My name is Ann." in instructions
        assert instructions.endswith("Say hello.")
        assert [tool.name for tool in configure.session.tools or ()] == ["weather"]
        assert configure.session.generate_initial_response
        assert texts_sent(opened) == []


async def test_a_session_that_is_updated_piece_by_piece_is_configured_after_the_last() -> None:
    """50 ms after it, without a frame or a reply: an adapter never calls `_update_session`."""
    async with line(FAST) as opened:
        await opened.until(lambda: opened.session.session_id)
        await opened.session.update_instructions("You are a pirate.")
        await asyncio.sleep(0.04)
        await opened.session.update_chat_ctx(llm.ChatContext([typed("My name is Ann.")]))
        await asyncio.sleep(0.04)
        await opened.session.update_tools([weather])
        updated_at = time.monotonic()
        await opened.until(lambda: opened.of("hydra_client_event"))
        took_s = time.monotonic() - updated_at
        await opened.ready()

        (configure,) = opened.server.connection.configures
        assert took_s == pytest.approx(0.05, abs=0.005)
        assert (configure.session.instructions or "").startswith("You are a pirate.")
        assert "My name is Ann." in (configure.session.instructions or "")
        assert [tool.name for tool in configure.session.tools or ()] == ["weather"]
        assert len(opened.server.connections) == 1


async def test_a_later_reply_is_one_text_and_one_request() -> None:
    """On a connection with a past, instructions are a text item before one `response.create`."""
    async with line(FAST) as opened:
        await answered(opened)
        generation = await opened.session.generate_reply(instructions="Ask for the name.")
        await hear(generation)

        assert generation.user_initiated
        assert texts_sent(opened) == [("system", "Ask for the name.")]
        assert n_creates(opened) == 1
        assert len(opened.server.connections) == 1
        assert [response.trigger for response in opened.server.responses] == ["user_turn", "text"]


async def test_typed_text_is_an_item_and_asks_for_nothing_by_itself() -> None:
    """A new user message in the context waits for the request that answers it."""
    async with line(FAST) as opened:
        await answered(opened)
        message = llm.ChatMessage(role="user", content=["Where is room twelve?"])
        await opened.session.update_chat_ctx(with_items(opened, message))
        assert texts_sent(opened) == []

        await hear(await opened.session.generate_reply())

        assert texts_sent(opened) == [("user", "Where is room twelve?")]
        assert n_creates(opened) == 1
        assert message.id in [item.id for item in opened.session.chat_ctx.items]


NO_TEXTS: list[Any] = [Path("instructions.md"), b"Be kind.", 5, ["Be", "kind."]]
"""What takes the place of a text by mistake."""


@pytest.mark.parametrize("no_text", NO_TEXTS)
async def test_a_start_with_instructions_that_are_no_text_fails_and_leaves_nothing(
    no_text: Any,
) -> None:
    """`AgentSession.start` says what they are, and nobody goes on connecting."""
    async with Emulator(FAST) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        session: AgentSession[None] = AgentSession(llm=model)
        with pytest.raises(
            ValueError, match=f"instructions must be text, not {type(no_text).__name__}"
        ):
            await session.start(Agent(instructions=no_text))

        assert server.dials == []


@pytest.mark.parametrize("no_text", NO_TEXTS)
async def test_instructions_that_are_no_text_change_nothing_in_mid_call(no_text: Any) -> None:
    """Neither the agent's, nor those of a reply, which fails; the call goes on."""
    async with line(FAST) as opened:
        await opened.session._update_session(instructions="Be kind.", tools=[weather])
        await answered(opened)
        with pytest.raises(ValueError, match="instructions must be text"):
            await opened.session.update_instructions(no_text)
        with pytest.raises(llm.RealtimeError, match="instructions must be text"):
            await opened.session.generate_reply(instructions=no_text)
        await answered(opened)

        assert texts_sent(opened) == []
        (connection,) = opened.server.connections
        assert connection.configuration.instructions == "Be kind."


async def test_texts_may_be_subclasses_of_str() -> None:
    """From a YAML file or a template: instructions, replies, the voice, messages and outputs."""
    scenario = Scenario(replies=[CALLING, YES], default_reply=YES, think_s=0.01)
    async with line(scenario, voice=Scalar("maya"), model=Safe("hydra-v1.1")) as opened:
        await opened.session._update_session(instructions=Scalar("You are kind."))
        record = await opened.ready()
        opened.say(tone(0.5))
        (called,) = await calls_of(await opened.generation())
        await opened.session.update_chat_ctx(
            with_items(opened, output_of(called, Safe("sunny")), typed(Scalar("And the wind?")))
        )
        await hear(await opened.session.generate_reply(instructions=Safe("Be brief.")))

        assert record.configuration.instructions == "You are kind."
        assert (record.configuration.voice, record.model) == ("maya", "hydra-v1.1")
        assert outputs_sent(opened) == [("call_rome", "sunny")]
        assert texts_sent(opened) == [("user", "And the wind?"), ("system", "Be brief.")]


async def test_a_cancelled_reply_is_never_heard() -> None:
    """Cancelling the future cancels the response, even if it was asked for already."""
    async with line(Scenario(default_reply=YES, think_s=0.3)) as opened:
        await answered(opened)
        reply = opened.session.generate_reply()
        await opened.until(lambda: n_creates(opened))
        reply.cancel()

        await opened.until(lambda: len(opened.server.responses) == 2)
        await opened.until(lambda: opened.server.responses[1].ended_at_s)
        unwanted = opened.server.responses[1]
        (cancel,) = opened.server.events_of(ev.ResponseCancel)
        assert cancel.response_id == unwanted.id
        assert unwanted.reason == "client_cancelled"
        assert len(opened.of("generation_created")) == 1


async def test_a_newer_reply_takes_the_place_of_a_pending_one() -> None:
    """The older future fails with the reason; the newer one is answered."""
    async with line(Scenario(default_reply=YES, connect_delay_s=0.1)) as opened:
        older = opened.session.generate_reply(instructions="Say one.")
        newer = opened.session.generate_reply(instructions="Say two.")

        with pytest.raises(llm.RealtimeError, match="superseded"):
            await older
        await hear(await newer)
        assert "Say two." in (opened.server.connection.configuration.instructions or "")
        assert len(opened.server.responses) == 1


async def test_no_reply_is_pending_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody answers fails with `RealtimeError` at its deadline."""
    monkeypatch.setattr("livekit_plugins_hydra.protocol.demand.REPLY_LIMIT_S", 0.2)
    async with line(Scenario(handshake="never_created")) as opened:
        with pytest.raises(llm.RealtimeError, match="timed out"):
            await opened.session.generate_reply()


async def test_a_reply_waits_for_the_response_in_flight() -> None:
    """Nothing is asked for while a response generates; both are played in full."""
    replies = [YES, Say(duration_s=1.5), YES]
    async with line(Scenario(replies=replies, think_s=0.01)) as opened:
        await hear(await opened.session.generate_reply())
        opened.say(tone(0.5))
        first = await opened.generation(2)
        second = opened.session.generate_reply()
        assert n_creates(opened) == 0

        await hear(first)
        await hear(await second)
        assert n_creates(opened) == 1
        assert [response.status for response in opened.server.responses] == ["completed"] * 3


async def test_tools_per_response_are_told_to_be_impossible(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Arguments that Hydra has no field for are warned of, once, and the reply is made."""
    async with line(FAST) as opened:
        opened.session.generate_reply(tool_choice="none").cancel()
        await hear(await opened.session.generate_reply(tools=[weather]))
    assert caplog.text.count("no tools per response") == 1


# ------------------------------------------------------------------------------- tools


@pytest.mark.parametrize("done", ["before_outputs", "after_outputs", "never"])
async def test_a_calls_streams_end_without_its_output(done: Any) -> None:
    """A call is handed over, and its streams close, whenever `response.done` comes, or never."""
    scenario = Scenario(replies=[CALLING], default_reply=YES, calling_response_done=done)
    async with line(scenario) as opened:
        await opened.session.update_tools([weather])
        opened.say(tone(0.5))
        generation = await opened.generation()
        (call,) = await calls_of(generation)

        assert await hear(generation) == []
        assert (call.call_id, call.name, call.arguments) == (
            "call_rome",
            "weather",
            '{"city": "Rome"}',
        )
        assert outputs_sent(opened) == []


@pytest.mark.parametrize("done", ["before_outputs", "after_outputs", "never"])
async def test_outputs_go_out_at_once_and_the_reply_is_asked_for_once(done: Any) -> None:
    """`update_chat_ctx` posts and does not ask; `generate_reply` asks, bare, exactly once."""
    scenario = Scenario(replies=[CALLING], default_reply=YES, calling_response_done=done)
    async with line(scenario) as opened:
        opened.say(tone(0.5))
        (call,) = await calls_of(await opened.generation())
        await opened.session.update_chat_ctx(with_items(opened, output_of(call, "sunny")))
        await opened.until(lambda: outputs_sent(opened))
        assert n_creates(opened) == 0

        opened.session.interrupt()  # as the framework does, always
        generation = await opened.session.generate_reply()
        (heard,) = await hear(generation)

        assert outputs_sent(opened) == [("call_rome", "sunny")]
        assert n_creates(opened) == 1
        assert texts_sent(opened) == []
        assert opened.server.events_of(ev.ResponseCancel) == []
        assert heard.pcm == bytes(opened.server.responses[1].pcm)
        assert opened.server.responses[1].trigger == "tool_outputs"


async def test_an_output_of_an_unknown_call_is_told_as_text() -> None:
    """Under a call id that this connection never issued, an output becomes a sentence."""
    async with line(FAST) as opened:
        await answered(opened)
        call = llm.FunctionCall(call_id="call_elsewhere", name="lookup", arguments="{}")
        empty = llm.FunctionCall(call_id="call_silent", name="hush", arguments="{}")
        ctx = with_items(opened, call, output_of(call, "42 apples"), empty, output_of(empty, ""))
        await opened.session.update_chat_ctx(ctx)
        await hear(await opened.session.generate_reply())

        assert outputs_sent(opened) == []
        assert texts_sent(opened) == [("system", "Result of the function lookup: 42 apples")]


async def test_tools_change_in_mid_call() -> None:
    """`update_tools` sends one `session.update`; a list that is the same sends nothing."""
    async with line(FAST) as opened:
        await opened.session.update_tools([weather])
        await hear(await opened.session.generate_reply())
        await opened.session.update_tools([weather])
        await opened.session.update_tools([weather, clock])
        await opened.session.update_tools([weather, clock])
        await opened.server.wait_for(ev.SessionUpdated)

        (update,) = opened.server.events_of(ev.SessionUpdate)
        assert [tool.name for tool in update.session.tools or ()] == ["weather", "clock"]
        assert set(opened.session.tools.function_tools) == {"weather", "clock"}
        assert len(opened.server.connections) == 1


async def test_tools_that_change_while_the_connection_is_configured_reach_the_server() -> None:
    """They wait until the server takes them, and the call goes on."""
    async with line(Scenario(configure_delay_s=0.3)) as opened:
        await opened.session._update_session(instructions="Be kind.", tools=[weather])
        await opened.server.wait_for(ev.SessionConfigure)
        await opened.session.update_tools([weather, clock])
        opened.session.update_options(tool_choice="none")
        await opened.server.wait_for(ev.SessionUpdated)
        opened.session.update_options(tool_choice="auto")
        await opened.server.wait_for(ev.SessionUpdated, count=2)

        updates = [event.session.tools or () for event in opened.server.events_of(ev.SessionUpdate)]
        assert [[tool.name for tool in tools] for tools in updates] == [[], ["weather", "clock"]]
        assert opened.server.violations == []
        assert len(opened.server.connections) == 1


async def test_no_tool_choice_is_no_tools() -> None:
    """`tool_choice="none"` takes the tools away until it is something else; no change, no frame."""
    async with line(FAST) as opened:
        await opened.session.update_tools([weather])
        await hear(await opened.session.generate_reply())
        for choice in (None, "auto", "none", "none", "auto", None):
            opened.session.update_options(tool_choice=choice)
        opened.session.update_options()
        await opened.server.wait_for(ev.SessionUpdated, count=2)

        updates = [event.session.tools for event in opened.server.events_of(ev.SessionUpdate)]
        assert [[tool.name for tool in tools or ()] for tools in updates] == [[], ["weather"]]
        assert set(opened.session.tools.function_tools) == {"weather"}


async def test_no_tools_hold_for_tools_that_come_meanwhile() -> None:
    """Tools that are updated under `tool_choice="none"` are offered when it ends."""
    async with line(FAST) as opened:
        await opened.session.update_tools([weather])
        opened.session.update_options(tool_choice="none")
        await hear(await opened.session.generate_reply())
        assert not opened.server.connection.configures[0].session.tools

        await opened.session.update_tools([weather, clock])
        opened.session.update_options(tool_choice="auto")
        await opened.server.wait_for(ev.SessionUpdated)
        (update,) = opened.server.events_of(ev.SessionUpdate)
        assert [tool.name for tool in update.session.tools or ()] == ["weather", "clock"]


async def test_a_forced_tool_choice_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Hydra can't be forced to call; who asks for it is told, and nothing changes."""
    async with line(FAST) as opened:
        await opened.session.update_tools([weather])
        await hear(await opened.session.generate_reply())
        opened.session.update_options(tool_choice="required")
        opened.session.update_options(tool_choice="required")
        opened.session.update_options(tool_choice=None)
        assert opened.server.events_of(ev.SessionUpdate) == []
    assert caplog.text.count("no forced tool choice") == 1


# ------------------------------------------------------------------------- interruptions


async def test_an_interruption_of_nothing_is_nothing() -> None:
    """`interrupt` before connecting, while nothing generates and after the end sends nothing."""
    async with line(FAST) as opened:
        opened.session.interrupt()
        await answered(opened)
        opened.session.interrupt()
        await hear(await opened.session.generate_reply())
        opened.session.interrupt()
        await opened.session.aclose()
        opened.session.interrupt()

        assert opened.server.events_of(ev.ResponseCancel) == []
        assert len(opened.server.responses) == 2


async def test_an_interruption_names_the_response_once() -> None:
    """`interrupt` cancels what generates by its id; its streams end at once."""
    async with line(Scenario(default_reply=LONG)) as opened:
        generation = await opened.session.generate_reply()
        await opened.server.wait_for(ev.ResponseOutputAudioDelta)
        opened.session.interrupt()
        opened.session.interrupt()

        (heard,) = await hear(generation)
        await opened.until(lambda: opened.responses_measured)
        (cancel,) = opened.server.events_of(ev.ResponseCancel)
        assert cancel.response_id == generation.response_id
        assert len(heard.pcm) < len(LONG.sound(24_000))
        assert opened.responses_measured[0].cancelled


async def test_a_response_that_waits_for_outputs_is_not_interrupted() -> None:
    """After its streams are closed, a calling response is left alone: the calls are still owed."""
    scenario = Scenario(replies=[CALLING], default_reply=YES, calling_response_done="never")
    async with line(scenario) as opened:
        opened.say(tone(0.5))
        (call,) = await calls_of(await opened.generation())
        opened.session.interrupt()
        await opened.session.update_chat_ctx(with_items(opened, output_of(call, "sunny")))
        opened.session.interrupt()
        await hear(await opened.session.generate_reply())

        assert opened.server.events_of(ev.ResponseCancel) == []
        assert outputs_sent(opened) == [("call_rome", "sunny")]


# --------------------------------------------------------------------------------- turns


async def test_a_barge_in_closes_the_streams_before_it_is_told() -> None:
    """When `input_speech_started` is emitted, the cut response's streams are closed already."""
    async with line(Scenario(replies=[LONG], default_reply=YES)) as opened:
        generation = await opened.session.generate_reply()
        message = await anext(aiter(generation.message_stream))
        streams: list[Any] = [generation.message_stream, message.audio_stream, message.text_stream]
        closed: list[bool] = []
        opened.session.on(
            "input_speech_started", lambda _: closed.extend(each.closed for each in streams)
        )
        opened.say(tone(0.6))
        await hear(await opened.generation(2))

        assert closed == [True] * 3
        assert opened.server.events_of(ev.ResponseCancel) == []
        assert [each.cancelled for each in opened.responses_measured] == [True, False]
        assert opened.server.responses[0].reason == "interrupted"


@pytest.mark.parametrize(
    "switch", ["speech_stopped_late", "speech_stopped_missing", "no_item_ids", "user_text"]
)
async def test_every_turn_is_stopped_once(switch: str) -> None:
    """Whatever the server leaves out, each started turn is stopped exactly once."""
    async with line(FAST.with_switches(switch)) as opened:
        await answered(opened)
        opened.say(COUGH)
        await opened.until(lambda: opened.server.connection.discarded_turns)
        await answered(opened)

        turns = [name for name, _ in opened.events if name.startswith("input_speech")]
        assert turns == ["input_speech_started", "input_speech_stopped"] * 3
        stops = opened.of("input_speech_stopped")
        assert not any(stop.user_transcription_enabled for stop in stops)


async def test_what_the_server_transcribes_of_the_user_is_told() -> None:
    """Text in the user's item becomes a transcription under its id, dated to the turn's begin."""
    async with line(FAST.with_switches("user_text")) as opened:
        began_at = time.time()
        await answered(opened)

        (written,) = opened.of("input_audio_transcription_completed")
        (message,) = opened.session.chat_ctx.items
        assert written.transcript == "what the user said"
        assert written.is_final
        assert began_at < written.turn_started_at < time.time()
        assert (message.id, message.type) == (written.item_id, "message")


# ------------------------------------------------------------------------- chat context


async def test_the_context_mirrors_the_call() -> None:
    """`chat_ctx` holds calls, outputs and texts under the ids that the framework was given."""
    scenario = Scenario(replies=[CALLING, YES], transcripts=True, user_text="Is it sunny?")
    async with line(scenario) as opened:
        opened.say(tone(0.5))
        (call,) = await calls_of(await opened.generation())
        output = output_of(call, "sunny")
        await opened.session.update_chat_ctx(with_items(opened, output))
        (heard,) = await hear(await opened.session.generate_reply())

        question, called, posted, answer = opened.session.chat_ctx.items
        assert isinstance(question, llm.ChatMessage)
        assert isinstance(answer, llm.ChatMessage)
        assert (question.role, question.text_content) == ("user", "Is it sunny?")
        assert (called.id, posted.id) == (call.id, output.id)
        assert (answer.role, answer.text_content) == ("assistant", "Yes, of course.")
        assert answer.id == heard.message_id
        assert heard.text == "Yes, of course."


async def test_the_context_is_a_copy() -> None:
    """Who edits what `chat_ctx` returned changes nothing in the session."""
    async with line(FAST.with_switches("user_text")) as opened:
        await answered(opened)
        opened.session.chat_ctx.items.clear()
        assert len(opened.session.chat_ctx.items) == 1


async def test_a_context_that_has_nothing_new_sends_nothing() -> None:
    """The same again, or with items removed: the server can't unhear, and isn't bothered."""
    async with line(FAST.with_switches("user_text", "transcripts")) as opened:
        await answered(opened)
        before = [item.id for item in opened.session.chat_ctx.items]
        await opened.session.update_chat_ctx(opened.session.chat_ctx)
        assert [item.id for item in opened.session.chat_ctx.items] == before
        await opened.session.update_chat_ctx(llm.ChatContext.empty())
        assert opened.session.chat_ctx.items == []
        await hear(await opened.session.generate_reply())

        assert len(before) == 2
        assert opened.server.events_of(ev.ConversationItemCreate) == []


async def test_the_agents_own_context_adds_only_what_is_new() -> None:
    """Of a whole agent context only what is new reaches the server, words and outputs."""
    async with line(FAST.with_switches("user_text", "transcripts")) as opened:
        await answered(opened)
        ctx = opened.session.chat_ctx
        ctx.items.insert(
            0, llm.ChatMessage(id="lk.agent_task.instructions", role="system", content=["Be kind."])
        )
        ctx.items.insert(1, llm.AgentConfigUpdate(instructions="Be kind."))
        ctx.items.append(llm.AgentHandoff(new_agent_id="other"))
        ctx.add_message(role="assistant", content="Said by a text-to-speech model.")
        call = llm.FunctionCall(call_id="c1_final", name="book", arguments="{}")
        ctx.items += [call, output_of(call, "booked")]
        ctx.add_message(role="system", content="The caller is on hold.")
        await opened.session.update_chat_ctx(ctx)
        await hear(await opened.session.generate_reply())

        assert outputs_sent(opened) == []
        assert texts_sent(opened) == [
            ("system", 'You have said to the user: "Said by a text-to-speech model."'),
            ("system", "Result of the function book: booked"),
            ("system", "The caller is on hold."),
        ]
        kinds = [item.type for item in opened.session.chat_ctx.items]
        assert kinds == [
            *["message"] * 3,
            "function_call",
            "function_call_output",
            *["message"] * 2,
        ]


async def test_an_id_that_the_server_uses_twice_is_made_unique() -> None:
    """Message ids that come again on a new connection never hide a message of the old one."""
    async with line(FAST.with_switches("transcripts", "no_item_ids")) as opened:
        first = await answered(opened)
        server_event = opened.of("hydra_server_event")
        assert server_event
        opened.session.truncate(
            message_id=first[0].message_id, modalities=["audio"], audio_end_ms=300
        )
        second = await answered(opened)

        assert first[0].message_id != second[0].message_id
        assert len({item.id for item in opened.session.chat_ctx.items}) == 2


@pytest.mark.parametrize("switch", ["audio_alone_names_its_item", "text_alone_names_its_item"])
async def test_sound_and_text_of_an_item_are_one_message(switch: str) -> None:
    """Deltas of one kind name their item, those of the other don't: all is heard and written."""
    story = Say(duration_s=3.0, tone_hz=500, text="one two three four five six seven eight")
    async with line(Scenario(default_reply=story, think_s=0.01).with_switches(switch)) as opened:
        (heard,) = await answered(opened)

        assert heard.pcm == bytes(opened.server.responses[0].pcm)
        assert heard.text == story.text
        assert [item.text_content for item in opened.session.chat_ctx.messages()] == [story.text]


# --------------------------------------------------------------------------- truncation


async def test_a_message_is_cut_to_what_was_heard() -> None:
    """`truncate` cuts the session's own text: what the framework played, else at a word."""
    story = Say(duration_s=1.0, text="one two three four five six seven eight nine ten")
    async with line(Scenario(default_reply=story, transcripts=True)) as opened:
        (heard,) = await answered(opened)
        cut: dict[str, Any] = {"message_id": heard.message_id, "modalities": ["audio"]}

        def text() -> str:
            messages = opened.session.chat_ctx.messages()
            return messages[0].text_content or "" if messages else ""

        opened.session.truncate(**cut, audio_end_ms=5_000)
        assert text() == story.text
        opened.session.truncate(**cut, audio_end_ms=500)
        assert text() == "one two three four five"
        opened.session.truncate(**cut, audio_end_ms=100, audio_transcript="one two")
        assert text() == "one two"
        opened.session.truncate(**cut, audio_end_ms=0)
        assert text() == ""
        opened.session.truncate(message_id="none", modalities=["audio"], audio_end_ms=5)


async def test_a_new_connection_is_told_what_was_played() -> None:
    """After a reconnect the history has the cut text, not the whole one."""
    story = Say(duration_s=1.0, text="one two three four five six seven eight nine ten")
    async with line(Scenario(default_reply=story, transcripts=True)) as opened:
        (heard,) = await answered(opened)
        opened.session.truncate(message_id=heard.message_id, modalities=["audio"], audio_end_ms=300)
        opened.server.drop()
        record = await opened.ready(2)

        assert '"one two three"' in (record.configuration.instructions or "")
        assert "ten" not in (record.configuration.instructions or "")


# --------------------------------------------------------------- what Hydra does not have


async def test_what_hydra_does_not_have_is_told_once_and_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Commit, clear, video and user activity are no-ops; the first two kinds say so, once."""
    frame = rtc.VideoFrame(2, 2, rtc.VideoBufferType.RGBA, bytes(16))
    async with line(FAST) as opened:
        for _ in range(3):
            opened.session.commit_audio()
            opened.session.clear_audio()
            opened.session.push_video(frame)
            opened.session.start_user_activity()
        await answered(opened)
        with pytest.raises(NotImplementedError):
            opened.session.say("Hello.")
    assert caplog.text.count("commit_audio() does nothing") == 1
    assert caplog.text.count("no video") == 1


@pytest.mark.parametrize(
    "frame",
    [
        rtc.AudioFrame(b"", 24_000, 1, 0),
        rtc.AudioFrame(b"", 16_000, 2, 0),
        rtc.AudioFrame(bytes(2), 16_000, 1, 1),
        rtc.AudioFrame(bytes(1922), 48_000, 2, 480),
        rtc.AudioFrame(bytes(18), 8_000, 3, 3),
        rtc.AudioFrame(memoryview(bytes(960)), 44_100, 1, 441),
    ],
    ids=["empty", "empty stereo", "one sample", "longer than it says", "odd channels", "view"],
)
async def test_odd_frames_do_no_harm(frame: rtc.AudioFrame) -> None:
    """Frames of any size, or whose buffer is longer than they say, are taken."""
    async with line(FAST) as opened:
        for _ in range(5):
            opened.session.push_audio(frame)
        await answered(opened)


# --------------------------------------------------------------------------------- the end


async def test_a_session_can_be_closed_before_it_began() -> None:
    """`aclose` before any task has run ends it; it connects to nobody."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        session = model.session()
        await session.aclose()
        assert server.dials == []


async def test_closing_twice_is_closing_once() -> None:
    """`aclose` is idempotent, also while another one is under way."""
    async with line(FAST) as opened:
        await answered(opened)
        await asyncio.gather(*(opened.session.aclose() for _ in range(3)))
        await opened.session.aclose()
        await opened.server.wait_for(lambda books: not books.open_connections)

        ends = [each for each in opened.of("metrics_collected") if each.session_duration]
        assert len(ends) == 1
        assert opened.server.connection.close_code == 1000


async def test_the_end_leaves_nothing_open() -> None:
    """Streams end and futures fail when a session is closed in the middle of it all."""
    async with line(Scenario(default_reply=LONG)) as opened:
        generation = await opened.session.generate_reply()
        pending = opened.session.generate_reply()
        message = await anext(aiter(generation.message_stream))
        await anext(aiter(message.audio_stream))
        await opened.session.aclose()

        async for _ in message.audio_stream:
            pass  # until its end
        assert [text async for text in message.text_stream] == []
        assert await hear(generation) == []
        assert await calls_of(generation) == []
        with pytest.raises(llm.RealtimeError, match="closed"):
            await pending
        assert [each.cancelled for each in opened.responses_measured] == [True]


async def test_a_closed_session_takes_everything_and_does_nothing() -> None:
    """After the end no method raises; a reply is a failed future."""
    async with line(FAST) as opened:
        await answered(opened)
        await opened.session.aclose()
        n_events = len(opened.server.connection.client_events)

        reply = opened.session.generate_reply()
        assert isinstance(reply.exception(), llm.RealtimeError)
        opened.say(tone(0.1))
        opened.session.update_options(tool_choice="none")
        opened.session.truncate(message_id="m", modalities=["audio"], audio_end_ms=0)
        await opened.session.update_tools([weather])
        await opened.session.update_instructions("Be quiet.")
        message = llm.ChatMessage(role="user", content=["Anybody there?"])
        await opened.session.update_chat_ctx(with_items(opened, message))
        await opened.session._update_session(instructions="Be loud.", tools=[clock])

        assert len(opened.server.connection.client_events) == n_events
        assert len(opened.server.dials) == 1


@pytest.mark.parametrize("when", ["connecting", "handshake", "speaking"])
async def test_closing_takes_two_seconds_at_most(when: str) -> None:
    """A server that hangs can't hold up the end, whatever the session waits for."""
    scenario = {
        "connecting": Scenario(connect_delay_s=60),
        "handshake": Scenario(handshake="never_created"),
        "speaking": Scenario(default_reply=LONG),
    }[when]
    async with line(scenario) as opened:
        if when == "connecting":
            await opened.server.wait_for(lambda books: opened.server.n_dialling)
        else:
            await opened.server.wait_connections(1)
        if when == "speaking":
            await opened.session.generate_reply()
        if when != "connecting":
            opened.server.freeze()
        began_at = time.monotonic()
        await opened.session.aclose()
        assert time.monotonic() - began_at < 2.0 + 0.5  # the machine may be slow


# --------------------------------------------------------------------------------- events


async def test_every_event_of_the_wire_is_told_without_its_audio() -> None:
    """`hydra_server_event` and `hydra_client_event` show typed events, audio left out."""
    async with line(FAST) as opened:
        await opened.session.update_tools([weather])
        assert opened.session.session_id is None
        await answered(opened)

        received = opened.of("hydra_server_event")
        kinds = {type(event) for event in received}
        assert opened.server.connection.types_sent() == [
            event.type for event in received if not isinstance(event, ev.ResponseOutputAudioDelta)
        ]
        assert {ev.SessionCreated, ev.ResponseOutputAudioDelta, ev.ResponseDone} <= kinds
        assert not any(getattr(event, "delta", b"") for event in received)
        assert opened.session.session_id == opened.server.connection.session_id

        sent = opened.of("hydra_client_event")
        audio = [event for event in sent if isinstance(event, ev.InputAudioBufferAppend)]
        assert isinstance(sent[0], ev.SessionConfigure)
        assert audio
        assert not any(event.audio for event in audio)


@pytest.mark.parametrize(
    "error", [TypeError("a bug in somebody's handler"), asyncio.CancelledError()]
)
async def test_a_listener_that_raises_does_not_end_the_call(error: BaseException) -> None:
    """Whatever somebody's event handler raises, the result of a cancelled future too."""
    async with line(FAST, complaints_are_fine=True) as opened:
        for name in ("hydra_server_event", "hydra_client_event", "metrics_collected"):

            @opened.session.on(name)
            def _(event: Any) -> None:
                raise error

        await answered(opened)
        await answered(opened)
        assert len(opened.server.connections) == 1
        assert opened.of("error") == []


# ------------------------------------------------------------------- one-go configuration


@pytest.mark.parametrize("instructions", ["Be kind.", NOT_GIVEN])
@pytest.mark.parametrize("with_history", [True, False])
@pytest.mark.parametrize("tools", [[weather], NOT_GIVEN])
async def test_any_part_of_a_configuration_may_be_missing(
    instructions: NotGivenOr[str], with_history: bool, tools: NotGivenOr[list[llm.Tool]]
) -> None:
    """`_update_session` completes the configuration with what it is given."""
    history = llm.ChatContext.empty()
    history.add_message(role="user", content="My name is Ann.")
    async with line(FAST) as opened:
        await opened.session._update_session(
            instructions=instructions,
            chat_ctx=history if with_history else NOT_GIVEN,
            tools=tools,
        )
        record = await opened.ready()

        configured = record.configuration
        assert ("Be kind." in (configured.instructions or "")) == bool(instructions)
        assert ("Ann" in (configured.instructions or "")) == with_history
        assert [tool.name for tool in configured.tools or ()] == (["weather"] if tools else [])
        assert configured.generate_initial_response is False
        assert opened.of("generation_created") == []


async def test_later_parts_patch_the_call_that_is_there() -> None:
    """A second `_update_session`, as on a handoff that reuses the session, sends only tools."""
    async with line(FAST) as opened:
        await opened.session._update_session(instructions="Be kind.", tools=[weather])
        await opened.ready()
        await opened.session._update_session(tools=[clock])
        await opened.server.wait_for(ev.SessionUpdated)
        await opened.session._update_session(instructions="Be kind.", tools=[clock])
        await answered(opened)

        assert len(opened.server.events_of(ev.SessionUpdate)) == 1
        assert len(opened.server.connections) == 1


async def test_a_configuration_does_not_wait_for_the_network() -> None:
    """`_update_session` returns at once, even if nobody answers the connection."""
    async with line(Scenario(connect_delay_s=60)) as opened:
        configuring = opened.session._update_session(instructions="Be kind.")
        with pytest.raises(StopIteration):  # it never gives the loop a turn
            configuring.send(None)
        assert opened.server.dials == []


async def test_a_greeting_that_comes_right_after_joins_the_configuration() -> None:
    """`on_enter`'s reply becomes the first response of the one connection, however fast that is."""
    async with line(FAST) as opened:
        await opened.until(lambda: opened.session.session_id)
        await opened.session._update_session(instructions="Be kind.")
        await hear(await opened.session.generate_reply(instructions="Say hello."))

        assert len(opened.server.connections) == 1
        assert opened.server.connection.configuration.generate_initial_response
        assert n_creates(opened) == 0


# -------------------------------------------------------------------------------- metrics


async def test_every_response_is_measured_once() -> None:
    """One metric per response, cancelled ones too, under the response's id, after its event."""
    replies = [YES, LONG, YES]
    async with line(Scenario(replies=replies)) as opened:
        await hear(await opened.session.generate_reply())
        opened.say(tone(0.5))
        await opened.generation(2)
        await opened.server.wait_for(lambda books: len(books.responses[1].pcm) > 48_000)
        opened.say(tone(0.5))
        await hear(await opened.generation(3))
        await opened.until(lambda: len(opened.responses_measured) == 3)

        measured = opened.responses_measured
        generations = opened.of("generation_created")
        assert [each.request_id for each in measured] == [each.response_id for each in generations]
        assert [each.cancelled for each in measured] == [False, True, False]
        told = [
            event
            for name, event in opened.events
            if name == "generation_created" or (name == "metrics_collected" and event.request_id)
        ]
        for generation, metrics in zip(generations, measured, strict=True):
            assert told.index(generation) < told.index(metrics)


def at(opened: Line, kind: type[ev.Event]) -> float:
    """Return when the server first sent an event of a kind, as `time.time` has it."""
    sent = opened.server.connection.server_events
    offset_s = time.time() - asyncio.get_running_loop().time()
    return offset_s + next(each.at_s for each in sent if isinstance(each.event, kind))


async def test_the_times_of_an_answer_count_from_the_end_of_the_users_speech() -> None:
    """`timestamp`, `ttft` and `duration` share that origin, so thinking counts as waiting."""
    scenario = Scenario(default_reply=Say(duration_s=2.0), think_s=0.3)
    async with line(scenario) as opened:
        await answered(opened)
        (measured,) = await opened.until(lambda: opened.responses_measured)

        stopped_at = at(opened, ev.InputAudioBufferSpeechStopped)
        waited_s = at(opened, ev.ResponseOutputAudioDelta) - stopped_at
        took_s = at(opened, ev.ResponseDone) - stopped_at
        assert waited_s >= 0.3
        assert measured.timestamp == pytest.approx(stopped_at, abs=0.1)
        assert measured.ttft == pytest.approx(waited_s, abs=0.1)
        assert measured.duration == pytest.approx(took_s, abs=0.1)


async def test_the_times_of_an_asked_reply_count_from_the_request() -> None:
    """For a reply on demand the waiting begins with `response.create`."""
    async with line(Scenario(default_reply=YES, think_s=0.3)) as opened:
        await answered(opened)
        asked_at = time.time()
        await hear(await opened.session.generate_reply())
        await opened.until(lambda: len(opened.responses_measured) == 2)

        measured = opened.responses_measured[1]
        assert measured.timestamp == pytest.approx(asked_at, abs=0.1)
        assert 0.3 <= measured.ttft <= measured.duration < 1.0


async def test_a_response_without_audio_has_no_time_to_the_first() -> None:
    """`ttft` is -1 where nothing is played, and the usage is counted all the same."""
    async with line(Scenario(replies=[CALLING])) as opened:
        opened.say(tone(0.5))
        (measured,) = await opened.until(lambda: opened.responses_measured)

        assert measured.ttft == -1
        assert measured.duration > 0
        assert measured.input_tokens > 0
        assert measured.total_tokens == measured.input_tokens + measured.output_tokens


@pytest.mark.parametrize("usage", ["zero", "absent"])
async def test_usage_may_be_missing(usage: Any) -> None:
    """Metrics come where the server counts no tokens; nothing is divided by them."""
    async with line(Scenario(default_reply=YES, usage=usage)) as opened:
        await answered(opened)
        (measured,) = await opened.until(lambda: opened.responses_measured)
        assert (measured.input_tokens, measured.output_tokens, measured.total_tokens) == (0, 0, 0)
        assert measured.tokens_per_second == 0


async def test_connections_are_measured_too() -> None:
    """Each connection tells how long it took to make and, at its end, how long it was held."""
    async with line(Scenario(default_reply=YES, connect_delay_s=0.2)) as opened:
        await answered(opened)
        opened.server.close(1011)
        await opened.ready(2)
        began_at = opened.server.connection.opened_at_s
        await opened.session.aclose()
        held_s = asyncio.get_running_loop().time() - began_at

        connections = [each for each in opened.of("metrics_collected") if not each.request_id]
        acquired = [each.acquire_time for each in connections if each.acquire_time]
        durations = [each.session_duration for each in connections if each.session_duration]
        assert len(acquired) == len(durations) == 2
        assert all(0.2 <= acquire_s < 2.0 for acquire_s in acquired)
        assert durations[1] == pytest.approx(held_s, abs=0.2)
        assert not any(each.connection_reused for each in connections)


async def test_everything_is_measured_under_the_models_name() -> None:
    """Responses and connections are booked under the model's tag and the vendor's name."""
    async with line(FAST, model="hydra-v1.0") as opened:
        await answered(opened)
        await opened.session.aclose()

        booked = {
            (each.label, each.metadata.model_name, each.metadata.model_provider)
            for each in opened.of("metrics_collected")
        }
        assert booked == {("livekit_plugins_hydra.model.RealtimeModel", "hydra-v1.0", "SmallestAI")}
