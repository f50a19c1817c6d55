"""The report: what a wire log says, and the page that shows it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livekit_plugins_hydra.report import (
    LogUnreadable,
    Timeline,
    calls_in,
    read,
    render,
    timeline_of,
)
from livekit_plugins_hydra.report.lines import LogLine
from livekit_plugins_hydra.report.rows import rows_of
from livekit_plugins_hydra.testing import recordings
from livekit_plugins_hydra.testing.emulator.scenario_file import ScenarioUnreadable, read_scenario
from tests.browser import CHROMIUM, Page, page
from tests.command_line import here, hydra
from tests.wire_lines import WireLines, long_call

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)"
)


def lines_of(log: WireLines, folder: Path) -> list[LogLine]:
    """Return the lines of a log, as the report reads them."""
    return calls_in(read(log.write(folder / "wire.jsonl")))[log.call]


@pytest.fixture
def log() -> WireLines:
    """A call that has just begun."""
    log = WireLines()
    log.connect()
    log.send_sound(1.0)
    return log


def timeline_in(log: WireLines, folder: Path) -> Timeline:
    """Return what happened in a call."""
    return timeline_of(lines_of(log, folder))


# ------------------------------------------------------------------------- what happened


def test_voice_to_voice_is_from_the_last_audio_to_the_first(log: WireLines, tmp_path: Path) -> None:
    """Detection and thinking add up, and the end of speech is found in the audio."""
    log.speak(2.0, hang_s=0.4)
    log.respond(3.0, think_s=0.2)
    log.close()
    timeline = timeline_in(log, tmp_path)

    (turn,) = timeline.exchanges
    assert turn.is_measured
    assert turn.begin_s == pytest.approx(1.0, abs=0.05)
    assert turn.end_s == pytest.approx(3.0, abs=0.05)
    assert turn.voice_to_voice_s == pytest.approx(0.6, abs=0.05)
    assert dict(turn.segments) == {
        "turn detection": pytest.approx(0.4),
        "thinking": pytest.approx(0.2),
    }
    assert timeline.summary()["plain"]["count"] == 1
    assert timeline.summary()["tools"]["count"] == 0


def test_turns_with_tools_count_apart(log: WireLines, tmp_path: Path) -> None:
    """A turn with a call ends with the first audio after the output; its parts add up to that."""
    log.speak(2.0)
    log.call_tool("get_weather", think_s=0.2, takes_s=0.8)
    log.respond(3.0, think_s=0.2)
    log.close()
    timeline = timeline_in(log, tmp_path)

    (turn,) = timeline.exchanges
    assert [each.names for each in turn.tools] == [["get_weather"]]
    assert turn.voice_to_voice_s == pytest.approx(1.6, abs=0.05)
    assert dict(turn.segments) == {
        "turn detection": pytest.approx(0.4),
        "thinking": pytest.approx(0.2),
        "tools": pytest.approx(0.8),
        "first audio": pytest.approx(0.2),
    }
    assert timeline.summary()["tools"]["mean_s"] == turn.voice_to_voice_s
    assert timeline.summary()["plain"]["count"] == 0
    (tool,) = [span for span in timeline.spans if span.kind == "tool"]
    assert tool.end_s - tool.begin_s == pytest.approx(0.8)
    assert "sunny" in tool.detail


def test_calls_with_the_same_id_are_calls_of_their_own(log: WireLines, tmp_path: Path) -> None:
    """Function calls whose id is empty, or used again, each have their own output, in order."""
    for call_id in ("", "again"):
        log.line("response.created", response={"id": f"resp-{call_id}"})
        for name in ("first", "second", "third"):
            log.line(
                "response.function_call_arguments.done",
                response_id=f"resp-{call_id}",
                call_id=call_id,
                name=name,
            )
        for output in ("one", "two"):
            log.send_sound(0.4)
            item = {"type": "function_call_output", "call_id": call_id, "output": output}
            log.line("conversation.item.create", "sent", item=item)
    timeline = timeline_in(log, tmp_path)

    tools = [span for span in timeline.spans if span.kind == "tool"]
    found = [(span.label, span.detail, round(span.end_s - span.begin_s, 1)) for span in tools]
    assert found == [
        ("first", " → one", 0.4),
        ("second", " → two", 0.8),
        ("third", " → no output", 1.6),
        ("first", " → one", 0.4),
        ("second", " → two", 0.8),
        ("third", " → no output", 0.8),
    ]


def test_one_call_is_counted_as_one(log: WireLines, tmp_path: Path) -> None:
    """A response with one function call is said to have one, with two to have two."""
    log.call_tool("look")
    log.call_tool("look")
    log.line("response.function_call_arguments.done", call_id="c", name="look", arguments="{}")
    timeline = timeline_in(log, tmp_path)

    one, two = (span.detail.split(", ") for span in timeline.spans if span.kind == "response")
    assert "1 function call" in one
    assert "2 function calls" in two


def test_a_word_before_a_call_is_not_the_answer(log: WireLines, tmp_path: Path) -> None:
    """Audio in the response that calls is the first; the answer is what comes after the output."""
    log.speak(2.0)
    response = log.respond(0.8, name="resp-both")
    log.line(
        "response.function_call_arguments.done",
        response_id=response,
        call_id="c1",
        name="look",
        arguments="{}",
    )
    log.send_sound(1.0)
    item = {"type": "function_call_output", "call_id": "c1", "output": "42"}
    log.line("conversation.item.create", "sent", item=item)
    log.line("response.create", "sent")
    log.respond(1.0, think_s=0.4)
    timeline = timeline_in(log, tmp_path)

    (turn,) = timeline.exchanges
    assert turn.first_audio_s is not None
    assert turn.answer_audio_s is not None
    assert turn.first_audio_s - turn.end_s == pytest.approx(0.6, abs=0.05)
    assert turn.answer_audio_s - turn.end_s == pytest.approx(2.0, abs=0.05)


def test_an_interruption_cuts_what_was_not_played(log: WireLines, tmp_path: Path) -> None:
    """Audio comes ten times too fast: what was not played when the user spoke is cut."""
    log.speak(2.0)
    log.respond(6.0, text="one,two,three,four")
    log.send_sound(2.0)
    log.speak(1.0)
    log.respond(1.0)
    timeline = timeline_in(log, tmp_path)

    assert [mark.kind for mark in timeline.marks] == ["interruption"]
    first, second = timeline.exchanges
    assert (first.is_barge_in, second.is_barge_in) == (False, True)
    voice = next(span for span in timeline.spans if span.kind == "voice")
    assert voice.detail == "interrupted"
    assert voice.end_s - voice.begin_s == pytest.approx(2.0, abs=0.1)
    assert [caption.text for caption in timeline.captions] == ["one"]


def test_a_turn_after_the_answer_is_no_interruption(log: WireLines, tmp_path: Path) -> None:
    """A user who waits until the agent is silent interrupts nothing."""
    for _ in range(2):
        log.speak(1.0)
        log.respond(2.0)
        log.send_sound(3.0)
    timeline = timeline_in(log, tmp_path)

    assert timeline.marks == []
    assert [turn.is_barge_in for turn in timeline.exchanges] == [False, False]


def test_words_after_a_lost_connection_are_no_barge_in(log: WireLines, tmp_path: Path) -> None:
    """A response whose connection is gone is over, though it never had a `response.done`."""
    log.speak(1.0)
    log.line("response.created", response={"id": "resp-lost", "status": "in_progress"})
    log.send_sound(0.5)
    log.close(1006, by="nobody")
    log.connection = 2
    log.connect()
    log.speak(1.0)
    log.respond(1.0)
    log.close()
    timeline = timeline_in(log, tmp_path)

    assert [turn.is_barge_in for turn in timeline.exchanges] == [False, False]
    assert "interruption" not in {mark.kind for mark in timeline.marks}
    assert "lost" in {span.label for span in timeline.spans}


def test_an_old_connection_ends_nothing_of_the_new(log: WireLines, tmp_path: Path) -> None:
    """What is late of a connection that was left leaves the next one's turn and response alone."""

    def close_the_old() -> None:
        log.connection = 1
        log.line("input_audio_buffer.speech_stopped", item_id="item-old")
        log.line("response.done", response={"id": "resp", "status": "cancelled"})
        log.close()
        log.connection = 2

    log.line("response.created", response={"id": "resp", "status": "in_progress"})
    log.connection = 2
    log.connect()
    log.send_sound(0.5)
    log.line("input_audio_buffer.speech_started", item_id="item-new")
    log.send_sound(1.0, 0.5)
    close_the_old()
    log.send_sound(1.0, 0.5)
    log.line("input_audio_buffer.speech_stopped", item_id="item-new")
    log.line("response.created", response={"id": "resp", "status": "in_progress"})
    close_the_old()
    log.send_sound(0.5)
    log.line("response.done", response={"id": "resp", "status": "completed"})
    timeline = timeline_in(log, tmp_path)

    (turn,) = timeline.exchanges
    assert not turn.is_barge_in
    assert turn.end_s - turn.begin_s == pytest.approx(2.0, abs=0.05)
    old, new = (span for span in timeline.spans if span.kind in ("response", "cancelled"))
    assert (old.label, new.label) == ("cancelled", "completed")
    assert new.end_s - new.begin_s == pytest.approx(0.5, abs=0.05)


