"""What was sent to a server, and when: where the server's own measure of the audio is in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .audio import BYTES_PER_S, INPUT_RATE_HZ, Sent, power

PAUSE_MS: Final = 200
"""A turn has at least so long a pause beside it: detectors wait for twice that."""

SPEECH_MS: Final = 1000
"""How much is looked at on either side, to tell a pause from speech. Our choice."""

PAUSE_POWER: Final = 0.25
"""How loud a pause may be, against the loudest of the speech beside it: 6 dB less. Our choice."""

_BYTES_PER_MS: Final = BYTES_PER_S // 1000

_STEP: Final = 40 * _BYTES_PER_MS


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
                that is kept, before the last one, or in the middle of words.
            now: monotonic clock.
        """
        if audio_ms is not None and self._last_ms <= audio_ms <= self._end / _BYTES_PER_MS:
            begin = self._end
            for at, chunk in reversed(self._appends):
                begin -= len(chunk)
                if begin <= audio_ms * _BYTES_PER_MS:
                    if self._is_amid_words(audio_ms):
                        break
                    self._last_ms = audio_ms
                    return Boundary(at, audio_ms, True)
        return Boundary(now, self._end / _BYTES_PER_MS, False)

    def _is_amid_words(self, ms: float) -> bool:
        """Whether an offset has no pause beside it, as far as the audio there is known."""
        behind = b"".join(chunk for _, chunk in self.since(ms))
        around = b"".join(chunk for _, chunk in self.since(max(0.0, ms - SPEECH_MS)))
        before = around[: len(around) - len(behind)]
        nearby = around[: len(before) + SPEECH_MS * _BYTES_PER_MS]
        loudest = max(power(nearby[i : i + _STEP]) for i in range(0, len(nearby), _STEP))
        beside = (before[-PAUSE_MS * _BYTES_PER_MS :], behind[: PAUSE_MS * _BYTES_PER_MS])
        return all(side and power(side) > PAUSE_POWER * loudest for side in beside)

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
