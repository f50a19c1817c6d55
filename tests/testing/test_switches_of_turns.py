"""Switches of the user's turns, seen by a client of the bare wire."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.testing import Emulator, Say, Wait
from tests.raw_client import COUGH, TURN, RawClient, tone
from tests.testing.scenarios import FAST, SLOW, converse, thrown


@pytest.mark.parametrize(
    ("mode", "after_cough", "after_turn"),
    [("on_time", 1, 2), ("late", 1, 2), ("missing_if_discarded", 0, 1), ("missing", 0, 0)],
)
async def test_speech_stopped_may_be_missing(mode: Any, after_cough: int, after_turn: int) -> None:
    """For a discarded turn, or for every turn."""
    async with (
        Emulator(dataclasses.replace(FAST, speech_stopped=mode)) as server,
        RawClient(server) as client,
    ):
        await client.configure()
        await client.hear(COUGH)
        await client.wait("conversation.item.done")
        assert len(client.of("input_audio_buffer.speech_stopped")) == after_cough
        await client.hear(TURN)
        await client.wait("response.done")
        assert len(client.of("input_audio_buffer.speech_stopped")) == after_turn


async def test_the_users_item_may_come_at_the_end_of_the_turn() -> None:
    """It is added and done at once then, whether the turn counts or not."""
    async with Emulator(thrown("user_item_at_end")) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(COUGH + TURN)
        await client.wait("response.created")

    started = client.of("input_audio_buffer.speech_started")
    added = client.of("conversation.item.added")
    assert [each["item_id"] for each in started] == [each["item"]["id"] for each in added[:2]]
    assert added[1]["previous_item_id"] == added[0]["item"]["id"]
    assert client.types()[2:11] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "conversation.item.added",
        "conversation.item.done",
    ] * 2 + ["response.created"]


async def test_a_server_may_think_before_it_says_that_the_user_has_stopped() -> None:
    """Then the response follows `speech_stopped` at once."""
    scenario = thrown("thinks_before_speech_stopped", think_s=1.0)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(TURN)
        with pytest.raises(TimeoutError):
            await client.wait("input_audio_buffer.speech_stopped", timeout=0.2)
        await client.wait("response.created")
        (stopped_at_s,) = (
            sent.at_s
            for sent in server.connection.server_events
            if isinstance(sent.event, events.InputAudioBufferSpeechStopped)
        )

        assert 0.01 <= server.responses[0].created_at_s - stopped_at_s < 0.5


async def test_a_user_who_goes_on_ends_the_thinking() -> None:
    """The turn that was thought about ends before the next one begins; the last one is answered."""
    scenario = thrown("thinks_before_speech_stopped", think_s=60.0)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(TURN + COUGH)
        await client.wait("response.done")
        kinds = [kind for kind in client.types() if kind.startswith("input_audio_buffer")]

        assert [kind.rpartition("_")[2] for kind in kinds] == ["started", "stopped"] * 2
        assert [turn.number for turn in server.connection.turns] == [1]


async def test_the_first_audio_of_a_response_may_take_its_time() -> None:
    """It comes so much later than `response.created`; what follows it comes as ever."""
    scenario = thrown("slow_to_speak", replies=[[Say(duration_s=0.1), Say(duration_s=0.1)]])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        sent_at_s = [sent.at_s for sent in server.connection.server_events if sent.n_audio_bytes]
        created_at_s = server.responses[0].created_at_s

    assert sent_at_s[0] - created_at_s >= 0.2
    assert sent_at_s[-1] - sent_at_s[0] < 0.2


async def test_speech_stopped_may_be_late() -> None:
    """Then it comes in the middle of the answer's audio."""
    client = await converse(thrown("speech_stopped_late"))
    kinds = [frame["type"] for frame in client.frames]
    async with Emulator(thrown("speech_stopped_late")) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(TURN)
        await client.wait("response.done")
        kinds = [frame["type"] for frame in client.frames]

    stopped = kinds.index("input_audio_buffer.speech_stopped")
    assert kinds[stopped - 3 : stopped] == ["response.output_audio.delta"] * 3
    assert kinds.index("response.created") < stopped


