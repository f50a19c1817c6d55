from __future__ import annotations

import json
from enum import Enum
from typing import Any

import msgspec
import pytest

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import wire
from livekit_plugins_hydra.protocol.errors import RemoteProtocolError
from tests.odd_texts import Safe, Scalar

# Every event of the server, with every field of protocol.md, section 3, as a frame of its own.
SERVER_FRAMES: list[tuple[str, ev.ServerEvent]] = [
    (
        '{"type":"warning","event_id":"sv_1","code":"model_deprecated",'
        '"message":"hydra is deprecated, use hydra-v1.0",'
        '"warning":{"type":"deprecation","code":"model_deprecated","message":"use hydra-v1.0",'
        '"param":"model","event_id":"cl_1"}}',
        ev.Warning(
            event_id="sv_1",
            code="model_deprecated",
            message="hydra is deprecated, use hydra-v1.0",
            warning=ev.ErrorBody(
                type="deprecation",
                code="model_deprecated",
                message="use hydra-v1.0",
                param="model",
                event_id="cl_1",
            ),
        ),
    ),
    (
        '{"type":"session.created","event_id":"sv_588fd416b4a24fe3",'
        '"session_id":"0b8c0a52-7b25-4a1c-9f0e-3f3f6c6f0f9e"}',
        ev.SessionCreated(
            event_id="sv_588fd416b4a24fe3", session_id="0b8c0a52-7b25-4a1c-9f0e-3f3f6c6f0f9e"
        ),
    ),
    (
        '{"type":"session.configured","event_id":"sv_2","session":{"instructions":"Be kind.",'
        '"voice":"aria","tools":[{"type":"function","name":"look"}],'
        '"generate_initial_response":true,"output_audio_format":"pcm16",'
        '"output_audio_sample_rate":24000,"input_audio_format":"pcm16",'
        '"input_audio_sample_rate":16000}}',
        ev.SessionConfigured(
            event_id="sv_2",
            session=ev.ServerSession(
                instructions="Be kind.",
                voice="aria",
                tools=[{"type": "function", "name": "look"}],
                generate_initial_response=True,
                output_audio_format="pcm16",
                output_audio_sample_rate=24_000,
                input_audio_format="pcm16",
                input_audio_sample_rate=16_000,
            ),
        ),
    ),
    (
        '{"type":"session.updated","event_id":"sv_3","session":{"tools":[]}}',
        ev.SessionUpdated(event_id="sv_3", session=ev.ServerSession(tools=[])),
    ),
    (
        '{"type":"input_audio_buffer.speech_started","event_id":"sv_4","audio_start_ms":1200,'
        '"item_id":"u1"}',
        ev.InputAudioBufferSpeechStarted(event_id="sv_4", audio_start_ms=1200, item_id="u1"),
    ),
    (
        '{"type":"input_audio_buffer.speech_stopped","event_id":"sv_5","audio_end_ms":2400.5,'
        '"item_id":"u1"}',
        ev.InputAudioBufferSpeechStopped(event_id="sv_5", audio_end_ms=2400.5, item_id="u1"),
    ),
    (
        '{"type":"conversation.item.added","event_id":"sv_6","previous_item_id":"a0",'
        '"item":{"id":"u1","type":"message","role":"user","status":"in_progress",'
        '"content":[{"type":"input_audio","text":"hello"}]}}',
        ev.ConversationItemAdded(
            event_id="sv_6",
            previous_item_id="a0",
            item=ev.Item(
                id="u1",
                type="message",
                role="user",
                status="in_progress",
                content=[ev.Content(type="input_audio", text="hello")],
            ),
        ),
    ),
    (
        '{"type":"conversation.item.done","event_id":"sv_7","previous_item_id":"u1",'
        '"item":{"id":"fc1","type":"function_call","role":"assistant","status":"completed",'
        '"content":[],"call_id":"c1","name":"look","arguments":"{}","output":"42"}}',
        ev.ConversationItemDone(
            event_id="sv_7",
            previous_item_id="u1",
            item=ev.Item(
                id="fc1",
                type="function_call",
                role="assistant",
                status="completed",
                content=[],
                call_id="c1",
                name="look",
                arguments="{}",
                output="42",
            ),
        ),
    ),
    (
        '{"type":"response.created","event_id":"sv_8",'
        '"response":{"id":"r1","status":"in_progress"}}',
        ev.ResponseCreated(event_id="sv_8", response=ev.Response(id="r1", status="in_progress")),
    ),
    (
        '{"type":"response.output_audio.delta","event_id":"sv_9","response_id":"r1",'
        '"item_id":"a1","output_index":0,"content_index":1,"delta":"+//+"}',
        ev.ResponseOutputAudioDelta(
            event_id="sv_9",
            response_id="r1",
            item_id="a1",
            output_index=0,
            content_index=1,
            delta=b"\xfb\xff\xfe",
        ),
    ),
    (
        '{"type":"response.output_audio.done","event_id":"sv_10","response_id":"r1",'
        '"item_id":"a1","output_index":0,"content_index":1}',
        ev.ResponseOutputAudioDone(
            event_id="sv_10", response_id="r1", item_id="a1", output_index=0, content_index=1
        ),
    ),
    (
        '{"type":"response.output_audio_transcript.delta","event_id":"sv_11","response_id":"r1",'
        '"item_id":"a1","output_index":0,"content_index":1,"delta":"Good morning."}',
        ev.ResponseOutputAudioTranscriptDelta(
            event_id="sv_11",
            response_id="r1",
            item_id="a1",
            output_index=0,
            content_index=1,
            delta="Good morning.",
        ),
    ),
    (
        '{"type":"response.output_audio_transcript.done","event_id":"sv_12","response_id":"r1",'
        '"item_id":"a1","transcript":"Good morning."}',
        ev.ResponseOutputAudioTranscriptDone(
            event_id="sv_12", response_id="r1", item_id="a1", transcript="Good morning."
        ),
    ),
    (
        '{"type":"response.function_call_arguments.delta","event_id":"sv_13","response_id":"r1",'
        '"item_id":"fc1","output_index":0,"call_id":"c1","name":"look","delta":"{\\"a\\":"}',
        ev.ResponseFunctionCallArgumentsDelta(
            event_id="sv_13",
            response_id="r1",
            item_id="fc1",
            output_index=0,
            call_id="c1",
            name="look",
            delta='{"a":',
        ),
    ),
    (
        '{"type":"response.function_call_arguments.done","event_id":"sv_14","response_id":"r1",'
        '"item_id":"fc1","output_index":0,"call_id":"c1","name":"look",'
        '"arguments":"{\\"a\\":1}"}',
        ev.ResponseFunctionCallArgumentsDone(
            event_id="sv_14",
            response_id="r1",
            item_id="fc1",
            output_index=0,
            call_id="c1",
            name="look",
            arguments='{"a":1}',
        ),
    ),
    (
        '{"type":"response.done","event_id":"sv_15","response":{"id":"r1","status":"failed",'
        '"status_details":{"reason":"interrupted","type":"cancelled",'
        '"error":{"code":"internal_error","type":"server_error"}},'
        '"output":[{"type":"message","id":"a1"}],'
        '"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}',
        ev.ResponseDone(
            event_id="sv_15",
            response=ev.Response(
                id="r1",
                status="failed",
                status_details=ev.StatusDetails(
                    reason="interrupted",
                    type="cancelled",
                    error=ev.ErrorBody(code="internal_error", type="server_error"),
                ),
                output=[ev.Item(type="message", id="a1")],
                usage=ev.Usage(input_tokens=1, output_tokens=2, total_tokens=3),
            ),
        ),
    ),
    (
        '{"type":"error","event_id":"sv_16","error":{"type":"invalid_request_error",'
        '"code":"invalid_request_error","message":"unknown voice",'
        '"param":"session.configure.session.voice","event_id":"cl_1"}}',
        ev.Error(
            event_id="sv_16",
            error=ev.ErrorBody(
                type="invalid_request_error",
                code="invalid_request_error",
                message="unknown voice",
                param="session.configure.session.voice",
                event_id="cl_1",
            ),
        ),
    ),
]

