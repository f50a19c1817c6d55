"""One system call for several frames, and none that waits.

A frame of the microphone makes two appends, and each would be a write of its own: most of what a
call costs is system calls (measured with `python -m tests.bench`). websockets lets its users
supply the connection's class; this one puts a transport in between that joins the writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from websockets.asyncio.client import ClientConnection


class CorkedTransport(asyncio.Transport):
    """Joins what is written between `cork` and `uncork`; otherwise it only passes on."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._is_corked = False
        self._unwritten: list[bytes | bytearray | memoryview] = []

    def cork(self) -> None:
        """Keep what is written from now on."""
        self._is_corked = True

    def uncork(self) -> None:
        """Write what was kept, in one go."""
        self._is_corked = False
        if self._unwritten:
            joined = b"".join(self._unwritten)
            self._unwritten.clear()
            self._transport.write(joined)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write, behind all that was written before."""
        if self._is_corked:
            self._unwritten.append(data)
        else:
            self._transport.write(data)

    # What follows is the transport's own.

    def write_eof(self) -> None:  # noqa: D102
        self._transport.write_eof()

    def close(self) -> None:  # noqa: D102
        self._transport.close()

    def abort(self) -> None:  # noqa: D102
        self._transport.abort()

    def get_write_buffer_size(self) -> int:  # noqa: D102
        return self._transport.get_write_buffer_size()

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
    """A websockets client connection whose writes can be joined, and that tells when it is full."""

    on_drained: Callable[[], None] | None = None
    """Called when it is no longer full."""
    is_full = False
    """Whether so much waits for the peer to read that no more should be written."""
    _corked: CorkedTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport of a socket that is open."""
        self._corked = CorkedTransport(cast(asyncio.Transport, transport))
        super().connection_made(self._corked)

    def cork(self) -> None:
        """Keep what is sent from now on."""
        self._corked.cork()

    def uncork(self) -> None:
        """Make one write of what was kept."""
        self._corked.uncork()

    def abort(self) -> None:
        """Let go of the socket, if it is still there, without another word."""
        self._corked.abort()

    def pause_writing(self) -> None:
        """Take note that the peer reads too slowly."""
        super().pause_writing()
        self.is_full = True

    def resume_writing(self) -> None:
        """Take note that the peer has read enough."""
        super().resume_writing()
        self.is_full = False
        if self.on_drained is not None:
            self.on_drained()
