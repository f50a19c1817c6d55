"""The emulator, seen by a bare WebSocket client that knows nothing of ours."""

from __future__ import annotations

import ast
import asyncio
import base64
import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

import livekit_plugins_hydra.testing.emulator as emulator_package
from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.testing import (
    FAULTS,
    SWITCHES,
    Call,
    Context,
    Emulator,
    End,
    ProtocolViolation,
    Reply,
    Say,
    Scenario,
    Wait,
)
from livekit_plugins_hydra.testing.emulator.console import ConsoleObserver
from tests.raw_client import COUGH, KEY, SILENCE, TURN, RawClient, tone

FAST = Scenario(max_lead_s=None, think_s=0.01, audio_speed=200.0)
"""The default server for clients that can't wait: faster, and it may be flooded."""

LONG = Say(duration_s=20.0)
"""Speech that is still being sent when the next event comes, at `audio_speed` 10."""

SLOW = dataclasses.replace(FAST, audio_speed=10.0, default_reply=LONG)


def refused(attempt: pytest.ExceptionInfo[InvalidStatus]) -> int:
    """Return the status of a refused attempt to connect."""
    return attempt.value.response.status_code


# ------------------------------------------------------------------------------- a whole call


async def test_a_turn_gets_its_events_in_the_documented_order() -> None:
    """A plain turn is answered with every event of the vendor's diagram, in its order."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        configured = await client.configure(instructions="Be brief.")
        await client.hear(TURN)
        await client.wait("response.done")

    assert client.types() == [
        "session.created",
        "session.configured",
        "input_audio_buffer.speech_started",
        "conversation.item.added",
        "input_audio_buffer.speech_stopped",
        "conversation.item.done",
        "response.created",
        "conversation.item.added",
        "response.output_audio.delta",
        "response.output_audio.done",
        "conversation.item.done",
        "response.done",
    ]
    assert configured["session"] == {
        "instructions": "Be brief.",
        "voice": "aria",
        "tools": [],
        "generate_initial_response": False,
        "input_audio_format": "pcm16",
        "input_audio_sample_rate": 16_000,
        "output_audio_format": "pcm16",
        "output_audio_sample_rate": 24_000,
    }
    user, assistant = client.of("conversation.item.done")
    assert (user["item"]["role"], user["item"]["status"]) == ("user", "completed")
    assert assistant["previous_item_id"] == user["item"]["id"]
    assert client.of("input_audio_buffer.speech_started")[0]["item_id"] == user["item"]["id"]
    done = client.of("response.done")[0]["response"]
    assert done["status"] == "completed"
    assert done["output"] == [assistant["item"]]
    assert done["usage"]["total_tokens"] > 0
    assert all(re.fullmatch(r"sv_[0-9a-f]{16}", frame["event_id"]) for frame in client.frames)


async def test_the_audio_of_a_response_is_what_the_script_says() -> None:
    """PCM goes out byte for byte, and the record keeps it."""
    pcm = bytes(range(256)) * 100
    async with Emulator(dataclasses.replace(FAST, replies=[Say(pcm=pcm)])) as server:
        async with RawClient(server) as client:
            await client.configure()
            await client.hear(TURN)
            response = (await client.wait("response.done"))["response"]

        assert client.audio(response["id"]) == pcm
        assert server.responses[0].pcm == pcm


async def test_the_record_shows_both_sides_of_a_call() -> None:
    """Connection, configuration, audio and turns can be read when the call is over."""
    async with Emulator(FAST) as server:
        async with RawClient(server) as client:
            await client.configure(instructions="Be brief.")
            await client.hear(TURN)
            await client.wait("response.done")
        await server.wait_for(lambda books: not books.open_connections)

        record = server.connection
        assert (record.model, record.auth, record.output_rate_hz) == ("hydra-v1.1", "query", 24_000)
        assert record.configures[0].session.instructions == "Be brief."
        assert record.configuration.voice == "aria"
        assert record.received_audio == TURN
        assert (record.turns[0].number, record.turns[0].duration_s) == (1, 0.6)
        assert record.turns[0].pcm == tone(0.6)
        assert record.close_code == 1000
        assert record.closed_by_client
        assert [dial.status for dial in server.dials] == [101]
        assert server.events_of(events.ResponseDone)[0].response.id == record.responses[0].id
        assert "1 > session.configure" in server.transcript()
        assert not record.violations


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 48_000])
async def test_by_default_it_speaks_a_sentence(rate_hz: int) -> None:
    """Two seconds of speech, with its text, at any output rate."""
    scenario = dataclasses.replace(FAST, transcripts=True, output_rate_hz=rate_hz)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        pcm = server.responses[0].pcm

    words = [each["delta"] for each in client.of("response.output_audio_transcript.delta")]
    assert " ".join(words) == "This is the emulated Hydra."
    assert len(pcm) == 2 * 2 * rate_hz
    # A tone is as loud everywhere; between words, speech is quiet.
    levels = np.abs(np.frombuffer(pcm, "<i2").astype(int)).reshape(100, -1).max(axis=1)
    assert levels.max() > 10_000
    assert np.count_nonzero(levels < 1000) > 10


async def test_delivery_outruns_real_time_tenfold() -> None:
    """By default two seconds of audio take about a fifth of a second, and no less."""
    async with Emulator(dataclasses.replace(FAST, audio_speed=10.0)) as server:
        async with RawClient(server) as client:
            await client.configure()
            await client.hear(TURN)
            await client.wait("response.done")

        response = server.responses[0]
        assert response.ended_at_s is not None
        assert 0.18 < response.ended_at_s - response.created_at_s < 1.0


async def test_the_bot_speaks_first_when_asked_to() -> None:
    """`generate_initial_response` is answered without any audio of the user."""
    contexts: list[Context] = []

    def greet(context: Context) -> Reply:
        contexts.append(context)
        return Say(duration_s=0.1)

    async with (
        Emulator(dataclasses.replace(FAST, replies=greet)) as server,
        RawClient(server) as client,
    ):
        await client.configure(generate_initial_response=True, instructions="Greet.")
        await client.wait("response.done")

    assert "input_audio_buffer.speech_started" not in client.types()
    assert (contexts[0].trigger, contexts[0].instructions) == ("greeting", "Greet.")


# --------------------------------------------------------------------------- what it answers


async def test_the_script_is_consumed_reply_by_reply() -> None:
    """Each response takes one entry; then comes the default, or the last one again."""
    script = [Say(pcm=b"\1\0" * 10), Say(pcm=b"\2\0" * 10)]
    for repeats, third in ((False, b"\3\0" * 10), (True, b"\2\0" * 10)):
        scenario = dataclasses.replace(
            FAST,
            replies=script,
            default_reply=Say(pcm=b"\3\0" * 10),
            repeats_last_reply=repeats,
        )
        async with Emulator(scenario) as server, RawClient(server) as client:
            await client.configure(generate_initial_response=True)
            for count in (1, 2, 3):
                await client.wait("response.done", count)
                await client.hear(TURN)

            assert [response.pcm for response in server.responses[:3]] == [
                b"\1\0" * 10,
                b"\2\0" * 10,
                third,
            ]


async def test_a_callable_script_knows_everything() -> None:
    """The context names the trigger, the user's audio, the tools and the numbers."""
    contexts: list[Context] = []

    def reply(context: Context) -> Reply:
        contexts.append(context)
        if context.trigger == "user_turn":
            return Call("lookup", {"key": "é"})
        return Say(duration_s=0.05)

    async with (
        Emulator(dataclasses.replace(FAST, replies=reply)) as server,
        RawClient(server) as client,
    ):
        await client.configure(tools=[{"type": "function", "name": "lookup"}])
        await client.hear(TURN)
        call = await client.wait("response.function_call_arguments.done")
        await client.wait("response.done")
        await client.output(call["call_id"], "found")
        await client.send("response.create")
        await client.wait("response.done", 2)
        await client.text("and now?")
        await client.send("response.create", response={})
        await client.wait("response.done", 3)
        await client.send("response.create")
        await client.wait("response.done", 4)
        server.speak(Say(duration_s=0.05))
        await client.wait("response.done", 5)

    assert [context.trigger for context in contexts] == [
        "user_turn",
        "tool_outputs",
        "text",
        "bare_create",
    ]
    assert [context.response_number for context in contexts] == [1, 2, 3, 4]
    assert contexts[0].turn is not None
    assert contexts[0].turn.pcm == tone(0.6)
    assert [tool.name for tool in contexts[0].tools] == ["lookup"]
    answered = contexts[1].outputs[0]
    assert (answered.name, answered.arguments, answered.output) == (
        "lookup",
        '{"key": "é"}',
        "found",
    )
    assert contexts[2].text == "and now?"
    assert contexts[3].texts == ()
    assert (contexts[0].model, contexts[0].voice) == ("hydra-v1.1", "aria")


