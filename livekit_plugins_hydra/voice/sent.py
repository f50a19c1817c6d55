"""What was sent to a server, and when: where the server's own measure of the audio is in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .audio import BYTES_PER_S, INPUT_RATE_HZ, Sent

_BYTES_PER_MS: Final = BYTES_PER_S // 1000


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a turn of the user begins or ends."""

    at: float
    """When the audio there was sent; monotonic clock."""
    ms: float
    """Where it is in the audio of the connection."""
    is_known: bool
    """Whether the server has said so; else it is where the audio was when its event came."""


class SentAudio:
    """The newest audio of one connection after the other, by time and by offset."""

    def __init__(self) -> None:
        self._appends: deque[Sent] = deque()
        self._begin = 0
        """How many bytes were sent before the first append that is kept."""
        self._end = 0
        self._last_ms = 0.0
        """The last boundary that the server has given."""

    def __iter__(self) -> Iterator[Sent]:
        return iter(self._appends)

    def clear(self) -> None:
        """Another connection begins: the server counts from zero."""
        self._appends.clear()
        self._begin = self._end = 0
        self._last_ms = 0.0

    def add(self, chunk: bytes, now: float) -> None:
        """An append was sent: int16 mono 16 kHz."""
        self._appends.append((now, chunk))
        self._end += len(chunk)

    def forget(self, before: float) -> None:
        """Let go of what was sent before an instant."""
        while self._appends and self._appends[0][0] < before:
            self._begin += len(self._appends.popleft()[1])

    def boundary(self, audio_ms: float | None, now: float) -> Boundary:
        """Return where a turn begins or ends of which the server tells now.

        Args:
            audio_ms: where the server says that it is; not believed where it is not in the audio
                that is kept, or before the last one.
            now: monotonic clock.
        """
        if audio_ms is not None and self._last_ms <= audio_ms <= self._end / _BYTES_PER_MS:
            begin = self._end
            for at, chunk in reversed(self._appends):
                begin -= len(chunk)
                if begin <= audio_ms * _BYTES_PER_MS:
                    self._last_ms = audio_ms
                    return Boundary(at, audio_ms, True)
        return Boundary(now, self._end / _BYTES_PER_MS, False)

    def since(self, ms: float) -> list[Sent]:
        """Return the audio behind an offset; of the append that it is in, the rest."""
        n_left = self._end - int(ms * INPUT_RATE_HZ / 1000) * 2
        kept: list[Sent] = []
        for at, chunk in reversed(self._appends):
            if n_left <= 0:
                break
            kept.append((at, chunk[-n_left:]))
            n_left -= len(chunk)
        return kept[::-1]

    def count_after(self, ms: float) -> int:
        """Return how many appends are all behind an offset."""
        n, begin = 0, self._end
        for _, chunk in reversed(self._appends):
            begin -= len(chunk)
            if begin < ms * _BYTES_PER_MS:
                break
            n += 1
        return n
