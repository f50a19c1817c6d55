"""A microphone and a loudspeaker in memory, for an `AgentSession`: calls at real time, no room.

::

    microphone, loudspeaker = Microphone(), Loudspeaker()
    session.input.audio, session.output.audio = microphone, loudspeaker
    await session.start(agent)
    microphone.say(pcm)

Both keep what was said and played, and when, so that a call can be measured and saved to a file.
Clocks are seconds of `time.monotonic`; PCM is int16 mono.
"""

from __future__ import annotations

import asyncio
import os
import time
import wave
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from livekit import rtc
from livekit.agents.voice import io

_LATE_S: Final = 0.5
"""A microphone that is read later than this goes on from now, as a device would."""

Samples = npt.NDArray[np.int16]


class Microphone(io.AudioInput):
    """Gives frames at real time: what `say` was given, and silence around it."""

    def __init__(self, *, rate_hz: int = 24_000, frame_ms: int = 50, num_channels: int = 1) -> None:
        """Prepare a microphone.

        Args:
            rate_hz: of the frames, and of the PCM that `say` takes.
            frame_ms: length of a frame; the default is that of LiveKit's rooms.
            num_channels: the frames' channels, all with the same audio.
        """
        super().__init__(label="desk microphone")
        self.rate_hz = rate_hz
        self._n_frame = rate_hz * frame_ms // 1000
        self._num_channels = num_channels
        self._waiting = np.empty(0, dtype=np.int16)
        self._next_at: float | None = None
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self._is_on = asyncio.Event()
        self._is_on.set()
        self.heard: list[tuple[float, Samples]] = []
        """What was said and when; silence is left out."""
        self.ended_at = 0.0
        """When the last word ended."""

    def say(self, pcm: bytes | Samples) -> None:
        """Speak, after what is being said."""
        samples = np.frombuffer(pcm, dtype=np.int16) if isinstance(pcm, bytes) else pcm
        self._waiting = np.concatenate([self._waiting, samples])
        self._is_quiet.clear()

    async def wait_quiet(self) -> None:
        """Wait until everything was said."""
        await self._is_quiet.wait()

    def mute(self) -> None:
        """Give no frames any more, as a muted track does; what waits is lost."""
        self._is_on.clear()
        self._waiting = self._waiting[:0]
        self._is_quiet.set()

    def unmute(self) -> None:
        """Give frames again."""
        self._next_at = None
        self._is_on.set()

    async def __anext__(self) -> rtc.AudioFrame:
        """Return the next frame when its time has come."""
        await self._is_on.wait()
        now = time.monotonic()
        if self._next_at is None or now - self._next_at > _LATE_S:
            self._next_at = now
        self._next_at += self._n_frame / self.rate_hz
        await asyncio.sleep(self._next_at - now)
        await self._is_on.wait()

        said, self._waiting = self._waiting[: self._n_frame], self._waiting[self._n_frame :]
        samples = np.zeros(self._n_frame, dtype=np.int16)
        if said.size:
            samples[: said.size] = said
            self.heard.append((time.monotonic() - self._n_frame / self.rate_hz, said))
            self.ended_at = time.monotonic()
        if not self._waiting.size:
            self._is_quiet.set()
        if self._num_channels > 1:
            samples = np.repeat(samples, self._num_channels)
        return rtc.AudioFrame(samples.tobytes(), self.rate_hz, self._num_channels, self._n_frame)


@dataclass(slots=True)
class Playout:
    """One piece of speech that was played, or is being played."""

    started_at: float
    rate_hz: int
    pieces: list[tuple[float, Samples]] = field(default_factory=list)
    """When each piece begins to be played, and what it is."""
    ends_at: float = 0.0
    interrupted: bool = False
    speed: float = 1.0
    """How many times faster than real time it is played."""

    @property
    def samples(self) -> Samples:
        """All that was played."""
        if not self.pieces:
            return np.empty(0, dtype=np.int16)
        return np.concatenate([samples for _, samples in self.pieces])

    @property
    def duration_s(self) -> float:
        """How long it was played."""
        return sum(samples.size for _, samples in self.pieces) / self.rate_hz

    def cut(self, at: float) -> None:
        """Keep what was played before `at`."""
        played: list[tuple[float, Samples]] = []
        for begins_at, samples in self.pieces:
            n_samples = int(max(0.0, at - begins_at) * self.speed * self.rate_hz)
            if n_samples:
                played.append((begins_at, samples[:n_samples]))
        self.pieces = played
        self.interrupted = True


