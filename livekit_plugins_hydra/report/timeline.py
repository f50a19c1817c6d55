"""What happened in a call, as one looks at it: spans, marks, turns, captions, latencies.

The definitions, so that numbers can be compared:

* A turn's *end of speech* is the end of the user's last loud audio before the server said that the
  turn had ended; loud is what comes near the turn's peak. A log without peaks (another tool's) has
  the time of `speech_stopped` instead.
* *Voice to voice* is from there to the first audio of the answer, as it comes in. Playing adds a
  few milliseconds, in a room the network's too.
* A turn with function calls counts apart, as in the vendor's benchmark: its voice to voice is from
  the end of speech to the first audio after the last output, which is what the user waits for.
* The agent's audio comes ten times faster than real time: it is laid end to end, as it is played.

Source of the two figures: the vendor's benchmark (864 ms median without tools, 1624 ms mean with).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["speech", "discarded", "voice", "response", "cancelled", "tool", "connection"]
MarkKind = Literal["interruption", "error", "warning", "reconnect"]


@dataclass(slots=True)
class Span:
    """Something that lasts."""

    kind: Kind
    begin_s: float
    end_s: float
    label: str
    detail: str = ""


@dataclass(slots=True)
class Mark:
    """Something that happens at once."""

    kind: MarkKind
    at_s: float
    label: str


@dataclass(slots=True)
class Caption:
    """What somebody said without a pause, where the wire has the words."""

    who: Literal["user", "agent"]
    begin_s: float
    phrases: list[tuple[float, str]]
    """When each phrase begins, and what it is, with the space before it."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(text for _, text in self.phrases).strip()


@dataclass(slots=True)
class ToolCalls:
    """Function calls that were answered together."""

    names: list[str]
    called_s: float
    """When the first call was complete."""
    answered_s: float | None = None
    """When the last output went out."""


@dataclass(slots=True)
class Exchange:
    """What the agent answers, and when: the user's words, or a request of this side."""

    number: int
    kind: Literal["greeting", "speech", "request"]
    begin_s: float
    """When the user begins to speak, or the request is sent."""
    end_s: float
    """The end of speech, or the sending of the request."""
    is_measured: bool = True
    """Whether `end_s` was found in the audio; otherwise it is the time of `speech_stopped`."""
    noticed_s: float | None = None
    """When the server said that the speech had ended."""
    created_s: float | None = None
    """When the first response began."""
    first_audio_s: float | None = None
    """When the first audio came, of whatever response."""
    answer_audio_s: float | None = None
    """When the first audio after the last function output came; for turns without, the first."""
    tools: list[ToolCalls] = field(default_factory=list)
    is_barge_in: bool = False
    """Whether the user spoke over the agent."""
    is_discarded: bool = False
    """Whether the server decided that it was no speech."""

    @property
    def voice_to_voice_s(self) -> float | None:
        """From the end of speech to the first audio of the answer."""
        return None if self.answer_audio_s is None else max(0.0, self.answer_audio_s - self.end_s)

    @property
    def segments(self) -> list[tuple[str, float]]:
        """Where the time went, in seconds; the names are those of the chart's legend."""
        steps: list[tuple[str, float | None]] = [
            ("turn detection", self.noticed_s),
            ("thinking", self.tools[0].called_s if self.tools else self.created_s),
        ]
        for number, each in enumerate(self.tools):
            if number:
                steps.append(("thinking", each.called_s))
            steps.append(("tools", each.answered_s))
        steps.append(("first audio", self.answer_audio_s))
        parts: list[tuple[str, float]] = []
        at_s = self.end_s
        for name, until_s in steps:
            if until_s is not None and until_s > at_s:
                parts.append((name, until_s - at_s))
                at_s = until_s
        return parts


@dataclass(slots=True)
class Piece:
    """A piece of audio: when it begins, how long it is, how loud."""

    begin_s: float
    duration_s: float
    peak: float

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self.begin_s + self.duration_s


@dataclass(slots=True)
class Timeline:
    """A call."""

    began: str
    """Wall clock when the call began to connect: ISO 8601, UTC."""
    duration_s: float
    spans: list[Span]
    marks: list[Mark]
    exchanges: list[Exchange]
    captions: list[Caption]
    user_audio: list[Piece]
    """The user's audio as it was sent."""
    agent_audio: list[Piece]
    """The agent's audio as it can have been played."""
    n_reconnects: int
    """How many connections were opened after one that was ready."""
    about: dict[str, Any]
    """Model, voice, output rate, session ids, instructions and tools."""

    def latencies_s(self, *, with_tools: bool) -> list[float]:
        """Return voice to voice of the user's turns, with tools or without."""
        return [
            exchange.voice_to_voice_s
            for exchange in self.exchanges
            if exchange.kind == "speech"
            and exchange.voice_to_voice_s is not None
            and bool(exchange.tools) == with_tools
        ]

    def summary(self) -> dict[str, Any]:
        """Return the figures that one compares."""
        figures: dict[str, Any] = {"reconnects": self.n_reconnects}
        for name, with_tools in (("plain", False), ("tools", True)):
            found = self.latencies_s(with_tools=with_tools)
            figures[name] = {
                "count": len(found),
                "median_s": statistics.median(found) if found else None,
                "mean_s": statistics.fmean(found) if found else None,
                "max_s": max(found, default=None),
            }
        return figures
