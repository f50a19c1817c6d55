"""Audio through the whole path: what the server hears of the user, and the user of the server."""

from __future__ import annotations

import statistics
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from livekit import rtc

from livekit_plugins_hydra import MODELS
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import Loudspeaker, Microphone, Samples, Say, Scenario
from tests.calls import Desk, call, tone
from tests.direct import Line, hear, line
from tests.session.test_calls import Silent

SERVER_RATE_HZ = 16_000
Spectrum = npt.NDArray[np.float64]

YES = Say(duration_s=0.3, tone_hz=500, text="Yes.")
LISTENING = Scenario(default_reply=YES, silence_ms=200)


def question(rate_hz: int) -> Samples:
    """Return recorded speech of 1.5 s at a rate."""
    path = Path(__file__).parents[2] / "examples" / "speech" / "user-question.wav"
    with wave.open(str(path)) as file:
        recorded_hz = file.getframerate()
        samples = np.frombuffer(file.readframes(int(1.5 * recorded_hz)), dtype=np.int16)
    return np.asarray(soxr.resample(samples, recorded_hz, rate_hz), dtype=np.int16)


def likeness(expected: Samples, received: Samples) -> float:
    """Return the correlation of two signals, one shifted to where it is most like the other."""
    a = expected.astype(np.float64)
    b = received.astype(np.float64)
    n = 1 << (a.size + b.size).bit_length()
    shifts = np.fft.irfft(np.fft.rfft(b, n) * np.conj(np.fft.rfft(a, n)), n)
    begin = int(np.argmax(shifts[: b.size]))
    found = b[begin : begin + a.size]
    a = a[: found.size]
    return float(np.dot(a, found) / np.sqrt(np.dot(a, a) * np.dot(found, found)))


def received(opened: Desk | Line) -> Samples:
    """Return all that the server has heard, 16 kHz mono."""
    return np.frombuffer(bytes(opened.server.connection.received_audio), dtype=np.int16)


def speech_in(samples: Samples) -> Samples:
    """Return what lies between the first and the last of it that is loud."""
    loud = np.flatnonzero(np.abs(samples) > 100)
    return samples[loud[0] : loud[-1] + 1]


def loudest_hz(samples: Samples, rate_hz: int = SERVER_RATE_HZ) -> float:
    """Return the frequency that is strongest."""
    spectrum: Spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum) * rate_hz / samples.size)


def level_db(samples: Samples) -> float:
    """Return the level relative to full scale."""
    return float(20 * np.log10(np.sqrt(np.mean((samples / 32768.0) ** 2)) + 1e-12))


# ---------------------------------------------------------------------- what the server hears


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 44_100, 48_000])
async def test_speech_arrives_as_it_was(rate_hz: int, num_channels: int) -> None:
    """From any microphone speech comes in order and in full, like an offline resampling of it."""
    said = question(rate_hz)
    expected = np.asarray(soxr.resample(said, rate_hz, SERVER_RATE_HZ), dtype=np.int16)
    microphone = Microphone(rate_hz=rate_hz, num_channels=num_channels)
    async with call(LISTENING, Silent(), microphone=microphone) as desk:
        await desk.until(lambda: desk.server.connections and desk.server.connection.configured_at_s)
        await desk.say(said)
        await desk.until(lambda: desk.server.responses)
        like = likeness(expected, received(desk))
        sizes = {len(each) for each in _appends(desk)}

    print(f"\n{rate_hz} Hz, {num_channels} channels: {like:.5f}")
    assert like > 0.995
    assert min(sizes) >= 640
    assert max(sizes) <= 1280


def _appends(desk: Desk) -> list[range]:
    """Return the client's appends, as long as they were."""
    frames = desk.server.connection.client_events
    return [range(frame.n_audio_bytes) for frame in frames if frame.n_audio_bytes]


@pytest.mark.parametrize("n_frame", [7, 160, 441, 1_103, 9_600])
async def test_frames_may_have_any_length(n_frame: int) -> None:
    """Frames of a few samples and of many arrive as one continuous signal."""
    said = question(24_000)[:24_000]
    expected = np.asarray(soxr.resample(said, 24_000, SERVER_RATE_HZ), dtype=np.int16)
    async with line(LISTENING) as opened:
        for start in range(0, said.size, n_frame):
            piece = said[start : start + n_frame]
            opened.session.push_audio(rtc.AudioFrame(piece.tobytes(), 24_000, 1, piece.size))
        await opened.until(lambda: opened.server.responses)
        assert likeness(expected, received(opened)) > 0.995


async def test_rates_and_channels_may_change_in_mid_sentence() -> None:
    """Each piece keeps its length and its pitch, whatever came before it."""
    pieces = [(24_000, 1, 400.0), (48_000, 2, 800.0), (16_000, 1, 1_200.0), (44_100, 2, 600.0)]
    async with line(LISTENING) as opened:
        for rate_hz, num_channels, hz in pieces:
            samples = np.repeat(tone(0.5, hz=hz, rate_hz=rate_hz), num_channels)
            n_frame = rate_hz // 50 * num_channels
            for start in range(0, samples.size, n_frame):
                piece = samples[start : start + n_frame]
                frame = rtc.AudioFrame(
                    piece.tobytes(), rate_hz, num_channels, piece.size // num_channels
                )
                opened.session.push_audio(frame)
        await opened.until(lambda: opened.server.responses)
        heard = speech_in(received(opened))

    assert heard.size / SERVER_RATE_HZ == pytest.approx(2.0, abs=0.02)
    quarters = np.array_split(heard, 4)
    found_hz = [loudest_hz(quarter) for quarter in quarters]
    assert found_hz == pytest.approx([hz for _, _, hz in pieces], abs=10)


