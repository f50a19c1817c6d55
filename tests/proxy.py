"""A bad network: a TCP proxy on loopback, between a session and the emulator.

Everything that a network does to a call, by command: delay, throttle, stall, vanish, cut in the
middle of a frame, reset, half-close, refuse. What it does to a connection it does at once; what is
set on the proxy also holds for later ones.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from types import TracebackType
from typing import Any, Final, Literal, Self

from livekit_plugins_hydra.testing import PATH

_PIECE_BYTES: Final = 16_384
_MAX_HELD_BYTES: Final = 65_536
"""What is on its way in one direction; beyond that, nothing more is read."""


class _Way:
    """One direction of a connection."""

    def __init__(
        self, proxy: FaultProxy, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._source = source
        self._sink = sink
        self._held: deque[tuple[float, bytes]] = deque()
        self._n_held = 0
        self._changed = asyncio.Event()
        self.left_bytes: int | None = None
        """How much may still pass before the connection is reset; None for all."""

    async def read(self) -> None:
        """Take in what comes, until its end."""
        while data := await self._source.read(_PIECE_BYTES):
            self._hold(data, asyncio.get_running_loop().time() + self._proxy.delay_s)
            while self._n_held > _MAX_HELD_BYTES:
                self._changed.clear()
                await self._changed.wait()
        self._hold(b"", 0.0)

    def _hold(self, data: bytes, due_at: float) -> None:
        self._held.append((due_at, data))
        self._n_held += len(data)
        self._changed.set()

    async def write(self) -> None:
        """Pass on what was taken in, as the network is.

        Raises:
            ConnectionResetError: the connection was to be cut here.
        """
        while True:
            while not self._held:
                self._changed.clear()
                await self._changed.wait()
            due_at, data = self._held.popleft()
            await asyncio.sleep(max(0.0, due_at - asyncio.get_running_loop().time()))
            await self._proxy.moves.wait()
            self._n_held -= len(data)
            self._changed.set()
            if not data:
                self._sink.write_eof()
                return
            if self.left_bytes is not None:
                data = data[: self.left_bytes]
                self.left_bytes -= len(data)
            self._sink.write(data)
            await self._sink.drain()
            if self.left_bytes == 0:
                raise ConnectionResetError("cut")
            if self._proxy.bytes_per_s is not None:
                await asyncio.sleep(len(data) / self._proxy.bytes_per_s)


class _Pair:
    """A connection through the proxy."""

    def __init__(
        self,
        proxy: FaultProxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self.client, self.server = client[1], server[1]
        self.up = _Way(proxy, client[0], server[1])
        self.down = _Way(proxy, server[0], client[1])
        self._is_reset = asyncio.Event()

    def reset(self) -> None:
        """Cut the connection."""
        self._is_reset.set()

    async def run(self) -> None:
        """Serve the connection until it ends."""
        loop = asyncio.get_running_loop()
        cut = loop.create_task(self._is_reset.wait())
        ways = [loop.create_task(way.read()) for way in (self.up, self.down)]
        ways += [loop.create_task(way.write()) for way in (self.up, self.down)]
        passing = asyncio.gather(*ways)
        ends: list[asyncio.Future[Any]] = [passing, cut]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_in_order = passing.done() and not passing.cancelled() and not passing.exception()
            cut.cancel()
            for way in ways:
                way.cancel()
            await asyncio.gather(cut, passing, *ways, return_exceptions=True)
            for writer in (self.client, self.server):
                if is_in_order:
                    writer.close()
                else:
                    _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a farewell, as when a machine has lost the connection."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class FaultProxy:
    """Passes connections on to a port of this machine, as well as it is told to."""

    def __init__(self, port: int) -> None:
        """Prepare a proxy.

        Args:
            port: of the server, on loopback.
        """
        self._server_port = port
        self._listener: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.delay_s = 0.0
        """How long what is sent takes, in either direction."""
        self.bytes_per_s: float | None = None
        """How much passes in a second, in either direction; None for all."""
        self.refuses: Literal["no", "reset", "silence"] = "no"
        """What new connections meet: a reset, or nothing at all."""
        self.moves = asyncio.Event()
        """Set while the network moves anything."""
        self.moves.set()
        self.n_connections = 0
        """How many connections were tried."""

    @property
    def url(self) -> str:
        """What to give a client as base URL."""
        assert self._listener is not None, "inside of the block"
        return f"ws://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}{PATH}"

    @property
    def n_open(self) -> int:
        """How many connections stand."""
        return len(self._pairs)

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._listener is not None, "inside of the block"
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------ faults

    def reset(self) -> None:
        """Cut all connections without a farewell."""
        for pair in self._pairs:
            pair.reset()

    def half_close(self) -> None:
        """Tell the clients that nothing more comes, and go on listening to them."""
        for pair in self._pairs:
            if not pair.client.is_closing():
                pair.client.write_eof()

    def cut_after(self, n_bytes: int) -> None:
        """Let so many bytes of the server pass, and cut there, in the middle of a frame."""
        for pair in self._pairs:
            pair.down.left_bytes = n_bytes

    def stall(self) -> None:
        """Move nothing any more, with all connections open; nobody is told."""
        self.moves.clear()

    def resume(self) -> None:
        """Move again; what was held back comes in one burst."""
        self.moves.set()

    # ------------------------------------------------------------------------- connections

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.refuses == "silence":
                await asyncio.Future()
            if self.refuses == "reset":
                _reset(writer)
                return
            try:
                server = await asyncio.open_connection("127.0.0.1", self._server_port)
            except OSError:
                _reset(writer)
                return
            pair = _Pair(self, (reader, writer), server)
            self._pairs.add(pair)
            try:
                await pair.run()
            finally:
                self._pairs.discard(pair)
        finally:
            writer.close()