def test_a_request_after_a_lost_link_is_not_for_the_outputs(log: WireLines, tmp_path: Path) -> None:
    """Outputs whose request was lost with the link leave the next connection's requests alone."""
    log.speak(1.0)
    log.call_tool("look")
    assert log.lines.pop()["type"] == "response.create"
    log.close(1006, by="nobody")
    log.connection = 2
    log.connect()
    log.line("response.create", "sent")
    log.respond(1.0, think_s=0.3)
    timeline = timeline_in(log, tmp_path)

    turn, request = timeline.exchanges
    assert (turn.kind, turn.voice_to_voice_s) == ("speech", None)
    assert request.kind == "request"
    assert request.voice_to_voice_s == pytest.approx(0.3, abs=0.05)


def test_a_request_after_outputs_that_were_told_is_not_for_them(
    log: WireLines, tmp_path: Path
) -> None:
    """Outputs that an answer of the server's own has told leave later requests alone."""
    log.speak(1.0)
    log.call_tool("look")
    assert log.lines.pop()["type"] == "response.create"
    log.respond(1.0)
    log.send_sound(2.0)
    log.line("response.create", "sent")
    log.respond(1.0)
    timeline = timeline_in(log, tmp_path)

    assert [each.kind for each in timeline.exchanges] == ["speech", "request"]
    assert all(each.voice_to_voice_s is not None for each in timeline.exchanges)