async def test_a_failing_script_is_raised_at_the_end() -> None:
    """A bug in the server's side of a test is never swallowed."""

    def reply(context: Context) -> Reply:
        raise KeyError(context.trigger)

    async def talk() -> None:
        async with (
            Emulator(dataclasses.replace(FAST, replies=reply)) as server,
            RawClient(server) as client,
        ):
            await client.configure(generate_initial_response=True)
            await client.closed()

    with pytest.raises(KeyError, match="greeting"):
        await talk()


async def test_wav_files_are_brought_to_the_output_rate(tmp_path: Path) -> None:
    """A stereo file of another rate keeps its duration and loses a channel."""
    path = tmp_path / "reply.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\x10\x00\x20\x00" * 4000)

    assert len(Say(wav=path).sound(24_000)) == 24_000
    assert len(Say(wav=path).sound(8000)) == 8000
    with pytest.raises(ValueError, match="not both"):
        Say(wav=path, pcm=b"")


def test_a_wav_file_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    """What was read is kept as long as the file is the same."""
    path = tmp_path / "reply.wav"
    for n_samples, written_at_s in ((100, 1.0), (200, 2.0)):
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(bytes(2 * n_samples))
        os.utime(path, (written_at_s, written_at_s))

        assert len(Say(wav=path).sound(8000)) == 2 * n_samples


async def test_a_response_may_end_otherwise() -> None:
    """`End` gives a response another status, with its reason."""
    scenario = dataclasses.replace(
        FAST,
        replies=[
            [Say(duration_s=0.05), End()],
            [End("failed", error_code="internal_error")],
            [Wait(0.01)],
        ],
    )
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        first = (await client.wait("response.done"))["response"]
        await client.hear(TURN)
        second = (await client.wait("response.done", 2))["response"]
        await client.hear(TURN)
        third = (await client.wait("response.done", 3))["response"]

    assert (first["status"], first["status_details"]["reason"]) == (
        "incomplete",
        "max_output_tokens",
    )
    assert second["status_details"]["error"]["code"] == "internal_error"
    assert (third["status"], third["output"]) == ("completed", [])


# ------------------------------------------------------------------------------- interruptions


