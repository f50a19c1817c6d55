"""What happened in a call: spans, marks, turns and latencies, from its wire log alone.

The definitions, so that numbers can be compared:

* A turn's *end of speech* is the end of the last sound that the user made before the server said
  that the turn had ended: sound is what is at most `_SPEECH_RANGE_DB` below the turn's peak.
  A log without peaks (another tool's) has the time of `speech_stopped` instead.
* *Voice to voice* is from there to the first sound of the answer, as it comes in. Playing adds a
  few milliseconds, in a room the network's too.
* A turn with function calls counts apart, as in the vendor's benchmark: its voice to voice is from
  the end of speech to the first sound after the last output, which is what the user waits for.
* What the agent says while sound comes ten times faster than real time is laid end to end.

Source of the two figures: the vendor's benchmark (864 ms median without tools, 1624 ms mean with).
"""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from livekit_plugins_hydra.protocol import voices

from .log import Line

INPUT_RATE_HZ: Final = 16_000

_SPEECH_RANGE_DB: Final = 30.0
"""How far under a turn's peak its sound may be and still be speech. Our choice."""

_FLOOR: Final = 0.004
"""Peaks under this (-48 dBFS) are silence, however soft the turn is."""

_ONSET_S: Final = 0.6
"""How long before `speech_started` a turn may have begun: detectors need a while."""

_PAUSE_S: Final = 0.25
"""Silence of the agent that is longer than this ends a span of its sound."""

_ODD: Final = 1e9
"""No number of a frame of sound is as large as this."""

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
    """When each phrase begins, and what it is."""
    item: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(text for _, text in self.phrases)


@dataclass(slots=True)
class Round:
    """Function calls that were answered together."""

    names: list[str]
    called_s: float
    """When the first call was complete."""
    answered_s: float | None = None
    """When the last output went out."""


@dataclass(slots=True)
class Turn:
    """Something that the agent answers: the user's words, or a request of this side."""

    number: int
    kind: Literal["greeting", "speech", "request"]
    begin_s: float
    """When the user begins to speak, or the request is sent."""
    end_s: float
    """The end of speech, or the sending of the request."""
    is_measured: bool = True
    """Whether `end_s` was found in the sound; otherwise it is the time of `speech_stopped`."""
    noticed_s: float | None = None
    """When the server said that the speech had ended."""
    created_s: float | None = None
    """When the first response began."""
    first_sound_s: float | None = None
    """When the first sound came, of whatever response."""
    answer_sound_s: float | None = None
    """When the first sound after the last function output came; for turns without, the first."""
    rounds: list[Round] = field(default_factory=list)
    is_barge_in: bool = False
    """Whether the user spoke over the agent."""
    is_discarded: bool = False
    """Whether the server decided that it was no speech."""

    @property
    def voice_to_voice_s(self) -> float | None:
        """From the end of speech to the first sound of the answer."""
        return None if self.answer_sound_s is None else max(0.0, self.answer_sound_s - self.end_s)

    @property
    def segments(self) -> list[tuple[str, float]]:
        """Where the time went, in seconds; the names are those of the chart's legend."""
        steps: list[tuple[str, float | None]] = [
            ("turn detection", self.noticed_s),
            ("thinking", self.rounds[0].called_s if self.rounds else self.created_s),
        ]
        for number, each in enumerate(self.rounds):
            if number:
                steps.append(("thinking", each.called_s))
            steps.append(("tools", each.answered_s))
        steps.append(("first sound", self.answer_sound_s))
        parts: list[tuple[str, float]] = []
        at_s = self.end_s
        for name, until_s in steps:
            if until_s is not None and until_s > at_s:
                parts.append((name, until_s - at_s))
                at_s = until_s
        return parts


@dataclass(slots=True)
class Piece:
    """A piece of sound: when it begins, how long it is, how loud."""

    begin_s: float
    duration_s: float
    peak: float