# The same, with as little as the documents promise.
BARE_FRAMES: list[tuple[str, ev.ServerEvent]] = [
    ('{"type":"warning"}', ev.Warning()),
    ('{"type":"session.created"}', ev.SessionCreated()),
    ('{"type":"session.configured"}', ev.SessionConfigured()),
    ('{"type":"session.updated","session":{}}', ev.SessionUpdated()),
    ('{"type":"input_audio_buffer.speech_started"}', ev.InputAudioBufferSpeechStarted()),
    ('{"type":"input_audio_buffer.speech_stopped"}', ev.InputAudioBufferSpeechStopped()),
    (
        '{"type":"conversation.item.added","previous_item_id":null,"item":{}}',
        ev.ConversationItemAdded(),
    ),
    (
        '{"type":"conversation.item.done","item":{"content":[{"type":"output_audio","text":null}]}}',
        ev.ConversationItemDone(item=ev.Item(content=[ev.Content(type="output_audio")])),
    ),
    (
        '{"type":"response.created","response":{"id":"r1"}}',
        ev.ResponseCreated(response=ev.Response(id="r1")),
    ),
    (
        '{"type":"response.output_audio.delta","delta":""}',
        ev.ResponseOutputAudioDelta(delta=b""),
    ),
    (
        '{"type":"response.function_call_arguments.delta","call_id":"c1"}',
        ev.ResponseFunctionCallArgumentsDelta(call_id="c1"),
    ),
    (
        '{"type":"response.function_call_arguments.done","call_id":"c1","name":null}',
        ev.ResponseFunctionCallArgumentsDone(call_id="c1"),
    ),
    (
        '{"type":"response.done","response":{"id":"r1","usage":null}}',
        ev.ResponseDone(response=ev.Response(id="r1")),
    ),
    ('{"type":"error"}', ev.Error()),
]

