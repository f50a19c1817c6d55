"""The wire log: every frame as a line, without audio or key, and never in the way of the call."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import wire
from livekit_plugins_hydra.protocol.errors import ConnectionFailed
from livekit_plugins_hydra.report import calls_in, read
from livekit_plugins_hydra.testing import Call, ConnectionRecord, Say, Scenario
from livekit_plugins_hydra.transport import wirelog
from livekit_plugins_hydra.transport.connecting import connect
from livekit_plugins_hydra.transport.wirelog import STOP_BUDGET_S, Trace
from tests.calls import KEY, PATIENCE_S, tone
from tests.direct import Line, hear, line
from tests.transport.test_connection import options_for

SCENARIO = Scenario(default_reply=Say(duration_s=0.4, text="Yes, of course."), transcripts=True)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; each must be one whole JSON object."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder, by name."""
    return sorted(folder.iterdir())


async def begin(call: Line) -> None:
    """Have a session configured: it waits for the first audio."""
    call.say(tone(0.02))
    await call.ready()


async def a_turn(path: Path, scenario: Scenario = SCENARIO, **options: Any) -> ConnectionRecord:
    """Hold a call of one turn, and return what the server knows of it."""
    async with line(scenario, wire_log=path, **options) as call:
        await call.session.update_instructions("You are a café.")
        await begin(call)
        call.say(tone(0.6))
        await hear(await call.generation())
        await call.until(lambda: call.responses_measured)
        return call.server.connection


async def test_each_frame_is_a_line(tmp_path: Path) -> None:
    """The log of a call has the frames that both sides have seen, in order, and its two ends."""
    record = await a_turn(tmp_path / "wire.jsonl")
    lines = lines_of(tmp_path / "wire.jsonl")

    received = [line["type"] for line in lines if line["direction"] == "received"]
    assert received == record.types_sent(without_audio=False)
    sent = [line["type"] for line in lines if line["direction"] == "sent"]
    seen = [frame.event.type for frame in record.client_events]
    assert sent[: len(seen)] == seen
    notes = [line["type"] for line in lines if line["direction"] == "note"]
    assert notes == ["connection.opening", "connection.opened", "connection.closed"]
    assert lines[0]["frame"]["model"] == record.model
    assert lines[-1]["frame"] == {
        "type": "connection.closed",
        "code": 1000,
        "reason": "",
        "by": "client",
    }


