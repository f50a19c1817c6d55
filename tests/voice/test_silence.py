"""Microphones that are muted, missing or late, and audio that comes in bursts."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import Agent

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import ConnectionRecord, Say, Scenario
from livekit_plugins_hydra.voice.audio import FREE_LEAD_S, MAX_LEAD_S
from tests.calls import call, tone
from tests.clock import VirtualLoop
from tests.direct import Line, line
from tests.promises import tone_s

ANSWER = Scenario(default_reply=Say(duration_s=0.5))
BYTES_PER_S = 32_000


async def test_a_mute_in_mid_word_is_answered() -> None:
    """Two seconds after the microphone went off, the answer has begun."""
    async with call(ANSWER, Agent(instructions="")) as desk:
        desk.microphone.say(tone(3.0))
        await desk.server.wait_for(ev.InputAudioBufferSpeechStarted)
        await asyncio.sleep(0.5)
        desk.microphone.mute()
        muted_at = time.monotonic()
        await desk.until(lambda: desk.loudspeaker.heard)

        assert time.monotonic() - muted_at <= 2.0
        await desk.until(lambda: desk.session.user_state == "listening")


@pytest.mark.parametrize("what", ["muted", "missing"])
async def test_silence_for_minutes_keeps_the_connection(what: str) -> None:
    """No frames for ten minutes, or never any: the server's idle close does not happen."""
    async with call(ANSWER, Agent(instructions="")) as desk:
        if what == "missing":
            desk.session.input.set_audio_enabled(False)
        else:
            await desk.say(tone(0.6))
            await desk.until_heard(1)
            desk.microphone.mute()
        await asyncio.sleep(600.0)

        assert len(desk.server.connections) == 1
        assert desk.server.connection.is_open
        if what == "muted":
            desk.microphone.unmute()
            await desk.say(tone(0.6))
            await desk.until_heard(2)


def leads_s(record: ConnectionRecord) -> list[float]:
    """Return how far the audio was ahead of real time, at each append."""
    heard_s, leads = 0.0, []
    for received in record.client_events:
        if received.n_audio_bytes and record.configured_at_s is not None:
            heard_s += received.n_audio_bytes / BYTES_PER_S
            leads.append(heard_s - (received.at_s - record.configured_at_s))
    return leads


async def test_words_before_ready_arrive_whole_and_in_order() -> None:
    """Three seconds of speech and then silence before READY: all words, never 2 s ahead."""
    async with call(Scenario(configure_delay_s=6.0), Agent(instructions="")) as desk:
        await desk.server.wait_connections(1)
        for hz in (300, 600, 900):
            await desk.say(tone(1.0, hz=hz))
        await desk.until_heard(1)
        pcm = desk.server.connection.received_audio

        n_third = len(pcm) // 2
        for hz in (300, 600, 900):
            assert tone_s(pcm, hz) == pytest.approx(1.0, abs=0.06)
        assert tone_s(pcm[:n_third], 900) < tone_s(pcm[:n_third], 300) + 0.1
        first = [
            next(i for i in range(0, len(pcm), 6400) if tone_s(pcm[i : i + 6400], hz) > 0.1)
            for hz in (300, 600, 900)
        ]
        assert first == sorted(first)
        assert max(leads_s(desk.server.connection)) <= MAX_LEAD_S
        assert len(desk.server.responses) == 1


async def test_a_burst_of_the_network_is_not_delayed() -> None:
    """Frames that WebRTC held back and then gives at once leave at once."""
    async with line(Scenario()) as opened:
        await _begin(opened)
        for _ in range(20):
            _push(opened, 0.02)
            await asyncio.sleep(0.02)
        await asyncio.sleep(FREE_LEAD_S - 0.05)
        n_before = len(opened.server.connection.received_audio)
        for _ in range(12):
            _push(opened, 0.02)
        pushed_at = time.monotonic()
        await opened.server.wait_for(
            lambda books: len(books.connection.received_audio) >= n_before + 0.23 * BYTES_PER_S
        )

        assert time.monotonic() - pushed_at <= 0.02


@pytest.mark.parametrize("stall_s", [0.05, 0.08, 0.12, 0.2, 0.4])
async def test_a_loop_that_stands_still_puts_no_silence_into_a_word(stall_s: float) -> None:
    """Frames that wait while the event loop is busy are the source's next words, and no pause."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with line(Scenario()) as opened:
        await _begin(opened)
        arrived: asyncio.Queue[float] = asyncio.Queue()
        began_at = loop.time()
        for n in range(1, 41):  # whatever the loop does
            loop.call_at(began_at + n * 0.05, arrived.put_nowait, 0.05)

        async def read() -> None:
            for _ in range(40):
                _push(opened, await arrived.get())

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(1.02)
        loop.clock.now += stall_s
        await reading
        await opened.server.wait_for(ev.InputAudioBufferSpeechStopped)

        pcm = np.frombuffer(bytes(opened.server.connection.received_audio), dtype=np.int16)
        loud = np.flatnonzero(np.abs(pcm) > 3_000)
        assert (loud[-1] - loud[0]) / 16_000 == pytest.approx(2.0, abs=0.02)


async def _begin(opened: Line) -> None:
    await opened.session._update_session(instructions="")
    await opened.until(
        lambda: any(isinstance(e, ev.SessionConfigured) for e in opened.of("hydra_server_event"))
    )


def _push(opened: Line, seconds: float) -> None:
    samples = tone(seconds, rate_hz=16_000)
    opened.session.push_audio(rtc.AudioFrame(samples.tobytes(), 16_000, 1, len(samples)))
