"""What the application knows: its chat context is what servers are told, live and anew."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import Agent, llm
from livekit.agents.llm import RealtimeModelFallbackAdapter

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.states import About
from livekit_plugins_hydra.testing import ConnectionRecord, Emulator, Say, Scenario
from tests.calls import COUGH, KEY, Desk, call, tone
from tests.direct import line

from .test_reconnects import until_ready

YES = Say(duration_s=0.3, tone_hz=500, text="Yes, of course.")
STORY = Say(duration_s=8.0, tone_hz=600, text="It is a long story and it has no end.")
ASKED = "My number is 4711."
POLITE = Scenario(
    default_reply=YES, think_s=0.02, silence_ms=200, transcripts=True, user_text=ASKED
)


def instructions(record: ConnectionRecord) -> str:
    """Return what a connection was told."""
    return record.configuration.instructions or ""


def texts(desk: Desk) -> list[tuple[str | None, str]]:
    """Return the text items that servers were sent, in order."""
    items = [event.item for event in desk.server.events_of(ev.ConversationItemCreate)]
    return [(item.role, item.text) for item in items if item.type == "message"]


async def talked(desk: Desk) -> llm.ChatContext:
    """Ask and have an answer; return the agent's context."""
    await desk.say(tone(0.4))
    await desk.until_heard(1)
    await desk.until(lambda: len(desk.told) == 2)
    return desk.session.current_agent.chat_ctx.copy()


async def reconnected(desk: Desk) -> str:
    """Lose the connection; return what the next one is told."""
    desk.server.drop()
    await until_ready(desk, 2)
    return instructions(desk.server.connection)


# ------------------------------------------------------------------- removed, edited, late


async def test_what_the_application_removes_no_later_server_is_told() -> None:
    """A redaction: also of what the session has transcribed, and never was given."""
    async with call(POLITE, Agent(instructions="Be kind.")) as desk:
        ctx = await talked(desk)
        ctx.items[:] = [item for item in ctx.items if getattr(item, "role", "") != "user"]
        await desk.session.current_agent.update_chat_ctx(ctx)
        told = await reconnected(desk)

        assert "4711" not in told
        assert f'assistant: "{YES.text}"' in told
        assert texts(desk) == []


@pytest.mark.parametrize("is_in_place", [True, False])
async def test_what_the_application_edits_is_told_as_edited(is_in_place: bool) -> None:
    """The item itself, or another one with its id."""
    async with call(POLITE, Agent(instructions="Be kind.")) as desk:
        ctx = await talked(desk)
        for index, item in enumerate(ctx.items):
            if isinstance(item, llm.ChatMessage) and item.role == "user":
                if not is_in_place:
                    item = ctx.items[index] = item.model_copy()
                item.content = ["[redacted]"]
        await desk.session.current_agent.update_chat_ctx(ctx)
        told = await reconnected(desk)

        assert f'user: "[redacted]"\nassistant: "{YES.text}"' in told
        assert "4711" not in told


async def test_what_is_loaded_in_mid_call_stands_before_it() -> None:
    """The caller's earlier calls, both sides: told to the live server, and to the next in order."""
    async with call(POLITE, Agent(instructions="Be kind.")) as desk:
        ctx = await talked(desk)
        ctx.add_message(role="user", content="Where is it?", created_at=time.time() - 3600)
        ctx.items.append(
            llm.ChatMessage(role="assistant", content=["Here."], created_at=time.time() - 3599)
        )
        await desk.session.current_agent.update_chat_ctx(ctx)
        await desk.say(tone(0.4))
        await desk.until_heard(2)

        assert texts(desk) == [
            ("user", "Where is it?"),
            ("system", 'You have said to the user: "Here."'),
        ]
        told = await reconnected(desk)
        assert f'user: "Where is it?"\nassistant: "Here."\nuser: "{ASKED}"' in told


async def test_a_context_from_before_the_end_of_a_sentence_does_not_lose_it() -> None:
    """What is still being played is in no context of the application's."""
    agent = Agent(instructions="Be kind.")
    async with call(dataclasses.replace(POLITE, replies=[STORY]), agent) as desk:
        await desk.say(tone(0.4))
        await desk.until_state("speaking")
        ctx = agent.chat_ctx.copy()
        ctx.add_message(role="system", content="The caller is in Rome.")
        await agent.update_chat_ctx(ctx)
        await desk.until_heard(1)
        told = await reconnected(desk)

        assert f'assistant: "{STORY.text}"' in told
        assert "The caller is in Rome." in told


# --------------------------------------------------------------------------- the live server


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
async def test_what_the_application_adds_is_told_before_the_next_answer(role: Any) -> None:
    """Of every role, and once; and to every later server."""
    agent = Agent(instructions="Be kind.")
    async with call(POLITE, agent) as desk:
        ctx = await talked(desk)
        ctx.add_message(role=role, content="The code is 0815.")
        await agent.update_chat_ctx(ctx)
        await agent.update_chat_ctx(agent.chat_ctx.copy())
        assert texts(desk) == []
        await desk.say(tone(0.4))
        await desk.until_heard(2)

        quoted = 'You have said to the user: "The code is 0815."'
        assert [text for _, text in texts(desk)] == [
            quoted if role == "assistant" else "The code is 0815."
        ]
        assert "The code is 0815." in await reconnected(desk)


async def spoken(seconds: float) -> AsyncIterator[rtc.AudioFrame]:
    """Speak, as a text-to-speech model does."""
    for _ in range(int(seconds / 0.05)):
        yield rtc.AudioFrame(tone(0.05).tobytes(), 24_000, 1, 1_200)


