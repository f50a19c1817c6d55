"""An open WebSocket to Hydra: send, receive, keep alive, close."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from websockets.frames import CloseCode
from websockets.protocol import State

from livekit_plugins_hydra.log import Redactor, logger
from livekit_plugins_hydra.protocol import events, wire
from livekit_plugins_hydra.protocol.errors import (
    ConnectionLost,
    RemoteProtocolError,
    ServerFull,
)

from .websocket import WebSocket
from .wirelog import Tap

PING_EVERY_S: Final = 2.5
"""How often the server is pinged. Audio since its last sign of life is kept, and sent again if the
link dies."""

DEAD_AFTER_S: Final = 10.0
"""A server that sends nothing, not even a pong, for so long after a ping is gone."""

SUSPECT_AFTER_S: Final = 1.0
"""A link that takes longer to answer a ping may have died. Our choice."""

WRITTEN_AT_ONCE: Final = 8
"""How many frames are joined in one write, at most, so that the server reads meanwhile."""

Deliver = Callable[[events.ServerEvent | events.UnknownEvent], None]


class Connection:
    """An open connection; `connect` makes one."""

    def __init__(self, socket: WebSocket, *, redact: Redactor, tap: Tap) -> None:
        """Take an open socket; the key is cut out of what the server sends."""
        self._socket = socket
        self._redact = redact
        self._socket.on_drained = self._write
        self._tap = tap
        self._control: deque[bytes] = deque()
        self._audio: deque[bytes] = deque()
        self._left: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._pinged_at = 0.0
        self._heartbeat: asyncio.TimerHandle
        self.opened_at = time.monotonic()
        self.n_malformed = 0
        """How many frames were no events of the protocol."""

    @property
    def alive_at(self) -> float:
        """When the server last gave a sign of life; monotonic clock."""
        return self._socket.alive_at

    @property
    def is_suspect(self) -> bool:
        """Whether the link may be dead: a server that answers pings has not for too long."""
        owes_answer = self._socket.n_answered and self.alive_at < self._pinged_at
        return bool(owes_answer) and time.monotonic() - self._pinged_at > SUSPECT_AFTER_S

    @property
    def is_open(self) -> bool:
        """Whether neither side is known to have ended it."""
        return self._socket.protocol.state is State.OPEN

    def send(self, event: events.ClientEvent) -> None:
        """Send a control event, before all audio that waits."""
        self._control.append(wire.encode(event))
        self._write()

    def send_audio(self, appends: Iterable[bytes]) -> None:
        """Send pieces of the user's audio, in one write: each int16 mono 16 kHz."""
        for pcm in appends:
            self._audio.append(wire.encode(events.InputAudioBufferAppend(audio=pcm)))
        self._write()

    def _write(self) -> None:
        """Write what waits, until the socket is full."""
        while (waiting := self._control or self._audio) and not self._socket.is_full:
            frames = [waiting.popleft() for _ in range(min(WRITTEN_AT_ONCE, len(waiting)))]
            for frame in frames:
                self._tap.sent(frame)
            self._socket.write(frames)

    def leave(self, error: Exception | None = None) -> None:
        """End `run`, with `error` if there is one; nothing more is delivered."""
        if not self._left.done():
            self._left.set_result(error)

    def _end(self) -> None:
        code = self._socket.protocol.close_code
        reason = self._socket.protocol.close_reason or self._socket.lost_because
        if code == CloseCode.TRY_AGAIN_LATER:
            self.leave(ServerFull())
        else:
            came = None if code == CloseCode.ABNORMAL_CLOSURE else code  # it stands for no frame
            self.leave(ConnectionLost(came, self._redact(reason.encode()).decode()))

    async def run(self, deliver: Deliver) -> None:
        """Deliver the server's events until `leave` is called, in the caller's context.

        Raises:
            ConnectionFailed: the connection ended.
            Exception: what `leave` was given, or `deliver` has raised.
        """
        context = contextvars.copy_context()  # else it would be that of `connect`
        self._socket.on_lost = self._end
        self._socket.listen(lambda message: context.run(self._receive, deliver, message))
        self._keep_alive()
        try:
            if self._socket.protocol.state is State.CLOSED:
                self._end()
            if error := await self._left:
                raise error
        finally:
            self._heartbeat.cancel()
            self._socket.on_lost = None
            self._socket.listen(lambda _: None)  # drops the reference to the call

    async def ping(self, timeout_s: float) -> float | None:
        """Return how long the server took to answer a ping, in seconds; None if it did not."""
        began_at = time.monotonic()
        number = self._socket.send_ping()
        try:
            async with asyncio.timeout(timeout_s):
                while self._socket.n_answered < number:
                    await self._socket.ponged.wait()
        except TimeoutError:
            return None
        return time.monotonic() - began_at

    async def close(self) -> None:
        """Close the socket, within `CLOSE_TIMEOUT_S`."""
        self.leave()
        try:
            await self._socket.close()
        finally:
            end = self._socket.protocol
            self._tap.closed(
                end.close_code, end.close_reason or "", by_server=end.close_rcvd_then_sent
            )

    def _receive(self, deliver: Deliver, message: bytes) -> None:
        if self._left.done():
            return
        message = self._redact(message)
        self._tap.received(message)
        try:
            event = self._read(message)
            if event is not None:
                deliver(event)
        except Exception as error:
            self.leave(error)

    def _read(self, message: bytes) -> events.ServerEvent | events.UnknownEvent | None:
        """Return the event of a message; count a malformed one and return None."""
        try:
            return wire.decode(message)
        except RemoteProtocolError as error:
            self.n_malformed += 1
            if self.n_malformed == 1:
                logger.warning("Hydra sent a frame that can't be read, dropped: %s", error)
            return None

    def _keep_alive(self) -> None:
        """Ping, and notice a server that has gone without a close."""
        now = time.monotonic()
        if self.alive_at >= self._pinged_at:
            self._pinged_at = now
            self._socket.send_ping()
        elif now - self._pinged_at > DEAD_AFTER_S - PING_EVERY_S / 2 and self._socket.n_answered:
            self._socket.give_up(f"no sign of life for {DEAD_AFTER_S:g} s")
        loop = asyncio.get_running_loop()
        self._heartbeat = loop.call_later(PING_EVERY_S, self._keep_alive)
