"""Voice activity detection on 16 kHz audio, counted in the audio's own time.

The same bytes give the same turns, however fast they come and however they are cut. It measures
energy: enough for recorded or synthetic speech and for tones at the level of speech.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

INPUT_RATE_HZ: Final = 16_000
"""Rate of the audio that clients send. Source: docs of 2026-08-21."""

FRAME_MS: Final = 20
"""What is judged at once: long enough for one period of a low voice, short enough to be quick."""

_FRAME_SAMPLES: Final = INPUT_RATE_HZ * FRAME_MS // 1000
_FRAME_BYTES: Final = 2 * _FRAME_SAMPLES

_AVERAGE: Final = np.full(_FRAME_SAMPLES, 1 / _FRAME_SAMPLES, dtype=np.float32)

_HYSTERESIS_DB: Final = 4.0
"""Speech that has begun may be this much softer before it counts as silence. Our choice."""

_ABOVE_NOISE_DB: Final = 10.0
"""Speech must exceed the noise floor by this much. Our choice."""

_NOISE_RISE_DB_PER_FRAME: Final = 0.1
"""The noise floor falls at once and rises by 5 dB/s: slower than speech lasts without a gap."""

_NOISE_FLOOR_DBFS: Final = (-55.0, -42.0)
"""Bounds of the noise floor: below, it makes no difference; above, a steady tone would be noise."""

_SILENCE_DBFS: Final = -120.0
"""What digital silence is taken for."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The user has begun to speak."""

    audio_start_ms: int
    """Where the speech begins, in milliseconds of the audio fed so far."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The user has been silent for long enough."""

    audio_start_ms: int
    """Where the speech began."""

    audio_end_ms: int
    """Where it ended: before the silence that ends the turn."""

    speech_ms: int
    """How much of it was speech, without the gaps."""


class VoiceActivityDetector:
    """Finds turns in a stream of audio.

    Args:
        threshold_dbfs: level (RMS, relative to full scale) from which a frame may be speech.
        start_ms: speech needed before a turn begins.
        silence_ms: silence needed before it ends.
    """

    def __init__(
        self, *, threshold_dbfs: float = -45.0, start_ms: int = 80, silence_ms: int = 400
    ) -> None:
        self._threshold_dbfs = threshold_dbfs
        self._frames_to_start = max(1, start_ms // FRAME_MS)
        self._frames_to_stop = max(1, silence_ms // FRAME_MS)
        self._rest = b""
        self._n_frames = 0
        self._noise_dbfs = _NOISE_FLOOR_DBFS[0]
        self._speaking = False
        self._onset = 0
        self._first_frame = 0
        self._n_speech = 0
        self._n_silent = 0

    @property
    def speaking(self) -> bool:
        """Whether a turn has begun and not ended."""
        return self._speaking

    @property
    def position_ms(self) -> int:
        """How much audio was judged."""
        return self._n_frames * FRAME_MS

    def feed(self, pcm: bytes) -> list[SpeechStarted | SpeechStopped]:
        """Return what begins or ends in `pcm` (int16 mono, 16 kHz, any even length)."""
        audio = self._rest + pcm
        n_frames = len(audio) // _FRAME_BYTES
        self._rest = audio[n_frames * _FRAME_BYTES :]
        if not n_frames:
            return []
        samples = np.frombuffer(audio, dtype="<i2", count=n_frames * _FRAME_SAMPLES)
        frames = samples.reshape(n_frames, _FRAME_SAMPLES).astype(np.float32)
        # Without its mean, so that a microphone's DC offset is no level; three times as fast as
        # numpy's var, which counts with hundreds of sessions.
        means = frames @ _AVERAGE
        powers = np.einsum("ij,ij->i", frames, frames) / _FRAME_SAMPLES - means * means
        found = (self._judge(power) for power in powers.tolist())
        return [change for change in found if change is not None]

    def _judge(self, power: float) -> SpeechStarted | SpeechStopped | None:
        level = 10 * math.log10(power / 32768.0**2) if power > 0 else _SILENCE_DBFS
        low, high = _NOISE_FLOOR_DBFS
        risen = self._noise_dbfs + _NOISE_RISE_DB_PER_FRAME
        self._noise_dbfs = min(max(min(level, risen), low), high)
        needed = max(self._threshold_dbfs, self._noise_dbfs + _ABOVE_NOISE_DB)
        frame = self._n_frames
        self._n_frames += 1
        if self._speaking:
            return self._continue_turn(frame, is_speech=level >= needed - _HYSTERESIS_DB)
        return self._look_for_onset(frame, is_speech=level >= needed)

    def _look_for_onset(self, frame: int, *, is_speech: bool) -> SpeechStarted | None:
        if not is_speech:
            # Two steps back for one missing: clicks never add up, a plosive's gap is forgiven.
            self._onset = max(0, self._onset - 2)
            return None
        if self._onset == 0:
            self._first_frame = frame
            self._n_speech = 0
        self._onset += 1
        self._n_speech += 1
        if self._onset < self._frames_to_start:
            return None
        self._speaking = True
        self._onset = 0
        self._n_silent = 0
        return SpeechStarted(self._first_frame * FRAME_MS)

    def _continue_turn(self, frame: int, *, is_speech: bool) -> SpeechStopped | None:
        if is_speech:
            self._n_speech += 1
            self._n_silent = 0
            return None
        self._n_silent += 1
        if self._n_silent < self._frames_to_stop:
            return None
        self._speaking = False
        end = frame + 1 - self._n_silent
        return SpeechStopped(
            self._first_frame * FRAME_MS, end * FRAME_MS, self._n_speech * FRAME_MS
        )
