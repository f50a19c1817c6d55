"""Hours of a call: memory, tasks and sockets stay as they are; `sh tests/run.sh soak` holds ten."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from livekit import rtc
from livekit.agents import function_tool, llm

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import Call, Context, Emulator, Reply, Say, Scenario
from tests import clock
from tests.calls import KEY, tone

FRAME_S: Final = 0.1
TURN_S: Final = 8.0
"""From one question to the next."""

LOSS_EVERY: Final = 8
"""Every so many turns the connection is lost."""

MAX_GROWTH_BYTES: Final = 5_000_000
_SAYING: Final = tone(0.6)
_SILENCE: Final = bytes(int(24_000 * FRAME_S) * 2)


@dataclass(frozen=True)
class Footprint:
    """What a call takes at some moment."""

    at_s: float
    rss_bytes: int
    n_tasks: int
    n_files: int
    n_turns: int
    n_connections: int


@function_tool
async def look() -> str:
    """Look."""
    return "seen"


def answer(context: Context) -> Reply:
    """Answer each question, every fifth with a function."""
    if context.trigger == "user_turn" and context.response_number % 5 == 0:
        return Call("look", {})
    return Say(duration_s=1.5, text="That is so, and it has always been so.")


class Caller:
    """Talks, listens, calls functions, without a framework."""

    def __init__(self, session: hydra.RealtimeSession) -> None:
        self._session = session
        self._tasks: set[asyncio.Task[None]] = set()
        self.n_answers = 0
        session.on("generation_created", self._begin)

    def _begin(self, generation: llm.GenerationCreatedEvent) -> None:
        task = asyncio.get_running_loop().create_task(self._hear(generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hear(self, generation: llm.GenerationCreatedEvent) -> None:
        async for message in generation.message_stream:
            [frame async for frame in message.audio_stream]
            [text async for text in message.text_stream]
        calls = [call async for call in generation.function_stream]
        self.n_answers += 1
        if not calls:
            return
        ctx = self._session.chat_ctx
        for call in calls:
            output = llm.FunctionCallOutput(
                call_id=call.call_id, name=call.name, output="seen", is_error=False
            )
            ctx.items.append(output)
        await self._session.update_chat_ctx(ctx)
        future = self._session.generate_reply()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def talk(self) -> None:
        """Speak for a moment, be silent for another, and then mute the microphone."""
        saying = _SAYING.tobytes()
        for i in range(20):
            piece = saying[i * len(_SILENCE) : (i + 1) * len(_SILENCE)] or _SILENCE
            self._session.push_audio(rtc.AudioFrame(piece, 24_000, 1, len(piece) // 2))
            await asyncio.sleep(FRAME_S)
        await asyncio.sleep(TURN_S - 20 * FRAME_S)


async def footprints(hours: float, every_s: float) -> AsyncIterator[Footprint]:
    """Hold a call of so many hours; yield what it takes now and then."""
    scenario = Scenario(replies=answer, transcripts=True, records_audio=False)
    async with Emulator(scenario) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        session = model.session()
        caller = Caller(session)
        await session._update_session(instructions="Be kind.", tools=[look])
        began_at = next_at = time.monotonic()
        n_turns = 0
        while time.monotonic() < began_at + hours * 3600:
            n_turns += 1
            await caller.talk()
            if n_turns % LOSS_EVERY == 0 and server.open_connections:
                server.drop()
            _forget(server)
            if time.monotonic() >= next_at:
                next_at += every_s
                gc.collect()
                yield Footprint(
                    time.monotonic() - began_at,
                    _rss_bytes(),
                    len(asyncio.all_tasks()),
                    len(os.listdir("/proc/self/fd")),
                    n_turns,
                    len(server.connections),
                )
        assert caller.n_answers >= 0.9 * n_turns
        await model.aclose()


def _forget(server: Emulator) -> None:
    """Let the emulator's books not grow: they are no part of the call."""
    for record in server.connections:
        for books in (record.client_events, record.server_events, record.turns, record.responses):
            books.clear()
        record.discarded_turns.clear()
        if not record.is_open:
            record.configuration = ev.ClientSession()
    server.dials.clear()


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hold(hours: float, every_s: float) -> list[Footprint]:
    """Hold a call in virtual time, and return its footprints."""

    async def collect() -> list[Footprint]:
        return [each async for each in footprints(hours, every_s)]

    return clock.run(partial(collect))


def test_a_call_does_not_grow() -> None:
    """A turn every eight seconds, a loss every minute: nothing piles up."""
    seen = hold(0.25, 200.0)
    early, late = seen[1], seen[-1]

    assert late.n_connections >= 12
    assert late.n_turns >= 100
    assert late.n_tasks <= early.n_tasks + 2
    assert late.n_files <= early.n_files + 2
    assert late.rss_bytes - early.rss_bytes < MAX_GROWTH_BYTES