async def test_a_late_speech_stopped_never_follows_the_next_start() -> None:
    """When the user goes on before the answer came, the old turn is stopped first."""
    for think_s in (5.0, 0.01):
        scenario = thrown("speech_stopped_late", SLOW, think_s=think_s)
        scenario = dataclasses.replace(scenario, default_reply=[Wait(9)])
        async with Emulator(scenario) as server, RawClient(server) as client:
            await client.configure()
            await client.hear(TURN)
            await client.wait("conversation.item.done")
            if think_s < 1:
                await client.wait("response.created")
            await client.hear(tone(0.3))
            await client.wait("input_audio_buffer.speech_started", 2)
            kinds = [kind for kind in client.types() if kind.startswith("input_audio_buffer")]

        assert [kind.rpartition("_")[2] for kind in kinds] == ["started", "stopped", "started"]


async def test_a_response_may_survive_a_cough() -> None:
    """A server that waits until it knows cancels for a turn, and not for a cough."""
    async with (
        Emulator(thrown("barge_in_when_settled", SLOW)) as server,
        RawClient(server) as client,
    ):
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.delta")
        await client.hear(COUGH)
        await client.wait("conversation.item.done")
        n_deltas = len(client.of("response.output_audio.delta"))
        await client.wait("response.output_audio.delta", n_deltas + 5)
        assert not client.of("response.done")
        await client.hear(TURN)
        done = (await client.wait("response.done"))["response"]
        assert done["status_details"]["reason"] == "interrupted"
        await client.wait("response.created", 2)


async def test_a_cough_may_cost_the_response() -> None:
    """By default a response is cancelled at once, though the turn is discarded then."""
    async with Emulator(SLOW) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.delta")
        await client.hear(COUGH)
        await client.wait("conversation.item.done", 2)

        assert len(client.of("response.done")) == len(server.responses) == 1


async def test_audio_may_follow_a_cancel() -> None:
    """Late deltas carry the cancelled id: after its end, and one after the next beginning."""
    scenario = SLOW.with_switches("late_deltas", "cancelled_items_stay_open")
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.delta")
        await client.hear(TURN)
        second = (await client.wait("response.created", 2))["response"]["id"]
        await client.wait("conversation.item.added", 3)
        first = server.responses[0]

        done = next(
            index for index, frame in enumerate(client.frames) if frame["type"] == "response.done"
        )
        created = next(
            index
            for index, frame in enumerate(client.frames)
            if frame["type"] == "response.created" and frame["response"]["id"] == second
        )
        late = [
            index
            for index, frame in enumerate(client.frames)
            if frame.get("response_id") == first.id and index > done
        ]
        assert [index > created for index in late] == [False, False, True]
        assert client.audio(first.id) == first.pcm + first.late_pcm
        assert not client.of("response.output_audio.done")
        assert [item["item"]["role"] for item in client.of("conversation.item.done")] == ["user"]


async def test_the_end_of_a_cancelled_response_may_come_late() -> None:
    """After the next `response.created`; or with the end of the turn, if that is discarded."""
    async with (
        Emulator(SLOW.with_switches("cancelled_done_late")) as server,
        RawClient(server) as client,
    ):
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.delta")
        await client.hear(TURN)
        await client.wait("response.done")
        ends = [kind for kind in client.types() if kind.startswith("response")]
        await client.wait("response.output_audio.delta")
        await client.hear(COUGH)
        await client.wait("response.done", 2)

        assert ends[:5] == [
            "response.created",
            "response.output_audio.delta",
            "response.created",
            "response.output_audio.done",
            "response.done",
        ]
        assert [done["response"]["id"] for done in client.of("response.done")] == [
            response.id for response in server.responses
        ]
