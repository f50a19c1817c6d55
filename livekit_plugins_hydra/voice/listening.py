"""The user's side of a call: sound on its way to the server, turns, and what was said in them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from livekit import rtc
from livekit.agents.utils import shortuuid

from .audio import INPUT_RATE_HZ, Sent, Uplink, is_quiet, worth_hearing
from .chat import ChatLog
from .transcription import Recognition, Transcriber

KEPT_S: Final = 6.0
"""How much of the sound that was sent is sent again, in case the server has not heard it."""

KEPT_FOR_S: Final = 13.5
"""How long it is kept at most: a dead link is noticed after 12.5 s."""

TIDY_EVERY_S: Final = 0.25
"""How often what need not be kept any more is let go: not with each frame."""

NOTICE_S: Final = 0.5
"""How long the server may take to say that it hears speech. Our choice."""

PRE_ROLL_S: Final = 0.5 + NOTICE_S
"""Sound before `speech_started` that belongs to the turn, unless it belongs to the last one."""

REMEMBERED_TURNS: Final = 8
"""How many turns the server may still write down."""


@dataclass(slots=True)
class Turn:
    """Something that the user says."""

    item_id: str
    """The server's, or our own where the server gives none."""
    wire_id: str
    """The server's; empty where it gives none."""
    began_at: float
    """Wall clock."""
    place: int
    """In the chat log."""
    recognition: Recognition | None = None
    text: str = ""
    """What was said, as long as nobody was told."""
    is_over: bool = False
    is_heard_again: bool = False
    """Whether its sound goes to the next server too, which makes a turn of its own of it."""
    beginning: list[rtc.AudioFrame] = field(default_factory=list)
    """What of its sound does not go there."""

    def drop(self) -> None:
        """Its words are not wanted, or known better."""
        if self.recognition is not None:
            self.recognition.drop()
            self.recognition = None


class InputHost(Protocol):
    """What the microphone's side asks of its session."""

    @property
    def is_user_speaking(self) -> bool:
        """Whether the server believes that the user speaks."""

    @property
    def server_alive_at(self) -> float:
        """When the server last gave a sign of life; monotonic clock."""

    def send_audio(self, appends: list[bytes]) -> None:
        """Send appends to the server, each int16 mono 16 kHz."""

    def user_transcribed(self, turn: Turn, text: str, *, is_final: bool) -> None:
        """Take the text of a turn, or what it looks like so far."""

    def input_audio_lost(self) -> None:
        """Take note that audio was thrown away because too much waited."""


