"""A WebSocket that delivers messages as they are read, and writes them as they are sent.

websockets connects it: DNS, proxy, TLS. But its own `ClientConnection` would cost a future, a task
and two steps of the event loop for each message, and a system call for each that is sent: most of
the CPU of a call, and latency at a barge-in (`python -m tests.bench`). So this class moves bytes
between asyncio's transport and websockets' Sans-I/O protocol, which does RFC 6455, except that
it does not check that text is UTF-8.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, cast

from websockets.client import ClientProtocol
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.protocol import State

CLOSE_TIMEOUT_S: Final = 1.0
"""How long a server may take to close the socket after a close frame of either side."""

GOODBYE_S: Final = 0.5
"""How long a new connection waits for others to be closed: an account may have room for one."""

STUCK_AFTER_S: Final = 10.0
"""A server that reads nothing for so long is gone, and so is one whose system acknowledges nothing:
pings show neither, if they were never answered."""

WRITE_LIMIT_BYTES: Final = 32 * 1024
"""How much may wait for the server to read before the socket is full."""


class WebSocket(asyncio.Protocol):
    """A client's WebSocket; `websockets.connect` makes one with `create_connection=WebSocket`.

    `connect` uses `handshake`, `start_keepalive` and `transport`; asyncio calls the rest.
    """

    transport: asyncio.Transport

    def __init__(
        self, protocol: ClientProtocol, *, goodbyes: Collection[asyncio.Task[None]] = (), **_: Any
    ) -> None:
        """Prepare a socket.

        Args:
            protocol: websockets' own.
            goodbyes: what the upgrade request waits for a moment for; TCP and TLS do not.
        """
        self._goodbyes = goodbyes
        self.protocol = protocol
        """Has its state, and who closed it, with which code and reason."""
        self._loop = asyncio.get_running_loop()
        self.alive_at = time.monotonic()
        """When the server last sent a message or answered a ping; monotonic clock. A close frame
        does not count: it does not prove that the server has received what was sent."""
        self.n_answered = 0
        """The number of the last ping that was answered; 0 for none."""
        self.ponged = asyncio.Event()
        """Wakes those who wait, at each answer to a ping."""
        self.is_full = False
        """Whether to write no more until `on_drained`."""
        self._stuck: asyncio.TimerHandle | None = None
        self.on_drained: Callable[[], None] | None = None
        """Called when it is no longer full."""
        self.lost_because = ""
        """Why it has ended, without a close frame."""
        self.on_lost: Callable[[], None] | None = None
        """Called when it has ended."""
        self._answered = asyncio.Event()
        """Set when the server has answered the handshake, or will not."""
        self._lost = asyncio.Event()
        self._on_message: Callable[[bytes], None] | None = None
        self._unread: deque[bytes] = deque()
        """What came before `listen`."""
        self._parts: list[Frame] = []
        """The frames of a message that is not complete."""
        self._n_pings = 0

    # -------------------------------------------------------------------------- messages

    def listen(self, on_message: Callable[[bytes], None]) -> None:
        """Deliver what came before, and from now on each message as it is read; may not raise."""
        while self._unread:
            on_message(self._unread.popleft())
        self._on_message = on_message

    def write(self, texts: Iterable[bytes]) -> None:
        """Send text messages, UTF-8 each, in one system call; after the end they are dropped.

        It never waits: see `is_full`.
        """
        if self.protocol.state is State.OPEN:
            for text in texts:
                self.protocol.send_text(text)
            self._flush()

    def send_ping(self) -> int:
        """Send a ping; return its number."""
        self._n_pings += 1
        if self.protocol.state is State.OPEN:
            self.protocol.send_ping(str(self._n_pings).encode())
            self._flush()
        return self._n_pings

    # ------------------------------------------------------------------------------- end

    async def close(self) -> None:
        """Close with a close frame; at once if this is cancelled."""
        if self.protocol.state is State.OPEN:
            self.protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
        overdue = self._loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)
        try:
            await self._lost.wait()
        finally:
            overdue.cancel()
            self.transport.abort()

    def give_up(self, why: str) -> None:
        """End it without a goodbye, which nobody would hear."""
        self.lost_because = why
        self.transport.abort()

    # ---------------------------------------------------------------- what `connect` calls

    async def handshake(self, headers: dict[str, str], user_agent: str) -> None:
        """Send the upgrade request, and wait for the answer.

        Raises:
            Exception: there was no answer, or not that of a WebSocket server.
        """
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=GOODBYE_S)
        request = self.protocol.connect()
        request.headers.update(headers)
        request.headers["User-Agent"] = user_agent
        self.protocol.send_request(request)
        self._flush()
        await self._answered.wait()
        if self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc

    def start_keepalive(self) -> None:
        """Do nothing: `Connection` has pings of its own."""

    # ------------------------------------------------------------ what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_LIMIT_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STUCK_AFTER_S * 1000))

    def data_received(self, data: bytes) -> None:
        """Take what was read: deliver its messages, and answer pings and close frames."""
        was_ending = self.protocol.close_expected()
        self.protocol.receive_data(data)
        self._process()
        if self.protocol.close_expected() and not was_ending:
            # Nothing more is read, and the server may never close the socket.
            self.transport.close()
            self._loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def eof_received(self) -> None:
        """The server sends no more."""
        self.protocol.receive_eof()
        self._process()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if self._stuck is not None:
            self._stuck.cancel()
        if isinstance(exc, OSError):
            self.lost_because = exc.strerror or type(exc).__name__
        self.protocol.receive_eof()
        self._answered.set()
        self._lost.set()
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """The server reads too slowly."""
        self.is_full = True
        self._stuck = self._loop.call_later(
            STUCK_AFTER_S, self.give_up, f"nothing was read for {STUCK_AFTER_S:g} s"
        )

    def resume_writing(self) -> None:
        """The server has read enough."""
        self.is_full = False
        if self._stuck is not None:
            self._stuck.cancel()
        if self.on_drained is not None:
            self.on_drained()

    # ---------------------------------------------------------------------------- frames

    def _flush(self) -> None:
        if pieces := self.protocol.data_to_send():
            self.transport.write(b"".join(pieces))

    def _process(self) -> None:
        """Write the protocol's answers, and take the frames that it has read."""
        self._flush()
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
            else:
                self._answered.set()

    def _take(self, frame: Frame) -> None:
        if frame.opcode in DATA_OPCODES:
            self._parts.append(frame)
            if frame.fin:
                parts, self._parts = self._parts, []
                self._deliver(b"".join([part.data for part in parts]))
        elif frame.opcode is Opcode.PONG and bytes(frame.data).isdigit():  # else it answers no ping
            self.n_answered = int(bytes(frame.data))
            self.alive_at = time.monotonic()
            self.ponged.set()
            self.ponged.clear()

    def _deliver(self, message: bytes) -> None:
        self.alive_at = time.monotonic()
        if self._on_message is None:
            self._unread.append(message)
        else:
            self._on_message(message)
