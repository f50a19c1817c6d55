"""Transcribing what was said, with any STT of LiveKit's; for either side of a call.

Hydra sends no transcripts, or few. An STT that streams gets the audio as it comes, any other the
whole of it at the end. It never holds anything up: audio, turns and functions go on without it,
and one that fails or dawdles gives no text, with one warning.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from livekit import rtc
from livekit.agents import APIConnectOptions, stt, utils
from livekit.agents.metrics import STTMetrics

from livekit_plugins_hydra.log import logger, warn_once

from .audio import is_quiet

PATIENCE_S: Final = 10.0
"""Longest wait for the text of a stretch of speech after its end. Our choice."""

_CLOSE_BUDGET_S: Final = 0.5
"""How long an STT may take to let go when the call is closed."""

_ONE_TRY: Final = APIConnectOptions(max_retry=0)
"""LiveKit would warn of each attempt, and a stream would not get again what it has missed."""

_WORKS_FOR: Final[ContextVar[object]] = ContextVar("hydra_works_for", default=None)
"""The `Recognition` for which something is done: one STT may have to do with many calls."""


class Recognized(NamedTuple):
    """A transcript."""

    text: str
    confidence: float | None = None
    """From 0 to 1; None where the STT says nothing of it."""


OnText = Callable[[Recognized], None]
OnGuess = Callable[[str], None]
OnMetrics = Callable[[stt.STT[Any], STTMetrics], None]


class Recognition:
    """The transcript of one stretch of speech, as it comes about; `Transcriber.begin` makes one."""

    def __init__(self, on_text: OnText, on_guess: OnGuess | None) -> None:
        self.ended = asyncio.Event()
        """Set when nothing more is said."""
        self.task: asyncio.Task[None] | None = None
        self.sure = Recognized("")
        """The beginning of the text that will not change any more, where the STT tells."""
        self._on_text: OnText | None = on_text
        self._on_guess = on_guess
        self._frames: list[rtc.AudioFrame] = []
        self._n_read = 0
        self.was_misread = False
        """Whether a stream was given speech that turned out to be of another stretch."""
        self._has_grown = asyncio.Event()

    def push(self, frame: rtc.AudioFrame) -> None:
        """Take a piece of audio: mono, any rate, the same throughout."""
        if not self.ended.is_set():
            self._frames.append(frame)
            self._has_grown.set()

    def before(self, n_newest: int) -> list[rtc.AudioFrame]:
        """Return what was pushed, without so many of the newest frames."""
        return self._frames[: max(0, len(self._frames) - n_newest)]

    def end(self, n_too_many: int = 0) -> None:
        """Nothing more is said; the text comes by `on_text`, if there is any.

        Args:
            n_too_many: how many of the newest frames belong to another stretch.
        """
        if self.ended.is_set():
            return
        frames, self._frames = self._frames, self.before(n_too_many)
        misread = frames[len(self._frames) : self._n_read]
        self.was_misread = not all(is_quiet(bytes(frame.data)) for frame in misread)
        self.ended.set()
        self._has_grown.set()

    def drop(self) -> None:
        """The text is not wanted any more, and does not come."""
        self.end()
        self._on_text = self._on_guess = None
        if self.task is not None:
            self.task.cancel()

    async def frames(self) -> AsyncIterator[rtc.AudioFrame]:
        """Give all that is said, from its beginning; for one reader at a time."""
        self._n_read = 0
        while True:
            while self._n_read < len(self._frames):
                self._n_read += 1
                yield self._frames[self._n_read - 1]
            if self.ended.is_set():
                return
            self._has_grown.clear()
            await self._has_grown.wait()

    def guess(self, text: str) -> None:
        """Tell what the text looks like so far."""
        if self._on_guess is not None and text:
            self._on_guess(text)

    def settle(self, recognized: Recognized) -> None:
        """Tell the text."""
        if self._on_text is not None:
            text = " ".join(recognized.text.split())
            self._on_text(Recognized(text, recognized.confidence))


class Transcriber:
    """One side's STT."""

    def __init__(
        self, engine: stt.STT[Any], *, side: str, warned: set[str], on_metrics: OnMetrics
    ) -> None:
        """Use an STT, which stays its owner's to close.

        Args:
            engine: any STT.
            side: whose words it transcribes, for warnings: "user" or "agent".
            warned: of what was warned already.
            on_metrics: called with what the STT measures of its work for this side.
        """
        self._engine = engine
        self._side = side
        self._warned = warned
        self._on_metrics = on_metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, on_text: OnText, on_guess: OnGuess | None = None) -> Recognition:
        """Begin to listen to one stretch of speech.

        Args:
            on_text: called once with the text, empty where there is none; never after `drop`.
            on_guess: called with what the text looks like so far, where the STT tells.
        """
        recognition = Recognition(on_text, on_guess)
        task = asyncio.get_running_loop().create_task(self._transcribe(recognition))
        recognition.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return recognition

    async def aclose(self) -> None:
        """Stop transcribing."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_BUDGET_S)

    async def _transcribe(self, recognition: Recognition) -> None:
        """See to it that the text is told, whatever the STT does."""
        _WORKS_FOR.set(recognition)  # in this task, and in all that begin in it
        loop = asyncio.get_running_loop()

        def measured(metrics: STTMetrics) -> None:
            if _WORKS_FOR.get() is recognition:
                self._on_metrics(self._engine, metrics)

        self._engine.on("metrics_collected", measured)
        reading = loop.create_task(self._read(recognition))
        try:
            await recognition.ended.wait()
            if recognition.was_misread:  # what a stream was given can't be taken back
                await utils.aio.cancel_and_wait(reading)
                recognition.sure = Recognized("")
                reading = loop.create_task(self._read(recognition))
            await asyncio.wait([reading], timeout=PATIENCE_S)
            if reading.cancelled():  # by the STT itself
                self._warn("was cancelled")
                recognition.settle(recognition.sure)
            elif reading.done():
                recognition.settle(reading.result())
            else:
                self._warn(f"took more than {PATIENCE_S:g} s")
                recognition.settle(recognition.sure)
        except Exception:
            logger.exception("a bug: a text could not be told")
        finally:
            await utils.aio.cancel_and_wait(reading)
            self._engine.off("metrics_collected", measured)

    async def _read(self, recognition: Recognition) -> Recognized:
        """Return the text; empty where the STT has failed twice: once may be a stale socket."""
        read = self._read_stream if self._engine.capabilities.streaming else self._read_whole
        try:
            return await read(recognition)
        except Exception as error:
            name = type(error).__name__
            logger.debug("the STT for the %s's words: %s; trying again", self._side, name)
        try:
            return await read(recognition)
        except Exception as error:
            self._warn(f"has failed ({type(error).__name__})")
            return Recognized("")

    async def _read_whole(self, recognition: Recognition) -> Recognized:
        await recognition.ended.wait()
        frames = recognition.before(0)
        if not frames:
            return Recognized("")
        event = await self._engine.recognize(frames, conn_options=_ONE_TRY)
        return _joined(event.alternatives[:1])

    async def _read_stream(self, recognition: Recognition) -> Recognized:
        finals: list[stt.SpeechData] = []
        async with self._engine.stream(conn_options=_ONE_TRY) as stream:
            feeding = asyncio.get_running_loop().create_task(_feed(recognition, stream))
            try:
                async for event in stream:
                    best = event.alternatives[:1]
                    if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT:
                        finals += best
                        recognition.sure = _joined(finals)
                        recognition.guess(recognition.sure.text)
                    elif event.type is stt.SpeechEventType.INTERIM_TRANSCRIPT:
                        recognition.guess(_joined([*finals, *best]).text)
            finally:
                await utils.aio.cancel_and_wait(feeding)
        return _joined(finals)

    def _warn(self, what: str) -> None:
        sentence = f"the STT for the {self._side}'s words {what}; the call goes on without them"
        warn_once(self._warned, sentence)


def _joined(pieces: Sequence[stt.SpeechData]) -> Recognized:
    """Return pieces as one; LiveKit's default for the confidence, 0, is none."""
    scores = [piece.confidence for piece in pieces if piece.confidence]
    confidence = sum(scores) / len(scores) if scores else None
    return Recognized(" ".join(piece.text for piece in pieces), confidence)


async def _feed(recognition: Recognition, stream: stt.RecognizeStream) -> None:
    async for frame in recognition.frames():
        stream.push_frame(frame)
    stream.end_input()