def test_audio_is_as_long_as_its_own_connection_says(log: WireLines, tmp_path: Path) -> None:
    """A new connection that is being made does not change the rate of the present one's audio."""
    log.line("session.configured", session={"output_audio_sample_rate": 8_000})
    log.speak(1.0)
    log.connection = 2
    log.line("connection.opening", "note", model="hydra")
    log.connection = 1
    log.respond(1.0)
    lines = lines_of(log, tmp_path)

    (voice,) = (span for span in timeline_of(lines).spans if span.kind == "voice")
    assert voice.end_s - voice.begin_s == pytest.approx(3.0, abs=0.1)
    log.connection = 2
    log.line("session.configured", session={"output_audio_sample_rate": 48_000})
    log.connection = 1
    log.respond(1.0)
    rows = rows_of(lines_of(log, tmp_path))
    audio = [row for row in rows if row.flag == "audio" and row.direction == "received"]
    assert sum(row.frame["audio_s"] for row in audio) == pytest.approx(6.0)


def test_a_discarded_turn_has_no_latency(log: WireLines, tmp_path: Path) -> None:
    """A cough is shown as what it is, and the answer after it is not its own."""
    log.speak(0.2, hang_s=0.2)
    log.lines[-1]["frame"]["item"]["status"] = "incomplete"
    log.send_sound(1.0)
    log.speak(1.0)
    log.respond(1.0)
    timeline = timeline_in(log, tmp_path)

    assert [turn.is_discarded for turn in timeline.exchanges] == [True, False]
    assert timeline.exchanges[0].voice_to_voice_s is None
    assert timeline.exchanges[1].voice_to_voice_s is not None
    assert [span.kind for span in timeline.spans if span.kind == "discarded"] == ["discarded"]


def test_a_late_speech_stopped_changes_nothing(log: WireLines, tmp_path: Path) -> None:
    """Where the server says late or never that the user has stopped, the audio still tells."""
    log.speak(2.0)
    stopped = next(line for line in log.lines if line["type"].endswith("speech_stopped"))
    log.lines.remove(stopped)
    log.respond(1.0, think_s=0.2)
    timeline = timeline_in(log, tmp_path)

    (turn,) = timeline.exchanges
    assert turn.voice_to_voice_s == pytest.approx(0.6, abs=0.05)


def test_a_log_without_peaks_goes_by_the_server(log: WireLines, tmp_path: Path) -> None:
    """Without peaks the end of speech is the server's word for it, and the page says so."""
    log.speak(2.0)
    log.respond(1.0, think_s=0.2)
    for line in log.lines:
        if line["type"] == "input_audio_buffer.append":
            line["frame"]["audio"]["peak"] = 0.0
    timeline = timeline_in(log, tmp_path)

    (turn,) = timeline.exchanges
    assert not turn.is_measured
    assert turn.voice_to_voice_s == pytest.approx(0.2, abs=0.01)


def test_what_was_asked_for_is_no_user_turn(tmp_path: Path) -> None:
    """A greeting and a reply on demand have latencies of their own, outside of the figures."""
    log = WireLines()
    log.connect(greet=True)
    log.respond(1.0, think_s=0.2)
    log.send_sound(2.0)
    log.line("response.create", "sent")
    log.respond(1.0, think_s=0.4)
    timeline = timeline_in(log, tmp_path)

    assert [turn.kind for turn in timeline.exchanges] == ["greeting", "request"]
    assert [turn.voice_to_voice_s for turn in timeline.exchanges] == [
        pytest.approx(0.2, abs=0.01),
        pytest.approx(0.4, abs=0.01),
    ]
    assert timeline.summary()["plain"]["count"] == 0


def test_trouble_is_marked(log: WireLines, tmp_path: Path) -> None:
    """Errors, warnings and connections that fail, end or begin again are marks with their words."""
    log.line("error", error={"code": "tool_response_timeout", "message": "too late"})
    log.line("warning", code="model_deprecated", message="use another")
    log.close(1011, "server", "oops")
    log.connection = 2
    log.now_s += 1
    log.line("connection.opening", "note")
    log.line("connection.failed", "note", error="nobody there")
    log.connection = 3
    log.connect()
    log.line("connection.reconnect", "note", reason="another voice")
    log.close()
    timeline = timeline_in(log, tmp_path)

    marks = [(mark.kind, mark.label) for mark in timeline.marks]
    assert ("error", "tool_response_timeout: too late") in marks
    assert ("warning", "model_deprecated: use another") in marks
    assert ("error", "connection 1 closed by the server with 1011 (oops)") in marks
    assert ("error", "connection 2 failed: nobody there") in marks
    assert ("reconnect", "a new connection: another voice") in marks
    assert [kind for kind, _ in marks].count("reconnect") == 3
    spans = [span for span in timeline.spans if span.kind == "connection"]
    assert [span.label for span in spans] == ["connection 1", "connection 3"]


