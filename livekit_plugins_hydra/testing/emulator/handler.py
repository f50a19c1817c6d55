"""One connection: handshake, the client's frames one by one, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from livekit_plugins_hydra.protocol import events, voices, wire
from livekit_plugins_hydra.protocol.errors import RemoteProtocolError

from .ceiling import Ceiling
from .listener import Listener
from .records import Received
from .responder import Responder

if TYPE_CHECKING:
    from .link import Link
    from .replies import Reply

_BYTES_PER_S: Final = 32_000
"""int16 mono at 16 kHz."""

_MAX_APPEND_BYTES: Final = 3200
"""100 ms: the longest chunks that are known to work. Source: eva."""

_SEED_VOICES: Final = voices.MODELS["hydra"].voices

_UPDATE_FIELDS: Final = frozenset({"type", "event_id", "session"})


class Handler:
    """Serves one client, or has no room for it."""

    def __init__(self, link: Link, *, is_full: bool) -> None:
        self._is_full = is_full
        self._link = link
        self._scenario = link.scenario
        self._record = link.record
        self._ceiling = Ceiling(link)
        self._responder = Responder(link, self._ceiling)
        self._listener = Listener(link, self._responder)
        self._asked = False
        self._refused = False
        self._queued_audio_s = 0.0
        self._queue_read_at_s = 0.0
        self._received_s = 0.0

    @property
    def _is_configured(self) -> bool:
        return self._record.configured_at_s is not None

    def open(self) -> None:
        """Say hello."""
        if self._is_full:
            self._link.send_error("server_full", "no capacity for another session")
            return
        if self._record.model in self._scenario.deprecated_models:
            self._warn()
        if self._scenario.handshake != "never_created":
            self._link.send(events.SessionCreated(session_id=self._record.session_id))

    def speak_unasked(self, reply: Reply) -> None:
        """Begin a response that nothing has asked for."""
        self._responder.speak_unasked(reply)

    def receive(self, frame: str | bytes) -> None:
        """Take in one frame of the client."""
        if self._link.is_closing:
            return  # the client can't know yet
        self._link.last_frame_at_s = self._link.now()
        if isinstance(frame, bytes):
            self._link.violate("binary_frame", f"{len(frame)} bytes")
            self._refuse_schema("binary frames are not supported")
            return
        try:
            event = wire.decode_client(frame)
        except RemoteProtocolError as fault:
            self._receive_malformed(frame, str(fault))
            return
        if isinstance(event, events.InputAudioBufferAppend):
            self._receive_audio(event, len(frame))
            return
        received = Received(self._link.now(), event, size_bytes=len(frame.encode()))
        self._record.client_events.append(received)
        self._link.owner.noted(self._record, received)
        if self._scenario.handshake == "never_created":
            return
        match event:
            case events.SessionConfigure():
                self._configure(event, received.size_bytes, json.loads(frame)["session"])
            case events.UnknownEvent():
                self._link.violate("unknown_type", event.type)
                if self._scenario.unknown_types == "refused":
                    self._refuse_schema(f"unknown type {event.type}", _event_id(frame))
            case _ if not self._is_configured:
                self._link.violate("event_before_configured", event.type)
                self._refuse("the session is not configured", event_id=event.event_id)
            case events.SessionUpdate():
                self._update(event, json.loads(frame))
            case events.ConversationItemCreate():
                self._create_item(event, received.size_bytes)
            case events.ResponseCreate():
                if json.loads(frame).get("response"):
                    self._link.violate("response_fields")
                self._responder.create(event.event_id)
            case events.ResponseCancel():
                self._responder.cancel(event.response_id)

    # ---------------------------------------------------------------------- refusals

    def _refuse(
        self, message: str, *, param: str | None = None, event_id: str | None = None
    ) -> None:
        code = self._scenario.error_codes
        self._link.send_error(
            "invalid_request_error" if code == "by_page" else code,
            message,
            param=param,
            event_id=event_id,
        )

    def _refuse_schema(self, message: str, event_id: str | None = None) -> None:
        code = self._scenario.error_codes
        self._link.send_error(
            "invalid_frame" if code == "by_page" else code, message, event_id=event_id
        )

    def _receive_malformed(self, frame: str, problem: str) -> None:
        received = Received(
            self._link.now(), events.UnknownEvent(_type(frame)), size_bytes=len(frame.encode())
        )
        self._record.client_events.append(received)
        self._link.owner.noted(self._record, received)
        if _type(frame) == "input_audio_buffer.append":
            self._refuse_audio("not base64", _event_id(frame))
            return
        self._link.violate("malformed_frame", problem)
        if _type(frame) == "session.configure":
            self._asked, self._refused = True, True
        self._refuse_schema(problem, _event_id(frame))

    # ---------------------------------------------------------------------- the handshake

    def _warn(self) -> None:
        code = "model_deprecated"
        message = f"{self._record.model} is deprecated; use hydra-v1.0 instead"
        match self._scenario.warning:
            case "flat":
                self._link.send(events.Warning(code=code, message=message))
            case "nested":
                body = events.ErrorBody(code=code, message=message)
                self._link.send(events.Warning(warning=body))
            case "none":
                pass

    def _configure(
        self, event: events.SessionConfigure, size_bytes: int, raw: Mapping[str, Any]
    ) -> None:
        if self._asked and not (
            self._refused and self._scenario.after_refused_configure == "accepts"
        ):
            self._link.violate("second_configure")
            return
        self._asked, self._refused = True, False
        voice = event.session.voice
        if not voice:
            self._link.violate("empty_voice")
        elif not self._knows(voice):
            if self._scenario.unknown_voice == "refused":
                self._refuse_voice(event)
                return
            voice = None
        session = msgspec.structs.replace(event.session, voice=voice or voices.SERVER_DEFAULT_VOICE)
        if self._scenario.handshake == "completes":
            self._record.configuration = session
            requested_hz = raw.get("output_audio_sample_rate")
            if self._scenario.obeys_requested_rate and type(requested_hz) is int:
                self._record.output_rate_hz = min(max(requested_hz, 8000), 48_000)
            self._ceiling.weigh_configuration(session, n_bytes=size_bytes)
            if self._scenario.configure_delay_s:
                self._link.after(self._scenario.configure_delay_s, self._configured)
            else:
                self._configured()

    def _knows(self, voice: str) -> bool:
        if voice in self._scenario.more_voices:
            return True
        if voice in _SEED_VOICES:
            return self._scenario.seed_voices == "accepted"
        return voices.is_known_voice(voice)

    def _refuse_voice(self, event: events.SessionConfigure) -> None:
        self._refused = True
        self._refuse(
            f"unknown voice {event.session.voice!r}",
            param="session.configure.session.voice",
            event_id=event.event_id,
        )
        if self._scenario.after_refused_configure == "closes":
            self._link.close(1008, "session.configure was refused")

    def _configured(self) -> None:
        session = self._record.configuration
        rate_hz = self._record.output_rate_hz
        audio: dict[str, Any] = {}
        if self._scenario.echoes_rates:
            audio = {
                "input_audio_format": "pcm16",
                "input_audio_sample_rate": 16_000,
                "output_audio_format": "pcm16",
                "output_audio_sample_rate": rate_hz,
            }
        self._link.send(
            events.SessionConfigured(
                session=events.ServerSession(
                    instructions=session.instructions or "",
                    voice=session.voice,
                    tools=list(session.tools or ()),
                    generate_initial_response=bool(session.generate_initial_response),
                    **audio,
                )
            )
        )
        self._record.configured_at_s = self._queue_read_at_s = self._link.now()
        if session.generate_initial_response:
            self._responder.greet()

    # ---------------------------------------------------------------------- audio

    def _receive_audio(self, event: events.InputAudioBufferAppend, size_bytes: int) -> None:
        pcm = event.audio
        if self._scenario.records_audio:
            received = Received(self._link.now(), wire.elide(event), len(pcm), size_bytes)
            self._record.client_events.append(received)
            self._link.owner.noted(self._record, received)
        if not self._is_configured:
            self._link.violate("audio_before_configured", f"{len(pcm)} bytes")
            if self._scenario.early_audio == "session_ended":
                self._link.send_error("session_ended", "audio before session.configured")
            return
        if len(pcm) % 2 or len(pcm) < self._scenario.min_append_bytes:
            self._refuse_audio(f"{len(pcm)} bytes", event.event_id)
            return
        if len(pcm) > _MAX_APPEND_BYTES:
            self._link.violate("oversized_audio", f"{len(pcm)} bytes")
        if self._scenario.records_audio:
            self._record.received_audio += pcm
        if not self._is_flooded_by(len(pcm) / _BYTES_PER_S):
            self._listener.hear(pcm)

    def _refuse_audio(self, problem: str, event_id: str | None) -> None:
        self._link.violate("invalid_audio", problem)
        self._link.send_error("invalid_audio", problem, event_id=event_id)

    def _is_flooded_by(self, duration_s: float) -> bool:
        now = self._link.now()
        self._received_s += duration_s
        read_s = now - self._queue_read_at_s
        self._queued_audio_s = max(0.0, self._queued_audio_s - read_s) + duration_s
        self._queue_read_at_s = now
        lead_s = self._queued_audio_s
        if self._scenario.flood_clock == "session":
            lead_s = self._received_s - (now - (self._record.configured_at_s or now))
        if self._scenario.max_lead_s is None or lead_s <= self._scenario.max_lead_s:
            return False
        self._link.violate("flooded", f"{lead_s:.2f} s ahead")
        self._link.send_error("session_ended", "session ended: audio came faster than real time")
        return True

    # ---------------------------------------------------------------------- tools and items

    def _update(self, event: events.SessionUpdate, raw: Mapping[str, Any]) -> None:
        session = raw["session"]
        unknown = sorted((set(raw) - _UPDATE_FIELDS) | (set(session) - {"tools"}))
        if unknown or event.session.tools is None:
            problem = f"unknown fields {', '.join(unknown)}" if unknown else "tools are missing"
            self._link.violate("bad_update", problem)
            self._refuse_schema(problem, event.event_id)
            return
        configuration = self._record.configuration
        if event.session.tools == (configuration.tools or []):
            return
        self._record.configuration = msgspec.structs.replace(
            configuration, tools=event.session.tools
        )
        self._ceiling.weigh_configuration(self._record.configuration)
        self._link.send(
            events.SessionUpdated(session=events.ServerSession(tools=list(event.session.tools)))
        )

    def _create_item(self, event: events.ConversationItemCreate, size_bytes: int) -> None:
        item = event.item
        if item.type == "function_call_output":
            problem = "output is missing"
            if item.output is not None:
                problem = self._responder.add_output(item.call_id, item.output) or ""
            else:
                self._link.violate("bad_item", problem)
            if problem:
                self._refuse(problem, param="item", event_id=event.event_id)
                return
        elif item.type == "message" and item.role in ("user", "assistant", "system"):
            if self._scenario.message_items == "refused":
                self._refuse(
                    "message items are not supported", param="item", event_id=event.event_id
                )
                return
            if self._scenario.message_items == "accepted":
                self._responder.add_text(item)
        else:
            self._link.violate("bad_item", f"{item.type} of {item.role}")
            self._refuse("unsupported item", param="item", event_id=event.event_id)
            return
        self._ceiling.weigh_item(event, n_bytes=size_bytes)
        if self._scenario.echoes_client_items:
            item_id = self._link.new_id("item")
            known = msgspec.structs.replace(item, id=self._link.shown(item_id), status="completed")
            self._link.add_item(known, item_id)
            self._link.end_item(known, item_id)


def _type(frame: str) -> str:
    return str(_field(frame, "type") or "")


def _event_id(frame: str) -> str | None:
    event_id = _field(frame, "event_id")
    return event_id if isinstance(event_id, str) else None


def _field(frame: str, name: str) -> object:
    try:
        raw = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return raw.get(name) if isinstance(raw, dict) else None
