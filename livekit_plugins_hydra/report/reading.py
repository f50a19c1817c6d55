"""Reads a call's wire log, line by line, into a timeline."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from livekit_plugins_hydra.protocol import voices

from .captions import caption_of
from .lines import INPUT_RATE_HZ, LogLine, number, parts_of
from .spans import LoggedResponse, span_of_response, span_of_speech, spans_of_voice
from .timeline import Caption, Exchange, Mark, MarkKind, Piece, Span, Timeline, ToolCalls

_SPEECH_RANGE_DB: Final = 30.0
"""How far under a turn's peak its audio may be and still be speech. Our choice."""

_FLOOR: Final = 0.004
"""Peaks under this (-48 dBFS) are silence, however soft the turn is."""

_ONSET_S: Final = 0.6
"""How long before `speech_started` a turn may have begun: detectors need a while."""


def timeline_of(lines: Sequence[LogLine]) -> Timeline:
    """Return what happened in a call.

    Args:
        lines: the lines of one call, in order; at least one.
    """
    reader = _Reader()
    for line in lines:
        reader.take(line)
    return reader.finish(lines)


@dataclass(slots=True, eq=False)
class _OpenCall:
    """A function call whose output has not come yet."""

    connection: int
    id: str
    span: Span
    exchange: Exchange | None
    together: ToolCalls | None
    """The calls that are answered together with it."""


