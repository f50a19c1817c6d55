"""The agent's side of a call: responses as generations, what was said, and what was cut."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from livekit.agents import llm

from livekit_plugins_hydra.log import logger

from .chat import ChatLog, Place
from .generation import Generation
from .message import Message
from .resumption import Cut, Speech
from .transcript import Spacing
from .transcription import Transcriber

REMEMBERED_MESSAGES: Final = 16
"""How many messages can still be truncated after their streams were closed."""

QUEUED_GENERATIONS: Final = 16
"""How many generations may wait for their turn to be played."""

_RESUMED_FRAME_S: Final = 0.05


class OutputHost(Protocol):
    """What the agent's side asks of its session."""

    async def until_subscribed(self) -> None:
        """Wait until somebody can hear the agent."""

    def message_missed(self, message: llm.ChatMessage) -> None:
        """Take a message that was played before its text was known."""

    def transcript_missing(self) -> None:
        """Take note that something was said of which there is no text."""


class Speaking:
    """What the agent says."""

    def __init__(
        self,
        chat: ChatLog,
        *,
        transcriber: Transcriber | None,
        resumes: bool,
        rate_hz: int,
        host: OutputHost,
    ) -> None:
        """Begin in silence.

        Args:
            chat: takes messages and function calls.
            transcriber: transcribes what is said, where the server tells no text.
            resumes: whether what a false interruption cut is played after all.
            rate_hz: rate of the server's audio, as long as it tells none.
            host: the session.
        """
        self.rate_hz = rate_hz
        """Rate of the server's audio."""
        self._chat = chat
        self._transcriber = transcriber
        self._spacing = Spacing()
        self._resumes = resumes
        self._host = host
        self._open: dict[str, Generation] = {}
        self._queue: deque[Generation] = deque(maxlen=QUEUED_GENERATIONS)
        """What is being played, and what the framework plays after it."""
        self._messages: dict[str, Message] = {}
        self._speech: Speech | None = None
        self._cut: Cut | None = None
        self._earlier_cut: Cut | None = None
        self._resumed: Generation | None = None

    # ----------------------------------------------------------------------- responses

    def begin(self, generation_id: str) -> Generation:
        """Open the streams of a response, or of a late part of one."""
        self.forget_cut()
        self._speech = Speech(generation_id, self.rate_hz) if self._resumes else None
        for earlier in self._messages.values():
            earlier.hurry()
        generation = self._generation(generation_id)
        self._open[generation_id] = generation
        return generation

    def audio(self, generation_id: str, item_id: str, pcm: bytes) -> None:
        """Play audio."""
        if generation := self._open.get(generation_id):
            message = generation.audio_message(item_id)
            if self._speech is not None and self._speech.generation_id == generation_id:
                self._speech.forget(message.unplayed_s)
                self._speech.push(message.id, pcm)
            message.push_audio(pcm)

    def late_audio(self, response_id: str, pcm: bytes) -> None:
        """Keep audio that came after the cut; play it if the cut was none."""
        speech = self._late_speech(response_id)
        if speech is None:
            return
        if self._resumed is not None:
            self._messages[speech.message_id].push_audio(pcm)
        speech.push(speech.message_id, pcm)

    def text(self, generation_id: str, item_id: str, piece: str) -> None:
        """Add a piece to the text."""
        if generation := self._open.get(generation_id):
            generation.message(item_id).push_text(piece)

    def whole_text(self, generation_id: str, item_id: str, text: str) -> None:
        """Take the server's whole text of an item in place of its pieces."""
        if generation := self._open.get(generation_id):
            generation.message(item_id).settle_text(text)

    def late_text(self, response_id: str, piece: str) -> None:
        """Keep a piece of text that came after the cut; add it if the cut was none."""
        speech = self._late_speech(response_id)
        if speech is None:
            return
        if self._resumed is not None:
            self._messages[speech.message_id].push_text(piece)
        else:
            speech.late_text.append(piece)

    def call(self, generation_id: str, call: llm.FunctionCall) -> None:
        """Run a function."""
        self._chat.add(call)
        if generation := self._open.get(generation_id):
            generation.push_call(call)

    def answered(self, call_id: str) -> None:
        """A function call has its output, so it waits for nothing."""
        for generation in self._queue:
            generation.answered(call_id)

    def queued_calls(self) -> list[llm.FunctionCall]:
        """Return the calls of what waits for the present speech to end.

        The framework plays one generation after another, those that it has asked for first, and
        runs their functions then. It drops what still waits when it is interrupted.
        """
        if not any(generation.is_playing for generation in self._queue):
            return []
        waiting = [generation for generation in self._queue if not generation.is_playing]
        return [call for generation in waiting for call in generation.waiting_calls]

    def has_begun(self, generation_id: str) -> bool:
        """Tell whether something of a response was said or called."""
        generation = self._open.get(generation_id)
        return generation is not None and not generation.is_empty

    def end(self, generation_id: str, *, cut: bool) -> None:
        """Close the streams of a response."""
        if generation := self._open.pop(generation_id, None):
            generation.finish(cut=cut)
            if not cut and generation.is_speechless:
                self._host.transcript_missing()
            if not cut:  # what the server still sends of the response is a part of its own
                self.complete(generation_id)

    def complete(self, response_id: str) -> None:
        """The server sends nothing more of a response."""
        if self._speech is not None and self._speech.belongs_to(response_id):
            self._speech.is_complete = True
            self._finish_resumed(cut=False)

    def close(self) -> None:
        """Let go of everything."""
        self.forget_cut()
        for generation_id in list(self._open):
            self.end(generation_id, cut=True)
        for message in self._messages.values():
            message.close()

    # -------------------------------------------------------------------- interruptions

    def played_until(self) -> float:
        """Return when all that was said so far will have been played; monotonic clock."""
        return max((message.played_until for message in self._messages.values()), default=0.0)

    def hush(self) -> None:
        """The user begins to speak: what is played after a false interruption ends, too."""
        self._earlier_cut = self._cut
        self._finish_resumed(cut=True)
        for message in list(self._messages.values()):
            message.cut_short()

    def cut(self, turn_id: str | None, now: float) -> None:
        """The user's turn has cut what is said, if something is, or if an earlier turn has."""
        self._cut, self._earlier_cut = self._earlier_cut, None
        if self._cut is None and self._speech is not None:
            # Before the first audio the framework reports nothing.
            position_s = None if self._speech.message_id else 0.0
            self._cut = Cut(self._speech, now, position_s)
        if self._cut is not None:
            self._cut.turn(turn_id, now)

    def forget_cut(self) -> None:
        """What was cut stays cut: something else has come, or was wanted."""
        self._cut = None
        self._finish_resumed(cut=True)

    def truncate(self, message_id: str, *, played_s: float, transcript: str, now: float) -> None:
        """Take the framework's report of how much of a message was played."""
        message = self._messages.get(message_id)
        if message is None:
            return
        message.report(played_s, transcript)
        if self._cut is not None and not self._cut.reported(message_id, played_s, now):
            self.forget_cut()

    def discard(self, turn_id: str | None, now: float, *, is_earlier: bool) -> None:
        """The server says that a turn of the user was none, the present one or an earlier one."""
        cut = self._cut
        if cut is not None and not cut.discarded(turn_id, now, is_earlier=is_earlier):
            self.forget_cut()

    def resume(self) -> Generation | None:
        """Return the rest of what a false interruption has cut, once all is known; else None."""
        cut = self._cut
        begins_at_s = cut.resumes_at_s if cut is not None else None
        if cut is None or begins_at_s is None:
            return None
        self._cut = None
        speech = cut.speech
        rest = speech.rest(begins_at_s)
        if not rest and speech.is_complete:
            return None
        text = self._unplayed_text(speech)
        generation = self._generation(f"{speech.generation_id}~{speech.n_resumed + 1}")
        message = generation.audio_message(generation.id)
        speech.resume(message.id, begins_at_s)
        message.go_on(text)
        for piece in speech.take_late_text():
            message.push_text(piece)
        step = int(_RESUMED_FRAME_S * speech.rate_hz) * 2
        for i in range(0, len(rest), step):
            message.push_audio(rest[i : i + step])
        self._resumed = generation
        logger.debug("that was no interruption: going on at %.2f s", begins_at_s)
        if speech.is_complete:
            self._finish_resumed(cut=False)
        return generation

    def _late_speech(self, response_id: str) -> Speech | None:
        """Return what was cut of a response, if its rest may still be played."""
        speech = self._speech
        is_wanted = self._cut is not None or self._resumed is not None
        return speech if speech and is_wanted and speech.belongs_to(response_id) else None

    def _unplayed_text(self, speech: Speech) -> str:
        """Return the words before the cut that were not played, where the text is known."""
        message = self._messages.get(speech.message_id)
        return message.text.removeprefix(message.played_text).lstrip() if message else ""

    def _finish_resumed(self, *, cut: bool) -> None:
        generation, self._resumed = self._resumed, None
        if generation is not None:
            generation.finish(cut=cut)

    # ------------------------------------------------------------------------- messages

    def _generation(self, generation_id: str) -> Generation:
        generation = Generation(generation_id, lambda item: self._open_message(generation_id, item))
        while self._queue and self._queue[0].is_over:
            self._queue.popleft()
        self._queue.append(generation)
        return generation

    def _open_message(self, generation_id: str, item_id: str) -> Message:
        place = self._chat.take_place()
        message = Message(
            self._chat.unique_id(item_id or f"{generation_id}-message"),
            rate_hz=self.rate_hz,
            spacing=self._spacing,
            transcriber=self._transcriber,
            on_text=lambda changed: self._remember(changed, place),
            until_subscribed=self._host.until_subscribed,
        )
        self._messages[message.id] = message
        while len(self._messages) > REMEMBERED_MESSAGES:
            self._messages.pop(next(iter(self._messages))).close()
        return message

    def _remember(self, message: Message, place: Place) -> None:
        if not message.played_text:
            self._chat.remove(message.id)
            return
        item = llm.ChatMessage(
            id=message.id,
            role="assistant",
            content=[message.played_text],
            interrupted=message.was_cut,
            created_at=message.opened_at,
        )
        self._chat.add(item, place=place, shown=message.framework_text)
        if message.is_missed:
            self._host.message_missed(item)
