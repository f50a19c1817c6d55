"""A stream of pieces, as LiveKit's framework reads the audio and the text of a response."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Stream(Generic[_T]):
    """What comes piece by piece, for one reader; without a bound, as nobody may read at all.

    LiveKit's own `Chan` does the same for many readers and writers, at three times the steps.
    """

    def __init__(
        self,
        on_read: Callable[[], None] | None = None,
        before_first: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Open it.

        Args:
            on_read: called when it is read for the first time.
            before_first: awaited before the first piece is given.
        """
        self.closed = False
        self._on_read = on_read
        self._before_first = before_first
        self._pieces: deque[_T] = deque()
        self._more: asyncio.Future[None] | None = None

    @property
    def waits(self) -> bool:
        """Whether a piece was not read yet."""
        return bool(self._pieces)

    def send(self, piece: _T) -> None:
        """Add a piece."""
        assert not self.closed, "the session sends nothing behind the end"
        self._pieces.append(piece)
        self._wake()

    def close(self) -> None:
        """No more comes; what is there can still be read."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        more, self._more = self._more, None
        if more is not None and not more.done():
            more.set_result(None)

    def __aiter__(self) -> AsyncIterator[_T]:
        return self

    async def __anext__(self) -> _T:
        if self._on_read is not None:
            on_read, self._on_read = self._on_read, None
            on_read()
        while not self._pieces:
            if self.closed:
                raise StopAsyncIteration
            assert self._more is None or self._more.done(), "somebody else reads"
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        if self._before_first is not None:
            await self._before_first()
            self._before_first = None
        return self._pieces.popleft()
