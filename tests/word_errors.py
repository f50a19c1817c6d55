"""How well a real recogniser writes a call down: a whole call of recorded speech, and its errors.

    python -m tests.word_errors

The recogniser is pocketsphinx, because it needs neither a network nor a key: its model of general
English comes with the wheel. It is a weak one, and the speech is espeak's: what is shown here is
that the right sound reaches an STT and that its text reaches the history, not how well an STT can
do. The same recordings, given to the recogniser directly, are what the call is compared to.
"""

from __future__ import annotations

import asyncio
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from livekit import rtc
from livekit.agents import NOT_GIVEN, Agent, APIConnectOptions, LanguageCode, NotGivenOr, stt
from livekit.agents.utils import AudioBuffer

from livekit_plugins_hydra.testing import Microphone, Samples, Say, Scenario

from .calls import call

SPEECH: Final = Path(__file__).parent.parent / "examples" / "speech"
RATE_HZ: Final = 16_000
TALK: Final = [
    ("user-question", "agent-greeting"),
    ("user-barge-in", "agent-reaction"),
    ("user-goodbye", "agent-goodbye"),
]
"""What is said, turn by turn."""

_STEP: Final = RATE_HZ // 10


class Pocketsphinx(stt.STT[str]):
    """pocketsphinx as one of LiveKit's STTs, for whole turns."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=RATE_HZ, logfn="/dev/null")
        self._free = asyncio.Lock()

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        text = await self.read(samples_of(buffer if isinstance(buffer, list) else [buffer]))
        data = stt.SpeechData(language=LanguageCode("en"), text=text)
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[data])

    async def read(self, samples: Samples) -> str:
        """Return the words in int16 mono 16 kHz; the event loop has its turns meanwhile."""
        async with self._free:
            self._decoder.start_utt()
            for start in range(0, len(samples), _STEP):
                self._decoder.process_raw(samples[start : start + _STEP].tobytes())
                await asyncio.sleep(0)
            self._decoder.end_utt()
            best = self._decoder.hyp()
            return str(best.hypstr) if best else ""


def samples_of(frames: list[rtc.AudioFrame]) -> Samples:
    """Return frames of any rate as int16 mono 16 kHz."""
    samples = np.concatenate([np.frombuffer(frame.data, dtype=np.int16) for frame in frames])
    return _at_16_khz(samples, frames[0].sample_rate)


def recorded(name: str) -> Samples:
    """Return one of the demo's recordings: int16 mono 16 kHz."""
    with wave.open(str(SPEECH / f"{name}.wav"), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
        return _at_16_khz(samples, file.getframerate())


def _at_16_khz(samples: Samples, rate_hz: int) -> Samples:
    resampled: Samples = samples
    if rate_hz != RATE_HZ:
        resampled = np.asarray(soxr.resample(samples, rate_hz, RATE_HZ), dtype=np.int16)
    return resampled


def written(name: str) -> str:
    """Return what is said in a recording."""
    return (SPEECH / f"{name}.txt").read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class Errors:
    """What is wrong with a text."""

    n_wrong: int
    """Words that are missing, too many or others."""
    n_words: int
    """Words that were said."""

    @property
    def rate(self) -> float:
        """Wrong words for each word that was said."""
        return self.n_wrong / self.n_words


def errors_in(text: str, said: str) -> Errors:
    """Compare a text with what was said, by the edit distance of their words."""
    was, is_ = _words(said), _words(text)
    row = list(range(len(is_) + 1))
    for i, word in enumerate(was, 1):
        above, row = row, [i]
        for j, other in enumerate(is_, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return Errors(row[-1], len(was))


def _words(text: str) -> list[str]:
    letters = (letter if letter.isalnum() or letter in "' " else " " for letter in text.lower())
    return "".join(letters).split()


async def hold_call(engine: Pocketsphinx, talk: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Hold a call of recordings; return who said what, by the session's history."""
    replies = [Say(wav=SPEECH / f"{answer}.wav") for _, answer in talk]
    async with call(
        Scenario(replies=replies, silence_ms=700),
        Agent(instructions=""),
        microphone=Microphone(rate_hz=RATE_HZ),
        input_stt=engine,
        output_stt=engine,
    ) as desk:
        for number, (question, _) in enumerate(talk, 1):
            await desk.say(recorded(question))
            await desk.until_heard(number)
            await desk.until_state("listening")
        await desk.until(lambda: len(desk.remembered) == 2 * len(talk))
        return desk.remembered


async def main() -> None:
    """Print the words that were wrong in the call, and without a call."""
    engine = Pocketsphinx()
    names = [name for turn in TALK for name in turn]
    texts = [text for _, text in await hold_call(engine, TALK)]
    in_call, alone = [], []
    for name, text in zip(names, texts, strict=True):
        direct = await engine.read(recorded(name))
        in_call.append(errors_in(text, written(name)))
        alone.append(errors_in(direct, written(name)))
        print(f"{name}: {in_call[-1].rate:.0%} in the call, {alone[-1].rate:.0%} without")
        print(f"  said   {written(name)}\n  call   {text}\n  alone  {direct}")
    for what, errors in (("in the call", in_call), ("without", alone)):
        n_wrong = sum(each.n_wrong for each in errors)
        n_words = sum(each.n_words for each in errors)
        print(f"word error rate {what}: {n_wrong / n_words:.0%} ({n_wrong} of {n_words} words)")


if __name__ == "__main__":
    asyncio.run(main())
