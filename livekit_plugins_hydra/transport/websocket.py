"""A WebSocket whose messages are delivered as they are read, and written as they are sent.

websockets makes the connection: proxy, TLS and handshake. Then its `recv` and `send` would cost a
future, a task and two steps of the event loop for each message, and a system call for each that is
sent; that is most of what a call costs, and late at a barge-in (`python -m tests.bench`). So this
class moves bytes between the transport and the library's Sans-I/O protocol by itself, which does
what RFC 6455 asks for; but whether text is UTF-8 is for those to find out who read it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

OnMessage = Callable[[bytes, bool], None]
"""Takes a message, and whether it is text; may not raise."""

GOODBYE_S: Final = 1.0
"""How long a server may take to hang up after the goodbye."""

_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class WebSocket(ClientConnection):
    """What `websockets.connect` makes with `create_connection=WebSocket`.

    Not to be used are its `recv`, `send` and `ping`: `listen`, `write` and `send_ping` take their
    places.
    """

    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        self.heard_at = time.monotonic()
        """When the server last sent a message or answered a ping; monotonic clock. A goodbye is no
        sign that it has heard what was said before."""
        self.answers_pings = False
        """Whether it has answered one."""
        self.is_full = False
        """Whether so much waits for the server to read that no more should be written."""
        self.on_drained: Callable[[], None] | None = None
        """Called when it is no longer full."""
        self.on_lost: Callable[[], None] | None = None
        """Called when it has ended."""
        self._on_message: OnMessage | None = None
        self._unread: deque[tuple[bytes, bool]] = deque()
        """What came before anybody listened."""
        self._parts: list[Frame] = []
        """The frames of a message whose end has not come."""
        self._pings: dict[bytes, asyncio.Future[bool]] = {}
        self._n_pings = 0

    # -------------------------------------------------------------------------- messages

    def listen(self, on_message: OnMessage) -> None:
        """Deliver what has come, and from now on each message as it is read."""
        while self._unread:
            on_message(*self._unread.popleft())
        self._on_message = on_message

    def write(self, texts: Iterable[bytes]) -> None:
        """Send text messages, UTF-8 each, in one system call; on an ended connection they are lost.

        It never waits: see `is_full`.
        """
        if self.protocol.state is State.OPEN:
            for text in texts:
                self.protocol.send_text(text)
            self._flush()

    def send_ping(self) -> asyncio.Future[bool]:
        """Send a ping; return what tells whether it was answered, as soon as that is known."""
        answered: asyncio.Future[bool] = self.loop.create_future()
        if self.protocol.state is State.OPEN:
            self._n_pings += 1
            payload = str(self._n_pings).encode()
            self._pings[payload] = answered
            self.protocol.send_ping(payload)
            self._flush()
        else:
            answered.set_result(False)
        return answered

    def abort(self) -> None:
        """Let go of the socket, if it is still there, without another word."""
        self.transport.abort()

    # ------------------------------------------------------- what the transport calls

    def data_received(self, data: bytes) -> None:
        """Take what was read: deliver its messages, and answer what RFC 6455 wants answered."""
        if self.response is None:
            data = self._shake_hands(data)
        was_open = self.protocol.state is State.OPEN
        self.protocol.receive_data(data)
        self._flush()
        for frame in self.protocol.events_received():
            self._take(cast(Frame, frame))
        if was_open and self.protocol.state is not State.OPEN:
            # This side has said goodbye, and nothing more is read; a server may never hang up.
            self.transport.close()
            self.loop.call_later(GOODBYE_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the socket has gone."""
        super().connection_lost(exc)
        for answered in self._pings.values():
            if not answered.done():
                answered.set_result(False)
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """Take note that the server reads too slowly."""
        super().pause_writing()
        self.is_full = True

    def resume_writing(self) -> None:
        """Take note that the server has read enough."""
        super().resume_writing()
        self.is_full = False
        if self.on_drained is not None:
            self.on_drained()

    # ---------------------------------------------------------------------------- frames

    def _shake_hands(self, data: bytes) -> bytes:
        """Give websockets the answer to its handshake, and return what follows it.

        Line by line: the answer ends with one, and the first messages may come right behind it.
        """
        lines = deque(data.splitlines(keepends=True))
        while lines and self.response is None:
            super().data_received(lines.popleft())
        return b"".join(lines)

    def _flush(self) -> None:
        if pieces := self.protocol.data_to_send():
            self.transport.write(b"".join(pieces))

    def _take(self, frame: Frame) -> None:
        if frame.opcode in _DATA:
            self._parts.append(frame)
            if frame.fin:
                parts, self._parts = self._parts, []
                message = b"".join([part.data for part in parts])
                self._deliver(message, parts[0].opcode is Opcode.TEXT)
        elif frame.opcode is Opcode.PONG:
            self._take_pong(bytes(frame.data))

    def _take_pong(self, payload: bytes) -> None:
        """Note that a ping was answered, and with it all before: only the last one need be."""
        if payload not in self._pings:
            return
        self.answers_pings = True
        self.heard_at = time.monotonic()
        for sent in list(self._pings):
            answered = self._pings.pop(sent)
            if not answered.done():
                answered.set_result(True)
            if sent == payload:
                return

    def _deliver(self, message: bytes, is_text: bool) -> None:
        self.heard_at = time.monotonic()
        if self._on_message is None:
            self._unread.append((message, is_text))
        else:
            self._on_message(message, is_text)
