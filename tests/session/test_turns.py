"""Turns in the framework: interruptions by the program, text without audio, and a clean end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, RunResult, function_tool

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import Call, Context, Emulator, Reply, Say, Scenario
from tests.calls import COUGH, KEY, call, tone
from tests.direct import hear, line

YES = Say(duration_s=0.3, tone_hz=500, text="Yes, of course.")
STORY = Say(duration_s=20.0, tone_hz=600, text="It is a long story and it has no end.")
FAST = Scenario(default_reply=YES, think_s=0.01, silence_ms=200)


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


# ------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("barge_in", ["at_once", "when_settled"])
@pytest.mark.parametrize("about", ["the user's question", "a greeting"])
async def test_a_cough_before_the_first_sound_costs_no_answer(about: str, barge_in: Any) -> None:
    """The caller hears it once, whether the server has given it up, or only lets it wait."""
    scenario = Scenario(default_reply=YES, first_audio_delay_s=2.5, barge_in=barge_in)
    greets = about == "a greeting"
    agent = Agent(instructions="")
    async with call(scenario, agent, generate_initial_response=greets) as desk:
        if not greets:
            await desk.say(tone(0.5))
        await desk.until(lambda: desk.server.responses)
        await desk.say(COUGH)
        await desk.until_heard(1)
        await asyncio.sleep(10.0)

        assert desk.heard_s == [YES.duration_s]


async def test_a_program_may_interrupt_what_generates() -> None:
    """`session.interrupt()` cancels the response by its id, once, and the loudspeaker stops."""
    async with call(Scenario(replies=[STORY], default_reply=YES), Agent(instructions="")) as desk:
        await desk.say(tone(0.5))
        await desk.until_state("speaking")
        await desk.session.interrupt()
        playout = await desk.until_heard(1)
        await desk.until_state("listening")

        (cancel,) = desk.server.events_of(ev.ResponseCancel)
        assert cancel.response_id == desk.server.responses[0].id
        assert playout.interrupted
        await desk.say(tone(0.5))
        await desk.until_heard(2)


async def test_a_program_may_interrupt_what_only_plays() -> None:
    """Of a response that the server has finished, only the playing stops: nothing is cancelled."""
    reply = Say(duration_s=5.0)
    scenario = Scenario(replies=[reply], default_reply=YES, audio_speed=200.0)
    agent = Agent(instructions="")
    async with call(scenario, agent) as desk:
        is_done = asyncio.Event()

        @agent.realtime_llm_session.on("hydra_server_event")
        def _(event: ev.Event) -> None:
            if isinstance(event, ev.ResponseDone):
                is_done.set()

        await desk.say(tone(0.5))
        await desk.until_state("speaking")
        await is_done.wait()
        await desk.session.interrupt()
        playout = await desk.until_heard(1)

        assert playout.duration_s < reply.duration_s
        assert desk.server.events_of(ev.ResponseCancel) == []
        await desk.say(tone(0.5))
        await desk.until_heard(2)


@pytest.mark.parametrize("audio_speed", [1.5, 10.0, 200.0])
async def test_a_barge_in_is_one_whenever_it_comes(audio_speed: float) -> None:
    """Early, late or after the generation: the loudspeaker stops and the next answer is played."""
    scenario = Scenario(replies=[STORY, YES], audio_speed=audio_speed, silence_ms=200)
    async with call(scenario, Agent(instructions="")) as desk:
        await desk.say(tone(0.5))
        await desk.until_state("speaking")
        await desk.say(tone(0.5))
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert [playout.interrupted for playout in desk.loudspeaker.heard] == [True, False]
        assert desk.server.events_of(ev.ResponseCancel) == []
        assert desk.session.user_state == "listening"


async def test_a_reply_that_is_interrupted_before_it_began_is_never_heard() -> None:
    """Interrupting a reply that was asked for cancels it at the server, too."""
    scenario = Scenario(default_reply=YES, think_s=0.4, silence_ms=200)
    async with call(scenario, Agent(instructions="")) as desk:
        await desk.say(tone(0.5))
        await desk.until_heard(1)
        handle = desk.session.generate_reply()
        await desk.server.wait_for(ev.ResponseCreate)
        handle.interrupt()
        await handle
        await desk.until(lambda: len(desk.server.responses) == 2)
        await desk.until(lambda: desk.server.responses[1].ended_at_s)

        assert desk.server.responses[1].reason == "client_cancelled"
        await desk.say(tone(0.5))
        await desk.until_heard(2)
        assert len(desk.loudspeaker.heard) == 2


async def test_the_users_state_never_sticks() -> None:
    """After coughs and turns, whatever stops are missing, the user is listening again."""
    scenario = FAST.with_switches("speech_stopped_missing")
    async with call(scenario, Agent(instructions="")) as desk:
        for count in (1, 2):
            await desk.say(COUGH)
            await desk.until(
                lambda n=count: len(desk.server.connection.discarded_turns) == n  # type: ignore[misc]
            )
            await desk.say(tone(0.5))
            await desk.until_heard(count)
        await desk.until(lambda: desk.session.user_state == "listening")
        states = [event.new_state for event in desk.of("user_state_changed")]
        assert states == ["speaking", "listening"] * 4


# ------------------------------------------------------------------------- text, no sound


async def test_an_agent_can_be_tested_in_text() -> None:
    """`session.run()` without any audio: calls and outputs are its events, and it ends."""

    def reply(context: Context) -> Reply:
        return YES if context.outputs else Call("weather", {"city": "Rome"})

    async with Emulator(Scenario(replies=reply, transcripts=True)) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        async with AgentSession[Any](llm=model) as session:
            await session.start(Agent(instructions="Be kind.", tools=[weather]))
            async with asyncio.timeout(30):
                result: RunResult[None] = await session.run(
                    user_input="How is the weather in Rome?"
                )
            result.expect.next_event().is_function_call(name="weather")
            result.expect.next_event().is_function_call_output(output="sunny in Rome")
            result.expect.next_event().is_message(role="assistant")
        await model.aclose()
    told = server.connection.configuration.instructions or ""
    assert "How is the weather in Rome?" in told


async def test_turns_in_text_follow_each_other() -> None:
    """Several runs of one session are answered one after another, on as few connections."""
    async with Emulator(Scenario(default_reply=YES, transcripts=True)) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        async with AgentSession[Any](llm=model) as session:
            await session.start(Agent(instructions="Be kind."))
            for question in ("One?", "Two?", "Three?"):
                async with asyncio.timeout(30):
                    result: RunResult[None] = await session.run(user_input=question)
                result.expect.next_event().is_message(role="assistant")
        await model.aclose()
    assert len(server.connections) == 1
    texts = [event.item.text for event in server.events_of(ev.ConversationItemCreate)]
    assert texts == ["Two?", "Three?"]


# ------------------------------------------------------------------------------- the end


async def test_a_call_that_has_ended_leaves_nothing() -> None:
    """No task, no timer, no session: after `aclose` all of a call can be collected."""
    tasks = asyncio.all_tasks()
    async with line(Scenario(default_reply=STORY)) as opened:
        reference = weakref.ref(opened.session)
        generation = await opened.session.generate_reply()
        opened.say(tone(0.5))
        await opened.server.wait_for(ev.InputAudioBufferSpeechStarted)
        await opened.session.aclose()
        await hear(generation)
        opened.session = None  # type: ignore[assignment]
        opened.events.clear()
        del generation
        await opened.server.wait_for(lambda books: not books.open_connections)
    assert asyncio.all_tasks() == tasks
    del opened
    gc.collect()
    assert reference() is None


async def test_a_long_call_does_not_grow() -> None:
    """After many answers no stream, task or timer of the early ones is left."""
    counts: list[int] = []
    gc.collect()
    others = Counter(type(each).__name__ for each in gc.get_objects())
    async with line(Scenario(default_reply=Say(duration_s=0.05), think_s=0.0)) as opened:
        await hear(await opened.session.generate_reply())
        for _ in range(2):
            for _ in range(30):
                generation = await opened.session.generate_reply()
                await hear(generation)
                await opened.until(lambda: opened.server.responses[-1].ended_at_s)
            del generation
            opened.events.clear()
            gc.collect()
            counts.append(len(asyncio.all_tasks()))
        kinds = Counter(type(each).__name__ for each in gc.get_objects()) - others
    assert counts[0] == counts[1]
    assert kinds["Generation"] <= 17
    assert kinds["Message"] <= 17


@pytest.mark.parametrize("moment", ["connecting", "greeting", "user speaks"])
async def test_a_call_may_end_at_any_moment(moment: str) -> None:
    """Closing the framework's session in the middle of anything is quick, without complaints."""
    scenario = Scenario(default_reply=STORY, connect_delay_s=60 if moment == "connecting" else 0)
    async with call(scenario, Agent(instructions="")) as desk:
        if moment == "user speaks":
            desk.microphone.say(tone(2.0))
            await desk.until(lambda: desk.session.user_state == "speaking")
        else:
            desk.session.generate_reply()
        if moment == "connecting":
            await desk.server.wait_for(lambda _: desk.server.n_dialling)
        if moment == "greeting":
            await desk.until_state("speaking")
        async with asyncio.timeout(10):
            await desk.session.aclose()
        await desk.server.wait_for(lambda server: not server.open_connections)
