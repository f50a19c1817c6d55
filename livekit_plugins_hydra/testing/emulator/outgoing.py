"""One response, from `response.created` to `response.done`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from livekit_plugins_hydra.protocol import events

from .link import Link
from .records import ResponseRecord
from .replies import Call, Context, End, Piece, Say, ToolOutput, TranscriptDeltas, Wait, cut_text

_LATE_EVENTS_AFTER_DELTAS: Final = 3
"""A late `speech_stopped` comes after this much of the answer. Source: eva saw it, not how late."""

_RAGGED_LENGTHS: Final = (4, 0, 1)
"""Between whole deltas: shorter than 6 bytes, empty, odd. Source: the clients that guard."""

_AUDIO_PER_TEXT: Final[Mapping[TranscriptDeltas, int]] = {
    "phrases": 8,
    "spaced_phrases": 8,
    "tokens": 2,
}
"""How many audio deltas follow each transcript delta: about ten words for a second of audio."""

_TOKENS_PER_S: Final = 12.5
"""Plausible usage; nothing is known of the real count."""


class OutgoingResponse:
    """Plays the pieces of one response; ends once, by itself or by `cancel`."""

    def __init__(
        self,
        link: Link,
        context: Context,
        pieces: Sequence[Piece],
        *,
        late_events: Iterable[events.ServerEvent] = (),
        silent: bool = False,
        on_call: Callable[[OutgoingResponse, ToolOutput], None],
        on_end: Callable[[OutgoingResponse], None],
    ) -> None:
        self._link = link
        self._scenario = link.scenario
        self._context = context
        self._pieces = pieces
        self._late_events = list(late_events)
        self._silent = silent
        self._on_call = on_call
        self._on_end = on_end
        self._output: list[events.Item] = []
        self._open_item: events.Item | None = None
        self._open_item_id = ""
        self._n_deltas = 0
        self._has_text = False
        self._unsent: Iterator[bytes] = iter(())
        self._task: asyncio.Task[None] | None = None
        self.record = ResponseRecord(
            id=link.new_id("resp"), trigger=context.trigger, created_at_s=link.now()
        )
        self.done_sent = False

    @property
    def id(self) -> str:
        """The response's id."""
        return self.record.id

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.record.ended_at_s is None

    def begin(self) -> None:
        """Send `response.created` and start to play."""
        self._link.record.responses.append(self.record)
        self._link.send(
            events.ResponseCreated(response=events.Response(id=self.id, status="in_progress"))
        )
        self._task = self._link.spawn(self._play())

    def cancel(self, reason: str) -> None:
        """Stop it, as cancelled for `reason`; nothing happens if it has ended."""
        if not self.is_active:
            return
        if self._task is not None:
            self._task.cancel()
        self.send_late_events()
        self._end("cancelled", reason)

    def close_cancelled(self) -> None:
        """Send the end of a cancelled response and of its open item, once."""
        if self._open_item is not None and self._scenario.cancelled_items_close:
            if self._open_item.type == "message":
                self._end_audio()
            self._end_item("incomplete")
        self._open_item = None
        self.send_done()

    def send_late_events(self) -> None:
        """Send what was held back until some audio was sent, if it wasn't yet."""
        for event in self._late_events:
            self._link.send(event)
        self._late_events = []

    def send_late_deltas(self, count: int) -> None:
        """Send audio of a cancelled response, as if it had been on its way."""
        for delta in itertools.islice(self._unsent, count):
            self._send_delta(delta)

    def send_done(self) -> None:
        """Send `response.done`, once."""
        if self.done_sent:
            return
        self.done_sent = True
        record = self.record
        details = None
        if record.status != "completed":
            code = record.reason if record.status == "failed" else None
            details = events.StatusDetails(
                type=record.status,
                reason=record.reason,
                error=events.ErrorBody(type="server_error", code=code) if code else None,
            )
        self._link.send(
            events.ResponseDone(
                response=events.Response(
                    id=self.id,
                    status=record.status,
                    status_details=details,
                    output=self._output if self._scenario.response_output else None,
                    usage=self._usage(),
                )
            )
        )

    # ---------------------------------------------------------------------- playing

    async def _play(self) -> None:
        status, reason = "completed", None
        for piece in self._pieces:
            match piece:
                case Say():
                    await self._say(piece)
                case Call():
                    await self._call(piece)
                case Wait(duration_s=duration_s):
                    await asyncio.sleep(duration_s)
                case End():
                    status, reason = piece.status, piece.error_code or piece.reason
                    break
        self.send_late_events()
        self._end(status, reason)
        self._on_end(self)

    async def _say(self, say: Say) -> None:
        self._add_item(
            events.Item(
                type="message",
                role="assistant",
                status="in_progress",
                content=[events.Content(type="output_audio")],
            ),
            self._link.new_id("item"),
        )
        if not self._silent:
            await self._send_audio(say)
            self._end_audio()
        self._end_item("completed")

    async def _send_audio(self, say: Say) -> None:
        rate_hz = self._link.record.output_rate_hz
        text = self._cut_text(say.text or "") if self._scenario.transcripts else iter(())
        self._unsent = self._cut(say.sound(rate_hz), rate_hz)
        if self._scenario.first_audio_delay_s and not self._n_deltas:
            await asyncio.sleep(self._scenario.first_audio_delay_s)
        begun_at_s = self._link.now()
        n_bytes = 0
        for number, delta in enumerate(self._unsent):
            if number % _AUDIO_PER_TEXT[self._scenario.transcript_deltas] == 0:
                self._send_text(next(text, None))
            self._send_delta(delta)
            n_bytes += len(delta)
            if self._n_deltas == _LATE_EVENTS_AFTER_DELTAS:
                self.send_late_events()
            due_at_s = begun_at_s + n_bytes / (2 * rate_hz) / self._scenario.audio_speed
            await self._link.room()
            await asyncio.sleep(max(0.0, due_at_s - self._link.now()))
        for piece in text:
            self._send_text(piece)

    def _cut_text(self, text: str) -> Iterator[str]:
        pieces = cut_text(text, self._scenario.transcript_deltas, goes_on=self._has_text)
        self._has_text = self._has_text or bool(pieces)
        return iter(pieces)

    def _cut(self, pcm: bytes, rate_hz: int) -> Iterator[bytes]:
        whole = 2 * max(1, rate_hz * self._scenario.delta_ms // 1000)
        lengths: Iterable[int] = itertools.repeat(whole)
        if self._scenario.ragged_deltas:
            lengths = itertools.cycle(
                itertools.chain.from_iterable((whole, short) for short in _RAGGED_LENGTHS)
            )
        position = 0
        for length in lengths:
            if position >= len(pcm):
                return
            yield pcm[position : position + length]
            position += length

    async def _call(self, call: Call) -> None:
        call_id = call.call_id or self._link.new_id("call")
        item_id = self._link.new_id("item")
        self._add_item(
            events.Item(
                type="function_call",
                role="assistant",
                status="in_progress",
                call_id=call_id,
                name=call.name,
            ),
            item_id,
        )
        shown_id = index = None
        if self._scenario.function_call_ids:
            shown_id, index = self._link.shown(item_id), self._link.index(len(self._output))
        for number, delta in enumerate(call.deltas):
            if number and call.delta_s:
                await asyncio.sleep(call.delta_s)
            self._link.send(
                events.ResponseFunctionCallArgumentsDelta(
                    response_id=self.id,
                    item_id=shown_id,
                    output_index=index,
                    call_id=call_id,
                    name=None if number else call.name,
                    delta=delta,
                )
            )
        self._link.send(
            events.ResponseFunctionCallArgumentsDone(
                response_id=self.id,
                item_id=shown_id,
                output_index=index,
                call_id=call_id,
                name=call.name,
                arguments=call.json,
            )
        )
        self._open_item = self._open_item and msgspec.structs.replace(
            self._open_item, arguments=call.json
        )
        self._end_item("completed")
        self.record.call_ids.append(call_id)
        made = ToolOutput(call_id=call_id, name=call.name, arguments=call.json, output="")
        self._on_call(self, made)

    # ---------------------------------------------------------------------- single events

    def _send_delta(self, delta: bytes) -> None:
        self._n_deltas += 1
        self._link.send(
            events.ResponseOutputAudioDelta(
                response_id=self.id,
                item_id=self._named_by("audio"),
                output_index=self._link.index(len(self._output)),
                content_index=self._link.index(0),
                delta=delta,
            ),
            into=self.record,
        )

    def _send_text(self, piece: str | None) -> None:
        if piece is not None:
            self._link.send(
                events.ResponseOutputAudioTranscriptDelta(
                    response_id=self.id,
                    item_id=self._named_by("text"),
                    output_index=self._link.index(len(self._output)),
                    content_index=self._link.index(0),
                    delta=piece,
                )
            )

    def _named_by(self, kind: str) -> str | None:
        """Return the item's id, where deltas of this kind have it."""
        is_named = self._link.scenario.delta_item_ids in ("all", kind)
        return self._link.shown(self._open_item_id) if is_named else None

    def _end_audio(self) -> None:
        self._link.send(
            events.ResponseOutputAudioDone(
                response_id=self.id,
                item_id=self._link.shown(self._open_item_id),
                output_index=self._link.index(len(self._output)),
                content_index=self._link.index(0),
            )
        )

    def _add_item(self, item: events.Item, item_id: str) -> None:
        self._open_item = msgspec.structs.replace(item, id=self._link.shown(item_id))
        self._open_item_id = item_id
        self._link.add_item(self._open_item, item_id)

    def _end_item(self, status: str) -> None:
        if self._open_item is not None:
            item = msgspec.structs.replace(self._open_item, status=status)
            self._output = [*self._output, item]
            self._open_item = None
            self._link.end_item(item, self._open_item_id)

    def _end(self, status: str, reason: str | None) -> None:
        self.record.status = status
        self.record.reason = reason
        self.record.ended_at_s = self._link.now()

    def _usage(self) -> events.Usage | None:
        match self._scenario.usage:
            case "absent":
                return None
            case "zero":
                return events.Usage(input_tokens=0, output_tokens=0, total_tokens=0)
            case "present":
                turn = self._context.turn
                heard_s = turn.duration_s if turn else 0.0
                said_s = len(self.record.pcm) / 2 / self._link.record.output_rate_hz
                n_in = 1 + round(heard_s * _TOKENS_PER_S)
                n_out = 1 + round(said_s * _TOKENS_PER_S)
                return events.Usage(
                    input_tokens=n_in, output_tokens=n_out, total_tokens=n_in + n_out
                )