async def test_a_barge_in_cancels_the_response_in_flight() -> None:
    """The end of the old response comes between `speech_started` and the rest of the turn."""
    async with Emulator(SLOW) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.delta")
        await client.hear(tone(0.6))
        done = (await client.wait("response.done"))["response"]
        await client.wait("conversation.item.added", 2)
        kinds = client.types()

    start = kinds.index("input_audio_buffer.speech_started")
    assert kinds[start:] == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
        "conversation.item.done",
        "response.done",
        "conversation.item.added",
    ]
    assert (done["status"], done["status_details"]) == (
        "cancelled",
        {"type": "cancelled", "reason": "interrupted"},
    )
    assert [item["status"] for item in done["output"]] == ["incomplete"]
    assert client.of("conversation.item.done")[0]["item"]["status"] == "incomplete"


async def test_a_barge_in_after_the_response_only_says_that_speech_started() -> None:
    """What is already completed can't be cancelled, though it may still be playing."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        await client.hear(TURN)
        await client.wait("response.done", 2)

    assert [done["response"]["status"] for done in client.of("response.done")] == ["completed"] * 2


async def test_a_client_may_cancel() -> None:
    """`response.cancel` ends the response in flight, by its id or without one."""
    for names_it in (True, False):
        async with Emulator(SLOW) as server, RawClient(server) as client:
            await client.configure(generate_initial_response=True)
            created = await client.wait("response.created")
            await client.wait("response.output_audio.delta")
            target = {"response_id": created["response"]["id"]} if names_it else {}
            await client.send("response.cancel", **target)
            done = (await client.wait("response.done"))["response"]

        assert done["status_details"]["reason"] == "client_cancelled"


async def test_cancelling_nothing_is_answered_by_silence() -> None:
    """A cancel while idle, or of another response, changes nothing and is no violation."""
    async with Emulator(SLOW) as server, RawClient(server) as client:
        await client.configure()
        await client.send("response.cancel")
        await client.send("response.create")
        await client.wait("response.output_audio.delta")
        await client.send("response.cancel", response_id="resp_other")
        await client.settle()

        assert not client.of("response.done")
        assert not client.of("error")


async def test_a_cough_is_discarded() -> None:
    """A turn that is too short ends as incomplete and gets no response."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(COUGH)
        item = (await client.wait("conversation.item.done"))["item"]
        await client.hear(TURN)
        await client.wait("response.done")
        record = server.connection

    assert (item["role"], item["status"]) == ("user", "incomplete")
    assert client.types()[2:6] == [
        "input_audio_buffer.speech_started",
        "conversation.item.added",
        "input_audio_buffer.speech_stopped",
        "conversation.item.done",
    ]
    assert len(record.discarded_turns) == len(record.turns) == len(record.responses) == 1


async def test_a_predicate_may_discard_turns() -> None:
    """A test can have the n-th turn discarded, however long it is."""
    scenario = dataclasses.replace(FAST, discard_turn=lambda turn: turn.number == 1)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(TURN + TURN)
        await client.wait("response.done")

        assert [turn.number for turn in server.connection.turns] == [2]


async def test_a_cough_delays_an_answer_and_never_loses_it() -> None:
    """A reason to answer that is pending when the user coughs is still answered."""
    async with Emulator(dataclasses.replace(FAST, think_s=0.1)) as server:
        async with RawClient(server) as client:
            await client.configure()
            await client.hear(TURN + COUGH)
            await client.wait("response.done")

        assert [response.trigger for response in server.responses] == ["user_turn"]


# --------------------------------------------------------------------------------------- tools


async def test_a_function_call_streams_its_arguments() -> None:
    """Arguments come in several deltas, the name only on the first, the whole at the end."""
    arguments = {"city": "San Francisco", "unit": "celsius"}
    async with Emulator(dataclasses.replace(FAST, replies=[Call("weather", arguments)])) as server:
        async with RawClient(server) as client:
            await client.configure(generate_initial_response=True)
            done = await client.wait("response.function_call_arguments.done")
            await client.wait("response.done")
            deltas = client.of("response.function_call_arguments.delta")
            await client.output(done["call_id"])
            await client.send("response.create")
            await client.wait("response.done", 2)

        assert json.loads(done["arguments"]) == arguments
        assert "".join(delta["delta"] for delta in deltas) == done["arguments"]
        assert [delta.get("name") for delta in deltas] == ["weather"] + [None] * (len(deltas) - 1)
        assert len(deltas) > 1
        assert server.responses[0].call_ids == [done["call_id"]]
        assert server.responses[1].trigger == "tool_outputs"


async def test_parallel_function_calls_are_answered_together() -> None:
    """Several function calls of one response are answered together after one `response.create`."""
    outputs: list[str] = []

    def reply(context: Context) -> Reply:
        outputs.extend(each.output for each in context.outputs)
        calls = [Call("a"), Call("b", "{}", "call_mine"), Call("c")]
        return calls if context.trigger == "greeting" else Say(duration_s=0.1)

    async with (
        Emulator(dataclasses.replace(FAST, replies=reply)) as server,
        RawClient(server) as client,
    ):
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        calls = client.of("response.function_call_arguments.done")
        for call in reversed(calls):
            await client.output(call["call_id"], call["name"].upper())
        await client.send("response.create")
        await client.wait("response.done", 2)

    assert calls[1]["call_id"] == "call_mine"
    assert [call["output_index"] for call in calls] == [0, 1, 2]
    assert outputs == ["C", "B", "A"]


async def test_a_user_turn_takes_up_the_outputs_that_are_there() -> None:
    """What was posted before the user's next turn is known to the answer to that turn."""
    contexts: list[Context] = []

    def reply(context: Context) -> Reply:
        contexts.append(context)
        return Call("slow") if context.trigger == "greeting" else Say(duration_s=0.1)

    async with (
        Emulator(dataclasses.replace(FAST, replies=reply)) as server,
        RawClient(server) as client,
    ):
        await client.configure(generate_initial_response=True)
        call = await client.wait("response.function_call_arguments.done")
        await client.wait("response.done")
        await client.hear(tone(0.6))
        await client.wait("input_audio_buffer.speech_started")
        await client.output(call["call_id"])
        await client.hear(SILENCE)
        await client.wait("response.done", 2)

    assert contexts[1].trigger == "user_turn"
    assert [output.output for output in contexts[1].outputs] == ["42"]


