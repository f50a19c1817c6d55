"""Turns of the user that come one soon after the other into an answer, and verdicts that are late.

The tests speak for the server and for the framework, which cuts playback and reports how much was
played of what it was playing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from livekit_plugins_hydra.protocol.events import ServerEvent
from livekit_plugins_hydra.testing import Scenario
from tests import server_says as server
from tests.calls import told
from tests.direct import Line, hear, line
from tests.recognisers import ToneSTT, Vocabulary

RATE_HZ = 24_000
SAID = (8_000 * np.sin(np.arange(4 * RATE_HZ) / 9)).astype(np.int16).tobytes()
"""Four seconds without a pause."""


@dataclass
class Answer:
    """An answer of the server's that the user has heard for one second, all of it being here."""

    opened: Line
    message_id: str

    async def hears(self, *events: ServerEvent) -> None:
        """Let the server say something, and let it arrive."""
        for event in events:
            self.opened.server.send(event)
        await asyncio.sleep(0.05)

    def reports(self, played_s: float = 1.0) -> None:
        """Let the framework report how much was played."""
        self.opened.session.truncate(
            message_id=self.message_id, modalities=["audio"], audio_end_ms=int(played_s * 1000)
        )

    @property
    def has_gone_on(self) -> bool:
        """Whether the rest of it is played after all."""
        return len(self.opened.of("generation_created")) > 1

    async def assert_it_goes_on(self, from_s: float = 1.0) -> None:
        """See that the rest is played, all of it and once."""
        assert [each.response_id for each in self.opened.of("generation_created")] == ["r1", "r1~1"]
        (rest,) = await hear(self.opened.of("generation_created")[1])
        assert rest.pcm == SAID[int(from_s * RATE_HZ) * 2 :]


@asynccontextmanager
async def answering(**options: object) -> AsyncIterator[Answer]:
    """Let the server answer a turn ``u0``, and play a second of that."""
    deaf = Scenario(threshold_dbfs=0.0)  # the test says what the server hears
    async with line(deaf, **options) as opened:  # type: ignore[arg-type]  # options of a model
        await opened.session._update_session(instructions="")
        await opened.ready()
        opened.session.on("input_speech_started", lambda _: opened.session.interrupt())
        say = opened.server.send
        say(server.speech_started("u0"))
        say(server.speech_stopped("u0"))
        say(server.created("r1"))
        for start in range(0, len(SAID), 1_920):
            say(server.audio("r1", SAID[start : start + 1_920]))
        say(server.done("r1"))
        generation = await opened.generation()
        message = await anext(aiter(generation.message_stream))
        await anext(aiter(message.audio_stream))
        await asyncio.sleep(1.0)
        yield Answer(opened, message.message_id)


@pytest.mark.parametrize("reports_after", ["first", "second", "both verdicts"])
@pytest.mark.parametrize("verdicts", [("u1", "u2"), ("u2", "u1")])
async def test_an_answer_goes_on_when_both_coughs_are_discarded(
    verdicts: tuple[str, str], reports_after: str
) -> None:
    """In whatever order: from where playback was cut, since nothing was played after that."""
    async with answering() as answer:
        await answer.hears(server.speech_started("u1"))
        if reports_after == "first":
            answer.reports()
        await answer.hears(server.speech_started("u2"))
        if reports_after == "second":
            answer.reports()
        await answer.hears(server.speech_stopped("u2"), server.discarded(verdicts[0]))
        assert not answer.has_gone_on
        await answer.hears(server.discarded(verdicts[1]))
        if reports_after == "both verdicts":
            answer.reports()

        await answer.assert_it_goes_on()


@pytest.mark.parametrize("discarded", ["u1", "u2"])
async def test_an_answer_does_not_go_on_while_one_turn_may_be_speech(discarded: str) -> None:
    """The verdict on one of two turns says nothing of the other, which will be answered."""
    async with answering() as answer:
        await answer.hears(server.speech_started("u1"))
        answer.reports()
        await answer.hears(server.speech_started("u2"), server.speech_stopped("u2"))
        await answer.hears(server.discarded(discarded), server.discarded(discarded))
        await asyncio.sleep(10.0)

        assert not answer.has_gone_on


async def test_a_position_that_comes_a_second_after_the_first_cough_is_not_trusted() -> None:
    """The second cough does not make an old report a new one."""
    async with answering() as answer:
        await answer.hears(server.speech_started("u1"))
        await asyncio.sleep(0.8)
        await answer.hears(server.speech_started("u2"))
        await asyncio.sleep(0.3)
        answer.reports()
        await answer.hears(server.discarded("u1"), server.discarded("u2"))

        assert not answer.has_gone_on


async def test_an_interruption_of_the_applications_between_two_coughs_counts() -> None:
    """What the application has silenced stays silent."""
    async with answering() as answer:
        await answer.hears(server.speech_started("u1"))
        answer.reports()
        answer.opened.session.interrupt()
        await answer.hears(server.speech_started("u2"))
        await answer.hears(server.discarded("u1"), server.discarded("u2"))

        assert not answer.has_gone_on


@pytest.mark.parametrize("earlier", ["u0", "u1"])
async def test_a_verdict_on_an_earlier_turn_is_not_one_on_the_present(earlier: str) -> None:
    """A server that names only some turns: an old or a repeated verdict is none on the newest."""
    async with answering() as answer:
        if earlier == "u1":
            await answer.hears(server.speech_started("u1"), server.discarded("u1"))
        await answer.hears(server.speech_started(None))
        answer.reports()
        await answer.hears(server.discarded(earlier))
        assert not answer.has_gone_on
        await answer.hears(server.speech_stopped(None))
        assert not answer.has_gone_on
        await answer.hears(server.discarded(None))

        await answer.assert_it_goes_on()


async def test_a_verdict_on_an_earlier_turn_does_not_cost_the_present_ones_words() -> None:
    """What the user says in a turn without an id is transcribed, whatever is said of old ones."""
    stt = ToneSTT(Vocabulary({300.0: ("please wait a moment", 1.0)}))
    async with answering(input_stt=stt) as answer:
        await answer.hears(server.speech_started(None))
        tone = (6_000 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.int16)
        await answer.opened.speak(tone)
        await answer.hears(server.discarded("u0"))
        await answer.hears(server.speech_stopped(None), server.created("r2"))
        await asyncio.sleep(1.0)

        assert ("user", "please wait a moment") in told(answer.opened.session.chat_ctx)
