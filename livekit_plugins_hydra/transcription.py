"""Writing down what was said, with any STT of LiveKit's; for either side of a call.

Hydra sends no transcripts, or few. An STT that streams gets the sound as it comes, any other the
whole of it at the end. It never holds anything up: sound, turns and functions go on without it,
and one that fails or dawdles gives no text, with one warning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from livekit import rtc
from livekit.agents import stt, utils

from .log import logger

PATIENCE_S: Final = 10.0
"""Longest wait for the text of a stretch of speech after its end. Our choice."""

OnText = Callable[[str], None]


class Recognition:
    """The writing down of one stretch of speech; `Transcriber.begin` makes one."""

    def __init__(self, *, on_text: OnText, on_guess: OnText | None) -> None:
        self.frames: utils.aio.Chan[rtc.AudioFrame] = utils.aio.Chan()
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._on_text = on_text
        self._on_guess = on_guess

    def push(self, frame: rtc.AudioFrame) -> None:
        """Listen to a piece of sound: mono, any rate, the same throughout."""
        if not self.ended.is_set():
            self.frames.send_nowait(frame)

    def end(self) -> None:
        """Nothing more is said; the text comes by `on_text`, if there is any."""
        self.frames.close()
        self.ended.set()

    def drop(self) -> None:
        """The text is not wanted any more, and does not come."""
        self.end()
        if self.task is not None:
            self.task.cancel()

    def guess(self, text: str) -> None:
        """Tell what the text looks like so far."""
        if self._on_guess is not None and text:
            self._on_guess(text)

    def settle(self, text: str) -> None:
        """Tell the text."""
        self._on_text(" ".join(text.split()))


class Transcriber:
    """One side's STT."""

    def __init__(self, engine: stt.STT[Any], *, side: str) -> None:
        """Use an STT, which stays its owner's to close.

        Args:
            engine: any STT.
            side: whose words it writes down, for warnings: "user" or "agent".
        """
        self._engine = engine
        self._side = side
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_warned = False

    def begin(self, on_text: OnText, on_guess: OnText | None = None) -> Recognition:
        """Begin to listen to one stretch of speech.

        Args:
            on_text: called once with the text, empty where there is none; never after `drop`.
            on_guess: called with what the text looks like so far, where the STT tells.
        """
        recognition = Recognition(on_text=on_text, on_guess=on_guess)
        task = asyncio.get_running_loop().create_task(self._write(recognition))
        recognition.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return recognition

    async def aclose(self) -> None:
        """Stop writing."""
        await utils.aio.cancel_and_wait(*self._tasks)

    async def _write(self, recognition: Recognition) -> None:
        """See to it that the text is told, whatever the STT does."""
        loop = asyncio.get_running_loop()
        streams = self._engine.capabilities.streaming
        work = loop.create_task(
            self._stream(recognition) if streams else self._recognize(recognition)
        )
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        text = ""
        try:
            await recognition.ended.wait()
            async with asyncio.timeout(PATIENCE_S):
                text = await work
        except TimeoutError:
            self._warn(f"took more than {PATIENCE_S:g} s")
        except Exception as error:
            self._warn(f"failed ({type(error).__name__})")
        finally:
            await utils.aio.cancel_and_wait(work)
        recognition.settle(text)

    async def _recognize(self, recognition: Recognition) -> str:
        frames = [frame async for frame in recognition.frames]
        if not frames:
            return ""
        event = await self._engine.recognize(frames)
        return event.alternatives[0].text if event.alternatives else ""

    async def _stream(self, recognition: Recognition) -> str:
        finals: list[str] = []
        async with self._engine.stream() as stream:
            feeder = asyncio.get_running_loop().create_task(_feed(recognition, stream))
            try:
                async for event in stream:
                    text = event.alternatives[0].text if event.alternatives else ""
                    if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT and text:
                        finals.append(text)
                        recognition.guess(" ".join(finals))
                    elif event.type is stt.SpeechEventType.INTERIM_TRANSCRIPT:
                        recognition.guess(" ".join([*finals, text]))
            finally:
                await utils.aio.cancel_and_wait(feeder)
        return " ".join(finals)

    def _warn(self, what: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "the STT for the %s's words %s; the call goes on without them", self._side, what
            )


async def _feed(recognition: Recognition, stream: stt.RecognizeStream) -> None:
    async for frame in recognition.frames:
        stream.push_frame(frame)
    stream.end_input()