async def test_a_tool_that_takes_too_long_is_given_up() -> None:
    """Without output and `response.create` in time, an error says so and the call goes on."""
    scenario = dataclasses.replace(FAST, replies=[Call("slow")], tool_response_timeout_s=0.1)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        call = await client.wait("response.function_call_arguments.done")
        error = (await client.wait("error"))["error"]
        await client.output(call["call_id"])
        await client.hear(TURN)
        await client.wait("response.done", 2)

    assert error["code"] == "tool_response_timeout"
    assert len(client.of("error")) == 1


async def test_tools_can_be_replaced() -> None:
    """`session.update` echoes the new tools; the same tools again are answered by silence."""
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    contexts: list[Context] = []

    def reply(context: Context) -> Reply:
        contexts.append(context)
        return Say(duration_s=0.05)

    async with (
        Emulator(dataclasses.replace(FAST, replies=reply)) as server,
        RawClient(server) as client,
    ):
        await client.configure()
        await client.send("session.update", session={"tools": tools})
        await client.send("session.update", session={"tools": tools})
        await client.hear(TURN)
        await client.wait("response.done")

    assert [update["session"] for update in client.of("session.updated")] == [{"tools": tools}]
    assert [tool.name for tool in contexts[0].tools] == ["f"]


# ------------------------------------------------------------------------------ who may come in


@pytest.mark.parametrize(
    ("query", "headers", "auth"),
    [
        (f"?model=hydra&api_key={KEY}", {}, "query"),
        ("?model=hydra", {"Authorization": f"Bearer {KEY}"}, "header"),
    ],
)
async def test_the_key_is_taken_from_query_or_header(
    query: str, headers: dict[str, str], auth: str
) -> None:
    """Both documented ways to authenticate open a connection."""
    scenario = dataclasses.replace(FAST, keys={KEY})
    async with Emulator(scenario) as server:
        async with RawClient(server, query=query, headers=headers) as client:
            await client.wait("session.created")

        assert (server.connection.auth, server.connection.model) == (auth, "hydra")


@pytest.mark.parametrize(
    ("changes", "query", "status"),
    [
        ({}, "?model=hydra", 401),
        ({}, "?model=hydra&api_key=", 401),
        ({"keys": {"other"}}, f"?model=hydra&api_key={KEY}", 401),
        ({"keys": lambda key: False}, f"?model=hydra&api_key={KEY}", 401),
        ({"keys": (), "bad_key": "http_403"}, f"?model=hydra&api_key={KEY}", 403),
        ({"http_refusals": 1}, f"?model=hydra&api_key={KEY}", 503),
        ({"http_refusals": 1, "http_refusal_status": 429}, f"?model=hydra&api_key={KEY}", 429),
        ({}, f"/elsewhere?model=hydra&api_key={KEY}", 404),
    ],
)
async def test_refused_connections(changes: dict[str, Any], query: str, status: int) -> None:
    """A refusal is an HTTP status, and is kept in the books."""
    async with Emulator(dataclasses.replace(FAST, **changes)) as server:
        with pytest.raises(InvalidStatus) as attempt:
            async with RawClient(server, query=query):
                pass

        assert refused(attempt) == status
        assert [each.status for each in server.dials] == [status]
        assert not server.connections
        if status in (429, 503):
            assert attempt.value.response.headers["Retry-After"] == "1"
            async with RawClient(server) as client:
                await client.wait("session.created")


async def test_a_bad_key_may_be_refused_after_the_upgrade() -> None:
    """The early model card's way: close 1008."""
    scenario = dataclasses.replace(FAST, keys=(), bad_key="close_1008")
    async with Emulator(scenario) as server, RawClient(server) as client:
        assert await client.closed() == 1008


async def test_tokens_expire() -> None:
    """A short-lived token opens connections for its lifetime, other keys for ever."""
    query = "?model=hydra&api_key=wat_token"
    async with Emulator(dataclasses.replace(FAST, token_lifetime_s=0.0)) as server:
        async with RawClient(server, query=query) as client:
            await client.wait("session.created")
        with pytest.raises(InvalidStatus) as attempt:
            async with RawClient(server, query=query):
                pass
        async with RawClient(server):
            pass

    assert refused(attempt) == 401


async def test_an_expired_token_may_end_its_session() -> None:
    """On request a session ends with its token."""
    scenario = dataclasses.replace(FAST, token_lifetime_s=0.05, expired_token="closed")
    async with (
        Emulator(scenario) as server,
        RawClient(server, query="?model=hydra&api_key=wat_token") as client,
    ):
        assert await client.closed() == 1008


async def test_a_full_server_says_so_and_closes() -> None:
    """`server_full` is followed by close 1013; the next connection finds room."""
    async with Emulator(dataclasses.replace(FAST, server_full_connections=1)) as server:
        async with RawClient(server) as client:
            assert await client.closed() == 1013
        assert client.types() == ["error"]
        assert client.frames[0]["error"]["code"] == "server_full"
        async with RawClient(server) as client:
            await client.configure()


async def test_silence_of_both_sides_ends_a_connection() -> None:
    """After the idle time-out without a frame the server closes with 1000, without an error."""
    async with (
        Emulator(dataclasses.replace(FAST, idle_timeout_s=0.1)) as server,
        RawClient(server) as client,
    ):
        await client.configure()
        assert await client.closed() == 1000

    assert not client.of("error")
    assert server.connection.close_reason == "idle"
    assert server.connection.closed_by_client is False


