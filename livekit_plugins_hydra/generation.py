"""The streams of one response, as LiveKit's framework plays them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Literal

from livekit import rtc
from livekit.agents import llm, utils

from .audio import FrameMaker
from .chat import cut_to_heard
from .transcription import Recognition, Transcriber

TEXT_AFTER_PLAYOUT_S: Final = 0.5
"""How long the text may come after the sound could have been heard: the turn ends with it."""


class Message:
    """A message of a response: what is heard, and the text of it."""

    def __init__(
        self,
        message_id: str,
        *,
        rate_hz: int,
        transcriber: Transcriber | None,
        on_written: Callable[[Message], None],
    ) -> None:
        """Open the streams.

        Args:
            message_id: unique in the session.
            rate_hz: rate of the audio.
            transcriber: writes down what is said, if the server does not.
            on_written: called when the text is known, or has changed.
        """
        self.id = message_id
        self.duration_s = 0.0
        """How much sound there is."""
        self.heard_s: float | None = None
        """How much of it was heard; None for all."""
        self.heard_words = ""
        """What the framework says was heard, where it knows better than by length."""
        self.text = ""
        """What is said, as far as it is known: all of it, heard or not."""
        self._frames = FrameMaker(rate_hz)
        self._audio: utils.aio.Chan[rtc.AudioFrame] = utils.aio.Chan()
        self._text: utils.aio.Chan[str] = utils.aio.Chan()
        self._on_written = on_written
        self._began_at = time.monotonic()
        self._deadline: asyncio.TimerHandle | None = None
        self._recognition: Recognition | None = None
        if transcriber is not None:
            self._recognition = transcriber.begin(self._recognized)

    @property
    def heard_text(self) -> str:
        """The text of what was heard."""
        if self.heard_s is None or self.heard_words:
            return self.heard_words or self.text
        return cut_to_heard(self.text, heard_s=self.heard_s, duration_s=self.duration_s)

    def present(self) -> llm.MessageGeneration:
        """Return what the framework plays."""
        modalities: asyncio.Future[list[Literal["text", "audio"]]] = asyncio.Future()
        modalities.set_result(["audio", "text"])
        return llm.MessageGeneration(
            message_id=self.id,
            text_stream=self._text,
            audio_stream=self._audio,
            modalities=modalities,
        )

    def push_audio(self, pcm: bytes) -> None:
        """Play sound: int16 mono; an odd byte waits for the next piece."""
        frame = self._frames.push(pcm)
        if frame is not None:
            self.duration_s += frame.duration
            self._audio.send_nowait(frame)
            if self._recognition is not None:
                self._recognition.push(frame)

    def push_text(self, phrase: str) -> None:
        """Write down a phrase; the wire leaves out the spaces between them."""
        phrase = phrase.strip()
        if phrase and not self._text.closed:
            if self._recognition is not None:  # the server's own text is better
                self._recognition.drop()
                self._recognition = None
            self._text.send_nowait(f" {phrase}" if self.text else phrase)
            self.text = f"{self.text} {phrase}".strip()

    def finish(self, *, cut: bool, has_calls: bool) -> None:
        """End the sound at once, and the text when it is known or no longer awaited.

        Args:
            cut: the message is not played to its end, so nobody awaits its text.
            has_calls: the outputs of functions go out after it, so its text must not be late.
        """
        if self._audio.closed:
            return
        self._audio.close()
        if self._recognition is not None:
            self._recognition.end()
        if self.text:
            self._on_written(self)
        if cut or self.text or self._recognition is None:
            self._text.close()
            return
        now = time.monotonic()
        could_end_in_s = max(0.0, self._began_at + self.duration_s - now)
        patience_s = could_end_in_s + (0.0 if has_calls else TEXT_AFTER_PLAYOUT_S)
        self._deadline = asyncio.get_running_loop().call_later(patience_s, self._text.close)

    def close(self) -> None:
        """Let go of everything; the text is not awaited any more."""
        self.finish(cut=True, has_calls=False)
        self._text.close()
        if self._deadline is not None:
            self._deadline.cancel()

    def _recognized(self, text: str) -> None:
        self._recognition = None
        self.text = text
        if text and not self._text.closed:
            self._text.send_nowait(text)
        if self._audio.closed:
            self._text.close()
        if text:
            self._on_written(self)


class Generation:
    """A response that is presented to the framework, or a late part of one.

    The framework plays the messages one after another, runs functions as they come, and holds
    both back until the streams are closed. The channels are unbounded on purpose: for a response
    that nobody plays, nobody reads them.
    """

    def __init__(self, generation_id: str, open_message: Callable[[str], Message]) -> None:
        """Open the streams.

        Args:
            generation_id: the response's id, or that of a part; unique in the session.
            open_message: makes the message of an item's id.
        """
        self.id = generation_id
        self._open_message = open_message
        self._messages: utils.aio.Chan[llm.MessageGeneration] = utils.aio.Chan()
        self._functions: utils.aio.Chan[llm.FunctionCall] = utils.aio.Chan()
        self._by_item: dict[str, Message] = {}
        self._has_calls = False

    def created_event(self, *, user_initiated: bool) -> llm.GenerationCreatedEvent:
        """Return what the framework is told."""
        return llm.GenerationCreatedEvent(
            message_stream=self._messages,
            function_stream=self._functions,
            user_initiated=user_initiated,
            response_id=self.id,
        )

    def message(self, item_id: str) -> Message:
        """Return the message of an item, a new one if need be."""
        if item_id not in self._by_item:
            # One message plays at a time, so what came before is complete.
            for earlier in self._by_item.values():
                earlier.finish(cut=False, has_calls=self._has_calls)
            message = self._by_item[item_id] = self._open_message(item_id)
            self._messages.send_nowait(message.present())
        return self._by_item[item_id]

    def push_call(self, call: llm.FunctionCall) -> None:
        """Run a function."""
        self._has_calls = True
        self._functions.send_nowait(call)

    def finish(self, *, cut: bool) -> None:
        """Nothing more comes; texts may still be awaited."""
        for message in self._by_item.values():
            message.finish(cut=cut, has_calls=self._has_calls)
        self._messages.close()
        self._functions.close()
