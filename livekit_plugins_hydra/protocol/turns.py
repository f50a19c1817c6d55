"""The user's turn on one connection: when it begins, ends, counts, or is discarded.

The framework is told once that a turn has stopped, by the first of: `speech_stopped`, the server's
decision to discard it, `response.created`, the next `speech_started`, the end of the connection.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from . import effects as fx
from . import events as ev
from .states import TURN, Input, Signal, Turn, next_state

ANSWER_OVERDUE_S: Final = 5.0
"""After so long without an answer or a discard a turn is over. Our choice."""

REMEMBERED_TURNS: Final = 16
"""How many past turns may still deliver a late event."""


class UserTurn:
    """The user's present turn, and the ids of the ones before."""

    def __init__(self) -> None:
        self.state = Turn.QUIET
        self.item_id: str | None = None
        """The server's id of the user's item; None where it gives none."""
        self.stopped_at: float | None = None
        """When `speech_stopped` last came; None once it is used."""
        self._past: deque[str | None] = deque(maxlen=REMEMBERED_TURNS)

    def started(self, item_id: str | None, audio_ms: float | None) -> list[fx.Effect]:
        """The user begins to speak."""
        out: list[fx.Effect] = []
        if self.state is Turn.SPEAKING:  # the server never said that the last one stopped
            out.append(fx.UserStopped(self.item_id, audio_ms))
        self._move(ev.InputAudioBufferSpeechStarted)
        self._past.append(self.item_id)
        self.item_id = item_id
        self.stopped_at = None
        return [*out, fx.CancelTimer("answer"), fx.UserStarted(item_id, audio_ms)]

    def stopped(self, item_id: str | None, audio_ms: float | None, now: float) -> list[fx.Effect]:
        """The user has stopped; nothing follows if the turn had ended before."""
        why = ev.InputAudioBufferSpeechStopped
        stopped = self._end(why, audio_ms) if self._is_present(item_id) else []
        if stopped:
            self.stopped_at = now
            stopped.append(fx.StartTimer("answer", ANSWER_OVERDUE_S))
        return stopped

    def item_done(self, item: ev.Item) -> list[fx.Effect]:
        """The user's item has ended: it may have text, or the turn is discarded."""
        if item.status != "incomplete":
            is_speech = any(part.type == "input_audio" for part in item.content or ())
            is_somebodys = item.id is not None or self.state is not Turn.QUIET
            item_id = item.id or self.item_id or ""
            has_text = is_speech and is_somebodys and item.text
            return [fx.UserText(item_id, item.text)] if has_text else []
        if not self._is_present(item.id):
            return [fx.UserDiscarded(item.id, is_earlier=True)]
        self.stopped_at = None
        is_over = self.state is Turn.QUIET
        stopped = self._end(Signal.DISCARDED)
        discarded = fx.UserDiscarded(item.id, is_earlier=is_over)
        return [*stopped, fx.CancelTimer("answer"), discarded]

    def answered(self) -> list[fx.Effect]:
        """A response begins, with or without `speech_stopped` before it."""
        if self.state is Turn.QUIET:
            return []
        return [*self._end(ev.ResponseCreated), fx.CancelTimer("answer")]

    def overdue(self) -> list[fx.Effect]:
        """No answer came in time."""
        self._move(Signal.OVERDUE)
        return [fx.UserTurnKept()]

    def lost(self) -> list[fx.Effect]:
        """The connection has ended."""
        return self._end(Signal.LOST)

    def _is_present(self, item_id: str | None) -> bool:
        """Whether an item belongs to the present turn: every one does that is no earlier turn's."""
        is_past = item_id is not None and item_id in self._past
        return item_id == self.item_id or not is_past

    def _end(self, why: Input, audio_ms: float | None = None) -> list[fx.Effect]:
        """Change the state; report that the user has stopped, if not done before."""
        was_speaking = self.state is Turn.SPEAKING
        self._move(why)
        return [fx.UserStopped(self.item_id, audio_ms)] if was_speaking else []

    def _move(self, why: Input) -> None:
        self.state = next_state(TURN, self.state, why) or self.state
