"""What the emulator answers: its script, in speech and in function calls."""

from __future__ import annotations

import dataclasses
import json
import os
import wave
from pathlib import Path
from typing import Any

import pytest

from livekit_plugins_hydra.testing import (
    Call,
    Context,
    Emulator,
    End,
    Reply,
    Say,
    Wait,
)
from tests.raw_client import SILENCE, TURN, RawClient, tone
from tests.testing.scenarios import FAST


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


@pytest.mark.parametrize("create_beside_turn", ["one_answer", "two_answers"])
async def test_all_that_is_to_be_said_unasked_is_said(create_beside_turn: Any) -> None:
    """Nothing that is asked for within the time to think takes the place of another."""
    scenario = dataclasses.replace(
        FAST, think_s=0.2, default_reply=Say(duration_s=0.05), create_beside_turn=create_beside_turn
    )
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(TURN)
        await client.wait("input_audio_buffer.speech_stopped")
        server.speak(Say(duration_s=0.05))
        server.speak(Say(duration_s=0.05))
        await client.wait("response.done", 3)

        triggers = [response.trigger for response in server.responses]
        assert sorted(triggers) == ["unasked", "unasked", "user_turn"]


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
