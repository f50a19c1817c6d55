"""The worker of a load test: a process for each call, as LiveKit has it by default.

It tells each room its process id, and how much time its event loop and the plugin in it took.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Final

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, room_io
from livekit.plugins import hydra

from tests.rooms.accounting import LoopAccount
from tests.rooms.guests import TELLS

TELL_S: Final = 1.0
"""How often a call tells what it has used."""

server = AgentServer(load_fnc=lambda: 0.0, initialize_process_timeout=120.0, port=0)


@server.rtc_session(agent_name="load")
async def talk(ctx: JobContext) -> None:
    """Hold one call."""
    account = LoopAccount()
    account.open()
    session: AgentSession[None] = AgentSession(
        llm=hydra.RealtimeModel(base_url=ctx.job.metadata, api_key="any-key-will-do"),
        aec_warmup_duration=None,
    )
    microphone = room_io.AudioInputOptions(sample_rate=16_000, frame_size_ms=20)
    await session.start(
        Agent(instructions=ctx.room.name),
        room=ctx.room,
        room_options=room_io.RoomOptions(audio_input=microphone),
    )
    while ctx.room.isconnected():
        used = {
            "what": "used",
            "pid": os.getpid(),
            "loop_s": time.thread_time(),
            "plugin_s": account.plugin_s,
        }
        await ctx.room.local_participant.publish_data(json.dumps(used), topic=TELLS)
        await asyncio.sleep(TELL_S)


if __name__ == "__main__":
    cli.run_app(server)