def test_attempts_before_the_first_connection_are_no_reconnects(tmp_path: Path) -> None:
    """Only what is opened after a connection was ready is one; attempts that fail never are."""
    log = WireLines()
    for _ in range(2):
        log.line("connection.opening", "note")
        log.line("connection.failed", "note", error="nobody there")
        log.connection += 1
    log.line("connection.opening", "note")
    log.line("connection.opened", "note")
    log.close(1013, "server", "server_full")
    log.connection += 1
    log.connect()
    timeline = timeline_in(log, tmp_path)

    assert timeline.summary()["reconnects"] == 0
    assert "reconnect" not in {mark.kind for mark in timeline.marks}
    log.close(1006, by="nobody")
    log.connection += 1
    log.line("connection.opening", "note")
    log.line("connection.failed", "note", error="nobody there")
    log.connection += 1
    log.connect()
    timeline = timeline_in(log, tmp_path)

    assert timeline.summary()["reconnects"] == 1
    tried = [mark.label for mark in timeline.marks if mark.kind == "reconnect"]
    assert tried == ["connection 5 is tried", "connection 6 is tried"]


def test_captions_come_when_they_are_played(log: WireLines, tmp_path: Path) -> None:
    """Phrases of a response are one caption; the user's text is another, at its turn."""
    log.speak(2.0)
    log.lines[-1]["frame"]["item"]["content"] = [{"type": "input_audio", "text": "And today?"}]
    log.respond(3.0, text="It is sunny,and warm.")
    timeline = timeline_in(log, tmp_path)

    user, agent = timeline.captions
    assert (user.who, user.text) == ("user", "And today?")
    assert user.begin_s == pytest.approx(1.0, abs=0.05)
    assert (agent.who, agent.text) == ("agent", "It is sunny and warm.")
    assert len(agent.phrases) == 2


def test_captions_of_the_user_are_at_their_turns(log: WireLines, tmp_path: Path) -> None:
    """Text that comes when the next turn has begun is that of its own; typed text has its place.

    A verdict on an earlier turn does not end the present one.
    """

    def done(number: int, text: str, status: str = "completed") -> None:
        content = [{"type": "input_audio", "text": text}]
        item = {"id": f"item-{number}", "role": "user", "status": status, "content": content}
        log.line("conversation.item.done", item=item)

    for _ in range(2):
        log.speak(1.0)
        assert log.lines.pop()["type"] == "conversation.item.done"
        log.send_sound(1.0)
    log.send_sound(0.04, 0.5)
    log.line("input_audio_buffer.speech_started", item_id="item-3")
    done(1, "First.")
    done(2, "", "incomplete")
    log.send_sound(1.0, 0.5)
    done(3, "Third.")
    log.line("input_audio_buffer.speech_stopped", item_id="item-3")
    typed = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hm."}]}
    log.line("conversation.item.create", "sent", item=typed)
    log.line("conversation.item.done", item=typed | {"id": "echo"})
    timeline = timeline_in(log, tmp_path)

    first, second, third = timeline.exchanges
    assert [turn.is_discarded for turn in (first, second, third)] == [False, True, False]
    assert third.end_s - third.begin_s == pytest.approx(1.04, abs=0.02)
    assert [(each.who, each.begin_s, each.text) for each in timeline.captions] == [
        ("user", first.begin_s, "First."),
        ("user", third.begin_s, "Third."),
        ("user", pytest.approx(log.now_s), "Hm."),
    ]


def test_captions_show_what_was_played(log: WireLines, tmp_path: Path) -> None:
    """Text runs ahead of its audio: where that is cut, the words that were played are shown."""
    log.speak(1.0)
    log.respond(4.0, text="It is sunny this,morning with clouds,in the west")
    log.send_sound(2.2)
    log.speak(1.0)
    log.respond(2.0, text="Clouds come in the,evening.")
    timeline = timeline_in(log, tmp_path)

    cut, whole = timeline.captions
    assert cut.text == "It is sunny this morning"
    assert whole.text == "Clouds come in the evening."
    first_s, second_s = (at_s for at_s, _ in whole.phrases)
    assert second_s - first_s == pytest.approx(2.0 * 19 / 28, abs=0.05)


def test_text_that_was_never_played_is_no_caption(log: WireLines, tmp_path: Path) -> None:
    """A response that was cut before a word was played has no caption, whatever comes later."""
    log.speak(1.0)
    for name in ("resp-silent", "resp-cut"):
        log.line("response.created", response={"id": name, "status": "in_progress"})
        log.send_sound(0.4)
        log.line("response.output_audio_transcript.delta", response_id=name, delta="Early.")
    log.line("response.output_audio.delta", response_id="resp-cut", delta={"bytes": 48_000})
    log.speak(1.0)
    for name in ("resp-silent", "resp-cut"):
        log.line("response.output_audio_transcript.delta", response_id=name, delta="Late.")
        log.line("response.output_audio.delta", response_id=name, delta={"bytes": 48_000})
    timeline = timeline_in(log, tmp_path)

    assert [caption.text for caption in timeline.captions] == []


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        (["The museum", "is open."], "The museum is open."),
        (["The mu", "seum", " is", " open", "."], "The museum is open."),
        (["The museum ", "is ", "open."], "The museum is open."),
    ],
)
def test_captions_have_the_spaces_of_the_wire(
    deltas: list[str], text: str, log: WireLines, tmp_path: Path
) -> None:
    """Phrases are joined by spaces, unless the server's own bring them: then as they come."""
    log.respond(0.0, name="resp")
    for delta in deltas:
        log.line("response.output_audio_transcript.delta", response_id="resp", delta=delta)
    (caption,) = timeline_in(log, tmp_path).captions

    assert caption.text == text