TOOL = ev.Tool(name="look", description="Looks.", parameters={"type": "object", "properties": {}})

# Every event of the client, with exactly the keys of protocol.md, section 2.
CLIENT_FRAMES: list[tuple[ev.ClientEvent, dict[str, Any]]] = [
    (
        ev.SessionConfigure(
            event_id="cl_1",
            session=ev.ClientSession(
                instructions="Be kind.",
                voice="aria",
                tools=[TOOL, ev.Tool(name="hear")],
                generate_initial_response=True,
            ),
        ),
        {
            "type": "session.configure",
            "event_id": "cl_1",
            "session": {
                "instructions": "Be kind.",
                "voice": "aria",
                "tools": [
                    {
                        "type": "function",
                        "name": "look",
                        "description": "Looks.",
                        "parameters": {"type": "object", "properties": {}},
                    },
                    {"type": "function", "name": "hear"},
                ],
                "generate_initial_response": True,
            },
        },
    ),
    (
        ev.SessionConfigure(session=ev.ClientSession(generate_initial_response=False)),
        {"type": "session.configure", "session": {"generate_initial_response": False}},
    ),
    (
        ev.SessionUpdate(event_id="cl_2", session=ev.ClientSession(tools=[])),
        {"type": "session.update", "event_id": "cl_2", "session": {"tools": []}},
    ),
    (
        ev.InputAudioBufferAppend(event_id="cl_3", audio=b"\xfb\xff\xfe"),
        {"type": "input_audio_buffer.append", "event_id": "cl_3", "audio": "+//+"},
    ),
    (
        ev.ConversationItemCreate(
            event_id="cl_4",
            item=ev.Item(type="function_call_output", call_id="c1", output="42"),
        ),
        {
            "type": "conversation.item.create",
            "event_id": "cl_4",
            "item": {"type": "function_call_output", "call_id": "c1", "output": "42"},
        },
    ),
    (
        ev.ConversationItemCreate(
            item=ev.Item(
                type="message", role="user", content=[ev.Content(type="input_text", text="hi")]
            )
        ),
        {
            "type": "conversation.item.create",
            "item": {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}],
            },
        },
    ),
    (ev.ResponseCreate(event_id="cl_5"), {"type": "response.create", "event_id": "cl_5"}),
    (
        ev.ResponseCancel(event_id="cl_6", response_id="r1"),
        {"type": "response.cancel", "event_id": "cl_6", "response_id": "r1"},
    ),
    (ev.ResponseCancel(), {"type": "response.cancel"}),
]

