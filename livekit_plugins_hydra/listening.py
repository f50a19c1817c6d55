"""The user's side of a call: sound on its way to the server, turns, and what was said in them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from livekit import rtc
from livekit.agents.utils import shortuuid

from .audio import INPUT_RATE_HZ, Uplink, is_quiet
from .chat import ChatLog
from .transcription import Recognition, Transcriber

KEPT_S: Final = 6.0
"""How much of the sound that was sent is kept, in case the server has not heard it."""

NOTICE_S: Final = 0.5
"""How long the server may take to say that it hears speech. Our choice."""

PRE_ROLL_S: Final = 0.5 + NOTICE_S
"""Sound before `speech_started` that belongs to the turn."""


@dataclass(slots=True)
class Turn:
    """Something that the user says."""

    item_id: str
    """The server's, or our own where the server gives none."""
    wire_id: str
    """The server's; empty where it gives none."""
    began_at: float
    """Wall clock."""
    place: str | None
    """The chat item after which it belongs."""
    recognition: Recognition | None = None
    text: str = ""
    is_over: bool = False


class Listening:
    """What the user says."""

    def __init__(
        self,
        chat: ChatLog,
        *,
        transcriber: Transcriber | None,
        send: Callable[[bytes], None],
        is_speaking: Callable[[], bool],
        on_text: Callable[[Turn, str, bool], None],
    ) -> None:
        """Begin to listen.

        Args:
            chat: tells where in the conversation a turn stands.
            transcriber: writes down what is said, where the server does not.
            send: takes an append, int16 mono 16 kHz, on its way to the server.
            is_speaking: tells whether the server believes that the user speaks.
            on_text: called with a turn, its text, and whether that is final.
        """
        self._chat = chat
        self._transcriber = transcriber
        self._send = send
        self._is_speaking = is_speaking
        self._on_text = on_text
        self._uplink = Uplink()
        self._tick: asyncio.TimerHandle | None = None
        self._sent: deque[tuple[float, bytes]] = deque()
        self._turn: Turn | None = None
        self._unanswered_since: float | None = None
        """When the turn began that the server has not answered yet."""
        self._understood_until = 0.0
        """When the server last said that a turn had ended: it has heard all that came before."""

    @property
    def dropped_s(self) -> float:
        """Seconds of sound that were thrown away because too much waited."""
        return self._uplink.dropped_s

    # --------------------------------------------------------------------------- sound

    def push(self, frame: rtc.AudioFrame) -> None:
        """Take a frame from the microphone."""
        now = time.monotonic()
        self._forward(self._uplink.push(frame, now))
        self._arm(now)

    def start(self) -> None:
        """The server listens from now on."""
        now = time.monotonic()
        self._uplink.start(now)
        self._arm(now)

    def stop(self, heard_from_server_at: float) -> bool:
        """The server no longer listens; sound waits for the next connection.

        What this one may not have heard is sent again there: a turn without an answer, else what
        was said since the server's last sign of life.

        Args:
            heard_from_server_at: when that was; monotonic clock.

        Returns:
            Whether there is speech that the next server will hear at once.
        """
        turn_began_at, self._unanswered_since = self._unanswered_since, None
        if turn_began_at is not None:
            since = turn_began_at - PRE_ROLL_S
        else:
            since = max(heard_from_server_at - NOTICE_S, self._understood_until)
        unheard = [chunk for at, chunk in self._sent if at >= since]
        self._sent.clear()
        if turn_began_at is None and all(is_quiet(chunk) for chunk in unheard):
            unheard = []
        self._uplink.stop(unheard)
        return bool(unheard)

    def close(self) -> None:
        """Stop listening."""
        if self._tick is not None:
            self._tick.cancel()

    def _forward(self, chunks: list[bytes]) -> None:
        now = time.monotonic()
        for chunk in chunks:
            self._send(chunk)
            self._sent.append((now, chunk))
            if self._turn is not None and self._turn.recognition is not None:
                self._turn.recognition.push(_frame(chunk))
        while self._sent and self._sent[0][0] < now - KEPT_S:
            self._sent.popleft()

    def _arm(self, now: float) -> None:
        """See to it that `_on_tick` runs when the uplink next needs it."""
        loop = asyncio.get_running_loop()
        at = loop.time() + self._uplink.wait_s(now)
        if self._tick is not None:
            if self._tick.when() <= at:
                return
            self._tick.cancel()
        self._tick = loop.call_at(at, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        now = time.monotonic()
        self._forward(self._uplink.tick(now, user_is_speaking=self._is_speaking()))
        self._arm(now)

    # --------------------------------------------------------------------------- turns

    def turn_started(self, item_id: str | None) -> None:
        """The user begins to speak."""
        self.turn_kept()
        now = time.monotonic()
        turn = Turn(item_id or shortuuid("turn_"), item_id or "", time.time(), self._chat.last_id)
        if self._transcriber is not None:
            turn.recognition = self._transcriber.begin(
                on_text=lambda text: self._recognized(turn, text),
                on_guess=lambda text: self._on_text(turn, text, False),
            )
            for at, chunk in self._sent:
                if at >= now - PRE_ROLL_S:
                    turn.recognition.push(_frame(chunk))
        self._turn = turn
        self._unanswered_since = now

    def turn_stopped(self) -> None:
        """The user has stopped."""
        self._understood_until = time.monotonic()
        if self._turn is not None and self._turn.recognition is not None:
            self._turn.recognition.end()

    def turn_discarded(self) -> None:
        """The turn was none: nothing is written down."""
        self.turn_answered()
        turn, self._turn = self._turn, None
        if turn is not None and turn.recognition is not None:
            turn.recognition.drop()

    def turn_answered(self) -> None:
        """The server has answered: it need not hear the turn again."""
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
        turn = self._turn
        if turn is None or turn.item_id != item_id:
            turn = Turn(item_id, item_id, time.time(), self._chat.last_id)
        elif turn.recognition is not None:
            turn.recognition.drop()
            turn.recognition = None
        turn.is_over = True
        turn.text = text
        self._tell(turn)

    def _recognized(self, turn: Turn, text: str) -> None:
        turn.text = text
        self._tell(turn)

    def _tell(self, turn: Turn) -> None:
        """Tell the text once it is known that the turn counts."""
        if turn.is_over and turn.text:
            self._on_text(turn, turn.text, True)
            turn.text = ""


def _frame(chunk: bytes) -> rtc.AudioFrame:
    return rtc.AudioFrame(chunk, INPUT_RATE_HZ, 1, len(chunk) // 2)