def test_a_run_of_audio_is_one_row(log: WireLines, tmp_path: Path) -> None:
    """Frames of audio are counted together, second by second; every other frame has its row."""
    log.speak(2.0)
    log.respond(2.0)
    rows = rows_of(lines_of(log, tmp_path))

    audio = [row for row in rows if row.flag == "audio"]
    others = [line for line in log.lines if "append" not in line["type"]]
    others = [line for line in others if "audio.delta" not in line["type"]]
    assert len(rows) - len(audio) == len(others)
    assert len(audio) < 12
    sent = sum(row.frame["frames"] for row in audio if row.direction == "sent")
    assert sent == len([line for line in log.lines if "append" in line["type"]])
    assert sum(row.frame["audio_s"] for row in audio if row.direction == "received") == 2.0


# ------------------------------------------------------------------------- anything at all


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "text", "item", "code", "bytes", "peak", "name", "role", "status"]
            ),
            inside,
            max_size=3,
        )
    ),
    max_leaves=6,
)
FIELDS = (
    "response",
    "response_id",
    "item",
    "item_id",
    "call_id",
    "delta",
    "audio",
    "session",
    "error",
    "code",
    "by",
)
TYPES = (
    "session.configure",
    "session.configured",
    "input_audio_buffer.append",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "conversation.item.done",
    "conversation.item.create",
    "response.create",
    "response.created",
    "response.output_audio.delta",
    "response.output_audio_transcript.delta",
    "response.function_call_arguments.done",
    "response.done",
    "error",
    "warning",
    "connection.opened",
    "connection.closed",
    "(malformed)",
    "odd",
)
FRAMES = st.builds(
    lambda direction, kind, frame: (direction, kind, frame),
    st.sampled_from(["sent", "received", "note"]),
    st.sampled_from(TYPES),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4) | JSON,
)


@settings(max_examples=150)
@given(st.lists(FRAMES, min_size=1, max_size=25))
def test_any_log_has_a_page(frames: list[tuple[Any, str, Any]]) -> None:
    """Whatever a server or another tool writes, there is a page, and its data can be read."""
    lines = [
        LogLine(number * 0.1, "call", 1, direction, kind, frame)
        for number, (direction, kind, frame) in enumerate(frames)
    ]
    text = render(lines)

    data = json.loads(re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)[0])
    assert len(data["rows"]) <= len(lines)
    assert data["duration_s"] >= 0


@pytest.mark.parametrize("odd", [[1], "x", 1e300, None, {"a": 1}])
def test_odd_values_of_a_frame_are_passed_over(odd: Any) -> None:
    """Numbers that are none, and content that is no list, leave the rest of the page alone."""
    frames: list[tuple[Any, str, Any]] = [
        ("sent", "input_audio_buffer.append", {"audio": {"bytes": odd, "peak": odd}}),
        ("received", "input_audio_buffer.speech_started", {}),
        ("received", "conversation.item.done", {"item": {"role": "user", "content": 7}}),
        ("received", "conversation.item.done", {"item": {"role": "user", "content": odd}}),
    ]
    lines = [LogLine(0.1, "call", 1, *frame) for frame in frames]

    assert "1 frame, 0.00 s of audio, peak 0.00" in render(lines)


def test_an_odd_time_draws_a_day_at_most() -> None:
    """One line that is said to be years after the call makes no page of gigabytes."""
    lines = [LogLine(at_s, "call", 1, "received", "odd", {}) for at_s in (0.0, 1e9)]

    assert len(render(lines)) < 30_000_000


# ------------------------------------------------------------------------- reading