@dataclass(slots=True)
class Timeline:
    """A call."""

    began: str
    """Wall clock of the first dial: ISO 8601, UTC."""
    duration_s: float
    spans: list[Span]
    marks: list[Mark]
    turns: list[Turn]
    captions: list[Caption]
    heard: list[Piece]
    """The user's sound as it was sent."""
    said: list[Piece]
    """The agent's sound as it can have been played."""
    about: dict[str, Any]
    """Model, voice, output rate, session ids, instructions and tools."""

    def latencies_s(self, *, with_tools: bool) -> list[float]:
        """Return voice to voice of the user's turns, with tools or without."""
        return [
            turn.voice_to_voice_s
            for turn in self.turns
            if turn.kind == "speech"
            and turn.voice_to_voice_s is not None
            and bool(turn.rounds) == with_tools
        ]

    def summary(self) -> dict[str, Any]:
        """Return the figures that one compares."""
        figures: dict[str, Any] = {}
        for name, with_tools in (("plain", False), ("tools", True)):
            found = self.latencies_s(with_tools=with_tools)
            figures[name] = {
                "count": len(found),
                "median_s": statistics.median(found) if found else None,
                "mean_s": statistics.fmean(found) if found else None,
                "max_s": max(found, default=None),
            }
        return figures


def timeline_of(lines: Sequence[Line]) -> Timeline:
    """Return what happened in a call.

    Args:
        lines: the lines of one call, in order; at least one.
    """
    reader = _Reader()
    for line in lines:
        reader.take(line)
    return reader.finish(lines)


@dataclass(slots=True)
class _Response:
    id: str
    created_s: float
    turn: Turn | None
    done_s: float | None = None
    status: str = ""
    reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    sound_s: float = 0.0
    pieces: list[Piece] = field(default_factory=list)
    cut_s: float | None = None
    calls: list[str] = field(default_factory=list)


