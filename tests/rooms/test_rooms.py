"""Calls in rooms: a guest with a microphone, an agent whose model is an emulated Hydra."""

from __future__ import annotations

from livekit_plugins_hydra.emulator import Emulator, Say, Scenario

from .conftest import Rooms
from .sound import recording


async def test_reply_is_heard_with_the_right_pitch_and_length(rooms: Rooms) -> None:
    """Spoken to, the agent answers; through Opus its tone keeps its pitch and its length."""
    scenario = Scenario(replies=[Say(tone_hz=523.0, duration_s=2.0)])
    async with Emulator(scenario) as server, rooms.call(server) as guest:
        await guest.say(recording("user-question", 48_000))
        reply = await guest.until_heard(1)

    assert abs(reply.pitch_hz - 523.0) < 3.0
    assert abs(reply.duration_s - 2.0) < 0.1