def test_a_torn_line_is_left_out(log: WireLines, tmp_path: Path) -> None:
    """A process that was killed leaves half a line; the rest of the log is read."""
    path = log.write(tmp_path / "wire.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b"\n\xff\xfe\n[]\n{}\n")

    assert len(read(path)) == len(log.lines) - 1


def test_calls_of_a_file_are_told_apart(tmp_path: Path) -> None:
    """Calls are separated by their id, and come in the order in which they began."""
    first, second = WireLines(call="b"), WireLines(call="a", day="2026-11-24")
    first.connect()
    second.connect()
    second.speak(1.0)
    first.lines += second.lines
    path = first.write(tmp_path / "wire.jsonl")

    calls = calls_in(read(path))
    assert list(calls) == ["b", "a"]
    assert len(calls["a"]) == len(second.lines)


@pytest.mark.parametrize("text", ["", "no log at all\n", '{"a": 1}\n'])
def test_what_is_no_log_is_refused(text: str, tmp_path: Path) -> None:
    """A file without a line of a wire log is refused with a sentence that names it."""
    path = tmp_path / "wire.jsonl"
    path.write_text(text)

    with pytest.raises(LogUnreadable, match=r"wire\.jsonl has no line"):
        read(path)


# ------------------------------------------------------------------------- recordings


def speech(seconds: float, *, rate_hz: int = 24_000, n_channels: int = 2) -> recordings.Samples:
    """Return something to hear, another thing on each channel."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    sides = [9_000 * np.sin(2 * np.pi * (300 + 200 * side) * times) for side in range(n_channels)]
    return np.stack(sides, axis=1).astype(np.int16)


def write_wav(path: Path, samples: recordings.Samples, rate_hz: int = 24_000) -> Path:
    """Write a wav file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return path


ENCODERS = {"wav": "pcm_s16le", "flac": "flac", "ogg": "libopus", "mp3": "libmp3lame"}


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_sound_files_of_any_kind_are_read(
    kind: str, n_channels: int, rate_hz: int, tmp_path: Path
) -> None:
    """wav, flac, ogg and mp3, mono and stereo, at any rate: the same sound, and all of it."""
    import av

    path = tmp_path / f"sound.{kind}"
    samples = speech(1.0, rate_hz=rate_hz, n_channels=n_channels)
    layout = "mono" if n_channels == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(ENCODERS[kind], rate=rate_hz)
        stream.layout = layout
        whole = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        whole.sample_rate = rate_hz
        converter = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate_hz, frame_size=stream.frame_size or 1024
        )
        for source in (whole, None):
            for frame in converter.resample(source):
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    found = recordings.read(path, rate_hz=16_000)[:, 0]
    assert found.size / 16_000 == pytest.approx(1.0, abs=0.06)
    middle = found[4_000:12_000].astype(float)
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) * 16_000 / middle.size in (300, 500)
    assert np.abs(middle).max() > 4_000


def test_opus_keeps_the_time(tmp_path: Path) -> None:
    """The compact sound is as long as the recording, and each side stays on its side."""
    samples = speech(2.5)
    samples[:, 1] = 0
    path = tmp_path / "speech.ogg"
    path.write_bytes(recordings.to_opus(samples, rate_hz=24_000))

    assert path.stat().st_size < 20_000
    assert path.read_bytes()[:4] == b"OggS"
    left, right = recordings.read(path, rate_hz=24_000, n_channels=2).T
    assert left.size == pytest.approx(len(samples), abs=480)
    assert np.abs(left).max() > 4_000
    assert np.abs(right).max() < 400


@pytest.mark.parametrize("n_channels", [1, 2])
def test_opus_of_nothing_plays_nothing(n_channels: int, tmp_path: Path) -> None:
    """Audio that has no samples is a file all the same, and there is no sound in it."""
    path = tmp_path / "nothing.ogg"
    path.write_bytes(recordings.to_opus(np.zeros((0, n_channels), np.int16), rate_hz=24_000))

    with pytest.raises(recordings.RecordingUnreadable, match=r"nothing\.ogg has no audio in it"):
        recordings.read(path, rate_hz=24_000)


@pytest.mark.parametrize("content", [b"", b"no sound"])
def test_what_is_no_sound_is_refused(content: bytes, tmp_path: Path) -> None:
    """A file that is no sound is refused with a sentence that names it and what would do."""
    path = tmp_path / "x.wav"
    path.write_bytes(content)

    with pytest.raises(recordings.RecordingUnreadable, match=r"x\.wav .*(wav, flac|no audio)"):
        recordings.read(path, rate_hz=16_000)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no colons in names")
def test_a_recording_may_have_a_colon_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with a time of day is a file, and no address."""
    monkeypatch.chdir(tmp_path)
    write_wav(Path("12:30.wav"), speech(0.5))

    assert recordings.read("12:30.wav", rate_hz=24_000).shape == (12_000, 1)


def test_a_path_that_can_not_be_looked_at_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that can't be entered gives a sentence and no traceback, in every reader."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = Path("locked") / "x"
    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(LogUnreadable, match="is no file"):
        read(path)
    with pytest.raises(ScenarioUnreadable, match="is no file"):
        read_scenario(path)
    with pytest.raises(recordings.RecordingUnreadable, match="is no file"):
        recordings.read(path, rate_hz=24_000)


# ------------------------------------------------------------------------- the page


def test_the_page_is_one_file_that_allows_nothing_else(log: WireLines, tmp_path: Path) -> None:
    """Its policy names the one script and the one style in it, and no address is anywhere."""
    log.speak(1.0)
    log.respond(1.0)
    text = render(lines_of(log, tmp_path), audio=speech(3.0))

    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    for inline in (script, style):
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "{{" not in text.replace(script, "")


@pytest.mark.parametrize("at_s", [-3.0, -1e300, 1e5, 1e300])
def test_a_recording_beside_the_call_makes_no_player(
    at_s: float, log: WireLines, tmp_path: Path
) -> None:
    """Audio that ends before the call or begins hours later is left out; the page is drawn."""
    text = render(lines_of(log, tmp_path), audio=speech(2.7), audio_at_s=at_s)

    assert '"source":"log"' in text
    assert re.findall(r'id="recording">(.*?)</script>', text) == [""]


EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>{{data}}"


def evil_log() -> WireLines:
    """A call in which everything that a server or a user can write is an attack."""
    log = WireLines()
    log.connect(instructions=EVIL, voice=EVIL)
    log.speak(1.0)
    log.lines[-1]["frame"]["item"]["content"] = [{"type": "input_audio", "text": EVIL}]
    log.call_tool(EVIL, output=EVIL)
    log.respond(2.0, text=EVIL.replace(",", ""))
    log.send_sound(0.5)
    log.speak(1.0)
    log.line("error", error={"code": EVIL, "message": EVIL})
    log.line(EVIL, x=EVIL)
    log.close(1011, "server", EVIL)
    return log


def test_nothing_from_the_wire_is_markup(tmp_path: Path) -> None:
    """Whatever is on the wire, the page's own elements are all that there is."""
    text = render(lines_of(evil_log(), tmp_path), title=EVIL)

    assert text.count("<script") == 3
    assert text.count("</script") == 3
    assert "<img" not in text


