"""Wire logs without a call: the lines of turns that go as one says, for tests of reports."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

FRAME_S: Final = 0.04
INPUT_BYTES: Final = 1280
OUTPUT_RATE_HZ: Final = 24_000


@dataclass
class WireLines:
    """Writes the lines of one call; time only moves when it is told to."""

    call: str = "call-1"
    day: str = "2026-11-23"
    connection: int = 1
    now_s: float = 0.0
    lines: list[dict[str, Any]] = field(default_factory=list)
    n_turns: int = 0

    def line(
        self,
        kind: str,
        direction: Literal["sent", "received", "note"] = "received",
        *,
        at_s: float | None = None,
        **fields: Any,
    ) -> None:
        """Write a line, now or at a time."""
        offset_s = self.now_s if at_s is None else at_s
        minutes, seconds = divmod(offset_s, 60)
        self.lines.append(
            {
                "time": f"{self.day}T09:{int(minutes):02d}:{seconds:09.6f}Z",
                "offset_s": round(offset_s, 6),
                "call": self.call,
                "connection": self.connection,
                "session": f"session-{self.connection}",
                "direction": direction,
                "type": kind,
                "frame": {"type": kind, **fields},
            }
        )

    def connect(self, *, greet: bool = False, **session: Any) -> None:
        """Connect, and be configured."""
        self.line("connection.opening", "note", model="hydra-v1.1", voice="aria")
        self.line("connection.opened", "note")
        self.line("session.created", session_id=f"session-{self.connection}")
        told = {"instructions": "Be kind.", "voice": "aria", **session}
        if greet:
            told["generate_initial_response"] = True
        self.line("session.configure", "sent", session=told)
        self.line("session.configured", session=told | {"output_audio_sample_rate": OUTPUT_RATE_HZ})

    def close(self, code: int = 1000, by: str = "client", reason: str = "") -> None:
        """End the connection."""
        self.line("connection.closed", "note", code=code, by=by, reason=reason)

    def send_sound(self, seconds: float, peak: float = 0.0) -> None:
        """Send the user's sound at real time."""
        for _ in range(round(seconds / FRAME_S)):
            self.now_s += FRAME_S
            sound = {"bytes": INPUT_BYTES, "peak": peak}
            self.line("input_audio_buffer.append", "sent", audio=sound)

    def speak(self, seconds: float, *, hang_s: float = 0.4) -> None:
        """Speak as the user; the server notices the begin at once and the end after `hang_s`."""
        self.n_turns += 1
        item = f"item-{self.n_turns}"
        self.send_sound(FRAME_S, 0.5)
        self.line("input_audio_buffer.speech_started", item_id=item)
        self.send_sound(seconds - FRAME_S, 0.5)
        self.send_sound(hang_s)
        self.line("input_audio_buffer.speech_stopped", item_id=item)
        self.line(
            "conversation.item.done", item={"id": item, "role": "user", "status": "completed"}
        )

    def respond(
        self,
        seconds: float,
        *,
        name: str = "",
        think_s: float = 0.2,
        text: str = "",
        status: str = "completed",
    ) -> str:
        """Answer with sound, ten times faster than real time; return the response's id."""
        response = name or f"resp-{self.n_turns}-{len(self.lines)}"
        self.send_sound(think_s)
        self.line("response.created", response={"id": response, "status": "in_progress"})
        item = f"{response}-item"
        for number, phrase in enumerate(filter(None, text.split(","))):
            self.line(
                "response.output_audio_transcript.delta",
                response_id=response,
                item_id=item,
                delta=phrase,
                output_index=number,
            )
        n_bytes = round(FRAME_S * OUTPUT_RATE_HZ) * 2
        for number in range(round(seconds / FRAME_S)):
            self.line(
                "response.output_audio.delta",
                at_s=self.now_s + number * FRAME_S / 10,
                response_id=response,
                item_id=item,
                delta={"bytes": n_bytes, "peak": 0.4},
            )
        end_s = self.now_s + seconds / 10
        usage = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
        body = {"id": response, "status": status, "usage": usage}
        self.line("response.done", at_s=end_s, response=body)
        return response

    def call_tool(
        self, name: str, *, think_s: float = 0.2, takes_s: float = 0.4, output: str = "sunny"
    ) -> None:
        """Call a function instead of an answer, and post its output."""
        self.send_sound(think_s)
        response, call_id = f"resp-call-{len(self.lines)}", f"call-{len(self.lines)}"
        self.line("response.created", response={"id": response, "status": "in_progress"})
        self.line(
            "response.function_call_arguments.done",
            response_id=response,
            call_id=call_id,
            name=name,
            arguments='{"city": "Lisbon"}',
        )
        self.line("response.done", response={"id": response, "status": "completed"})
        self.send_sound(takes_s)
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        self.line("conversation.item.create", "sent", item=item)
        self.line("response.create", "sent")

    def write(self, path: Path) -> Path:
        """Write the log, in order, and return its path."""
        ordered = sorted(self.lines, key=lambda line: line["offset_s"])
        path.write_text("".join(f"{json.dumps(line)}\n" for line in ordered))
        return path


def long_call(minutes: float) -> WireLines:
    """Return a call of so many minutes: a turn every ten seconds, some with tools or a barge-in."""
    log = WireLines()
    log.connect(greet=True, tools=[{"type": "function", "name": "get_weather"}])
    log.respond(1.5, text="Hello,this is the weather line.")
    log.send_sound(2.0)
    while log.now_s < minutes * 60 - 11:
        began_s = log.now_s
        log.speak(2.0)
        if log.n_turns % 3 == 0:
            log.call_tool("get_weather")
        log.respond(5.0, text="It is sunny this morning,clouds come in,from the west,and so on.")
        is_patient = log.n_turns % 4 != 0
        log.send_sound(5.5 if is_patient else 2.0)
        if log.n_turns % 20 == 0:
            log.line("error", error={"code": "tool_response_timeout", "message": "too late"})
        if is_patient:
            log.send_sound(max(0.0, began_s + 9.0 - log.now_s))
    log.close()
    return log
