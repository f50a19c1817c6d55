"""The microphone and the loudspeaker in memory, and the recording of a call."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from livekit_plugins_hydra.testing import Loudspeaker, Microphone, Playout, write_call

RATE_HZ = 1000


def count(n_samples: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Return samples that say where they are, from 1."""
    return np.arange(1, n_samples + 1, dtype=np.int16)


def spoken(*pieces: tuple[float, int]) -> Microphone:
    """Return a microphone that has said so many samples, each from a time on."""
    microphone = Microphone(rate_hz=RATE_HZ)
    microphone.heard = [(at, count(n_samples)) for at, n_samples in pieces]
    return microphone


@pytest.mark.parametrize(("speed", "n_played"), [(1.0, 150), (10.0, 1500)])
def test_what_is_cut_has_played_at_the_loudspeakers_speed(speed: float, n_played: int) -> None:
    """A loudspeaker of ten times real time has played ten times as much when it is stopped."""
    pieces = [(100.0 + begin / RATE_HZ / speed, count(1000)) for begin in (0, 1000)]
    playout = Playout(100.0, RATE_HZ, pieces, speed=speed)
    playout.cut(100.15)

    assert (playout.samples.size, playout.interrupted) == (n_played, True)


@pytest.mark.parametrize(
    ("began_at", "n_samples", "expected"),
    [
        (None, 4500, {0: 1, 1999: 2000, 2000: 0, 4000: 1}),
        (99.0, 5500, {0: 0, 1000: 1, 5000: 1}),
        (101.5, 3000, {0: 1501, 499: 2000, 500: 0, 2500: 1}),
        (103.0, 1500, {0: 0, 999: 0, 1000: 1}),
        (106.0, -1, {}),
    ],
)
def test_a_recording_begins_where_it_should(
    tmp_path: Path, began_at: float | None, n_samples: int, expected: dict[int, int]
) -> None:
    """What is earlier is left out, and what is later stays at its time."""
    path = tmp_path / "call.wav"
    microphone = spoken((100.0, 2000), (104.0, 500))
    write_call(path, microphone, Loudspeaker(), rate_hz=RATE_HZ, began_at=began_at)
    with wave.open(str(path)) as file:
        user = np.frombuffer(file.readframes(file.getnframes()), "<i2")[::2]

    assert user.size == n_samples + 1
    assert {position: user[position] for position in expected} == expected


def test_a_call_without_a_word_is_not_written(tmp_path: Path) -> None:
    """There is nothing to write, and the error says so."""
    with pytest.raises(ValueError, match="nobody said anything"):
        write_call(tmp_path / "call.wav", Microphone(), Loudspeaker())
