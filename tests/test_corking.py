"""One write for all that is sent in one go, and none that nobody reads."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve

from livekit_plugins_hydra.corking import CorkedConnection, CorkedTransport


class Pipe(asyncio.Transport):
    """A transport that notes what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []

    def write(self, data: Any) -> None:
        self.done.append(bytes(data))

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def get_write_buffer_size(self) -> int:
        return 7


async def test_joined_writes_leave_together_and_in_order() -> None:
    """Two appends of one frame are one system call, behind what was written before."""
    pipe = Pipe()
    corked = CorkedTransport(pipe)
    corked.write(b"pong")
    corked.cork()
    corked.write(b"a")
    corked.write(bytearray(b"b"))

    assert pipe.done == [b"pong"]
    corked.uncork()
    assert pipe.done == [b"pong", b"ab"]
    corked.write(b"c")
    assert pipe.done == [b"pong", b"ab", b"c"]


async def test_nothing_to_join_is_no_write() -> None:
    """A block in which nothing was sent leaves no trace."""
    pipe = Pipe()
    corked = CorkedTransport(pipe)
    corked.cork()
    corked.uncork()

    assert pipe.done == []


async def test_what_else_is_done_with_it_the_transport_does() -> None:
    """Ends and sizes are the transport's own."""
    pipe = Pipe()
    corked = CorkedTransport(pipe)
    corked.write_eof()
    corked.close()
    corked.abort()

    assert pipe.done == ["eof", "close", "abort"]
    assert corked.get_write_buffer_size() == 7


async def test_a_peer_that_does_not_read_is_not_written_to() -> None:
    """A connection says when it is full, and calls back when it no longer is."""
    hears = asyncio.Event()

    async def serve_slowly(socket: ServerConnection) -> None:
        await hears.wait()
        async for _ in socket:
            pass

    drained = asyncio.Event()
    async with (
        serve(serve_slowly, "127.0.0.1", 0, max_queue=1) as server,
        connect(
            f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            create_connection=CorkedConnection,
            compression=None,
        ) as socket,
    ):
        assert isinstance(socket, CorkedConnection)
        socket.on_drained = drained.set
        while not socket.is_full:
            socket.cork()
            broadcast([socket], "x" * 100_000)
            socket.uncork()
            await asyncio.sleep(0)
        hears.set()
        await drained.wait()

        assert not socket.is_full
