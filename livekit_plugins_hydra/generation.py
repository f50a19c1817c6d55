"""The streams of one response, as LiveKit's framework plays them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from livekit import rtc
from livekit.agents import llm, utils

from .audio import FrameMaker


@dataclass(slots=True)
class Message:
    """A message of a response: what is heard, and the text of it."""

    id: str
    frames: FrameMaker
    audio: utils.aio.Chan[rtc.AudioFrame] = field(default_factory=utils.aio.Chan)
    text: utils.aio.Chan[str] = field(default_factory=utils.aio.Chan)
    phrases: list[str] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def transcript(self) -> str:
        """All of the text that has come."""
        return " ".join(self.phrases)

    def close(self) -> None:
        """End both streams; the framework waits for either."""
        self.audio.close()
        self.text.close()


class Generation:
    """A response that is presented to the framework, or a late part of one.

    The framework plays the messages one after another, runs functions as they come, and holds
    both back until the streams are closed. The channels are unbounded on purpose: for a response
    that nobody plays, nobody reads them.
    """

    def __init__(
        self, generation_id: str, *, rate_hz: int, message_id_for: Callable[[str], str]
    ) -> None:
        """Open the streams.

        Args:
            generation_id: the response's id, or that of a part; unique in the session.
            rate_hz: rate of the audio.
            message_id_for: makes an item's id unique in the session.
        """
        self.id = generation_id
        self._rate_hz = rate_hz
        self._message_id_for = message_id_for
        self._messages: utils.aio.Chan[llm.MessageGeneration] = utils.aio.Chan()
        self._functions: utils.aio.Chan[llm.FunctionCall] = utils.aio.Chan()
        self._by_item: dict[str, Message] = {}

    @property
    def messages(self) -> list[Message]:
        """The messages so far."""
        return list(self._by_item.values())

    def created_event(self, *, user_initiated: bool) -> llm.GenerationCreatedEvent:
        """Return what the framework is told."""
        return llm.GenerationCreatedEvent(
            message_stream=self._messages,
            function_stream=self._functions,
            user_initiated=user_initiated,
            response_id=self.id,
        )

    def push_audio(self, item_id: str, pcm: bytes) -> None:
        """Play sound."""
        message = self._by_item.get(item_id) or self._open_message(item_id)
        frame = message.frames.push(pcm)
        if frame is not None:
            message.duration_s += frame.duration
            message.audio.send_nowait(frame)

    def push_text(self, item_id: str, phrase: str) -> None:
        """Write down a phrase; the wire leaves out the spaces between them."""
        message = self._by_item.get(item_id) or self._open_message(item_id)
        phrase = phrase.strip()
        if phrase:
            message.text.send_nowait(f" {phrase}" if message.phrases else phrase)
            message.phrases.append(phrase)

    def push_call(self, call: llm.FunctionCall) -> None:
        """Run a function."""
        self._functions.send_nowait(call)

    def close(self) -> None:
        """End all streams."""
        for message in self._by_item.values():
            message.close()
        self._messages.close()
        self._functions.close()

    def _open_message(self, item_id: str) -> Message:
        # One message plays at a time, so what came before is complete.
        for earlier in self._by_item.values():
            earlier.close()
        message = Message(self._message_id_for(item_id or f"{self.id}-message"), self._new_frames())
        self._by_item[item_id] = message
        modalities: asyncio.Future[list[Literal["text", "audio"]]] = asyncio.Future()
        modalities.set_result(["audio", "text"])
        self._messages.send_nowait(
            llm.MessageGeneration(
                message_id=message.id,
                text_stream=message.text,
                audio_stream=message.audio,
                modalities=modalities,
            )
        )
        return message

    def _new_frames(self) -> FrameMaker:
        return FrameMaker(self._rate_hz)