async def test_the_key_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """No record, representation or log line holds the key, whichever way it came."""
    logging.getLogger("websockets").setLevel(logging.INFO)  # the client's own lines hold it
    with caplog.at_level(logging.DEBUG):
        async with Emulator(dataclasses.replace(FAST, keys={KEY})) as server:
            async with RawClient(server) as client:
                await client.configure()
            headers = {"Authorization": f"Bearer {KEY}"}
            async with RawClient(server, query="?model=hydra", headers=headers) as client:
                await client.wait("session.created")
            shown = repr([server, vars(server), server.connections, server.dials, server.scenario])

    assert KEY not in shown + caplog.text + "".join(server.transcript())
    assert server.connections[0].query == {"model": "hydra-v1.1", "api_key": "<redacted>"}
    assert server.connections[1].headers["authorization"] == "<redacted>"


# --------------------------------------------------------------------------- what it holds against


def bad_audio(n_bytes: int) -> dict[str, Any]:
    """Return a frame of audio of a length."""
    return {
        "type": "input_audio_buffer.append",
        "audio": base64.b64encode(bytes(n_bytes)).decode(),
        "event_id": "ev_1",
    }


@pytest.mark.parametrize(
    ("frame", "rule", "code"),
    [
        (bad_audio(318), "invalid_audio", "invalid_audio"),
        (bad_audio(641), "invalid_audio", "invalid_audio"),
        (bad_audio(3840), "oversized_audio", None),
        (
            {"type": "input_audio_buffer.append", "audio": "-__-", "event_id": "ev_1"},
            "invalid_audio",
            "invalid_audio",
        ),
        ({"type": "session.configure", "session": {"voice": "aria"}}, "second_configure", None),
        (
            {"type": "session.update", "session": {"voice": "leo"}, "event_id": "ev_1"},
            "bad_update",
            "invalid_frame",
        ),
        (
            {"type": "session.update", "session": {"tools": []}, "x": 1, "event_id": "ev_1"},
            "bad_update",
            "invalid_frame",
        ),
        (
            {"type": "session.update", "session": {}, "event_id": "ev_1"},
            "bad_update",
            "invalid_frame",
        ),
        ({"type": "session.update", "event_id": "ev_1"}, "malformed_frame", "invalid_frame"),
        (
            {"type": "input_audio_buffer.commit", "event_id": "ev_1"},
            "unknown_type",
            "invalid_frame",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_x", "output": ""},
                "event_id": "ev_1",
            },
            "unknown_call_id",
            "invalid_request_error",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_x"},
                "event_id": "ev_1",
            },
            "bad_item",
            "invalid_request_error",
        ),
        (
            {"type": "conversation.item.create", "item": {"type": "poem"}, "event_id": "ev_1"},
            "bad_item",
            "invalid_request_error",
        ),
        ({"type": "response.create", "response": {"instructions": "x"}}, "response_fields", None),
    ],
)
async def test_a_wrong_frame_is_answered_and_held_against_the_client(
    frame: dict[str, Any], rule: str, code: str | None
) -> None:
    """The client gets the error of the protocol, naming its event; the test gets the violation."""

    async def talk() -> None:
        async with Emulator(FAST) as server, RawClient(server) as client:
            await client.configure()
            await client.socket.send(json.dumps(frame))
            if code is not None:
                error = (await client.wait("error"))["error"]
                assert (error["code"], error["event_id"]) == (code, "ev_1")
            await client.hear(TURN)
            await client.wait("response.done")

    with pytest.raises(ProtocolViolation) as violation:
        await talk()

    assert {each.rule for each in violation.value.violations} == {rule}
    assert rule in str(violation.value)


async def test_frames_that_are_no_events_are_violations() -> None:
    """Binary frames and broken JSON are refused, and the session goes on."""
    async with Emulator(FAST, strict=False) as server, RawClient(server) as client:
        await client.configure()
        await client.socket.send(b"\0\1")
        await client.socket.send("{")
        await client.socket.send("[]")
        await client.wait("error", 3)
        await client.hear(TURN)
        await client.wait("response.done")

        assert [each.rule for each in server.violations] == [
            "binary_frame",
            "malformed_frame",
            "malformed_frame",
        ]


async def test_nothing_but_the_configuration_may_come_first() -> None:
    """Audio and other events before `session.configured` are violations; the audio is dropped."""
    async with Emulator(FAST, strict=False) as server, RawClient(server) as client:
        await client.hear(TURN)
        await client.send("response.create", event_id="ev_1")
        await client.wait("error")
        await client.configure()

        assert not server.connection.received_audio
        assert not client.of("input_audio_buffer.speech_started")
        assert {each.rule for each in server.violations} == {
            "audio_before_configured",
            "event_before_configured",
        }


async def test_an_omitted_voice_or_model_is_a_violation() -> None:
    """Both have defaults on the server, and neither default can be relied on."""
    async with Emulator(FAST, strict=False) as server:
        async with RawClient(server, query=f"?api_key={KEY}") as client:
            await client.send("session.configure", session={"voice": "", "unknown_field": 1})
            configured = await client.wait("session.configured")

        assert configured["session"]["voice"] == "sterling"
        assert server.connection.model == "hydra-v1.1"
        assert [each.rule for each in server.violations] == ["missing_model", "empty_voice"]


async def test_a_second_response_create_is_a_violation() -> None:
    """Asking twice, or while a response is in flight, is held against the client."""
    async with Emulator(SLOW, strict=False) as server, RawClient(server) as client:
        await client.configure()
        await client.send("response.create")
        await client.send("response.create")
        await client.wait("response.output_audio.delta")
        await client.send("response.create", event_id="ev_2")
        error = (await client.wait("error"))["error"]

        assert error["event_id"] == "ev_2"
        assert [each.rule for each in server.violations] == ["duplicate_create", "create_in_flight"]


