"""What the emulator's tests share: scenarios without waiting, and a call that tries all of one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from livekit_plugins_hydra.testing import Call, Emulator, Say, Scenario
from tests.raw_client import COUGH, KEY, TURN, RawClient

FAST = Scenario(max_lead_s=None, think_s=0.01, audio_speed=200.0)
"""The default server for clients that can't wait: faster, and it may be flooded."""

LONG = Say(duration_s=20.0)
"""Speech that is still being sent when the next event comes, at `audio_speed` 10."""

SLOW = dataclasses.replace(FAST, audio_speed=10.0, default_reply=LONG)

CALLING = [Call("f", {"a": 1})]


def thrown(name: str, base: Scenario = FAST, **fields: Any) -> Scenario:
    """Return a scenario with one switch thrown."""
    return dataclasses.replace(base.with_switches(name), **fields)


async def converse(scenario: Scenario, *, model: str = "hydra-v1.1") -> RawClient:
    """Have a greeting, a function call, a cough and a turn; return the client with what it saw."""
    scenario = dataclasses.replace(
        scenario, replies=[Say(text="Good day to you, caller."), CALLING]
    )
    async with (
        Emulator(scenario) as server,
        RawClient(server, query=f"?model={model}&api_key={KEY}") as client,
    ):
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.done")
        await client.wait("response.done")
        await client.hear(COUGH + TURN)
        call = await client.wait("response.function_call_arguments.done")
        await client.output(call["call_id"])
        await client.send("response.create")
        await client.wait("response.output_audio.done", 3 if scenario.speaks_before_calls else 2)
        await server.wait_for(lambda books: books.responses[2].ended_at_s)
        await client.socket.close()
    assert [response.status for response in server.responses] == ["completed"] * 3
    for response in server.responses:
        assert response.pcm == client.audio(response.id)
    return client


def refused(attempt: pytest.ExceptionInfo[InvalidStatus]) -> int:
    """Return the status of a refused attempt to connect."""
    return attempt.value.response.status_code
