from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit import rtc

from livekit_plugins_hydra.voice.audio import (
    BYTES_PER_S,
    CATCH_UP,
    FREE_LEAD_S,
    GAP_S,
    INPUT_RATE_HZ,
    KEEP_ALIVE_EVERY_S,
    KEEP_ALIVE_S,
    KEPT_PAUSE_S,
    MAX_BACKLOG_S,
    MAX_CHUNK,
    MAX_LEAD_S,
    MIN_CHUNK,
    SILENCE_AFTER_GAP_S,
    SILENCE_IN_TURN_S,
    Chunker,
    FrameMaker,
    Pacer,
    Resampler,
    Uplink,
    is_quiet,
    worth_resending,
)

Signal = npt.NDArray[np.float64]
Samples = npt.NDArray[np.int16]

EMPTY = np.empty(0, dtype=np.int16)
EDGE = 800
"""Samples at either end of a resampled tone that are not looked at: 50 ms."""

RATES_HZ = [8_000, 16_000, 24_000, 44_100, 48_000]
TOLERANCE_S = 1e-6


# ------------------------------------------------------------------------------------- signals


def tone(frequency_hz: float, rate_hz: int, duration_s: float = 1.0) -> Signal:
    """Return a tone of amplitude 10,000."""
    t = np.arange(round(rate_hz * duration_s)) / rate_hz
    return 10_000.0 * np.sin(2 * np.pi * frequency_hz * t)


