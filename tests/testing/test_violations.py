"""What the emulator holds against a client, and what it forgives."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest

from livekit_plugins_hydra.testing import (
    Call,
    Emulator,
    ProtocolViolation,
    Wait,
)
from tests.raw_client import KEY, TURN, RawClient
from tests.testing.scenarios import FAST, SLOW


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
