"""Hydra's wire, one frozen struct for each event, fields named as on the wire.

Two unions, never one: `ClientEvent` is what we send, `ServerEvent` what we receive. Audio is
``bytes`` (int16 little-endian mono PCM) and travels as standard base64. Client events leave out
what is not given, since `session.update` rejects keys that it does not know. In server events
every field that was ever seen is optional, because docs and wire disagree about many of them;
other fields are ignored.

Sources, by the tags used below: [docs] vendor docs and AsyncAPI of 2026-08-21; [probe] the docs
authors' live probes of May to August 2026; [client] the vendor's reference client; [eva]
ServiceNow's eva harness, run against the live server in July 2026.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What every event has."""

    event_id: str | None = None
    """Minted by the sender: the server's are ``sv_<hex>``; ours are echoed in `Error`. [docs]"""

    @property
    def type(self) -> str:
        """The event's name on the wire."""
        return str(self.__struct_config__.tag)


# ---------------------------------------------------------------------------- both directions


class Tool(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="type",
    tag="function",
):
    """A function that the model may call: flat, unlike OpenAI's chat format. [docs]"""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON Schema of the arguments."""


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a message item."""

    type: str | None = None
    """``input_audio``, ``input_text``, ``output_audio`` or ``output_text``. [docs]"""
    text: str | None = None
    """Null for audio by the docs; the vendor's demo shows recognised text here. [client]"""


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A conversation item: message, function call or its output; flat, all optional. [docs]"""

    id: str | None = None
    type: str | None = None
    """``message``, ``function_call`` or ``function_call_output``."""
    role: str | None = None
    """``user``, ``assistant`` or ``system``."""
    status: str | None = None
    """``in_progress``, ``completed`` or ``incomplete`` (discarded or cancelled)."""
    content: list[Content] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    """A JSON document, as text."""
    output: str | None = None

    @property
    def text(self) -> str:
        """The text of all parts, joined by spaces; empty where the server sends none."""
        return " ".join(part.text for part in self.content or () if part.text)


# -------------------------------------------------------------------------------- we send


class ClientSession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of `SessionConfigure` and, with tools alone, of `SessionUpdate`."""

    instructions: str | None = None
    voice: str | None = None
    """Frozen at the handshake; the server's default is ``sterling`` on every tag. [probe]"""
    tools: list[Tool] | None = None
    generate_initial_response: bool | None = None
    """The model speaks first. The only documented way to make it speak unasked. [docs]"""


class SessionConfigure(Event, frozen=True, kw_only=True, tag="session.configure"):
    """Sent once, after `SessionCreated`; the server ignores repeats. [docs]"""

    session: ClientSession


class SessionUpdate(Event, frozen=True, kw_only=True, tag="session.update"):
    """Replaces the tools; the server honours no other field and rejects others. [docs]"""

    session: ClientSession


class InputAudioBufferAppend(Event, frozen=True, kw_only=True, tag="input_audio_buffer.append"):
    """The user's audio: int16 mono 16 kHz, 20 to 40 ms, never under 10 ms (320 bytes). [docs]"""

    audio: bytes


class ConversationItemCreate(Event, frozen=True, kw_only=True, tag="conversation.item.create"):
    """Adds an item. Documented for function outputs; message items are unproven. [docs]"""

    item: Item


class ResponseCreate(Event, frozen=True, kw_only=True, tag="response.create"):
    """Asks for a response. Documented only for narrating function outputs. [docs]"""


class ResponseCancel(Event, frozen=True, kw_only=True, tag="response.cancel"):
    """Cancels a response; nothing happens if none is in flight. [docs]"""

    response_id: str | None = None


ClientEvent = (
    SessionConfigure
    | SessionUpdate
    | InputAudioBufferAppend
    | ConversationItemCreate
    | ResponseCreate
    | ResponseCancel
)


# ----------------------------------------------------------------------------- we receive


class ServerSession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the server says a session is."""

    instructions: str | None = None
    voice: str | None = None
    tools: list[Any] | None = None
    generate_initial_response: bool | None = None
    input_audio_format: str | None = None
    output_audio_format: str | None = None
    input_audio_sample_rate: int | None = None
    output_audio_sample_rate: int | None = None
    """The true rate of the audio to come: 24,000 on v1.1, 48,000 on the others. On the wire,
    although the docs dropped it on 2026-05-30. [probe]"""


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong."""

    type: str | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None
    event_id: str | None = None
    """The client event at fault, where it carried an `event_id`. [docs]"""


class StatusDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a response ended as it did."""

    type: str | None = None
    reason: str | None = None
    """``interrupted``, ``client_cancelled``, ``max_output_tokens`` or ``content_filter``."""
    error: ErrorBody | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of a turn, "when available"; no split by kind is known. [docs]"""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A response, at its beginning and at its end."""

    id: str
    status: str | None = None
    """``in_progress``, ``completed``, ``cancelled``, ``incomplete`` or ``failed``."""
    status_details: StatusDetails | None = None
    output: list[Item] | None = None
    usage: Usage | None = None


class Warning(Event, frozen=True, kw_only=True, tag="warning"):
    """Comes before `SessionCreated` on the deprecated tag ``hydra``. [probe]

    Its envelope is unpublished, so both shapes are taken: flat, or nested under ``warning``.
    """

    code: str | None = None
    message: str | None = None
    warning: ErrorBody | None = None


class SessionCreated(Event, frozen=True, kw_only=True, tag="session.created"):
    """The first frame of a session, but for a `Warning`. [docs]"""

    session_id: str | None = None


class SessionConfigured(Event, frozen=True, kw_only=True, tag="session.configured"):
    """The configuration holds; audio that came earlier was dropped. [probe]"""

    session: ServerSession = ServerSession()


class SessionUpdated(Event, frozen=True, kw_only=True, tag="session.updated"):
    """The fields of a `SessionUpdate` that took effect; nothing comes if none did. [docs]"""

    session: ServerSession = ServerSession()


class InputAudioBufferSpeechStarted(
    Event, frozen=True, kw_only=True, tag="input_audio_buffer.speech_started"
):
    """The user begins to speak: the barge-in signal. [docs]"""

    audio_start_ms: float | None = None
    """Offset in the audio that was sent, from the start of the session."""
    item_id: str | None = None
    """The user item to come."""


class InputAudioBufferSpeechStopped(
    Event, frozen=True, kw_only=True, tag="input_audio_buffer.speech_stopped"
):
    """The user has stopped. Sometimes comes after the response has begun. [eva]"""

    audio_end_ms: float | None = None
    item_id: str | None = None


class ConversationItemAdded(Event, frozen=True, kw_only=True, tag="conversation.item.added"):
    """An item begins: the user's, then the assistant's. [docs]"""

    previous_item_id: str | None = None
    item: Item = Item()


class ConversationItemDone(Event, frozen=True, kw_only=True, tag="conversation.item.done"):
    """An item ends: ``completed``, or ``incomplete`` when discarded or cancelled. [docs]"""

    previous_item_id: str | None = None
    item: Item = Item()


class ResponseCreated(Event, frozen=True, kw_only=True, tag="response.created"):
    """A response begins. [docs]"""

    response: Response


class ResponseOutputAudioDelta(Event, frozen=True, kw_only=True, tag="response.output_audio.delta"):
    """Audio of a response: int16 mono at the session's output rate; any length. [docs]

    Comes about ten times faster than real time. Empty and odd lengths are possible. [client]
    """

    delta: bytes
    response_id: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None


class ResponseOutputAudioDone(Event, frozen=True, kw_only=True, tag="response.output_audio.done"):
    """No more audio in this item; may be missing after a barge-in. [docs]"""

    response_id: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None


class ResponseOutputAudioTranscriptDelta(
    Event, frozen=True, kw_only=True, tag="response.output_audio_transcript.delta"
):
    """A piece of what the response says: a phrase without its separating space [eva], or with it.

    Undocumented, even denied by the docs, and seen live on ``hydra``.
    """

    delta: str
    response_id: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None


class ResponseOutputAudioTranscriptDone(
    Event, frozen=True, kw_only=True, tag="response.output_audio_transcript.done"
):
    """The end of a transcript. Never seen: the name is a guess by analogy."""

    response_id: str | None = None
    item_id: str | None = None
    transcript: str | None = None


class ResponseFunctionCallArgumentsDelta(
    Event, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"
):
    """A piece of a function call's arguments; only the first one has the name. [docs]"""

    call_id: str
    response_id: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    name: str | None = None
    delta: str = ""


class ResponseFunctionCallArgumentsDone(
    Event, frozen=True, kw_only=True, tag="response.function_call_arguments.done"
):
    """A function call is complete. [docs]"""

    call_id: str
    response_id: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    name: str | None = None
    arguments: str | None = None
    """A JSON document, as text."""


class ResponseDone(Event, frozen=True, kw_only=True, tag="response.done"):
    """A response ends. [docs]

    For a response that calls functions, whether it comes before the outputs, after them or never
    is unknown.
    """

    response: Response


class Error(Event, frozen=True, kw_only=True, tag="error"):
    """Something was refused or failed; not fatal unless a close follows. [docs]"""

    error: ErrorBody = ErrorBody()


ServerEvent = (
    Warning
    | SessionCreated
    | SessionConfigured
    | SessionUpdated
    | InputAudioBufferSpeechStarted
    | InputAudioBufferSpeechStopped
    | ConversationItemAdded
    | ConversationItemDone
    | ResponseCreated
    | ResponseOutputAudioDelta
    | ResponseOutputAudioDone
    | ResponseOutputAudioTranscriptDelta
    | ResponseOutputAudioTranscriptDone
    | ResponseFunctionCallArgumentsDelta
    | ResponseFunctionCallArgumentsDone
    | ResponseDone
    | Error
)


class UnknownEvent(msgspec.Struct, frozen=True):
    """A well-formed frame of a type that this catalogue does not have: counted and ignored."""

    type: str
