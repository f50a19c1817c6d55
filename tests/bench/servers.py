"""Lean stand-ins that move sound at real time, in a process of their own.

``python -m tests.bench.servers DIALECT`` prints its port and serves until its input ends. Each
connection is shaken hands with and then gets the deltas of one endless response, prebuilt; what
the client sends is read and thrown away.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from websockets.asyncio.server import ServerConnection, serve

DELTA_S: Final = 0.04
RATE_HZ: Final = 24_000
PCM: Final = bytes(range(256)) * (int(DELTA_S * RATE_HZ) * 2 // 256)
DELTA: Final = base64.b64encode(PCM).decode()


def _ids() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"sv_{number:016x}"


_new_id = _ids()


def _event(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, "event_id": next(_new_id), **fields})


def _delta(kind: str) -> Callable[[], str]:
    """Return what makes a delta's frame: all of it prebuilt but its id."""
    head = json.dumps({"type": kind})[:-1]
    tail = json.dumps(
        {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0, "delta": DELTA}
    )[1:]
    return lambda: f'{head}, "event_id": "{next(_new_id)}", {tail}'


async def _speak(socket: ServerConnection, make: Callable[[], str]) -> None:
    loop = asyncio.get_running_loop()
    at = loop.time()
    while True:
        await socket.send(make())
        at += DELTA_S
        await asyncio.sleep(max(0.0, at - loop.time()))


async def hydra(socket: ServerConnection) -> None:
    """Speak Hydra: greet as soon as the client has configured the session."""
    await socket.send(_event("session.created", session_id="s"))
    await socket.recv()
    await socket.send(_event("session.configured", session={"output_audio_sample_rate": RATE_HZ}))
    await socket.send(_event("response.created", response={"id": "r", "status": "in_progress"}))
    item = {"id": "i", "type": "message", "role": "assistant", "status": "in_progress"}
    await socket.send(_event("conversation.item.added", item=item))
    await _serve_sound(socket, _delta("response.output_audio.delta"))


async def openai(socket: ServerConnection) -> None:
    """Speak OpenAI's realtime protocol: respond to the first `response.create`."""
    await socket.send(_event("session.created", session={"id": "s", "type": "realtime"}))
    while True:
        event = json.loads(await socket.recv())
        if event["type"] == "response.create":
            break
    response: dict[str, Any] = {"id": "r", "status": "in_progress", "output": []}
    response["metadata"] = (event.get("response") or {}).get("metadata")
    await socket.send(_event("response.created", response=response))
    item: dict[str, Any] = {"id": "i", "type": "message", "role": "assistant", "content": []}
    item["status"] = "in_progress"
    await socket.send(
        _event("response.output_item.added", response_id="r", output_index=0, item=item)
    )
    await _serve_sound(socket, _delta("response.output_audio.delta"))


async def _serve_sound(socket: ServerConnection, make: Callable[[], str]) -> None:
    async with asyncio.TaskGroup() as tasks:
        speaking = tasks.create_task(_speak(socket, make))
        async for _ in socket:
            pass
        speaking.cancel()


async def main(dialect: str) -> None:
    """Serve until the standard input ends."""
    handler = {"hydra": hydra, "openai": openai}[dialect]

    async def handle(socket: ServerConnection) -> None:
        try:
            await handler(socket)
        except* Exception:
            pass  # the client has gone

    async with serve(
        handle, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
