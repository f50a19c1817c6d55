"""Keeps one call connected: connects, and reconnects, until the call is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from livekit_plugins_hydra.log import logger
from livekit_plugins_hydra.options import Options
from livekit_plugins_hydra.protocol import errors, events
from livekit_plugins_hydra.protocol.backoff import Recovery

from .connecting import connect
from .connection import Connection
from .spare import Spare
from .wirelog import Trace

CANCEL_BUDGET_S: Final = 0.5
"""How long a cancelled attempt to connect may take to end."""


class KeptCall(Protocol):
    """What the keeper needs of the call that it keeps connected."""

    @property
    def is_ready(self) -> bool:
        """Whether audio flows on the present connection."""

    def connection_opened(self, took_s: float, *, is_spare: bool) -> None:
        """Begin a conversation; it took so long to get its connection."""

    def receive(self, event: events.ServerEvent | events.UnknownEvent) -> None:
        """Take an event of the server."""

    def connection_lost(self, alive_at: float) -> None:
        """End the conversation; the server may not have received audio sent after `alive_at`."""

    def connection_left(self, alive_at: float, *, is_suspect: bool) -> None:
        """The connection was left on purpose; a suspect one may be dead."""

    def connection_closed(self, connected_s: float) -> None:
        """Report how long a connection lasted."""

    def connection_failed(self, error: errors.HydraError) -> None:
        """Report a failure; another connection is tried."""

    def gave_up(self, error: Exception) -> None:
        """End the call: no other connection is tried."""


class Keeper:
    """The connections of one call, one after another."""

    def __init__(
        self,
        options: Options,
        call: KeptCall,
        *,
        closers: set[asyncio.Task[None]],
        spare: Spare | None,
    ) -> None:
        """Prepare to connect; nothing happens before `start`.

        Args:
            options: where to, and with which key.
            call: what is kept connected.
            closers: tasks that close connections; ended by `RealtimeModel.aclose`.
            spare: a connection that was opened ahead for this call.
        """
        self._options = options
        self._call = call
        self._closers = closers
        self._spare = spare
        self._recovery = Recovery(options.conn_options.max_retry)
        self._main: asyncio.Task[None] | None = None
        self._is_over = False
        self.trace = spare.trace if spare is not None else Trace(options.wire_log)
        self.connection: Connection | None = None
        """The present one."""
        self.was_ready = False
        """Whether any of them was READY."""

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._main = asyncio.get_running_loop().create_task(self._keep(), name="hydra.session")

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Its event loop; None before `start`."""
        return self._main.get_loop() if self._main is not None else None

    def ready(self, now: float) -> None:
        """Audio flows on the present connection."""
        self._recovery.ready(now)
        self.was_ready = True

    def leave(self, error: Exception | None = None) -> None:
        """Leave the present connection: failed with `error`, or on purpose for another one."""
        if self.connection is not None:
            self.connection.leave(error)

    def stop(self) -> None:
        """The call is over: deliver no more events."""
        self._is_over = True
        self.leave()

    async def aclose(self) -> None:
        """Stop, and let the connections close in the background."""
        self.stop()
        if self._main is not None:
            self._main.cancel()
            await asyncio.wait([self._main], timeout=CANCEL_BUDGET_S)
        if self._spare is not None:
            self._close_behind(self._spare.aclose())

    async def _keep(self) -> None:
        try:
            while not self._is_over:
                try:
                    await self._connect_once()
                except errors.HydraError as error:
                    delay_s = self._recovery.failed(error, time.monotonic())
                    if delay_s is None:
                        self._call.gave_up(error)
                        return
                    self._call.connection_failed(error)
                    await asyncio.sleep(delay_s)
        except Exception as error:
            logger.exception("a bug in the plugin ends the call")
            self._call.gave_up(error)

    async def _connect_once(self) -> None:
        """Run one connection until it is left for another one.

        Raises:
            HydraError: it could not be made, or it ended.
        """
        began_at = time.monotonic()
        connection = await self._spare.take() if self._spare is not None else None
        self._spare = None
        is_spare = connection is not None
        loop = asyncio.get_running_loop()
        connection = self.connection = connection or await connect(
            self._options,
            self.trace,
            is_reconnect=self.was_ready,
            goodbyes=[each for each in self._closers if each.get_loop() is loop],
        )
        took_s = time.monotonic() - began_at
        try:
            if self._is_over:  # the function that mints the key has swallowed the cancellation
                connection.leave()
            self._call.connection_opened(took_s, is_spare=is_spare)
            await connection.run(self._call.receive)
        except errors.HydraError as error:
            was_dead = is_spare and not self._call.is_ready
            self._call.connection_lost(connection.alive_at)
            if not (was_dead and isinstance(error, errors.ConnectionLost)):
                raise
            logger.info("the spare connection had died; connecting")
        else:
            is_suspect = connection.is_suspect
            alive_at = connection.alive_at if is_suspect else time.monotonic()
            self._call.connection_left(alive_at, is_suspect=is_suspect)
        finally:
            self.connection = None
            self._close_behind(connection.close())
            self._call.connection_closed(time.monotonic() - connection.opened_at)

    def _close_behind(self, closing: Coroutine[Any, Any, None]) -> None:
        """Close a connection in the background: a handoff would wait a round trip for it."""
        closer = asyncio.get_running_loop().create_task(closing)
        self._closers.add(closer)
        closer.add_done_callback(self._closers.discard)
