"""What the emulated model says and which functions it calls, and what it knows when it answers.

A reply is a piece, or a sequence of pieces, played in order::

    Reply = Say(text="One moment.")
    Reply = [Say(wav="one_moment.wav"), Call("weather", {"city": "Pune"})]
    Reply = []                              # a response without anything in it
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import soxr

from livekit_plugins_hydra.protocol import events

_TONE_AMPLITUDE: Final = 0.2
"""Peak of a tone relative to full scale: -17 dBFS, about as loud as speech."""

_FADE_S: Final = 0.005
"""Tones begin and end softly, so that nothing clicks when people listen."""

_ARGUMENTS_DELTA_CHARS: Final = 12
"""How much of a function call's arguments one delta carries: a few tokens."""


def require_amounts(**amounts: float) -> None:
    """Check that each is a number of 0 or more.

    Raises:
        ValueError: one isn't; the text names it.
    """
    for name, amount in amounts.items():
        if not 0 <= amount < math.inf:
            raise ValueError(f"{name} = {amount} can't be: it takes 0 or more")


@dataclass(frozen=True, kw_only=True)
class Say:
    """Speech: PCM, a wav file or, without either, a tone."""

    pcm: bytes | None = None
    """int16 little-endian mono at the session's output rate, sent as it is."""

    wav: str | os.PathLike[str] | None = None
    """A 16-bit wav file of any rate and channel count; brought to the output rate, mono."""

    tone_hz: float = 440.0
    """Frequency of the tone."""

    duration_s: float = 2.0
    """Length of the tone."""

    text: str | None = None
    """What is said, for the scenarios that send transcripts."""

    def __post_init__(self) -> None:
        if self.pcm is not None and self.wav is not None:
            raise ValueError("Say takes pcm= or wav=, not both")
        require_amounts(tone_hz=self.tone_hz, duration_s=self.duration_s)

    def sound(self, rate_hz: int) -> bytes:
        """Return int16 mono PCM at `rate_hz`."""
        if self.pcm is not None:
            return self.pcm
        if self.wav is not None:
            written_ns = os.stat(self.wav).st_mtime_ns  # so that a new recording is read again
            return _wav_at(os.fspath(self.wav), rate_hz, written_ns)
        return _tone(self.tone_hz, self.duration_s, rate_hz)


@dataclass(frozen=True)
class Call:
    """A function call."""

    name: str
    """The function."""

    arguments: str | Mapping[str, Any] | None = None
    """Its arguments: a mapping becomes JSON, text is sent as it is, None is an empty object."""

    call_id: str | None = None
    """None: minted by the server, unique over all connections of an emulator."""

    delta_s: float = 0.0
    """Seconds between two deltas of the arguments."""

    def __post_init__(self) -> None:
        require_amounts(delta_s=self.delta_s)

    @property
    def json(self) -> str:
        """The arguments as the wire carries them."""
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(dict(self.arguments or {}), ensure_ascii=False)

    @property
    def deltas(self) -> list[str]:
        """The arguments in pieces, never none: the first delta carries the name."""
        text = self.json
        step = _ARGUMENTS_DELTA_CHARS
        return [text[i : i + step] for i in range(0, len(text), step)] or [""]


@dataclass(frozen=True)
class Wait:
    """Nothing for a while: a model that stalls in the middle of its response."""

    duration_s: float

    def __post_init__(self) -> None:
        require_amounts(wait=self.duration_s)


@dataclass(frozen=True)
class End:
    """Ends the response here with another status than ``completed``."""

    status: Literal["incomplete", "failed", "completed", "cancelled"] = "incomplete"
    reason: str | None = "max_output_tokens"
    error_code: str | None = None


Piece: TypeAlias = Say | Call | Wait | End
Reply: TypeAlias = Piece | Sequence[Piece]


@dataclass(frozen=True, kw_only=True)
class UserTurn:
    """Something that the user said."""

    number: int
    """From 1, counted per connection, discarded turns too."""

    item_id: str
    audio_start_ms: int
    """Where it begins in the audio of the connection since `session.configured`."""

    audio_end_ms: int
    speech_ms: int
    """How much of it is speech, without the gaps."""

    pcm: bytes
    """Its audio, int16 mono 16 kHz, with up to 200 ms before it."""

    @property
    def duration_s(self) -> float:
        """From the beginning of the speech to its end, in seconds."""
        return (self.audio_end_ms - self.audio_start_ms) / 1000


