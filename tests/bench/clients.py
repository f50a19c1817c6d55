"""Who is compared: each holds one call with sound both ways, as a room would make it.

All get the same sound in deltas as long. The plugin and the engines get the same frames at the
same pace, 50 ms of 24 kHz mono, and send what they make of them: the plugin 20 writes a second of
one or two appends, OpenAI's engine 10 of 100 ms, which it does not resample, Ultravox's 10 of
100 ms, which it does, as PCM without JSON or base64 both ways. The floor sends 50 prebuilt messages
a second.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from livekit import rtc
from livekit.agents import llm
from websockets.asyncio.client import connect

import livekit_plugins_hydra as hydra

from . import servers, stamps

FRAME_S: Final = 0.05
FRAME_HZ: Final = 24_000
"""What LiveKit's rooms deliver by default."""

APART: Final = 1.618
"""Frames that lie between the beginnings of two calls: so that no two speak at the same time, as
the multiples of the golden section never meet."""

Note = Callable[[float], None]
"""Takes the age of each piece of sound when it is at hand, in seconds."""


def hydra_model(port: int, script: str, session_id: str = "") -> hydra.RealtimeModel:
    """Return a model whose calls get a script."""
    return hydra.RealtimeModel(api_key="k", base_url=servers.url(port, script, session_id))


@functools.cache
def frames(frame_s: float = FRAME_S, rate_hz: int = FRAME_HZ) -> list[rtc.AudioFrame]:
    """Return some noise as frames, each `frame_s` long."""
    dice = np.random.default_rng(1)
    n_samples = int(frame_s * rate_hz)
    return [
        rtc.AudioFrame(
            dice.integers(-3000, 3000, n_samples, dtype=np.int16).tobytes(), rate_hz, 1, n_samples
        )
        for _ in range(40)
    ]


@dataclass(frozen=True)
class Terms:
    """How a call is held."""

    port: int
    script: str = "endless"
    frame_s: float = FRAME_S
    rate_hz: int = FRAME_HZ
    note: Note | None = None


async def at_real_time(every_s: float, do: Callable[[int], Awaitable[None] | None]) -> None:
    """Do something again and again, without drifting."""
    loop = asyncio.get_running_loop()
    at, number = loop.time(), 0
    while True:
        doing = do(number)
        if doing is not None:
            await doing
        number += 1
        at += every_s
        await asyncio.sleep(max(0.0, at - loop.time()))


async def floor(terms: Terms) -> None:
    """A bare client: prebuilt messages of 20 ms out, frames in and thrown away."""
    async with connect(
        servers.url(terms.port, terms.script), compression=None, max_size=None
    ) as socket:
        await socket.recv()
        await socket.send(
            '{"type":"session.configure","session":{"generate_initial_response":true}}'
        )
        audio = base64.b64encode(bytes(640)).decode()
        message = json.dumps({"type": "input_audio_buffer.append", "audio": audio})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(at_real_time(0.02, lambda _: socket.send(message)))
            async for frame in socket:
                if terms.note is not None and '"response.output_audio.delta"' in str(frame):
                    terms.note(stamps.age_in_base64_s(str(frame), "delta") or 0.0)


async def _talk(
    session: llm.RealtimeSession[Any], generation: llm.GenerationCreatedEvent, terms: Terms
) -> None:
    heard, note = frames(terms.frame_s, terms.rate_hz), terms.note

    async def play() -> None:
        async for message in generation.message_stream:
            async for frame in message.audio_stream:
                if note is not None:
                    note(stamps.age_s(frame.data) or 0.0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(play())
        tasks.create_task(
            at_real_time(terms.frame_s, lambda n: session.push_audio(heard[n % len(heard)]))
        )


async def plugin(terms: Terms) -> None:
    """This plugin."""
    session = hydra_model(terms.port, terms.script).session()
    await session.update_instructions("Be kind.")
    await _talk(session, await session.generate_reply(), terms)


@asynccontextmanager
async def openai_model(port: int, script: str, session_id: str = "") -> AsyncIterator[Any]:
    """Give a model of the realtime engine that LiveKit users have today; its calls get a script."""
    import aiohttp
    from livekit.plugins import openai

    async with aiohttp.ClientSession() as http:
        url = servers.url(port, script, session_id)
        yield openai.realtime.RealtimeModel(api_key="k", base_url=url, http_session=http)


async def openai(terms: Terms) -> None:
    """OpenAI's engine."""
    async with openai_model(terms.port, terms.script) as model:
        session = model.session()
        await session.update_instructions("Be kind.")
        await _talk(session, await session.generate_reply(), terms)


async def ultravox(terms: Terms) -> None:
    """Ultravox, which takes 16 kHz like Hydra; its server has one script."""
    import aiohttp
    from livekit.plugins import ultravox

    async with aiohttp.ClientSession() as http:
        model = ultravox.RealtimeModel(
            api_key="k", base_url=f"http://127.0.0.1:{terms.port}", http_session=http
        )
        session = model.session()
        await _talk(session, await session.generate_reply(), terms)


Contender = Callable[[Terms], Coroutine[Any, Any, None]]

CONTENDERS: Final[dict[str, Contender]] = {
    "floor": floor,
    "plugin": plugin,
    "openai": openai,
    "ultravox": ultravox,
}

DIALECTS: Final = {
    "floor": "hydra",
    "plugin": "hydra",
    "openai": "openai",
    "ultravox": "ultravox",
}
"""What each of them speaks."""


TITLES: Final = {"floor": "bare", "openai": "OpenAI", "ultravox": "Ultravox"}


def beside(counts: dict[str, float], form: str) -> str:
    """Return what the others count, and how many times that the plugin's count is."""
    return ", ".join(
        f"{TITLES[name]} {count:{form}} ({counts['plugin'] / count:.2f}x)"
        for name, count in counts.items()
        if name != "plugin"
    )


class Calls:
    """Calls of one contender in this process."""

    def __init__(self, name: str, terms: Terms) -> None:
        self._hold = functools.partial(CONTENDERS[name], terms)
        self._frame_s = terms.frame_s
        self.tasks: list[asyncio.Task[None]] = []

    async def add(self, n_calls: int) -> None:
        """Hold more calls; they speak at different times, as callers do."""
        for _ in range(n_calls):
            task = asyncio.get_running_loop().create_task(self._hold())
            self.tasks.append(task)
            await asyncio.sleep(self._frame_s * APART)

    def check(self) -> None:
        """Raise what ended a call."""
        for task in self.tasks:
            if task.done():
                task.result()

    async def end(self) -> None:
        """Hang up."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
