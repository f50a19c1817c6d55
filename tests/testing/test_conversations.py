"""Calls with the emulator, seen by a client of the bare wire that knows nothing of ours."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.testing import (
    Context,
    Emulator,
    Reply,
    Say,
)
from tests.raw_client import COUGH, TURN, RawClient, tone
from tests.testing.scenarios import FAST, SLOW


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
