"""A false interruption: a cough cut the agent, and the rest of what it said is played after all.

No realtime peer does this. The server cancels its response when it hears a sound, and when it
then decides that the sound was no speech, it does not go on. But the rest of the response is
often here already, since the server sends sound ten times faster than it is heard.

Pure bookkeeping: clocks are passed in, in seconds.
"""

from __future__ import annotations

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

PAUSE_LEVEL: Final = 300.0
"""Root mean square of int16 samples below which it is a pause: -41 dBFS."""


@dataclass(slots=True)
class Speech:
    """What a response says: all of its sound so far, and where the present playing begins in it."""

    response_id: str
    message_id: str
    """The message that plays it now; another one after each resumption."""
    rate_hz: int
    pcm: bytearray = field(default_factory=bytearray)
    """int16 mono; all of the response's, also what came after a cut."""
    begins_at_s: float = 0.0
    """Where in `pcm` the present message begins."""
    n_resumed: int = 0

    def rest_from(self, position_s: float) -> float:
        """Return where to go on: the last short pause before `position_s`, in seconds."""
        window = int(PAUSE_S * self.rate_hz)
        end = int(position_s * self.rate_hz)
        begin = max(0, end - int(LOOK_BACK_S * self.rate_hz))
        samples = np.frombuffer(self.pcm, dtype=np.int16, count=min(len(self.pcm) // 2, end))
        recent = samples[begin:].astype(np.float64)
        if recent.size < window:
            return position_s
        power = np.convolve(recent**2, np.ones(window) / window, mode="valid")
        quiet = np.flatnonzero(power < PAUSE_LEVEL**2)
        if not quiet.size:
            return position_s
        return float(begin + quiet[-1] + window) / self.rate_hz


@dataclass(slots=True)
class Cut:
    """A speech that the user cut, and what is known of the cut."""

    speech: Speech
    at: float
    position_s: float | None = None
    """How far the speech was heard, in all, once the framework has said so."""
    was_discarded: bool = False
    """Whether the server has said that it was no speech."""

    def reported(self, message_id: str, heard_s: float, now: float) -> bool:
        """Take the framework's report; return whether the cut still stands."""
        if message_id != self.speech.message_id or now - self.at > MAX_REPORT_S:
            return False
        self.position_s = self.speech.begins_at_s + heard_s
        return True

    def discarded(self, now: float) -> bool:
        """Take the server's verdict; return whether the cut still stands."""
        self.was_discarded = now - self.at <= MAX_DISCARD_S
        return self.was_discarded

    @property
    def resumes_at_s(self) -> float | None:
        """Where to go on; None while something is not known."""
        if self.position_s is None or not self.was_discarded:
            return None
        return self.speech.rest_from(self.position_s)
