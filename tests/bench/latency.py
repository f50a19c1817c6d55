"""What the plugin adds to the time that things take, with many calls in one process.

``python -m tests.bench.latency NAME CALLS [uncollected]`` holds calls that speak at real time and
go round a barge-in, a function call and a reply on demand (`servers.turns`). Ages are from one
process to the other, so what loopback and both event loops take is in them: the bare client has
that, too. One alone, `read`, begins at the read off the socket. ``uncollected`` turns Python's
garbage collector off, to see what of it is its.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from typing import Any, Final
from unittest import mock

from livekit import rtc
from livekit.agents import Agent, AgentSession, function_tool, llm
from websockets.asyncio.client import ClientConnection, connect

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events, wire
from livekit_plugins_hydra.testing import Loudspeaker, Microphone
from livekit_plugins_hydra.transport.websocket import WebSocket
from livekit_plugins_hydra.voice.audio import BYTES_PER_S, INPUT_RATE_HZ, Resampler

from . import servers, stamps
from .away import Row, away, keep_to_core, spread_ms, tell
from .clients import APART, FRAME_S, at_real_time, frames, hydra_model, openai_model

NUMBERS_OF_CALLS: Final = (1, 50, 200)
SECONDS: Final = 10.0
WARM_UP_S: Final = 3.0

PAUSE_S_PER_CALL: Final = 0.02
"""A call pauses so long between rounds, times the number of calls: 200 take 4 s."""

N_SAMPLES: Final = int(FRAME_S * INPUT_RATE_HZ)
REST: Final = frames()[0].data.tobytes()[: N_SAMPLES * 2][stamps.BYTES :]
"""A frame at 16 kHz without the stamp at its beginning: nothing is resampled, so it arrives."""

Ages = dict[str, list[float]]
"""In seconds, by what took so long."""


def _frame() -> rtc.AudioFrame:
    return rtc.AudioFrame(stamps.now() + REST, INPUT_RATE_HZ, 1, N_SAMPLES)


def _pause_s(n_calls: int) -> float:
    return random.uniform(0.5, 1.5) * n_calls * PAUSE_S_PER_CALL


class Reads:
    """When what was read off the sockets came, by the stamp of the sound in it."""

    def __init__(self) -> None:
        self._read_at: dict[bytes, float] = {}
        self._now = 0.0

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note them meanwhile."""
        take, decode = WebSocket.data_received, wire.decode

        def data_received(socket: WebSocket, data: bytes) -> None:
            self._now = time.monotonic()
            take(socket, data)

        def note(message: bytes) -> events.ServerEvent | events.UnknownEvent:
            event = decode(message)
            if isinstance(event, events.ResponseOutputAudioDelta):
                self._read_at[event.delta[: stamps.BYTES]] = self._now
            return event

        with (
            mock.patch.object(WebSocket, "data_received", data_received),
            mock.patch.object(wire, "decode", note),
        ):
            yield

    def age_s(self, frame: rtc.AudioFrame) -> float:
        """Return how long ago a frame was read."""
        return time.monotonic() - self._read_at[bytes(frame.data.cast("B")[: stamps.BYTES])]


class Caller:
    """One call through the plugin."""

    reads = Reads()

    def __init__(self, port: int, n_calls: int, ages: Ages) -> None:
        self._n_calls = n_calls
        self._ages = ages
        self._model = hydra_model(port, "turns")
        self._begun: asyncio.Queue[llm.GenerationCreatedEvent] = asyncio.Queue()

    async def talk(self) -> None:
        """Talk until cancelled."""
        session = self._model.session()
        session.on("generation_created", self._take)
        session.on("input_speech_started", lambda _: self._note_started(session))
        await session.update_instructions("Be kind.")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(at_real_time(FRAME_S, lambda _: session.push_audio(_frame())))
            tasks.create_task(self._converse(session))

    def _take(self, generation: llm.GenerationCreatedEvent) -> None:
        if not generation.user_initiated:
            self._begun.put_nowait(generation)

    def _note_started(self, session: hydra.RealtimeSession) -> None:
        self._ages[f"started:{session.session_id}"].append(time.monotonic())

    async def _converse(self, session: hydra.RealtimeSession) -> None:
        await self._hear(await session.generate_reply())
        await self._answer(session)
        while True:
            await asyncio.sleep(_pause_s(self._n_calls))
            reply = session.generate_reply(instructions=stamps.now_in_text())
            await self._hear(await reply)
            await self._answer(session)

    async def _answer(self, session: hydra.RealtimeSession) -> None:
        """Answer the function call that comes next, and hear what is told of it."""
        generation = await self._begun.get()
        calls = [call async for call in generation.function_stream]
        chat_ctx = session.chat_ctx
        chat_ctx.items += [
            llm.FunctionCallOutput(
                call_id=call.call_id, name=call.name, output=stamps.now_in_text(), is_error=False
            )
            for call in calls
        ]
        await session.update_chat_ctx(chat_ctx)
        await self._hear(await session.generate_reply())

    async def _hear(self, generation: llm.GenerationCreatedEvent) -> None:
        async for message in generation.message_stream:
            is_first = True
            async for frame in message.audio_stream:
                age_s = stamps.age_s(frame.data)
                if is_first and age_s is not None:
                    self._ages["delta"].append(age_s)
                    self._ages["read"].append(self.reads.age_s(frame))
                is_first = False


