"""Contenders, each in a process of its own: N calls at real time, and what they cost.

``python -m tests.bench.clients NAME PORT N SECONDS`` prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import numpy as np
from livekit import rtc
from livekit.agents import llm
from websockets.asyncio.client import connect

FRAME_S: Final = 0.05
FRAME_HZ: Final = 24_000
"""What LiveKit's rooms deliver by default: 50 ms of 24 kHz mono."""

WARM_UP_S: Final = 2.0


def _frames() -> list[rtc.AudioFrame]:
    dice = np.random.default_rng(1)
    n_samples = int(FRAME_S * FRAME_HZ)
    return [
        rtc.AudioFrame(
            dice.integers(-3000, 3000, n_samples, dtype=np.int16).tobytes(), FRAME_HZ, 1, n_samples
        )
        for _ in range(40)
    ]


async def _at_real_time(every_s: float, do: Callable[[int], Awaitable[None] | None]) -> None:
    loop = asyncio.get_running_loop()
    at, number = loop.time(), 0
    while True:
        doing = do(number)
        if doing is not None:
            await doing
        number += 1
        at += every_s
        await asyncio.sleep(max(0.0, at - loop.time()))


async def floor(port: int) -> None:
    """A bare client: prebuilt messages of 20 ms out, frames in and thrown away."""
    async with connect(
        f"ws://127.0.0.1:{port}/?model=hydra-v1.1", compression=None, max_size=None
    ) as socket:
        await socket.recv()
        await socket.send('{"type":"session.configure","session":{}}')
        audio = base64.b64encode(bytes(640)).decode()
        message = json.dumps({"type": "input_audio_buffer.append", "audio": audio})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_at_real_time(0.02, lambda _: socket.send(message)))
            async for _ in socket:
                pass


async def _talk(session: llm.RealtimeSession[Any], generation: llm.GenerationCreatedEvent) -> None:
    frames = _frames()

    async def play() -> None:
        async for message in generation.message_stream:
            async for _ in message.audio_stream:
                pass

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(play())
        tasks.create_task(
            _at_real_time(FRAME_S, lambda n: session.push_audio(frames[n % len(frames)]))
        )


async def plugin(port: int) -> None:
    """This plugin."""
    import livekit_plugins_hydra as hydra

    model = hydra.RealtimeModel(api_key="k", base_url=f"ws://127.0.0.1:{port}/")
    session = model.session()
    await session.update_instructions("Be kind.")
    await _talk(session, await session.generate_reply())


async def openai(port: int) -> None:
    """The realtime engine that LiveKit users have today."""
    import aiohttp
    from livekit.plugins import openai

    async with aiohttp.ClientSession() as http:
        model = openai.realtime.RealtimeModel(
            api_key="k", base_url=f"http://127.0.0.1:{port}/v1", http_session=http
        )
        session = model.session()
        await session.update_instructions("Be kind.")
        await _talk(session, await session.generate_reply())


async def main(name: str, port: int, n_calls: int, seconds: float) -> None:
    """Hold `n_calls` calls and print the CPU time of a second of one."""
    contenders: dict[str, Callable[[int], Coroutine[Any, Any, None]]]
    contenders = {"floor": floor, "plugin": plugin, "openai": openai}
    async with asyncio.TaskGroup() as tasks:
        calls = []
        for _ in range(n_calls):
            calls.append(tasks.create_task(contenders[name](port)))
            await asyncio.sleep(FRAME_S / n_calls)
        await asyncio.sleep(WARM_UP_S)
        cpu_s, wall_s = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
        print(json.dumps({"ms_per_call_second": cpu_s * 1000 / n_calls / wall_s}), flush=True)
        for call in calls:
            call.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