SECRET = "the launch code is 0000"

# What no server should send; where content is needed, it is SECRET.
MALFORMED_FRAMES: dict[str, str | bytes] = {
    "nothing": "",
    "no JSON": SECRET,
    "half a frame": f'{{"type":"error","error":{{"message":"{SECRET}',
    "more than a frame": f'{{"type":"session.created"}} {SECRET}',
    "a list": f'["{SECRET}"]',
    "a string": f'"{SECRET}"',
    "no type": f'{{"session_id":"{SECRET}"}}',
    "a type that is none": f'{{"type":["{SECRET}"]}}',
    "no response": '{"type":"response.created"}',
    "a response that is none": f'{{"type":"response.created","response":"{SECRET}"}}',
    "an id that is none": f'{{"type":"response.created","response":{{"id":["{SECRET}"]}}}}',
    "a call without an id": f'{{"type":"response.function_call_arguments.done","name":"{SECRET}"}}',
    "audio that is none": f'{{"type":"response.output_audio.delta","delta":"{SECRET}"}}',
    "a number out of range": '{"type":"input_audio_buffer.speech_started","audio_start_ms":1e999}',
    "a type that is doubled": f'{{"type":"{SECRET}","type":"response.created"}}',
    "no UTF-8": b'{"type":"session.created","session_id":"\xff"}',
    "half a character": '{"type":"session.created","session_id":"\\ud83d"}',
    "half a character, raw": '{"type":"session.created","session_id":"\ud83d"}',
    "depth without end": '{"type":"session.configured","session":{"tools":' + "[" * 100_000,
}


@pytest.mark.parametrize(
    ("frame", "event"), SERVER_FRAMES, ids=[event.type for _, event in SERVER_FRAMES]
)
def test_every_event_of_the_server_is_read_with_every_field(
    frame: str, event: ev.ServerEvent
) -> None:
    """Each field that was ever seen on the wire ends up where it belongs."""
    assert wire.decode(frame) == event
    assert wire.decode(frame.encode()) == event


def test_the_frames_above_are_the_whole_catalogue() -> None:
    """No event and no field of the catalogue lacks an example of how it looks on the wire."""
    seen: dict[type, set[str]] = {}
    for _, event in [*SERVER_FRAMES, *((0, event) for event, _ in CLIENT_FRAMES)]:
        _note_fields(event, seen)
    every = {kind: set(kind.__struct_fields__) for kind in _structs()}

    assert every == {kind: seen.get(kind, set()) for kind in every}


def _structs() -> list[type[msgspec.Struct]]:
    kinds = [kind for kind in vars(ev).values() if isinstance(kind, type)]
    return [
        kind
        for kind in kinds
        if issubclass(kind, msgspec.Struct) and kind not in (ev.Event, ev.UnknownEvent)
    ]


def _note_fields(value: object, seen: dict[type, set[str]]) -> None:
    """Note which fields `value` and what it holds have set."""
    if isinstance(value, list):
        for part in value:
            _note_fields(part, seen)
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        given = {name for name, part in fields.items() if part is not None}
        seen.setdefault(type(value), set()).update(given)
        for part in fields.values():
            _note_fields(part, seen)


@pytest.mark.parametrize(
    ("frame", "event"), BARE_FRAMES, ids=[event.type for _, event in BARE_FRAMES]
)
def test_everything_that_may_be_missing_may_be_missing(frame: str, event: ev.ServerEvent) -> None:
    """Pages and wire disagree about many fields, so few of them are needed."""
    assert wire.decode(frame) == event


