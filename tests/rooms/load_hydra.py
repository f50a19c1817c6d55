"""The Hydra of a load test, in a process of its own: ``python -m tests.rooms.load_hydra``.

Every answer is a steady tone, in which a gap can be heard. Each `speech_started` is printed, with
the room that it is about, so that what happens at a listener can be set against it: the clock is
`time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json

from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.testing import ConnectionRecord, Emulator, Observed, Say, Scenario, Sent

ANSWER_S = 8.0
"""Longer than anyone listens: each answer is cut by a barge-in, about in its middle."""

TONE_HZ = 440.0


def tell(record: ConnectionRecord, what: Observed) -> None:
    """Print that a user has begun to speak."""
    match what:
        case Sent(at_s=at_s, event=events.InputAudioBufferSpeechStarted()):
            # The load's worker gives the room's name as the instructions.
            room = record.configuration.instructions
            print(json.dumps({"room": room, "speech_started_at": at_s}), flush=True)


async def main() -> None:
    """Serve until the process is ended."""
    scenario = Scenario(
        default_reply=Say(tone_hz=TONE_HZ, duration_s=ANSWER_S), records_audio=False
    )
    async with Emulator(scenario, observer=tell, strict=False) as server:
        print(json.dumps({"url": server.url}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