class _Reader:
    """Takes the lines one by one."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._marks: list[Mark] = []
        self._exchanges: list[Exchange] = []
        self._captions: list[Caption] = []
        self._user_audio: list[Piece] = []
        self._about: dict[str, Any] = {"sessions": []}
        self._rates_hz: dict[int, int] = {}
        """Of the agent's audio, by connection."""
        self._responses: dict[tuple[int, str], LoggedResponse] = {}
        """By connection and id."""
        self._spaced: set[int] = set()
        """The connections whose phrases bring the spaces between them."""
        self._latest: dict[int, LoggedResponse] = {}
        """The last one of each connection."""
        self._played_until_s = 0.0
        self._speaking: Exchange | None = None
        self._speech_connection = 0
        """On which the user speaks, or has last spoken."""
        self._turns: dict[tuple[int, str], Exchange] = {}
        """The user's turns by connection and item."""
        self._typed: set[str] = set()
        """Texts of the user that were sent as such."""
        self._spoken: Exchange | None = None
        self._waiting: Exchange | None = None
        self._open_calls: list[_OpenCall] = []
        self._connections: dict[int, Span] = {}
        self._was_ready = False
        """Whether a connection was ready: before, attempts to connect are no reconnects."""
        self._n_reconnects = 0
        self._n_greetings = 0
        self._untold_on: int | None = None
        """The connection whose next `response.create` is for the outputs that it got."""

    # ------------------------------------------------------------------------ lines

    def take(self, line: LogLine) -> None:
        """Take a line."""
        match line.type:
            case "input_audio_buffer.append" if line.direction == "sent":
                self._take_user_audio(line)
            case "response.output_audio.delta":
                self._take_agent_audio(line)
            case "response.output_audio_transcript.delta":
                self._take_words(line)
            case "session.configure":
                self._take_configure(line)
            case "session.configured":
                self._take_configured(line)
            case "input_audio_buffer.speech_started":
                self._take_speech_started(line)
            case "input_audio_buffer.speech_stopped":
                self._end_speech_by(line)
            case "conversation.item.done":
                self._take_item(line)
            case "conversation.item.create":
                self._take_client_item(line)
            case "response.create":
                self._take_request(line)
            case "response.created":
                self._take_created(line)
            case "response.function_call_arguments.done":
                self._take_function_call(line)
            case "response.done":
                self._take_done(line)
            case "error" | "warning" | "(malformed)":
                self._take_trouble(line)
            case kind if kind.startswith("connection."):
                self._take_note(line)

    def _take_user_audio(self, line: LogLine) -> None:
        audio = line.child("audio")
        duration_s = number(audio.get("bytes")) / 2 / INPUT_RATE_HZ
        begin_s = max(0.0, line.offset_s - duration_s)
        self._user_audio.append(Piece(begin_s, duration_s, number(audio.get("peak"), 1.0)))

    def _take_agent_audio(self, line: LogLine) -> None:
        audio = line.child("delta")
        rate_hz = self._rates_hz.get(line.connection, voices.FALLBACK_OUTPUT_RATE_HZ)
        duration_s = number(audio.get("bytes")) / 2 / rate_hz
        response = self._response_of(line)
        if response is None or not duration_s:
            return
        if exchange := response.exchange:
            # What a response says before it calls a function is no answer.
            is_answer = not exchange.tools or not response.function_calls
            if exchange.first_audio_s is None:
                exchange.first_audio_s = line.offset_s
            if exchange.answer_audio_s is None and is_answer:
                exchange.answer_audio_s = line.offset_s
        if response.cut_s is not None:
            return
        begin_s = max(line.offset_s, self._played_until_s)
        response.pieces.append(Piece(begin_s, duration_s, number(audio.get("peak"), 0.5)))
        response.audio_s += duration_s
        self._played_until_s = begin_s + duration_s

    def _take_words(self, line: LogLine) -> None:
        text, response = line.text("delta"), self._response_of(line)
        if text != text.strip():
            self._spaced.add(line.connection)
        if text and response is not None and response.cut_s is None:
            response.words.append((line.offset_s, text))

    def _take_configure(self, line: LogLine) -> None:
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
            kind = "greeting" if self._n_greetings == 1 and not self._exchanges else "request"
            self._waiting = self._add_exchange(kind, line.offset_s, line.offset_s)

    def _take_configured(self, line: LogLine) -> None:
        self._was_ready = True
        session = line.child("session")
        rate_hz = session.get("output_audio_sample_rate")
        if isinstance(rate_hz, int) and rate_hz > 0:
            self._rates_hz[line.connection] = rate_hz
        if line.connection in self._rates_hz:
            self._about["rate_hz"] = self._rates_hz[line.connection]
        if isinstance(session.get("voice"), str):
            self._about["voice"] = session["voice"]
        if line.session and line.session not in self._about["sessions"]:
            self._about["sessions"].append(line.session)

    # ------------------------------------------------------------------------ turns

    def _add_exchange(
        self, kind: Literal["greeting", "speech", "request"], begin_s: float, end_s: float
    ) -> Exchange:
        exchange = Exchange(len(self._exchanges) + 1, kind, begin_s, end_s)
        self._exchanges.append(exchange)
        return exchange

    def _take_speech_started(self, line: LogLine) -> None:
        self._end_speech(line.offset_s)
        begin_s = self._onset(line.offset_s)
        exchange = self._speaking = self._add_exchange("speech", begin_s, line.offset_s)
        self._speech_connection = line.connection
        if item_id := line.text("item_id"):
            self._turns[line.connection, item_id] = exchange
        exchange.is_barge_in = self._cut(line.offset_s, line.connection)

    def _cut(self, at_s: float, connection: int) -> bool:
        """End what the agent says; tell whether anything was cut.

        Nothing more comes of an older connection, though its end may be logged late.
        """
        was_cut = False
        for response in self._responses.values():
            is_playing = bool(response.pieces) and response.pieces[-1].end_s > at_s
            is_generating = (
                response.connection == connection
                and response.done_s is None
                and not response.function_calls
            )
            if response.cut_s is None and (is_playing or is_generating):
                response.cut_s = at_s
                response.pieces = [
                    Piece(each.begin_s, min(each.duration_s, at_s - each.begin_s), each.peak)
                    for each in response.pieces
                    if each.begin_s < at_s
                ]
                was_cut = True
        self._played_until_s = min(self._played_until_s, at_s)
        if was_cut:
            self._marks.append(Mark("interruption", at_s, "the user interrupts the agent"))
        return was_cut

    def _end_speech_by(self, line: LogLine) -> None:
        """End what the user says, unless the line is of an older connection than that."""
        if line.connection >= self._speech_connection:
            self._end_speech(line.offset_s)

    def _end_speech(self, at_s: float) -> None:
        exchange, self._speaking = self._speaking, None
        if exchange is None:
            return
        exchange.noticed_s = at_s
        exchange.end_s, exchange.is_measured = self._end_of_speech(exchange.begin_s, at_s)
        self._spoken = self._waiting = exchange

    def _onset(self, noticed_s: float) -> float:
        """Return where the speech that the server has just noticed began."""
        begin_s = noticed_s
        for piece in reversed(self._user_audio):
            if piece.begin_s < noticed_s - _ONSET_S or piece.peak < _FLOOR:
                break
            begin_s = piece.begin_s
        return begin_s

    def _end_of_speech(self, begin_s: float, noticed_s: float) -> tuple[float, bool]:
        first = bisect.bisect_left(self._user_audio, begin_s, key=lambda piece: piece.begin_s)
        pieces = [each for each in self._user_audio[first:] if each.begin_s <= noticed_s]
        peak = max((piece.peak for piece in pieces), default=0.0)
        threshold = max(_FLOOR, peak * 10 ** (-_SPEECH_RANGE_DB / 20))
        loud = [piece for piece in pieces if piece.peak >= threshold]
        if peak < _FLOOR or not loud:
            return noticed_s, False
        return min(noticed_s, loud[-1].end_s), True

    def _take_item(self, line: LogLine) -> None:
        """Take an item of the server: the user's, of a turn that may not be the last one."""
        item, words = line.child("item"), _text_of(line.child("item"))
        exchange = self._turns.get((line.connection, str(item.get("id"))))
        if exchange is None:
            is_old = line.connection < self._speech_connection
            if item.get("role") != "user" or is_old or words in self._typed:
                return
            exchange = self._speaking or self._spoken
        if exchange is None:
            return
        if item.get("status") == "incomplete":
            if exchange is self._speaking:
                self._end_speech(line.offset_s)
            exchange.is_discarded = True
            if self._waiting is exchange:
                self._waiting = None
        if words:
            self._captions.append(Caption("user", exchange.begin_s, [(exchange.begin_s, words)]))

    def _take_client_item(self, line: LogLine) -> None:
        item = line.child("item")
        if item.get("type") == "function_call_output":
            self._take_output(line)
        elif item.get("role") == "user" and (words := _text_of(item)):
            self._typed.add(words)
            self._captions.append(Caption("user", line.offset_s, [(line.offset_s, words)]))

    # ------------------------------------------------------------------------ responses

    def _take_request(self, line: LogLine) -> None:
        tells_outputs = self._untold_on == line.connection
        self._untold_on = None
        if not tells_outputs:  # else the exchange goes on that called
            self._waiting = self._add_exchange("request", line.offset_s, line.offset_s)

    def _take_created(self, line: LogLine) -> None:
        self._end_speech_by(line)
        self._untold_on = None
        response_id = line.child("response").get("id")
        if not isinstance(response_id, str):
            return
        exchange, self._waiting = self._waiting, None
        if exchange is not None and exchange.created_s is None:
            exchange.created_s = line.offset_s
        response = LoggedResponse(response_id, line.connection, line.offset_s, exchange)
        self._responses[line.connection, response_id] = self._latest[line.connection] = response

    def _response_of(self, line: LogLine) -> LoggedResponse | None:
        response_id = line.fields.get("response_id")
        if isinstance(response_id, str):
            return self._responses.get((line.connection, response_id))
        return self._latest.get(line.connection)

    def _take_function_call(self, line: LogLine) -> None:
        response = self._response_of(line)
        name, call_id = line.text("name") or "a function", line.text("call_id")
        exchange = response.exchange if response else None
        if response is not None and exchange is not None:
            if response.function_calls and exchange.tools:
                exchange.tools[-1].names.append(name)
            else:
                exchange.tools.append(ToolCalls([name], line.offset_s))
            exchange.answer_audio_s = None
        if response is not None:
            response.function_calls.append(call_id)
        span = Span("tool", line.offset_s, line.offset_s, name, line.text("arguments"))
        self._spans.append(span)
        calls = exchange.tools[-1] if exchange else None
        self._open_calls.append(_OpenCall(line.connection, call_id, span, exchange, calls))

    def _take_output(self, line: LogLine) -> None:
        item = line.child("item")
        of = line.connection, item.get("call_id") or ""
        # Servers use an id again, or leave it empty: the oldest call that has it is answered.
        call = next((each for each in self._open_calls if (each.connection, each.id) == of), None)
        if call is None:
            return
        self._open_calls.remove(call)
        call.span.end_s = line.offset_s
        call.span.detail = f"{call.span.detail} → {item.get('output')}"
        exchange = call.exchange
        if exchange is not None and call.together is not None:
            call.together.answered_s = line.offset_s
            exchange.answer_audio_s = None
            if self._waiting is None and self._speaking is None:
                self._waiting, self._untold_on = exchange, line.connection

    def _take_done(self, line: LogLine) -> None:
        body = line.child("response")
        response = self._responses.get((line.connection, str(body.get("id"))))
        if response is None or response.done_s is not None:
            return
        response.done_s = line.offset_s
        response.status = str(body.get("status") or "done")
        details, usage = body.get("status_details"), body.get("usage")
        response.reason = str(details.get("reason") or "") if isinstance(details, dict) else ""
        response.usage = usage if isinstance(usage, dict) else {}

    # ------------------------------------------------------------------------ connections

    def _take_trouble(self, line: LogLine) -> None:
        body = line.child("error") or line.child("warning") or line.fields
        code = str(body.get("code") or line.type.strip("()"))
        message = str(body.get("message") or "")
        kind: MarkKind = "warning" if line.type == "warning" else "error"
        self._marks.append(Mark(kind, line.offset_s, ": ".join(filter(None, [code, message]))))

    def _take_note(self, line: LogLine) -> None:
        connection = f"connection {line.connection}"
        match line.type:
            case "connection.opening":
                for name in ("model", "voice", "server", "auth", "livekit-agents"):
                    if line.text(name):
                        self._about.setdefault(name, line.text(name))
                self._rates_hz[line.connection] = voices.output_rate_hz(line.text("model"))
                if self._was_ready:
                    self._marks.append(Mark("reconnect", line.offset_s, f"{connection} is tried"))
            case "connection.opened":
                self._n_reconnects += self._was_ready
                span = Span("connection", line.offset_s, line.offset_s, connection)
                self._connections[line.connection] = span
                self._spans.append(span)
            case "connection.closed":
                self._close(line)
            case "connection.failed":
                label = f"{connection} failed: {line.text('error')}"
                self._marks.append(Mark("error", line.offset_s, label))
            case "connection.reconnect":
                label = f"a new connection: {line.text('reason')}"
                self._marks.append(Mark("reconnect", line.offset_s, label))

    def _close(self, line: LogLine) -> None:
        self._end_speech_by(line)
        for response in self._responses.values():
            if response.connection == line.connection and response.done_s is None:
                # Nothing of it comes any more.
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

    def finish(self, lines: Sequence[LogLine]) -> Timeline:
        """Return the timeline."""
        last_s = max(lines[-1].offset_s, self._played_until_s)
        self._end_speech(lines[-1].offset_s)
        for call in self._open_calls:
            call.span.end_s, call.span.detail = last_s, f"{call.span.detail} → no output"
        for span in self._connections.values():
            span.end_s, span.detail = last_s, "still open at the end of the log"
        for exchange in self._exchanges:
            if exchange.kind == "speech":
                self._spans.append(span_of_speech(exchange))
        for response in self._responses.values():
            self._spans.append(span_of_response(response, last_s))
            self._spans.extend(spans_of_voice(response))
            has_spaces = response.connection in self._spaced
            if caption := caption_of(response, has_spaces=has_spaces):
                self._captions.append(caption)
        agent_audio = [piece for each in self._responses.values() for piece in each.pieces]
        return Timeline(
            began=lines[0].time,
            duration_s=last_s,
            spans=sorted(self._spans, key=lambda span: span.begin_s),
            marks=sorted(self._marks, key=lambda mark: mark.at_s),
            exchanges=self._exchanges,
            captions=sorted(self._captions, key=lambda caption: caption.begin_s),
            user_audio=self._user_audio,
            agent_audio=agent_audio,
            n_reconnects=self._n_reconnects,
            about=self._about,
        )


def _text_of(item: dict[str, Any]) -> str:
    return " ".join(
        part["text"]
        for part in parts_of(item)
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    )


def _names(tools: list[Any]) -> list[str]:
    return [str(tool.get("name")) for tool in tools if isinstance(tool, dict)]