@pytest.mark.parametrize("rate", ["24000", "24000.0", '"24000"'])
def test_a_number_may_be_written_in_any_way(rate: str) -> None:
    """A rate that comes as a float or as text does not cost the handshake."""
    frame = f'{{"type":"session.configured","session":{{"output_audio_sample_rate":{rate}}}}}'

    assert wire.decode(frame) == ev.SessionConfigured(
        session=ev.ServerSession(output_audio_sample_rate=24_000)
    )


def test_a_part_that_is_none_of_its_kind_takes_its_frame_along() -> None:
    """Nothing is guessed at; the place is named, and what stands there is not quoted."""
    frame = f'{{"type":"response.done","response":{{"id":"r1","output":[5,"{SECRET}"]}}}}'

    with pytest.raises(RemoteProtocolError, match=r"response\.done.*output") as refused:
        wire.decode(frame)
    assert SECRET not in str(refused.value)


def test_audio_may_stand_in_another_field() -> None:
    """The vendor's quickstart reads `delta` or `audio`; bad base64 is refused in either."""
    frame = '{"type":"response.output_audio.delta","response_id":"r1","audio":"AQI="}'

    assert wire.decode(frame) == ev.ResponseOutputAudioDelta(delta=b"\1\2", response_id="r1")
    with pytest.raises(RemoteProtocolError):
        wire.decode(frame.replace("AQI=", "A"))


def test_fields_that_nobody_listed_are_ignored() -> None:
    """A new field, at any depth, is no fault."""
    frame = (
        '{"type":"response.done","mood":"good","response":{"id":"r1","voice":"aria",'
        '"usage":{"total_tokens":3,"cached_tokens":1}}}'
    )

    assert wire.decode(frame) == ev.ResponseDone(
        response=ev.Response(id="r1", usage=ev.Usage(total_tokens=3))
    )


@pytest.mark.parametrize("kind", ["session.sang", "response.create", ""])
def test_events_of_another_type_are_unknown(kind: str) -> None:
    """A type that the server is not known to send is told apart from a malformed frame."""
    frame = json.dumps({"type": kind, "session": 1, "response": []})

    assert wire.decode(frame) == ev.UnknownEvent(kind)


def test_events_of_the_other_direction_are_unknown_to_a_server_too() -> None:
    """Neither side takes what only it may send."""
    assert wire.decode_client('{"type":"session.created"}') == ev.UnknownEvent("session.created")


@pytest.mark.parametrize(
    ("event", "frame"), CLIENT_FRAMES, ids=[event.type for event, _ in CLIENT_FRAMES]
)
def test_every_event_of_the_client_has_exactly_the_documented_keys(
    event: ev.ClientEvent, frame: dict[str, Any]
) -> None:
    """What is not given is left out, because the server rejects keys that it does not know."""
    assert json.loads(wire.encode(event)) == frame
    assert wire.decode_client(wire.encode(event)) == event


@pytest.mark.parametrize(
    ("text", "pcm"),
    [("", b""), ("AQ==", b"\1"), ("AQI=", b"\1\2"), ("AQID", b"\1\2\3"), ("+/+/", b"\xfb\xff\xbf")],
)
def test_sound_is_standard_base64_of_any_length(text: str, pcm: bytes) -> None:
    """Empty and odd deltas are taken, and the alphabet is the one that servers check for."""
    frame = f'{{"type":"response.output_audio.delta","delta":"{text}"}}'

    assert wire.decode(frame) == ev.ResponseOutputAudioDelta(delta=pcm)
    assert json.loads(wire.encode(ev.InputAudioBufferAppend(audio=pcm)))["audio"] == text


@pytest.mark.parametrize("text", ["AQI", "A", "-_-_", "AQ I", "AQI=AQI=", "====", "AQI*"])
def test_sound_that_is_not_standard_base64_is_refused(text: str) -> None:
    """Nothing is guessed at: half a sample off is noise."""
    frame = f'{{"type":"response.output_audio.delta","delta":"{text}"}}'

    with pytest.raises(RemoteProtocolError, match=r"base64.*\$\.delta"):
        wire.decode(frame)