@dataclass(frozen=True, kw_only=True)
class ToolOutput:
    """A function call that the client has answered."""

    call_id: str
    name: str
    arguments: str
    output: str


Trigger: TypeAlias = Literal[
    "greeting", "user_turn", "tool_outputs", "text", "bare_create", "unasked"
]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the model knows when it has to answer."""

    trigger: Trigger
    """Why it answers.

    ``greeting``: `generate_initial_response`. ``user_turn``: the user has spoken.
    ``tool_outputs``, ``text``, ``bare_create``: a `response.create` after outputs, after message
    items, after neither. ``unasked``: the test wanted it.
    """

    turn: UserTurn | None = None
    """What the user said, for ``user_turn``."""

    outputs: tuple[ToolOutput, ...] = ()
    """The outputs that no response has taken up yet, whatever the trigger is."""

    texts: tuple[events.Item, ...] = ()
    """The message items that no response has taken up yet."""

    instructions: str = ""
    tools: tuple[events.Tool, ...] = ()
    """The functions that the model may call now."""

    model: str = ""
    voice: str = ""
    response_number: int = 1
    """From 1, over all connections."""

    connection_number: int = 1
    """From 1."""

    @property
    def text(self) -> str:
        """The words of all `texts`."""
        return " ".join(item.text for item in self.texts)


Script: TypeAlias = Sequence[Reply] | Callable[[Context], Reply]


def pieces_of(reply: Reply) -> tuple[Piece, ...]:
    """Return the pieces of `reply`.

    Raises:
        TypeError: something else is among them.
    """
    pieces = (reply,) if isinstance(reply, Say | Call | Wait | End) else tuple(reply)
    for piece in pieces:
        if not isinstance(piece, Say | Call | Wait | End):
            raise TypeError(f"a reply is made of Say, Call, Wait and End, not of {piece!r}")
    return pieces


TranscriptDeltas: TypeAlias = Literal["phrases", "spaced_phrases", "tokens"]

_PIECE_OF_TEXT: Final[Mapping[TranscriptDeltas, str]] = {
    "phrases": r"\S+(?: \S+){0,2}",
    "spaced_phrases": r" ?\S+(?: \S+){0,2}",
    "tokens": r" ?\w{1,4}| ?[^\w\s]",
}
"""Up to three words, or up to four letters of one."""


def cut_text(text: str, kind: TranscriptDeltas, *, goes_on: bool) -> list[str]:
    """Return `text` in pieces, as transcript deltas carry it.

    Args:
        text: what is said.
        kind: where it is cut, and whether the pieces have the spaces between them.
        goes_on: whether text of the same response comes before it.
    """
    return re.findall(_PIECE_OF_TEXT[kind], " " * goes_on + " ".join(text.split()))


@functools.lru_cache(maxsize=64)
def _tone(frequency_hz: float, duration_s: float, rate_hz: int) -> bytes:
    seconds = np.arange(round(duration_s * rate_hz)) / rate_hz
    fade = np.minimum(1.0, np.minimum(seconds, seconds[::-1]) / _FADE_S)
    wave_ = _TONE_AMPLITUDE * 32767 * fade * np.sin(2 * np.pi * frequency_hz * seconds)
    return wave_.astype("<i2").tobytes()


@functools.lru_cache(maxsize=64)
def _wav_at(path: str, rate_hz: int, _written_ns: int) -> bytes:
    with wave.open(path, "rb") as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{os.path.basename(path)} has no 16-bit samples")
        n_channels, source_hz = file.getnchannels(), file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    mono = samples.reshape(-1, n_channels).mean(axis=1)
    if source_hz != rate_hz:
        mono = np.asarray(soxr.resample(mono, source_hz, rate_hz))
    pcm: bytes = np.clip(np.rint(mono), -32768, 32767).astype("<i2").tobytes()
    return pcm
