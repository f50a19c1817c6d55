"""What the log says of a call: a line when it is up, when it is up again, and at its end.

Each turn, response and function call is a line at DEBUG. No line has what was said.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from typing import Final

from .log import logger
from .protocol import effects as fx

REMEMBERED_LATENCIES: Final = 1_000
"""Of how many answers, the newest, the median is. Our choice."""


class Journal:
    """Counts what happens in a call."""

    def __init__(self, host: str) -> None:
        """Begin a call with a server."""
        self._host = host
        self._began_at = time.monotonic()
        self._took_s = 0.0
        self._was_ready = False
        self._lost_at: float | None = None
        self._n_failed = 0
        """How many connections could not be made since the last one was up."""
        self._n_turns = self._n_interruptions = self._n_reconnects = 0
        self._turn_at = 0.0
        self._turn_interrupts = False
        self._answers: set[str] = set()
        """Ids of the responses that the server has begun by itself."""
        self._latencies_s: deque[float] = deque(maxlen=REMEMBERED_LATENCIES)
        self._has_ended = False

    def opened(self, took_s: float) -> None:
        """A connection is open; it took so long."""
        self._took_s = took_s

    def lost(self) -> None:
        """The connection has ended, or was left for another one."""
        if self._was_ready and self._lost_at is None:
            self._lost_at = time.monotonic()

    def failed(self) -> None:
        """A connection could not be made, or was lost."""
        self._n_failed += 1

    def ready(self, session_id: str | None) -> None:
        """The server listens."""
        if self._lost_at is None:
            logger.info(
                "connected to Hydra at %s in %.2f s: session %s",
                *(self._host, self._took_s, session_id),
            )
        else:
            self._n_reconnects += 1
            logger.info(
                "connected to Hydra at %s again, %.2f s after the last connection, attempt %d:"
                " session %s",
                *(self._host, time.monotonic() - self._lost_at),
                *(max(1, self._n_failed), session_id),
            )
        self._was_ready = True
        self._lost_at = None
        self._n_failed = 0

    def note(self, effect: fx.Effect, played_until: float) -> None:
        """Take note of what happens, before it does.

        Args:
            effect: what is about to happen.
            played_until: when playback of all audio so far ends; monotonic clock.
        """
        now = time.monotonic()
        match effect:
            case fx.UserStarted():
                self._turn_at, self._turn_interrupts = now, played_until > now
                self._n_turns += 1
                self._n_interruptions += self._turn_interrupts
            case fx.UserStopped():
                how = ", interrupting the agent" if self._turn_interrupts else ""
                logger.debug("the user has spoken for %.2f s%s", now - self._turn_at, how)
            case fx.UserDiscarded(is_earlier=False):
                logger.debug("that was no turn")
                self._n_turns -= 1
                self._n_interruptions -= self._turn_interrupts
                self._turn_interrupts = False
            case fx.BeginResponse(part_id=response_id, reply_id=None, is_late=False):
                self._answers.add(response_id)
            case fx.EndResponse():
                self._note_response(effect)
            case fx.CallFunction(name=name, call_id=call_id):
                logger.debug("Hydra calls %s (%s)", name, call_id)

    def _note_response(self, end: fx.EndResponse) -> None:
        is_answer = end.response_id in self._answers
        self._answers.discard(end.response_id)
        if end.first_audio_at is None:
            logger.debug("response %s without audio: %s", end.response_id, end.status)
            return
        latency_s = end.first_audio_at - end.requested_at
        if is_answer:
            self._latencies_s.append(latency_s)
        logger.debug("response %s after %.2f s: %s", end.response_id, latency_s, end.status)

    def end(self) -> None:
        """The call is over."""
        if self._has_ended or not self._was_ready:
            return
        self._has_ended = True
        latencies_s = self._latencies_s
        median = f"{statistics.median(latencies_s):.2f} s" if latencies_s else "not known"
        logger.info(
            "the call with Hydra has ended after %.1f s; turns: %d, interruptions: %d,"
            " reconnects: %d, voice to voice: %s (median)",
            *(time.monotonic() - self._began_at, self._n_turns, self._n_interruptions),
            *(self._n_reconnects, median),
        )