async def test_a_response_create_that_crosses_the_servers_own_is_forgiven() -> None:
    """What the server has only just begun, the client could not know."""
    async with Emulator(SLOW) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.send("response.create")
        await client.wait("response.created")
        await client.send("response.create")
        await client.wait("error")

        assert len(server.responses) == 1


async def test_one_response_create_per_output_is_a_violation() -> None:
    """Two function calls are answered when both outputs are there, and each comes once."""
    scenario = dataclasses.replace(FAST, replies=[[Call("a"), Call("b")]])
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        first, second = (
            call["call_id"] for call in client.of("response.function_call_arguments.done")
        )
        await client.output(first)
        await client.send("response.create")
        await client.wait("response.done", 2)
        await client.output(second)
        await client.output(second)
        await client.wait("error")

        assert [each.rule for each in server.violations] == ["early_create", "duplicate_output"]


async def test_function_calls_far_apart_may_be_answered_apart() -> None:
    """A client that waited 200 ms for siblings may answer, though a third call comes later."""
    scenario = dataclasses.replace(FAST, replies=[[Call("a"), Wait(0.3), Call("b")]])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        first, second = (
            call["call_id"] for call in client.of("response.function_call_arguments.done")
        )
        await client.output(first)
        await client.send("response.create")
        await client.wait("response.done", 2)
        await client.output(second)
        await client.send("response.create")
        await client.wait("response.done", 3)

        assert len(server.responses) == 3


async def test_a_flood_ends_the_session() -> None:
    """Audio that runs too far ahead of the clock gets `session_ended` and a close."""
    scenario = dataclasses.replace(FAST, max_lead_s=2.5)
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(bytes(32_000 * 2))
        assert not client.of("error")
        await client.hear(bytes(32_000))
        assert await client.closed() == 1000

        assert client.of("error")[0]["error"]["code"] == "session_ended"
        assert [each.rule for each in server.violations] == ["flooded"]


async def test_tolerated_rules_are_not_held_against_the_client() -> None:
    """A scenario can name what a test breaks on purpose."""
    scenario = dataclasses.replace(FAST, tolerate={"unknown_type"})
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.send("input_audio_buffer.clear")
        await client.wait("error")

        assert not server.violations


async def test_a_failing_test_keeps_its_own_exception() -> None:
    """Violations never hide why a test failed; they are added to it as a note."""

    async def fail() -> None:
        async with Emulator(FAST) as server, RawClient(server) as client:
            await client.configure()
            await client.send("input_audio_buffer.clear")
            await client.wait("error")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as failure:
        await fail()

    assert "unknown_type" in failure.value.__notes__[0]


# ------------------------------------------------------------------------------ knobs and waiting


async def test_the_connection_can_be_cut() -> None:
    """`drop` ends the transport without a close frame."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        server.drop()
        assert await client.closed() == 1006
        await server.wait_for(lambda books: not books.open_connections)

        assert server.connection.close_code == 1006


async def test_the_connection_can_be_closed() -> None:
    """`close` ends it with the code and reason that a test wants."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        server.close(1012, "restart")
        assert await client.closed() == 1012

        assert client.socket.close_reason == "restart"


async def test_anything_can_be_sent() -> None:
    """`send` takes events, mappings and raw text, and holds none of it against the client."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        server.send(events.Error(error=events.ErrorBody(code="internal_error")))
        server.send({"type": "new.event"})
        server.send('{"type": "raw.event"}', connection=server.connection)
        await client.wait("raw.event")

        assert client.types()[2:] == ["error", "new.event", "raw.event"]
        assert server.connection.server_events[-1].event == '{"type": "raw.event"}'


async def test_a_frozen_server_says_nothing_until_it_thaws() -> None:
    """`freeze` holds everything back, pongs too; `thaw` lets it go."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        server.freeze()
        server.send({"type": "held.back"})
        pong = asyncio.ensure_future(await client.socket.ping())
        with pytest.raises(TimeoutError):
            await client.wait("held.back", timeout=0.1)
        assert not pong.done()
        server.thaw()
        await client.wait("held.back")
        await asyncio.wait_for(pong, 5)


async def test_an_offline_server_cuts_connections() -> None:
    """While `offline`, an attempt to connect ends without an HTTP answer, and is counted."""
    async with Emulator(FAST) as server:
        server.offline = True
        with pytest.raises(Exception, match=r"connection|response"):
            async with RawClient(server):
                pass
        server.offline = False
        async with RawClient(server) as client:
            await client.wait("session.created")

        assert [dial.status for dial in server.dials] == [0, 101]


async def test_knobs_take_one_connection_or_all() -> None:
    """A record names its connection; without one a fault meets all that are open."""
    async with Emulator(FAST) as server, RawClient(server) as first:
        async with RawClient(server) as second:
            await first.configure()
            await second.configure()
            server.drop(server.connections[0])
            assert await first.closed() == 1006
            await second.settle()
            server.drop()
            server.drop()
            server.close()
            server.send({"type": "too.late"})
            assert await second.closed() == 1006

        await server.wait_for(lambda books: not books.open_connections)
        with pytest.raises(LookupError):
            server.drop(server.connections[1])


async def test_failing_predicates_are_raised_at_the_end() -> None:
    """A predicate that fails refuses the client with 500; several faults come as a group."""

    def fail(key: str) -> bool:
        raise ValueError("a bug in the test")

    async def connect() -> None:
        async with Emulator(dataclasses.replace(FAST, keys=fail)) as server:
            for _ in range(2):
                with pytest.raises(InvalidStatus) as refusal:
                    async with RawClient(server):
                        pass
                assert refused(refusal) == 500

    with pytest.raises(ExceptionGroup) as group:
        await connect()
    assert [type(fault) for fault in group.value.exceptions] == [ValueError, ValueError]


