"""The user's side of a call: audio on its way to the server, turns, and what was said in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final, Protocol

from livekit import rtc
from livekit.agents.utils import shortuuid

from .audio import BYTES_PER_S, INPUT_RATE_HZ, Sent, Uplink, is_quiet, worth_resending
from .chat import ChatLog
from .sent import Boundary, SentAudio
from .transcription import Recognized, Transcriber
from .utterance import Cause, State, Utterance, said_since

RESENT_S: Final = 6.0
"""How much audio is sent again at most, in case the server has not heard it."""

KEPT_FOR_S: Final = 13.5
"""How long what was sent is kept at most: a dead link is noticed after 12.5 s."""

TIDY_EVERY_S: Final = 0.25
"""How often what need not be kept any more is let go: not with each frame."""

NOTICE_S: Final = 0.5
"""How long the server may take to say that it hears speech. Our choice."""

PRE_ROLL_S: Final = 0.5
"""Audio before the beginning of a turn that belongs to it, unless it belongs to the last one."""

REMEMBERED_UTTERANCES: Final = 8
"""How many utterances the server may still transcribe."""


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

    def user_transcribed(self, utterance: Utterance, text: str, *, is_final: bool) -> None:
        """Take the text of an utterance, or what it looks like so far."""

    def input_audio_lost(self) -> None:
        """Take note that audio was thrown away because too much waited."""


class Listening:
    """What the user says."""

    def __init__(self, chat: ChatLog, *, transcriber: Transcriber | None, host: InputHost) -> None:
        """Begin to listen.

        Args:
            chat: tells where in the conversation a turn stands.
            transcriber: transcribes what is said, where the server tells no text.
            host: the session.
        """
        self._chat = chat
        self._transcriber = transcriber
        self._host = host
        self._uplink = Uplink()
        self._tick: asyncio.TimerHandle | None = None
        self._sent = SentAudio()
        self._tidy_at = 0.0
        self._utterances: dict[str, Utterance] = {}
        self._present: Utterance | None = None
        """The newest utterance, as long as the server may take it back."""
        self._kept: Utterance | None = None
        """The newest that counts."""
        self._user_stopped_at = 0.0
        """When the server last said that the user had stopped: it has heard all before that."""
        self._last_turn_ends_ms = 0.0
        """Where in the audio of this connection."""
        self._again: list[Utterance] = []
        """What this connection's server hears again, oldest first."""
        self._again_until_ms = 0.0
        """Where that ends in the audio of this connection."""
        self._has_heard = False
        """Whether this connection's server has heard the user begin to speak."""

    # --------------------------------------------------------------------------- audio

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

    def stop(self, alive_at: float) -> bool:
        """The server no longer listens; audio waits for the next connection.

        What this one may not have heard is sent again there.

        Args:
            alive_at: when it last gave a sign of life; monotonic clock.

        Returns:
            Whether there is speech that the next server will hear at once.
        """
        is_owed = self._owed is not None
        since = self._resent_since(alive_at)
        again = worth_resending((sent for sent in self._sent if sent[0] >= since), RESENT_S)
        unheard = [chunk for _, chunk in again]
        if not is_owed and all(is_quiet(chunk) for chunk in unheard):
            unheard = []
        self._again = []
        for utterance in (self._kept, self._present):
            if utterance is not None:
                if unheard and utterance.is_owed and utterance.resent_since >= since:
                    utterance.beginning = self._audio_before(again, utterance)
                    self._again.append(utterance)
                utterance.move(Cause.LOST)
        self._again_until_ms = sum(map(len, unheard)) / BYTES_PER_S * 1000
        self._has_heard = False
        self._sent.clear()
        self._last_turn_ends_ms = 0.0
        self._uplink.stop(unheard)
        return bool(unheard)

    def _audio_before(self, again: list[Sent], utterance: Utterance) -> list[rtc.AudioFrame]:
        """Return what is transcribed of an utterance, without what is sent again."""
        if utterance.recognition is None or not again:
            return []
        n_again = sum(at >= again[0][0] for at, _ in self._sent)
        if utterance.state is not State.OPEN:
            n_again -= self._sent.count_after(self._last_turn_ends_ms)
        return utterance.recognition.before(n_again)

    def close(self) -> None:
        """Stop listening."""
        if self._tick is not None:
            self._tick.cancel()

    def _forward(self, chunks: list[bytes], now: float) -> None:
        if not chunks:
            return
        self._host.send_audio(chunks)
        for chunk in chunks:
            self._sent.add(chunk, now)
            if self._present is not None and self._present.recognition is not None:
                self._present.recognition.push(_frame(chunk))
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_EVERY_S
            self._forget(now)
            if self._uplink.dropped_s:
                self._host.input_audio_lost()

    def _forget(self, now: float) -> None:
        """Let go of what was sent and need not be sent again."""
        since = now - PRE_ROLL_S - NOTICE_S
        since = min(since, self._resent_since(self._host.server_alive_at))
        self._sent.forget(max(now - KEPT_FOR_S, since))

    @property
    def _owed(self) -> Utterance | None:
        """The newest utterance that the server owes an answer."""
        newest = (self._present, self._kept)
        return next((each for each in newest if each is not None and each.is_owed), None)

    def _resent_since(self, alive_at: float) -> float:
        """Return since when audio is sent again, should the connection be lost by now: since an
        utterance began that is not answered, or since the server's last sign of life.
        """
        if (owed := self._owed) is not None:
            return owed.resent_since
        return max(alive_at - NOTICE_S, self._user_stopped_at)

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

    def turn_started(self, item_id: str | None, audio_ms: float | None) -> None:
        """The user begins to speak; `audio_ms` is where the server says that it was."""
        now = time.monotonic()
        start = self._sent.boundary(audio_ms, now)
        again = self._take_again(start)
        self.turn_kept()
        pre_roll_s = PRE_ROLL_S if start.is_known else PRE_ROLL_S + NOTICE_S
        since_ms = max(start.ms - pre_roll_s * 1000, min(start.ms, self._last_turn_ends_ms))
        spoken = self._sent.since(since_ms)
        earlier = self._owed
        utterance = self._present = self._new_utterance(item_id, began_ago_s=now - start.at)
        utterance.resent_since = spoken[0][0] if spoken else now
        utterance.known = " ".join(each.known for each in again).strip()
        if earlier is not None and self._transcriber is None:  # nobody knows what was said then
            utterance.resent_since = earlier.resent_since
        self._transcribe(utterance, (_frame(chunk) for _, chunk in spoken))

    def _take_again(self, start: Boundary) -> list[Utterance]:
        """Return what a turn repeats of what an earlier server was told, oldest first."""
        is_first, self._has_heard = not self._has_heard, True
        is_again = start.ms < self._again_until_ms if start.is_known else is_first
        if not is_again:
            return []
        if is_first:
            for utterance in self._again:
                self._keep_beginning(utterance)
            if self._present in self._again:
                self._present = None
        return self._again

    def _keep_beginning(self, utterance: Utterance) -> None:
        """Transcribe what came before the audio of which the next server makes an utterance."""
        if utterance.was_told:
            return
        utterance.drop()
        utterance.move(Cause.REPEATED)
        utterance.text = ""
        if any(not is_quiet(bytes(frame.data)) for frame in utterance.beginning):
            self._transcribe(utterance, utterance.beginning)
            if utterance.recognition is not None:
                utterance.recognition.end()

    def _transcribe(self, utterance: Utterance, frames: Iterable[rtc.AudioFrame]) -> None:
        if self._transcriber is None:
            return
        utterance.recognition = self._transcriber.begin(
            on_text=lambda recognized: self._recognized(utterance, recognized),
            on_guess=lambda text: self._guess(utterance, text),
        )
        for frame in frames:
            utterance.recognition.push(frame)

    def turn_stopped(self, audio_ms: float | None) -> None:
        """The user has stopped; `audio_ms` is where the server says that it was."""
        self._user_stopped_at = time.monotonic()
        self._last_turn_ends_ms = self._sent.boundary(audio_ms, self._user_stopped_at).ms
        if self._present is not None:
            self._present.move(Cause.STOPPED)
            if self._present.recognition is not None:
                self._present.recognition.end(self._sent.count_after(self._last_turn_ends_ms))

    def turn_discarded(self) -> None:
        """The present turn was none: nothing is transcribed."""
        utterance, self._present = self._present, None
        if utterance is not None:
            utterance.drop()

    def turn_answered(self) -> None:
        """The server has answered, unless the user goes on: it need not hear the turn again."""
        if self._kept is not None:
            self._kept.move(Cause.ANSWERED)
        if self._present is not None and not self._host.is_user_speaking:
            self._present.move(Cause.ANSWERED)

    def turn_kept(self) -> None:
        """The turn counts: it is answered, or can't be taken back any more."""
        utterance, self._present = self._present, None
        if utterance is None:
            return
        self._kept = utterance
        utterance.move(Cause.KEPT)
        if utterance.recognition is not None:
            utterance.recognition.end()
        self._tell(utterance)

    def turn_transcribed(self, item_id: str, text: str) -> None:
        """The server itself has transcribed a turn, so it counts."""
        utterance = self._utterances.get(item_id)
        if utterance is None and (not item_id or (self._present and not self._present.wire_id)):
            utterance = next(reversed(self._utterances.values()), None)
        utterance = utterance or self._new_utterance(item_id, began_ago_s=0.0)
        if utterance.was_told:
            return
        utterance.drop()
        utterance.move(Cause.KEPT)
        utterance.text = text
        self._tell(utterance)

    def _new_utterance(self, item_id: str | None, *, began_ago_s: float) -> Utterance:
        wire_id = item_id or ""
        own_id = self._chat.unique_id(wire_id) if wire_id else shortuuid("turn_")
        began_at = time.time() - began_ago_s
        utterance = Utterance(own_id, wire_id, began_at, self._chat.take_place())
        self._utterances[wire_id or own_id] = utterance
        if len(self._utterances) > REMEMBERED_UTTERANCES:
            del self._utterances[next(iter(self._utterances))]
        return utterance

    def _recognized(self, utterance: Utterance, recognized: Recognized) -> None:
        utterance.text, utterance.confidence = recognized
        if not utterance.counts:
            self._guess(utterance, utterance.text)
        self._tell(utterance)

    def _guess(self, utterance: Utterance, text: str) -> None:
        """Tell what the text looks like, without the words that are known."""
        if new := said_since(utterance.known, text):
            self._host.user_transcribed(utterance, new, is_final=False)

    def _tell(self, utterance: Utterance) -> None:
        """Tell the text once it is known that the utterance counts."""
        if utterance.counts and utterance.text:
            new = said_since(utterance.known, utterance.text)
            utterance.known, utterance.text = utterance.text, ""
            utterance.was_told = True
            if new:
                self._host.user_transcribed(utterance, new, is_final=True)


def _frame(chunk: bytes) -> rtc.AudioFrame:
    return rtc.AudioFrame(chunk, INPUT_RATE_HZ, 1, len(chunk) // 2)
