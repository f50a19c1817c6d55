"""A connection that is opened before a call needs it; see `RealtimeModel.prewarm`."""

from __future__ import annotations

import asyncio
from typing import Final

from livekit_plugins_hydra.log import logger
from livekit_plugins_hydra.options import Options
from livekit_plugins_hydra.protocol.errors import HydraError

from .connecting import connect
from .connection import Connection
from .wirelog import Trace

SPARE_LIFE_S: Final = 20.0
"""After this a spare that no call takes is closed: it is billed, and the server ends connections
without a frame after about 30 s."""


class Spare:
    """One spare connection."""

    def __init__(self, options: Options) -> None:
        """Prepare a spare; nothing is opened before `start`."""
        self.trace = Trace(options.wire_log)
        """The log of the call that takes it."""
        self._options = options
        self._connecting: asyncio.Task[Connection | None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    @property
    def is_usable(self) -> bool:
        """Whether it connects, or is open."""
        connecting = self._connecting
        if connecting is None or self._closing is not None or self._is_stranded:
            return False
        if not connecting.done():
            return True
        connection = None if connecting.cancelled() else connecting.result()
        return connection is not None and connection.is_open

    @property
    def _is_stranded(self) -> bool:
        """Whether it belongs to another event loop, as after ``asyncio.run(model.prewarm())``.

        Using it would end the call that takes it with "Event loop is closed".
        """
        connecting = self._connecting
        return connecting is not None and connecting.get_loop() is not asyncio.get_running_loop()

    async def ready(self) -> None:
        """Wait until it is open, or has failed."""
        if self._connecting is not None and not self._is_stranded:
            await asyncio.wait([self._connecting])

    async def take(self) -> Connection | None:
        """Return the connection, for the taker to close; None if it has failed or died."""
        await self.ready()
        if not self.is_usable or self._connecting is None:
            await self.aclose()
            return None
        if self._expiry is not None:
            self._expiry.cancel()
        connecting, self._connecting = self._connecting, None
        return connecting.result()

    async def aclose(self) -> None:
        """Close it, unless it was taken."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _connect(self) -> Connection | None:
        try:
            connection = await connect(self._options, self.trace)
        except HydraError as error:
            logger.warning("prewarm: %s", error)
            return None
        self._expiry = asyncio.get_running_loop().call_later(SPARE_LIFE_S, self._expire)
        return connection

    def _expire(self) -> None:
        logger.debug("nobody took the spare connection in %g s", SPARE_LIFE_S)
        self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        if self._is_stranded:
            return  # only its own loop may close it, and does so by ending
        if self._expiry is not None:
            self._expiry.cancel()
        connecting, self._connecting = self._connecting, None
        if connecting is None:
            return
        connecting.cancel()
        await asyncio.wait([connecting])
        connection = None if connecting.cancelled() else connecting.result()
        if connection is not None:
            await connection.close()
