"""What an STT says beside the text reaches LiveKit: how sure it is, and what it has cost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, APIConnectOptions, NotGivenOr, stt
from livekit.agents.llm import RealtimeModelFallbackAdapter
from livekit.agents.metrics import STTModelUsage
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.testing import Emulator, Say, Scenario
from livekit_plugins_hydra.voice.transcription import Recognized, Transcriber
from tests.calls import KEY, Desk, call, tone
from tests.recognisers import ToneSTT, Vocabulary, event

ASKED, ANSWERED = "are you open today", "until six"
WORDS = Vocabulary({300.0: (ASKED, 0.8), 600.0: (ANSWERED, 0.5)})
ANSWER = Scenario(default_reply=Say(duration_s=0.5, tone_hz=600))


def words(streaming: bool = False, **options: Any) -> ToneSTT:
    """Return an STT for both sides."""
    return ToneSTT(WORDS, streaming=streaming, **options)


async def two_turns(desk: Desk) -> None:
    """Talk, until all is transcribed."""
    for count in (1, 2):
        await desk.say(tone(0.8))
        await desk.until_heard(count)
        await desk.until(lambda n=2 * count: len(desk.told) == n)  # type: ignore[misc]


def seconds_used(session: AgentSession[Any]) -> float:
    """Return the seconds of STTs in a session's usage."""
    used = session.usage.model_usage
    return sum(each.audio_duration for each in used if isinstance(each, STTModelUsage))


# ----------------------------------------------------------------------------------- usage


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("streaming", [False, True])
async def test_seconds_of_both_sides_count_once(streaming: bool, adapter: bool) -> None:
    """One STT for both sides, with or without streams: the usage has what it was given."""
    engine = words(streaming)
    async with Emulator(ANSWER) as server:
        model = hydra.RealtimeModel(
            api_key=KEY, base_url=server.url, input_stt=engine, output_stt=engine
        )
        made = RealtimeModelFallbackAdapter([model]) if adapter else model
        async with call(Scenario(), Agent(instructions=""), model=made) as desk:
            await two_turns(desk)

            assert len(engine.heard_s) == 4
            assert seconds_used(desk.session) == pytest.approx(sum(engine.heard_s), abs=0.01)
            assert sum(engine.heard_s) > 2 * (0.8 + 0.5)
        await model.aclose()


@pytest.mark.parametrize("streaming", [False, True])
async def test_calls_that_share_an_stt_have_each_their_own_seconds(streaming: bool) -> None:
    """Three calls at once with one STT object: what it does for one is in no other's usage."""
    engine = words(streaming)
    async with Emulator(ANSWER) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url, input_stt=engine)

        async def talk(n_turns: int) -> float:
            async with call(Scenario(), Agent(instructions=""), model=model) as desk:
                for count in range(1, n_turns + 1):
                    await desk.say(tone(0.8))
                    await desk.until_heard(count)
                await asyncio.sleep(5.0)
                return seconds_used(desk.session)

        used = await asyncio.gather(talk(1), talk(2), talk(3))

    for n_turns, seconds in enumerate(used, start=1):
        assert n_turns * 0.8 < seconds < n_turns * 2.0
    assert sum(used) == pytest.approx(sum(engine.heard_s), abs=0.01)


async def test_an_stt_that_livekit_measures_itself_is_not_counted_twice() -> None:
    """The same object as `stt=` of the `AgentSession`: its seconds are there already."""
    engine = words()
    options = {"stt": engine, "turn_handling": {"turn_detection": "realtime_llm"}, "vad": None}
    async with Emulator(ANSWER) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url, output_stt=engine)
        async with call(
            Scenario(),
            Agent(instructions=""),
            model=model,
            session_options=options,
            complaints_are_fine=True,
        ) as desk:
            await desk.say(tone(0.8))
            await desk.until_heard(1)
            await desk.until(lambda: len(desk.remembered) == 1)

            assert seconds_used(desk.session) == pytest.approx(sum(engine.heard_s), abs=0.01)
        await model.aclose()


async def test_an_stt_has_no_listeners_left_after_its_calls() -> None:
    """It is the application's, and lives longer than a call."""
    engine = words()
    async with call(ANSWER, Agent(instructions=""), input_stt=engine, output_stt=engine) as desk:
        await two_turns(desk)
    heard: list[object] = []
    engine.on("metrics_collected", heard.append)
    engine.emit("metrics_collected", "anything")

    assert heard == ["anything"]
    assert desk.of("error") == []


# ------------------------------------------------------------------------------ confidence


@pytest.mark.parametrize("streaming", [False, True])
async def test_how_sure_an_stt_is_stands_in_both_histories(streaming: bool) -> None:
    """LiveKit has what the STT said, and not that it was sure."""
    engine = words(streaming, confidence=0.42)
    async with call(ANSWER, Agent(instructions=""), input_stt=engine) as desk:
        await desk.say(tone(0.8))
        await desk.until_heard(1)
        await desk.until(lambda: desk.told)

        for history in (desk.session.history, desk.line.chat_ctx):
            (message,) = history.messages()
            assert message.transcript_confidence == pytest.approx(0.42)


@pytest.mark.parametrize("source", ["an STT", "the server"])
async def test_where_nobody_says_how_sure_it_is_nothing_is_claimed(source: str) -> None:
    """No confidence is no zero: LiveKit has its own value for what has none."""
    options = {"input_stt": words()} if source == "an STT" else {}
    text = ASKED if source == "the server" else None
    scenario = Scenario(default_reply=Say(duration_s=0.5), user_text=text)
    async with call(scenario, Agent(instructions=""), **options) as desk:  # type: ignore[arg-type]
        await desk.say(tone(0.8))
        await desk.until_heard(1)
        await desk.until(lambda: desk.told)

        (message,) = desk.line.chat_ctx.messages()
        assert message.transcript_confidence is None
        (message,) = desk.session.history.messages()
        assert message.transcript_confidence == 1.0


class InPieces(stt.STT[str]):
    """Streams a turn in pieces that it is sure of to various degrees."""

    def __init__(self, pieces: list[tuple[str, float]]) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))
        self.pieces = pieces

    async def _recognize_impl(self, *_: Any, **__: Any) -> stt.SpeechEvent:
        raise NotImplementedError

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Say the pieces, whatever comes."""
        return _Pieces(stt=self, conn_options=conn_options)


class _Pieces(stt.RecognizeStream):
    async def _run(self) -> None:
        assert isinstance(self._stt, InPieces)
        for text, confidence in self._stt.pieces:
            kind = stt.SpeechEventType.FINAL_TRANSCRIPT
            self._event_ch.send_nowait(event(kind, text, confidence))


@pytest.mark.parametrize(
    ("pieces", "recognized"),
    [
        ([("are you", 0.9), ("open", 0.5)], Recognized("are you open", 0.7)),
        ([("are you", 0.9), ("open", 0.0)], Recognized("are you open", 0.9)),
        ([("are you", 0.0)], Recognized("are you", None)),
        ([], Recognized("", None)),
    ],
)
async def test_of_several_pieces_it_is_the_mean(
    pieces: list[tuple[str, float]], recognized: Recognized
) -> None:
    """Of those that have one, as LiveKit has it for a turn of several finals."""
    told: list[Recognized] = []
    transcriber = Transcriber(
        InPieces(pieces), side="user", warned=set(), on_metrics=lambda *_: None
    )
    recognition = transcriber.begin(told.append)
    recognition.end()
    assert recognition.task is not None
    await recognition.task

    assert [each.text for each in told] == [recognized.text]
    assert [each.confidence for each in told] == pytest.approx([recognized.confidence])
