"""Records of every attempt to connect and of every connection, and a way to wait for what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self, TypeAlias, TypeVar, overload

from livekit_plugins_hydra.protocol import events, wire

from .records import ConnectionRecord, Dial, Received, ResponseRecord, Sent, Violation

Observed: TypeAlias = Received | Sent | Violation
"""What an observer sees as it happens."""

Observer: TypeAlias = Callable[[ConnectionRecord, Observed], None]

_E = TypeVar("_E", bound=events.Event)
_T = TypeVar("_T")

_SHOWN_AT_TIMEOUT = 12
"""How many of the last events a time-out shows."""


class Books:
    """Records of everything, and waiting without sleeping."""

    def __init__(self, *, observer: Observer | None = None) -> None:
        self.dials: list[Dial] = []
        """Every attempt to connect, refused ones too."""

        self.connections: list[ConnectionRecord] = []
        """Every connection that was made, oldest first."""

        self._observer = observer
        self._n_responses = 0
        self._changed: asyncio.Event | None = None

    @property
    def connection(self) -> ConnectionRecord:
        """The newest connection."""
        if not self.connections:
            raise LookupError("nobody has connected to the emulator yet")
        return self.connections[-1]

    @property
    def open_connections(self) -> list[ConnectionRecord]:
        """The connections that still stand."""
        return [record for record in self.connections if record.is_open]

    @property
    def violations(self) -> list[Violation]:
        """What all clients did wrong."""
        return [violation for record in self.connections for violation in record.violations]

    @property
    def responses(self) -> list[ResponseRecord]:
        """All responses, in the order of the connections."""
        return [response for record in self.connections for response in record.responses]

    def events_of(self, kind: type[_E]) -> list[_E]:
        """Return the events of one class, the clients' or the server's, over all connections."""
        found = [
            (frame.at_s, frame.event)
            for record in self.connections
            for frames in (record.client_events, record.server_events)
            for frame in frames
            if isinstance(frame.event, kind)
        ]
        return [event for _, event in sorted(found, key=lambda each: each[0])]

    def transcript(self) -> list[str]:
        """Return one line for each event of all connections, in order, without the audio."""
        lines = [
            (frame.at_s, f"{record.number} {arrow} {describe(frame)}")
            for record in self.connections
            for arrow, frames in ((">", record.client_events), ("<", record.server_events))
            for frame in frames
            if not frame.n_audio_bytes
        ]
        return [line for _, line in sorted(lines, key=lambda each: each[0])]

    @overload
    async def wait_for(self, what: type[_E], *, count: int = 1, timeout: float = 5.0) -> _E: ...

    @overload
    async def wait_for(
        self, what: Callable[[Self], _T | None], *, count: int = 1, timeout: float = 5.0
    ) -> _T: ...

    async def wait_for(
        self,
        what: type[_E] | Callable[[Self], _T | None],
        *,
        count: int = 1,
        timeout: float = 5.0,
    ) -> _E | _T:
        """Wait until something was seen, and return it; what was seen before counts.

        Args:
            what: a class of events, the clients' or the server's; or a predicate that gets this
                emulator, asked again after each event, whose first true value is returned.
            count: for a class, how many must have been seen; the last of them is returned.
            timeout: seconds.

        Raises:
            TimeoutError: it did not come; the text shows what came last.
        """

        def look() -> _E | _T | None:
            if isinstance(what, type):
                found: list[Any] = self.events_of(what)
                return found[count - 1] if len(found) >= count else None
            return what(self) or None

        try:
            async with asyncio.timeout(timeout):
                while (value := look()) is None:
                    if self._changed is None or self._changed.is_set():
                        self._changed = asyncio.Event()
                    await self._changed.wait()
        except TimeoutError:
            name = getattr(what, "__name__", "it")
            last = "\n  ".join(self.transcript()[-_SHOWN_AT_TIMEOUT:])
            raise TimeoutError(f"no {name} within {timeout:g} s; last seen:\n  {last}") from None
        return value

    async def wait_connections(self, n: int, *, timeout: float = 5.0) -> ConnectionRecord:
        """Wait until `n` connections were made, and return the newest of these."""
        return await self.wait_for(
            lambda books: books.connections[n - 1] if len(books.connections) >= n else None,
            timeout=timeout,
        )

    def noted(self, record: ConnectionRecord, what: Observed) -> None:
        """Take note of something new: wake who waits, call the observer."""
        self.changed()
        if self._observer is not None:
            self._observer(record, what)

    def changed(self) -> None:
        """Wake who waits."""
        if self._changed is not None:
            self._changed.set()

    def next_response_number(self) -> int:
        """Return the number of the response that now begins, over all connections."""
        self._n_responses += 1
        return self._n_responses


def describe(what: Observed) -> str:
    """Return one line about `what`: types and ids, lengths instead of contents."""
    match what:
        case Violation():
            return f"violation: {what}"
        case Sent(event=str(raw)):
            return f"raw frame of {len(raw)} characters"
        case Received() | Sent():
            size = f" {what.n_audio_bytes} bytes" if what.n_audio_bytes else ""
            event: Any = what.event
            return wire.describe(event).replace(" 0 bytes", "") + size
