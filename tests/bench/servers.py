"""Lean stand-ins that move sound, in a process of their own.

``python -m tests.bench.servers DIALECT DELAY_S DELTA_S`` prints its port and serves until its input
ends, each way DELAY_S late; who speaks for ever does so in deltas of DELTA_S. What a connection
gets is told by the query of its URL, but for Ultravox's: see `url` and `SCRIPTS`. Messages are
prebuilt as far as it goes, so that the servers cost less than the clients that they measure.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from aiohttp import WSMsgType, web
from websockets.asyncio.server import ServerConnection, serve

from tests.proxy import FaultProxy

from . import stamps
from .away import keep_to_core

DELTA_S: Final = 0.04
"""How much sound is in a delta, as in our emulator: what Hydra's have is not known."""

RATE_HZ: Final = 24_000

FLOOD: Final = 20
"""How much faster than real time a scripted reply comes: about twice as fast as Hydra's."""

LONG_REPLY: Final = 25
"""Deltas in a long reply of `turns`: 1 s of sound."""

lateness: Final[dict[str, list[float]]] = defaultdict(list)
"""In seconds, by what was late, as far as the server is who can tell; under ``started:SESSION``
when it sent each `speech_started` of a session."""


RESTART_S: Final = 0.05

was_restarted: Final[list[bool]] = []
"""Whether the last connection of the script `restarted` was a first one."""


def _ids() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{number:016x}"


_new_id = _ids()


