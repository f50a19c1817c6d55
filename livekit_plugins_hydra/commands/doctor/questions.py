"""The table of questions: what is asked of a server, what is known, and each possible answer.

What is known is from public material up to November 2026. [docs] vendor docs and AsyncAPI of
2026-08-21; [probe] the docs authors' live probes of May to August 2026; [client] the vendor's
reference client and demo; [sdk] the vendor's Python SDK 5.14.0; [eva] ServiceNow's eva harness, run
against the live server in July 2026.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from livekit_plugins_hydra.protocol import voices

from . import answering, observed
from .answering import Chosen
from .findings import Group, Status

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer:
    """One of the answers that a question may get. ``{name}`` stands for something that was seen."""

    status: Status
    text: str
    """What was seen, in a few words."""
    remedy: str = ""
    """What it means for a user, and what to do; empty where nothing is to be done."""
    known: str | None = None
    """What it is compared with, where that is not the question's `known`."""


@dataclass(frozen=True, kw_only=True)
class Question(Generic[_T]):
    """One row of the table."""

    id: str
    """A stable name, for programs and for issues."""
    group: Group = "protocol"
    title: str
    """The question as it is printed."""
    asks: str
    """The question in one sentence."""
    source: str
    """What is known of it, and from where."""
    known: str = ""
    """What is known, as it is printed beside an answer."""
    about: type[_T]
    """What has to be observed, so that it can be answered."""
    look: Callable[[_T], Chosen | None]
    """Answers it from what was observed; None where that has no answer."""
    answers: Mapping[str, Answer]


_NEW_CONNECTION: Final = (
    "generate_reply() then makes a new connection, which is documented to speak."
)
_NO_HISTORY: Final = (
    "LiveKit's history stays empty without: give the model input_stt and output_stt."
)
_CANCELLED: Final = "{ended_as}{why}, {deltas} after it was asked for"

