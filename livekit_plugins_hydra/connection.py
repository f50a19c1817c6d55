"""One WebSocket's life: dial, send, receive, keep alive, close.

Whatever goes wrong comes out as a `ConnectionFailed` that holds no URL, no header and no foreign
exception: the key travels in the URL, and exceptions, their causes and websockets' own debug log
would show it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Literal, cast

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import broadcast

from . import events, wire
from .corking import CorkedConnection
from .errors import (
    AuthenticationFailed,
    ConnectionFailed,
    ConnectionLost,
    HandshakeRefused,
    HandshakeTimeout,
    HydraError,
    RemoteProtocolError,
    ServerFull,
)
from .log import logger
from .wirelog import Tap

PING_EVERY_S: Final = 5.0
DEAD_AFTER_S: Final = 10.0
"""A peer that sent nothing, not even a pong, for so long after a ping is gone."""

_CLOCK_SLACK_S: Final = 0.1

CLOSE_TIMEOUT_S: Final = 1.0
"""How long the closing handshake may take."""

MAX_UNSENT_BYTES: Final = 10 * 16_000 * 2 * 2
"""Audio that a peer that stopped reading may leave unsent: ten seconds, and room for base64."""

WRITTEN_AT_ONCE: Final = 8
"""How many frames are joined in one write, at most: a backlog leaves while the peer reads."""

_UNAUTHORIZED: Final = frozenset({401, 403})
_TRY_AGAIN_LATER: Final = 1013
_NO_CLOSE_FRAME: Final = 1006

_silent: Final = logging.Logger("websockets")  # noqa: LOG001 - in no tree, so nobody turns it on
_silent.disabled = True
"""For websockets, which logs the request line, key included."""

Deliver = Callable[[events.ServerEvent | events.UnknownEvent], None]


class _Dial(connect):
    """Refuses redirects: websockets 15 takes the Authorization header along to any address."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class Connection:
    """An open WebSocket to Hydra."""

    def __init__(self, socket: CorkedConnection, *, tap: Tap | None = None) -> None:
        """Take an open socket; `dial` makes one."""
        self._socket = socket
        self._socket.on_drained = self._write
        self._tap = tap
        self._control: deque[bytes] = deque()
        self._audio: deque[bytes] = deque()
        self._n_audio = 0
        self._left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.opened_at = self._heard_at = time.monotonic()
        self._answers_pings = False
        self.n_binary = 0
        """How many binary frames came; the protocol has none, so they are dropped."""
        self.n_malformed = 0
        """How many text frames were no events of the protocol."""

    @classmethod
    async def dial(
        cls,
        url: str,
        *,
        headers: dict[str, str],
        proxy: str | Literal[True] | None,
        timeout_s: float,
        tap: Tap | None = None,
    ) -> Connection:
        """Open a socket.

        Args:
            url: where to, with the query; may hold the key.
            headers: sent with the upgrade request; may hold the key.
            proxy: its URL, True for the environment's, None for none.
            timeout_s: for all of DNS, TCP, TLS and the upgrade.
            tap: logs the frames.

        Raises:
            AuthenticationFailed: the server answered 401 or 403.
            HandshakeRefused: it answered another status than 101.
            HandshakeTimeout: it did not answer in time.
            ConnectionLost: there was nothing to talk to.
        """
        try:
            socket = await _Dial(
                url,
                additional_headers=headers,
                proxy=proxy,
                open_timeout=timeout_s,
                close_timeout=CLOSE_TIMEOUT_S,
                create_connection=CorkedConnection,
                compression=None,
                max_size=None,
                ping_interval=None,
                logger=_silent,
            )
        except Exception as error:  # everything that a network can do
            failure = _refusal(error, timeout_s)
        else:
            if tap is not None:
                tap.note("connection.opened", {})
            return cls(cast(CorkedConnection, socket), tap=tap)
        # Outside of the handler, so that no context leads back to an exception with the URL.
        raise failure

    @property
    def heard_at(self) -> float:
        """When the server last gave a sign of life; monotonic clock."""
        return self._heard_at

    @property
    def is_open(self) -> bool:
        """Whether neither side has ended it, as far as is known."""
        return self._socket.state is websockets.State.OPEN

    def send(self, event: events.ClientEvent) -> None:
        """Send a control event, before all audio that still waits."""
        self._control.append(wire.encode(event))
        self._write()

    def send_audio(self, appends: Iterable[bytes]) -> None:
        """Send pieces of the user's sound, in one write: each int16 mono 16 kHz."""
        for pcm in appends:
            frame = wire.encode(events.InputAudioBufferAppend(audio=pcm))
            self._audio.append(frame)
            self._n_audio += len(frame)
        while self._n_audio > MAX_UNSENT_BYTES:  # the peer has stopped reading
            self._n_audio -= len(self._audio.popleft())
        self._write()

    def _write(self) -> None:
        """Write what waits, as far as the peer reads; on an ended connection it gets lost.

        `broadcast` is the way of websockets to send without waiting. Its `send` would take a task
        of its own, and two more steps of the event loop for each frame of the microphone.
        """
        while (self._control or self._audio) and not self._socket.is_full:
            self._socket.cork()
            try:
                self._write_some()
            finally:
                self._socket.uncork()

    def _write_some(self) -> None:
        for _ in range(WRITTEN_AT_ONCE):
            if self._control:
                frame = self._control.popleft()
            elif self._audio:
                frame = self._audio.popleft()
                self._n_audio -= len(frame)
            else:
                return
            if self._tap is not None:
                self._tap.sent(frame)
            broadcast([self._socket], frame.decode())

    def leave(self, error: HydraError | None = None) -> None:
        """Make `run` end, with `error` if there is one; nothing more is delivered."""
        if self._left.done():
            return
        if error is None:
            self._left.set_result(None)
        else:
            self._left.set_exception(error)

    async def run(self, deliver: Deliver) -> None:
        """Deliver the server's events until `leave` is called.

        Raises:
            ConnectionFailed: the connection ended.
            HydraError: what `leave` was given.
        """
        loop = asyncio.get_running_loop()
        workers = [
            loop.create_task(self._receive(deliver), name="hydra.receive"),
            loop.create_task(self._keep_alive(), name="hydra.keep_alive"),
        ]
        waiting: list[asyncio.Future[None]] = [self._left, *workers]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            first = next(future for future in waiting if future.done())
            first.result()
        finally:
            self._left.cancel()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def ping(self, timeout_s: float) -> float | None:
        """Return how long the server took to answer a ping, in seconds; None if it did not."""
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                await (await self._socket.ping())
        except (TimeoutError, websockets.ConnectionClosed):
            return None
        return time.monotonic() - began_at

    async def close(self) -> None:
        """Close the socket, within `CLOSE_TIMEOUT_S` or a little more."""
        self.leave()
        try:
            async with asyncio.timeout(1.5 * CLOSE_TIMEOUT_S):
                await self._socket.close()
        except TimeoutError:
            pass  # it is full of what nobody reads
        finally:
            self._socket.abort()  # where this was cancelled, nobody else does
            if self._tap is not None:
                code, reason = self._socket.close_code, self._socket.close_reason or ""
                by_server = self._socket.protocol.close_rcvd_then_sent
                await self._tap.closed(code, reason, by_server=by_server)

    async def _receive(self, deliver: Deliver) -> None:
        try:
            while True:
                frame = await self._socket.recv()
                self._heard_at = time.monotonic()
                if self._tap is not None:
                    self._tap.received(frame)
                if isinstance(frame, bytes):
                    self.n_binary += 1
                    continue
                try:
                    event = wire.decode(frame)
                except RemoteProtocolError as error:
                    self._count_malformed(error)
                    continue
                if self._left.done():
                    return
                deliver(event)
        except websockets.ConnectionClosed:
            pass
        raise _end_of(self._socket)

    def _count_malformed(self, error: RemoteProtocolError) -> None:
        self.n_malformed += 1
        if self.n_malformed == 1:
            logger.warning("Hydra sent a frame that can't be read, dropped: %s", error)

    async def _keep_alive(self) -> None:
        """Find out that a peer has vanished without a close."""
        loop = asyncio.get_running_loop()
        pinged_at = time.monotonic()
        ping = loop.create_task(self._ping())  # of its own: it waits for room in the socket
        was_told = False
        try:
            while True:
                await asyncio.sleep(PING_EVERY_S)
                now = time.monotonic()
                if self._heard_at >= pinged_at:
                    pinged_at = now
                    if ping.done():
                        ping = loop.create_task(self._ping())
                elif now - pinged_at >= DEAD_AFTER_S - _CLOCK_SLACK_S:
                    if self._answers_pings:
                        raise ConnectionLost(reason=f"no sign of life for {DEAD_AFTER_S:g} s")
                    if not was_told:
                        was_told = True
                        logger.info("Hydra does not answer pings, so a dead link shows late")
        finally:
            ping.cancel()

    async def _ping(self) -> None:
        try:
            await (await self._socket.ping())
        except websockets.ConnectionClosed:
            return  # the receiving side tells how the connection ended
        self._answers_pings = True
        self._heard_at = time.monotonic()


def _refusal(error: Exception, timeout_s: float) -> ConnectionFailed:
    """Say why a dial failed, without anything of the foreign exception but its kind."""
    match error:
        case websockets.InvalidStatus():
            status = error.response.status_code
            if status in _UNAUTHORIZED:
                return AuthenticationFailed(status)
            retry_after = error.response.headers.get("Retry-After", "")
            retry_after_s = float(retry_after) if retry_after.isdecimal() else None
            return HandshakeRefused(status, retry_after_s=retry_after_s)
        case TimeoutError():
            return HandshakeTimeout("answer to the WebSocket upgrade", timeout_s)
        case OSError():
            return ConnectionLost(reason=error.strerror or type(error).__name__)
        case _:
            return ConnectionLost(reason=f"{type(error).__name__} at the handshake")


def _end_of(socket: CorkedConnection) -> ConnectionFailed:
    code = socket.close_code
    if code == _TRY_AGAIN_LATER:
        return ServerFull()
    if code == _NO_CLOSE_FRAME:
        code = None
    return ConnectionLost(code, socket.close_reason or "")
