"""The log as people read it: a row for each event, and one for each run of audio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from livekit_plugins_hydra.protocol import voices

from .counting import counted
from .lines import INPUT_RATE_HZ, LogLine, number, parts_of

_SUMMARY_CHARS: Final = 160

_RUN_S: Final = 1.0
"""A run of audio is cut after so long, so that rows stay near their time."""

_AUDIO: Final = {"input_audio_buffer.append": "audio", "response.output_audio.delta": "delta"}

Flag = Literal["", "audio", "error"]


@dataclass(slots=True)
class Row:
    """One row."""

    at_s: float
    direction: Literal["sent", "received", "note"]
    connection: int
    type: str
    summary: str
    flag: Flag
    frame: Any
    """What is shown when the row is opened."""


def rows_of(lines: Sequence[LogLine]) -> list[Row]:
    """Return the rows of a call, in order; frames of audio that follow each other make one."""
    rows: list[Row] = []
    runs: dict[tuple[int, str], _Run] = {}
    rates_hz: dict[int, int] = {}
    for line in lines:
        field = _AUDIO.get(line.type)
        if field is not None and "bytes" in line.child(field):
            key = line.connection, line.type
            run = runs.get(key)
            if run is None or line.offset_s - run.begin_s >= _RUN_S:
                is_agents = line.direction == "received"
                agents_hz = rates_hz.get(line.connection, voices.FALLBACK_OUTPUT_RATE_HZ)
                run = runs[key] = _Run(line, agents_hz if is_agents else INPUT_RATE_HZ)
                rows.append(run.row)
            run.take(line.offset_s, line.child(field))
            continue
        # A frame of the same direction ends a run; the user's audio goes on under the server's.
        runs = {key: run for key, run in runs.items() if run.row.direction != line.direction}
        if line.type == "session.configured":
            rate = line.child("session").get("output_audio_sample_rate")
            if isinstance(rate, int) and rate > 0:
                rates_hz[line.connection] = rate
        rows.append(_row_of(line))
    return rows


class _Run:
    """Frames of audio, one behind the other."""

    def __init__(self, line: LogLine, rate_hz: int) -> None:
        self.begin_s = line.offset_s
        self._last_s = line.offset_s
        self._rate_hz = rate_hz
        self._n_frames = 0
        self._n_bytes = 0
        self._peak = 0.0
        self._gap_s = 0.0
        self.row = Row(
            line.offset_s, line.direction, line.connection, line.type, "", "audio", line.frame
        )

    def take(self, at_s: float, audio: dict[str, Any]) -> None:
        self._n_frames += 1
        self._n_bytes += int(number(audio.get("bytes")))
        self._peak = max(self._peak, number(audio.get("peak")))
        self._gap_s = max(self._gap_s, at_s - self._last_s)
        self._last_s = at_s
        seconds = self._n_bytes / 2 / self._rate_hz
        frames = counted(self._n_frames, "frame")
        self.row.summary = f"{frames}, {seconds:.2f} s of audio, peak {self._peak:.2f}"
        self.row.frame = {
            "type": self.row.type,
            "frames": self._n_frames,
            "bytes": self._n_bytes,
            "audio_s": round(seconds, 4),
            "peak": self._peak,
            "from_s": self.begin_s,
            "to_s": at_s,
            "longest_gap_s": round(self._gap_s, 4),
        }


def _row_of(line: LogLine) -> Row:
    is_error = line.type in ("error", "(malformed)", "connection.failed")
    summary = " ".join(" ".join(_words(line)).split())
    if len(summary) > _SUMMARY_CHARS:
        summary = f"{summary[:_SUMMARY_CHARS]}…"
    return Row(
        line.offset_s,
        line.direction,
        line.connection,
        line.type,
        summary,
        "error" if is_error else "",
        line.frame,
    )


def _words(line: LogLine) -> Iterable[str]:
    """Say in a few words what is in an event."""
    match line.type:
        case "session.configure" | "session.configured" | "session.update" | "session.updated":
            yield from _of_session(line.child("session"))
            if line.size is not None and line.direction == "sent":
                yield f"{line.size} bytes"
        case "session.created":
            yield line.text("session_id")
        case "input_audio_buffer.speech_started" | "input_audio_buffer.speech_stopped":
            yield line.text("item_id")
            for name in ("audio_start_ms", "audio_end_ms"):
                if isinstance(value := line.fields.get(name), int | float):
                    yield f"at {value / 1000:.2f} s of the audio"
        case "conversation.item.added" | "conversation.item.done" | "conversation.item.create":
            yield from _of_item(line.child("item"))
        case "response.created" | "response.done":
            yield from _of_response(line.child("response"))
        case "error" | "warning":
            body = line.child("error") or line.child("warning") or line.fields
            for name in ("code", "param", "message"):
                yield str(body.get(name) or "")
        case "(malformed)":
            yield str(line.frame)
        case _:
            for name, value in line.fields.items():
                if name not in ("type", "event_id", "output_index", "content_index"):
                    yield f"{value}" if isinstance(value, str) else f"{name} {value}"


def _of_session(session: dict[str, Any]) -> Iterable[str]:
    if session.get("voice"):
        yield f"voice {session['voice']},"
    tools = session.get("tools")
    if isinstance(tools, list) and tools:
        names = [str(tool.get("name")) for tool in tools if isinstance(tool, dict)]
        yield f"tools {', '.join(names)},"
    if session.get("output_audio_sample_rate"):
        yield f"{session['output_audio_sample_rate']} Hz,"
    if session.get("generate_initial_response"):
        yield "speaks first,"
    if isinstance(session.get("instructions"), str):
        yield f"{counted(len(session['instructions']), 'character')} of instructions"


def _of_item(item: dict[str, Any]) -> Iterable[str]:
    for name in ("id", "role", "status", "call_id", "name", "arguments", "output"):
        if item.get(name):
            yield str(item[name])
    if item.get("type") not in (None, "message"):
        yield str(item["type"])
    for part in parts_of(item):
        if isinstance(part, dict) and part.get("text"):
            yield f"“{part['text']}”"


def _of_response(response: dict[str, Any]) -> Iterable[str]:
    for name in ("id", "status"):
        if response.get(name):
            yield str(response[name])
    details, usage = response.get("status_details"), response.get("usage")
    if isinstance(details, dict) and details.get("reason"):
        yield f"({details['reason']})"
    if isinstance(usage, dict) and usage.get("total_tokens"):
        yield f"{usage['total_tokens']} tokens"
