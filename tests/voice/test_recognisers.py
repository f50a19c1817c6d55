"""Real recognisers transcribe a call: Pulse's own plugin, and one that needs no network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from livekit.agents import Agent
from livekit.plugins import smallestai

from livekit_plugins_hydra.testing import Say, Scenario
from tests import word_errors
from tests.calls import Captions, call, tone
from tests.recognisers import Vocabulary

PULSE_KEY = "sk-pulse-key-of-the-tests"
PULSE_RATE_HZ = 16_000

QUESTION_S, ANSWER = 0.8, Say(duration_s=1.2, tone_hz=600, text="We are open until six today.")
QUESTION = "When does the museum close tonight?"
WORDS = Vocabulary({300: (QUESTION, QUESTION_S), 600: (ANSWER.text or "", ANSWER.duration_s)})


# ------------------------------------------------------------------------------- Pulse


class Pulse:
    """A stand-in for Pulse's streaming socket; its contract is told in the vendor's plugin."""

    def __init__(self) -> None:
        self.url = ""
        self.dials: list[Mapping[str, str]] = []
        """The queries of the sockets that were opened."""
        self.keys: set[str] = set()

    async def listen(self, request: web.Request) -> web.WebSocketResponse:
        """Recognise what one socket brings."""
        self.dials.append(dict(request.query))
        self.keys.add(request.headers["Authorization"])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        pcm = bytearray()
        told = ""
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                pcm += message.data
                if len(pcm) % 9_600 == 0 and told != (told := self._read(pcm)):
                    await socket.send_json({"transcript": told, "is_final": False})
            elif message.type is aiohttp.WSMsgType.TEXT:
                match json.loads(message.data)["type"]:
                    case "finalize":
                        final = {"transcript": self._read(pcm), "is_final": True}
                        await socket.send_json(final | {"from_finalize": True})
                        pcm.clear()
                    case "close_stream":
                        last = {"transcript": self._read(pcm), "is_final": True, "is_last": True}
                        await socket.send_json(last)
                        await socket.close()
        return socket

    def _read(self, pcm: bytearray) -> str:
        return WORDS.read(np.frombuffer(bytes(pcm), dtype=np.int16), PULSE_RATE_HZ)


@asynccontextmanager
async def pulse() -> AsyncIterator[Pulse]:
    """Run the stand-in on loopback."""
    stand_in = Pulse()
    app = web.Application()
    app.router.add_get("/stt/live", stand_in.listen)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    stand_in.url = f"http://{host}:{port}"
    try:
        yield stand_in
    finally:
        await runner.cleanup()


async def test_pulse_transcribes_both_sides() -> None:
    """The vendor's own STT, by the two lines of the README: one socket for each thing said."""
    captions = Captions()
    async with pulse() as service, aiohttp.ClientSession() as http:

        def stt() -> smallestai.STT:
            return smallestai.STT(api_key=PULSE_KEY, base_url=service.url, http_session=http)

        options: dict[str, Any] = {"input_stt": stt(), "output_stt": stt()}
        scenario = Scenario(replies=[ANSWER])
        async with call(scenario, Agent(instructions=""), captions=captions, **options) as desk:
            await desk.say(tone(QUESTION_S))
            await desk.until_heard(1)
            await desk.until(lambda: len(desk.told) == 2)

            assert desk.told == [("user", QUESTION), ("assistant", ANSWER.text)]
            assert desk.remembered == desk.told
            assert captions.lines == [ANSWER.text]
            guesses = [each for each in desk.of("user_input_transcribed") if not each.is_final]
            assert any(guess.transcript for guess in guesses)
            assert [query["sample_rate"] for query in service.dials] == ["16000", "16000"]
            assert service.keys == {f"Bearer {PULSE_KEY}"}


async def test_a_pulse_that_is_away_costs_the_text_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody answers at Pulse's address: the call goes on, each side is complained of once."""
    async with pulse() as service:
        url = service.url
    async with aiohttp.ClientSession() as http:
        stt = smallestai.STT(api_key=PULSE_KEY, base_url=url, http_session=http)
        options: dict[str, Any] = {"input_stt": stt, "output_stt": stt}
        async with call(Scenario(replies=[ANSWER]), Agent(instructions=""), **options) as desk:
            await desk.say(tone(QUESTION_S))
            await desk.until_heard(1)
            await desk.until_state("listening")

            assert desk.heard_s == [ANSWER.duration_s]
            assert desk.told == []
    told = [text for text in caplog.messages if text.startswith("the STT for")]
    assert len(told) == 2
    assert PULSE_KEY not in caplog.text


# ------------------------------------------------------------------- without a network


async def test_a_real_recogniser_transcribes_recorded_speech() -> None:
    """Pocketsphinx on espeak's voice gets much of it wrong, and all of it where it was said."""
    pytest.importorskip("pocketsphinx", reason="it has no wheel for this Python")
    talk = word_errors.TALK[:1]
    ((asker, question), (answerer, answer)) = await word_errors.hold_call(
        word_errors.Pocketsphinx(), talk
    )

    assert (asker, answerer) == ("user", "assistant")
    for text, name in ((question, talk[0][0]), (answer, talk[0][1])):
        assert word_errors.errors_in(text, word_errors.written(name)).rate < 0.9


def test_word_errors_are_counted_by_edits() -> None:
    """Missing, additional and other words count one each; case and punctuation do not."""
    said = "Hi, what is the weather like?"
    assert word_errors.errors_in("hi what is the weather like", said).n_wrong == 0
    assert word_errors.errors_in("what was the the weather like", said).n_wrong == 3
    assert word_errors.errors_in("", said).rate == 1.0
