"""The socket: messages as they are read, one write for what is sent in one go, and its end."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trustme
import websockets
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidMessage
from websockets.utils import accept_key

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.errors import ConnectionLost
from livekit_plugins_hydra.testing import Emulator
from livekit_plugins_hydra.transport.connecting import connect
from livekit_plugins_hydra.transport.websocket import STUCK_AFTER_S, WebSocket
from tests.calls import PATIENCE_S
from tests.transport.test_connection import options_for


class Box:
    """What a socket delivers."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._more = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Take a message."""
        self.messages.append(message)
        self._more.set()

    async def until(self, number: int) -> list[bytes]:
        """Return the messages once there are so many."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.messages) < number:
                self._more.clear()
                await self._more.wait()
        return self.messages


async def open_socket(url: str, tls: ssl.SSLContext | None = None) -> WebSocket:
    """Open a socket as a connection does."""
    socket = await websockets.connect(
        url,
        ssl=tls,
        additional_headers={},
        create_connection=cast(Any, WebSocket),
        compression=None,
        max_size=None,
    )
    return cast(WebSocket, socket)


@asynccontextmanager
async def opened(
    serve_one: Callable[[ServerConnection], Awaitable[None]], *, has_tls: bool = False
) -> AsyncIterator[WebSocket]:
    """Open a socket to a server that does so."""
    server_side = client_side = None
    if has_tls:
        authority = trustme.CA()
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(server_side)
        client_side = ssl.create_default_context()
        authority.configure_trust(client_side)
    async with serve(
        serve_one,
        "127.0.0.1",
        0,
        max_queue=1,
        ssl=server_side,
        close_timeout=0.1,
        ping_interval=None,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        socket = await open_socket(f"ws{'s' if has_tls else ''}://127.0.0.1:{port}", client_side)
        try:
            yield socket
        finally:
            await socket.close()


with_and_without_tls = pytest.mark.parametrize("has_tls", [False, True], ids=["ws", "wss"])


TEXT = b'\x81\x0f{"type":"\\r\\n"}'
CLOSE = b"\x88\x02\x03\xf0"


@asynccontextmanager
async def answering(frames: bytes, size: int = 1_000) -> AsyncIterator[str]:
    """Run a server that answers a handshake and sends `frames` behind it, so much at a time."""
    is_over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(it.split(": ")[1] for it in asked.split("\r\n") if "Sec-WebSocket-Key" in it)
        head = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
        )
        answered = head.encode() + frames
        for at in range(0, len(answered), size):
            writer.write(answered[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)
        if CLOSE not in frames:
            await is_over.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        try:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            is_over.set()


async def echo(server: ServerConnection) -> None:
    """Send back what comes."""
    async for message in server:
        await server.send(message)


@with_and_without_tls
async def test_what_was_sent_together_arrives_apart_and_in_order(has_tls: bool) -> None:
    """The messages of one write are messages of their own."""
    async with opened(echo, has_tls=has_tls) as socket:
        box = Box()
        socket.listen(box.put)
        socket.write([b"a", "ü".encode()])
        socket.write([])
        socket.write([b"c" * 100_000])

        assert await box.until(3) == [b"a", "ü".encode(), b"c" * 100_000]


async def test_what_came_before_anybody_listened_comes_first() -> None:
    """The first messages may come with the handshake; none is lost, and none overtakes another."""

    async def greet(server: ServerConnection) -> None:
        for number in range(5):
            await server.send(str(number))
        await echo(server)

    async with opened(greet) as socket:
        ping = socket.send_ping()
        async with asyncio.timeout(PATIENCE_S):
            while socket.n_answered < ping:
                await socket.ponged.wait()
        box = Box()
        socket.listen(box.put)
        socket.write([b"5"])

        assert await box.until(6) == [str(number).encode() for number in range(6)]


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_a_handshake_may_come_in_any_pieces(size: int) -> None:
    """Whatever the network cuts or joins: the answer ends where it ends, and messages follow."""
    async with answering(TEXT + TEXT, size) as url:
        socket = await open_socket(url)
        box = Box()
        socket.listen(box.put)

        assert await box.until(2) == [b'{"type":"\\r\\n"}'] * 2
        await socket.close()


async def test_an_answer_that_is_no_http_is_a_refusal_at_once() -> None:
    """Another program on the port need not hang up for the handshake to end."""
    is_over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await is_over.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(InvalidMessage):
            await asyncio.wait_for(open_socket(url), PATIENCE_S / 2)
        is_over.set()


async def test_what_a_server_says_before_it_hangs_up_is_delivered() -> None:
    """An error right behind the handshake, a goodbye, the end: all before anybody listens."""
    async with answering(TEXT + CLOSE) as url:
        connection = await connect(options_for(url))
        while connection.is_open:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0)
        delivered: list[str] = []
        with pytest.raises(ConnectionLost, match="1008"):
            await connection.run(lambda event: delivered.append(event.type))
        await connection.close()

    assert delivered == ["\r\n"]


async def test_events_are_delivered_in_the_context_of_who_runs_the_connection() -> None:
    """Not in that of who opened it, which may be a function's that has long returned."""
    who = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []

    async with Emulator() as server:
        who.set("opener")
        connection = await connect(options_for(server.url))
        who.set("caller")
        is_there = asyncio.Event()

        def deliver(event: ev.ServerEvent | ev.UnknownEvent) -> None:
            seen.append(who.get())
            if event.type == "last":
                is_there.set()

        running = asyncio.ensure_future(connection.run(deliver))
        await server.wait_for(ev.SessionCreated)
        server.send({"type": "last"})
        async with asyncio.timeout(PATIENCE_S):
            await is_there.wait()
        connection.leave()
        await running
        await connection.close()

    assert set(seen) == {"caller"}


