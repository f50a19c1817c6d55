"""What was heard, measured: where it begins and ends, how high it is, whose words they are."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr

from .programs import TOP

Samples = npt.NDArray[np.int16]

RATE_HZ: Final = 24_000
"""Of what an `Ear` hears."""

LOUD: Final = 300.0
"""RMS from which a piece is sound: -41 dBFS; Opus makes of silence less than 10."""

PAUSE_S: Final = 0.3
"""A silence that ends an utterance; recorded speech has shorter ones inside."""


def recording(name: str, rate_hz: int) -> Samples:
    """Return recorded speech at a rate: int16 mono."""
    with wave.open(str(TOP / "examples" / "speech" / f"{name}.wav"), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
        return np.asarray(soxr.resample(samples, file.getframerate(), rate_hz))


def tone(seconds: float, *, hz: float = 300.0, rate_hz: int) -> Samples:
    """Return a tone at the level of speech: int16 mono."""
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    return (6_000 * np.sin(2 * np.pi * hz * times)).astype(np.int16)


def level(samples: Samples) -> float:
    """Return the RMS of some samples."""
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64))))) if samples.size else 0.0


@dataclass(frozen=True)
class Utterance:
    """Sound between two silences."""

    begins_at: float
    """When its first piece was heard, on the clock of `time.monotonic`."""

    ends_at: float
    """When its last loud piece had been heard."""

    samples: Samples

    @property
    def duration_s(self) -> float:
        """How long it is, by its samples."""
        return self.samples.size / RATE_HZ

    @property
    def pitch_hz(self) -> float:
        """The frequency of its strongest tone."""
        windowed = self.samples * np.hanning(self.samples.size)
        spectrum = np.abs(np.fft.rfft(windowed))
        return float(np.argmax(spectrum) * RATE_HZ / self.samples.size)

    def likeness(self, samples: Samples) -> float:
        """Tell how much its loudness over time is that of other samples: 1 for the same words.

        The two may begin up to half a second apart.
        """
        n_step = RATE_HZ // 50
        ours, theirs = (_loudness(each, n_step) for each in (self.samples, samples))
        n = min(ours.size, theirs.size)
        shifts = range(-25, 26)
        return max(float(np.corrcoef(_shifted(ours, by)[:n], theirs[:n])[0, 1]) for by in shifts)


def _loudness(samples: Samples, n_step: int) -> npt.NDArray[np.float64]:
    whole = samples[: samples.size // n_step * n_step].astype(np.float64).reshape(-1, n_step)
    return np.asarray(np.sqrt(np.mean(np.square(whole), axis=1)))


def _shifted(values: npt.NDArray[np.float64], by: int) -> npt.NDArray[np.float64]:
    return np.roll(values, by)


class Ear:
    """Keeps what came out of a track, piece by piece."""

    def __init__(self) -> None:
        self._at: list[float] = []
        self._pieces: list[Samples] = []
        self._levels: list[float] = []
        self._runs: list[tuple[int, int]] = []
        self.heard_s = 0.0
        """How much sound there was."""

    def hear(self, at: float, samples: Samples) -> None:
        """Take a piece that ends at `at`."""
        self._at.append(at)
        self._pieces.append(samples)
        self._levels.append(level(samples))
        if self._levels[-1] >= LOUD:
            self._join(self._runs, len(self._at) - 1, PAUSE_S)
            self.heard_s += samples.size / RATE_HZ

    def _join(self, runs: list[tuple[int, int]], index: int, pause_s: float) -> None:
        """Add a loud piece to the last run of sound, or begin another one."""
        if runs and self._at[index] - self._at[runs[-1][1]] < pause_s:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))

    @property
    def n_utterances(self) -> int:
        """How many utterances have begun."""
        return len(self._runs)

    @property
    def last_began_at(self) -> float:
        """When the last utterance began; long ago, if there was none."""
        return self._began_at(self._runs[-1][0]) if self._runs else float("-inf")

    @property
    def last_duration_s(self) -> float:
        """How long the last utterance is by now."""
        return self._at[self._runs[-1][1]] - self.last_began_at if self._runs else 0.0

    @property
    def is_silent(self) -> bool:
        """Whether nothing was heard for the length of a pause."""
        return not self._runs or self._at[-1] - self._at[self._runs[-1][1]] > PAUSE_S

    @property
    def longest_gap_s(self) -> float:
        """The longest time between two pieces inside of sound; 10 ms when nothing is late."""
        loud = [value >= LOUD for value in self._levels]
        gaps = [
            later - earlier
            for (earlier, later), both in zip(
                pairwise(self._at), (a and b for a, b in pairwise(loud)), strict=True
            )
            if both
        ]
        return max(gaps, default=0.0)

    def utterances(self, pause_s: float = PAUSE_S) -> list[Utterance]:
        """Return all sound so far, cut at pauses."""
        runs = self._runs
        if pause_s != PAUSE_S:
            runs = []
            for index, loudness in enumerate(self._levels):
                if loudness >= LOUD:
                    self._join(runs, index, pause_s)
        return [
            Utterance(
                self._began_at(first),
                self._at[last],
                np.concatenate(self._pieces[first : last + 1]),
            )
            for first, last in runs
        ]

    def _began_at(self, index: int) -> float:
        return self._at[index] - self._pieces[index].size / RATE_HZ