class Listening:
    """What the user says."""

    def __init__(self, chat: ChatLog, *, transcriber: Transcriber | None, host: InputHost) -> None:
        """Begin to listen.

        Args:
            chat: tells where in the conversation a turn stands.
            transcriber: writes down what is said, where the server does not.
            host: the session.
        """
        self._chat = chat
        self._transcriber = transcriber
        self._host = host
        self._uplink = Uplink()
        self._tick: asyncio.TimerHandle | None = None
        self._sent: deque[Sent] = deque()
        self._tidy_at = 0.0
        self._turn: Turn | None = None
        self._turns: dict[str, Turn] = {}
        self._unanswered_since: float | None = None
        """Since when sound belongs to a turn that the server has not answered yet."""
        self._unanswered_before: float | None = None
        """The same, as it was when the present turn began: it may be discarded."""
        self._understood_until = 0.0
        """When the server last said that a turn had ended: it has heard all that came before."""

    # --------------------------------------------------------------------------- sound

    def push(self, frame: rtc.AudioFrame) -> None:
        """Take a frame from the microphone."""
        now = time.monotonic()
        self._forward(self._uplink.push(frame, now), now)
        self._arm(now)

    def start(self) -> None:
        """The server listens from now on."""
        now = time.monotonic()
        self._uplink.start(now)
        self._arm(now)

    def stop(self, heard_at: float) -> bool:
        """The server no longer listens; sound waits for the next connection.

        What this one may not have heard is sent again there.

        Args:
            heard_at: when it last gave a sign of life; monotonic clock.

        Returns:
            Whether there is speech that the next server will hear at once.
        """
        since = self._unheard_since(heard_at)
        turn_began_at = self._unanswered_since
        self._unanswered_since = self._unanswered_before = None
        again = worth_hearing((sent for sent in self._sent if sent[0] >= since), KEPT_S)
        unheard = [chunk for _, chunk in again]
        if turn_began_at is not None and self._turn is not None:
            self._turn.is_heard_again = True
            self._turn.beginning = self._sound_before(again, self._turn)
        self._sent.clear()
        if turn_began_at is None and all(is_quiet(chunk) for chunk in unheard):
            unheard = []
        self._uplink.stop(unheard)
        return bool(unheard)

    def _sound_before(self, again: list[Sent], turn: Turn) -> list[rtc.AudioFrame]:
        """Return what is written down of a turn, without what is sent again."""
        if turn.recognition is None or not again:
            return []
        ended_at = self._understood_until if turn.recognition.ended.is_set() else math.inf
        n_again = sum(again[0][0] <= at <= ended_at for at, _ in self._sent)
        return turn.recognition.before(n_again)

    def close(self) -> None:
        """Stop listening."""
        if self._tick is not None:
            self._tick.cancel()

    def _forward(self, chunks: list[bytes], now: float) -> None:
        if not chunks:
            return
        self._host.send_audio(chunks)
        for chunk in chunks:
            self._sent.append((now, chunk))
            if self._turn is not None and self._turn.recognition is not None:
                self._turn.recognition.push(_frame(chunk))
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_EVERY_S
            self._forget(now)
            if self._uplink.dropped_s:
                self._host.input_audio_lost()

    def _forget(self, now: float) -> None:
        """Let go of what was sent and need not be sent again."""
        since = min(now - PRE_ROLL_S, self._unheard_since(self._host.server_alive_at))
        since = max(now - KEPT_FOR_S, since)
        while self._sent and self._sent[0][0] < since:
            self._sent.popleft()

    def _unheard_since(self, heard_at: float) -> float:
        """Return since when the server may not have heard: a turn without an answer began, or
        its last sign of life.
        """
        if self._unanswered_since is not None:
            return self._unanswered_since
        return max(heard_at - NOTICE_S, self._understood_until)

    def _arm(self, now: float) -> None:
        """See to it that `_on_tick` runs when the uplink next needs it."""
        loop = asyncio.get_running_loop()
        at = loop.time() + self._uplink.wait_s(now)
        if self._tick is not None:  # to move it costs less than to be woken in vain
            self._tick.cancel()
        self._tick = loop.call_at(at, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        now = time.monotonic()
        self._forward(self._uplink.tick(now, user_is_speaking=self._host.is_user_speaking), now)
        self._arm(now)

    # --------------------------------------------------------------------------- turns

    def turn_started(self, item_id: str | None) -> None:
        """The user begins to speak."""
        last = self._turn
        if last is not None and last.is_heard_again:
            self.turn_discarded(None)
            self._keep_beginning(last)
        self.turn_kept()
        now = time.monotonic()
        turn = self._turn = self._new_turn(item_id)
        since = max(now - PRE_ROLL_S, self._understood_until)
        self._unanswered_before = self._unanswered_since
        if self._unanswered_since is None or self._transcriber is not None:
            self._unanswered_since = since  # else nobody knows what was said before
        self._write_down(turn, (_frame(chunk) for at, chunk in self._sent if at >= since))

    def _keep_beginning(self, turn: Turn) -> None:
        """Write down what came before the sound of which the next server makes a turn."""
        turn.is_over = True
        turn.text = ""
        if any(not is_quiet(bytes(frame.data)) for frame in turn.beginning):
            self._write_down(turn, turn.beginning)
            if turn.recognition is not None:
                turn.recognition.end()

    def _write_down(self, turn: Turn, frames: Iterable[rtc.AudioFrame]) -> None:
        if self._transcriber is None:
            return
        turn.recognition = self._transcriber.begin(
            on_text=lambda text: self._recognized(turn, text),
            on_guess=lambda text: self._host.user_transcribed(turn, text, is_final=False),
        )
        for frame in frames:
            turn.recognition.push(frame)

    def turn_stopped(self) -> None:
        """The user has stopped."""
        self._understood_until = time.monotonic()
        if self._turn is not None and self._turn.recognition is not None:
            self._turn.recognition.end()

    def turn_discarded(self, item_id: str | None) -> None:
        """A turn was none: nothing is written down."""
        turn = self._turn
        if turn is not None and (not item_id or turn.wire_id in ("", item_id)):
            self._turn = None
            self._unanswered_since = self._unanswered_before
            turn.drop()

    def turn_answered(self) -> None:
        """The server has answered, unless the user goes on: it need not hear the turn again."""
        self._unanswered_before = None
        if self._turn is None or not self._host.is_user_speaking:
            self._unanswered_since = None

    def turn_kept(self) -> None:
        """The turn counts: it is answered, or can't be taken back any more."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        if turn.recognition is not None:
            turn.recognition.end()
        turn.is_over = True
        self._tell(turn)

    def turn_written(self, item_id: str, text: str) -> None:
        """The server itself has written down a turn, so it counts."""
        turn = self._turns.get(item_id)
        if turn is None and (not item_id or (self._turn and not self._turn.wire_id)):
            turn = next(reversed(self._turns.values()), None)
        turn = turn or self._new_turn(item_id)
        turn.drop()
        turn.is_over = True
        turn.text = text
        self._tell(turn)

    def _new_turn(self, item_id: str | None) -> Turn:
        wire_id = item_id or ""
        own_id = self._chat.unique_id(wire_id) if wire_id else shortuuid("turn_")
        turn = Turn(own_id, wire_id, time.time(), self._chat.take_place())
        self._turns[wire_id or own_id] = turn
        if len(self._turns) > REMEMBERED_TURNS:
            del self._turns[next(iter(self._turns))]
        return turn

    def _recognized(self, turn: Turn, text: str) -> None:
        turn.text = text
        if turn.text and not turn.is_over:
            self._host.user_transcribed(turn, text, is_final=False)
        self._tell(turn)

    def _tell(self, turn: Turn) -> None:
        """Tell the text once it is known that the turn counts."""
        if turn.is_over and turn.text:
            self._host.user_transcribed(turn, turn.text, is_final=True)
            turn.text = ""


def _frame(chunk: bytes) -> rtc.AudioFrame:
    return rtc.AudioFrame(chunk, INPUT_RATE_HZ, 1, len(chunk) // 2)