def voice(rate_hz: int, duration_s: float = 1.0) -> Signal:
    """Return what a voice is made of: harmonics that grow weaker, and syllables.

    It ends at 3 kHz, so that it is the same at a telephone's rate as at any other.
    """
    t = np.arange(round(rate_hz * duration_s)) / rate_hz
    harmonics = sum(
        np.sin(2 * np.pi * 150.0 * k * t + k * k) / k for k in range(1, 1 + 3_000 // 150)
    )
    syllables = 0.6 - 0.4 * np.cos(2 * np.pi * 4.0 * t)
    return np.asarray(6_000.0 * harmonics * syllables, dtype=np.float64)


def to_int16(signal: Signal) -> Samples:
    """Round a signal."""
    return np.clip(np.rint(signal), -32_768, 32_767).astype(np.int16)


def frame(samples: Samples, rate_hz: int = INPUT_RATE_HZ, n_channels: int = 1) -> rtc.AudioFrame:
    """Return a frame; the channels are interleaved."""
    return rtc.AudioFrame(samples.tobytes(), rate_hz, n_channels, samples.size // n_channels)


def frames(
    signal: Signal, rate_hz: int, sizes: Iterable[int], *, n_channels: int = 1
) -> Iterator[rtc.AudioFrame]:
    """Yield a signal in frames of so many samples; in stereo, the right side is the weaker one.

    The mean of both channels is the signal itself.
    """
    gains = [1.0] if n_channels == 1 else [1.4, 0.6]
    samples = to_int16(np.stack([signal * gain for gain in gains], axis=1))
    begin = 0
    for size in itertools.cycle(sizes):
        if begin >= len(samples):
            return
        yield frame(samples[begin : begin + size].ravel(), rate_hz, n_channels)
        begin += size


def joined(chunks: Iterable[bytes]) -> Samples:
    """Return the samples of pieces of audio."""
    return np.frombuffer(b"".join(chunks), dtype=np.int16)


def resample(source: Iterable[rtc.AudioFrame]) -> Samples:
    """Return all that a resampler makes of frames."""
    resampler = Resampler()
    return joined([*(resampler.push(piece) for piece in source), resampler.flush()])


def pitch_hz(samples: Samples) -> float:
    """Return the strongest frequency of a signal at 16 kHz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum)) * INPUT_RATE_HZ / samples.size


def level(samples: Samples | Signal) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64)))))


def is_same(one: Samples, other: Samples) -> bool:
    """Tell whether two signals are the same, but for the resampler's dither."""
    return one.size == other.size and bool(np.all(np.abs(one.astype(np.int32) - other) <= 2))


# --------------------------------------------------------------------------------- the resampler

SIZES: dict[str, Callable[[int], list[int]]] = {
    "10 ms": lambda rate_hz: [rate_hz // 100],
    "20 ms": lambda rate_hz: [rate_hz // 50],
    "50 ms": lambda rate_hz: [rate_hz // 20],
    "odd": lambda rate_hz: [997, 1, 313, 2_048],
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_audio_arrives_as_if_it_were_resampled_at_leisure(
    rate_hz: int, n_channels: int, sizes: Callable[[int], list[int]]
) -> None:
    """At any rate, in mono and stereo and in any frames, what arrives is what was said."""
    signal = voice(rate_hz)
    heard = resample(frames(signal, rate_hz, sizes(rate_hz), n_channels=n_channels))
    expected = soxr.resample(signal, rate_hz, INPUT_RATE_HZ, quality="VHQ")

    assert abs(heard.size - expected.size) <= 1
    n = min(heard.size, expected.size)
    assert np.corrcoef(heard[:n], expected[:n])[0, 1] > 0.995
    assert level(heard) == pytest.approx(level(signal), rel=0.02)


def test_audio_at_the_servers_rate_is_not_touched() -> None:
    """Mono at 16 kHz passes as it is, without delay."""
    samples = to_int16(voice(INPUT_RATE_HZ))
    resampler = Resampler()

    assert resampler.push(frame(samples)) == samples.tobytes()
    assert resampler.flush() == b""


@pytest.mark.parametrize(
    ("rate_hz", "frequency_hz"),
    [(24_000, 9_000), (24_000, 10_000), (24_000, 11_000), (44_100, 9_000), (48_000, 15_000)],
)
def test_audio_that_would_alias_is_gone(rate_hz: int, frequency_hz: int) -> None:
    """What a rate of 16 kHz can't hold does not come back as another pitch."""
    signal = tone(frequency_hz, rate_hz)
    heard = resample(frames(signal, rate_hz, [rate_hz // 50]))

    assert level(heard[EDGE:-EDGE]) < level(signal) / 100  # 40 dB


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_channels_are_mixed_before_anything_else(rate_hz: int, n_channels: int) -> None:
    """More channels are not louder, and what cancels out between them is silent."""
    side = tone(440.0, rate_hz)
    loud = to_int16(np.stack([side] * n_channels, axis=1)).ravel()
    resampler = Resampler()
    heard = joined([resampler.push(frame(loud, rate_hz, n_channels)), resampler.flush()])

    assert abs(heard.size - INPUT_RATE_HZ) <= 1
    assert abs(pitch_hz(heard) - 440.0) <= 1.0
    if n_channels == 2:
        opposite = to_int16(np.stack([side, -side], axis=1)).ravel()
        assert level(joined([resampler.push(frame(opposite, rate_hz, 2))])) < 1.0


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(RATES_HZ), st.sampled_from([1, 2]), st.floats(0.1, 0.5)),
        min_size=1,
        max_size=5,
    )
)
def test_changing_rates_keep_their_duration(parts: list[tuple[int, int, float]]) -> None:
    """However often a track changes its rate or its channels, no time is lost or won."""
    pieces = [
        piece
        for rate_hz, n_channels, duration_s in parts
        for piece in frames(
            tone(440.0, rate_hz, duration_s), rate_hz, [rate_hz // 50], n_channels=n_channels
        )
    ]
    duration_s = sum(piece.duration for piece in pieces)

    assert resample(pieces).size / INPUT_RATE_HZ == pytest.approx(duration_s, abs=0.001)


@pytest.mark.parametrize(("first_hz", "then_hz"), list(itertools.permutations(RATES_HZ, 2)))
def test_changing_rates_keep_their_pitch(first_hz: int, then_hz: int) -> None:
    """A tone stays the same tone when its track changes the rate."""
    heard = resample(
        [
            *frames(tone(440.0, first_hz), first_hz, [first_hz // 20]),
            *frames(tone(440.0, then_hz), then_hz, [then_hz // 20]),
        ]
    )

    for half in (heard[:INPUT_RATE_HZ], heard[INPUT_RATE_HZ:]):
        assert abs(pitch_hz(half) - 440.0) <= 1.0
        assert level(half) == pytest.approx(10_000 / np.sqrt(2), rel=0.02)


@settings(max_examples=60)
@given(st.sampled_from(RATES_HZ), st.lists(st.integers(1, 3_000), min_size=1, max_size=20))
def test_the_result_does_not_depend_on_how_audio_is_split(rate_hz: int, sizes: list[int]) -> None:
    """Frames are only how audio travels."""
    signal = voice(rate_hz, 0.3)

    whole = resample(frames(signal, rate_hz, [signal.size]))
    pieces = resample(frames(signal, rate_hz, sizes))
    assert is_same(whole, pieces)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_frames_without_samples_change_nothing(rate_hz: int) -> None:
    """Neither at the beginning, nor in mid-stream, nor at the end."""
    empty = frame(EMPTY, rate_hz)
    pieces = list(frames(voice(rate_hz, 0.1), rate_hz, [rate_hz // 50]))
    mixed = [piece for pair in zip(pieces, itertools.repeat(empty)) for piece in pair]

    assert is_same(resample([empty, *mixed]), resample(pieces))
    assert resample([empty]).size == 0


def test_a_buffer_may_be_longer_than_its_frame() -> None:
    """Only what the frame says counts."""
    samples = to_int16(voice(INPUT_RATE_HZ))
    longer = rtc.AudioFrame(samples.tobytes(), INPUT_RATE_HZ, 1, 100)

    assert Resampler().push(longer) == samples[:100].tobytes()


def test_what_was_flushed_is_over() -> None:
    """The next audio begins anew, at its own time and without an echo of the last one."""
    resampler = Resampler()
    rate_hz = 48_000
    for piece in frames(voice(rate_hz), rate_hz, [rate_hz // 50]):
        resampler.push(piece)
    assert resampler.flush()
    assert resampler.flush() == b""

    silence = frame(np.zeros(rate_hz, dtype=np.int16), rate_hz)
    assert level(joined([resampler.push(silence), resampler.flush()])) < 1.0


# ------------------------------------------------------------------------------------ chunks


def counted(n: int) -> Samples:
    """Return samples that are all different."""
    return np.arange(n, dtype=np.int64).astype(np.int16)


@pytest.mark.parametrize("n_ms", [20, 25, 40, 41, 50, 100, 1_000])
def test_a_frame_leaves_whole_in_equal_parts(n_ms: int) -> None:
    """Nothing of a frame of 20 ms or more waits for the next."""
    samples = counted(INPUT_RATE_HZ * n_ms // 1000)
    chunks = Chunker().push(samples.tobytes())
    sizes = [len(chunk) // 2 for chunk in chunks]

    assert np.array_equal(joined(chunks), samples)
    assert max(sizes) - min(sizes) <= 1
    assert len(chunks) == -(-n_ms // 40)


def test_short_frames_wait_for_each_other() -> None:
    """What is under 20 ms would be refused, so it waits for more."""
    chunker = Chunker()
    samples = counted(2 * MIN_CHUNK)

    assert chunker.push(samples[: MIN_CHUNK - 1].tobytes()) == []
    assert chunker.push(b"") == []
    [chunk] = chunker.push(samples[MIN_CHUNK - 1 : MIN_CHUNK].tobytes())
    assert np.array_equal(joined([chunk]), samples[:MIN_CHUNK])
    assert chunker.flush() == []


def test_a_frame_may_be_used_again_by_its_owner() -> None:
    """Audio that waits is a copy: LiveKit's own examples fill one buffer again and again."""
    buffer = rtc.AudioFrame.create(INPUT_RATE_HZ, 1, INPUT_RATE_HZ // 100)
    samples = np.frombuffer(buffer.data, dtype=np.int16)
    resampler, chunker = Resampler(), Chunker()
    chunks: list[bytes] = []
    for value in (1, 2, 3, 4):
        samples[:] = value
        chunks += chunker.push(resampler.push(buffer))

    expected = np.repeat(np.array([1, 2, 3, 4], dtype=np.int16), samples.size)
    assert np.array_equal(joined(chunks), expected)


@given(st.lists(st.integers(0, 2_500), max_size=30))
def test_chunks_are_right_and_nothing_is_lost(sizes: list[int]) -> None:
    """Each append has 20 to 40 ms; together they are the audio, and silence up to 20 ms."""
    samples = counted(sum(sizes))
    chunker = Chunker()
    chunks: list[bytes] = []
    begin = 0
    for size in sizes:
        chunks += chunker.push(samples[begin : begin + size].tobytes())
        begin += size
    chunks += chunker.flush()
    heard = joined(chunks)

    assert all(MIN_CHUNK <= len(chunk) // 2 <= MAX_CHUNK for chunk in chunks)
    assert np.array_equal(heard[: samples.size], samples)
    assert not heard[samples.size :].any()
    assert heard.size - samples.size < MIN_CHUNK


# -------------------------------------------------------------------------------------- pace


def loud(n: int) -> bytes:
    """Return 20 ms of audio that can be told from any other."""
    samples = np.full(MIN_CHUNK, 10_000, dtype=np.int16)
    samples[:2] = divmod(n, 10_000)
    return samples.tobytes()


def number_of(chunk: bytes) -> int:
    """Return which chunk of `loud` it is."""
    high, low = np.frombuffer(chunk, dtype=np.int16)[:2]
    return int(high) * 10_000 + int(low)


QUIET = bytes(MIN_CHUNK * 2)
CHUNK_S = MIN_CHUNK / INPUT_RATE_HZ


def is_silence(chunk: bytes) -> bool:
    """Return whether nothing but zeros is in a chunk: what a pause is filled with."""
    return not any(chunk)


def seconds(chunks: Iterable[bytes]) -> float:
    """Return how long audio lasts."""
    return sum(map(len, chunks)) / BYTES_PER_S


def drain(pacer: Pacer, now: float) -> list[tuple[float, bytes]]:
    """Take all that waits, each piece when it may go, and return it with its time."""
    taken: list[tuple[float, bytes]] = []
    while (wait_s := pacer.wait_s(now)) is not None:
        now += wait_s
        at_once = pacer.take(now)
        if not at_once:  # sums of seconds are not exact
            now += TOLERANCE_S
        taken += [(now, chunk) for chunk in at_once]
    return taken


def test_audio_that_comes_in_time_leaves_at_once() -> None:
    """A microphone is not delayed by its pace."""
    pacer = Pacer()
    pacer.start(100.0)

    for n in range(500):
        now = 100.0 + n * CHUNK_S
        pacer.push(loud(n))
        assert pacer.take(now) == [loud(n)]
        assert pacer.wait_s(now) is None


def test_nothing_leaves_before_the_server_listens() -> None:
    """Audio waits for its connection."""
    pacer = Pacer()
    pacer.push(loud(0))
    assert pacer.take(1.0) == []
    assert pacer.wait_s(1.0) is None

    pacer.start(2.0)
    assert pacer.take(2.0) == [loud(0)]
    pacer.stop()
    pacer.push(loud(1))
    assert pacer.take(3.0) == []


def test_a_backlog_leaves_a_little_faster_than_real_time() -> None:
    """300 ms at once, then 1.5 times real time, never 2 s ahead; in order, and nothing is lost."""
    pacer = Pacer()
    n_chunks = round(8.0 / CHUNK_S)
    for n in range(n_chunks):
        pacer.push(loud(n))
    pacer.start(50.0)
    taken = drain(pacer, 50.0)

    assert [number_of(chunk) for _, chunk in taken] == list(range(n_chunks))
    assert seconds(chunk for at, chunk in taken if at == 50.0) == pytest.approx(FREE_LEAD_S)
    sent_s = np.arange(1, n_chunks + 1) * CHUNK_S
    elapsed_s = np.array([at for at, _ in taken]) - 50.0
    assert np.all(sent_s - elapsed_s <= MAX_LEAD_S + 0.001)
    early = (sent_s > 1.0) & (sent_s < 4.0)
    speed = np.polyfit(elapsed_s[early], sent_s[early], 1)[0]
    assert speed == pytest.approx(CATCH_UP, rel=0.02)
    late = sent_s > 6.5
    assert np.polyfit(elapsed_s[late], sent_s[late], 1)[0] == pytest.approx(1.0, rel=0.02)
    assert pacer.dropped_s == 0.0


def test_a_gap_gives_the_lead_back() -> None:
    """A source that was away may be early again by as much as at the beginning, and no more."""
    pacer = Pacer()
    pacer.start(0.0)
    for now in (0.0, 10.0, 100.0):
        for n in range(200):
            pacer.push(loud(n))
        at_once = seconds(pacer.take(now))
        assert FREE_LEAD_S - CHUNK_S <= at_once <= 2 * FREE_LEAD_S + CHUNK_S
        drain(pacer, now)


def test_nothing_is_lost_below_ten_seconds_and_the_oldest_beyond() -> None:
    """Who waits too long for a connection loses what was said first, and can tell how much."""
    pacer = Pacer()
    n_kept = round(MAX_BACKLOG_S / CHUNK_S)
    for n in range(n_kept):
        pacer.push(loud(n))
    assert pacer.dropped_s == 0.0
    for n in range(n_kept, n_kept + 50):
        pacer.push(loud(n))

    assert pacer.dropped_s == pytest.approx(50 * CHUNK_S)
    pacer.start(0.0)
    assert [number_of(chunk) for _, chunk in drain(pacer, 0.0)] == list(range(50, n_kept + 50))


def test_pauses_of_a_backlog_are_shortened_before_speech_is_lost() -> None:
    """Words keep their order and 200 ms of each pause; silence does not push speech out."""
    pacer = Pacer()
    n_pause = round(2.0 / CHUNK_S)
    n_word = round(1.0 / CHUNK_S)
    for word in range(6):
        for n in range(n_word):
            pacer.push(loud(word * n_word + n))
        for _ in range(n_pause):
            pacer.push(QUIET)
    pacer.start(0.0)
    taken = [chunk for _, chunk in drain(pacer, 0.0)]

    words = [number_of(chunk) for chunk in taken if chunk != QUIET]
    assert words == list(range(6 * n_word))
    pauses = [
        len(list(group)) for is_pause, group in itertools.groupby(taken, QUIET.__eq__) if is_pause
    ]
    assert pauses == [round(KEPT_PAUSE_S / CHUNK_S)] * 6
    assert pacer.dropped_s == 0.0


def test_pauses_are_not_shortened_where_nothing_waits() -> None:
    """The server's turn detector needs them."""
    pacer = Pacer()
    pacer.start(0.0)

    for n in range(200):
        pacer.push(QUIET)
        assert pacer.take(n * CHUNK_S) == [QUIET]


def test_audio_that_the_last_server_did_not_hear_goes_first() -> None:
    """What is sent again comes before what was said meanwhile."""
    pacer = Pacer()
    pacer.start(0.0)
    pacer.stop()
    pacer.push(loud(2))
    pacer.put_back([loud(0), loud(1)])
    assert pacer.is_behind

    pacer.start(1.0)
    assert [number_of(chunk) for _, chunk in drain(pacer, 1.0)] == [0, 1, 2]
    assert not pacer.is_behind


def test_audio_that_is_sent_again_is_bounded_too() -> None:
    """The oldest is dropped, wherever it came from."""
    pacer = Pacer()
    n_kept = round(MAX_BACKLOG_S / CHUNK_S)
    for n in range(n_kept):
        pacer.push(loud(n))
    pacer.put_back([loud(9_000), loud(9_001)])

    assert pacer.dropped_s == pytest.approx(2 * CHUNK_S)
    pacer.start(0.0)
    assert [number_of(chunk) for _, chunk in drain(pacer, 0.0)] == list(range(n_kept))


def test_each_connection_has_a_clock_of_its_own() -> None:
    """What was sent on the last connection is not held against the next."""
    pacer = Pacer()
    pacer.start(0.0)
    for n in range(400):
        pacer.push(loud(n))
    drain(pacer, 0.0)
    pacer.stop()
    assert not pacer.is_running

    pacer.start(0.5)
    assert pacer.is_running
    for n in range(100):
        pacer.push(loud(n))
    assert seconds(pacer.take(0.5)) == pytest.approx(FREE_LEAD_S)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0.0, 3.0), st.integers(0, 120), st.booleans()), min_size=1, max_size=12
    )
)
def test_no_server_is_ever_flooded(bursts: list[tuple[float, int, bool]]) -> None:
    """However audio comes: in order, and in any stretch of time little more than that stretch.

    What leaves at once is bounded by the free lead, before and after a gap; the rest keeps its
    pace, and is never 2 s ahead.
    """
    pacer = Pacer()
    pacer.start(0.0)
    now = 0.0
    n = itertools.count()
    taken: list[tuple[float, bytes]] = []
    for gap_s, size, is_drained in bursts:
        now += gap_s
        for _ in range(size):
            pacer.push(loud(next(n)))
        taken += drain(pacer, now) if is_drained else [(now, c) for c in pacer.take(now)]
        now = max([now, *(at for at, _ in taken)])
    taken += drain(pacer, now)

    numbers = [number_of(chunk) for _, chunk in taken]
    assert numbers == sorted(numbers)
    assert seconds(chunk for _, chunk in taken) + pacer.dropped_s == pytest.approx(
        next(n) * CHUNK_S
    )
    ats = np.array([at for at, _ in taken])
    sent_s = np.arange(1, len(taken) + 1) * CHUNK_S
    assert np.all(sent_s - ats <= MAX_LEAD_S + 0.001)
    for begin in range(0, len(taken), 7):
        stretch_s = ats[begin:] - ats[begin]
        in_stretch_s = sent_s[begin:] - sent_s[begin] + CHUNK_S
        assert np.all(in_stretch_s <= CATCH_UP * stretch_s + 2 * FREE_LEAD_S + 2 * CHUNK_S)


# ------------------------------------------------------------------------------- the whole way


class Line:
    """An uplink, a clock, and what was sent when."""

    def __init__(self, *, is_started: bool = True) -> None:
        self.uplink = Uplink()
        self.now = 1_000.0
        self.sent: list[tuple[float, bytes]] = []
        self.user_is_speaking = False
        self.n_ticks = 0
        if is_started:
            self.uplink.start(self.now)

    def push(self, pushed: rtc.AudioFrame) -> None:
        """Let a frame come from the microphone."""
        self.sent += [(self.now, chunk) for chunk in self.uplink.push(pushed, self.now)]

    def wait(self, duration_s: float) -> None:
        """Let time pass, and tick as the uplink asks for."""
        until = self.now + duration_s
        while self.now + (wait_s := self.uplink.wait_s(self.now)) <= until:
            self.now += wait_s
            self.n_ticks += 1
            due = self.uplink.tick(self.now, user_is_speaking=self.user_is_speaking)
            self.sent += [(self.now, chunk) for chunk in due]
        self.now = until

    def speak(self, duration_s: float, rate_hz: int = 48_000, frame_ms: int = 50) -> None:
        """Let a voice come from the microphone, in real time."""
        for piece in frames(voice(rate_hz, duration_s), rate_hz, [rate_hz * frame_ms // 1000]):
            self.wait(piece.duration)
            self.push(piece)

    def since(self, at: float) -> list[tuple[float, bytes]]:
        """Return what was sent from a time on."""
        return [(sent_at, chunk) for sent_at, chunk in self.sent if sent_at >= at]


def test_speech_goes_out_as_it_comes() -> None:
    """With frames of a room, each leaves within the time that the resampler holds back."""
    line = Line()
    line.speak(3.0)

    sent_s = seconds(chunk for _, chunk in line.sent)
    assert 3.0 - 0.05 < sent_s <= 3.0
    assert all(MIN_CHUNK <= len(chunk) // 2 <= MAX_CHUNK for _, chunk in line.sent)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("frame_ms", [10, 20, 50])
def test_nothing_is_lost_at_the_end_of_speech(rate_hz: int, frame_ms: int) -> None:
    """When the track pauses, what the way has held back is sent, before the silence."""
    line = Line()
    line.speak(1.0, rate_hz, frame_ms)
    line.wait(0.5)
    heard = joined(chunk for _, chunk in line.sent)[:INPUT_RATE_HZ]
    expected = soxr.resample(voice(rate_hz), rate_hz, INPUT_RATE_HZ, quality="VHQ")

    assert np.corrcoef(heard, expected[:INPUT_RATE_HZ])[0, 1] > 0.995
    tail = slice(-INPUT_RATE_HZ // 50, None)
    assert np.corrcoef(heard[tail], expected[:INPUT_RATE_HZ][tail])[0, 1] > 0.95


def test_silence_follows_speech_at_real_time() -> None:
    """After 100 ms without a frame, two seconds of silence let the server hear the end."""
    line = Line()
    line.speak(1.0)
    stopped_at = line.now
    assert not line.since(stopped_at + TOLERANCE_S)

    line.wait(GAP_S - 0.001)
    assert not line.since(stopped_at + TOLERANCE_S)
    line.wait(1.0)
    after_1_s = line.since(stopped_at + TOLERANCE_S)
    assert seconds(chunk for _, chunk in after_1_s) == pytest.approx(line.now - stopped_at, abs=0.1)
    line.wait(1.5)
    silence = line.since(stopped_at + TOLERANCE_S)
    assert seconds(chunk for _, chunk in silence) == pytest.approx(
        GAP_S + SILENCE_AFTER_GAP_S, abs=0.1
    )
    line.wait(1.0)
    assert line.since(stopped_at + TOLERANCE_S) == silence
    assert all(is_quiet(chunk) for _, chunk in silence[1:])


def test_silence_goes_on_while_the_server_hears_speech() -> None:
    """An open turn has to be ended by somebody: ten seconds of silence at most."""
    line = Line()
    line.speak(1.0)
    stopped_at = line.now
    line.user_is_speaking = True
    line.wait(6.0)
    assert seconds(c for _, c in line.since(stopped_at + TOLERANCE_S)) == pytest.approx(6, abs=0.1)
    line.user_is_speaking = False
    line.wait(0.2)
    stopped = line.sent[:]
    line.wait(2.0)
    assert line.sent == stopped

    line = Line()
    line.speak(1.0)
    stopped_at = line.now
    line.user_is_speaking = True
    line.wait(14.0)
    assert seconds(c for _, c in line.since(stopped_at + TOLERANCE_S)) == pytest.approx(
        GAP_S + SILENCE_IN_TURN_S, abs=0.3
    )


def test_a_turn_that_opens_late_gets_silence_from_then_on() -> None:
    """What nobody sent while nothing was wanted is not made up for in a burst."""
    line = Line()
    line.speak(1.0)
    line.wait(6.0)
    line.user_is_speaking = True
    line.wait(KEEP_ALIVE_EVERY_S - 0.5)
    since = [at for at, chunk in line.sent if at > line.now - 4.0 and is_quiet(chunk)]

    assert len(since) > 10
    assert seconds(c for _, c in line.since(since[0])) <= line.now - since[0] + GAP_S + KEEP_ALIVE_S


def test_a_mute_is_not_the_end_of_the_call() -> None:
    """100 ms of silence every 5 s keep the connection, however long it lasts."""
    line = Line()
    line.speak(1.0)
    line.wait(3.0)
    began_at = line.now
    line.wait(60.0)

    kept = line.since(began_at)
    assert all(chunk == bytes(round(KEEP_ALIVE_S * BYTES_PER_S)) for _, chunk in kept)
    gaps = np.diff([began_at, *(at for at, _ in kept), line.now])
    assert len(kept) in (11, 12)
    assert np.max(gaps) <= KEEP_ALIVE_EVERY_S + 0.01


def test_a_call_without_a_microphone_is_kept_too() -> None:
    """The server closes what sends nothing."""
    line = Line()
    line.wait(30.0 + TOLERANCE_S)

    assert [at for at, _ in line.sent] == pytest.approx(
        [1_000.0 + KEEP_ALIVE_EVERY_S * n for n in range(1, 7)]
    )


def test_the_clock_of_a_quiet_line_is_slow() -> None:
    """A call that is muted costs next to nothing."""
    line = Line()
    line.wait(600.0)

    assert line.n_ticks <= 150


def test_speech_after_a_pause_is_not_late() -> None:
    """Silence is owed to nobody once there is audio."""
    line = Line()
    line.speak(1.0)
    line.wait(1.0)
    began_at = line.now
    line.speak(1.0)

    speech_s = seconds(chunk for _, chunk in line.since(began_at) if not is_quiet(chunk))
    assert speech_s == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("frame_ms", [10, 20, 50])
@pytest.mark.parametrize("pause_s", [0.02, 0.2, 1.0, 1.9])
def test_time_goes_on_in_pauses(pause_s: float, frame_ms: int) -> None:
    """What the server hears of a conversation lasts as long as the conversation."""
    line = Line()
    began_at = line.now
    for _ in range(5):
        line.speak(0.6, frame_ms=frame_ms)
        line.wait(pause_s)
    line.speak(0.6, frame_ms=frame_ms)

    sent_s = seconds(chunk for _, chunk in line.sent)
    filled = pause_s > GAP_S
    expected_s = line.now - began_at if filled else 6 * 0.6
    assert sent_s == pytest.approx(expected_s, abs=0.35)


@pytest.mark.parametrize("frame_ms", [10, 50, 99, 110, 120, 200, 500, 900])
def test_words_in_long_frames_are_not_torn_apart(frame_ms: int) -> None:
    """However long a source's frames are, no silence is put between them; it follows the last."""
    line = Line()
    line.speak(9.9, 16_000, frame_ms)
    spoken_until = line.now
    line.wait(1.2)

    n_spoken = round(9.9 * INPUT_RATE_HZ)
    heard = joined(chunk for _, chunk in line.sent)
    assert np.array_equal(heard[:n_spoken], to_int16(voice(INPUT_RATE_HZ, 9.9)))
    assert not heard[n_spoken:].any()
    silence_s = heard[n_spoken:].size / INPUT_RATE_HZ
    assert silence_s == pytest.approx(line.now - spoken_until, abs=frame_ms / 1000 + GAP_S)


@pytest.mark.parametrize("frame_apart_ms", [0, 5])
@pytest.mark.parametrize("late_ms", [0, 40])
@pytest.mark.parametrize("burst_ms", [60, 120, 200, 260, 500])
def test_words_in_bursts_are_not_torn_apart(
    burst_ms: int, late_ms: int, frame_apart_ms: int
) -> None:
    """A bridge or a browser gives many frames at once, and late: what came is what is sent."""
    line = Line()
    began_at = line.now
    spoken = list(frames(voice(INPUT_RATE_HZ, 10.0), INPUT_RATE_HZ, [INPUT_RATE_HZ // 50]))
    n_burst = burst_ms // 20
    for n, start in enumerate(range(0, len(spoken), n_burst), start=1):
        line.wait(began_at + (n * burst_ms + n % 2 * late_ms) / 1000 - line.now)
        for piece in spoken[start : start + n_burst]:
            line.push(piece)
            line.wait(frame_apart_ms / 1000)
    line.wait(2.0)

    heard = joined(chunk for _, chunk in line.sent)
    n_spoken = 10 * INPUT_RATE_HZ
    assert np.array_equal(heard[:n_spoken], to_int16(voice(INPUT_RATE_HZ, 10.0)))
    assert not heard[n_spoken:].any()
    assert line.uplink.dropped_s == 0.0


def test_a_pause_is_noticed_soon_though_the_source_was_early_once() -> None:
    """What came at once after a stall is used up, so it does not hide a mute later."""
    line = Line()
    line.speak(1.0)
    line.wait(0.5)
    for piece in frames(voice(48_000, 0.5), 48_000, [48_000 // 20]):
        line.push(piece)
    line.speak(3.0)
    stopped_at = line.now
    line.wait(0.05 + GAP_S + 0.05)

    assert any(is_silence(chunk) for _, chunk in line.since(stopped_at))


@pytest.mark.parametrize("speed", [0.99, 1.01])
def test_a_source_whose_clock_is_wrong_is_taken_as_it_comes(speed: float) -> None:
    """A microphone that is 1 % fast or slow is never late, and its pause is noticed in time."""
    line = Line()
    for piece in frames(voice(48_000, 30.0), 48_000, [48_000 // 50]):
        line.wait(piece.duration / speed)
        line.push(piece)
    speech_s = seconds(chunk for _, chunk in line.sent)
    stopped_at = line.now
    line.wait(0.02 + GAP_S + 0.05)

    assert 30.0 - 0.05 < speech_s <= 30.0
    assert any(is_silence(chunk) for _, chunk in line.since(stopped_at))


def test_long_audio_pushed_at_once_is_over_when_it_is_over() -> None:
    """Who pushes five seconds in one frame, and nothing more, gets silence after five seconds."""
    line = Line()
    line.push(frame(to_int16(voice(INPUT_RATE_HZ, 5.0))))
    line.wait(7.0)

    silence_s = seconds(chunk for _, chunk in line.sent) - 5.0
    assert silence_s == pytest.approx(2.0, abs=2 * GAP_S)


def test_frames_without_samples_are_no_audio() -> None:
    """A source that sends nothing but empty frames has paused."""
    line = Line()
    line.speak(1.0)
    stopped_at = line.now
    for _ in range(20):
        line.wait(0.05)
        line.push(frame(EMPTY, 48_000))

    silence_s = seconds(chunk for _, chunk in line.since(stopped_at + TOLERANCE_S))
    assert silence_s == pytest.approx(1.0, abs=0.1)
    line.wait(60.0)
    assert line.n_ticks < 300


def test_audio_before_the_connection_is_not_lost() -> None:
    """What is said while the call is dialled is heard first, and in order."""
    line = Line(is_started=False)
    line.speak(2.0)
    assert not line.sent
    line.uplink.start(line.now)
    started_at = line.now
    line.wait(4.0)

    speech = joined(chunk for _, chunk in line.sent)[: 2 * INPUT_RATE_HZ]
    expected = soxr.resample(voice(48_000, 2.0), 48_000, INPUT_RATE_HZ, quality="VHQ")
    assert np.corrcoef(speech, expected[: speech.size])[0, 1] > 0.99
    assert line.sent[0][0] - started_at < GAP_S + TOLERANCE_S


def test_silence_of_a_time_without_a_server_is_not_sent() -> None:
    """A call that comes back begins with the present, not with a burst of nothing."""
    line = Line()
    line.speak(1.0)
    line.uplink.stop()
    line.wait(1.5)
    line.uplink.start(line.now)
    started_at = line.now
    line.wait(0.2)

    assert seconds(chunk for _, chunk in line.since(started_at)) <= 0.2 + 2 * GAP_S


def test_silence_follows_a_backlog_to_its_end() -> None:
    """Speech that leaves late is followed by as much silence as speech that leaves at once."""
    line = Line(is_started=False)
    line.speak(6.0)
    line.uplink.start(line.now)
    line.wait(12.0)

    at = max(at for at, chunk in line.sent if not is_quiet(chunk))
    silence_s = seconds(chunk for sent_at, chunk in line.sent if sent_at > at)
    assert silence_s == pytest.approx(SILENCE_AFTER_GAP_S, abs=0.5)


def test_what_the_last_server_did_not_hear_is_sent_again() -> None:
    """A turn that was cut by a reconnect is heard whole."""
    line = Line()
    line.speak(1.0)
    unheard = [chunk for _, chunk in line.sent][-20:]
    line.uplink.stop(unheard)
    line.speak(0.5)
    line.uplink.start(line.now)
    started_at = line.now
    line.wait(1.0)

    again = [chunk for _, chunk in line.since(started_at)]
    assert again[:20] == unheard
    assert seconds(chunk for chunk in again if not is_quiet(chunk)) == pytest.approx(
        seconds(unheard) + 0.5, abs=0.05
    )


def test_too_long_without_a_server_loses_the_oldest_audio() -> None:
    """The line can tell how much, so that somebody can be warned."""
    line = Line(is_started=False)
    line.speak(12.0)

    assert line.uplink.dropped_s == pytest.approx(2.0, abs=0.2)


# ------------------------------------------------------------------------------------- pauses


def test_quiet_is_what_nobody_would_call_speech() -> None:
    """Noise of a line is quiet, a low voice is not."""
    hum = tone(100.0, INPUT_RATE_HZ, 0.02)

    assert is_quiet(QUIET)
    assert is_quiet(to_int16(hum / 50).tobytes())
    assert not is_quiet(to_int16(hum / 20).tobytes())


def test_what_is_sent_again_has_no_long_pauses() -> None:
    """200 ms of each are left; what is not quiet stays."""
    n_kept = round(KEPT_PAUSE_S / CHUNK_S)
    pause = [QUIET] * 50
    chunks = [loud(0), *pause, loud(1), *[QUIET] * 3, loud(2), *pause]
    sent = list(enumerate(chunks))

    assert [chunk for _, chunk in worth_resending(sent, 60.0)] == [
        loud(0),
        *pause[:n_kept],
        loud(1),
        *[QUIET] * 3,
        loud(2),
        *pause[:n_kept],
    ]
    assert worth_resending([], 60.0) == []


@pytest.mark.parametrize("chunk_ms", [20, 25, 40])
def test_what_is_sent_again_is_the_newest(chunk_ms: int) -> None:
    """So many seconds of it, whatever the length of the appends."""
    chunk = to_int16(voice(INPUT_RATE_HZ, chunk_ms / 1000)).tobytes()
    sent = [(float(n), chunk) for n in range(1_000)]
    again = worth_resending(sent, 6.0)

    assert again == sent[-len(again) :]
    assert seconds(chunk for _, chunk in again) == pytest.approx(6.0, abs=chunk_ms / 1000)


# -------------------------------------------------------------------------------- the way down


@given(st.binary(max_size=400), st.lists(st.integers(0, 40), max_size=30))
def test_frames_are_the_servers_bytes(pcm: bytes, cuts: list[int]) -> None:
    """However the server cuts its audio, even inside a sample: nothing is lost or doubled."""
    maker = FrameMaker(24_000)
    made: list[rtc.AudioFrame] = []
    begin = 0
    for size in [*cuts, len(pcm)]:
        piece = maker.push(pcm[begin : begin + size])
        begin += size
        if piece is not None:
            made.append(piece)

    assert b"".join(bytes(piece.data) for piece in made) == pcm[: len(pcm) // 2 * 2]
    assert all(piece.samples_per_channel > 0 for piece in made)
    assert all((piece.sample_rate, piece.num_channels) == (24_000, 1) for piece in made)


def test_an_odd_byte_waits_for_its_other_half() -> None:
    """A sample that is cut in two is played once it is whole."""
    maker = FrameMaker(48_000)

    assert maker.push(b"\1") is None
    assert maker.push(b"") is None
    whole = maker.push(b"\2\3\4\5")
    assert whole is not None
    assert (bytes(whole.data), whole.sample_rate) == (b"\1\2\3\4", 48_000)
    last = maker.push(b"\6")
    assert last is not None
    assert bytes(last.data) == b"\5\6"
