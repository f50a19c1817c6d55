"""One system call for all that is written in one step of the event loop.

A frame of the microphone makes two appends, and each would be a write of its own: most of what a
call costs is system calls (measured with `python -m tests.bench.cpu`). websockets lets its users
supply the connection's class; this one puts a transport in between that joins the writes.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from websockets.asyncio.client import ClientConnection


class CorkedTransport(asyncio.Transport):
    """Keeps what is written until the present step of the event loop is over."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write soon, behind all that was written before."""
        if not self._unwritten:
            self._loop.call_soon(self._uncork)
        self._unwritten.append(data)

    def _uncork(self) -> None:
        if self._unwritten:
            joined = b"".join(self._unwritten)
            self._unwritten.clear()
            self._transport.write(joined)

    def write_eof(self) -> None:
        """Write what there is, and the end."""
        self._uncork()
        self._transport.write_eof()

    def close(self) -> None:
        """Write what there is, and close."""
        self._uncork()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._unwritten.clear()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        waiting = sum(len(data) for data in self._unwritten)
        return waiting + self._transport.get_write_buffer_size()

    # What follows is the transport's own.

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: D102
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:  # noqa: D102
        return self._transport.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:  # noqa: D102
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:  # noqa: D102
        return self._transport.get_protocol()

    def is_reading(self) -> bool:  # noqa: D102
        return self._transport.is_reading()

    def pause_reading(self) -> None:  # noqa: D102
        self._transport.pause_reading()

    def resume_reading(self) -> None:  # noqa: D102
        self._transport.resume_reading()

    def set_write_buffer_limits(  # noqa: D102
        self, high: int | None = None, low: int | None = None
    ) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:  # noqa: D102
        return self._transport.get_write_buffer_limits()

    def can_write_eof(self) -> bool:  # noqa: D102
        return self._transport.can_write_eof()


class CorkedConnection(ClientConnection):
    """A websockets client connection whose writes are joined."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport of a socket that is open."""
        super().connection_made(CorkedTransport(cast(asyncio.Transport, transport)))
