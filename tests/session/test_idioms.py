"""What LiveKit users do in their agents: each idiom, once, in a whole call."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, RunContext, function_tool
from livekit.agents.beta.tools import EndCallTool

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import (
    Call,
    Context,
    Emulator,
    Loudspeaker,
    Microphone,
    Reply,
    Say,
    Scenario,
)
from tests.calls import KEY, Desk, call, tone

YES = Say(duration_s=0.3, tone_hz=500, text="Yes, of course.")
MOMENT = Say(duration_s=0.4, tone_hz=600, text="One moment, please.")
RESULT = Say(duration_s=0.5, tone_hz=700, text="It is sunny in Rome.")
STORY = Say(duration_s=20.0, tone_hz=800, text="It is a long story and it has no end.")
LOOKUP = Call("lookup")


def creates(desk: Desk) -> int:
    """Return how many responses the server was asked for."""
    return len(desk.server.events_of(ev.ResponseCreate))


def told(desk: Desk) -> str:
    """Return all the words that the server was sent."""
    records = desk.server.connections
    instructions = [each.session.instructions or "" for r in records for each in r.configures]
    items = [event.item for event in desk.server.events_of(ev.ConversationItemCreate)]
    return "\n".join([*instructions, *(item.text or item.output or "" for item in items)])


def by_trigger(**replies: Reply) -> Any:
    """Return a script that answers by what it is asked for."""

    def reply(context: Context) -> Reply:
        return replies.get(context.trigger, YES)

    return reply


# ------------------------------------------------------------------------- in functions


class Filler(Agent):
    """Says something while its function runs."""

    def __init__(self) -> None:
        super().__init__(instructions="Be kind.")

    @function_tool
    async def lookup(self, context: RunContext[None]) -> str:
        """Look something up."""
        await context.session.generate_reply(instructions="Ask for a moment of patience.")
        return "sunny in Rome"


@pytest.mark.parametrize("done", ["before_outputs", "after_outputs", "never"])
@pytest.mark.parametrize("willing", [True, False])
async def test_a_function_may_speak_before_it_returns(done: Any, willing: bool) -> None:
    """A reply that is asked for inside a function is played, and then the function's result."""
    replies = by_trigger(
        user_turn=LOOKUP, text=MOMENT, greeting=MOMENT, bare_create=MOMENT, tool_outputs=RESULT
    )
    unwilling: dict[str, Any] = {"message_items": "refused", "bare_response_create": "refused"}
    scenario = Scenario(
        replies=replies,
        calling_response_done=done,
        silence_ms=200,
        transcripts=True,
        **({} if willing else unwilling),
    )
    async with call(scenario, Filler()) as desk:
        await desk.say(tone(0.4))
        await desk.until_heard(2)
        await desk.until_state("listening")

        result = RESULT if willing else MOMENT  # a new connection speaks as it is greeted
        assert desk.heard_s == [MOMENT.duration_s, result.duration_s]
        assert "Ask for a moment of patience." in told(desk)
        assert "sunny in Rome" in told(desk)


class Patient(Agent):
    """Waits with its function until what it said before was played."""

    def __init__(self) -> None:
        super().__init__(instructions="Be kind.")
        self.heard_before: list[int] = []
        self.loudspeaker = Loudspeaker()

    @function_tool
    async def lookup(self, context: RunContext[None]) -> str:
        """Look something up."""
        await context.wait_for_playout()
        self.heard_before.append(self.loudspeaker.n_finished)
        return "sunny in Rome"


@pytest.mark.parametrize("done", ["before_outputs", "after_outputs", "never"])
async def test_a_function_may_wait_for_the_words_before_it(done: Any) -> None:
    """`wait_for_playout()` ends when the calling response was played, however that one ends."""
    scenario = Scenario(
        replies=[[MOMENT, LOOKUP], RESULT], calling_response_done=done, silence_ms=200
    )
    agent = Patient()
    async with call(scenario, agent, loudspeaker=agent.loudspeaker) as desk:
        await desk.say(tone(0.4))
        await desk.until_heard(2)
        assert agent.heard_before == [1]
        assert desk.heard_s == [MOMENT.duration_s, RESULT.duration_s]
        assert creates(desk) == 1


class Asker(Agent):
    """Its greeting calls a function."""

    async def on_enter(self) -> None:
        """Greet."""
        self.session.generate_reply(instructions="Look up the weather, then greet.")

    @function_tool
    async def lookup(self) -> str:
        """Look something up."""
        return "sunny in Rome"


class Greeter(Agent):
    """Greets as it comes in, at once or after a while; or leaves that to others."""

    def __init__(self, after_s: float | None) -> None:
        super().__init__(instructions="Be kind.")
        self._after_s = after_s

    async def on_enter(self) -> None:
        """Greet."""
        if self._after_s is not None:
            await asyncio.sleep(self._after_s)
            self.session.generate_reply(instructions="Say hello.")