async def test_a_message_in_fragments_is_one_message() -> None:
    """As RFC 6455 has it; binary messages, too."""

    async def send(server: ServerConnection) -> None:
        await server.send(["a", "b", "c"])
        await server.send([b"d", b"e"])
        await server.wait_closed()

    async with opened(send) as socket:
        box = Box()
        socket.listen(box.put)

        assert await box.until(2) == [b"abc", b"de"]


@with_and_without_tls
async def test_a_server_that_says_goodbye_need_not_hang_up(has_tls: bool) -> None:
    """The socket is closed soon, though the server reads nothing more, and its words are kept.

    They are no sign that it has received what was sent before.
    """
    is_over = asyncio.Event()

    async def say_goodbye(server: ServerConnection) -> None:
        await server.recv()
        server.protocol.send_close(4000, "enough")
        server.transport.write(server.protocol.data_to_send()[0])
        server.transport.pause_reading()
        await is_over.wait()

    async with opened(say_goodbye, has_tls=has_tls) as socket:
        socket.on_lost = is_over.set
        alive_at = socket.alive_at
        socket.write([b"well?"])
        async with asyncio.timeout(PATIENCE_S):
            await is_over.wait()

        assert (socket.protocol.close_code, socket.protocol.close_reason) == (4000, "enough")
        assert socket.alive_at == alive_at
        socket.write([b"too late"])
        socket.send_ping()


async def test_a_pong_that_answers_no_ping_is_none() -> None:
    """RFC 6455 lets a peer send pongs by itself."""

    async def answer_late(server: ServerConnection) -> None:
        await server.pong(b"by the way")
        await server.send("now")
        await echo(server)

    async with opened(answer_late) as socket:
        box = Box()
        socket.listen(box.put)
        await box.until(1)
        assert socket.n_answered == 0

        ping = socket.send_ping()
        socket.write([b"and now"])
        await box.until(2)
        assert socket.n_answered == ping


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has it not")
@with_and_without_tls
async def test_the_system_gives_up_what_nobody_acknowledges(has_tls: bool) -> None:
    """A dead link is noticed without pings, too; by default it would take a quarter of an hour."""
    async with opened(echo, has_tls=has_tls) as client:
        raw = client.transport.get_extra_info("socket")
        limit_ms = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

    assert limit_ms == STUCK_AFTER_S * 1000


async def test_a_peer_that_does_not_read_is_not_written_to() -> None:
    """A socket says when it is full, and calls back when it no longer is."""
    hears = asyncio.Event()

    async def serve_slowly(server: ServerConnection) -> None:
        await hears.wait()
        async for _ in server:
            pass

    drained = asyncio.Event()
    async with opened(serve_slowly) as socket:
        socket.on_drained = drained.set
        while not socket.is_full:
            socket.write([b"x" * 100_000])
            await asyncio.sleep(0)
        hears.set()
        async with asyncio.timeout(PATIENCE_S):
            await drained.wait()

        assert not socket.is_full


async def test_a_socket_that_stays_full_is_given_up_after_ten_seconds() -> None:
    """Each time that the peer reads something, the ten seconds begin again."""
    lost = asyncio.Event()
    async with opened(echo) as client:
        client.on_lost = lost.set
        client.pause_writing()
        await asyncio.sleep(0.99 * STUCK_AFTER_S)
        client.resume_writing()
        client.pause_writing()
        began_at = time.monotonic()
        await lost.wait()

        assert time.monotonic() - began_at == pytest.approx(STUCK_AFTER_S, abs=0.01)
        assert client.lost_because == "nothing was read for 10 s"
