"""A client of the bare wire for the emulator's tests: JSON in, JSON out, no protocol of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from livekit_plugins_hydra.testing import Emulator

KEY = "sk-raw-client-secret"
RATE_HZ = 16_000
CHUNK_BYTES = 1280

SILENCE = bytes(RATE_HZ)
"""500 ms: enough to end a turn."""


def tone(duration_s: float, *, hz: float = 300.0, dbfs: float = -20.0) -> bytes:
    """Return int16 mono PCM at 16 kHz."""
    seconds = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    samples = 10 ** (dbfs / 20) * np.sqrt(2) * 32767 * np.sin(2 * np.pi * hz * seconds)
    pcm: bytes = samples.astype("<i2").tobytes()
    return pcm


TURN = tone(0.6) + SILENCE
"""Something said."""

COUGH = tone(0.2) + SILENCE
"""Too short to be said."""


class RawClient:
    """One connection; keeps every frame that came.

    Args:
        server: where to connect.
        query: the query string.
        headers: more headers of the upgrade.
    """

    def __init__(
        self,
        server: Emulator,
        *,
        query: str = f"?model=hydra-v1.1&api_key={KEY}",
        headers: dict[str, str] | None = None,
        ping_timeout: float | None = None,
    ) -> None:
        self._connect = connect(
            server.url + query,
            additional_headers=headers,
            compression=None,
            max_size=None,
            max_queue=None,
            ping_interval=None,
            ping_timeout=ping_timeout,
            close_timeout=1,
            proxy=None,
        )
        self.socket: ClientConnection
        self.frames: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.socket = await self._connect
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in self.socket:
                async with self._news:
                    self.frames.append(json.loads(frame))
                    self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one event."""
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def hear(self, pcm: bytes) -> None:
        """Send audio, as fast as it goes, in chunks of 40 ms."""
        for start in range(0, len(pcm), CHUNK_BYTES):
            chunk = base64.b64encode(pcm[start : start + CHUNK_BYTES]).decode()
            await self.send("input_audio_buffer.append", audio=chunk)

    async def configure(self, **session: Any) -> dict[str, Any]:
        """Configure the session, and return `session.configured`."""
        await self.send("session.configure", session={"voice": "aria", **session})
        return await self.wait("session.configured")

    async def output(self, call_id: str, output: str = "42") -> None:
        """Send the output of a function call."""
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        await self.send("conversation.item.create", item=item)

    async def text(self, text: str, *, event_id: str = "ev_text") -> None:
        """Send a message item."""
        content = [{"type": "input_text", "text": text}]
        item = {"type": "message", "role": "user", "content": content}
        await self.send("conversation.item.create", item=item, event_id=event_id)

    async def wait(self, kind: str, count: int = 1, *, timeout: float = 5.0) -> dict[str, Any]:
        """Return the `count`-th event of a type, waiting for it."""
        async with asyncio.timeout(timeout), self._news:
            while len(found := self.of(kind)) < count:
                await self._news.wait()
        return found[count - 1]

    async def settle(self) -> None:
        """Wait until the server has taken in all that was sent; replaces the tools."""
        count = len(self.of("session.updated")) + 1
        tool = {"type": "function", "name": f"settle_{count}"}
        await self.send("session.update", session={"tools": [tool]})
        await self.wait("session.updated", count)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return all events of a type so far."""
        return [frame for frame in self.frames if frame["type"] == kind]

    def types(self) -> list[str]:
        """Return the types of all events so far, a run of audio deltas as one."""
        kinds: list[str] = []
        for frame in self.frames:
            if frame["type"] != "response.output_audio.delta" or kinds[-1] != frame["type"]:
                kinds.append(frame["type"])
        return kinds

    def audio(self, response_id: str) -> bytes:
        """Return the audio of a response so far."""
        return b"".join(
            base64.b64decode(frame["delta" if "delta" in frame else "audio"])
            for frame in self.of("response.output_audio.delta")
            if frame["response_id"] == response_id
        )

    async def closed(self, *, timeout: float = 5.0) -> int | None:
        """Wait for the end, and return the close code."""
        async with asyncio.timeout(timeout):
            await self.socket.wait_closed()
        return self.socket.close_code
