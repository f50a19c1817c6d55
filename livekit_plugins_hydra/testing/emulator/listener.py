"""Finds the user's turns in the client's audio, and announces them to client and responder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livekit_plugins_hydra.protocol import events

from .replies import UserTurn
from .vad import INPUT_RATE_HZ, SpeechStarted, SpeechStopped, VoiceActivityDetector

if TYPE_CHECKING:
    import asyncio

    from .link import Link
    from .responder import Responder

_PRE_ROLL_MS: Final = 200
"""Audio before a turn that belongs to it: onsets are softer than the threshold. Our choice."""

_BYTES_PER_MS: Final = INPUT_RATE_HZ * 2 // 1000

_KEPT_WHEN_QUIET_MS: Final = 1000
"""How much audio is kept while nobody speaks: more than pre-roll and onset together."""


class Listener:
    """Listens to one connection."""

    def __init__(self, link: Link, responder: Responder) -> None:
        self._link = link
        self._scenario = link.scenario
        self._responder = responder
        self._detector = VoiceActivityDetector(
            threshold_dbfs=self._scenario.threshold_dbfs,
            start_ms=self._scenario.speech_start_ms,
            silence_ms=self._scenario.silence_ms,
        )
        self._kept = bytearray()
        self._kept_from_ms = 0
        self._n_turns = 0
        self._item_id = ""
        self._thinking: tuple[UserTurn, asyncio.Task[None]] | None = None
        """The turn whose end is not announced yet, and what will do that."""

    def hear(self, pcm: bytes) -> None:
        """Take in audio of the user (int16 mono 16 kHz)."""
        self._kept += pcm
        for change in self._detector.feed(pcm):
            match change:
                case SpeechStarted():
                    self._started(change)
                case SpeechStopped():
                    self._stopped(change)
        if not self._detector.speaking:
            self._forget(self._detector.position_ms - _KEPT_WHEN_QUIET_MS)

    def _started(self, change: SpeechStarted) -> None:
        if self._thinking is not None:
            turn, task = self._thinking
            task.cancel()
            self._end_turn(turn)
        self._n_turns += 1
        self._item_id = self._link.new_id("item")
        self._responder.flush()
        self._link.send(
            events.InputAudioBufferSpeechStarted(
                audio_start_ms=change.audio_start_ms, item_id=self._link.shown(self._item_id)
            )
        )
        self._responder.user_started()
        if self._scenario.user_item == "at_start":
            self._add_item(self._item_id)

    def _stopped(self, change: SpeechStopped) -> None:
        turn = UserTurn(
            number=self._n_turns,
            item_id=self._item_id,
            audio_start_ms=change.audio_start_ms,
            audio_end_ms=change.audio_end_ms,
            speech_ms=change.speech_ms,
            pcm=self._audio(change.audio_start_ms - _PRE_ROLL_MS, change.audio_end_ms),
        )
        if self._is_discarded(turn):
            self._discard(turn)
            return
        if self._scenario.thinks == "before_speech_stopped":
            task = self._link.after(self._scenario.think_s, lambda: self._end_turn(turn))
            self._thinking = turn, task
        else:
            self._end_turn(turn)

    def _discard(self, turn: UserTurn) -> None:
        self._link.record.discarded_turns.append(turn)
        if self._scenario.speech_stopped in ("on_time", "late"):
            self._link.send(self._speech_stopped(turn))
        self._end_item(turn, "incomplete", None)
        self._responder.user_discarded()

    def _end_turn(self, turn: UserTurn) -> None:
        self._thinking = None
        self._link.record.turns.append(turn)
        text = self._scenario.user_text
        late = self._scenario.speech_stopped == "late"
        if self._scenario.speech_stopped in ("on_time", "missing_if_discarded"):
            self._link.send(self._speech_stopped(turn))
        self._end_item(turn, "completed", text(turn) if callable(text) else text)
        self._responder.user_turn(turn, (self._speech_stopped(turn),) if late else ())

    def _is_discarded(self, turn: UserTurn) -> bool:
        if turn.audio_end_ms - turn.audio_start_ms < self._scenario.min_turn_ms:
            return True
        return self._scenario.discard_turn is not None and self._scenario.discard_turn(turn)

    def _speech_stopped(self, turn: UserTurn) -> events.InputAudioBufferSpeechStopped:
        return events.InputAudioBufferSpeechStopped(
            audio_end_ms=turn.audio_end_ms, item_id=self._link.shown(turn.item_id)
        )

    def _add_item(self, item_id: str) -> None:
        self._link.add_item(self._item(item_id, "in_progress", None), item_id)

    def _end_item(self, turn: UserTurn, status: str, text: str | None) -> None:
        if self._scenario.user_item == "at_end":
            self._add_item(turn.item_id)
        self._link.end_item(self._item(turn.item_id, status, text), turn.item_id)

    def _item(self, item_id: str, status: str, text: str | None) -> events.Item:
        return events.Item(
            id=self._link.shown(item_id),
            type="message",
            role="user",
            status=status,
            content=[events.Content(type="input_audio", text=text)],
        )

    def _audio(self, start_ms: int, end_ms: int) -> bytes:
        start = max(0, start_ms - self._kept_from_ms) * _BYTES_PER_MS
        return bytes(self._kept[start : (end_ms - self._kept_from_ms) * _BYTES_PER_MS])

    def _forget(self, until_ms: int) -> None:
        # In steps of a second, for deleting at the front moves what follows.
        if until_ms - self._kept_from_ms >= 1000:
            del self._kept[: (until_ms - self._kept_from_ms) * _BYTES_PER_MS]
            self._kept_from_ms = until_ms