async def test_lines_say_when_and_where(tmp_path: Path) -> None:
    """Each line has its time by two clocks, the call, the connection, and the server's session."""
    before = time.time()
    record = await a_turn(tmp_path / "wire.jsonl")
    lines = lines_of(tmp_path / "wire.jsonl")

    offsets = [line["offset_s"] for line in lines]
    assert offsets == sorted(offsets)
    assert 0 <= offsets[0] < 1
    assert {line["call"] for line in lines} == {lines[0]["call"]}
    assert {line["connection"] for line in lines} == {1}
    assert {line["session"] for line in lines} == {None, record.session_id}
    began = time.mktime(time.strptime(lines[0]["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert before - 1.5 < began < time.time() + 1.5
    assert lines[0]["time"].endswith("Z")


async def test_audio_is_a_length_and_a_peak(tmp_path: Path) -> None:
    """No line has audio; all lengths together are what went over the wire."""
    record = await a_turn(tmp_path / "wire.jsonl")
    text = (tmp_path / "wire.jsonl").read_text(encoding="utf-8")
    lines = lines_of(tmp_path / "wire.jsonl")

    said = [line["frame"]["delta"] for line in lines if "audio.delta" in line["type"]]
    assert sum(audio["bytes"] for audio in said) == len(record.responses[0].pcm)
    assert max(audio["peak"] for audio in said) == pytest.approx(0.2, abs=0.01)
    sent = [line["frame"]["audio"] for line in lines if line["type"].endswith("append")]
    assert sum(audio["bytes"] for audio in sent) >= len(record.received_audio)
    assert max(audio["peak"] for audio in sent) == pytest.approx(6_000 / 32_768, abs=0.02)
    assert max(len(word) for word in text.split('"')) < 200


async def test_texts_stay_and_the_key_does_not(tmp_path: Path) -> None:
    """Instructions, tools and transcripts are in the log as they are; the key is nowhere."""
    for auth in ("query", "header"):
        path = tmp_path / f"{auth}.jsonl"
        await a_turn(path, auth=auth)
        lines = lines_of(path)

        configure = next(line for line in lines if line["type"] == "session.configure")
        assert "You are a café." in configure["frame"]["session"]["instructions"]
        words = [line["frame"]["delta"] for line in lines if "transcript.delta" in line["type"]]
        assert " ".join(words) == "Yes, of course."
        assert KEY not in path.read_text(encoding="utf-8")


async def test_a_key_that_the_server_repeats_is_cut_out(tmp_path: Path) -> None:
    """Whoever writes the key into a frame or a reason, the log does not have it."""
    path = tmp_path / "wire.jsonl"
    async with line(SCENARIO, wire_log=path, complaints_are_fine=True) as call:
        await begin(call)
        call.server.send({"type": "note", "text": f"welcome, {KEY}"})
        call.server.close(4000, f"bye {KEY}")
        await call.until(lambda: call.of("error"))

    text = path.read_text(encoding="utf-8")
    assert "welcome, <redacted>" in text
    assert "bye <redacted>" in text
    assert KEY not in text


async def test_the_environment_turns_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HYDRA_WIRE_LOG names the file where the option does not."""
    monkeypatch.setenv("HYDRA_WIRE_LOG", str(tmp_path / "wire.jsonl"))
    async with line(SCENARIO) as call:
        await begin(call)

    assert lines_of(tmp_path / "wire.jsonl")


async def test_it_is_off_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the option nothing is written, and an empty variable is no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_WIRE_LOG", "")
    async with line(SCENARIO) as call:
        await begin(call)

    assert files_in(tmp_path) == []


async def test_what_is_no_event_is_logged_too(tmp_path: Path) -> None:
    """Frames that the plugin drops are in the log: unknown ones whole, others as far as it goes."""
    path = tmp_path / "wire.jsonl"
    audio = wire.encode(ev.InputAudioBufferAppend(audio=bytes(3000))).decode().split('"')[-2]
    async with line(SCENARIO, wire_log=path, complaints_are_fine=True) as call:
        await begin(call)
        call.server.send({"type": "response.mood", "mood": "good", "new": {"audio": audio}})
        call.server.send('{"type": "response.output_audio.delta", "delta": 7}')
        call.server.send("no JSON at all")
        call.server.send("[1, 2]")
        call.server.send(b"\x00\x01\x02")
        call.server.send('{"type": "odd", "half": "\\ud83d"}')
        call.server.send({"type": "session.updated", "session": {}})
        await call.until(
            lambda: any(
                isinstance(event, ev.SessionUpdated) for event in call.of("hydra_server_event")
            )
        )

    lines = lines_of(path)
    mood = next(line for line in lines if line["type"] == "response.mood")
    assert mood["frame"] == {
        "type": "response.mood",
        "mood": "good",
        "new": {"audio": {"bytes": 3000, "peak": 0.0}},
    }
    odd = [line["frame"] for line in lines if line["type"] == "(malformed)"]
    assert [1, 2] in odd
    assert "\0\1\2" in odd
    assert any(str(frame).startswith("no JSON at all") for frame in odd)
    (half,) = [line["frame"] for line in lines if "half" in str(line["frame"])]
    assert "half" in half


async def test_a_reconnect_is_logged_with_its_reason(tmp_path: Path) -> None:
    """Each connection has its number; why a connection ended, or was left, is in the log."""
    path = tmp_path / "wire.jsonl"
    async with line(SCENARIO, wire_log=path, complaints_are_fine=True) as call:
        await begin(call)
        call.server.close(1011, "oops")
        await call.ready(2)
        call.server.drop()
        await call.ready(3)

    ends = [line["frame"] for line in lines_of(path) if line["type"] == "connection.closed"]
    assert [(end["code"], end["by"]) for end in ends] == [
        (1011, "server"),
        (1006, "nobody"),
        (1000, "client"),
    ]
    assert ends[0]["reason"] == "oops"
    opened = [line for line in lines_of(path) if line["type"] == "connection.opened"]
    assert [line["connection"] for line in opened] == [1, 2, 3]


async def test_a_reconnect_of_our_own_says_why(tmp_path: Path) -> None:
    """When the session itself wants another connection, the log says what for."""
    path = tmp_path / "wire.jsonl"
    scenario = Scenario(default_reply=Say(duration_s=0.2), bare_response_create="refused")
    async with line(scenario, wire_log=path) as call:
        await begin(call)
        await call.session.generate_reply()
        await call.ready(2)

    notes = [line["frame"] for line in lines_of(path) if line["type"] == "connection.reconnect"]
    assert len(notes) == 1
    assert "nothing was said yet" in notes[0]["reason"]


async def test_a_connection_that_fails_is_logged(tmp_path: Path) -> None:
    """A refused key is a line without the key, and the last one."""
    path = tmp_path / "wire.jsonl"
    scenario = Scenario(keys={"another"})
    async with line(scenario, wire_log=path, complaints_are_fine=True) as call:
        await call.until(lambda: call.of("error"))

    lines = lines_of(path)
    assert [line["type"] for line in lines] == ["connection.opening", "connection.failed"]
    assert "HTTP 401" in lines[1]["frame"]["error"]


async def test_sessions_share_a_file(tmp_path: Path) -> None:
    """Calls at the same time, of one model or of several, write whole lines into one file."""
    path = tmp_path / "wire.jsonl"
    await asyncio.gather(*(a_turn(path) for _ in range(4)))

    lines = lines_of(path)
    calls = {line["call"] for line in lines}
    assert len(calls) == 4
    for call in calls:
        ours = [line for line in lines if line["call"] == call]
        assert ours[0]["type"] == "connection.opening"
        assert ours[-1]["type"] == "connection.closed"
        assert len({line["session"] for line in ours} - {None}) == 1


async def test_a_later_call_goes_on_in_the_file(tmp_path: Path) -> None:
    """A log is appended to: what earlier calls have written stays."""
    path = tmp_path / "wire.jsonl"
    await a_turn(path)
    n_lines = len(lines_of(path))
    await a_turn(path)

    assert len(lines_of(path)) > n_lines
    assert len({line["call"] for line in lines_of(path)}) == 2


def write_lines(path: Path, n_lines: int) -> None:
    """Write that many lines as a call does."""
    tap = Trace(path).connect()
    for number in range(n_lines - 2):
        tap.received(b'{"type": "x", "number": %d}' % number)
    tap.closed(1000, "", by_server=False)


def write_in_a_process(path: Path) -> None:
    """Write six hundred lines."""
    write_lines(path, 600)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
async def test_processes_share_a_file(method: Any, tmp_path: Path) -> None:
    """A worker's jobs write whole lines into one file, and lose none, however they end."""
    path = tmp_path / "wire.jsonl"
    process = multiprocessing.get_context(method).Process
    jobs = [process(target=write_in_a_process, args=(path,)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        await asyncio.to_thread(job.join)
        assert job.exitcode == 0

    assert files_in(tmp_path) == [path]
    for lines in calls_in(read(path)).values():
        numbers = [each.fields.get("number") for each in lines]
        assert numbers == [None, *range(598), None]
    assert len(lines_of(path)) == 1200


# ------------------------------------------------------------------------- never in the way


Trouble = Callable[[Path], Path]


def no_folder(folder: Path) -> Path:
    """A path in a folder that isn't there."""
    return folder / "nowhere" / "wire.jsonl"


def a_folder(folder: Path) -> Path:
    """A path that is a folder."""
    return folder


def a_full_disk(folder: Path) -> Path:
    """A disk with no room, as Linux has one for tests."""
    full = Path("/dev/full")
    if not full.exists() or not stat.S_ISCHR(full.stat().st_mode):
        pytest.skip("this system has no /dev/full")
    return full


@pytest.mark.parametrize("trouble", [no_folder, a_folder, a_full_disk])
async def test_a_log_that_fails_warns_once(
    trouble: Trouble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with the file, there is one warning that names it, and the call goes on."""
    path = trouble(tmp_path)
    with caplog.at_level(logging.WARNING):
        record = await a_turn(path)

    assert record.responses
    warnings = [each.getMessage() for each in caplog.records if "wire log" in each.getMessage()]
    assert len(warnings) == 1
    assert str(path) in warnings[0]
    assert "goes on without it" in warnings[0]


@pytest.fixture
def hung_disk(tmp_path: Path) -> Path:
    """A file whose opening hangs: a pipe that nobody reads."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    path = tmp_path / "wire.jsonl"
    os.mkfifo(path)
    return path


async def empty(pipe: Path) -> str:
    """Read a pipe to its end, so that its writer can go on."""
    return await asyncio.to_thread(pipe.read_text, encoding="utf-8")


async def test_a_hung_disk_does_not_hold_up_the_call(hung_disk: Path) -> None:
    """While the disk hangs, a whole call goes by as if there were no log, and ends in time."""
    began_at = time.monotonic()
    await a_turn(hung_disk)
    took_s = time.monotonic() - began_at
    lines = [json.loads(text) for text in (await empty(hung_disk)).splitlines()]

    assert took_s < 10
    assert lines[0]["type"] == "connection.opening"
    assert lines[-1]["type"] == "connection.closed"


async def test_a_hung_disk_does_not_hold_up_an_attempt_to_connect(hung_disk: Path) -> None:
    """Where a connection fails, its lines are not waited for before the next."""
    trace = Trace(hung_disk)
    for _ in range(20):
        began_at = time.monotonic()
        with pytest.raises(ConnectionFailed):
            await connect(options_for("ws://127.0.0.1:9/"), trace)
        assert time.monotonic() - began_at < STOP_BUDGET_S / 2

    assert len((await empty(hung_disk)).splitlines()) == 2 * 20


@pytest.mark.parametrize("is_opened", [False, True])
async def test_a_hung_disk_does_not_keep_the_process(hung_disk: Path, is_opened: bool) -> None:
    """Whether opening the file hangs or writing to it, the process ends when its work is done."""
    reader = os.open(hung_disk, os.O_RDONLY | os.O_NONBLOCK) if is_opened else None
    job = multiprocessing.get_context("spawn").Process(target=write_in_a_process, args=(hung_disk,))
    job.start()
    try:
        await asyncio.to_thread(job.join, PATIENCE_S)
        assert job.exitcode == 0
    finally:
        job.kill()
        if reader is not None:
            os.close(reader)


async def test_a_disk_that_stays_hung_ends_the_log(
    hung_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for the disk is bounded: one warning says that the log ends, and it does."""
    monkeypatch.setattr(wirelog, "MAX_WAITING_LINES", 50)
    with caplog.at_level(logging.WARNING):
        write_lines(hung_disk, 500)
        lines = [json.loads(text) for text in (await empty(hung_disk)).splitlines()]

    assert len(lines) == 51
    (warning,) = caplog.messages
    assert str(hung_disk) in warning
    assert "too slow" in warning
    assert "goes on without it" in warning


async def test_calls_of_functions_are_in_it(tmp_path: Path) -> None:
    """A call and its output: the arguments and the result, as they were on the wire."""
    path = tmp_path / "wire.jsonl"
    scenario = Scenario(replies=[Call("weather", {"city": "Rome"}, call_id="c1")])
    async with line(scenario, wire_log=path) as call:
        await begin(call)
        call.say(tone(0.6))
        await call.generation()
        await call.until(
            lambda: any(
                isinstance(event, ev.ResponseDone) for event in call.of("hydra_server_event")
            )
        )

    done = next(line for line in lines_of(path) if line["type"].endswith("arguments.done"))
    assert json.loads(done["frame"]["arguments"]) == {"city": "Rome"}
