"""Turns are transcribed from where they begin to where they end, by the server's measure."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from livekit.agents import Agent

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.testing import Emulator, Samples, Say, Scenario
from tests import server_says as server
from tests.calls import KEY, call, silence, told, tone
from tests.direct import line
from tests.proxy import FaultProxy
from tests.recognisers import ToneSTT, Vocabulary

FIRST, SECOND = "one two three four five six", "seven eight nine ten eleven twelve"
WORDS = Vocabulary(
    {400.0: (FIRST, 1.2), 700.0: ("seven eight", 0.4), 900.0: ("nine ten eleven twelve", 0.8)}
)


def second_half() -> tuple[Samples, Samples]:
    """The audio of the second half: its first third, and the rest."""
    return tone(0.4, hz=700), tone(0.8, hz=900)


@pytest.mark.parametrize("thinks", ["before_speech_stopped", "after_speech_stopped"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("round_trip_s", [0.0, 0.1, 0.2, 0.3])
async def test_who_goes_on_after_half_a_second_is_transcribed_in_two_turns(
    round_trip_s: float, streaming: bool, thinks: str
) -> None:
    """However late the server's events come, no syllable of a turn is in the one before it."""
    scenario = Scenario(
        default_reply=Say(duration_s=0.3),
        think_s=0.4,
        thinks=thinks,  # type: ignore[arg-type]  # mypy takes it for any string
    )
    async with Emulator(scenario) as server, FaultProxy(server.port) as proxy:
        proxy.delay_s = round_trip_s / 2
        stt = ToneSTT(WORDS, streaming=streaming)
        model = hydra.RealtimeModel(api_key=KEY, base_url=proxy.url, input_stt=stt)
        async with call(Scenario(), Agent(instructions=""), model=model) as desk:
            await asyncio.sleep(1.0)
            await desk.say(np.concatenate([tone(1.2, hz=400), silence(0.5), *second_half()]))
            await asyncio.sleep(5.0)

            assert [text for role, text in desk.told if role == "user"] == [FIRST, SECOND]
            assert desk.remembered == desk.told


async def transcribe(
    *, start_ms: float | None, stop_ms: float | None, then_ms: float | None, streaming: bool
) -> list[str]:
    """Say both halves with half a second between them; the server's events come late.

    Returns:
        The texts of the two turns.
    """
    deaf = Scenario(threshold_dbfs=0.0)
    stt = ToneSTT(WORDS, streaming=streaming)
    async with line(deaf, input_stt=stt) as opened:
        await opened.session._update_session(instructions="")
        await opened.ready()
        say = opened.server.send
        await opened.speak(silence(1.0), tone(0.5, hz=400))
        say(server.speech_started("u1", start_ms))
        beginning, rest = second_half()
        await opened.speak(tone(0.7, hz=400), silence(0.5), beginning)
        say(server.speech_stopped("u1", stop_ms))
        await opened.speak(rest[: len(rest) // 4])
        say(server.speech_started("u2", then_ms))
        await opened.speak(rest[len(rest) // 4 :], silence(0.6))
        say(server.speech_stopped("u2", None))
        say(server.created("r1"))
        say(server.done("r1"))
        await opened.until(lambda: len(told(opened.session.chat_ctx)) == 2)
        return [text for _, text in told(opened.session.chat_ctx)]


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_turn_is_where_the_server_says(streaming: bool) -> None:
    """A third of the second half was spoken when the end of the first was told."""
    turns = await transcribe(start_ms=1000, stop_ms=2200, then_ms=2700, streaming=streaming)

    assert turns == [FIRST, SECOND]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("start_ms", "stop_ms", "then_ms"),
    [(None, None, None), (9_000, 99_000, 1e9), (-1, 10, 20), (1_000, 900, 950)],
)
async def test_what_can_not_be_is_where_the_event_came(
    start_ms: float | None, stop_ms: float | None, then_ms: float | None, streaming: bool
) -> None:
    """Offsets that are missing, in the future, too old or before each other: no word is lost."""
    turns = await transcribe(
        start_ms=start_ms, stop_ms=stop_ms, then_ms=then_ms, streaming=streaming
    )

    assert turns == [f"{FIRST} seven eight", "nine ten eleven twelve"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("start_ms", "stop_ms", "then_ms"),
    [(1_000, 1_700, None), (None, 1_300, None), (667, 1_467, 1_800)],
)
async def test_an_offset_amid_words_is_not_believed(
    start_ms: float | None, stop_ms: float, then_ms: float | None, streaming: bool
) -> None:
    """A server that counts otherwise than we do costs no word: turns end where there is a pause."""
    turns = await transcribe(
        start_ms=start_ms, stop_ms=stop_ms, then_ms=then_ms, streaming=streaming
    )

    assert turns == [f"{FIRST} seven eight", "nine ten eleven twelve"]


@pytest.mark.parametrize("stop_ms", [2_200, 2_400, 2_650])
async def test_the_pause_may_be_counted_to_the_turn(stop_ms: float) -> None:
    """Some detectors say where the last word ends, others where they have waited for more."""
    turns = await transcribe(start_ms=700, stop_ms=stop_ms, then_ms=2_660, streaming=False)

    assert turns == [FIRST, SECOND]


async def test_a_turn_that_nobody_stopped_ends_where_the_next_begins() -> None:
    """The server never said that the first had stopped, but it says where the second begins."""
    deaf = Scenario(threshold_dbfs=0.0)
    async with line(deaf, input_stt=ToneSTT(WORDS)) as opened:
        await opened.session._update_session(instructions="")
        await opened.ready()
        say = opened.server.send
        await opened.speak(silence(1.0), tone(0.5, hz=400))
        say(server.speech_started("u1", 1000))
        beginning, rest = second_half()
        await opened.speak(tone(0.7, hz=400), silence(0.5), beginning)
        say(server.speech_started("u2", 2700))
        await opened.speak(rest, silence(0.6))
        say(server.speech_stopped("u2", 3900))
        say(server.created("r1"))
        say(server.done("r1"))
        await opened.until(lambda: len(told(opened.session.chat_ctx)) == 2)

        assert [text for _, text in told(opened.session.chat_ctx)] == [FIRST, SECOND]