async def test_report_as_a_process(tmp_path: Path) -> None:
    """`report wire.jsonl call.wav` writes a page with both, and says of which call."""
    first, second = WireLines(call="aaa"), WireLines(call="bbb", day="2026-11-24")
    for log in (first, second):
        log.connect()
        log.speak(1.0)
        log.respond(1.0)
        log.close()
    first.lines += second.lines
    first.write(tmp_path / "wire.jsonl")
    write_wav(tmp_path / "call.wav", speech(3.0))

    ran = await hydra("report", "wire.jsonl", "call.wav", "--call", "1", cwd=tmp_path)

    assert (ran.code, ran.err) == (0, "")
    assert "report.html" in ran.out
    assert "call 1 of 2" in ran.words
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '"began":"2026-11-23' in text
    recording = re.findall(r'id="recording">(.*?)</script>', text)[0]
    assert base64.b64decode(recording)[:4] == b"OggS"


def test_report_says_which_lines_it_can_not_read(log: WireLines, tmp_path: Path) -> None:
    """Lines that are torn or no line of a log are counted, and the first is named with its file."""
    path = log.write(tmp_path / "wire.jsonl")
    _, words = here(tmp_path, "report", "wire.jsonl")
    assert "can't be read" not in words

    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text(f"{first}\n{first[:40]}\n" + "".join(others) + '{"a": 1}\n[]')
    code, words = here(tmp_path, "report", "wire.jsonl")
    assert code == 0
    assert "3 lines can't be read; the first is line 3 of wire.jsonl" in words
    assert f"shows {len(log.lines)} frames and notes" in words

    path.write_text(first + first[:40] + "\n" + "".join(others))
    _, words = here(tmp_path, "report", "wire.jsonl")
    assert "1 line can't be read; the first is line 2 of wire.jsonl" in words


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.jsonl"], "HYDRA_WIRE_LOG"),
        (["wire.jsonl", "nowhere.wav"], "nowhere.wav is no file"),
        (["wire.jsonl", "wire.jsonl"], "can't be read as audio"),
        (["wire.jsonl", "--recording-at", "nan"], "--recording-at takes seconds, not nan"),
        (["wire.jsonl", "--recording-at=-inf"], "--recording-at takes seconds, not -inf"),
        (["wire.jsonl", "--call", "7"], "1 call-1 2026-11-23T09:00:00.000000Z"),
        (["wire.jsonl", "--out", "nowhere/x.html"], "Name another file with --out"),
    ],
)
def test_report_says_what_is_wrong(
    arguments: list[str], sentence: str, log: WireLines, tmp_path: Path
) -> None:
    """Files that can't be read or written, calls that are not there: exit code 2, and a remedy."""
    log.write(tmp_path / "wire.jsonl")
    code, words = here(tmp_path, "report", *arguments)

    assert code == 2
    assert sentence in words


# ------------------------------------------------------------------------- in a browser


async def opened(tab: Page, path: Path) -> float:
    """Open a page, wait until it has drawn itself, and return the milliseconds that took."""
    await tab.open(path)
    await tab.until("document.documentElement.dataset.ready")
    return float(
        await tab.run("new Promise((done) => requestAnimationFrame(() => done(performance.now())))")
    )


