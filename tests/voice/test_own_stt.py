"""An `AgentSession` with an STT of its own, and a server that transcribes the user, or not."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import Agent, APIConnectOptions, NotGivenOr, stt
from livekit.agents.llm import RealtimeModelFallbackAdapter
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.testing import Emulator, Say, Scenario
from tests.calls import KEY, Desk, call, tone
from tests.recognisers import ToneSTT, Vocabulary, event

SERVERS, OWN, INPUT = "said the server", "said the STT", "said the input STT"
ANSWER = Say(duration_s=0.3)


class EverySpeech(stt.STT[str]):
    """Transcribes whatever is loud, once it is quiet again."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))

    async def _recognize_impl(self, *_: Any, **__: Any) -> stt.SpeechEvent:
        raise NotImplementedError

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Listen for as long as the call goes on."""
        return _Listening(stt=self, conn_options=conn_options)


class _Listening(stt.RecognizeStream):
    async def _run(self) -> None:
        quiet_s = 1.0
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                continue
            if np.abs(np.frombuffer(frame.data, dtype=np.int16)).max(initial=0) > 500:
                quiet_s = 0.0
                continue
            was_quiet, quiet_s = quiet_s >= 0.2, quiet_s + frame.duration
            if quiet_s >= 0.2 and not was_quiet:
                for kind in ("INTERIM_TRANSCRIPT", "FINAL_TRANSCRIPT"):
                    self._event_ch.send_nowait(event(stt.SpeechEventType[kind], OWN))


async def two_turns(desk: Desk) -> tuple[list[str], list[str]]:
    """Talk, and return the final transcripts and the user's messages."""
    for count in (1, 2):
        await desk.say(tone(0.8))
        await desk.until_heard(count)
    await asyncio.sleep(1.0)
    finals = [each.transcript for each in desk.of("user_input_transcribed") if each.is_final]
    assert [text for role, text in desk.told if role == "user"] == [
        text for role, text in desk.remembered if role == "user"
    ]
    return finals, [text for role, text in desk.told if role == "user"]


def options(where: str) -> tuple[Agent, dict[str, Any]]:
    """Return an agent, and options of its session, one of which has the STT."""
    turns = {"turn_handling": {"turn_detection": "realtime_llm"}}
    if where == "the agent's":
        return Agent(instructions="", stt=EverySpeech()), turns
    return Agent(instructions=""), turns | {"stt": EverySpeech()}


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("where", ["the session's", "the agent's"])
async def test_each_turn_has_one_final_transcript_and_one_message(
    where: str, adapter: bool
) -> None:
    """The STT's is the transcript, as the application wants; the server's text is the message."""
    agent, session_options = options(where)
    scenario = Scenario(think_s=0.3, default_reply=ANSWER, user_text=SERVERS)
    async with Emulator(scenario) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        async with call(
            Scenario(),
            agent,
            model=RealtimeModelFallbackAdapter([model]) if adapter else model,
            session_options=session_options,
        ) as desk:
            for count in (1, 2):
                await desk.say(tone(0.8))
                await desk.until_heard(count)
            await asyncio.sleep(1.0)
            heard = [each for each in desk.of("user_input_transcribed") if each.is_final]
            messages = [item for item in desk.session.history.messages() if item.role == "user"]

            assert [each.transcript for each in heard] == [OWN, OWN]
            assert [message.text_content for message in messages] == [SERVERS, SERVERS]
            for turn, message in zip(server.connection.turns, messages, strict=True):
                assert message.id == turn.item_id
                assert message.transcript_confidence is not None
                assert message.metrics["started_speaking_at"] == message.created_at
                assert agent.chat_ctx.get_by_id(message.id) is not None
            added = [event.item.id for event in desk.of("conversation_item_added")]
            assert {message.id for message in messages} < set(added)
        await model.aclose()


async def test_without_the_servers_text_the_stt_alone_is_shown() -> None:
    """LiveKit makes no message of it, as ever where a model detects turns."""
    agent, session_options = options("the session's")
    scenario = Scenario(think_s=0.3, default_reply=ANSWER)
    async with call(scenario, agent, session_options=session_options) as desk:
        assert await two_turns(desk) == ([OWN, OWN], [])


@pytest.mark.parametrize("has_text", [False, True])
async def test_an_input_stt_takes_the_place_of_the_sessions(has_text: bool) -> None:
    """LiveKit drops its own then: transcripts and messages are those of the model, once each."""
    agent, session_options = options("the session's")
    scenario = Scenario(think_s=0.3, default_reply=ANSWER, user_text=SERVERS if has_text else None)
    words = ToneSTT(Vocabulary({300.0: (INPUT, 0.8)}))
    async with call(scenario, agent, session_options=session_options, input_stt=words) as desk:
        text = SERVERS if has_text else INPUT
        assert await two_turns(desk) == ([text, text], [text, text])
