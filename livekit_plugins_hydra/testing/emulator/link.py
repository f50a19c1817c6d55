"""The server's end of one connection: what goes out, its ids, its record, its tasks.

Everything that decides is synchronous: `send` records and queues, one task writes. So the order of
the record is the order on the wire, and no decision is ever half made when another one comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from livekit_plugins_hydra.protocol import events, wire

from .records import ConnectionRecord, Received, ResponseRecord, Rule, Sent, Violation
from .scenario import Scenario

_QUEUE_LIMIT: Final = 32
"""Frames that may wait for a slow reader before a response pauses."""

CLOSE_CODE_OF: Final = {"server_full": 1013, "invalid_request_error": 1008, "internal_error": 1011}
"""How the server closes after an `error`; 1000 after the others. Source: docs; 1000 is a guess."""


@dataclass(frozen=True, slots=True)
class _Close:
    code: int
    reason: str


class Owner(Protocol):
    """What a connection needs of its emulator."""

    def noted(self, record: ConnectionRecord, what: Received | Sent | Violation) -> None:
        """Take note that something was recorded."""

    def next_response_number(self) -> int:
        """Return the number of the response that now begins, over all connections."""


class Link:
    """One connection, as those see it who have something to send."""

    def __init__(
        self,
        socket: ServerConnection,
        scenario: Scenario,
        record: ConnectionRecord,
        owner: Owner,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.scenario = scenario
        self.record = record
        self.owner = owner
        self._socket = socket
        self._group = tasks
        self._tasks: set[asyncio.Task[None]] = set()
        self._queue: asyncio.Queue[str | bytes | _Close] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._clock = asyncio.get_running_loop().time
        self._n_events = 0
        self._n_items = 0
        self._last_item_id: str | None = None
        self._previous_of: dict[str, str | None] = {}
        self.is_closing = False
        """Whether the end of the connection is decided; nothing is sent or received any more."""

        self.last_frame_at_s = self.now()

    def now(self) -> float:
        """Return the loop's time in seconds."""
        return self._clock()

    # ---------------------------------------------------------------------- tasks and timers

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as long as the connection stands; its failure is the emulator's."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def after(self, delay_s: float, act: Callable[[], None]) -> asyncio.Task[None]:
        """Call `act` in `delay_s` seconds, unless the returned task is cancelled."""

        async def wait() -> None:
            await asyncio.sleep(delay_s)
            act()

        return self.spawn(wait())

    def cancel_tasks(self) -> None:
        """End all that `spawn` began."""
        for task in self._tasks:
            task.cancel()

    # ---------------------------------------------------------------------- ids

    def new_id(self, kind: str) -> str:
        """Return a new id, unique over all connections of an emulator."""
        self._n_items += 1
        return f"{kind}_{self.record.number}_{self._n_items}"

    def shown(self, item_id: str) -> str | None:
        """Return an item's id, or None where the scenario sends none."""
        return item_id if self.scenario.item_ids else None

    def index(self, value: int) -> int | None:
        """Return an index, or None where the scenario sends none."""
        return value if self.scenario.indexes else None

    # ---------------------------------------------------------------------- sending

    def send(self, event: events.ServerEvent, *, into: ResponseRecord | None = None) -> None:
        """Send `event`; the audio of a delta is added to the response's record."""
        if self.is_closing:
            return
        self._n_events += 1
        if self.scenario.event_ids and event.event_id is None:
            event_id = f"sv_{self.record.number:04x}{self._n_events:012x}"
            event = msgspec.structs.replace(event, event_id=event_id)
        n_audio_bytes = 0
        if isinstance(event, events.ResponseOutputAudioDelta):
            n_audio_bytes = len(event.delta)
            if into is not None:
                (into.pcm if into.status == "in_progress" else into.late_pcm).extend(event.delta)
        self._queue_frame(self._encode(event))
        sent = Sent(self.now(), wire.elide(event), n_audio_bytes)
        self.record.server_events.append(sent)
        self.owner.noted(self.record, sent)

    def _encode(self, event: events.ServerEvent) -> str:
        """Return the text frame of `event`, as the scenario has it."""
        if self.scenario.explicit_nulls:
            frame = msgspec.json.encode(_with_nulls(event))
        else:
            frame = wire.encode(event)
        if (
            isinstance(event, events.ResponseOutputAudioDelta)
            and self.scenario.audio_delta_field == "audio"
        ):
            fields = msgspec.json.decode(frame)
            frame = msgspec.json.encode(fields | {"audio": fields.pop("delta")})
        return frame.decode()

    def send_raw(self, frame: str | bytes) -> None:
        """Send a frame that a test made up; bytes go out as a binary frame."""
        self._queue_frame(frame)
        text = frame if isinstance(frame, str) else f"<{len(frame)} binary bytes>"
        sent = Sent(self.now(), text)
        self.record.server_events.append(sent)
        self.owner.noted(self.record, sent)

    def send_error(
        self, code: str, message: str, *, param: str | None = None, event_id: str | None = None
    ) -> None:
        """Send an `error`, and close where the scenario closes after its code."""
        kinds = {"server_full": "server_error", "internal_error": "server_error"}
        body = events.ErrorBody(
            type=kinds.get(code, "invalid_request_error"),
            code=code,
            message=message,
            param=param,
            event_id=event_id if self.scenario.echoes_event_ids else None,
        )
        self.send(events.Error(error=body))
        if code in self.scenario.closes_after:
            self.close(CLOSE_CODE_OF.get(code, 1000), code)

    def add_item(self, item: events.Item, item_id: str) -> None:
        """Send `conversation.item.added`, chained to the item before."""
        previous, self._last_item_id = self._last_item_id, item_id
        shown = previous and self.shown(previous)
        self._previous_of[item_id] = shown
        self.send(events.ConversationItemAdded(item=item, previous_item_id=shown))

    def end_item(self, item: events.Item, item_id: str) -> None:
        """Send `conversation.item.done`."""
        previous = self._previous_of.pop(item_id, None)
        self.send(events.ConversationItemDone(item=item, previous_item_id=previous))

    def _queue_frame(self, frame: str | bytes) -> None:
        self.last_frame_at_s = self.now()
        self._queue.put_nowait(frame)
        if self._queue.qsize() > _QUEUE_LIMIT:
            self._room.clear()

    async def room(self) -> None:
        """Wait while the client does not read."""
        await self._room.wait()

    async def write(self) -> None:
        """Write what is queued, until the connection ends."""
        try:
            while True:
                frame = await self._queue.get()
                await self._thawed.wait()
                if isinstance(frame, _Close):
                    await self._socket.close(frame.code, frame.reason)
                    return
                await self._socket.send(frame)
                if self._queue.empty():
                    self._room.set()
        except ConnectionClosed:
            self.is_closing = True

    # ---------------------------------------------------------------------- ends and faults

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection after what is queued."""
        if self.is_closing:
            return
        self.is_closing = True
        self._queue.put_nowait(_Close(code, reason))

    def drop(self) -> None:
        """Cut the connection without a close frame."""
        self.is_closing = True
        self._socket.transport.abort()

    def freeze(self) -> None:
        """Neither read nor write, with the connection open: a hung server."""
        self._thawed.clear()
        self._socket.transport.pause_reading()

    def thaw(self) -> None:
        """End `freeze`."""
        self._thawed.set()
        self._socket.transport.resume_reading()

    def violate(self, rule: Rule, detail: str = "") -> None:
        """Hold something against the client, unless the scenario tolerates it."""
        if rule in self.scenario.tolerate:
            return
        violation = Violation(rule, self.record.number, self.now(), detail)
        self.record.violations.append(violation)
        self.owner.noted(self.record, violation)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag_field else {}
        return tag | {name: _with_nulls(getattr(value, name)) for name in value.__struct_fields__}
    return [_with_nulls(each) for each in value] if isinstance(value, list) else value
