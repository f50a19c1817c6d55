"""The demo: a whole call at real time, and what it writes."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from livekit_plugins_hydra.desk import Samples
from livekit_plugins_hydra.emulator import Call, Emulator, Say, Scenario

from .processes import TOP, python

KEY = "sk-secret-key-of-the-tests"
SPEECH = TOP / "examples" / "speech"

PAUSE_S = 0.45
"""Silence that is longer than this ends a piece of speech: the recordings' pauses are shorter."""

SOUND = 200
"""Samples above this are heard; the recordings' noise is far below."""


def read(path: Path) -> tuple[Samples, int]:
    """Return the samples of a wav file, a column for each channel, and their rate."""
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
        return samples.reshape(-1, file.getnchannels()), file.getframerate()


def spoken(track: Samples, rate_hz: int) -> list[tuple[float, float]]:
    """Return when each piece of speech on a track begins and ends, in seconds."""
    (loud,) = np.nonzero(np.abs(track.astype(int)) > SOUND)
    breaks = np.nonzero(np.diff(loud) > PAUSE_S * rate_hz)[0]
    begins = loud[np.concatenate([[0], breaks + 1])] / rate_hz
    ends = loud[np.concatenate([breaks, [loud.size - 1]])] / rate_hz
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def length_s(name: str) -> float:
    """Return the length of a recording."""
    samples, rate_hz = read(SPEECH / f"{name}.wav")
    return len(samples) / rate_hz


async def test_demo_is_a_conversation(tmp_path: Path) -> None:
    """The demo tells a whole call, and its call.wav sounds like one."""
    path = tmp_path / "call.wav"
    demo = await python("examples/demo.py", "--out", str(path))

    assert demo.code == 0, demo.text
    told = [
        "Hello, this is the weather line.",
        "Hi, what is the weather like in Lisbon today?",
        'get_weather({"city": "Lisbon"})',
        'get_weather returns "Lisbon: sunny',
        "interrupts:",
        "falls silent",
        "Lisbon is sunny this morning",
        "No, leave it at home.",
        "Great, thank you very much, goodbye.",
        "You are welcome.",
        "question: end to first sound",
        "barge-in: begin to silence",
    ]
    places = [demo.text.find(words) for words in told]
    assert places == sorted(places), demo.text
    assert min(places) >= 0, demo.text
    assert "the old town" not in demo.text, "that comes after the barge-in, so nobody heard it"

    samples, rate_hz = read(path)
    assert samples.shape[1] == 2
    assert 20 < len(samples) / rate_hz < 50
    user, agent = (spoken(samples[:, side], rate_hz) for side in (0, 1))
    assert len(user) == 3
    assert len(agent) == 4

    # Who speaks when: greeting, question, forecast cut by the barge-in, reaction, goodbyes.
    (greeting, forecast, reaction, farewell) = agent
    (question, barge_in, goodbye) = user
    order = [greeting, question, forecast, barge_in, reaction, goodbye, farewell]
    assert [begin for begin, _ in order] == sorted(begin for begin, _ in order)
    assert greeting[1] < question[0]
    assert question[1] < forecast[0]
    assert forecast[0] + 3 < barge_in[0]
    assert barge_in[0] < forecast[1] < barge_in[0] + 1.0, "silence soon after the barge-in"
    assert barge_in[1] < reaction[0]
    assert reaction[1] < goodbye[0]
    assert goodbye[1] < farewell[0]
    for (begin, end), name in [
        (greeting, "agent-greeting"),
        (question, "user-question"),
        (barge_in, "user-barge-in"),
        (reaction, "agent-reaction"),
        (goodbye, "user-goodbye"),
        (farewell, "agent-goodbye"),
    ]:
        assert end - begin == pytest.approx(length_s(name), abs=0.15), name


async def test_live_demo_calls_the_service_that_is_configured(tmp_path: Path) -> None:
    """With ``--live`` the same call goes to HYDRA_BASE_URL, without transcripts too."""
    scenario = Scenario(
        replies=[
            Say(duration_s=1.0),
            [Say(duration_s=0.5), Call("get_weather", {"city": "Lisbon"})],
            Say(duration_s=8.0),
        ],
        default_reply=Say(duration_s=1.0),
        keys=(KEY,),
    )
    async with Emulator(scenario) as server:
        demo = await python(
            *("examples/demo.py", "--live", "--out", str(tmp_path / "call.wav")),
            HYDRA_BASE_URL=server.url,
            SMALLEST_API_KEY=KEY,
        )

    assert demo.code == 0, demo.text
    assert "real service, hydra-v1.1" in demo.text
    assert len(server.connection.turns) == 3
    assert [response.trigger for response in server.responses] == [
        "greeting",
        "user_turn",
        "tool_outputs",
        "user_turn",
        "user_turn",
    ]
    assert server.responses[2].status in ("completed", "cancelled")
    assert KEY not in demo.text


async def test_live_demo_says_what_is_missing() -> None:
    """Without a key, or with a refused one, ``--live`` ends with a sentence and no traceback."""
    async with Emulator(Scenario(keys=())) as server:
        without, refused = await asyncio.gather(
            python("examples/demo.py", "--live", SMALLEST_API_KEY=""),
            python(
                *("examples/demo.py", "--live"), HYDRA_BASE_URL=server.url, SMALLEST_API_KEY=KEY
            ),
        )

    for demo, words in [
        (without, "no API key: set SMALLEST_API_KEY"),
        (refused, "Hydra refused the API key (HTTP 401)"),
    ]:
        assert demo.code == 1
        assert words in demo.text
        assert "Traceback" not in demo.text
        assert KEY not in demo.text