QUESTIONS: Final[tuple[Question[Any], ...]] = (
    Question(
        id="auth",
        group="session",
        title="Key is accepted",
        asks="Is the key accepted in the form in which calls send it?",
        source="in the URL [docs]; a bad key is HTTP 401 [probe], close 1008 by an early page",
        about=observed.Authentication,
        look=answering.auth,
        answers={
            "accepted": Answer("ok", "yes, {where}"),
            "form refused": Answer(
                "fail", "no: {how}", 'The key is good in the other form: use auth="{other}".'
            ),
            "refused": Answer(
                "fail",
                "no: {how}",
                "Copy the key again, and see in the console that it may use speech-to-speech.",
            ),
        },
    ),
    Question(
        id="connection",
        group="session",
        title="Connection",
        asks="What is in the way of a connection?",
        source="server_full, then close 1013, where there is no room [docs]",
        about=observed.NoConnection,
        look=answering.connection,
        answers={
            "full": Answer(
                "fail", "{error}", "Wait, or raise the plan's limit; calls that run count, too."
            ),
            "refused for now": Answer(
                "fail", "{error}", "Run it again in a minute: the server may be busy, or down."
            ),
            "refused": Answer(
                "fail",
                "{error}",
                "Check HYDRA_BASE_URL, --model, and that the plan has speech-to-speech.",
            ),
            "unreachable": Answer("fail", "{error}", "Look at the network above."),
        },
    ),
    Question(
        id="model",
        group="session",
        title="Model",
        asks="Is the model served, and without a warning?",
        source="hydra warns since 2026-08-20 [docs]; the warning's shape is unpublished",
        about=observed.Opening,
        look=answering.model,
        answers={
            "served": Answer("ok", "{model} is served"),
            "warned": Answer(
                "warn",
                "{model} is served, with a warning: {message}",
                f"Use model={next(iter(voices.MODELS))!r}.",
            ),
        },
    ),
    Question(
        id="handshake",
        group="session",
        title="Handshake",
        asks="Does the handshake come to its end, and how fast?",
        source="session.created, session.configure, session.configured [docs]",
        about=observed.Opening,
        look=answering.handshake,
        answers={
            "ready": Answer(
                "ok",
                "connected in {connect_ms} ms, session.created {created_ms} ms,"
                " session.configured {configured_ms} ms",
            ),
            "not created": Answer(
                "fail",
                "no session.created: {lost}",
                "Try again; if it stays, send this to Smallest AI: the connection opens, and is"
                " silent.",
            ),
            "not created, with an error": Answer(
                "fail",
                "no session.created: {lost}",
                "The server's own words are above; look there first.",
            ),
            "not configured": Answer(
                "fail",
                "no session.configured: {lost}",
                "Try again; if it stays, send this to Smallest AI with the session id below.",
            ),
            "refused": Answer(
                "fail",
                "the configuration is refused: {code}: {message}",
                "That should not happen with this plugin's own configuration: please open an"
                " issue.",
            ),
        },
    ),
    Question(
        id="voice",
        group="session",
        title="Voice",
        asks="Does the voice speak that was asked for?",
        source="an unknown voice is refused or replaced, by two pages [docs]; wren was refused"
        " on 2026-08-20 [probe]",
        about=observed.Opening,
        look=answering.voice,
        answers={
            "accepted": Answer("ok", "{voice} is accepted"),
            "refused": Answer(
                "fail",
                "{voice} is refused: {code}: {message}",
                "Choose {choice}.",
                known="the six launch voices were refused on 2026-08-20",
            ),
            "replaced": Answer(
                "warn",
                "{voice} was asked for, {other} speaks",
                "Choose a voice of the model; the README lists them.",
                known="an unknown voice is refused or replaced, the pages disagree",
            ),
        },
    ),
    Question(
        id="output_rate",
        group="session",
        title="Output rate",
        asks="Which format and rate does the agent's audio have?",
        source="pcm16; 24 kHz on hydra-v1.1, 48 kHz on the others [probe] [eva]; [docs] say 48 kHz",
        known="{known_hz} Hz on {model}, probed on 2026-08-20",
        about=observed.Opening,
        look=answering.rate,
        answers={
            "as known": Answer("ok", "{rate_hz} Hz"),
            "another rate": Answer(
                "note",
                "{rate_hz} Hz, and not {known_hz} Hz as it was known",
                "Nothing breaks: the plugin plays at the rate that is told.",
            ),
            "not said": Answer(
                "note",
                "not told; the plugin plays at {known_hz} Hz",
                "If voices sound too high or too low, please open an issue with this output.",
            ),
            "another format": Answer(
                "fail",
                "the audio comes as {format}",
                "This plugin plays pcm16 only: please open an issue.",
                known="pcm16",
            ),
        },
    ),
    Question(
        id="pings",
        title="Pings are answered",
        asks="Does the server answer WebSocket pings?",
        source="nobody says",
        known="unknown",
        about=observed.Ping,
        look=answering.pings,
        answers={
            "yes": Answer("ok", "yes, in {ms} ms"),
            "no": Answer(
                "note",
                "no, not within {patience_s:g} s",
                "A dead link shows late: the plugin then goes by the server's frames alone.",
            ),
        },
    ),
    Question(
        id="turn",
        title="Speech is heard",
        asks="Is speech heard, and when does the server say that it has ended?",
        source="about 10 ms before the response, sometimes after it has begun [eva]",
        known="speech_stopped comes before the response, sometimes after it",
        about=observed.ToolTurn,
        look=answering.turn,
        answers={
            "heard": Answer("ok", "yes; its end is told {detection_ms} ms after, {speech_stopped}"),
            "no end": Answer("ok", "yes, and its end is not told"),
            "unheard": Answer(
                "fail",
                "no speech_started: {ended}",
                "The audio does not reach the server, or not as it wants it: open an issue.",
                known="",
            ),
        },
    ),
    Question(
        id="tool_call",
        title="A function is called",
        asks="Does the model call a function, and does it speak in the same response?",
        source="a response.function_call_arguments.done each [docs]; of audio beside it nobody"
        " says anything",
        known="whether speech and a call share a response is unknown",
        about=observed.ToolTurn,
        look=answering.tool_call,
        answers={
            "called": Answer("ok", "yes, {after_ms} ms after the question{more}"),
            "odd arguments": Answer(
                "warn",
                "yes, {after_ms} ms after the question{more}; the arguments are no JSON object",
                "The plugin hands them on as they are: please open an issue.",
            ),
            "no call": Answer(
                "warn",
                "no: the model answered without it",
                "Run it again: models do that at times. Tool questions stay open.",
                known="",
            ),
            "no response": Answer(
                "fail",
                "no response to the question: {ended}",
                "Run it again; if it stays, send this to Smallest AI.",
                known="",
            ),
        },
    ),
    Question(
        id="calling_response_done",
        title="response.done for a tool-only turn",
        asks="When is a response done that only calls functions?",
        source="a diagram shows no response.done [docs], a comment says that it comes [client]",
        known="unknown; the plugin waits for none of the three",
        about=observed.ToolTurn,
        look=answering.calling_done,
        answers={
            "before": Answer("ok", "yes, before the outputs"),
            "after": Answer("note", "yes, only after the outputs"),
            "never": Answer("note", "no"),
        },
    ),
    Question(
        id="tool_answer",
        title="The output is narrated",
        asks="Does the model speak of a function's output, and after how long?",
        source="after one response.create [docs]; the figure is the vendor's benchmark",
        known="1,624 ms on average in the vendor's benchmark",
        about=observed.ToolTurn,
        look=answering.tool_answer,
        answers={
            "narrated": Answer("ok", "yes; voice to voice {voice_to_voice_ms} ms with the tool"),
            "silence": Answer(
                "fail",
                "no: silence after the output and response.create",
                "Send this to Smallest AI: calls with tools fall silent on this server.",
                known="",
            ),
        },
    ),
    Question(
        id="bare_create",
        title="A bare response.create speaks",
        asks="Does the model speak after a response.create that follows no function output?",
        source="response.create is there for narration, and has no fields [docs]",
        known="documented only after function outputs",
        about=observed.BareCreate,
        look=answering.bare_create,
        answers={
            "spoken": Answer("ok", "yes"),
            "silent": Answer("note", "a response without audio"),
            "refused": Answer("note", "no: refused with {code}", _NEW_CONNECTION),
            "ignored": Answer("note", "no: ignored for {patience_s:g} s", _NEW_CONNECTION),
        },
    ),
    Question(
        id="cancel",
        title="response.cancel ends a response",
        asks="How does a response end that is cancelled, and what still comes of it?",
        source="response.done(cancelled, client_cancelled) [docs]; of late deltas nobody says"
        " anything",
        known="cancelled (client_cancelled)",
        about=observed.BareCreate,
        look=answering.cancel,
        answers={
            "cancelled": Answer("ok", _CANCELLED),
            "done otherwise": Answer("note", _CANCELLED),
            "not done": Answer("note", "no response.done", known="response.done(cancelled)"),
            "over before": Answer("skip", "the response was over before", known=""),
        },
    ),
    Question(
        id="message_items",
        title="Text items are accepted",
        asks="Does the model read text items?",
        source="the schema allows every item, the pages name function outputs only [docs]",
        known="allowed by the schema, undocumented",
        about=observed.TextItem,
        look=answering.message_items,
        answers={
            "read": Answer("ok", "yes: the model did what the text asked for"),
            "answered": Answer(
                "note", "no error, and an answer; more can't be told without transcripts"
            ),
            "not_followed": Answer("note", "no error, and an answer that does not follow the text"),
            "silent": Answer("note", "no error, and no answer"),
            "refused": Answer(
                "note",
                "no: refused with {code}",
                "Typed text reaches the model through a new connection's instructions instead.",
            ),
        },
    ),
    Question(
        id="transcripts",
        title="Transcripts come",
        asks="Of whom do transcripts come?",
        source="of nobody [docs]; the agent's came on hydra [eva], the user's in a demo [client]",
        known="documented as none; the agent's were seen in July 2026 on hydra",
        about=observed.Traffic,
        look=answering.transcripts,
        answers={
            "of both": Answer("ok", "of {who}"),
            "of one": Answer("note", "of {who}", _NO_HISTORY),
            "none": Answer("note", "no", _NO_HISTORY),
        },
    ),
    Question(
        id="usage",
        title="Tokens are counted",
        asks="Does the server say how many tokens a response took?",
        source='"when available" [docs]',
        known='"when available"',
        about=observed.Traffic,
        look=answering.usage,
        answers={
            "counted": Answer("ok", "in {counted} of {responses} responses"),
            "not counted": Answer("note", "in {counted} of {responses} responses"),
        },
    ),
    Question(
        id="unknown_events",
        title="Every frame is known",
        asks="Does the server send anything that this plugin does not know?",
        source="the catalogue of [docs], and the transcripts of [eva]",
        about=observed.Traffic,
        look=answering.unknown_events,
        answers={
            "all known": Answer("ok", "yes"),
            "some unknown": Answer(
                "note",
                "no: {which}",
                "They are ignored. Please open an issue with this output and --wire-log.",
            ),
        },
    ),
    Question(
        id="lasts",
        title="The connection lasts",
        asks="What has ended the connection while it was used?",
        source="close 1000 after 30 s without a frame; no other limit is named [docs]",
        about=observed.Lost,
        look=lambda seen: Chosen("ended", words={"error": seen.error}),
        answers={
            "ended": Answer(
                "fail",
                "{error}",
                "Run it again with --wire-log wire.jsonl, and look at the last frames.",
            ),
        },
    ),
    Question(
        id="other_auth",
        title="{where} form of auth",
        asks="Is the key accepted in the other form, too?",
        source="in the URL [docs]; in a header, which is all that the SDK does [sdk]",
        known="{known}",
        about=observed.OtherForm,
        look=answering.other_auth,
        answers={
            "header accepted": Answer("ok", 'accepted; auth="header" keeps the key out of URLs'),
            "query accepted": Answer("ok", "accepted"),
            "refused": Answer("note", "no: {result}"),
        },
    ),
    Question(
        id="payload_ceiling",
        title="Payload ceiling",
        asks="How large may a configuration be until the server falls silent?",
        source="no limit is named [docs]; the audio stops without an error [eva]",
        known="audio was missing over 18 KB on 2026-07-01, over 32 KB on 2026-07-02",
        about=observed.Ceiling,
        look=answering.payload_ceiling,
        answers={
            "higher": Answer("ok", "over {spoken:,} bytes"),
            "between": Answer("ok", "between {spoken:,} and {silent:,} bytes ({result} there)"),
            "too low": Answer(
                "fail",
                "{result} at {silent:,} bytes already, which this plugin takes for safe",
                "Keep instructions and tools short, and please open an issue with this output:"
                " either the ceiling is lower, or the server does not speak first.",
            ),
        },
    ),
    Question(
        id="one_turn",
        group="call",
        title="A turn through LiveKit",
        asks="How long does a user wait for an answer?",
        source="the figure is the vendor's benchmark, without tools",
        known="864 ms (median) in the vendor's benchmark",
        about=observed.LiveKitTurn,
        look=answering.one_turn,
        answers={
            "answered": Answer(
                "ok", "voice to voice {voice_to_voice_ms} ms, {seconds:.1f} s of answer"
            ),
            "failed": Answer("fail", "{failure}", "{remedy}", known=""),
        },
    ),
)
"""Every question, in the order in which the answers are printed."""
