"""A false interruption: a cough cut the agent, and the rest of what it said is played after all.

No realtime peer does this. The server cancels its response when it hears a noise, and when it
then decides that the noise was no speech, it does not go on. But the rest of the response is
often here already, since the server sends audio ten times faster than it is played.

Pure bookkeeping: clocks are passed in, in seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np

MAX_DISCARD_S: Final = 3.0
"""The turn must be discarded this soon after the cut; later, going on would be odd. Our choice."""

MAX_REPORT_S: Final = 1.0
"""The position must be reported this soon after the cut; later, it can't be trusted. Our choice."""

PAUSE_S: Final = 0.1
"""A pause of this length is a good place to go on from."""

LOOK_BACK_S: Final = 2.0
"""How far back a pause is looked for; without one, going on begins at the position itself."""

KEPT_S: Final = LOOK_BACK_S + 2.0
"""How much of what was played is kept: a room may be 2 s behind the clock. Our choice."""

PAUSE_LEVEL: Final = 300.0
"""Root mean square of int16 samples below which it is a pause: -41 dBFS."""


class Speech:
    """A response's audio as far as it can still be played, and which message plays which part."""

    def __init__(self, generation_id: str, rate_hz: int) -> None:
        self.generation_id = generation_id
        self.rate_hz = rate_hz
        self.is_complete = False
        """Whether the server sends nothing more of it."""
        self.n_resumed = 0
        self.late_text: list[str] = []
        """Text that came after the cut and that no message has."""
        self._pieces: deque[bytes] = deque()
        self._n_forgotten = 0
        """Bytes before the first piece."""
        self._n_bytes = 0
        """All that came."""
        self._begins_at_s: dict[str, float] = {}

    @property
    def message_id(self) -> str:
        """The newest message that plays it; empty before its first audio."""
        return next(reversed(self._begins_at_s), "")

    def belongs_to(self, response_id: str) -> bool:
        """Tell whether it is that response's, or a late part of it."""
        return self.generation_id == response_id or self.generation_id.startswith(f"{response_id}+")

    def push(self, message_id: str, pcm: bytes) -> None:
        """Take audio that a message plays, or would have played: int16 mono."""
        if message_id not in self._begins_at_s:
            self._begins_at_s[message_id] = self._n_bytes / 2 / self.rate_hz
        self._pieces.append(pcm)
        self._n_bytes += len(pcm)

    def forget(self, unplayed_s: float) -> None:
        """Let go of what was played long ago: a reply may go on for an hour.

        Args:
            unplayed_s: how much of the newest audio is still to be played, by the clock.
        """
        first_kept = self._n_bytes - (unplayed_s + KEPT_S) * self.rate_hz * 2
        while self._pieces and self._n_forgotten + len(self._pieces[0]) <= first_kept:
            self._n_forgotten += len(self._pieces.popleft())

    def resume(self, message_id: str, position_s: float) -> None:
        """A new message plays it from a position on."""
        self.n_resumed += 1
        self._begins_at_s[message_id] = position_s

    def take_late_text(self) -> list[str]:
        """Return the pieces of text that came after the cut, once."""
        pieces, self.late_text = self.late_text, []
        return pieces

    def position_s(self, message_id: str, played_s: float) -> float | None:
        """Return how far it was played in all; None where the rest is not all here."""
        begins_at_s = self._begins_at_s.get(message_id)
        if begins_at_s is None or self._index(begins_at_s + played_s) < 0:
            return None
        return begins_at_s + played_s

    def rest(self, position_s: float) -> bytes:
        """Return the audio from a position on."""
        return b"".join(self._pieces)[self._index(position_s) :]

    def pause_before(self, position_s: float) -> float:
        """Return the end of the last short pause before `position_s`; itself, without one."""
        n_window = int(PAUSE_S * self.rate_hz)
        end = min(self._n_bytes // 2, int(position_s * self.rate_hz))
        begin = max((self._n_forgotten + 1) // 2, end - int(LOOK_BACK_S * self.rate_hz))
        pcm, n_before = b"".join(self._pieces), begin * 2 - self._n_forgotten
        recent = np.frombuffer(pcm[n_before:], np.int16, end - begin).astype(np.float64)
        if recent.size < n_window:
            return position_s
        energy = np.concatenate([[0.0], np.cumsum(recent**2)])
        power = (energy[n_window:] - energy[:-n_window]) / n_window
        quiet = np.flatnonzero(power < PAUSE_LEVEL**2)
        if not quiet.size:
            return position_s
        return float(begin + quiet[-1] + n_window) / self.rate_hz

    def _index(self, position_s: float) -> int:
        """Return where in what is kept a position is; negative for what was let go."""
        return int(position_s * self.rate_hz) * 2 - self._n_forgotten


@dataclass(slots=True)
class Cut:
    """A speech that the user cut, and what is known of the cut."""

    speech: Speech
    at: float
    position_s: float | None = None
    """How far the speech was played, once the framework has said so."""
    turns: list[str | None] = field(default_factory=list)
    """The server's ids of the user's turns since then that may be speech; None where it has none.
    """
    turn_at: float = 0.0
    """When the newest of them began."""

    def turn(self, turn_id: str | None, now: float) -> None:
        """The user begins to speak, for the first time or once more."""
        self.turns.append(turn_id)
        self.turn_at = now

    def reported(self, message_id: str, played_s: float, now: float) -> bool:
        """Take the framework's report; return whether the cut still stands."""
        self.position_s = self.speech.position_s(message_id, played_s)
        return self.position_s is not None and now - self.at <= MAX_REPORT_S

    def discarded(self, turn_id: str | None, now: float, *, is_earlier: bool) -> bool:
        """Take the server's verdict on a turn; return whether the cut still stands."""
        if not is_earlier:
            self.turns.pop()
        elif turn_id in self.turns:
            self.turns.remove(turn_id)
        return bool(self.turns) or now - self.turn_at <= MAX_DISCARD_S

    @property
    def resumes_at_s(self) -> float | None:
        """Where to go on; None while something is not known."""
        if self.position_s is None or self.turns:
            return None
        return self.speech.pause_before(self.position_s)