class BareCaller:
    """The same call by a client that does no more than it must."""

    def __init__(self, port: int, n_calls: int, ages: Ages) -> None:
        self._url = servers.url(port, "turns")
        self._n_calls = n_calls
        self._ages = ages
        middle = base64.b64encode(REST[: N_SAMPLES - stamps.BYTES]).decode()
        self._first = middle
        self._second = base64.b64encode(bytes(N_SAMPLES)).decode()

    async def talk(self) -> None:
        """Talk until cancelled."""
        async with connect(self._url, compression=None, max_size=None) as socket:
            await socket.recv()
            await socket.send(
                '{"type":"session.configure","session":{"generate_initial_response":true}}'
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(at_real_time(FRAME_S, lambda _: self._push(socket)))
                tasks.create_task(self._converse(socket))

    async def _push(self, socket: ClientConnection) -> None:
        head = '{"type":"input_audio_buffer.append","audio":"'
        await socket.send(f'{head}{stamps.now_in_base64()}{self._first}"}}')
        await socket.send(f'{head}{self._second}"}}')

    async def _converse(self, socket: ClientConnection) -> None:
        is_first = True
        n_ended = 0
        async for frame in socket:
            text = str(frame)
            if '"response.output_audio.delta"' in text:
                age_s = stamps.age_in_base64_s(text, "delta")
                if is_first and age_s is not None:
                    self._ages["delta"].append(age_s)
                is_first = False
            elif '"response.done"' in text:
                is_first = True
                n_ended += 1
                if n_ended % 3 == 2:
                    item = {"type": "function_call_output", "output": stamps.now_in_text()}
                    await self._ask(socket, item)
                elif n_ended % 3 == 0:
                    asyncio.get_running_loop().create_task(self._ask_later(socket))

    async def _ask_later(self, socket: ClientConnection) -> None:
        await asyncio.sleep(_pause_s(self._n_calls))
        await self._ask(socket, {"type": "message", "text": stamps.now_in_text()})

    async def _ask(self, socket: ClientConnection, item: dict[str, str]) -> None:
        await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
        await socket.send('{"type":"response.create"}')


class RoomCaller:
    """The same call through an `AgentSession`, as in a room; it tells when playing is stopped."""

    numbers = itertools.count()

    def __init__(self, port: int, n_calls: int, ages: Ages) -> None:
        self._port = port
        self._n_calls = n_calls
        self._ages = ages
        self._id = f"room{next(self.numbers)}"

    async def talk(self) -> None:
        """Talk until cancelled."""
        async with self.model() as model:
            await self._talk(AgentSession(llm=model, aec_warmup_duration=None))

    @asynccontextmanager
    async def model(self) -> AsyncIterator[llm.RealtimeModel]:
        """Give the model that is measured."""
        yield hydra_model(self._port, "turns", self._id)

    async def _talk(self, session: AgentSession[Any]) -> None:
        ears = Loudspeaker()
        session.input.audio, session.output.audio = Microphone(), ears
        await session.start(Agent(instructions="Be kind.", tools=[look]))
        try:
            while True:
                reply = session.generate_reply(instructions=stamps.now_in_text())
                await reply
                self._ages[f"started:{self._id}"] += ears.cleared_at
                ears.cleared_at.clear()
                while session.agent_state != "listening":  # noqa: ASYNC110 - events cost more
                    await asyncio.sleep(0.05)
                await asyncio.sleep(_pause_s(self._n_calls))
        finally:
            await session.aclose()


class OpenAIRoomCaller(RoomCaller):
    """The same through OpenAI's engine."""

    @asynccontextmanager
    async def model(self) -> AsyncIterator[llm.RealtimeModel]:
        """Give the model that is measured."""
        async with openai_model(self._port, "turns", self._id) as model:
            yield model


@function_tool
async def look() -> str:
    """Look."""
    return stamps.now_in_text()


CALLERS: Final[dict[str, type[Caller | BareCaller | RoomCaller]]] = {
    "plugin": Caller,
    "floor": BareCaller,
    "room": RoomCaller,
    "openai_room": OpenAIRoomCaller,
}


async def _fetch(port: int) -> dict[str, list[float]]:
    """Return what the server has noted, and make it forget."""
    async with connect(servers.url(port, "report"), max_size=None) as socket:
        noted: dict[str, list[float]] = json.loads(await socket.recv())
        return noted


async def measure(name: str, n_calls: int) -> Ages:
    """Return the ages of everything that `n_calls` calls have seen in `SECONDS`.

    What the imports have left is no garbage: to look for some in it would stop all calls for 80 ms
    once, the bare client's as well if it lived long enough.
    """
    gc.freeze()
    keep_to_core(0)
    ages: Ages = defaultdict(list)
    dialect = "openai" if name == "openai_room" else "hydra"
    async with servers.running(dialect, core=1) as port:
        tasks = []
        for _ in range(n_calls):
            tasks.append(asyncio.ensure_future(CALLERS[name](port, n_calls, ages).talk()))
            await asyncio.sleep(FRAME_S * APART)
        await asyncio.sleep(WARM_UP_S)
        ages.clear()
        await _fetch(port)
        await asyncio.sleep(SECONDS)
        until = time.monotonic()
        noted = await _fetch(port)
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    found: Ages = {"delta": ages["delta"], "read": ages["read"], "started": []}
    for key, values in noted.items():
        if key.startswith("started:"):
            happened: dict[float, float] = {}
            for happened_at in ages.get(key, ()):
                sent = [at for at in values if at <= happened_at < until]
                if sent:  # LiveKit may clear its buffer twice: the first time counts
                    happened.setdefault(max(sent), happened_at)
            found["started"] += [at - sent_at for sent_at, at in happened.items()]
        else:
            found[key] = values
    return found


def hold_back_ms() -> str:
    """Return how much sound the resampler holds back, mean and most, with a room's frames."""
    resampler = Resampler()
    behind: list[float] = []
    heard_s = given_s = 0.0
    for frame in frames():
        heard_s += frame.duration
        given_s += len(resampler.push(frame)) / BYTES_PER_S
        behind.append((heard_s - given_s) * 1000)
    return f"{sum(behind) / len(behind):.1f} on average, {max(behind):.1f} at most"


TITLES: Final = {
    "delta": ("first delta sent -> its AudioFrame in the stream", "p99 1 ms more at 50"),
    "read": ("the same, from the moment at which it is read off the socket", "p99 1 ms at 50"),
    "append": ("push_audio -> the frame at the server", "p99 2 ms more at 50"),
    "started": ("speech_started sent -> input_speech_started", "p99 5 ms at 50"),
    "output": ("last tool output -> response.create at the server", ""),
    "reply": ("generate_reply() -> response.create at the server", ""),
}


async def rows() -> list[Row]:
    """Return all of it: p50 / p99 / max in ms."""
    found: list[Row] = []
    for n_calls in NUMBERS_OF_CALLS:
        plugin: Any = await away("latency", "plugin", n_calls)
        bare: Any = await away("latency", "floor", n_calls)
        for kind, (title, target) in TITLES.items():
            beside = f"bare {spread_ms(bare[kind])} ms" if bare.get(kind) else ""
            ours = f"{spread_ms(plugin.get(kind, ()))} ms"
            found.append((f"{n_calls} calls: {title}", ours, beside, target))
    what = "speech_started sent -> an AgentSession's clear_buffer"
    for n_calls in NUMBERS_OF_CALLS[:2]:
        room: Any = await away("latency", "room", n_calls)
        theirs: Any = await away("latency", "openai_room", n_calls)
        ours, beside = (f"{spread_ms(each['started'])} ms" for each in (room, theirs))
        found.append((f"{n_calls} calls: {what}", ours, f"OpenAI {beside}", "p99 5 ms at 50"))
        calm: Any = await away("latency", "room", n_calls, "uncollected")
        theirs = await away("latency", "openai_room", n_calls, "uncollected")
        ours, beside = (f"{spread_ms(each['started'])} ms" for each in (calm, theirs))
        found.append(("the same without the garbage collector", ours, f"OpenAI {beside}", ""))
    found.append(("Held back by the resampler, 24 -> 16 kHz", f"{hold_back_ms()} ms", "", ""))
    return found


if __name__ == "__main__":
    if sys.argv[3:] == ["uncollected"]:
        gc.disable()
    with Caller.reads.noted() if sys.argv[1] == "plugin" else nullcontext():
        tell(measure(sys.argv[1], int(sys.argv[2])))
