"""Voice activity detection of the emulator: what is a turn, in the audio's own time."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from livekit_plugins_hydra.testing.emulator.replies import Say
from livekit_plugins_hydra.testing.emulator.vad import (
    SpeechStarted,
    SpeechStopped,
    VoiceActivityDetector,
)
from tests.raw_client import RATE_HZ, tone

if TYPE_CHECKING:
    from pathlib import Path

SECOND = bytes(2 * RATE_HZ)


def turns(pcm: bytes, *, chunk_bytes: int = 1280, silence_ms: int = 400) -> list[tuple[int, int]]:
    """Return the beginning and the end of each turn in milliseconds."""
    detector = VoiceActivityDetector(silence_ms=silence_ms)
    found = [
        change
        for start in range(0, len(pcm), chunk_bytes)
        for change in detector.feed(pcm[start : start + chunk_bytes])
    ]
    assert [type(change) for change in found[::2]] == [SpeechStarted] * len(found[::2])
    return [
        (change.audio_start_ms, change.audio_end_ms)
        for change in found
        if isinstance(change, SpeechStopped)
    ]


def noise(duration_s: float, dbfs: float) -> bytes:
    """Return the same noise each time, int16 mono at 16 kHz."""
    samples = np.random.default_rng(7).normal(0, 32767 * 10 ** (dbfs / 20), int(duration_s * 16000))
    pcm: bytes = samples.astype("<i2").tobytes()
    return pcm


def mixed(*sounds: bytes) -> bytes:
    """Return sounds of one length on top of each other."""
    layers = np.stack([np.frombuffer(sound, "<i2") for sound in sounds]).astype(np.int32)
    pcm: bytes = layers.sum(axis=0).clip(-32768, 32767).astype("<i2").tobytes()
    return pcm


@pytest.mark.parametrize("chunk_bytes", [320, 640, 642, 1280, 3200, 100_000])
def test_turns_do_not_depend_on_the_cut(chunk_bytes: int) -> None:
    """The same audio gives the same turns, in any chunks, exact to a frame."""
    pcm = SECOND + tone(0.5) + SECOND + tone(2.0) + SECOND

    assert turns(pcm, chunk_bytes=chunk_bytes) == [(1000, 1500), (2500, 4500)]


@pytest.mark.parametrize("dbfs", [-38.0, -30.0, -20.0, -6.0])
def test_tones_at_the_level_of_speech_are_speech(dbfs: float) -> None:
    """From a soft voice to a loud one."""
    assert turns(SECOND + tone(1.0, dbfs=dbfs) + SECOND) == [(1000, 2000)]


def test_a_long_tone_stays_speech() -> None:
    """A steady sound at speech level is never taken for noise."""
    assert turns(SECOND + tone(20.0, dbfs=-25.0) + SECOND) == [(1000, 21_000)]


@pytest.mark.parametrize(
    "pcm",
    [
        SECOND * 3,
        SECOND + tone(1.0, dbfs=-55.0) + SECOND,
        (tone(0.01) + bytes(2 * 7840)) * 4,
        noise(5.0, -50.0),
        np.full(48_000, 8000, "<i2").tobytes(),
    ],
    ids=["silence", "whisper", "clicks", "hiss", "offset"],
)
def test_what_is_no_speech(pcm: bytes) -> None:
    """Silence, soft sounds, clicks, hiss and a DC offset begin no turn."""
    assert VoiceActivityDetector().feed(pcm) == []


def test_noise_is_learned() -> None:
    """Loud steady noise ends its own turn, and speech above it is found again."""
    hiss = noise(10.0, -42.0)
    voice = bytes(2 * RATE_HZ * 6) + tone(1.0, dbfs=-20.0) + SECOND * 3

    assert turns(mixed(hiss, voice))[-1] == (6000, 7000)


def test_gaps_within_a_sentence_end_nothing() -> None:
    """Pauses under the silence that tells belong to the turn, longer ones part it."""
    pcm = tone(0.5) + bytes(2 * 4800) + tone(0.5) + SECOND

    assert turns(pcm) == [(0, 1300)]
    assert turns(pcm, silence_ms=200) == [(0, 500), (800, 1300)]


def test_speech_is_counted_without_its_gaps() -> None:
    """A turn knows how much of it is sound."""
    detector = VoiceActivityDetector()
    changes = detector.feed(tone(0.5) + bytes(2 * 4800) + tone(0.5) + SECOND)

    assert changes == [SpeechStarted(0), SpeechStopped(0, 1300, 1000)]
    assert not detector.speaking
    assert detector.position_ms == 2300


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
@pytest.mark.parametrize("sentence", ["What is the weather in Paris?", "Okay.", "Thanks, goodbye."])
def test_spoken_sentences_are_one_turn(sentence: str, tmp_path: Path) -> None:
    """Synthetic speech is heard from its first sound to its last, as one turn."""
    path = tmp_path / "speech.wav"
    subprocess.run(["espeak-ng", "-w", str(path), sentence], check=True)
    speech = Say(wav=path).sound(RATE_HZ)
    ((start_ms, end_ms),) = turns(SECOND + speech + SECOND)

    assert 1000 <= start_ms < 1100
    assert end_ms - start_ms > 0.5 * len(speech) / 32
