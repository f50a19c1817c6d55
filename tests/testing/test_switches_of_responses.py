"""Switches of responses and function calls, seen by a client of the bare wire."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from livekit_plugins_hydra.testing import Call, Emulator, Say, Wait
from tests.raw_client import TURN, RawClient
from tests.testing.scenarios import CALLING, FAST, SLOW, converse, thrown


@pytest.mark.parametrize(
    ("switches", "n_responses", "refused"),
    [
        ((), 2, []),
        (("bare_create_refused",), 0, ["ev_1", "ev_2"]),
        (("bare_create_ignored",), 0, []),
        (("message_items_refused",), 2, ["ev_text"]),
        (("message_items_dropped",), 2, []),
        (("message_items_refused", "bare_create_refused"), 0, ["ev_text", "ev_1", "ev_2"]),
    ],
)
async def test_replies_on_demand(
    switches: tuple[str, ...], n_responses: int, refused: list[str]
) -> None:
    """A text with `response.create`, and a bare one: spoken, refused by name, or ignored."""
    async with Emulator(FAST.with_switches(*switches)) as server, RawClient(server) as client:
        await client.configure()
        await client.text("say hello")
        await client.send("response.create", event_id="ev_1")
        if n_responses:
            await client.wait("response.done")
        await client.send("response.create", event_id="ev_2")
        if n_responses:
            await client.wait("response.done", 2)
        await client.settle()

        assert len(server.responses) == n_responses
        assert [error["error"]["event_id"] for error in client.of("error")] == refused


async def test_a_response_create_while_one_is_in_flight() -> None:
    """It is refused, ignored, or answered afterwards."""
    outcomes = []
    for mode in ("refused", "ignored", "queued"):
        scenario = dataclasses.replace(
            FAST, busy_response_create=mode, default_reply=Say(duration_s=4.0), audio_speed=20.0
        )
        async with Emulator(scenario) as server, RawClient(server) as client:
            await client.configure(generate_initial_response=True)
            await client.wait("response.created")
            await client.send("response.create")
            await client.wait("response.done")
            if mode == "queued":
                await client.wait("response.done", 2)
            outcomes.append((len(client.of("error")), len(server.responses)))

    assert outcomes == [(1, 1), (0, 1), (0, 2)]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(("mode", "n_answers"), [("one_answer", 1), ("two_answers", 2)])
async def test_a_response_create_beside_a_turn(mode: Any, n_answers: int, is_first: bool) -> None:
    """Both are answered by one response, or by one each, in their order."""
    scenario = dataclasses.replace(FAST, create_beside_turn=mode, think_s=0.5)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        if is_first:
            await client.send("response.create")
        await client.hear(TURN)
        await client.wait("conversation.item.done")
        if not is_first:
            await client.send("response.create")
        await client.wait("response.done", n_answers)
        with pytest.raises(TimeoutError):
            await client.wait("response.created", n_answers + 1, timeout=0.8)

        triggers = ["bare_create", "user_turn"] if is_first else ["user_turn", "bare_create"]
        expected = triggers if mode == "two_answers" else ["user_turn"]
        assert [response.trigger for response in server.responses] == expected


async def test_a_turn_that_waits_behind_a_response_is_answered_though_it_is_cut() -> None:
    """The user breaks into the first of two answers: the newest turn gets the second."""
    scenario = thrown("create_and_turn_both_answered", SLOW, think_s=0.1)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.send("response.create")
        await client.hear(TURN)
        await client.wait("response.output_audio.delta")
        await client.hear(TURN)
        await client.wait("response.created", 2)
        await client.send("response.cancel")
        await client.wait("response.done", 2)
        with pytest.raises(TimeoutError):
            await client.wait("response.created", 3, timeout=0.3)

        assert [response.trigger for response in server.responses] == ["bare_create", "user_turn"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("before_outputs", [1, 1, 2]), ("after_outputs", [0, 1, 2]), ("never", [0, 0, 1])],
)
async def test_the_end_of_a_calling_response(mode: Any, expected: list[int]) -> None:
    """It comes before the outputs, after the last of them, or never."""
    seen = []
    scenario = dataclasses.replace(
        FAST, calling_response_done=mode, replies=[[Call("a"), Call("b")]]
    )
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        first = (await client.wait("response.function_call_arguments.done", 1))["call_id"]
        second = (await client.wait("response.function_call_arguments.done", 2))["call_id"]
        await client.output(first)
        await client.settle()
        seen.append(len(client.of("response.done")))
        await client.output(second)
        await client.settle()
        seen.append(len(client.of("response.done")))
        await client.send("response.create")
        await client.wait("response.output_audio.done")
        await client.settle()
        seen.append(len(client.of("response.done")))

    assert seen == expected


async def test_a_response_whose_calls_others_have_replaced_ends_too() -> None:
    """Its end comes with its own last output, whatever was called since."""
    scenario = thrown("calling_done_after_outputs", replies=[Call("slow"), Call("quick")])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.function_call_arguments.done")
        await client.hear(TURN)
        await client.wait("response.function_call_arguments.done", 2)
        slow, quick = client.of("response.function_call_arguments.done")
        await client.output(quick["call_id"])
        await client.wait("response.done", 1)
        await client.output(slow["call_id"])
        await client.wait("response.done", 2)

    ended = [done["response"]["id"] for done in client.of("response.done")]
    assert ended == [quick["response_id"], slow["response_id"]]


async def test_a_calling_response_without_outputs_fails_in_the_end() -> None:
    """A server that waits for outputs ends the response when it gives them up."""
    scenario = FAST.with_switches("tools_time_out_soon", "calling_done_after_outputs")
    scenario = dataclasses.replace(scenario, replies=[CALLING])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        done = (await client.wait("response.done"))["response"]
        await client.wait("error")

    assert (done["status"], done["status_details"]["error"]["code"]) == (
        "failed",
        "tool_response_timeout",
    )


@pytest.mark.parametrize("speaks", [False, True])
async def test_a_tool_that_was_answered_in_time_is_not_given_up(speaks: bool) -> None:
    """Though the model thinks, or the user speaks, until long after the time is over."""
    scenario = thrown("tools_time_out_soon", replies=[CALLING], think_s=1.0)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        call = await client.wait("response.function_call_arguments.done")
        await client.wait("response.done")
        if speaks:
            await client.hear(TURN)
            await client.wait("conversation.item.done", 2)
        await client.output(call["call_id"])
        await client.send("response.create")
        await client.wait("response.done", 2)

        assert not client.of("error")
        assert len(server.responses[1].pcm)


async def test_a_barge_in_may_cut_a_calling_response() -> None:
    """Its function calls can still be answered, and nothing times out for want of an answer."""
    scenario = SLOW.with_switches("tools_time_out_soon")
    scenario = dataclasses.replace(scenario, replies=[[Call("f"), Wait(60)]])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        call = await client.wait("response.function_call_arguments.done")
        await client.hear(TURN)
        done = (await client.wait("response.done"))["response"]
        await client.wait("response.created", 2)
        await client.output(call["call_id"])
        with pytest.raises(TimeoutError):
            await client.wait("error", timeout=0.4)

    assert done["status"] == "cancelled"


async def test_later_function_calls_replace_unanswered_ones() -> None:
    """The user goes on over a slow tool, and the answer calls again; both outputs are taken."""
    scenario = dataclasses.replace(FAST, replies=[Call("slow"), Call("quick")])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        slow = await client.wait("response.function_call_arguments.done")
        await client.wait("response.done")
        await client.hear(TURN)
        quick = await client.wait("response.function_call_arguments.done", 2)
        await client.wait("response.done", 2)
        await client.output(quick["call_id"])
        await client.send("response.create")
        await client.wait("response.done", 3)
        await client.output(slow["call_id"])
        await client.send("response.create")
        await client.wait("response.done", 4)

        assert [response.trigger for response in server.responses] == [
            "greeting",
            "user_turn",
            "tool_outputs",
            "tool_outputs",
        ]


async def test_a_function_call_may_overtake_a_response_create() -> None:
    """A client that took its calls for complete is answered when the response has ended."""
    scenario = dataclasses.replace(FAST, replies=[[Call("a"), Wait(0.3), Call("b")]])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        first = await client.wait("response.function_call_arguments.done")
        await client.output(first["call_id"])
        await client.send("response.create")
        second = await client.wait("response.function_call_arguments.done", 2)
        await client.output(second["call_id"])
        await client.wait("response.done", 2)

        assert [response.trigger for response in server.responses] == ["greeting", "tool_outputs"]


async def test_speech_and_function_calls_may_share_a_response() -> None:
    """By switch, or because the script says so."""
    client = await converse(thrown("speaks_before_calls"))
    response_id = client.of("response.function_call_arguments.done")[0]["response_id"]

    assert client.audio(response_id)


async def test_a_function_call_may_be_streamed_slowly() -> None:
    """The deltas of a function call can be apart, so that a client sees it half-streamed."""
    scenario = dataclasses.replace(FAST, replies=[Call("f", {"text": "x" * 20}, delta_s=0.05)])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.function_call_arguments.delta")
        assert not client.of("response.function_call_arguments.done")
        await client.wait("response.function_call_arguments.done")


async def test_items_of_the_client_may_come_back() -> None:
    """As `conversation.item.added` and `done`, in the chain of items."""
    client = await converse(thrown("client_items_echoed"))

    echoed = [
        frame["item"]
        for frame in client.of("conversation.item.added")
        if frame["item"]["type"] == "function_call_output"
    ]
    assert [item["output"] for item in echoed] == ["42"]


@pytest.mark.parametrize(
    ("switch", "codes"),
    [
        ("usage_zero", ["invalid_frame", "invalid_request_error", "invalid_frame"]),
        ("errors_all_invalid_request", ["invalid_request_error"] * 3),
        ("errors_all_invalid_frame", ["invalid_frame"] * 3),
    ],
)
async def test_codes_of_refusals(switch: str, codes: list[str]) -> None:
    """By the page schema failures are `invalid_frame`; the probes saw one code for all."""
    async with Emulator(thrown(switch), strict=False) as server, RawClient(server) as client:
        await client.configure()
        await client.send("session.update", session={"voice": "leo"})
        await client.output("call_unknown")
        await client.send("input_audio_buffer.clear")
        await client.wait("error", 3)

    assert [error["error"]["code"] for error in client.of("error")] == codes


async def test_errors_may_name_no_event() -> None:
    """Then a client can't tell what was wrong."""
    scenario = FAST.with_switches("errors_name_no_event", "message_items_refused")
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.text("hello")
        error = (await client.wait("error"))["error"]

    assert "event_id" not in error


async def test_unknown_types_may_be_ignored() -> None:
    """As an earlier page had it; a violation all the same."""
    scenario = thrown("unknown_types_ignored")
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure()
        await client.send("input_audio_buffer.clear")
        await client.settle()

        assert not client.of("error")
        assert server.violations[0].rule == "unknown_type"
