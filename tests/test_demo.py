"""The demo: a whole call at real time, and what it writes."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np

from livekit_plugins_hydra.testing import Call, Emulator, Samples, Say, Scenario

from .processes import TOP, python

KEY = "sk-secret-key-of-the-tests"
SPEECH = TOP / "examples" / "speech"

PAUSE_S = 0.45
"""Silence that is longer ends a piece of speech; the pauses in the recordings are shorter."""

USER, AGENT = 0, 1
"""The channels of a call."""

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


def merged(pieces: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Return the turns that pieces of speech make: those of one side that follow one another."""
    turns: list[tuple[float, float, int]] = []
    for begin, end, side in pieces:
        if turns and turns[-1][2] == side:
            begin, _, _ = turns.pop()
        turns.append((begin, end, side))
    return turns


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
    assert 20 < len(samples) / rate_hz < 60
    pieces = [
        (begin, end, side)
        for side in (USER, AGENT)
        for begin, end in spoken(samples[:, side], rate_hz)
    ]
    turns = merged(sorted(pieces))
    assert [side for *_, side in turns] == [AGENT, USER, AGENT, USER, AGENT, USER, AGENT]

    # Who speaks when: greeting, question, forecast cut by the barge-in, reaction, goodbyes.
    names = ["agent-greeting", "user-question", "agent-forecast", "user-barge-in"]
    names += ["agent-reaction", "user-goodbye", "agent-goodbye"]
    for (begin, end, _), name in zip(turns, names, strict=True):
        if name != "agent-forecast":
            # A machine that stutters makes it longer, never shorter.
            assert length_s(name) - 0.15 < end - begin < length_s(name) + 5, name
    begins, ends = ([turn[place] for turn in turns] for place in (0, 1))
    for number in (1, 2, 4, 5, 6):
        assert ends[number - 1] < begins[number], f"nobody is interrupted by {names[number]}"
    assert begins[2] + 3 < begins[3] < ends[2], "the barge-in is over the forecast"
    assert ends[2] < begins[3] + 1.0, "and the agent falls silent soon"


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
