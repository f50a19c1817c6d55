"""Bytes <-> events, and how an event is shown to people.

`decode` returns what one frame says, whatever the state of the conversation, or raises
`RemoteProtocolError`. A number may come as text, or as a float. Only standard base64 is taken.
"""

from __future__ import annotations

import contextlib
import json
import re
from enum import Enum
from typing import Any, Final, TypeVar

import msgspec

from . import events
from .errors import RemoteProtocolError

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Larger frames are refused unread: two minutes of 48 kHz audio in one delta. Our choice."""

DESCRIPTION_CHARS: Final = 200
"""Limit for `describe`: types and ids are the server's, and may be of any length."""


def plain_text(text: Any) -> str:
    """Return what `str()` makes of a text, and an enumeration's value, as a `str` and no subclass.

    Programs have subclasses from YAML files and templates, and msgspec encodes none of them.

    Raises:
        TypeError: it is no text.
    """
    if isinstance(text, Enum):
        text = text.value
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} is no text")
    return str.__str__(str(text))  # a subclass may return itself


_encoder: Final = msgspec.json.Encoder(enc_hook=plain_text)
_server_decoder: Final = msgspec.json.Decoder(events.ServerEvent, strict=False)
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
    """Return the text frame of `event`, as UTF-8; works for either direction.

    Half a surrogate pair, as in text that was cut inside an emoji, becomes U+FFFD.
    """
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:
        frame = _dumps(event, ensure_ascii=False)
        return frame.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def escaped_size(event: events.Event) -> int:
    """Return the length of `event` in bytes, as if every non-ASCII character were escaped.

    The server's limit was measured by a client that escapes. The escaped form is the larger one,
    so it is safe whichever the server counts.
    """
    return len(_dumps(event, ensure_ascii=True))


def escaped_text_size(text: str) -> int:
    """Return the length of a text in bytes, quoted and escaped as in a frame."""
    return len(json.dumps(text))


def _dumps(event: events.Event, *, ensure_ascii: bool) -> str:
    fields = msgspec.to_builtins(event, enc_hook=plain_text)
    return json.dumps(fields, ensure_ascii=ensure_ascii, separators=(",", ":"))


def decode(frame: str | bytes) -> events.ServerEvent | events.UnknownEvent:
    """Return the server event in a text frame.

    Raises:
        RemoteProtocolError: the frame is no JSON object with a `type`, or is of a known type
            and lacks what that needs. The text names the place and never quotes the frame.
    """
    return _decode(frame, _server_decoder, SERVER_EVENT_TYPES)


def decode_client(frame: str | bytes) -> events.ClientEvent | events.UnknownEvent:
    """Return the client event in a text frame, strictly; raises as `decode` does."""
    return _decode(frame, _client_decoder, CLIENT_EVENT_TYPES)


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


def _decode(
    frame: str | bytes,
    decoder: msgspec.json.Decoder[_T],
    known: frozenset[str],
) -> _T | events.UnknownEvent:
    if len(frame) > MAX_FRAME_BYTES:
        raise RemoteProtocolError(f"a frame of {len(frame)} bytes, over {MAX_FRAME_BYTES}")
    try:
        return decoder.decode(frame)
    except _UNREADABLE as fault:
        problem = _without_content(fault)
    try:
        kind = _envelope_decoder.decode(frame).type
    except _UNREADABLE:
        raise RemoteProtocolError(f"a frame that is not an event: {problem}") from None
    if kind not in known:
        return events.UnknownEvent(kind)
    if kind == _AUDIO_DELTA:
        with contextlib.suppress(*_UNREADABLE):
            return decoder.decode(_with_delta(frame))
    raise RemoteProtocolError(f"a malformed {kind}: {problem}")


_AUDIO_DELTA: Final = "response.output_audio.delta"


def _with_delta(frame: str | bytes) -> bytes:
    """Return a frame whose audio stands in `audio`, as the vendor's quickstart reads it, too."""
    fields = msgspec.json.decode(frame)
    return msgspec.json.encode({"delta": fields.get("audio"), **fields})


_PROBLEM: Final = re.compile(r"[\w ]+(?:`[^`]*`)?")
_PLACE: Final = re.compile(r" at `(\$[^`]*)`$")


def _without_content(fault: Exception) -> str:
    """Say what is wrong with a frame without quoting it: frames hold what people said.

    msgspec writes "Expected `str`, got `int` - at `$.a`", but "Invalid value 'words' - at `$.a`".
    """
    if not isinstance(fault, msgspec.ValidationError):
        return type(fault).__name__
    problem, place = _PROBLEM.match(str(fault)), _PLACE.search(str(fault))
    parts = [problem and problem[0].strip(), place and f"at {place[1]}"]
    return " ".join(filter(None, parts))


def elide(event: _T) -> _T:
    """Return `event` without its audio, for people and logs."""
    match event:
        case events.InputAudioBufferAppend():
            return msgspec.structs.replace(event, audio=b"")
        case events.ResponseOutputAudioDelta():
            return msgspec.structs.replace(event, delta=b"")
        case _:
            return event


def describe(event: events.Event | events.UnknownEvent) -> str:
    """Return one short line about `event`: its type and ids, lengths instead of contents."""
    words = " ".join(filter(None, [event.type, *_details(event)])).split()
    return " ".join(words)[:DESCRIPTION_CHARS]


def _details(event: events.Event | events.UnknownEvent) -> tuple[str | None, ...]:
    match event:
        case events.InputAudioBufferAppend(audio=audio):
            return (f"{len(audio)} bytes",)
        case events.ResponseOutputAudioDelta(response_id=response_id, delta=delta):
            return response_id, f"{len(delta)} bytes"
        case events.ResponseCreated(response=response):
            return (response.id,)
        case events.ResponseDone(response=response):
            return response.id, response.status
        case events.ConversationItemAdded(item=item) | events.ConversationItemDone(item=item):
            return item.id, item.role or item.type, item.status
        case events.Error(error=error):
            return error.code, error.param
        case _:
            return ()