@needs_chromium
async def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """It plays, seeks by mouse and keys, searches and filters its log, without any network."""
    log = long_call(1.0)
    path = tmp_path / "report.html"
    path.write_text(render(lines_of(log, tmp_path), audio=speech(60.0)), encoding="utf-8")
    async with page() as tab:
        await tab.resize(1280, 900)
        await opened(tab, path)

        box = await tab.run(
            "(() => { const box = document.getElementById('scene').getBoundingClientRect();"
            " return [box.left, box.top, box.width] })()"
        )
        await tab.click(box[0] + 84 + (box[2] - 84) / 2, box[1] + 50)
        assert await tab.run("document.getElementById('clock').textContent") == "0:30.0"

        await tab.press("ArrowRight")
        assert await tab.run("document.getElementById('clock').textContent") == "0:31.0"
        await tab.press("n")
        at = await tab.run("document.getElementById('stage').getAttribute('aria-valuenow')")
        assert float(at) > 31

        assert await tab.until("document.getElementById('audio').duration > 59")
        await tab.press(" ", code="Space")
        await tab.until("!document.getElementById('audio').paused")
        await tab.until(
            f"Number(document.getElementById('stage').getAttribute('aria-valuenow')) > {at} + 0.3"
        )
        await tab.press(" ", code="Space")
        await tab.until("document.getElementById('audio').paused")

        await tab.press("/")
        await tab.call("Input.insertText", text="function_call get_weather")
        await tab.until("/ of /.test(document.getElementById('count').textContent)")
        rows = "[...document.querySelectorAll('.row')].map((row) => row.textContent)"
        assert await tab.run(f"{rows}.every((text) => text.includes('function_call'))")
        await tab.run("document.querySelector('.row').click()")
        assert "get_weather" in await tab.run("document.getElementById('json').textContent")

        assert tab.troubles == []
        assert tab.requests == [path.as_uri()]


@needs_chromium
async def test_an_attack_on_the_wire_is_text_in_the_browser(tmp_path: Path) -> None:
    """Scripts and images in texts, names and errors are shown, and nothing of them runs."""
    path = tmp_path / "report.html"
    path.write_text(render(lines_of(evil_log(), tmp_path), title=EVIL), encoding="utf-8")
    async with page() as tab:
        await opened(tab, path)
        await tab.run("for (const row of document.querySelectorAll('.row')) row.click()")

        assert await tab.run("window.hacked") is None
        assert await tab.run("document.querySelectorAll('img').length") == 0
        assert EVIL in await tab.run("document.getElementById('title').textContent")
        assert EVIL in await tab.run("document.getElementById('told').textContent")
        assert tab.troubles == []


@needs_chromium
async def test_the_page_on_a_phone_and_in_the_dark(tmp_path: Path) -> None:
    """Nothing is wider than a phone's window, and the reader's wish for darkness is met."""
    path = tmp_path / "report.html"
    path.write_text(render(lines_of(long_call(1.0), tmp_path)), encoding="utf-8")
    async with page() as tab:
        await tab.resize(390, 844)
        colors = {}
        for scheme in ("light", "dark"):
            await tab.prefer(scheme)
            await opened(tab, path)
            colors[scheme] = await tab.run("getComputedStyle(document.body).backgroundColor")
            assert await tab.run("document.documentElement.scrollWidth") == 390

        assert colors["light"] == "rgb(244, 246, 248)"
        assert colors["dark"] == "rgb(13, 17, 23)"
        assert tab.troubles == []


@needs_chromium
@pytest.mark.parametrize("odd_s", [1e11, 1e300])
async def test_an_odd_time_hangs_no_browser(odd_s: float, tmp_path: Path) -> None:
    """A call that is said to last for ages has as few ticks as any, at its end as well."""
    log = WireLines()
    log.connect()
    log.speak(1.0)
    lines = lines_of(log, tmp_path)
    for kind, fields in (
        ("response.created", {"response": {"id": "r"}}),
        ("response.output_audio.delta", {"response_id": "r", "delta": {"bytes": 960}}),
    ):
        lines.append(LogLine(odd_s, log.call, 1, "received", kind, fields))
    path = tmp_path / "report.html"
    path.write_text(render(lines), encoding="utf-8")
    async with page() as tab:
        await tab.resize(1280, 900)
        await opened(tab, path)

        assert await tab.run("document.querySelectorAll('.chart line').length") < 20
        await tab.run("document.getElementById('stage').focus()")
        await tab.press("End")
        for _ in range(60):
            await tab.press("+")
        assert await tab.run("new Promise(requestAnimationFrame)") > 0
        assert tab.troubles == []


@needs_chromium
async def test_a_ten_minute_call_opens_in_two_seconds(tmp_path: Path) -> None:
    """Ten minutes with audio and 24,000 frames: drawn in under two seconds, the log too."""
    log = long_call(10.0)
    path = tmp_path / "report.html"
    path.write_text(render(lines_of(log, tmp_path), audio=speech(600.0)), encoding="utf-8")
    async with page() as tab:
        await tab.resize(1280, 900)
        took_ms = [await opened(tab, path) for _ in range(2)]
        print(f"opened in {[round(each) for each in took_ms]} ms")
        n_rows = await tab.run("document.querySelectorAll('.row').length")
        slowest_ms = await tab.run(ZOOM)
        print(f"slowest of 40 pictures while zooming and scrolling: {slowest_ms:.0f} ms")

        assert min(took_ms) < 2_000
        assert n_rows < 60
        assert tab.troubles == []


ZOOM = """
(async () => {
  const stage = document.getElementById("stage"), list = document.getElementById("list");
  let slowest = 0;
  for (let i = 0; i < 40; i++) {
    const began = performance.now();
    stage.dispatchEvent(new WheelEvent("wheel", { deltaY: i < 20 ? -20 : 20, ctrlKey: true,
      clientX: 600, clientY: 300, cancelable: true }));
    list.scrollTop += 700;
    await new Promise(requestAnimationFrame);
    slowest = Math.max(slowest, performance.now() - began);
  }
  return slowest;
})()
"""