async def test_a_slow_reader_pauses_the_server() -> None:
    """Audio waits for a client that does not read, and all of it arrives when it does."""
    scenario = dataclasses.replace(
        FAST, default_reply=Say(duration_s=120.0), audio_speed=10_000.0, output_rate_hz=48_000
    )
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        client.socket.transport.pause_reading()
        await client.send("response.create")
        await server.wait_for(lambda books: books.responses)
        with pytest.raises(TimeoutError):
            await server.wait_for(lambda books: books.responses[0].ended_at_s, timeout=0.3)
        client.socket.transport.resume_reading()
        await client.wait("response.done", timeout=60.0)  # two minutes of audio, on a busy machine

        assert client.audio(server.responses[0].id) == server.responses[0].pcm


async def test_knobs_need_a_connection() -> None:
    """Without one, they say so."""
    async with Emulator(FAST) as server:
        with pytest.raises(LookupError):
            server.drop()
        with pytest.raises(LookupError):
            _ = server.connection


async def test_waiting_returns_what_was_seen() -> None:
    """`wait_for` takes classes of both sides and predicates; what was seen before counts."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        waiting = asyncio.create_task(server.wait_for(events.ResponseDone))
        record = await server.wait_connections(1)
        await client.configure(instructions="x", generate_initial_response=True)

        assert (await waiting).response.status == "completed"
        assert (await server.wait_for(events.SessionConfigure)).session.instructions == "x"
        assert await server.wait_for(lambda books: record.session_id) == record.session_id


async def test_waiting_in_vain_shows_what_came() -> None:
    """A time-out names what was waited for, and the last events."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        with pytest.raises(TimeoutError, match=r"(?s)no ResponseDone .*session\.configured"):
            await server.wait_for(events.ResponseDone, timeout=0.01)


async def test_scenarios_can_change_between_connections() -> None:
    """A connection keeps its scenario; the next one gets the new."""
    async with Emulator(dataclasses.replace(FAST, keys=())) as server:
        with pytest.raises(InvalidStatus):
            async with RawClient(server):
                pass
        server.scenario = FAST
        async with RawClient(server) as client:
            await client.wait("session.created")


# ---------------------------------------------------------------------------- documents and tools


def test_every_number_of_the_protocols_unknowns_is_mapped() -> None:
    """The package's tables have the numbers 1 to 26 and a to l, and name only fields that exist."""
    documentation = emulator_package.__doc__ or ""
    numbers = [int(number) for number in re.findall(r"^ +(\d+)  \S", documentation, re.M)]
    fields = {field.name for field in dataclasses.fields(Scenario)}
    rows = "".join(documentation.split("====\n")[2::2])
    named = set(re.findall(r"(?<!`)`([a-z_0-9]+)`(?!`)", rows))
    letters = re.findall(r"^ +([a-z])  \S", documentation, re.M)

    assert numbers == list(range(1, 27))
    assert letters == list("abcdefghijkl")
    assert named <= fields
    assert len(named) > 25


def test_every_switch_changes_a_field() -> None:
    """Each entry of `SWITCHES` and `FAULTS` makes a scenario other than the default."""
    for name, fields in ({**SWITCHES, **FAULTS}).items():
        scenario = dataclasses.replace(Scenario(), **fields)
        assert scenario != Scenario(), name


def test_random_scenarios_are_reproducible() -> None:
    """The same seed gives the same scenario, other seeds give others, given fields hold."""
    shown = [repr(Scenario.random(seed)) for seed in range(30)]

    assert shown == [repr(Scenario.random(seed)) for seed in range(30)]
    assert len(set(shown)) == 30
    assert Scenario.random(1, think_s=0.125).think_s == 0.125


def test_a_scenario_shows_only_what_is_unusual() -> None:
    """The representation is short, and never holds the keys."""
    assert repr(Scenario()) == "Scenario()"
    assert repr(Scenario(keys={KEY}, late_deltas=1)) == "Scenario(late_deltas=1)"


def test_a_script_is_a_list() -> None:
    """A lone reply is a mistake that would only show in the middle of a call."""
    with pytest.raises(TypeError, match="list of replies"):
        Scenario(replies=Say())  # type: ignore[arg-type]


