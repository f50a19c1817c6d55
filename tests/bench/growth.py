"""What a turn costs late in a call, and a reconnect with much to remember.

``python -m tests.bench.growth turns`` holds one call of 11,000 turns as fast as they go,
``python -m tests.bench.growth context`` gives a session chat contexts of growing size,
``python -m tests.bench.growth reconnect`` lets it be dialled again with them. All is CPU time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median
from typing import Any, Final

from livekit.agents import llm

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events

from . import servers
from .away import Row, away, tell
from .clients import frames, hydra_model

SAMPLE: Final = 100
"""Turns that are measured together."""

SAMPLES: Final = 5
"""How many samples are taken at each point; their median counts."""

AFTER_TURNS: Final = (0, 1_000, 10_000)
"""How many turns were before them."""

WARM_UP_TURNS: Final = 500
"""Turns in which the interpreter and the processor get used to it."""

N_ITEMS: Final = (10, 100, 1_000, 10_000)
"""Items in a chat context."""

REPEATED: Final = 7


def _session(port: int, script: str) -> hydra.RealtimeSession:
    return hydra_model(port, script).session()


def context(n_items: int) -> llm.ChatContext:
    """Return a conversation of so many messages."""
    ctx = llm.ChatContext.empty()
    for number in range(n_items):
        role = "assistant" if number % 2 else "user"
        ctx.add_message(role=role, content=f"That is what was said in turn {number}.")  # type: ignore[arg-type]
    return ctx


async def turns() -> list[float]:
    """Return the milliseconds of a turn, after each of `AFTER_TURNS`."""
    at_s: list[float] = []
    playing: set[asyncio.Task[None]] = set()
    is_over = asyncio.Event()

    def take(generation: llm.GenerationCreatedEvent) -> None:
        at_s.append(time.process_time())
        task = asyncio.get_running_loop().create_task(_play(generation))
        playing.add(task)
        task.add_done_callback(playing.discard)
        if len(at_s) > WARM_UP_TURNS + max(AFTER_TURNS) + SAMPLE * SAMPLES:
            is_over.set()

    async with servers.running() as port:
        session = _session(port, "flood")
        session.on("generation_created", take)
        session.push_audio(frames()[0])
        await is_over.wait()
        await session.aclose()
    samples_s = [end - begin for begin, end in zip(at_s, at_s[SAMPLE:], strict=False)]
    starts = [WARM_UP_TURNS + n_before for n_before in AFTER_TURNS]
    return [
        median(samples_s[start : start + SAMPLE * SAMPLES : SAMPLE]) * 1000 / SAMPLE
        for start in starts
    ]


async def _play(generation: llm.GenerationCreatedEvent) -> None:
    async for message in generation.message_stream:
        async for _ in message.audio_stream:
            pass
        async for _ in message.text_stream:
            pass


async def contexts() -> list[float]:
    """Return the milliseconds that one more item costs, in contexts of `N_ITEMS`."""
    costs = []
    async with servers.running() as port:
        for n_items in N_ITEMS:
            session = _session(port, "greeting")
            ctx = context(n_items)
            await session.update_chat_ctx(ctx)
            times = []
            for _ in range(REPEATED):
                ctx.add_message(role="user", content="One more.")
                began_s = time.process_time()
                await session.update_chat_ctx(ctx)
                times.append(time.process_time() - began_s)
            costs.append(median(times) * 1000)
            await session.aclose()
    return costs


async def reconnects() -> list[float]:
    """Return the milliseconds from a loss to the next READY, with histories of `N_ITEMS`."""
    async with servers.running() as port:
        times = [[await _reconnect(port, n_items) for _ in range(REPEATED)] for n_items in N_ITEMS]
    return [median(of_size) * 1000 for of_size in times]


async def _reconnect(port: int, n_items: int) -> float:
    session = _session(port, "restarted")
    ready: asyncio.Queue[float] = asyncio.Queue()

    def note(event: events.ServerEvent) -> None:
        if isinstance(event, events.SessionConfigured):
            ready.put_nowait(time.process_time())

    session.on("hydra_server_event", note)
    await session.update_chat_ctx(context(n_items))
    session.push_audio(frames()[0])
    async with asyncio.timeout(10.0):
        first_s, second_s = await ready.get(), await ready.get()
    await session.aclose()
    return second_s - first_s


WHAT: Final[dict[str, Any]] = {"turns": turns, "context": contexts, "reconnect": reconnects}


def _series(costs: list[float], sizes: tuple[int, ...], unit: str) -> tuple[str, str]:
    """Return the costs, and how the last compares with the first."""
    cells = ", ".join(
        f"{cost:.2f} ({size:,} {unit})" for cost, size in zip(costs, sizes, strict=True)
    )
    return f"{cells} ms", f"last : first = {costs[-1] / costs[0]:.2f}"


async def rows() -> list[Row]:
    """Return all three."""
    found: list[Row] = []
    ours, beside = _series(await away("growth", "turns"), AFTER_TURNS, "before")
    found.append(("CPU of a turn, by how many were before", ours, beside, "flat"))
    ours, beside = _series(await away("growth", "context"), N_ITEMS, "items")
    found.append(("CPU of update_chat_ctx with one new item", ours, beside, ""))
    ours, beside = _series(await away("growth", "reconnect"), N_ITEMS, "items")
    found.append(("CPU of a reconnect", ours, beside, "linear"))
    return found


if __name__ == "__main__":
    tell(WHAT[sys.argv[1]]())