@pytest.mark.parametrize("frame", MALFORMED_FRAMES.values(), ids=list(MALFORMED_FRAMES))
def test_a_malformed_frame_is_one_error_that_does_not_quote_it(frame: str | bytes) -> None:
    """Frames hold what people said, so an error never does, and neither does its cause."""
    with pytest.raises(RemoteProtocolError) as caught:
        wire.decode(frame)

    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "frame",
    [
        SECRET,
        f'{{"type":"input_audio_buffer.append","audio":"{SECRET}"}}',
        f'{{"type":"session.update","session":{{"tools":[{{"type":"{SECRET}","name":"a"}}]}}}}',
        f'{{"type":"session.update","session":{{"tools":[{{"name":"a","parameters":"{SECRET}"}}]}}}}',
        f'{{"type":"session.configure","session":{{"tools":{{"{SECRET}":1}}}}}}',
    ],
)
def test_a_malformed_frame_of_a_client_is_not_quoted_either(frame: str) -> None:
    """A value that stands where a type is expected is content as well."""
    with pytest.raises(RemoteProtocolError) as caught:
        wire.decode_client(frame)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ('{"type":"response.created"}', "malformed response.created: .* `response`"),
        (
            '{"type":"response.created","response":{"id":[5]}}',
            r"malformed response.created: Expected `str` at \$\.response\.id",
        ),
        (
            '{"type":"response.output_audio.delta","item_id":[],"delta":5}',
            r"malformed response.output_audio.delta: Expected .* at \$\.item_id",
        ),
        ('["no event"]', "not an event: Expected `object`"),
        ("no JSON", "not an event: DecodeError"),
    ],
)
def test_a_malformed_frame_is_described_by_what_is_wrong_and_where(frame: str, words: str) -> None:
    """The error names the type, the place and what was expected there."""
    with pytest.raises(RemoteProtocolError, match=words):
        wire.decode(frame)


def test_the_text_of_an_item_is_that_of_all_its_parts() -> None:
    """Parts without text, as those of audio, add nothing; parts with text are separate words."""
    parts = [
        ev.Content(type="output_text", text="Good"),
        ev.Content(type="output_audio"),
        ev.Content(type="output_audio", text="morning."),
    ]

    assert ev.Item(content=parts).text == "Good morning."
    assert ev.Item().text == ""


def test_a_frame_that_is_too_large_is_refused_unread() -> None:
    """A server that goes mad does not take the memory with it."""
    with pytest.raises(RemoteProtocolError, match="bytes"):
        wire.decode(b" " * (wire.MAX_FRAME_BYTES + 1))


def test_half_a_character_is_replaced() -> None:
    """Text that was cut in the middle of an emoji can be sent; the rest of it is unharmed."""
    output = 'grüße "\ud83d" \ud83d\ude00 end'
    event = ev.ConversationItemCreate(item=ev.Item(call_id="c1", output=output))

    assert wire.decode_client(wire.encode(event)) == ev.ConversationItemCreate(
        item=ev.Item(call_id="c1", output='grüße "\ufffd" 😀 end')
    )


@pytest.mark.parametrize("text", [Scalar("grüße"), Safe("grüße"), Scalar("grüße \ud83d")])
def test_a_text_may_be_a_subclass_of_str(text: str) -> None:
    """Texts from YAML files and templates are encoded as any others, and weigh as much."""
    event = ev.ConversationItemCreate(item=ev.Item(call_id="c1", output=text))
    plain = ev.ConversationItemCreate(item=ev.Item(call_id="c1", output="".join(list(text))))

    assert wire.encode(event) == wire.encode(plain)
    assert wire.escaped_size(event) == wire.escaped_size(plain)


class Persona(Enum):
    """An application's own list."""

    KIND = "Be kind."


def test_a_text_may_be_a_value_of_an_enumeration() -> None:
    """What is sent is the value, and not the name in the program."""
    assert wire.plain_text(Persona.KIND) == "Be kind."


