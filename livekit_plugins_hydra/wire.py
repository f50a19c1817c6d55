"""Bytes <-> events, and how an event is shown to people.

`decode` never looks at the state of a conversation; it answers what one frame says, or raises
`RemoteProtocolError`. Base64 is checked strictly: what is not standard base64 is refused, not
guessed at.
"""

from __future__ import annotations

import json
from typing import Final, TypeVar

import msgspec

from . import events
from .errors import RemoteProtocolError

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Larger frames are refused unread: two minutes of 48 kHz sound in one delta. Our choice."""

_encoder: Final = msgspec.json.Encoder()
_server_decoder: Final = msgspec.json.Decoder(events.ServerEvent)
_client_decoder: Final = msgspec.json.Decoder(events.ClientEvent)


class _Envelope(msgspec.Struct, frozen=True):
    type: str


_envelope_decoder: Final = msgspec.json.Decoder(_Envelope)


def _tags(union: object) -> frozenset[str]:
    return frozenset(str(kind.__struct_config__.tag) for kind in union.__args__)  # type: ignore[attr-defined]


SERVER_EVENT_TYPES: Final = _tags(events.ServerEvent)
"""Every type that `decode` knows."""

CLIENT_EVENT_TYPES: Final = _tags(events.ClientEvent)
"""Every type that `decode_client` knows."""

_T = TypeVar("_T")


def encode(event: events.Event) -> bytes:
    """Return the text frame of `event`, as UTF-8; works for either direction."""
    return _encoder.encode(event)


def escaped_size(event: events.Event) -> int:
    """Return the length of `event` in bytes, as if every non-ASCII character were escaped.

    The payload ceiling of the server was measured in bytes by a client that escapes; counting
    the larger form is safe whichever the server counts.
    """
    return len(json.dumps(msgspec.to_builtins(event), separators=(",", ":")))


def decode(frame: str | bytes) -> events.ServerEvent | events.UnknownEvent:
    """Return the server event in a text frame.

    Raises:
        RemoteProtocolError: the frame is no JSON object with a `type`, or is of a known type
            and does not fit it. The text names the place and never quotes the frame.
    """
    return _decode(frame, _server_decoder, SERVER_EVENT_TYPES)


def decode_client(frame: str | bytes) -> events.ClientEvent | events.UnknownEvent:
    """Return the client event in a text frame; raises as `decode` does."""
    return _decode(frame, _client_decoder, CLIENT_EVENT_TYPES)


def _decode(
    frame: str | bytes, decoder: msgspec.json.Decoder[_T], known: frozenset[str]
) -> _T | events.UnknownEvent:
    if len(frame) > MAX_FRAME_BYTES:
        raise RemoteProtocolError(f"a frame of {len(frame)} bytes, over {MAX_FRAME_BYTES}")
    try:
        return decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as fault:
        problem = _without_content(fault)
    try:
        kind = _envelope_decoder.decode(frame).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RemoteProtocolError(f"a frame that is not an event: {problem}") from None
    if kind not in known:
        return events.UnknownEvent(kind)
    raise RemoteProtocolError(f"a malformed {kind}: {problem}")


def _without_content(fault: Exception) -> str:
    """Say what is wrong with a frame without quoting it: frames hold what people said."""
    if isinstance(fault, msgspec.ValidationError):
        return str(fault).split(", got", 1)[0]
    return type(fault).__name__


def elide(event: _T) -> _T:
    """Return `event` without its audio, for people and logs; other events come back as is."""
    match event:
        case events.InputAudioBufferAppend():
            return msgspec.structs.replace(event, audio=b"")
        case events.ResponseOutputAudioDelta():
            return msgspec.structs.replace(event, delta=b"")
        case _:
            return event


def describe(event: events.Event | events.UnknownEvent) -> str:
    """Return one line about `event`: its type and ids, lengths instead of contents."""
    match event:
        case events.InputAudioBufferAppend(audio=audio):
            return f"{event.type} {len(audio)} bytes"
        case events.ResponseOutputAudioDelta(response_id=response_id, delta=delta):
            return f"{event.type} {response_id} {len(delta)} bytes"
        case events.ResponseCreated(response=response):
            return f"{event.type} {response.id}"
        case events.ResponseDone(response=response):
            return f"{event.type} {response.id} {response.status}"
        case events.ConversationItemAdded(item=item) | events.ConversationItemDone(item=item):
            return f"{event.type} {item.id} {item.role or item.type} {item.status}"
        case events.Error(error=error):
            return f"{event.type} {error.code} {error.param or ''}".rstrip()
        case _:
            return event.type