def test_the_emulator_is_a_second_reading() -> None:
    """It shares names and codec with the client, and nothing that decides."""
    shared = set()
    for path in Path(emulator_package.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                package, _, module = (node.module or "").partition(".protocol")
                if package == "livekit_plugins_hydra":
                    shared |= {module[1:]} if module else {name.name for name in node.names}

    assert shared == {"events", "wire", "errors", "voices"}


def test_a_script_is_made_of_pieces() -> None:
    """A text in place of `Say(text=...)` would be a response without anything in it."""
    for scenario in ({"replies": ["Hello."]}, {"replies": "Hello."}, {"default_reply": ["Hello."]}):
        with pytest.raises(TypeError, match="made of Say, Call, Wait and End"):
            Scenario(**scenario)


@pytest.mark.parametrize(
    "name", ["keys", "deprecated_models", "more_voices", "closes_after", "tolerate"]
)
def test_several_are_a_list(name: str) -> None:
    """A text in its place would have each of its parts in it: a key "secret" the key "sec"."""
    with pytest.raises(TypeError, match=f"{name} takes a list of texts"):
        Scenario(**{name: "secret"})  # type: ignore[arg-type]


def test_a_refusal_is_a_status_of_http() -> None:
    """Another number could not be sent."""
    with pytest.raises(ValueError, match="299"):
        Scenario(http_refusals=1, http_refusal_status=299)


async def test_the_console_shows_a_line_for_each_event() -> None:
    """Lengths instead of audio, arrows for directions, violations as they happen, never a key."""
    lines: list[str] = []
    observer = ConsoleObserver(lines.append)
    async with (
        Emulator(FAST, strict=False, observer=observer) as server,
        RawClient(server) as client,
    ):
        await client.configure(instructions="a secret persona")
        await client.hear(TURN)
        await client.wait("response.done")
        await client.send("input_audio_buffer.clear")
        await client.wait("error")
        await server.wait_for(lambda books: books.violations)

    shown = [re.sub(r"^ +\d+\.\d{3} #1 ", "", line) for line in lines]
    assert shown[:3] == ["< session.created", "> session.configure", "< session.configured"]
    assert "> audio, 0.08 s" in shown
    assert "< audio, 2.00 s" in shown
    assert "> input_audio_buffer.clear" in shown
    assert any(line.startswith("! violation: connection 1: unknown_type") for line in shown)
    assert KEY not in "".join(lines)
    assert "persona" not in "".join(lines)


async def test_the_console_shows_how_connections_end() -> None:
    """Refusals by their status, closes by code and side, and before these the last audio."""
    lines: list[str] = []
    console = ConsoleObserver(lines.append)
    scenario = dataclasses.replace(FAST, http_refusals=1)
    async with Emulator(scenario, observer=console, on_end=console.ended) as server:
        with pytest.raises(InvalidStatus):
            async with RawClient(server):
                pass
        server.offline = True
        with pytest.raises(Exception, match=r"connection|response"):
            async with RawClient(server, query="?", headers={"Authorization": f"Bearer {KEY}"}):
                pass
        server.offline = False
        for end in ("closed by the client", "lost", "closed by the server"):
            async with RawClient(server) as client:
                await client.configure()
                if end == "lost":
                    server.drop()
                    await client.closed()
                elif end == "closed by the server":
                    server.close(1012, "restart")
                    await client.closed()
            await server.wait_for(lambda books: not books.open_connections)

    shown = [re.sub(r"^ *(\d+\.\d{3} )?", "", line) for line in lines]
    assert shown[:2] == [
        "x refused with HTTP 503, hydra-v1.1, key in the query",
        "x cut off without an answer, no model, key in the header",
    ]
    ends = [line for line in shown[2:] if " x " in line]
    assert ends == [
        "#1 x closed by the client: 1000",
        "#2 x lost without a close frame (1006)",
        "#3 x closed by the server: 1012 restart",
    ]
    assert KEY not in "".join(lines)


async def test_the_console_shows_the_last_audio() -> None:
    """Audio that nothing follows has its line, too, before the connection's end."""
    lines: list[str] = []
    console = ConsoleObserver(lines.append)
    async with Emulator(FAST, observer=console, on_end=console.ended) as server:
        async with RawClient(server) as client:
            await client.configure()
            await client.hear(SILENCE)
        await server.wait_for(lambda books: not books.open_connections)

    assert [line.split(" ", 1)[1] for line in map(str.strip, lines[-2:])] == [
        "#1 > audio, 0.50 s",
        "#1 x closed by the client: 1000",
    ]


async def test_the_command_line_serves_until_interrupted() -> None:
    """`livekit-hydra emulator` says how to reach it, prints the call, and ends with 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "livekit_plugins_hydra",
        "emulator",
        "--port",
        "0",
        "--think",
        "0.01",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        await process.stdout.readline()
        line = (await process.stdout.readline()).decode()
        url = re.fullmatch(
            r"HYDRA_BASE_URL=(ws://127\.0\.0\.1:\d+/waves/v1/s2s) SMALLEST.*\n", line
        )
        assert url is not None
        async with RawClient(_At(url[1])) as client:  # type: ignore[arg-type]
            await client.configure(generate_initial_response=True)
            await client.wait("response.done")
        process.send_signal(signal.SIGINT)
        output, complaints = await process.communicate()

    assert process.returncode == 0
    assert complaints == b""
    assert "#1 > session.configure" in output.decode()
    assert "< audio, 2.00 s" in output.decode()


class _At:
    def __init__(self, url: str) -> None:
        self.url = url


async def test_a_taken_port_is_named_with_the_remedy() -> None:
    """The command line says which port it can't have and what to do, and ends with 1."""
    async with Emulator() as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "livekit_plugins_hydra",
            "emulator",
            "--port",
            str(server.port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        _, complaints = await process.communicate()

    assert process.returncode == 1
    what_happened, remedy = complaints.decode().splitlines()
    assert what_happened.startswith(f"Can't listen on 127.0.0.1:{server.port}")
    assert "--port 0" in remedy


async def test_a_scenario_that_fails_is_reported_as_such(tmp_path: Path) -> None:
    """A missing recording is reported at once and at the end, never as trouble with the port."""
    path = tmp_path / "x.py"
    path.write_text(
        "from livekit_plugins_hydra.testing import Say, Scenario\n"
        "scenario = Scenario(replies=[Say(wav='missing.wav')])\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "livekit_plugins_hydra", "emulator", "--port", "0"),
        *("--scenario", str(path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(30):
        await process.stdout.readline()
        url = (await process.stdout.readline()).decode().split("=")[1].split()[0]
        async with RawClient(_At(url)) as client:  # type: ignore[arg-type]
            await client.configure(generate_initial_response=True)
            reported = (await process.stderr.readline()).decode()
        process.send_signal(signal.SIGINT)
        _, complaints = await process.communicate()

    fault = "FileNotFoundError: [Errno 2] No such file or directory: 'missing.wav'"
    assert reported == f"The scenario fails: {fault}\n"
    assert complaints.decode() == f"The scenario failed once, first with {fault}\n"
    assert process.returncode == 1