@pytest.mark.parametrize("text", [None, 7, b"bytes"])
def test_only_texts_become_texts(text: Any) -> None:
    """A mistake is not hidden."""
    with pytest.raises(TypeError, match="is no text"):
        wire.plain_text(text)


@pytest.mark.parametrize("text", ["plain", 'quotes "and" \\', "grüße\n", "😀 and \u2028", "\ud83d"])
def test_the_size_of_a_frame_counts_escaped_characters(text: str) -> None:
    """The payload ceiling is compared with the larger of the two ways to write a character."""
    event = ev.SessionConfigure(session=ev.ClientSession(instructions=text, tools=[TOOL]))
    tools = json.dumps(msgspec.to_builtins([TOOL]), separators=(",", ":"))
    frame = (
        '{"type":"session.configure","session":{"instructions":'
        f'{json.dumps(text)},"tools":{tools}}}}}'
    )

    assert wire.escaped_size(event) == len(frame)
    assert wire.escaped_size(event) >= len(wire.encode(event))


@pytest.mark.parametrize(
    ("event", "elided"),
    [
        (
            ev.InputAudioBufferAppend(event_id="cl_1", audio=b"\1\2"),
            ev.InputAudioBufferAppend(event_id="cl_1", audio=b""),
        ),
        (
            ev.ResponseOutputAudioDelta(response_id="r1", item_id="a1", delta=b"\1\2"),
            ev.ResponseOutputAudioDelta(response_id="r1", item_id="a1", delta=b""),
        ),
        (ev.SessionCreated(session_id="s1"), ev.SessionCreated(session_id="s1")),
    ],
)
def test_events_are_shown_without_their_sound(event: ev.Event, elided: ev.Event) -> None:
    """People see every field of an event but its audio."""
    assert wire.elide(event) == elided


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ev.InputAudioBufferAppend(audio=b"\1\2\3"), "input_audio_buffer.append 3 bytes"),
        (
            ev.ResponseOutputAudioDelta(response_id="r1", delta=b"\1\2"),
            "response.output_audio.delta r1 2 bytes",
        ),
        (ev.ResponseOutputAudioDelta(delta=b"\1\2"), "response.output_audio.delta 2 bytes"),
        (ev.ResponseCreated(response=ev.Response(id="r1")), "response.created r1"),
        (
            ev.ResponseDone(response=ev.Response(id="r1", status="completed")),
            "response.done r1 completed",
        ),
        (ev.ResponseDone(response=ev.Response(id="r1")), "response.done r1"),
        (
            ev.ConversationItemAdded(item=ev.Item(id="u1", role="user", status="in_progress")),
            "conversation.item.added u1 user in_progress",
        ),
        (
            ev.ConversationItemDone(item=ev.Item(type="function_call", status="completed")),
            "conversation.item.done function_call completed",
        ),
        (
            ev.Error(error=ev.ErrorBody(code="bad", param="session.voice", message=SECRET)),
            "error bad session.voice",
        ),
        (ev.Error(), "error"),
        (ev.UnknownEvent("session.sang"), "session.sang"),
    ],
)
def test_an_event_is_described_by_its_type_and_ids(
    event: ev.ServerEvent | ev.ClientEvent | ev.UnknownEvent, line: str
) -> None:
    """A log line says what came, and how much of it, never what it said."""
    assert wire.describe(event) == line


def test_a_description_is_one_short_line() -> None:
    """A type or an id that a server invents can't forge or flood a log."""
    line = wire.describe(ev.UnknownEvent("session.sang\nINFO all is well " + "x" * 10_000))

    assert line.splitlines() == [line]
    assert len(line) < 500


@pytest.mark.parametrize(
    "event", [event for _, event in SERVER_FRAMES] + [event for event, _ in CLIENT_FRAMES]
)
def test_a_description_holds_no_content(event: ev.ServerEvent | ev.ClientEvent) -> None:
    """No words, names, arguments, instructions or audio of any event are in its description."""
    line = wire.describe(event)

    for content in ("hello", "hi", "morning", "look", '"a"', "42", "kind", "unknown", "+//+"):
        assert content not in line.split()
