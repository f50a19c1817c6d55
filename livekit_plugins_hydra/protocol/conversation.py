"""One connection's conversation: handshake, turn, responses and function calls, without any I/O.

``receive(event, now)`` takes what the server sends, the other methods what this side wants;
all return the effects to perform. A reconnect is a new `Conversation`: nothing is reset
in place. The machines' tables are in `states`.

Rules that couple the machines:

* A barge-in (`speech_started`) closes the streams of the current response before the turn begins.
* `response.created` ends a turn that was not stopped, and closes the response before it.
* A READY connection sends outputs of functions in any state: the server may wait for them.
* The end of the connection ends everything else.

Frames that are late, doubled, foreign or out of order never raise and never affect another
response: they are dropped, and counted in `dropped`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain, count
from typing import Final, assert_never

from . import effects as fx
from . import events as ev
from .ceiling import Load
from .errors import (
    CODES_THAT_END_A_SESSION,
    HandshakeTimeout,
    LocalProtocolError,
    RemoteProtocolError,
    ServerError,
    ServerFull,
)
from .response import SILENCES_S, Response, failure_of, without_answer
from .states import HANDSHAKE, Handshake, Input, ResponseState, Signal, Turn, next_state
from .turns import UserTurn

HANDSHAKE_TIMEOUT_S: Final = 10.0
"""Longest wait for `session.created`, and again for `session.configured`. Our choice."""

REMEMBERED_RESPONSES: Final = 8
"""How many past responses may still deliver a late function call."""


class Conversation:
    """The protocol of one connection."""

    def __init__(self, new_event_id: Callable[[], str], call_ids: set[str] | None = None) -> None:
        """Begin a conversation on a socket that is about to open.

        Args:
            new_event_id: mints the `event_id` of each event that we send.
            call_ids: ids of all function calls so far, also of earlier connections; it adds its.
        """
        self._new_event_id = new_event_id
        self._handshake = Handshake.OPENED
        self._turn = UserTurn()
        self._responses: dict[str, Response] = {}
        self._current: Response | None = None
        """The newest one."""
        self._asked_at: float | None = None
        self._call_ids = set() if call_ids is None else call_ids
        self._open_calls: dict[str, str] = {}
        """The server's ids of the function calls that have no output yet, by our own."""
        self.load = Load()
        self._tools: list[ev.Tool] = []
        """The tools that the model should have."""
        self._sent_tools: list[ev.Tool] = []
        """The tools that the server was sent."""
        self._is_untouched = True
        self.dropped: Counter[str] = Counter()
        """How many frames were dropped, by reason."""

    def __repr__(self) -> str:
        states = [self.handshake.name, self.turn.name, self.response.name]
        calling = ["CALLING"] if self._open_calls else []
        return f"<Conversation {' '.join([*states, *calling])}>"

    # ------------------------------------------------------------------------------ facts

    @property
    def handshake(self) -> Handshake:
        """How far the connection is."""
        return self._handshake

    @property
    def turn(self) -> Turn:
        """Whether the user speaks."""
        return self._turn.state

    @property
    def unanswered_since(self) -> float:
        """When the user stopped, if nothing has come of that yet; else long ago."""
        return self._turn.stopped_at or float("-inf")

    @property
    def response(self) -> ResponseState:
        """The newest response's state."""
        return self._current.state if self._current else ResponseState.IDLE

    @property
    def is_ready(self) -> bool:
        """Whether audio may flow."""
        return self._handshake is Handshake.READY

    @property
    def is_untouched(self) -> bool:
        """Whether neither side has spoken on this connection yet."""
        return self._is_untouched

    @property
    def is_free(self) -> bool:
        """Whether a response may be asked for: nobody speaks, nothing is in flight."""
        in_flight = self._current is not None and self._current.is_in_flight
        return self.is_ready and self.turn is Turn.QUIET and not in_flight

    @property
    def has_begun_to_answer(self) -> bool:
        """Whether the newest response has said something or called a function."""
        return self._current is not None and self._current.has_answered

    @property
    def open_calls(self) -> frozenset[str]:
        """Ids of this connection's function calls that have no output yet."""
        return frozenset(self._open_calls)

    # ----------------------------------------------------------------------- what we send

    def open(self) -> list[fx.Effect]:
        """The socket is open."""
        return [fx.StartTimer("handshake", HANDSHAKE_TIMEOUT_S)]

    def configure(self, session: ev.ClientSession, now: float) -> list[fx.Effect]:
        """Send the configuration, once.

        Raises:
            LocalProtocolError: the server does not wait for one.
        """
        if not self._move_handshake(Signal.CONFIGURE):
            raise LocalProtocolError(f"configure() while {self!r}")
        self._tools = self._sent_tools = list(session.tools or ())
        if session.generate_initial_response:
            self._asked_at = now
        event = ev.SessionConfigure(event_id=self._new_event_id(), session=session)
        self.load.configure(event)
        return [fx.Send(event), fx.StartTimer("handshake", HANDSHAKE_TIMEOUT_S)]

    def update_tools(self, tools: list[ev.Tool]) -> list[fx.Effect]:
        """Replace the tools; an unchanged list sends nothing.

        The server takes no change before `session.configured`: until then the list waits.

        Raises:
            LocalProtocolError: the configuration was not sent yet; put them there.
        """
        if self._handshake not in (Handshake.CONFIGURING, Handshake.READY):
            raise LocalProtocolError(f"update_tools() while {self!r}")
        self._tools = list(tools)
        return self._send_tools() if self.is_ready else []

    def _send_tools(self) -> list[fx.Effect]:
        if self._tools == self._sent_tools:
            return []
        self._sent_tools = self._tools
        self.load.update_tools(self._tools)
        session = ev.ClientSession(tools=self._tools)
        return [fx.Send(ev.SessionUpdate(event_id=self._new_event_id(), session=session))]

    def post_output(self, call_id: str, output: str) -> list[fx.Effect]:
        """Send the output of an open function call.

        Raises:
            LocalProtocolError: it is not one of this connection's, or has an output.
        """
        if call_id not in self._open_calls:
            raise LocalProtocolError(f"post_output() for no open function call, while {self!r}")
        wire_id = self._open_calls.pop(call_id)
        text = self.load.fit(output)
        return [self._send_item(ev.Item(type="function_call_output", call_id=wire_id, output=text))]

    def add_message(self, role: str, text: str) -> list[fx.Effect]:
        """Send a text item; whether the server takes them is not known.

        Raises:
            LocalProtocolError: the connection is not READY.
        """
        if not self.is_ready:
            raise LocalProtocolError(f"add_message() while {self!r}")
        content = [ev.Content(type="input_text", text=self.load.fit(text))]
        return [self._send_item(ev.Item(type="message", role=role, content=content))]

    def create_response(self, now: float) -> list[fx.Effect]:
        """Ask for a response.

        Raises:
            LocalProtocolError: somebody speaks, or a response is in flight.
        """
        if not self.is_free:
            raise LocalProtocolError(f"create_response() while {self!r}")
        self._asked_at = now
        return [fx.Send(ev.ResponseCreate(event_id=self._new_event_id()))]

    def cancel_response(self) -> list[fx.Effect]:
        """Cancel the current response if it is generating.

        One that only waits for outputs goes on: else the server would give its functions up.
        """
        response = self._current
        if response is None or response.state is not ResponseState.GENERATING:
            return []
        cancel = ev.ResponseCancel(event_id=self._new_event_id(), response_id=response.id)
        return [fx.Send(cancel), *self._answering(response.cut(Signal.CANCELLED))]

    def lose(self) -> list[fx.Effect]:
        """The connection has ended, or is left; everything else ends with it."""
        out: list[fx.Effect] = []
        if not self._move_handshake(Signal.LOST):
            return out
        out += [fx.CancelTimer("handshake"), fx.CancelTimer("answer")]
        for response in self._responses.values():
            out += response.retire("lost")
            out += [fx.CancelTimer(f"{kind}:{response.id}") for kind in SILENCES_S]
        out += self._turn.lost()
        self._open_calls.clear()
        return out

    def timer(self, name: str, now: float) -> list[fx.Effect]:
        """A timer that an effect asked for has run out."""
        kind, _, response_id = name.partition(":")
        match kind:
            case "handshake" if self._handshake is Handshake.OPENED:
                return [_timeout("session.created")]
            case "handshake" if self._handshake is Handshake.CONFIGURING:
                return [_timeout("session.configured")]
            case "answer":
                return self._turn.overdue()
            case "grace" | "stall" | "cut" | "end" if response_id in self._responses:
                response, speaks = self._responses[response_id], self.turn is Turn.SPEAKING
                is_late = self._is_late(response)
                return self._answering(response.silent(kind, now, speaks=speaks, is_late=is_late))
            case _:
                return []

    # ------------------------------------------------------------------- the server's events

    def receive(self, event: ev.ServerEvent | ev.UnknownEvent, now: float) -> list[fx.Effect]:
        """Take one event of the server.

        A response answers the turn before it: once the user has spoken again, what comes of it
        answers nothing.
        """
        if self.turn is Turn.QUIET:
            return self._receive(event, now)
        return without_answer(self._receive(event, now))

    def _receive(self, event: ev.ServerEvent | ev.UnknownEvent, now: float) -> list[fx.Effect]:
        if self._handshake is Handshake.CLOSED:
            return self._drop("after the end")
        match event:
            case (
                ev.ResponseOutputAudioDelta()
                | ev.ResponseOutputAudioTranscriptDelta()
                | ev.ResponseOutputAudioTranscriptDone()
                | ev.ResponseFunctionCallArgumentsDelta()
                | ev.ResponseFunctionCallArgumentsDone()
            ):
                return self._receive_of_response(event, now)
            case ev.ResponseCreated(response=body):
                return self._receive_created(body, now)
            case ev.ResponseDone(response=body):
                return self._receive_done(body, now)
            case ev.InputAudioBufferSpeechStarted(item_id=item_id, audio_start_ms=audio_ms):
                return self._receive_speech_started(item_id, audio_ms)
            case ev.InputAudioBufferSpeechStopped(item_id=item_id, audio_end_ms=audio_ms):
                stopped = self._turn.stopped(item_id, audio_ms, now)
                return stopped or self._drop("late speech_stopped")
            case ev.ConversationItemDone(item=item) if self._is_the_users(item):
                return self._turn.item_done(item)
            case ev.ConversationItemDone(item=item) if item.role == "assistant":
                response = self._speaker_of(item.id)
                return response.part_ended(type(event), now) if response else []
            case ev.ResponseOutputAudioDone(response_id=response_id):
                response = self._find(response_id)
                return response.part_ended(type(event), now) if response else []
            case ev.SessionCreated() | ev.SessionConfigured():
                if not self._move_handshake(type(event)):
                    return self._drop("unexpected", is_strange=True, detail=event.type)
                if isinstance(event, ev.SessionCreated):
                    return []
                ready = fx.SessionReady(event.session)
                return [fx.CancelTimer("handshake"), ready, *self._send_tools()]
            case ev.Error(error=error):
                return self._receive_error(error)
            case ev.UnknownEvent(type=kind):
                return self._drop("unknown type", is_strange=True, detail=kind)
            case (
                ev.Warning()
                | ev.SessionUpdated()
                | ev.ConversationItemAdded()
                | ev.ConversationItemDone()
            ):
                # They say nothing that another event does not say as well.
                return []
            case _:
                assert_never(event)

    def _receive_speech_started(
        self, item_id: str | None, audio_ms: float | None
    ) -> list[fx.Effect]:
        if not self.is_ready:
            return self._drop("speech before session.configured", is_strange=True)
        out: list[fx.Effect] = []
        if self._current and self._current.state is ResponseState.GENERATING:
            out += self._current.cut(ev.InputAudioBufferSpeechStarted)
        self._is_untouched = False
        return [*out, *self._turn.started(item_id, audio_ms)]

    def _is_the_users(self, item: ev.Item) -> bool:
        is_announced = item.id is not None and item.id == self._turn.item_id
        return item.role == "user" or (item.role is None and is_announced)

    def _receive_created(self, body: ev.Response, now: float) -> list[fx.Effect]:
        if not self.is_ready or body.id in self._responses:
            return self._drop("doubled or early response.created", is_strange=True)
        out = self._current.move(Signal.STREAMS_CLOSED) if self._current else []
        is_asked = self.turn is Turn.QUIET and self._asked_at is not None
        requested_at = self._asked_at if is_asked else self._turn.stopped_at
        out += self._turn.answered()
        self._asked_at = self._turn.stopped_at = None
        self._is_untouched = False
        self._current = Response(body.id, now if requested_at is None else requested_at, now)
        self._responses[body.id] = self._current
        if len(self._responses) > REMEMBERED_RESPONSES:
            oldest = self._responses.pop(next(iter(self._responses)))
            out += oldest.retire("completed")
        return [*out, *self._current.begin()]

    def _receive_of_response(
        self,
        event: ev.ResponseOutputAudioDelta
        | ev.ResponseOutputAudioTranscriptDelta
        | ev.ResponseOutputAudioTranscriptDone
        | ev.ResponseFunctionCallArgumentsDelta
        | ev.ResponseFunctionCallArgumentsDone,
        now: float,
    ) -> list[fx.Effect]:
        response = self._find(event.response_id)
        if response is None:
            return self._drop(f"{event.type} of an unknown response", is_strange=True)
        response.last_event_at = now
        match event:
            case ev.ResponseOutputAudioDelta(delta=pcm):
                return self._receive_audio(response, event.item_id or "", pcm, now)
            case ev.ResponseOutputAudioTranscriptDelta(delta=text):
                return self._receive_text(response, event.item_id or "", text)
            case ev.ResponseOutputAudioTranscriptDone(transcript=text):
                return self._receive_transcript(response, event.item_id or "", text or "")
            case ev.ResponseFunctionCallArgumentsDone():
                return self._receive_function_call(response, event)
            case _:
                return []  # a function call counts when it is complete

    def _receive_audio(
        self, response: Response, item_id: str, pcm: bytes, now: float
    ) -> list[fx.Effect]:
        if not pcm:
            return []
        if self._is_late(response):
            response.first_audio_at = response.first_audio_at or now
            return [fx.LateAudio(response.id, pcm)]
        can_reopen = response is self._current and response.state is ResponseState.WAITING
        if self._is_silenced(response) or not (response.is_open or can_reopen):
            return self._drop("late audio")
        out = response.reopen()
        if response.first_audio_at is None:
            response.first_audio_at = now
        response.has_begun = True
        response.items.add(item_id)
        response.ended.clear()
        return [*out, fx.OutputAudio(response.part_id, item_id, pcm)]

    def _receive_text(self, response: Response, item_id: str, text: str) -> list[fx.Effect]:
        if not text:
            return []
        if self._is_late(response):
            return [fx.LateText(response.id, text)]
        if self._is_silenced(response) or not response.is_open:
            return self._drop("late text")
        response.has_begun = True
        return [fx.OutputText(response.part_id, item_id, text)]

    def _receive_transcript(self, response: Response, item_id: str, text: str) -> list[fx.Effect]:
        if not text.strip():
            return []
        if self._is_silenced(response) or not response.is_open:
            return self._drop("late text")
        response.has_begun = True
        return [fx.OutputTranscript(response.part_id, item_id, text)]

    def _receive_function_call(
        self, response: Response, event: ev.ResponseFunctionCallArgumentsDone
    ) -> list[fx.Effect]:
        if event.call_id in response.call_ids:
            return self._drop("doubled function call")
        response.call_ids.add(event.call_id)
        call_id = self._unique_call_id(event.call_id)
        self._open_calls[call_id] = event.call_id
        out = response.reopen()
        response.has_begun = True
        call = fx.CallFunction(
            response.part_id,
            item_id=event.item_id or f"item_{call_id}",
            call_id=call_id,
            name=event.name or "",
            arguments=event.arguments or "{}",
        )
        return [*out, call, fx.UserAnswered(), response.start_grace()]

    def _unique_call_id(self, wire_id: str) -> str:
        """Return an id for a function call: the server's, unless an earlier call had that."""
        others = (f"{wire_id}+{number}" for number in count(1))
        call_id = next(each for each in chain([wire_id], others) if each not in self._call_ids)
        self._call_ids.add(call_id)
        return call_id

    def _receive_done(self, body: ev.Response, now: float) -> list[fx.Effect]:
        response = self._find(body.id)
        if response is None:
            return self._drop("response.done of an unknown response", is_strange=True)
        response.last_event_at = now
        out = response.move(ev.ResponseDone)
        if response.is_accounted:
            return [*out, *self._drop("late response.done")]
        status = "cancelled" if response.is_cut else body.status or "completed"
        out += response.account(status, body.usage, now)
        if status == "failed":
            out.append(fx.Fault(failure_of(body), fatal=False))
        return out

    def _receive_error(self, body: ev.ErrorBody) -> list[fx.Effect]:
        code = body.code or body.type or "unknown_error"
        error = ServerError(code, body.message or "", param=body.param, event_id=body.event_id)
        if code in CODES_THAT_END_A_SESSION:
            return [fx.Fault(ServerFull() if code == "server_full" else error, fatal=True)]
        out: list[fx.Effect] = []
        if code == "tool_response_timeout" and not self._open_calls:
            return []  # all outputs are sent, and wanted no reply: nothing was given up
        if code == "tool_response_timeout":
            self._open_calls.clear()
            if self._current and self._current.has_called:
                out += self._current.move(Signal.STREAMS_CLOSED)
        return [*out, fx.Fault(error, fatal=not self.is_ready)]

    # ------------------------------------------------------------------------ responses

    def _find(self, response_id: str | None) -> Response | None:
        """Return the response with that id; an event without one belongs to the newest."""
        return self._current if response_id is None else self._responses.get(response_id)

    def _speaker_of(self, item_id: str | None) -> Response | None:
        """Return the response whose audio had that item; an item without one is the newest's."""
        spoken = (each for each in self._responses.values() if item_id in each.items)
        return next(spoken, self._current)

    def _answering(self, effects: list[fx.Effect]) -> list[fx.Effect]:
        return effects if self.turn is Turn.QUIET else without_answer(effects)

    def _is_late(self, response: Response) -> bool:
        """Whether what comes of `response` is kept, as the user may have cut it by a cough."""
        return response is self._current and response.cut_by is ev.InputAudioBufferSpeechStarted

    def _is_silenced(self, response: Response) -> bool:
        """Whether `response` may not be played: it was cut, or a turn came after it."""
        return response.is_cut or self.turn is not Turn.QUIET

    # ------------------------------------------------------------------------- machinery

    def _move_handshake(self, why: Input) -> bool:
        state = next_state(HANDSHAKE, self._handshake, why)
        self._handshake = state or self._handshake
        return state is not None

    def _send_item(self, item: ev.Item) -> fx.Send:
        event = ev.ConversationItemCreate(event_id=self._new_event_id(), item=item)
        self.load.add(event)
        return fx.Send(event)

    def _drop(self, reason: str, *, is_strange: bool = False, detail: str = "") -> list[fx.Effect]:
        """Count a dropped frame; report the first for each strange reason."""
        self.dropped[reason] += 1
        if not is_strange or self.dropped[reason] > 1:
            return []
        fault = RemoteProtocolError(f"dropped: {reason} {detail[:80]}".rstrip())
        return [fx.Fault(fault, fatal=False)]


def _timeout(waiting_for: str) -> fx.Fault:
    return fx.Fault(HandshakeTimeout(waiting_for, HANDSHAKE_TIMEOUT_S), fatal=True)