def _unstamped(delta_s: float) -> bytes:
    """Return the PCM of a delta without the stamp at its beginning."""
    n_bytes = int(delta_s * RATE_HZ) * 2
    return (bytes(range(256)) * (n_bytes // 256 + 1))[stamps.BYTES : n_bytes]


def event(kind: str, **fields: Any) -> str:
    """Return the frame of an event."""
    return json.dumps({"type": kind, "event_id": f"sv_{next(_new_id)}", **fields})


def _delta(
    response_id: str = "r", item_id: str = "i", *, delta_s: float = DELTA_S
) -> Callable[[], str]:
    """Return what makes a delta's frame: all of it prebuilt but its id and its stamp."""
    rest = base64.b64encode(_unstamped(delta_s)).decode()
    head = json.dumps({"type": "response.output_audio.delta"})[:-1]
    fields = {"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0}
    middle = json.dumps(fields)[1:-1]
    return lambda: (
        f'{head}, "event_id": "sv_{next(_new_id)}", {middle}, '
        f'"delta": "{stamps.now_in_base64()}{rest}"}}'
    )


async def _speak(say: Callable[[], Coroutine[Any, Any, None]], delta_s: float) -> None:
    """Say something at real time, for ever."""
    loop = asyncio.get_running_loop()
    at = loop.time()
    while True:
        await say()
        at += delta_s
        await asyncio.sleep(max(0.0, at - loop.time()))


# ----------------------------------------------------------------------- calls and scripts


class Call:
    """The server's side of one scripted call, in Hydra's dialect."""

    def __init__(
        self,
        socket: ServerConnection,
        session_id: str,
        configuration: dict[str, Any],
        delta_s: float,
    ) -> None:
        self.socket = socket
        self.session_id = session_id
        self.delta_s = delta_s
        self.configuration = configuration
        self._asked = asyncio.Event()

    async def send(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        await self.socket.send(event(kind, **fields))

    async def asked(self) -> None:
        """Wait for `response.create`."""
        await self._asked.wait()
        self._asked.clear()

    async def invited(self) -> None:
        """Wait until it is to speak first: it is, or it waits for `response.create`."""
        if not self.configuration.get("generate_initial_response"):
            await self.asked()

    async def listen(self) -> None:
        """Read what the client sends, and note how late it is."""
        text = ""
        async for frame in self.socket:
            assert isinstance(frame, str), "the protocol has no binary frames"
            if frame.startswith('{"type":"input_audio_buffer.append"'):
                age_s = stamps.age_in_base64_s(frame, "audio")
                if age_s is not None:
                    lateness["append"].append(age_s)
            elif '"conversation.item.create"' in frame:
                text = frame
            elif '"response.create"' in frame:
                kind = "output" if "function_call_output" in text else "reply"
                if text:
                    lateness[kind].append(stamps.age_of_text_s(text))
                text = ""
                self._asked.set()

    async def begin(self) -> str:
        """Begin a response, and return its id."""
        response_id = f"r{next(_new_id)}"
        await self.send("response.created", response={"id": response_id, "status": "in_progress"})
        return response_id

    async def begin_item(self, response_id: str, item: dict[str, Any]) -> None:
        """Begin an item of a response."""
        await self.send("conversation.item.added", item=item)

    async def call_function(self, response_id: str, name: str) -> None:
        """Call a function without arguments."""
        ids = {"response_id": response_id, "call_id": f"c{response_id}", "name": name}
        await self.send("response.function_call_arguments.done", arguments="{}", **ids)

    async def say(self, response_id: str, n_deltas: int, *, at_once: bool = False) -> None:
        """Say something in a response."""
        item_id = f"i{response_id}"
        item = {"id": item_id, "type": "message", "role": "assistant", "status": "in_progress"}
        await self.begin_item(response_id, item)
        make = _delta(response_id, item_id)
        for _ in range(n_deltas):
            await self.socket.send(make())
            if not at_once:
                await asyncio.sleep(DELTA_S / FLOOD)

    async def end(self, response_id: str, status: str = "completed") -> None:
        """End a response."""
        if status == "completed":
            await self.send("response.output_audio.done", response_id=response_id)
        await self.send("response.done", response={"id": response_id, "status": status})

    async def turn(self, pause_s: float = 0.0) -> None:
        """Let the user say something."""
        item_id = f"u{next(_new_id)}"
        item = {"id": item_id, "type": "message", "role": "user", "content": []}
        item["status"] = "completed"
        lateness[f"started:{self.session_id}"].append(time.monotonic())
        await self.send("input_audio_buffer.speech_started", item_id=item_id)
        await self.send("conversation.item.added", item=item | {"status": "in_progress"})
        await asyncio.sleep(pause_s)
        await self.send("input_audio_buffer.speech_stopped", item_id=item_id)
        await self.send("conversation.item.done", item=item)


async def endless(call: Call) -> None:
    """Say something at real time, for ever."""
    await call.invited()
    response_id = await call.begin()
    await call.say(response_id, 0)
    make = _delta(response_id, f"i{response_id}", delta_s=call.delta_s)
    await _speak(lambda: call.socket.send(make()), call.delta_s)


async def greeting(call: Call) -> None:
    """Greet if that is wanted, and answer each request."""
    await call.invited()
    while True:
        response_id = await call.begin()
        await call.say(response_id, 5)
        await call.end(response_id)
        await call.asked()


async def turns(call: Call) -> None:
    """Hold a conversation of one barge-in, one function call and one reply on demand a round."""
    await call.invited()
    while True:
        cut = await call.begin()
        await call.say(cut, LONG_REPLY)
        await call.turn(0.2)
        await call.end(cut, "cancelled")
        caller = await call.begin()
        await call.call_function(caller, "look")
        await call.end(caller)
        await call.asked()
        narration = await call.begin()
        await call.say(narration, 5)
        await call.end(narration)
        await call.asked()


async def flood(call: Call) -> None:
    """Hold one turn after another, each with an answer, as fast as the client takes them."""
    while True:
        await call.turn()
        response_id = await call.begin()
        await call.say(response_id, 5, at_once=True)
        ids = {"response_id": response_id, "item_id": f"i{response_id}"}
        phrase = "That is what I say."
        await call.send("response.output_audio_transcript.delta", delta=phrase, **ids)
        await call.end(response_id)


async def restarted(call: Call) -> None:
    """Close each first connection of a call like a server that is restarted, and keep the next."""
    was_restarted.append(not was_restarted or not was_restarted.pop())
    await asyncio.sleep(RESTART_S if was_restarted[0] else 3600.0)
    await call.socket.close(1012)


SCRIPTS: Final[dict[str, Callable[[Call], Awaitable[None]]]] = {
    script.__name__: script for script in (endless, greeting, turns, flood, restarted)
}


class OpenAICall(Call):
    """The same scripts in OpenAI's realtime protocol."""

    _last_item_id: str | None = None
    _metadata: dict[str, str] | None = None
    """What the next response is to bring back."""

    async def listen(self) -> None:
        """Read what the client sends, and confirm what it changes in the conversation."""
        async for frame in self.socket:
            asked = json.loads(frame)
            match asked["type"]:
                case "conversation.item.create":
                    await self._add(asked["item"])
                case "conversation.item.delete":
                    await self.send("conversation.item.deleted", item_id=asked["item_id"])
                case "response.create":
                    self._metadata = (asked.get("response") or {}).get("metadata")
                    self._asked.set()

    async def begin(self) -> str:
        """Begin a response, and return its id."""
        response_id = f"r{next(_new_id)}"
        response = {"id": response_id, "status": "in_progress", "output": []}
        metadata, self._metadata = self._metadata, None
        await self.send("response.created", response=response | {"metadata": metadata})
        return response_id

    async def begin_item(self, response_id: str, item: dict[str, Any]) -> None:
        """Begin an item of a response."""
        item = item if item["type"] == "function_call" else item | {"content": []}
        await self.send(
            "response.output_item.added", response_id=response_id, output_index=0, item=item
        )
        await self._add(item)

    async def call_function(self, response_id: str, name: str) -> None:
        """Call a function without arguments."""
        ids = {"id": f"i{response_id}", "call_id": f"c{response_id}", "name": name}
        item = {"type": "function_call", "arguments": "{}", **ids}
        await self.begin_item(response_id, item)
        await self.send(
            "response.output_item.done", response_id=response_id, output_index=0, item=item
        )

    async def _add(self, item: dict[str, Any]) -> None:
        await self.send("conversation.item.added", item=item, previous_item_id=self._last_item_id)
        self._last_item_id = item["id"]


async def _hydra(socket: ServerConnection, session_id: str, delta_s: float) -> Call:
    """Shake hands in Hydra's way."""
    await socket.send(event("session.created", session_id=session_id))
    configure = json.loads(await socket.recv())
    call = Call(socket, session_id, configure["session"], delta_s)
    await call.send("session.configured", session={"output_audio_sample_rate": RATE_HZ})
    return call


async def _openai(socket: ServerConnection, session_id: str, delta_s: float) -> Call:
    """Shake hands in OpenAI's way."""
    session = {"id": session_id, "type": "realtime"}
    await socket.send(event("session.created", session=session))
    return OpenAICall(socket, session_id, {}, delta_s)


async def _talk(
    socket: ServerConnection,
    *,
    meet: Callable[[ServerConnection, str, float], Awaitable[Call]],
    delta_s: float,
) -> None:
    """Hold a call by the script that the URL names, or report what was noted."""
    assert socket.request is not None, "the handshake is over"
    query = parse_qs(urlsplit(socket.request.path).query)
    script = query.get("script", ["endless"])[0]
    if script == "report":
        await socket.send(json.dumps(lateness))
        lateness.clear()
        return
    call = await meet(socket, query.get("call", [f"s{next(_new_id)}"])[0], delta_s)
    await _serve(call.listen(), SCRIPTS[script](call))


async def ultravox(request: web.Request, *, delta_s: float) -> web.StreamResponse:
    """Speak Ultravox's protocol: make a call, and answer the first text in it, for ever."""
    if request.method == "POST":
        return web.json_response({"joinUrl": f"ws://{request.host}/call"})
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    while (await socket.receive()).type is not WSMsgType.TEXT:
        pass
    await socket.send_json({"type": "state", "state": "speaking"})
    rest = _unstamped(delta_s)
    await _serve(_read(socket), _speak(lambda: socket.send_bytes(stamps.now() + rest), delta_s))
    return socket


async def _read(socket: ServerConnection | web.WebSocketResponse) -> None:
    async for _ in socket:
        pass


async def _serve(*jobs: Any) -> None:
    """Do all until one is done: until the client has gone."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _listening(
    handler: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[int]:
    options: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None}
    async with serve(handler, "127.0.0.1", 0, close_timeout=1, backlog=1024, **options) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def _listening_to_http(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type]
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


DIALECTS: Final[dict[str, Callable[[float], AbstractAsyncContextManager[int]]]] = {
    "hydra": lambda delta_s: _listening(functools.partial(_talk, meet=_hydra, delta_s=delta_s)),
    "openai": lambda delta_s: _listening(functools.partial(_talk, meet=_openai, delta_s=delta_s)),
    "ultravox": lambda delta_s: _listening_to_http(functools.partial(ultravox, delta_s=delta_s)),
}


async def main(dialect: str, delay_s: float, delta_s: float) -> None:
    """Serve until the standard input ends."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(DIALECTS[dialect](delta_s))
        if delay_s:
            proxy = await stack.enter_async_context(FaultProxy(port))
            proxy.delay_s = delay_s
            port = urlsplit(proxy.url).port or 0
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


# ---------------------------------------------------------------------- for who starts them


def url(port: int, script: str, session_id: str = "") -> str:
    """Return where a call of Hydra's or OpenAI's dialect gets a script, and perhaps its id."""
    call = f"&call={session_id}" if session_id else ""
    return f"ws://127.0.0.1:{port}/realtime?script={script}{call}"


@asynccontextmanager
async def running(
    dialect: str = "hydra",
    *,
    delay_s: float = 0.0,
    delta_s: float = DELTA_S,
    core: int | None = None,
) -> AsyncIterator[int]:
    """Run a server in a process of its own while the block runs, and give its port.

    Args:
        dialect: what it speaks.
        delay_s: how late everything is, each way.
        delta_s: how much sound is in a delta of who speaks for ever.
        core: where it shall run, if that matters.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "tests.bench.servers"),
        *(dialect, str(delay_s), str(delta_s)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin
    assert process.stdout
    if core is not None:
        keep_to_core(core, process.pid)
    try:
        yield int(await process.stdout.readline())
    finally:
        process.stdin.close()
        process.kill()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
