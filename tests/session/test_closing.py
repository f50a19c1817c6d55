"""`aclose()` at any moment of a call: it ends in time, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from livekit import rtc
from livekit.agents import APIConnectOptions, function_tool, llm
from livekit.agents.llm import FunctionCallOutput
from livekit.agents.types import NOT_GIVEN

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.session import CLOSE_BUDGET_S
from livekit_plugins_hydra.testing import Call, Emulator, Say, Scenario
from tests import clock
from tests.calls import KEY, tone
from tests.proxy import FaultProxy
from tests.storm import all_logs

SLOW: Final = Scenario(
    connect_delay_s=0.02,
    created_delay_s=0.02,
    configure_delay_s=0.02,
    replies=[Say(duration_s=0.2), [Say(duration_s=0.3), Call("look", {})], Say(duration_s=0.2)],
    think_s=0.02,
    calling_response_done="after_outputs",
)

N_TURNS: Final = 700
"""About as many turns of the event loop as the life of `_live` has."""

STEP: Final = 13
"""How many turns lie between two that are tried; all of them are in soak."""


@function_tool
async def look() -> str:
    """Look."""
    return "seen"


def _ask(session: hydra.RealtimeSession, instructions: str) -> None:
    """Ask for a reply, and take note of its end."""
    future = session.generate_reply(instructions=instructions or NOT_GIVEN)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _live(session: hydra.RealtimeSession, server: Emulator, proxy: FaultProxy) -> None:
    """Go through every phase of a call, and stay in the last: backing off."""
    await session._update_session(instructions="Be kind.", tools=[look])
    ask = partial(_ask, session)
    ask("Greet.")
    await server.wait_for(ev.ResponseDone, timeout=60.0)
    for i in range(0, 14_400, 480):
        frame = tone(0.6)[i : i + 480]
        session.push_audio(rtc.AudioFrame(frame.tobytes(), 24_000, 1, 480))
    await server.wait_for(ev.ResponseFunctionCallArgumentsDone, timeout=60.0)
    await asyncio.sleep(0.3)
    ctx = session.chat_ctx
    for call in [item for item in ctx.items if item.type == "function_call"]:
        ctx.items.append(
            FunctionCallOutput(call_id=call.call_id, name="look", output="seen", is_error=False)
        )
    await session.update_chat_ctx(ctx)
    ask("")
    await server.wait_for(ev.ResponseDone, count=3, timeout=60.0)
    server.drop()
    await server.wait_connections(2, timeout=60.0)
    await server.wait_for(ev.SessionConfigured, count=2, timeout=60.0)
    ask("Go on.")
    await server.wait_for(lambda books: len(books.responses) > 3, timeout=60.0)
    proxy.refuses = "reset"
    proxy.reset()
    await asyncio.Future()


@asynccontextmanager
async def _a_call(scenario: Scenario) -> AsyncIterator[tuple[Emulator, FaultProxy]]:
    async with Emulator(scenario, strict=False) as server, FaultProxy(server.port) as proxy:
        yield server, proxy


async def close_at(turn: int) -> tuple[float, str]:
    """Close a call at some turn of the loop; return when that was, and the phase it was in."""
    with all_logs() as logs:
        async with _a_call(SLOW) as (server, proxy):
            before = asyncio.all_tasks()
            began_at = time.monotonic()
            model = hydra.RealtimeModel(
                api_key=KEY, base_url=proxy.url, conn_options=APIConnectOptions(max_retry=3)
            )
            session = model.session()
            generations: list[llm.GenerationCreatedEvent] = []
            session.on("generation_created", generations.append)
            living = asyncio.ensure_future(_live(session, server, proxy))
            await clock.turns(turn)
            at, phase = time.monotonic() - began_at, repr(session)
            await session.aclose()
            close_s = time.monotonic() - began_at - at
            await session.aclose()
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            assert close_s <= CLOSE_BUDGET_S
            for generation in generations:
                await _read(generation)
            left = {task for task in asyncio.all_tasks() - before if "hydra" in task.get_name()}
            assert left == set()
            made = weakref.ref(session)
            del session, model, generations, living
            await asyncio.sleep(1.5)
            assert proxy.n_open == 0
        gc.collect()
        assert made() is None
    assert logs.complaints == []
    return at, phase


async def _read(generation: llm.GenerationCreatedEvent) -> None:
    """Read all streams of a generation to their end, without waiting for anything."""
    async with asyncio.timeout(0.5):
        async for message in generation.message_stream:
            [frame async for frame in message.audio_stream]
            [text async for text in message.text_stream]
        [call async for call in generation.function_stream]


def close_at_each(step: int) -> list[tuple[float, str]]:
    """Close a call at every so many turns of the loop."""
    return [clock.run(partial(close_at, turn)) for turn in range(1, N_TURNS, step)]


async def test_a_call_that_is_closed_while_its_key_is_minted_stays_closed() -> None:
    """Whoever mints it may swallow the cancellation, as `asyncio.wait_for` does on Python 3.11."""

    async def mint() -> str:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            return KEY
        return ""

    async with Emulator(Scenario()) as server:
        model = hydra.RealtimeModel(api_key=mint, base_url=server.url)
        session = model.session()
        session.push_audio(rtc.AudioFrame(bytes(1600), 16_000, 1, 800))
        await asyncio.sleep(1.0)
        await session.aclose()
        await asyncio.sleep(60.0)

        assert not server.open_connections
        assert not any(record.client_events for record in server.connections)
        await model.aclose()


def test_a_call_can_be_closed_at_any_moment() -> None:
    """Connecting, configuring, greeting, listening, in a function, reconnecting, backing off."""
    phases = close_at_each(STEP)

    seen = " ".join(phase for _, phase in phases)
    for state in (
        "OPENED",
        "CONFIGURING",
        "READY",
        "SPEAKING",
        "GENERATING",
        "GENERATING CALLING",
    ):
        assert state in seen
    assert phases[-1][0] > 5.0
