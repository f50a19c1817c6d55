"""Speech recognisers for tests: they really listen, to tones instead of words.

`Vocabulary` says which words a tone of a frequency stands for. What is recognised depends on the
sound that came: a tone that was pushed by halves gives half of its words, one that was pushed
twice gives them twice, and one that was not pushed at all gives none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import numpy as np
from livekit import rtc
from livekit.agents import (
    NOT_GIVEN,
    APIConnectionError,
    APIConnectOptions,
    LanguageCode,
    NotGivenOr,
    stt,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.utils import AudioBuffer

from livekit_plugins_hydra.testing import Samples

_WINDOW_S: Final = 0.05
_LEVEL: Final = 500.0
_STEP_HZ: Final = 10
_TOLERANCE_HZ: Final = 20.0


class Vocabulary:
    """Which words are spoken by a tone, and how long they take."""

    def __init__(self, words: Mapping[float, tuple[str, float]]) -> None:
        """Take for each frequency in hertz the words and their length in seconds."""
        self._words = dict(words)

    def read(self, samples: Samples, rate_hz: int) -> str:
        """Return the words of int16 mono sound."""
        said: list[str] = []
        for hz, seconds in self._tones(samples, rate_hz):
            text, full_s = self._words[hz]
            words = text.split()
            share = min(1.0, (seconds + _WINDOW_S) / full_s)
            said += words[: int(len(words) * share)]
        return " ".join(said)

    def _tones(self, samples: Samples, rate_hz: int) -> list[tuple[float, float]]:
        """Return which tones there are and how many seconds each lasts, in order."""
        n_window = int(_WINDOW_S * rate_hz)
        tones: list[tuple[float, float]] = []
        ends_at = 0
        for start in range(0, len(samples) - n_window + 1, n_window):
            hz = self._tone_of(samples[start : start + n_window], rate_hz)
            if hz is None:
                continue
            if tones and tones[-1][0] == hz and start == ends_at:
                tones[-1] = (hz, tones[-1][1] + _WINDOW_S)
            else:
                tones.append((hz, _WINDOW_S))
            ends_at = start + n_window
        return tones

    def _tone_of(self, window: Samples, rate_hz: int) -> float | None:
        sound = window.astype(np.float64)
        if np.sqrt(np.mean(sound**2)) < _LEVEL:
            return None
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), n=rate_hz // _STEP_HZ))
        hz = float(np.argmax(spectrum)) * _STEP_HZ
        near = min(self._words, key=lambda known: abs(known - hz))
        return near if abs(near - hz) <= _TOLERANCE_HZ else None


class ToneSTT(stt.STT[str]):
    """Recognises tones."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        streaming: bool = False,
        delay_s: float = 0.0,
        fails: int = 0,
        confidence: float = 0.0,
    ) -> None:
        """Prepare a recogniser.

        Args:
            vocabulary: what it knows.
            streaming: whether it streams, with interim results, or takes whole turns.
            delay_s: what it takes from the end of the sound to the text.
            fails: how many of its attempts fail first.
            confidence: of all that it transcribes; 0 where it says nothing of that.
        """
        super().__init__(
            capabilities=stt.STTCapabilities(streaming=streaming, interim_results=streaming)
        )
        self.vocabulary = vocabulary
        self.delay_s = delay_s
        self.fails = fails
        self.confidence = confidence
        self.heard_s: list[float] = []
        """How much sound each attempt got, in seconds."""

    def attempt(self, seconds: float) -> None:
        """Note an attempt, and fail if it is time to."""
        self.heard_s.append(seconds)
        if self.fails:
            self.fails -= 1
            raise APIConnectionError("the line is down", retryable=True)

    def text_of(self, frames: list[rtc.AudioFrame]) -> str:
        """Return the words in frames."""
        if not frames:
            return ""
        pcm = b"".join(bytes(frame.data) for frame in frames)
        return self.vocabulary.read(np.frombuffer(pcm, dtype=np.int16), frames[0].sample_rate)

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        frames = buffer if isinstance(buffer, list) else [buffer]
        self.attempt(sum(frame.duration for frame in frames))
        await asyncio.sleep(self.delay_s)
        kind = stt.SpeechEventType.FINAL_TRANSCRIPT
        return event(kind, self.text_of(frames), self.confidence)

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Listen to sound as it comes."""
        return _ToneStream(self, conn_options)


class _ToneStream(stt.RecognizeStream):
    def __init__(self, owner: ToneSTT, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=owner, conn_options=conn_options)
        self._owner = owner

    async def _run(self) -> None:
        frames: list[rtc.AudioFrame] = []
        guess = ""
        async for piece in self._input_ch:
            if not isinstance(piece, rtc.AudioFrame):
                continue
            frames.append(piece)
            if self._owner.fails and len(frames) > 3:
                self._owner.attempt(sum(frame.duration for frame in frames))
            if len(frames) % 10 == 0 and guess != (guess := self._owner.text_of(frames)):
                self._tell(stt.SpeechEventType.INTERIM_TRANSCRIPT, guess)
        seconds = sum(frame.duration for frame in frames)
        self._owner.attempt(seconds)
        usage = stt.RecognitionUsage(audio_duration=seconds)
        used = stt.SpeechEvent(stt.SpeechEventType.RECOGNITION_USAGE, recognition_usage=usage)
        self._event_ch.send_nowait(used)
        await asyncio.sleep(self._owner.delay_s)
        if text := self._owner.text_of(frames):
            self._tell(stt.SpeechEventType.FINAL_TRANSCRIPT, text)

    def _tell(self, kind: stt.SpeechEventType, text: str) -> None:
        self._event_ch.send_nowait(event(kind, text, self._owner.confidence))


def event(kind: stt.SpeechEventType, text: str, confidence: float = 0.0) -> stt.SpeechEvent:
    """Return what an STT says of some speech."""
    data = stt.SpeechData(language=LanguageCode("en"), text=text, confidence=confidence)
    return stt.SpeechEvent(type=kind, alternatives=[data])