@pytest.mark.parametrize(("after_s", "n_connections"), [(0.0, 1), (0.3, 2), (None, 2)])
async def test_a_late_greeting_says_what_it_costs(
    after_s: float | None, n_connections: int, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_enter` costs one connection; who asks later reads of the second, and of the way out."""
    caplog.set_level(logging.INFO, "livekit.plugins.hydra")
    async with call(Scenario(), Greeter(after_s)) as desk:
        if after_s is None:
            await asyncio.sleep(0.3)
            desk.session.generate_reply(instructions="Say hello.")
        await desk.until_heard(1)

        assert len(desk.server.connections) == n_connections
        remedies = [each for each in caplog.messages if "at the start of Agent.on_enter" in each]
        assert len(remedies) == n_connections - 1
        assert all("making a new connection" in each for each in remedies)


async def test_a_greeting_may_call_a_function() -> None:
    """The first response of all may be a call; its result is the greeting."""
    scenario = Scenario(replies=by_trigger(greeting=LOOKUP, tool_outputs=RESULT))
    async with call(scenario, Asker(instructions="Be kind.")) as desk:
        await desk.until_heard(1)
        assert desk.heard_s == [RESULT.duration_s]
        assert creates(desk) == 1
        assert len(desk.server.connections) == 1


async def test_a_function_may_change_the_tools() -> None:
    """Tools that a function adds can be called in the narration of its own result."""

    @function_tool
    async def reserve() -> str:
        """Reserve."""
        return "reserved"

    class Growing(Agent):
        @function_tool
        async def lookup(self) -> str:
            """Look something up."""
            await self.update_tools([*self.tools, reserve])
            return "there is room"

    def reply(context: Context) -> Reply:
        names = [tool.name for tool in context.tools]
        if not context.outputs:
            return LOOKUP
        return Call("reserve") if context.outputs[0].name == "lookup" and len(names) == 2 else YES

    async with call(Scenario(replies=reply, silence_ms=200), Growing(instructions="")) as desk:
        await desk.say(tone(0.4))
        await desk.until_heard(1)
        assert told(desk).endswith("there is room\nreserved")


async def test_the_model_may_end_the_call() -> None:
    """LiveKit's own `EndCallTool`: the goodbye is played, then the call is over."""
    agent = Agent(instructions="Be kind.", tools=[EndCallTool(delete_room=False)])
    replies = by_trigger(user_turn=Call("end_call"), tool_outputs=RESULT)
    async with call(Scenario(replies=replies, silence_ms=200), agent) as desk:
        await desk.say(tone(0.4))
        await desk.until_heard(1)
        await desk.until(lambda: desk.of("close"))
        assert desk.heard_s == [RESULT.duration_s]


# ------------------------------------------------------------------------ in conversation


async def test_typed_text_takes_the_place_of_what_is_said() -> None:
    """As room chat does: `interrupt()`, then a reply to the text; the story ends at once."""
    scenario = Scenario(replies=[STORY], default_reply=YES, silence_ms=200)
    async with call(scenario, Agent(instructions="")) as desk:
        await desk.say(tone(0.4))
        await desk.until_state("speaking")
        await desk.session.interrupt()
        await desk.session.generate_reply(user_input="Where is room twelve?")

        assert [playout.interrupted for playout in desk.loudspeaker.heard] == [True, False]
        assert "Where is room twelve?" in told(desk)
        assert creates(desk) == 1


async def test_replies_that_are_asked_for_at_once_follow_each_other() -> None:
    """Several `generate_reply()` in a row are all played, in order."""
    async with call(Scenario(default_reply=YES), Agent(instructions="")) as desk:
        handles = [
            desk.session.generate_reply(instructions=f"Say {word}.")
            for word in ("one", "two", "three")
        ]
        for handle in handles:
            await handle
            assert handle.exception() is None
        assert desk.heard_s == [YES.duration_s] * 3
        assert [word in told(desk) for word in ("Say one.", "Say two.", "Say three.")] == [True] * 3


class Polite(Agent):
    """Says goodbye when it leaves."""

    async def on_exit(self) -> None:
        """Say goodbye."""
        await self.session.generate_reply(instructions="Say goodbye.")


async def test_an_agent_may_say_goodbye_when_it_hands_over() -> None:
    """What `on_exit` asks for is spoken on the old connection, before it is closed."""
    scenario = Scenario(default_reply=YES, silence_ms=200)
    async with call(scenario, Polite(instructions="Be kind.")) as desk:
        await desk.say(tone(0.4))
        await desk.until_heard(1)
        desk.session.update_agent(Agent(instructions="Be strict."))
        await desk.until_heard(2)
        await desk.until(lambda: len(desk.server.connections) == 2)

        assert [len(record.responses) for record in desk.server.connections] == [2, 0]
        assert "Say goodbye." in told(desk)


async def test_a_microphone_that_is_muted_in_mid_word_ends_the_turn() -> None:
    """Silence follows where frames stop, so the server hears the end and answers."""
    microphone = Microphone()
    scenario = Scenario(default_reply=YES, silence_ms=400)
    async with call(scenario, Agent(instructions=""), microphone=microphone) as desk:
        microphone.say(tone(5.0))
        await desk.until(lambda: desk.session.user_state == "speaking")
        await desk.until(lambda: len(desk.server.connection.received_audio) > 0.8 * 32_000)
        microphone.mute()
        await desk.until_heard(1)
        await desk.until(lambda: desk.session.user_state == "listening")

        microphone.unmute()
        await desk.say(tone(0.5))
        await desk.until_heard(2)


async def test_one_model_serves_several_calls() -> None:
    """Two calls of one model object at a time know nothing of each other."""
    async with Emulator(Scenario(default_reply=YES, silence_ms=200)) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        heard: list[Loudspeaker] = []
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(_one_call(model, f"You are number {number}.", heard))
        await model.aclose()
    assert [len(each.heard) for each in heard] == [1, 1]
    told = {record.configuration.instructions for record in server.connections}
    assert told == {"You are number 0.", "You are number 1."}


async def _one_call(
    model: hydra.RealtimeModel, instructions: str, heard: list[Loudspeaker]
) -> None:
    microphone, loudspeaker = Microphone(), Loudspeaker()
    heard.append(loudspeaker)
    async with AgentSession[Any](llm=model, aec_warmup_duration=None) as session:
        session.input.audio, session.output.audio = microphone, loudspeaker
        is_over = asyncio.Event()
        loudspeaker.on("playback_finished", lambda _: is_over.set())
        await session.start(Agent(instructions=instructions))
        microphone.say(tone(0.5))
        await is_over.wait()
