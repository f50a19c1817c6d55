"""Makes the spans of a timeline: the user's speech, responses, the agent's voice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from .counting import counted
from .timeline import Exchange, Kind, Piece, Span

_PAUSE_S: Final = 0.25
"""Silence of the agent that is longer than this ends a span of its voice."""


@dataclass(slots=True)
class LoggedResponse:
    """A response, as far as the log has it."""

    id: str
    connection: int
    created_s: float
    exchange: Exchange | None
    done_s: float | None = None
    status: str = ""
    reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    audio_s: float = 0.0
    """How much audio came, until it was cut."""
    pieces: list[Piece] = field(default_factory=list)
    """The audio as it was played."""
    words: list[tuple[float, str]] = field(default_factory=list)
    """When each phrase of its text came, and what it is."""
    cut_s: float | None = None
    function_calls: list[str] = field(default_factory=list)


def span_of_speech(exchange: Exchange) -> Span:
    """Return the user's speech as a span."""
    end_s = exchange.noticed_s if exchange.noticed_s is not None else exchange.end_s
    if exchange.is_discarded:
        return Span("discarded", exchange.begin_s, end_s, "discarded", "the server heard no speech")
    label = f"turn {exchange.number}" + (", a barge-in" if exchange.is_barge_in else "")
    return Span("speech", exchange.begin_s, end_s, label)


def span_of_response(response: LoggedResponse, last_s: float) -> Span:
    """Return a response as a span; one without an end lasts as long as what is known of it."""
    end_s = response.done_s if response.done_s is not None else last_s
    if response.done_s is None and response.cut_s is not None:
        end_s = response.cut_s
    elif response.done_s is None and response.pieces:
        end_s = response.pieces[-1].end_s
    status = response.status or "no response.done"
    facts = [response.id, f"{status}{f' ({response.reason})' if response.reason else ''}"]
    if response.audio_s:
        facts.append(f"{response.audio_s:.2f} s of audio")
    if response.function_calls:
        facts.append(counted(len(response.function_calls), "function call"))
    if total := response.usage.get("total_tokens"):
        facts.append(f"{total} tokens")
    kind: Kind = "response" if response.status in ("completed", "") else "cancelled"
    return Span(kind, response.created_s, max(end_s, response.created_s), status, ", ".join(facts))


def spans_of_voice(response: LoggedResponse) -> list[Span]:
    """Return what is played of a response as spans, one behind each pause."""
    spans: list[Span] = []
    for piece in response.pieces:
        if spans and piece.begin_s - spans[-1].end_s < _PAUSE_S:
            spans[-1].end_s = piece.end_s
        else:
            spans.append(Span("voice", piece.begin_s, piece.end_s, "the agent speaks"))
    if spans and response.cut_s is not None:
        spans[-1].detail = "interrupted"
    return spans