class Loudspeaker(io.AudioOutput):
    """Plays frames at real time and keeps what was played."""

    def __init__(self, *, speed: float = 1.0) -> None:
        """Prepare a loudspeaker.

        Args:
            speed: how many times faster than real time it plays, for tests that need not wait.
        """
        super().__init__(
            label="desk loudspeaker", capabilities=io.AudioOutputCapabilities(pause=False)
        )
        self._speed = speed
        self._open: Playout | None = None
        self._finishing: deque[tuple[Playout, asyncio.TimerHandle]] = deque()
        self.heard: list[Playout] = []
        """What was played, one playout after another."""
        self.n_finished = 0
        """How many playouts have ended, by themselves or interrupted."""
        self.cleared_at: list[float] = []
        """When playing was stopped."""

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Take a frame to play."""
        await super().capture_frame(frame)
        now = time.monotonic()
        playout = self._open
        if playout is None:
            begins_at = max([now, *(earlier.ends_at for earlier, _ in self._finishing)])
            playout = self._open = Playout(
                begins_at, frame.sample_rate, ends_at=begins_at, speed=self._speed
            )
            self.heard.append(playout)
            self.on_playback_started(created_at=time.time() + begins_at - now)
        begins_at = max(playout.ends_at, now)
        playout.pieces.append((begins_at, np.frombuffer(bytes(frame.data), dtype=np.int16)))
        playout.ends_at = begins_at + frame.duration / self._speed

    def flush(self) -> None:
        """Nothing more comes in this playout; it ends when all of it was played."""
        super().flush()
        playout, self._open = self._open, None
        if playout is None:
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, playout.ends_at - time.monotonic()), self._finish)
        self._finishing.append((playout, timer))

    def clear_buffer(self) -> None:
        """Stop playing at once."""
        now = time.monotonic()
        self.cleared_at.append(now)
        if self._open is not None:
            self.flush()
        while self._finishing:
            playout, timer = self._finishing.popleft()
            timer.cancel()
            playout.cut(now)
            self._report(playout)

    def _finish(self) -> None:
        playout, _ = self._finishing.popleft()
        self._report(playout)

    def _report(self, playout: Playout) -> None:
        self.n_finished += 1
        self.on_playback_finished(
            playback_position=playout.duration_s, interrupted=playout.interrupted
        )


def write_call(
    path: str | os.PathLike[str],
    microphone: Microphone,
    loudspeaker: Loudspeaker,
    *,
    rate_hz: int = 24_000,
    began_at: float | None = None,
) -> float:
    """Write a call as a stereo wav file, user left and agent right; return its seconds.

    Args:
        path: the file.
        microphone: the user's.
        loudspeaker: the user's.
        rate_hz: of the file.
        began_at: where the file begins, on the clock of `time.monotonic`; by default at the first
            audio. What is earlier is left out.
    """
    sides = [
        [(at, samples, microphone.rate_hz) for at, samples in microphone.heard],
        [
            (at, samples, playout.rate_hz)
            for playout in loudspeaker.heard
            for at, samples in playout.pieces
        ],
    ]
    pieces = [piece for side in sides for piece in side]
    if not pieces:
        raise ValueError("nobody said anything, so there is no call to write")
    if began_at is None:
        began_at = min(at for at, _, _ in pieces)
    n_samples = max(
        0,
        *(
            int((at - began_at) * rate_hz) + int(samples.size * rate_hz / rate) + 1
            for at, samples, rate in pieces
        ),
    )
    track = np.zeros((n_samples, 2), dtype=np.int16)
    for side, of_side in enumerate(sides):
        _lay(track[:, side], of_side, began_at, rate_hz)
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(track.tobytes())
    return n_samples / rate_hz


def _lay(
    track: Samples, pieces: list[tuple[float, Samples, int]], began_at: float, rate_hz: int
) -> None:
    """Put pieces on a track; those that follow each other closely are laid without a seam."""
    import soxr

    runs: list[tuple[float, list[Samples], int]] = []
    ends_at = float("-inf")
    for at, samples, rate in pieces:
        if runs and runs[-1][2] == rate and abs(at - ends_at) < _SEAM_S:
            runs[-1][1].append(samples)
        else:
            runs.append((at, [samples], rate))
            ends_at = at
        ends_at += samples.size / rate
    for at, parts, rate in runs:
        samples = np.concatenate(parts)
        if rate != rate_hz:
            samples = soxr.resample(samples, rate, rate_hz)
        begin = int((at - began_at) * rate_hz)
        samples, begin = samples[max(0, -begin) :], max(0, begin)
        end = min(track.size, begin + samples.size)
        track[begin:end] = samples[: end - begin]


_SEAM_S: Final = 0.03