class _Reader:
    """Takes the lines one by one."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._marks: list[Mark] = []
        self._turns: list[Turn] = []
        self._captions: list[Caption] = []
        self._heard: list[Piece] = []
        self._about: dict[str, Any] = {"sessions": []}
        self._rate_hz = voices.FALLBACK_OUTPUT_RATE_HZ
        self._responses: dict[str, _Response] = {}
        self._said_until_s = 0.0
        self._turn: Turn | None = None
        self._turn_item: str | None = None
        self._spoken: list[tuple[Turn, float]] = []
        self._waiting: Turn | None = None
        self._calls: dict[str, tuple[Span, Turn | None, Round | None]] = {}
        self._connections: dict[int, Span] = {}
        self._n_greetings = 0
        self._asks_for_tools = False

    # ------------------------------------------------------------------------ lines

    def take(self, line: Line) -> None:
        """Take a line."""
        match line.type:
            case "input_audio_buffer.append" if line.direction == "sent":
                self._take_heard(line)
            case "response.output_audio.delta":
                self._take_said(line)
            case "response.output_audio_transcript.delta":
                self._take_words(line)
            case "session.configure":
                self._take_configure(line)
            case "session.configured":
                self._take_configured(line)
            case "input_audio_buffer.speech_started":
                self._take_speech_started(line)
            case "input_audio_buffer.speech_stopped":
                self._end_turn(line.offset_s)
            case "conversation.item.done":
                self._take_item(line)
            case "conversation.item.create":
                self._take_output(line)
            case "response.create":
                self._take_request(line)
            case "response.created":
                self._take_created(line)
            case "response.function_call_arguments.done":
                self._take_call(line)
            case "response.done":
                self._take_done(line)
            case "error" | "warning" | "(malformed)" | "(binary)":
                self._take_trouble(line)
            case kind if kind.startswith(("connection.", "log.")):
                self._take_note(line)

    def _take_heard(self, line: Line) -> None:
        sound = line.child("audio")
        duration_s = number(sound.get("bytes")) / 2 / INPUT_RATE_HZ
        begin_s = max(0.0, line.offset_s - duration_s)
        self._heard.append(Piece(begin_s, duration_s, number(sound.get("peak"), 1.0)))

    def _take_said(self, line: Line) -> None:
        sound = line.child("delta")
        duration_s = number(sound.get("bytes")) / 2 / self._rate_hz
        response = self._response_of(line)
        if response is None or not duration_s:
            return
        if turn := response.turn:
            is_answer = not turn.rounds or not response.calls  # else a word before the call
            if turn.first_sound_s is None:
                turn.first_sound_s = line.offset_s
            if turn.answer_sound_s is None and is_answer:
                turn.answer_sound_s = line.offset_s
        if response.cut_s is not None:
            return
        begin_s = max(line.offset_s, self._said_until_s)
        response.pieces.append(Piece(begin_s, duration_s, number(sound.get("peak"), 0.5)))
        response.sound_s += duration_s
        self._said_until_s = begin_s + duration_s

    def _take_words(self, line: Line) -> None:
        if text := line.text("delta").strip():
            # Words come with their sound, ten times too fast: they are heard where it is.
            at_s = max(line.offset_s, self._said_until_s)
            item = f"{line.connection} {line.text('response_id')} {line.text('item_id')}"
            if self._captions and self._captions[-1].item == item:
                self._captions[-1].phrases.append((at_s, text))
            else:
                self._captions.append(Caption("agent", at_s, [(at_s, text)], item))

    def _take_configure(self, line: Line) -> None:
        session = line.child("session")
        for name in ("instructions", "voice"):
            if isinstance(session.get(name), str):
                self._about[name] = session[name]
        tools = session.get("tools")
        self._about["tools"] = _names(tools) if isinstance(tools, list) else []
        self._about.setdefault("configure_bytes", line.size)
        if session.get("generate_initial_response") is True:
            self._n_greetings += 1
            kind: Literal["greeting", "request"]
            kind = "greeting" if self._n_greetings == 1 and not self._turns else "request"
            self._waiting = self._add_turn(kind, line.offset_s, line.offset_s)

    def _take_configured(self, line: Line) -> None:
        session = line.child("session")
        rate_hz = session.get("output_audio_sample_rate")
        if isinstance(rate_hz, int) and rate_hz > 0:
            self._rate_hz = rate_hz
        self._about["rate_hz"] = self._rate_hz
        if isinstance(session.get("voice"), str):
            self._about["voice"] = session["voice"]
        if line.session and line.session not in self._about["sessions"]:
            self._about["sessions"].append(line.session)

    # ------------------------------------------------------------------------ turns

    def _add_turn(
        self, kind: Literal["greeting", "speech", "request"], begin_s: float, end_s: float
    ) -> Turn:
        turn = Turn(len(self._turns) + 1, kind, begin_s, end_s)
        self._turns.append(turn)
        return turn

    def _take_speech_started(self, line: Line) -> None:
        self._end_turn(line.offset_s)
        begin_s = self._onset(line.offset_s)
        turn = self._turn = self._add_turn("speech", begin_s, line.offset_s)
        self._turn_item = line.text("item_id") or None
        if self._said_until_s > line.offset_s or self._is_generating():
            turn.is_barge_in = self._cut(line.offset_s)

    def _is_generating(self) -> bool:
        return any(
            each.done_s is None and not each.calls and each.cut_s is None
            for each in self._responses.values()
        )

    def _cut(self, at_s: float) -> bool:
        """End what the agent says; tell whether anything was cut."""
        was_cut = False
        for response in self._responses.values():
            is_heard = bool(response.pieces) and _end_of(response.pieces[-1]) > at_s
            is_generating = response.done_s is None and not response.calls
            if response.cut_s is None and (is_heard or is_generating):
                response.cut_s = at_s
                response.pieces = [
                    Piece(each.begin_s, min(each.duration_s, at_s - each.begin_s), each.peak)
                    for each in response.pieces
                    if each.begin_s < at_s
                ]
                was_cut = True
        self._said_until_s = min(self._said_until_s, at_s)
        if was_cut:
            self._marks.append(Mark("interruption", at_s, "the user interrupts the agent"))
            self._cut_captions(at_s)
        return was_cut

    def _cut_captions(self, at_s: float) -> None:
        for caption in self._captions:
            caption.phrases = [each for each in caption.phrases if each[0] < at_s]
        self._captions = [caption for caption in self._captions if caption.phrases]

    def _end_turn(self, at_s: float) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        turn.noticed_s = at_s
        turn.end_s, turn.is_measured = self._end_of_speech(turn.begin_s, at_s)
        self._spoken.append((turn, at_s))
        self._waiting = turn

    def _onset(self, noticed_s: float) -> float:
        """Return where the sound that the server has just noticed began."""
        begin_s = noticed_s
        for piece in reversed(self._heard):
            if piece.begin_s < noticed_s - _ONSET_S or piece.peak < _FLOOR:
                break
            begin_s = piece.begin_s
        return begin_s

    def _end_of_speech(self, begin_s: float, noticed_s: float) -> tuple[float, bool]:
        first = bisect.bisect_left(self._heard, begin_s, key=lambda piece: piece.begin_s)
        pieces = [each for each in self._heard[first:] if each.begin_s <= noticed_s]
        peak = max((piece.peak for piece in pieces), default=0.0)
        threshold = max(_FLOOR, peak * 10 ** (-_SPEECH_RANGE_DB / 20))
        loud = [piece for piece in pieces if piece.peak >= threshold]
        if peak < _FLOOR or not loud:
            return noticed_s, False
        return min(noticed_s, _end_of(loud[-1])), True

    def _take_item(self, line: Line) -> None:
        item = line.child("item")
        is_ours = item.get("id") is not None and item.get("id") == self._turn_item
        if item.get("role") != "user" and not is_ours:
            return
        turn = self._turn or (self._spoken[-1][0] if self._spoken else None)
        if turn is None:
            return
        if item.get("status") == "incomplete":
            self._end_turn(line.offset_s)
            turn.is_discarded = True
            if self._waiting is turn:
                self._waiting = None
        words = " ".join(
            part["text"]
            for part in parts_of(item)
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
        if words:
            self._captions.append(Caption("user", turn.begin_s, [(turn.begin_s, words)]))

    # ------------------------------------------------------------------------ responses

    def _take_request(self, line: Line) -> None:
        if self._asks_for_tools:  # goes on with the turn that called
            self._asks_for_tools = False
            return
        self._waiting = self._add_turn("request", line.offset_s, line.offset_s)

    def _take_created(self, line: Line) -> None:
        self._end_turn(line.offset_s)
        response_id = line.child("response").get("id")
        if not isinstance(response_id, str):
            return
        turn, self._waiting = self._waiting, None
        if turn is not None and turn.created_s is None:
            turn.created_s = line.offset_s
        self._responses[response_id] = _Response(response_id, line.offset_s, turn)

    def _response_of(self, line: Line) -> _Response | None:
        response_id = line.fields.get("response_id")
        if isinstance(response_id, str):
            return self._responses.get(response_id)
        return next(reversed(self._responses.values()), None)

    def _take_call(self, line: Line) -> None:
        response = self._response_of(line)
        name, call_id = line.text("name") or "a function", line.text("call_id")
        turn = response.turn if response else None
        if response is not None and turn is not None:
            if response.calls and turn.rounds:
                turn.rounds[-1].names.append(name)
            else:
                turn.rounds.append(Round([name], line.offset_s))
            turn.answer_sound_s = None
        if response is not None:
            response.calls.append(call_id)
        span = Span("tool", line.offset_s, line.offset_s, name, line.text("arguments"))
        self._spans.append(span)
        self._calls[call_id] = span, turn, turn.rounds[-1] if turn else None

    def _take_output(self, line: Line) -> None:
        item = line.child("item")
        found = self._calls.pop(str(item.get("call_id")), None)
        if item.get("type") != "function_call_output" or found is None:
            return
        span, turn, round_ = found
        span.end_s = line.offset_s
        span.detail = f"{span.detail} → {item.get('output')}"
        if turn is not None and round_ is not None:
            round_.answered_s = line.offset_s
            turn.answer_sound_s = None
            if self._waiting is None and self._turn is None:
                self._waiting, self._asks_for_tools = turn, True

    def _take_done(self, line: Line) -> None:
        body = line.child("response")
        response = self._responses.get(str(body.get("id")))
        if response is None or response.done_s is not None:
            return
        response.done_s = line.offset_s
        response.status = str(body.get("status") or "done")
        details, usage = body.get("status_details"), body.get("usage")
        response.reason = str(details.get("reason") or "") if isinstance(details, dict) else ""
        response.usage = usage if isinstance(usage, dict) else {}

    # ------------------------------------------------------------------------ connections

    def _take_trouble(self, line: Line) -> None:
        body = line.child("error") or line.child("warning") or line.fields
        code = str(body.get("code") or line.type.strip("()"))
        message = str(body.get("message") or "")
        kind: MarkKind = "warning" if line.type == "warning" else "error"
        self._marks.append(Mark(kind, line.offset_s, ": ".join(filter(None, [code, message]))))

    def _take_note(self, line: Line) -> None:
        number = line.connection
        match line.type:
            case "connection.dialling":
                for name in ("model", "voice", "server", "auth", "livekit-agents"):
                    if line.text(name):
                        self._about.setdefault(name, line.text(name))
                self._rate_hz = voices.output_rate_hz(line.text("model"))
                if number > 1:
                    label = f"connection {number} is dialled"
                    self._marks.append(Mark("reconnect", line.offset_s, label))
            case "connection.opened":
                span = Span("connection", line.offset_s, line.offset_s, f"connection {number}")
                self._connections[number] = span
                self._spans.append(span)
            case "connection.closed":
                self._close(line)
            case "connection.failed":
                label = f"dial {number} failed: {line.text('error')}"
                self._marks.append(Mark("error", line.offset_s, label))
            case "connection.redial":
                label = f"a new connection: {line.text('reason')}"
                self._marks.append(Mark("reconnect", line.offset_s, label))
            case "log.lines_lost":
                label = f"{line.fields.get('lines')} lines are missing: the disk was too slow"
                self._marks.append(Mark("warning", line.offset_s, label))

    def _close(self, line: Line) -> None:
        self._end_turn(line.offset_s)
        for response in self._responses.values():
            if response.done_s is None:  # nothing of it comes any more
                response.done_s, response.status = line.offset_s, "lost"
        code, by = line.fields.get("code"), line.text("by") or "nobody"
        reason = f" ({line.text('reason')})" if line.text("reason") else ""
        is_cut = by == "nobody"
        what = "cut without a close" if is_cut else f"closed by the {by} with {code}{reason}"
        if span := self._connections.pop(line.connection, None):
            span.end_s, span.detail = line.offset_s, what
        if by != "client":
            self._marks.append(Mark("error", line.offset_s, f"connection {line.connection} {what}"))

    # ------------------------------------------------------------------------ the end

    def finish(self, lines: Sequence[Line]) -> Timeline:
        """Return the timeline."""
        last_s = max(lines[-1].offset_s, self._said_until_s)
        self._end_turn(lines[-1].offset_s)
        for span, _, _ in self._calls.values():
            span.end_s, span.detail = last_s, f"{span.detail} → no output"
        for span in self._connections.values():
            span.end_s, span.detail = last_s, "still open at the end of the log"
        for turn in self._turns:
            if turn.kind == "speech":
                self._spans.append(_span_of_turn(turn))
        for response in self._responses.values():
            self._spans.append(_span_of_response(response, last_s))
            self._spans.extend(_spans_of_voice(response))
        said = [piece for each in self._responses.values() for piece in each.pieces]
        return Timeline(
            began=lines[0].time,
            duration_s=last_s,
            spans=sorted(self._spans, key=lambda span: span.begin_s),
            marks=sorted(self._marks, key=lambda mark: mark.at_s),
            turns=self._turns,
            captions=sorted(self._captions, key=lambda caption: caption.begin_s),
            heard=self._heard,
            said=said,
            about=self._about,
        )


def _span_of_turn(turn: Turn) -> Span:
    end_s = turn.noticed_s if turn.noticed_s is not None else turn.end_s
    if turn.is_discarded:
        return Span("discarded", turn.begin_s, end_s, "discarded", "the server heard no speech")
    label = f"turn {turn.number}" + (", a barge-in" if turn.is_barge_in else "")
    return Span("speech", turn.begin_s, end_s, label)


def _span_of_response(response: _Response, last_s: float) -> Span:
    end_s = response.done_s if response.done_s is not None else last_s
    if response.done_s is None and response.cut_s is not None:
        end_s = response.cut_s
    elif response.done_s is None and response.pieces:
        end_s = _end_of(response.pieces[-1])
    status = response.status or "no response.done"
    facts = [response.id, f"{status}{f' ({response.reason})' if response.reason else ''}"]
    if response.sound_s:
        facts.append(f"{response.sound_s:.2f} s of sound")
    if response.calls:
        facts.append(f"{len(response.calls)} function calls")
    if total := response.usage.get("total_tokens"):
        facts.append(f"{total} tokens")
    kind: Kind = "response" if response.status in ("completed", "") else "cancelled"
    return Span(kind, response.created_s, max(end_s, response.created_s), status, ", ".join(facts))


def _spans_of_voice(response: _Response) -> list[Span]:
    spans: list[Span] = []
    for piece in response.pieces:
        if spans and piece.begin_s - spans[-1].end_s < _PAUSE_S:
            spans[-1].end_s = _end_of(piece)
        else:
            spans.append(Span("voice", piece.begin_s, _end_of(piece), "the agent speaks"))
    if spans and response.cut_s is not None:
        spans[-1].detail = "interrupted"
    return spans


def _end_of(piece: Piece) -> float:
    return piece.begin_s + piece.duration_s


def number(value: object, default: float = 0.0) -> float:
    """Return a number of a frame, or what stands for it where there is none."""
    return float(value) if isinstance(value, int | float) and abs(value) < _ODD else default


def parts_of(item: dict[str, Any]) -> list[Any]:
    """Return the content of an item; none where it is no list."""
    content = item.get("content")
    return content if isinstance(content, list) else []


def _names(tools: list[Any]) -> list[str]:
    return [str(tool.get("name")) for tool in tools if isinstance(tool, dict)]
