"""Where the server's offsets are in what was sent, and when that was."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_plugins_hydra.voice.sent import Boundary, SentAudio

MS = 32
"""Bytes of a millisecond."""


def sent_audio(*appends: tuple[float, int]) -> SentAudio:
    """Return audio of so many milliseconds each, sent at these times."""
    audio = SentAudio()
    for at, ms in appends:
        audio.add(bytes(ms * MS), at)
    return audio


@pytest.mark.parametrize(
    ("audio_ms", "at"),
    [(0.0, 10.0), (19.9, 10.0), (20.0, 10.5), (59.9, 10.5), (60.0, 17.0), (100.0, 17.0)],
)
def test_an_offset_is_when_its_sample_was_sent(audio_ms: float, at: float) -> None:
    """However long that took: the end of all that was sent is in the last append."""
    audio = sent_audio((10.0, 20), (10.5, 40), (17.0, 40))

    assert audio.boundary(audio_ms, now=20.0) == Boundary(at, audio_ms, is_known=True)


@pytest.mark.parametrize("audio_ms", [None, -1.0, 100.1, 1e12, math.nan, math.inf, -math.inf])
def test_an_offset_that_can_not_be_is_where_its_event_came(audio_ms: float | None) -> None:
    """None, one in the future, or no number at all: the turn is where the audio is now."""
    audio = sent_audio((10.0, 60), (11.0, 40))

    assert audio.boundary(audio_ms, now=20.0) == Boundary(20.0, 100.0, is_known=False)
    assert SentAudio().boundary(audio_ms, now=20.0) == Boundary(20.0, 0.0, is_known=False)


def test_boundaries_follow_each_other() -> None:
    """None is believed before the last one that was; what was not believed rules nothing."""
    audio = sent_audio((10.0, 100), (11.0, 100))

    assert audio.boundary(120.0, 12.0).is_known
    assert not audio.boundary(119.0, 12.0).is_known
    assert audio.boundary(120.0, 12.0).is_known
    assert audio.boundary(150.0, 12.0).is_known


def test_what_was_let_go_is_nowhere() -> None:
    """Offsets go on counting from the beginning, where nothing can be found any more."""
    audio = sent_audio((10.0, 100), (11.0, 100), (12.0, 100))
    audio.forget(11.0)

    assert not audio.boundary(99.9, 20.0).is_known
    assert audio.boundary(100.0, 20.0) == Boundary(11.0, 100.0, is_known=True)
    assert [at for at, _ in audio] == [11.0, 12.0]


def test_each_connection_counts_for_itself() -> None:
    """What an earlier server was sent is no part of what the next one measures."""
    audio = sent_audio((10.0, 100))
    assert audio.boundary(80.0, 11.0).is_known
    audio.clear()
    audio.add(bytes(40 * MS), 30.0)

    assert audio.boundary(10.0, 31.0) == Boundary(30.0, 10.0, is_known=True)
    assert not audio.boundary(41.0, 31.0).is_known


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.floats(0.0, 1.2))
def test_an_offset_divides_what_was_sent(lengths_ms: list[int], share: float) -> None:
    """What is behind it is whole, but for the append that it is in; only whole ones are counted."""
    audio = sent_audio(*enumerate(lengths_ms))
    ms = int(share * sum(lengths_ms))
    since = audio.since(ms)
    begins = [sum(lengths_ms[:n]) for n in range(len(lengths_ms))]

    assert sum(len(chunk) for _, chunk in since) == max(0, sum(lengths_ms) - ms) * MS
    assert [(at, len(chunk)) for at, chunk in since[1:]] == [
        (at, lengths_ms[int(at)] * MS) for at, _ in since[1:]
    ]
    assert audio.count_after(ms) == sum(begin >= ms for begin in begins)


@pytest.mark.parametrize("noise", [0, 500])
@pytest.mark.parametrize(
    ("audio_ms", "is_known"),
    [(0, True), (250, True), (400, True), (410, True), (600, False), (810, True), (1_000, True)],
)
def test_an_offset_is_beside_a_pause(audio_ms: int, is_known: bool, noise: int) -> None:
    """A turn that is said to begin or end amid words is measured otherwise; noise is no word."""
    audio = SentAudio()
    for level, ms in ((noise, 400), (5_000, 400), (noise, 300)):
        audio.add(level.to_bytes(2, "little") * 16 * ms, 10.0)

    assert audio.boundary(audio_ms, 11.0).is_known is is_known
