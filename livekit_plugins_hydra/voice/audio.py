"""The user's audio on its way to the server, and the server's on its way to the user.

Up: any rate and channel count -> mono 16 kHz -> chunks of 20 to 40 ms -> paced to real time ->
silence where the source has none. Down: the server's PCM as it is, at its true rate.

Everything here is synchronous; clocks are passed in, in seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr
from livekit import rtc

INPUT_RATE_HZ: Final = 16_000
"""What the server takes: int16 mono 16 kHz. Source: vendor docs of 2026-08-21."""

BYTES_PER_S: Final = INPUT_RATE_HZ * 2

MIN_CHUNK: Final = INPUT_RATE_HZ * 20 // 1000
MAX_CHUNK: Final = INPUT_RATE_HZ * 40 // 1000
"""Samples in an append: the docs recommend 20 to 40 ms; under 10 ms is refused."""

RESAMPLER_QUALITY: Final = "LQ"
"""How much of the audio the resampler holds back, against how clean it is.

Measured at 24 -> 16 kHz: HQ holds back 21 ms (37 at most), LQ 11 to 12 ms, QQ 0.1 ms. With the
50 ms frames of LiveKit's rooms LQ costs 12.7 ms on average and damps what would alias by 80 dB;
QQ does not damp it.
"""

FREE_LEAD_S: Final = 0.3
"""How far audio may run ahead of real time without being held back."""

MAX_LEAD_S: Final = 2.0
"""How far it may run ahead at all: the server ends sessions that are flooded [vendor's client]."""

CATCH_UP: Final = 1.5
"""How many times real time a backlog is sent, beyond the free lead."""

MAX_BACKLOG_S: Final = 10.0
"""How much audio may wait; the oldest is dropped beyond that."""

QUIET_LEVEL: Final = 200.0
"""Root mean square of int16 samples below which a chunk is quiet: -44 dBFS. Our choice."""

KEPT_PAUSE_S: Final = 0.2
"""How much of a pause stays in a backlog, so that words stay apart."""

GAP_S: Final = 0.1
"""How late a source may be. Later it has paused: its resampler is flushed, silence follows."""

EARLY_IS_SPENT: Final = 1.25
"""How many times real time a source uses up what it gave early. Our choice.

Bridges and browsers give 100 to 300 ms at once, and then nothing for as long. But what came early
once, as after a stall, must not hide a pause later.
"""

SECOND_LOOK_S: Final = 0.02
"""How much earlier a first look is taken. Where the event loop stood still, the frames that waited
are read between the two, as no pause. Our choice."""

SILENCE_AFTER_GAP_S: Final = 2.0
"""How long silence follows audio at real time, so that the server's turn detector hears an end."""

SILENCE_IN_TURN_S: Final = 10.0
"""How long at most silence goes on while the server believes that the user speaks."""

KEEP_ALIVE_EVERY_S: Final = 5.0
KEEP_ALIVE_S: Final = 0.1
"""The server closes a connection without a frame for about 30 s; 100 ms of silence every 5 s
suffices (eva, July 2026)."""

_SILENCE: Final = bytes(MAX_CHUNK * 2)

_INT16: Final = np.dtype(np.int16)

Sent = tuple[float, bytes]
"""An append, and when it was sent."""


class Resampler:
    """Turns frames of any rate and channel count into int16 mono 16 kHz."""

    def __init__(self) -> None:
        self._rate_hz = INPUT_RATE_HZ
        self._stream: soxr.ResampleStream | None = None

    def push(self, frame: rtc.AudioFrame) -> bytes:
        """Return the audio that is complete by now."""
        n_channels = frame.num_channels
        n_samples = frame.samples_per_channel * n_channels  # the buffer may be longer
        samples = np.frombuffer(frame.data, _INT16, n_samples).reshape(-1, n_channels)
        if n_channels > 1:
            samples = samples.mean(axis=1, keepdims=True, dtype=np.float32).astype(_INT16)
        if frame.sample_rate == self._rate_hz:
            return self._resample(samples)
        tail = self.flush()
        self._rate_hz = frame.sample_rate
        if self._rate_hz != INPUT_RATE_HZ:
            self._stream = soxr.ResampleStream(
                self._rate_hz, INPUT_RATE_HZ, 1, dtype=_INT16, quality=RESAMPLER_QUALITY
            )
        return tail + self._resample(samples)

    def flush(self) -> bytes:
        """Return what the resampler held back; the next frame begins anew."""
        tail = self._resample(np.empty((0, 1), _INT16), last=True)
        self._rate_hz = INPUT_RATE_HZ
        self._stream = None
        return tail

    def _resample(self, samples: npt.NDArray[np.int16], *, last: bool = False) -> bytes:
        if self._stream is not None:
            samples = self._stream.resample_chunk(samples, last=last)
        return samples.tobytes()


class Chunker:
    """Cuts audio into appends: whole frames in equal parts; under 20 ms waits for more."""

    def __init__(self) -> None:
        self._rest = b""

    def push(self, pcm: bytes) -> list[bytes]:
        """Return the appends that are complete, each 20 to 40 ms of int16 mono 16 kHz."""
        pcm, self._rest = self._rest + pcm, b""
        n_samples = len(pcm) // 2
        if n_samples < MIN_CHUNK:
            self._rest = pcm
            return []
        n_parts = -(-n_samples // MAX_CHUNK)
        ends = [2 * (n_samples * i // n_parts) for i in range(n_parts + 1)]
        return [pcm[begin:end] for begin, end in pairwise(ends)]

    def flush(self) -> list[bytes]:
        """Return what waits, filled up with silence to 20 ms."""
        return self.push(bytes(MIN_CHUNK * 2 - len(self._rest))) if self._rest else []


class Pacer:
    """Lets audio through at real time, with a little lead, and keeps what is early."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._n_waiting = 0
        self._pause_s = 0.0
        """How long the newest waiting audio has been quiet."""
        self._started_at: float | None = None
        self._sent_s = 0.0
        self._next_at = 0.0
        self.dropped_s = 0.0
        """Seconds of audio that were thrown away because too much waited."""

    def start(self, now: float) -> None:
        """The server listens from now on."""
        self._started_at = self._next_at = now
        self._sent_s = 0.0

    def stop(self) -> None:
        """The server no longer listens; audio waits."""
        self._started_at = None

    @property
    def is_running(self) -> bool:
        """Whether audio flows."""
        return self._started_at is not None

    @property
    def is_behind(self) -> bool:
        """Whether audio of the source waits; what its pauses are filled with does not count."""
        return bool(self._waiting) and self._waiting[0] is not _SILENCE

    def push(self, *chunks: bytes) -> None:
        """Add audio that comes at once; it leaves by `take`.

        What comes while other audio waits is a backlog, and there pauses are shortened: silence
        is what a late listener misses least.
        """
        is_backlog = self._started_at is None or bool(self._waiting)
        for chunk in chunks:
            if is_backlog and is_quiet(chunk):
                self._pause_s += len(chunk) / BYTES_PER_S
                if self._pause_s > KEPT_PAUSE_S:
                    continue
            else:
                self._pause_s = 0.0
            self._waiting.append(chunk)
            self._n_waiting += len(chunk)
        self._limit()

    def put_back(self, chunks: Sequence[bytes]) -> None:
        """Add audio before all that waits: it was sent, and the server may not have heard it."""
        self._waiting.extendleft(reversed(chunks))
        self._n_waiting += sum(len(chunk) for chunk in chunks)
        self._limit()

    def take(self, now: float) -> list[bytes]:
        """Return the audio that may be sent by now, in order."""
        taken: list[bytes] = []
        if self._started_at is not None:  # a gap gives the lead back, but saves no more than that
            self._sent_s = max(self._sent_s, now - self._started_at - FREE_LEAD_S)
        while self._waiting and self.wait_s(now) == 0.0:
            chunk = self._waiting.popleft()
            self._n_waiting -= len(chunk)
            duration_s = len(chunk) / BYTES_PER_S
            self._sent_s += duration_s
            self._next_at = max(self._next_at, now) + duration_s / CATCH_UP
            taken.append(chunk)
        return taken

    def _limit(self) -> None:
        while self._n_waiting > MAX_BACKLOG_S * BYTES_PER_S:
            dropped = len(self._waiting.popleft())
            self._n_waiting -= dropped
            self.dropped_s += dropped / BYTES_PER_S

    def wait_s(self, now: float) -> float | None:
        """Return how long the next audio has to wait; None where there is none, or no server."""
        if self._started_at is None or not self._waiting:
            return None
        lead_s = self._sent_s + len(self._waiting[0]) / BYTES_PER_S - (now - self._started_at)
        if lead_s <= FREE_LEAD_S:
            return 0.0
        return max(0.0, lead_s - MAX_LEAD_S, self._next_at - now)


class Uplink:
    """The way from the microphone to the connection: resampler, chunks, pace and silence."""

    def __init__(self) -> None:
        self._resampler = Resampler()
        self._chunker = Chunker()
        self._pacer = Pacer()
        self._frame_at: float | None = None
        """When the source last gave audio; None once its pause was dealt with."""
        self._lasts_until = 0.0
        """Until when the audio that it gave lasts, at real time."""
        self._look_at = 0.0
        """When to see whether it has paused."""
        self._has_looked = False
        self._silent_until = 0.0
        self._filled_until = 0.0
        self._paused_at = 0.0
        self._sent_at = 0.0

    @property
    def dropped_s(self) -> float:
        """Seconds of audio that were thrown away because too much waited."""
        return self._pacer.dropped_s

    def start(self, now: float) -> None:
        """The server listens from now on."""
        self._pacer.start(now)
        self._sent_at = now

    def stop(self, unheard: Sequence[bytes] = ()) -> None:
        """The server no longer listens; audio waits for the next connection.

        Args:
            unheard: appends that were sent, and that the next server shall hear.
        """
        self._pacer.stop()
        self._pacer.put_back(unheard)

    def push(self, frame: rtc.AudioFrame, now: float) -> list[bytes]:
        """Take a frame; return the appends to send now."""
        if frame.samples_per_channel:
            since_last_s = 0.0 if self._frame_at is None else now - self._frame_at
            spent_s = since_last_s * (EARLY_IS_SPENT - 1.0)
            self._frame_at = now
            self._lasts_until = max(now, self._lasts_until - spent_s) + frame.duration
            self._look_at = self._lasts_until + GAP_S - SECOND_LOOK_S
            self._has_looked = False
        self._pacer.push(*self._chunker.push(self._resampler.push(frame)))
        return self._take(now)

    def tick(self, now: float, *, user_is_speaking: bool) -> list[bytes]:
        """Return the appends that are due: audio that was early, or silence in place of none."""
        if self._frame_at is not None and now >= self._look_at:
            if self._has_looked:
                self._pause(now)
            self._has_looked = True
            self._look_at = now + SECOND_LOOK_S
        if self._frame_at is None and self._pacer.is_running:
            self._fill(now, user_is_speaking=user_is_speaking)
        return self._take(now)

    def wait_s(self, now: float) -> float:
        """Return when to call `tick` next."""
        due_at = now + KEEP_ALIVE_EVERY_S
        if self._frame_at is not None:
            due_at = self._look_at
        elif self._pacer.is_running:
            is_filling = now < self._silent_until
            due_at = self._filled_until if is_filling else self._sent_at + KEEP_ALIVE_EVERY_S
        early_s = self._pacer.wait_s(now)
        wait_s = due_at - now if early_s is None else min(early_s, due_at - now)
        return max(0.001, wait_s)

    def _pause(self, now: float) -> None:
        """The source has stopped: let go of what it left behind."""
        self._pacer.push(*self._chunker.push(self._resampler.flush()), *self._chunker.flush())
        self._frame_at = None
        self._filled_until = self._lasts_until
        self._begin_silence(now)

    def _begin_silence(self, now: float) -> None:
        self._paused_at = now
        self._silent_until = now + SILENCE_AFTER_GAP_S

    def _fill(self, now: float, *, user_is_speaking: bool) -> None:
        if self._pacer.is_behind:  # the server has to hear an end of that, too
            self._begin_silence(now)
        self._filled_until = max(self._filled_until, now - GAP_S)
        if user_is_speaking and now < self._paused_at + SILENCE_IN_TURN_S:
            self._silent_until = max(self._silent_until, now + GAP_S)
        if now < self._silent_until:
            while self._filled_until <= now:
                self._pacer.push(_SILENCE)
                self._filled_until += MAX_CHUNK / INPUT_RATE_HZ
        elif now - self._sent_at >= KEEP_ALIVE_EVERY_S:
            self._pacer.push(bytes(int(KEEP_ALIVE_S * BYTES_PER_S)))

    def _take(self, now: float) -> list[bytes]:
        taken = self._pacer.take(now)
        if taken:
            self._sent_at = now
        return taken


def worth_resending(sent: Iterable[Sent], duration_s: float) -> list[Sent]:
    """Return the newest appends, so long in all, with only `KEPT_PAUSE_S` of each pause left."""
    kept: list[Sent] = []
    pause_s = 0.0
    for at, chunk in sent:
        pause_s = pause_s + len(chunk) / BYTES_PER_S if is_quiet(chunk) else 0.0
        if pause_s <= KEPT_PAUSE_S:
            kept.append((at, chunk))
    left = int(duration_s * BYTES_PER_S)
    for index in reversed(range(len(kept))):
        left -= len(kept[index][1])
        if left < 0:
            return kept[index + 1 :]
    return kept


def is_quiet(chunk: bytes) -> bool:
    """Tell whether nobody speaks in an append; int16 mono."""
    return power(chunk) < QUIET_LEVEL**2


def power(pcm: bytes) -> float:
    """Return the mean square of audio: int16 mono, not empty."""
    samples = np.frombuffer(pcm, _INT16).astype(np.float32)
    return float(np.mean(samples * samples))


class FrameMaker:
    """Makes audio frames of a response's PCM; an odd byte waits for the next piece."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._odd = b""

    def push(self, pcm: bytes) -> rtc.AudioFrame | None:
        """Return a mono frame at the output rate; None where `pcm` makes no whole sample."""
        if self._odd:
            pcm = self._odd + pcm
        n_samples = len(pcm) // 2
        self._odd = pcm[n_samples * 2 :]
        if not n_samples:
            return None
        whole = pcm[:-1] if self._odd else pcm
        return rtc.AudioFrame(whole, self._rate_hz, 1, n_samples)