async def test_both_channels_are_heard() -> None:
    """Audio in one channel alone arrives, at half its level."""
    said = question(48_000)
    stereo = np.column_stack([said, np.zeros_like(said)]).ravel()
    async with line(LISTENING) as opened:
        for start in range(0, stereo.size, 1_920):
            piece = stereo[start : start + 1_920]
            opened.session.push_audio(rtc.AudioFrame(piece.tobytes(), 48_000, 2, piece.size // 2))
        await opened.until(lambda: opened.server.responses)
        heard = received(opened)

    expected = np.asarray(soxr.resample(said, 48_000, SERVER_RATE_HZ), dtype=np.int16)
    assert likeness(expected, heard) > 0.995
    assert np.abs(heard).max() == pytest.approx(np.abs(expected).max() / 2, rel=0.05)


@pytest.mark.parametrize("hz", [9_000.0, 10_000.0, 11_000.0])
async def test_what_would_alias_is_damped(hz: float) -> None:
    """A tone above what 16 kHz can carry comes out 40 dB down, not as another tone."""
    said = tone(0.5, hz=hz)
    async with line(LISTENING) as opened:
        await opened.session._update_session()
        await opened.ready()
        for start in range(0, said.size, 480):
            piece = said[start : start + 480]
            opened.session.push_audio(rtc.AudioFrame(piece.tobytes(), 24_000, 1, piece.size))
        await opened.until(lambda: received(opened).size >= 0.4 * SERVER_RATE_HZ)
        heard = received(opened)
    inner = heard[1_600:4_800]
    assert level_db(inner) < level_db(said) - 40


# ------------------------------------------------------------------------ what the user hears


@pytest.mark.parametrize("echoed", [True, False])
@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize("tag", MODELS)
async def test_replies_are_heard_byte_by_byte(tag: str, ragged: bool, echoed: bool) -> None:
    """At the model's true rate, echoed or not, in deltas of any length: nothing is changed."""
    scenario = Scenario(
        default_reply=Say(duration_s=0.7, tone_hz=333),
        ragged_deltas=ragged,
        echoes_rates=echoed,
        seed_voices="accepted",
        silence_ms=200,
    )
    loudspeaker = Loudspeaker(speed=4.0)
    voice = MODELS[tag].default_voice
    async with call(scenario, Silent(), loudspeaker=loudspeaker, voice=voice) as desk:
        for count in (1, 2):
            await desk.say(tone(0.4))
            playout = await desk.until_heard(count)
            assert playout.samples.tobytes() == bytes(desk.server.responses[count - 1].pcm)
            assert playout.rate_hz == MODELS[tag].output_rate_hz
        assert desk.server.connection.model == tag


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 96_000])
async def test_a_rate_that_surprises_is_followed(rate_hz: int) -> None:
    """What the server says of its rate holds, whatever its model should have."""
    async with line(Scenario(default_reply=YES, output_rate_hz=rate_hz)) as opened:
        (heard,) = await hear(await opened.session.generate_reply())
        assert heard.rates_hz == {rate_hz}
        assert heard.pcm == YES.sound(rate_hz)


@pytest.mark.parametrize("rate_hz", [0, -1, 1, 4_000_000_000])
async def test_a_rate_that_can_not_be_is_ignored(rate_hz: int) -> None:
    """A rate that no audio has is taken for none: the model's own is used."""
    async with line(Scenario(handshake="never_configured")) as opened:
        reply = opened.session.generate_reply()
        await opened.server.wait_for(ev.SessionConfigure)
        opened.server.send(
            {"type": "session.configured", "session": {"output_audio_sample_rate": rate_hz}}
        )
        opened.server.send({"type": "response.created", "response": {"id": "r"}})
        opened.server.send({"type": "response.output_audio.delta", "delta": "AAAAAAAA"})
        opened.server.send({"type": "response.done", "response": {"id": "r"}})
        (heard,) = await hear(await reply)
        assert heard.rates_hz == {24_000}


async def test_playout_stops_when_the_user_speaks() -> None:
    """From `speech_started` to a silent loudspeaker a few milliseconds pass."""
    scenario = Scenario(default_reply=Say(duration_s=20.0), silence_ms=200, think_s=0.01)
    n_interruptions = 8
    async with call(scenario, Silent()) as desk:
        await desk.say(tone(0.4))
        for count in range(1, n_interruptions + 1):
            await desk.until(lambda n=count: len(desk.loudspeaker.heard) == n)  # type: ignore[misc]
            await desk.until_state("speaking")
            await desk.say(tone(0.4))
        took_ms = _stops_ms(desk)

    print(f"\nplayout stopped after {', '.join(f'{ms:.1f}' for ms in sorted(took_ms))} ms")
    assert len(took_ms) == n_interruptions
    assert min(took_ms) < 10
    assert statistics.median(took_ms) < 10 + NOISE_MS


NOISE_MS = 20.0
"""How much later things happen on a machine that is busy with other tests."""


def _stops_ms(desk: Desk) -> list[float]:
    """Return the milliseconds from each barge-in to the end of what was heard."""
    frames: list[Any] = desk.server.connection.server_events
    started = [
        frame.at_s for frame in frames if isinstance(frame.event, ev.InputAudioBufferSpeechStarted)
    ]
    stopped = desk.loudspeaker.cleared_at
    return [1000 * (min(at for at in stopped if at > began) - began) for began in started[1:]]
