"""The tests' worker: one agent, as each test wishes it.

A test dispatches it to a room with its wishes, a JSON object, as the job's metadata::

    base_url     where the emulated Hydra is
    session      options of `AgentSession`
    microphone   options of `AudioInputOptions`
    model        options of `hydra.RealtimeModel`
    record       options of the recording
    instructions what the agent is told; greets, if "greeting" is given

Whatever the session emits is told to the room, on a topic of the tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import Any

import av
import numpy as np
from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    JobExecutorType,
    cli,
    function_tool,
    room_io,
)
from livekit.plugins import hydra

from tests.rooms.guests import ENDS, TELLS
from tests.rooms.sound import LOUD, RATE_HZ, level


def load(worker: AgentServer) -> float:
    """Tell how busy a worker is: by its calls, since others use this machine, too."""
    return len(worker.active_jobs) / 100


in_threads = bool(os.environ.get("HYDRA_ROOMS_THREADS"))
server = AgentServer(
    job_executor_type=JobExecutorType.THREAD if in_threads else JobExecutorType.PROCESS,
    load_fnc=load,
    num_idle_processes=1,
    initialize_process_timeout=60.0,
    port=0,
)


class Assistant(Agent):
    """Whom the guests talk to."""

    def __init__(self, wishes: dict[str, Any]) -> None:
        super().__init__(instructions=wishes.get("instructions", "You are a weather line."))
        self._greeting = wishes.get("greeting")

    async def on_enter(self) -> None:
        """Speak first, if that is wished."""
        if self._greeting:
            self.session.generate_reply(instructions=self._greeting)

    @function_tool
    async def get_weather(self, city: str) -> str:
        """Look up today's weather.

        Args:
            city: the city's name
        """
        await asyncio.sleep(0.1)
        return f"{city}: sunny"


class Teller:
    """Tells a room what a session emits, in order."""

    def __init__(self, ctx: JobContext) -> None:
        self._ctx = ctx
        self._last: asyncio.Task[None] | None = None

    def tell(self, what: str, **more: object) -> None:
        """Tell one thing; never waits."""
        payload = json.dumps({"what": what, **more}, default=str)
        self._last = asyncio.create_task(self._send(payload, after=self._last))

    async def _send(self, payload: str, *, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        if self._ctx.room.isconnected():
            await self._ctx.room.local_participant.publish_data(payload, topic=TELLS)

    def watch(self, session: AgentSession[None]) -> None:
        """Tell all that a session emits from now on."""
        session.on("user_state_changed", lambda event: self.tell("user", state=event.new_state))
        session.on("agent_state_changed", lambda event: self.tell("agent", state=event.new_state))
        session.on("close", lambda event: self.tell("close", reason=event.reason.value))
        session.on("error", lambda event: self.tell("error", error=str(event.error)))
        session.on(
            "function_tools_executed",
            lambda event: self.tell("tools", calls=[call.name for call in event.function_calls]),
        )
        session.on(
            "conversation_item_added",
            lambda event: self.tell(
                "item",
                role=getattr(event.item, "role", None),
                text=getattr(event.item, "text_content", None),
                interrupted=getattr(event.item, "interrupted", None),
            ),
        )


@server.rtc_session(agent_name=os.environ.get("HYDRA_ROOMS_AGENT", "tests"))
async def talk(ctx: JobContext) -> None:
    """Hold one call."""
    wishes: dict[str, Any] = json.loads(ctx.job.metadata)
    model = hydra.RealtimeModel(
        base_url=wishes["base_url"], api_key="any-key-will-do", **wishes.get("model", {})
    )
    session: AgentSession[None] = AgentSession(
        llm=model, **({"aec_warmup_duration": None} | wishes.get("session", {}))
    )
    microphone = room_io.AudioInputOptions(**wishes.get("microphone", {}))
    teller = Teller(ctx)
    teller.watch(session)
    await session.start(
        Assistant(wishes),
        room=ctx.room,
        room_options=room_io.RoomOptions(audio_input=microphone),
        record=wishes.get("record", False),
    )

    @ctx.room.on("data_received")
    def _(packet: rtc.DataPacket) -> None:
        if packet.topic == ENDS:
            ending = asyncio.create_task(end(ctx, session, teller))
            ending.add_done_callback(lambda task: task.result())

    teller.tell(
        "started",
        pid=os.getpid(),
        thread=threading.current_thread().name,
        worker=os.environ.get("HYDRA_ROOMS_WORKER", ""),
    )


async def end(ctx: JobContext, session: AgentSession[None], teller: Teller) -> None:
    """Close the session; tell how much sound its recording has, if it was recorded."""
    await session.aclose()
    path = ctx.session_directory / "audio.ogg"
    if path.exists():
        seconds = await asyncio.to_thread(seconds_of_sound, str(path))
        teller.tell("recorded", seconds_of_sound=seconds)


def seconds_of_sound(path: str) -> list[float]:
    """Return how many seconds of each channel of a file are sound."""
    with av.open(path) as file:
        (stream,) = file.streams.audio
        to_stereo = av.AudioResampler(format="s16p", layout="stereo", rate=RATE_HZ)
        frames = [frame for coded in file.decode(stream) for frame in to_stereo.resample(coded)]
        pieces = [frame.to_ndarray() for frame in frames]
    n_step = RATE_HZ // 100
    samples = np.concatenate(pieces, axis=1)
    return [
        sum(level(side[begin : begin + n_step]) >= LOUD for begin in range(0, side.size, n_step))
        / 100
        for side in samples
    ]


if __name__ == "__main__":
    cli.run_app(server)
