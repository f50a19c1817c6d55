"""One connection under the doctor's hands: sends what it wants, keeps what comes and when."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from livekit.agents.utils import shortuuid

from livekit_plugins_hydra.options import Options
from livekit_plugins_hydra.protocol import backoff, events, wire
from livekit_plugins_hydra.protocol.errors import (
    ConnectionFailed,
    ConnectionLost,
    HydraError,
    ServerFull,
)
from livekit_plugins_hydra.transport.connecting import connect
from livekit_plugins_hydra.transport.connection import Connection
from livekit_plugins_hydra.transport.wirelog import Trace

from .findings import Ledger

_CHUNK_S: Final = 0.04
_CHUNK_BYTES: Final = 1280

_LATE_S: Final = 0.3
"""A chunk that is later than this is not caught up: no backlog is ever sent in a burst."""

_E = TypeVar("_E", bound=events.Event)


class Probe:
    """An open connection. Times are seconds of `time.monotonic`."""

    def __init__(self, connection: Connection) -> None:
        """Begin to listen; `open_probe` makes one."""
        self.connection = connection
        self.opened_at = time.monotonic()
        self.received: list[tuple[float, events.ServerEvent]] = []
        """What came, without its audio."""
        self.n_audio_bytes: Counter[str] = Counter()
        """Bytes of audio by response."""
        self.unknown: Counter[str] = Counter()
        """Types that this plugin does not know."""
        self.ended: HydraError | None = None
        """How the connection ended by itself; None while it stands."""
        self._changed = asyncio.Event()
        self._unsent = bytearray()
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        """Take what comes, until the connection ends."""
        try:
            await self.connection.run(self._receive)
        except HydraError as error:
            self.ended = error
        self._changed.set()

    def _receive(self, event: events.ServerEvent | events.UnknownEvent) -> None:
        if isinstance(event, events.UnknownEvent):
            self.unknown[event.type] += 1
        else:
            if isinstance(event, events.ResponseOutputAudioDelta):
                self.n_audio_bytes[event.response_id or ""] += len(event.delta)
            self.received.append((time.monotonic(), wire.elide(event)))
        self._changed.set()

    async def stream(self) -> None:
        """Send audio at real time, for ever: what is to be said, and silence around it."""
        next_at = time.monotonic()
        while True:
            chunk = bytes(self._unsent[:_CHUNK_BYTES])
            del self._unsent[:_CHUNK_BYTES]
            if chunk:
                chunk = chunk.ljust(_CHUNK_BYTES, b"\0")
            self.connection.send_audio([chunk or bytes(_CHUNK_BYTES)])
            if not self._unsent:
                self._is_quiet.set()
            next_at = max(next_at + _CHUNK_S, time.monotonic() - _LATE_S)
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    # ------------------------------------------------------------------ doing

    def send(self, event: events.ClientEvent) -> str:
        """Send an event with an id of its own; return the id."""
        import msgspec

        event_id = shortuuid("dr_")
        self.connection.send(msgspec.structs.replace(event, event_id=event_id))
        return event_id

    async def say(self, pcm: bytes) -> float:
        """Speak; return when the last of it has been sent."""
        self._unsent += pcm
        self._is_quiet.clear()
        await self._is_quiet.wait()
        return time.monotonic()

    async def until(self, look: Callable[[], Any], timeout_s: float) -> Any:
        """Wait until `look` returns something true; return None if it does not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (seen := look()):
                    if self.ended is not None:
                        return None
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return None
        return seen

    # ------------------------------------------------------------------ what came

    @property
    def mark(self) -> int:
        """A place in `received`: what comes from now on is behind it."""
        return len(self.received)

    def of(self, kind: type[_E], since: int = 0) -> list[tuple[float, _E]]:
        """Return the events of a class behind a mark, and when they came."""
        return [(at, event) for at, event in self.received[since:] if isinstance(event, kind)]

    def first(self, kind: type[_E], since: int = 0) -> tuple[float, _E] | None:
        """Return the first event of a class behind a mark, and when it came; None for none."""
        return next(iter(self.of(kind, since)), None)

    def first_error(self) -> events.ErrorBody | None:
        """Return the first error; None for none."""
        found = self.first(events.Error)
        return found[1].error if found else None

    async def wait(
        self, kind: type[_E], timeout_s: float, since: int = 0
    ) -> tuple[float, _E] | None:
        """Wait for the first event of a class behind a mark."""
        seen: tuple[float, _E] | None
        seen = await self.until(lambda: self.first(kind, since), timeout_s)
        return seen

    async def wait_answer(self, event_ids: set[str], timeout_s: float, since: int) -> None:
        """Wait for a response behind a mark, or for an error about one of these events."""

        def answered() -> object:
            created = self.of(events.ResponseCreated, since)
            return created or self.error_about(event_ids, since)

        await self.until(answered, timeout_s)

    async def wait_audio(self, response_id: str, timeout_s: float) -> float | None:
        """Wait for the first audio of a response; return when it came."""

        def first() -> float | None:
            return next(
                (
                    at
                    for at, event in self.of(events.ResponseOutputAudioDelta)
                    if event.response_id in (response_id, None)
                ),
                None,
            )

        seen: float | None = await self.until(first, timeout_s)
        return seen

    async def wait_done(self, response_id: str, timeout_s: float) -> events.Response | None:
        """Wait for the end of a response."""

        def done() -> events.Response | None:
            ends = self.of(events.ResponseDone)
            return next((e.response for _, e in ends if e.response.id == response_id), None)

        seen: events.Response | None = await self.until(done, timeout_s)
        return seen

    @property
    def refusal(self) -> ConnectionFailed | None:
        """What the server has refused this connection for: no room, or the key.

        Before `session.created`, close code 1008 means the key. Source: an early model card; 401
        was probed since.
        """
        if any(event.error.code == "server_full" for _, event in self.of(events.Error)):
            return ServerFull()
        match self.ended:
            case ServerFull() as refusal:
                return refusal
            case ConnectionLost(code=backoff.POLICY_VIOLATION) as refusal:
                return None if self.of(events.SessionCreated) else refusal
        return None

    def error_about(self, event_ids: set[str], since: int = 0) -> events.ErrorBody | None:
        """Return the first error behind a mark that is about one of these events, or about none."""
        for _, event in self.of(events.Error, since):
            if event.error.event_id is None or event.error.event_id in event_ids:
                return event.error
        return None

    def words_of(self, response_id: str) -> str:
        """Return the transcript of a response, where one came."""
        return " ".join(
            event.delta.strip()
            for _, event in self.of(events.ResponseOutputAudioTranscriptDelta)
            if event.response_id == response_id
        )


@asynccontextmanager
async def open_probe(options: Options, ledger: Ledger, trace: Trace) -> AsyncIterator[Probe]:
    """Hold a connection while the block lasts.

    Raises:
        ConnectionFailed: it could not be made.
        ConfigurationError: it never can.
    """
    connection = await connect(options, trace)
    probe = Probe(connection)
    ledger.n_connections += 1
    running = asyncio.create_task(probe.run())
    try:
        yield probe
    finally:
        connection.leave()
        await asyncio.gather(running, return_exceptions=True)
        await connection.close()
        ledger.connected_s += time.monotonic() - probe.opened_at


def lost(probe: Probe) -> HydraError:
    """Return how a connection ended, for a sentence."""
    return probe.ended or ConnectionLost(reason="it fell silent")