async def test_the_model_knows_what_session_say_has_said() -> None:
    """The live one before its next answer, and a new one in its history."""
    async with call(POLITE, Agent(instructions="Be kind.")) as desk:
        await talked(desk)
        await desk.session.say("Your code is 0815.", audio=spoken(0.4))
        await desk.say(tone(0.4))
        await desk.until_heard(3)

        assert texts(desk) == [("system", 'You have said to the user: "Your code is 0815."')]
        assert 'assistant: "Your code is 0815."' in await reconnected(desk)


async def test_what_is_withdrawn_before_it_was_told_is_not_told() -> None:
    """A text waits for the next request; until then it can be removed, or said otherwise."""
    agent = Agent(instructions="Be kind.")
    async with call(POLITE, agent) as desk:
        ctx = await talked(desk)
        wrong = ctx.add_message(role="system", content="The caller owes 10 euros.")
        amount = ctx.add_message(role="system", content="The caller owes 20 euros.")
        await agent.update_chat_ctx(ctx)
        ctx = agent.chat_ctx.copy()
        ctx.items.remove(wrong)
        ctx.items[ctx.items.index(amount)] = amount.model_copy(
            update={"content": ["The caller owes nothing."]}
        )
        await agent.update_chat_ctx(ctx)
        await desk.say(tone(0.4))
        await desk.until_heard(2)

        assert texts(desk) == [("system", "The caller owes nothing.")]


async def test_what_can_not_be_told_in_words_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Images and audio are not dropped without a word; the text beside them is told."""
    frame = rtc.AudioFrame(bytes(960), 24_000, 1, 480)
    content: list[llm.ChatContent] = [
        "Look at this.",
        llm.ImageContent(image="https://example.org/a.png"),
        llm.AudioContent(frame=[frame]),
        llm.AudioContent(frame=[frame], transcript="Hm."),
    ]
    caplog.set_level(logging.WARNING)
    async with line(Scenario(default_reply=YES)) as opened:
        for _ in range(3):
            ctx = opened.session.chat_ctx
            ctx.add_message(role="user", content=content)
            await opened.session.update_chat_ctx(ctx)
        record = await opened.ready()

    assert instructions(record).count("Look at this.\\nHm.") == 3
    assert [each.getMessage() for each in caplog.records] == [
        "Hydra takes text only: the model gets no images of a chat context",
        "Hydra takes text only: the model gets no audio without a transcript of a chat context",
    ]


# --------------------------------------------------------------------------------- handoffs


class Knowing(Agent):
    """Speaks first."""

    async def on_enter(self) -> None:
        """Speak."""
        self.session.generate_reply()


def model_at(server: Emulator, *, is_behind_an_adapter: bool) -> llm.RealtimeModel:
    """Return a model for a server, plain or behind LiveKit's fallback adapter."""
    model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
    return RealtimeModelFallbackAdapter([model]) if is_behind_an_adapter else model


@pytest.mark.parametrize("is_behind_an_adapter", [False, True])
async def test_an_agent_that_is_not_given_the_history_has_a_server_that_does_not_know_it(
    is_behind_an_adapter: bool,
) -> None:
    """Same instructions, so that LiveKit goes on with the session: on a new connection."""
    async with Emulator(POLITE) as server:
        model = model_at(server, is_behind_an_adapter=is_behind_an_adapter)
        async with call(POLITE, Agent(instructions="Be kind."), model=model) as desk:
            await talked(desk)
            desk.session.update_agent(Knowing(instructions="Be kind."))
            await desk.until_heard(2)
            old, new = server.connections

            assert "4711" not in instructions(new)
            assert (YES.text or "") not in instructions(new)
            assert About.NEXT.value not in instructions(new)
            assert new.responses[0].trigger == "greeting"
            assert len(old.responses) == 1
            await desk.say(tone(0.4))
            await desk.until_heard(3)
            assert len(new.responses) == 2
            assert len(server.open_connections) == 1


@pytest.mark.parametrize("is_behind_an_adapter", [False, True])
async def test_an_agent_that_is_given_the_history_goes_on_with_its_server(
    is_behind_an_adapter: bool,
) -> None:
    """And with its connection; what it was given in addition, the server is told."""
    async with Emulator(POLITE) as server:
        model = model_at(server, is_behind_an_adapter=is_behind_an_adapter)
        async with call(POLITE, Agent(instructions="Be kind."), model=model) as desk:
            ctx = await talked(desk)
            ctx.add_message(role="system", content="The caller is angry.")
            second = Agent(instructions="Be kind.", chat_ctx=ctx)
            desk.session.update_agent(second)
            await desk.until(lambda: desk.session.current_agent is second)
            await desk.say(tone(0.4))
            await desk.until_heard(2)

            items = server.events_of(ev.ConversationItemCreate)
            assert [each.item.text for each in items] == ["The caller is angry."]
            assert len(server.connections) == 1


async def test_a_cough_over_what_waits_costs_no_history() -> None:
    """After such an interruption LiveKit hands the agent's context over again."""
    async with call(POLITE, Agent(instructions="Be kind.")) as desk:
        await desk.say(tone(0.4))
        await desk.until_state("speaking")
        desk.server.speak(STORY)
        await desk.until(lambda: len(desk.server.responses) == 2)
        await desk.say(COUGH)
        await desk.until_state("listening")
        told = await reconnected(desk)

        assert f'user: "{ASKED}"' in told
        assert (STORY.text or "") not in told
        assert texts(desk) == []
