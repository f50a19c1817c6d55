"""The emulator itself: a WebSocket server on loopback, and the knobs that break things."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from livekit_plugins_hydra.protocol import events, voices

from . import door
from .books import Books, Observer
from .handler import Handler
from .link import Link
from .records import ConnectionRecord, Dial, ProtocolViolation
from .replies import Reply
from .scenario import Scenario

_MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Largest frame taken from a client; the real limit is not documented."""

_CLOSE_TIMEOUT_S: Final = 1.0
"""How long a client may take to answer a close frame."""


_BACKLOG: Final = 1024
"""Connections that may wait to be accepted: load tests make hundreds at once."""


class _Protocol(ServerProtocol):
    """Leaves pings unanswered on request.

    websockets answers them inside its sans-I/O protocol and has no option against it; `recv_frame`
    is the one place through which every frame goes.
    """

    answers_pings = True

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.PING or self.answers_pings:
            super().recv_frame(frame)


class _Connection(ServerConnection):
    """A connection over a `_Protocol`; `serve` would make a plain one."""

    def __init__(self, protocol: ServerProtocol, server: Server, **options: Any) -> None:
        ours = _Protocol(max_size=_MAX_FRAME_BYTES, logger=protocol.logger)
        super().__init__(ours, server, **options)


class Emulator(Books):
    """A local Hydra for tests and demos.

    ::

        async with Emulator(Scenario(replies=[Say(text="Hello.")])) as server:
            model = hydra.RealtimeModel(base_url=server.url, api_key="anything")
            ...

    Leaving the block closes it and raises `ProtocolViolation` if a client broke the protocol. If
    the block itself raised, that exception goes on, with the violations as a note.

    Args:
        scenario: how it behaves. May be replaced at any time; a connection keeps the scenario
            with which it began.
        host: where it listens; loopback unless you say otherwise.
        port: 0 takes a free one.
        strict: whether violations are raised at the end; they are recorded in any case.
        observer: called with each event and violation, as it happens.
        on_fault: called with each exception of the scenario's own code, as it happens.
        on_end: called with each attempt to connect that was refused, and with each connection
            that has ended.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        strict: bool = True,
        observer: Observer | None = None,
        on_fault: Callable[[Exception], None] = lambda fault: None,
        on_end: Callable[[Dial | ConnectionRecord], None] = lambda ended: None,
    ) -> None:
        super().__init__(observer=observer)
        self.host = host
        self.strict = strict
        self.offline = False
        """While True, every attempt to connect is cut off, as if no server were there."""

        self.n_dialling = 0
        """How many attempts to connect have not been answered yet."""

        self.scenario = scenario or Scenario()
        self._wanted_port = port
        self._server: Server | None = None
        self._closing = asyncio.Event()
        self._faults: list[Exception] = []
        self._on_fault = on_fault
        self._on_end = on_end
        self._live: dict[int, tuple[Link, Handler]] = {}
        self._door = door.Door(self._closing)

    @property
    def scenario(self) -> Scenario:
        """How it behaves from here on."""
        return self._scenario

    @scenario.setter
    def scenario(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._n_attempts_before = len(self.dials) + self.n_dialling
        self._n_connections_before = len(self.connections)

    def __repr__(self) -> str:
        where = self.url if self._server else "not listening"
        return f"<Emulator {where}, {len(self.open_connections)} connections, {self.scenario!r}>"

    # ---------------------------------------------------------------------- life

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            return self._wanted_port
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """What to give a client as base URL, without model and key."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}{door.PATH}"

    async def start(self) -> None:
        """Begin to listen."""
        # A logger of its own, without a handler: websockets logs request lines, and keys are there.
        silent = logging.Logger(  # noqa: LOG001 - it must have no parent
            "livekit_plugins_hydra.testing.emulator", level=logging.CRITICAL + 1
        )
        self._server = await serve(
            self._serve,
            self.host,
            self._wanted_port,
            process_request=self._answer_request,
            create_connection=_Connection,
            compression=None,
            open_timeout=None,
            ping_interval=None,
            close_timeout=_CLOSE_TIMEOUT_S,
            max_size=_MAX_FRAME_BYTES,
            logger=silent,
            server_header=None,
            backlog=_BACKLOG,
        )
        # The port would be gone with the sockets.
        self._wanted_port = self.port

    async def aclose(self) -> None:
        """Close every connection (code 1001) and stop to listen. Idempotent."""
        self._closing.set()
        server, self._server = self._server, None
        if server is not None:
            for link, _ in self._live.values():
                link.thaw()
            server.close()
            await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
        violation = ProtocolViolation(self.violations) if self.violations else None
        if exc is not None:
            for problem in (*self._faults, violation):
                if problem is not None:
                    exc.add_note(f"in the emulator: {type(problem).__name__}: {problem}")
            return
        if len(self._faults) == 1:
            raise self._faults[0]
        if self._faults:
            raise ExceptionGroup("the emulator failed", self._faults)
        if violation is not None and self.strict:
            raise violation

    # ---------------------------------------------------------------------- knobs

    def drop(self, connection: ConnectionRecord | None = None) -> None:
        """Cut the open connections, or one of them, without a close frame."""
        for link, _ in self._chosen(connection):
            link.drop()

    def close(
        self, code: int = 1000, reason: str = "", *, connection: ConnectionRecord | None = None
    ) -> None:
        """Close the open connections, or one of them, with a close frame."""
        for link, _ in self._chosen(connection):
            link.close(code, reason)

    def send(
        self,
        event: events.ServerEvent | Mapping[str, Any] | str | bytes,
        *,
        connection: ConnectionRecord | None = None,
    ) -> None:
        """Send something on the newest open connection, or another one.

        Args:
            event: an event; a mapping, sent as JSON; text or bytes, sent as they are.
            connection: another one.
        """
        link, _ = self._chosen(connection)[-1]
        match event:
            case str() | bytes():
                link.send_raw(event)
            case msgspec.Struct():
                link.send(event)
            case _:
                link.send_raw(json.dumps(event))

    def speak(self, reply: Reply, *, connection: ConnectionRecord | None = None) -> None:
        """Begin a response that nothing has asked for, on the newest open connection."""
        _, handler = self._chosen(connection)[-1]
        handler.speak_unasked(reply)

    def freeze(self, connection: ConnectionRecord | None = None) -> None:
        """Hang: read and write nothing, not even pongs, with the connections open."""
        for link, _ in self._chosen(connection):
            link.freeze()

    def thaw(self, connection: ConnectionRecord | None = None) -> None:
        """End `freeze`; what was held back comes in one burst."""
        for link, _ in self._chosen(connection):
            link.thaw()

    def _chosen(self, connection: ConnectionRecord | None) -> list[tuple[Link, Handler]]:
        if connection is None:
            chosen = list(self._live.values())
        else:
            chosen = [live for number, live in self._live.items() if number == connection.number]
        if not chosen:
            raise LookupError("no such connection is open")
        return chosen

    # ---------------------------------------------------------------------- attempts to connect

    async def _answer_request(self, socket: ServerConnection, request: Request) -> Response | None:
        client = door.read(request)
        n_attempts = len(self.dials) + self.n_dialling - self._n_attempts_before
        self.n_dialling += 1
        self.changed()
        if self.offline:
            socket.transport.abort()
            self._note_attempt(client, 0)
            return socket.respond(503, "")
        try:
            refusal = await self._door.refuse(client, self.scenario, n_attempts=n_attempts)
        except Exception as fault:  # raised when the emulator is left
            self._fail(fault)
            refusal = door.Refusal(500, "the emulator failed\n")
        self._note_attempt(client, refusal.status if refusal else HTTPStatus.SWITCHING_PROTOCOLS)
        if refusal is None:
            return None
        response = socket.respond(refusal.status, refusal.text)
        if refusal.retry_after_s is not None:
            response.headers["Retry-After"] = str(refusal.retry_after_s)
        return response

    def _fail(self, *faults: Exception) -> None:
        self._faults.extend(faults)
        for fault in faults:
            self._on_fault(fault)

    def _note_attempt(self, client: door.Client, status: int) -> None:
        now = asyncio.get_running_loop().time()
        self.n_dialling -= 1
        dial = Dial(now, status, client.model, client.auth)
        self.dials.append(dial)
        self.changed()
        if status != HTTPStatus.SWITCHING_PROTOCOLS:
            self._on_end(dial)

    # ---------------------------------------------------------------------- connections

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None, "a connection has a request"
        client = door.read(socket.request)
        record = ConnectionRecord(
            number=len(self.connections) + 1,
            model=client.model or voices.DEFAULT_MODEL,
            auth=client.auth,
            query=client.query,
            headers=client.headers,
            opened_at_s=asyncio.get_running_loop().time(),
            session_id=str(uuid.uuid4()),
        )
        record.output_rate_hz = self.scenario.rate_of(record.model)
        self.connections.append(record)
        self.changed()
        try:
            await self._converse(socket, client, record)
        except ExceptionGroup as group:
            self._fail(*_leaves(group))
            await socket.close(1011, "the emulator failed")
        finally:
            self._live.pop(record.number, None)
            record.close_code = socket.close_code
            record.close_reason = socket.close_reason or ""
            record.closed_by_client = socket.protocol.close_rcvd_then_sent
            record.closed_at_s = asyncio.get_running_loop().time()
            self.changed()
            self._on_end(record)

    async def _converse(
        self, socket: ServerConnection, client: door.Client, record: ConnectionRecord
    ) -> None:
        scenario = self.scenario
        if isinstance(socket.protocol, _Protocol):
            socket.protocol.answers_pings = scenario.answers_pings
        async with asyncio.TaskGroup() as tasks:
            link = Link(socket, scenario, record, self, tasks)
            n_earlier = record.number - 1 - self._n_connections_before
            handler = Handler(link, is_full=n_earlier < scenario.server_full_connections)
            self._live[record.number] = link, handler
            link.spawn(link.write())
            if client.model is None:
                link.violate("missing_model")
            self._watch_key(link, client)
            if scenario.idle_timeout_s is not None:
                link.spawn(_close_when_idle(link, scenario.idle_timeout_s))
            if scenario.created_delay_s:
                await asyncio.sleep(scenario.created_delay_s)
            handler.open()
            try:
                async for frame in socket:
                    handler.receive(frame)
            except ConnectionClosed:
                pass
            await socket.wait_closed()
            link.cancel_tasks()

    def _watch_key(self, link: Link, client: door.Client) -> None:
        scenario = link.scenario
        left_s = self._door.token_left_s(client, scenario)
        if scenario.bad_key == "close_1008" and not self._door.accepts(client, scenario):
            link.close(1008, "bad key")
        elif scenario.expired_token == "closed" and left_s is not None:
            link.after(max(0.0, left_s), lambda: link.close(1008, "token expired"))


async def _close_when_idle(link: Link, timeout_s: float) -> None:
    left_s = timeout_s
    while left_s > 0:
        await asyncio.sleep(left_s)
        left_s = link.last_frame_at_s + timeout_s - link.now()
    link.close(1000, "idle")


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    leaves: list[Exception] = []
    for fault in group.exceptions:
        leaves.extend(_leaves(fault) if isinstance(fault, ExceptionGroup) else [fault])
    return leaves
