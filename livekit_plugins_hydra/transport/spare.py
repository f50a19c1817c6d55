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
    """One spare connection: connects, and then waits for its taker."""

    def __init__(self, options: Options) -> None:
        """Begin to connect."""
        self.trace = Trace(options.wire_log)
        """The log of the call that takes it."""
        self._connection: Connection | None = None
        self._is_settled = asyncio.Event()
        """Set when it is open, or has failed."""
        self._is_taken = asyncio.Event()
        self._life = asyncio.get_running_loop().create_task(self._live(options))

    @property
    def is_usable(self) -> bool:
        """Whether it connects, or is open."""
        if self._is_stranded or self._life.done():
            return False
        return self._connection is None or self._connection.is_open

    @property
    def _is_stranded(self) -> bool:
        """Whether it belongs to another event loop, as after ``asyncio.run(model.prewarm())``.

        Using it would end the call that takes it with "Event loop is closed".
        """
        return self._life.get_loop() is not asyncio.get_running_loop()

    async def ready(self) -> None:
        """Wait until it is open, or has failed."""
        if not self._is_stranded:
            await self._is_settled.wait()

    async def take(self) -> Connection | None:
        """Return the connection, for the taker to close; None if it has failed or died."""
        await self.ready()
        if not self.is_usable:
            await self.aclose()
            return None
        connection, self._connection = self._connection, None
        self._is_taken.set()
        return connection

    async def aclose(self) -> None:
        """Close it, unless it was taken."""
        if not self._is_stranded:  # only its own loop may close it, and does so by ending
            self._life.cancel()
            await asyncio.wait([self._life])

    async def _live(self, options: Options) -> None:
        try:
            self._connection = await connect(options, self.trace)
            self._is_settled.set()
            async with asyncio.timeout(SPARE_LIFE_S):
                await self._is_taken.wait()
        except HydraError as error:
            logger.warning("prewarm: %s", error)
        except TimeoutError:
            logger.debug("nobody took the spare connection in %g s", SPARE_LIFE_S)
        finally:
            self._is_settled.set()
            if self._connection is not None:
                await self._connection.close()
