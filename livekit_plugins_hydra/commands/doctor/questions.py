"""The questions that the protocol's pages leave open, asked of this server.

Each function takes an open connection and returns findings; none of them raises for what a server
does. What the authors knew is in ``known``, from public material up to November 2026.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import voices

from .findings import Finding, Group, Status, in_ms
from .probe import Probe, lost

TOOL: Final = ev.Tool(
    name="get_weather",
    description="Look up today's weather. Always call this before speaking of the weather.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city's name."}},
        "required": ["city"],
    },
)

INSTRUCTIONS: Final = (
    "You are a weather line. When you are asked about the weather, call get_weather at once,"
    " without a word before. Answer in one short sentence."
)

_CALL_OUTPUT: Final = "Lisbon: sunny, 24 degrees"

_SECRET_WORD: Final = "banana"


@dataclass(frozen=True)
class Patience:
    """How long the doctor waits for what may never come, in seconds."""

    handshake_s: float = 10.0
    ping_s: float = 5.0
    answer_s: float = 15.0
    """From the end of speech to a response."""
    settle_s: float = 1.5
    """From a calling response's last event to its end, before the outputs are sent."""
    bare_s: float = 4.0
    """For what may be ignored: a `response.create`, an item."""
    sound_s: float = 8.0
    """For the first sound of a first response, with a large configuration."""
    done_s: float = 20.0
    """For the end of a response that has begun."""


def finding(
    name: str,
    title: str,
    status: Status,
    answer: str,
    *,
    group: Group = "protocol",
    remedy: str = "",
    known: str = "",
    **facts: Any,
) -> Finding:
    """Return a finding."""
    return Finding(
        id=name,
        group=group,
        title=title,
        status=status,
        answer=answer,
        remedy=remedy,
        known=known,
        facts=facts,
    )


# ------------------------------------------------------------------------- handshake


@dataclass
class Handshake:
    """How the first connection came up."""

    findings: list[Finding] = field(default_factory=list)
    is_ready: bool = False
    voice_refused: bool = False


async def shake_hands(
    probe: Probe,
    session: ev.ClientSession,
    *,
    model: str,
    dialled_s: float,
    patience: Patience,
) -> Handshake:
    """Configure a connection, and look at what the server says of itself.

    Args:
        probe: a connection that was just opened.
        session: what it is configured with.
        model: the tag in the query.
        dialled_s: how long the dial took.
        patience: how long to wait.
    """
    out = Handshake()
    created = await probe.wait(ev.SessionCreated, patience.handshake_s)
    if created is None:
        out.findings.append(
            finding(
                "handshake",
                "Handshake",
                "fail",
                f"no session.created: {lost(probe)}",
                group="session",
                remedy=_remedy_of_end(probe),
            )
        )
        return out
    created_s = created[0] - probe.opened_at
    sent_at = time.monotonic()
    probe.send(ev.SessionConfigure(session=session))

    def answered() -> object:
        return probe.of(ev.SessionConfigured) or probe.of(ev.Error)

    await probe.until(answered, patience.handshake_s)
    configured, errors = probe.of(ev.SessionConfigured), probe.of(ev.Error)
    out.findings.append(_model(probe, model))
    if not configured:
        error = errors[0][1].error if errors else None
        out.voice_refused = error is not None and (error.param or "").endswith("voice")
        out.findings.append(_refused(probe, session, error, model))
        return out
    out.is_ready = True
    configured_s = configured[0][0] - sent_at
    echoed = configured[0][1].session
    out.findings += [
        finding(
            "handshake",
            "Handshake",
            "ok",
            f"dial {in_ms(dialled_s)} ms, session.created {in_ms(created_s)} ms,"
            f" session.configured {in_ms(configured_s)} ms",
            group="session",
            dial_ms=in_ms(dialled_s),
            created_ms=in_ms(created_s),
            configured_ms=in_ms(configured_s),
        ),
        _voice(session, echoed),
        _rate(echoed, model),
    ]
    return out


def _remedy_of_end(probe: Probe) -> str:
    if probe.of(ev.Error):
        return "The server's own words are above; look there first."
    return "Try again; if it stays, send this to Smallest AI: the connection opens, and is silent."


def _model(probe: Probe, model: str) -> Finding:
    for _, warning in probe.of(ev.Warning):
        body = warning.warning
        message = warning.message or (body and body.message) or warning.code or "a warning"
        newest = next(iter(voices.MODELS))
        return finding(
            "model",
            "Model",
            "warn",
            f"{model} is served, with a warning: {message}",
            group="session",
            remedy=f"Use model={newest!r}.",
            nested=body is not None,
        )
    return finding("model", "Model", "ok", f"{model} is served", group="session", model=model)


def _refused(
    probe: Probe, session: ev.ClientSession, error: ev.ErrorBody | None, model: str
) -> Finding:
    if error is None:
        return finding(
            "handshake",
            "Handshake",
            "fail",
            f"no session.configured: {lost(probe)}",
            group="session",
            remedy="Try again; if it stays, send this to Smallest AI with the session id below.",
            session_id=_session_id(probe),
        )
    said = f"{error.code}: {error.message}"
    if (error.param or "").endswith("voice"):
        info = voices.MODELS.get(model)
        remedy = f"Choose one of {', '.join(info.voices)}." if info else "Choose another voice."
        return finding(
            "voice",
            "Voice",
            "fail",
            f"{session.voice} is refused: {said}",
            group="session",
            remedy=remedy,
            known="the six launch voices were refused on 2026-08-20",
        )
    return finding(
        "handshake",
        "Handshake",
        "fail",
        f"the configuration is refused: {said}",
        group="session",
        remedy="That should not happen with this plugin's own configuration: please open an issue.",
        code=error.code,
        param=error.param,
    )


def _session_id(probe: Probe) -> str | None:
    created = probe.of(ev.SessionCreated)
    return created[0][1].session_id if created else None


def _voice(session: ev.ClientSession, echoed: ev.ServerSession) -> Finding:
    if echoed.voice is not None and echoed.voice != session.voice:
        return finding(
            "voice",
            "Voice",
            "warn",
            f"{session.voice} was asked for, {echoed.voice} speaks",
            group="session",
            remedy="Choose a voice of the model; the README lists them.",
            known="an unknown voice is refused or replaced, the pages disagree",
        )
    answer = f"{session.voice} is accepted"
    return finding("voice", "Voice", "ok", answer, group="session", voice=session.voice)


def _rate(echoed: ev.ServerSession, model: str) -> Finding:
    rate_hz, known_hz = echoed.output_audio_sample_rate, voices.output_rate_hz(model)
    known = f"{known_hz} Hz on {model}, probed on 2026-08-20"
    facts = {"rate_hz": rate_hz, "format": echoed.output_audio_format}
    if echoed.output_audio_format not in (None, "pcm16"):
        return finding(
            "output_rate",
            "Output rate",
            "fail",
            f"the sound comes as {echoed.output_audio_format}",
            group="session",
            remedy="This plugin plays pcm16 only: please open an issue.",
            known="pcm16",
            **facts,
        )
    if rate_hz is None:
        return finding(
            "output_rate",
            "Output rate",
            "note",
            f"not told; the plugin plays at {known_hz} Hz",
            group="session",
            remedy="If voices sound too high or too low, please open an issue with this output.",
            known=known,
            **facts,
        )
    is_known = rate_hz == known_hz
    return finding(
        "output_rate",
        "Output rate",
        "ok" if is_known else "note",
        f"{rate_hz} Hz" + ("" if is_known else f", and not {known_hz} Hz as it was known"),
        group="session",
        remedy="" if is_known else "Nothing breaks: the plugin plays at the rate that is told.",
        known=known,
        **facts,
    )


# ------------------------------------------------------------------------- pings


async def ask_ping(probe: Probe, patience: Patience) -> Finding:
    """Whether the server answers pings."""
    took_s = await probe.connection.ping(patience.ping_s)
    if took_s is None:
        return finding(
            "pings",
            "Pings are answered",
            "note",
            f"no, not within {patience.ping_s:g} s",
            remedy="A dead link shows late: the plugin then goes by the server's frames alone.",
            known="unknown",
            answered=False,
        )
    ms = in_ms(took_s)
    answer = f"yes, in {ms} ms"
    return finding(
        "pings",
        "Pings are answered",
        "ok",
        answer,
        known="unknown",
        answered=True,
        ms=in_ms(took_s),
    )


# ------------------------------------------------------------------------- a turn with a tool


async def ask_tool_turn(probe: Probe, question: bytes, patience: Patience) -> list[Finding]:
    """Speak, have a function called, answer it: turn detection, tools, transcripts, usage."""
    mark = probe.mark
    spoken_at = await probe.say(question)

    def begun() -> object:
        return probe.of(ev.ResponseFunctionCallArgumentsDone, mark) or probe.of(
            ev.ResponseDone, mark
        )

    await probe.until(begun, patience.answer_s)
    out = [_turn(probe, mark, spoken_at)]
    calls = probe.of(ev.ResponseFunctionCallArgumentsDone, mark)
    if not calls:
        out.append(await _no_call(probe, mark, patience))
        return out
    called_at, call = calls[0]
    response_id = call.response_id or _response_of(probe, mark)
    done = await probe.wait_done(response_id, patience.settle_s)
    n_calls = len(probe.of(ev.ResponseFunctionCallArgumentsDone, mark))
    has_sound = probe.n_audio_bytes[response_id] > 0
    out.append(_call(call, called_at - spoken_at, n_calls, has_sound=has_sound))
    narrated_at, narration = await _answer(probe, mark, patience)
    late = await probe.wait_done(response_id, 0.5) if done is None else None
    out += [
        _calling_done(before=done is not None, after=late is not None),
        _narration(narrated_at, spoken_at),
    ]
    if narration is not None:
        await probe.wait_done(narration, patience.done_s)
    return out


def _turn(probe: Probe, mark: int, spoken_at: float) -> Finding:
    started = probe.of(ev.InputAudioBufferSpeechStarted, mark)
    stopped = probe.of(ev.InputAudioBufferSpeechStopped, mark)
    created = probe.of(ev.ResponseCreated, mark)
    if not started:
        return finding(
            "turn",
            "Speech is heard",
            "fail",
            f"no speech_started: {probe.ended or 'nothing came'}",
            remedy="The sound does not reach the server, or not as it wants it: open an issue.",
        )
    if not stopped:
        answer, order = "yes, and its end is not told", "never"
    else:
        is_late = bool(created) and created[0][0] < stopped[0][0]
        order = "after the response" if is_late else "before the response"
        answer = f"yes; its end is told {in_ms(stopped[0][0] - spoken_at)} ms after, {order}"
    return finding(
        "turn",
        "Speech is heard",
        "ok",
        answer,
        known="speech_stopped comes before the response, sometimes after it",
        speech_stopped=order,
        detection_ms=in_ms(stopped[0][0] - spoken_at) if stopped else None,
    )


def _response_of(probe: Probe, mark: int) -> str:
    created = probe.of(ev.ResponseCreated, mark)
    return created[-1][1].response.id if created else ""


async def _no_call(probe: Probe, mark: int, patience: Patience) -> Finding:
    response_id = _response_of(probe, mark)
    if not response_id:
        return finding(
            "tool_call",
            "A function is called",
            "fail",
            f"no response to the question: {probe.ended or 'nothing came'}",
            remedy="Run it again; if it stays, send this to Smallest AI.",
        )
    await probe.wait_done(response_id, patience.done_s)
    return finding(
        "tool_call",
        "A function is called",
        "warn",
        "no: the model answered without it",
        remedy="Run it again: models do that at times. Tool questions stay open.",
    )


def _call(
    call: ev.ResponseFunctionCallArgumentsDone, after_s: float, n_calls: int, *, has_sound: bool
) -> Finding:
    try:
        is_json = isinstance(json.loads(call.arguments or ""), dict)
    except ValueError:
        is_json = False
    more = ", with sound in the same response" if has_sound else ""
    return finding(
        "tool_call",
        "A function is called",
        "ok" if is_json else "warn",
        f"yes, {in_ms(after_s)} ms after the question{more}"
        + ("" if is_json else "; the arguments are no JSON object"),
        remedy="" if is_json else "The plugin hands them on as they are: please open an issue.",
        known="whether speech and a call share a response is unknown",
        after_ms=in_ms(after_s),
        calls=n_calls,
        sound_in_same_response=has_sound,
        name_in_done=call.name is not None,
    )


async def _answer(probe: Probe, mark: int, patience: Patience) -> tuple[float | None, str | None]:
    """Send the outputs and ask for the narration; return when it sounds, and its id."""
    for _, call in probe.of(ev.ResponseFunctionCallArgumentsDone, mark):
        item = ev.Item(type="function_call_output", call_id=call.call_id, output=_CALL_OUTPUT)
        probe.send(ev.ConversationItemCreate(item=item))
    since = probe.mark
    probe.send(ev.ResponseCreate())
    created = await probe.wait(ev.ResponseCreated, patience.answer_s, since)
    if created is None:
        return None, None
    narration = created[1].response.id
    return await probe.wait_sound(narration, patience.sound_s), narration


def _calling_done(*, before: bool, after: bool) -> Finding:
    when = "before" if before else "after" if after else "never"
    answer = {
        "before": "yes, before the outputs",
        "after": "yes, only after the outputs",
        "never": "no",
    }[when]
    return finding(
        "calling_response_done",
        "response.done for a tool-only turn",
        "ok" if before else "note",
        answer,
        known="unknown; the plugin waits for none of the three",
        when=when,
    )


def _narration(narrated_at: float | None, spoken_at: float) -> Finding:
    if narrated_at is None:
        return finding(
            "tool_answer",
            "The output is narrated",
            "fail",
            "no: silence after the output and response.create",
            remedy="Send this to Smallest AI: calls with tools fall silent on this server.",
        )
    after_s = narrated_at - spoken_at
    return finding(
        "tool_answer",
        "The output is narrated",
        "ok",
        f"yes; voice to voice {in_ms(after_s)} ms with the tool",
        known="1,624 ms on average in the vendor's benchmark",
        voice_to_voice_ms=in_ms(after_s),
    )


# ------------------------------------------------------------------------- on demand


async def ask_bare_create(probe: Probe, patience: Patience) -> list[Finding]:
    """Whether a `response.create` out of the blue speaks, and whether it can be cancelled."""
    mark = probe.mark
    event_id = probe.send(ev.ResponseCreate())

    def answered() -> object:
        return probe.of(ev.ResponseCreated, mark) or probe.error_about({event_id}, mark)

    await probe.until(answered, patience.bare_s)
    error = probe.error_about({event_id}, mark)
    created = probe.of(ev.ResponseCreated, mark)
    known = "documented only after function outputs"
    title = "A bare response.create speaks"
    if created:
        response_id = created[0][1].response.id
        sound_at = await probe.wait_sound(response_id, patience.sound_s)
        answer = "yes" if sound_at is not None else "a response without sound"
        spoken = finding(
            "bare_create", title, "ok" if sound_at else "note", answer, known=known, how="spoken"
        )
        return [spoken, await _cancel(probe, response_id, patience)]
    if error is not None:
        answer, how = f"no: refused with {error.code}", "refused"
    else:
        answer, how = f"no: ignored for {patience.bare_s:g} s", "ignored"
    remedy = "generate_reply() then makes a new connection, which is documented to speak."
    return [
        finding(
            "bare_create",
            title,
            "note",
            answer,
            remedy=remedy,
            known=known,
            how=how,
            code=error.code if error else None,
            names_event=error is not None and error.event_id == event_id,
        )
    ]


async def _cancel(probe: Probe, response_id: str, patience: Patience) -> Finding:
    title = "response.cancel ends a response"
    if await probe.wait_done(response_id, 0.0) is not None:
        return finding("cancel", title, "skip", "the response was over before")
    mark = probe.mark
    probe.send(ev.ResponseCancel(response_id=response_id))
    done = await probe.wait_done(response_id, patience.bare_s)
    if done is None:
        return finding(
            "cancel", title, "note", "no response.done", known="response.done(cancelled)"
        )
    reason = done.status_details.reason if done.status_details else None
    late = len(probe.of(ev.ResponseOutputAudioDelta, mark))
    return finding(
        "cancel",
        title,
        "ok" if done.status == "cancelled" else "note",
        f"{done.status}{f' ({reason})' if reason else ''}, {late} deltas after it was asked for",
        known="cancelled (client_cancelled)",
        ended_as=done.status,
        reason=reason,
        late_deltas=late,
    )


async def ask_message_item(probe: Probe, patience: Patience) -> Finding:
    """Whether text items are taken, and answered."""
    mark = probe.mark
    content = [
        ev.Content(type="input_text", text=f"Please say the word {_SECRET_WORD}, only that.")
    ]
    item = ev.Item(type="message", role="user", content=content)
    sent = {probe.send(ev.ConversationItemCreate(item=item))}
    sent.add(probe.send(ev.ResponseCreate()))

    def answered() -> object:
        return probe.of(ev.ResponseCreated, mark) or probe.error_about(sent, mark)

    await probe.until(answered, patience.bare_s)
    error, created = probe.error_about(sent, mark), probe.of(ev.ResponseCreated, mark)
    title, known = "Text items are accepted", "allowed by the schema, undocumented"
    words = ""
    if created:
        await probe.wait_done(created[0][1].response.id, patience.done_s)
        words = probe.words_of(created[0][1].response.id)
    if error is not None:
        answer = f"no: refused with {error.code}"
        remedy = "Typed text reaches the model through a new connection's instructions instead."
        return finding(
            "message_items", title, "note", answer, remedy=remedy, known=known, how="refused"
        )
    if not created:
        answer = "no error, and no answer"
        return finding("message_items", title, "note", answer, known=known, how="silent")
    if not words:
        answer, how = (
            "no error, and an answer; more can't be told without transcripts",
            "answered",
        )
    elif _SECRET_WORD in words.lower():
        answer, how = "yes: the model did what the text asked for", "read"
    else:
        answer, how = "no error, and an answer that does not follow the text", "not_followed"
    return finding(
        "message_items", title, "ok" if how == "read" else "note", answer, known=known, how=how
    )


# ------------------------------------------------------------------------- what came along


def look_back(probe: Probe) -> list[Finding]:
    """Transcripts, usage and unknown events: what the turns before have shown."""
    agent = probe.of(ev.ResponseOutputAudioTranscriptDelta)
    items = [event.item for _, event in probe.of(ev.ConversationItemDone)]
    user = any(item.role == "user" and item.text for item in items)
    of_agent = bool(agent) or any(item.role == "assistant" and item.text for item in items)
    who = [name for name, has in (("the agent", of_agent), ("the user", user)) if has]
    ends = [event.response for _, event in probe.of(ev.ResponseDone)]
    usage = [end.usage for end in ends if end.usage is not None]
    unknown = ", ".join(f"{kind} ({count})" for kind, count in probe.unknown.items())
    remedy = "LiveKit's history stays empty without: give the model input_stt and output_stt."
    out = [
        finding(
            "transcripts",
            "Transcripts come",
            "ok" if len(who) == 2 else "note",
            f"of {' and '.join(who)}" if who else "no",
            remedy="" if len(who) == 2 else remedy,
            known="documented as none; the agent's were seen in July 2026 on hydra",
            agent=of_agent,
            user=user,
        ),
        finding(
            "usage",
            "Tokens are counted",
            "ok" if usage else "note",
            f"in {len(usage)} of {len(ends)} responses",
            known='"when available"',
            tokens=sum(each.total_tokens or 0 for each in usage),
        ),
    ]
    if unknown or probe.connection.n_malformed or probe.connection.n_binary:
        out.append(
            finding(
                "unknown_events",
                "Every frame is known",
                "note",
                f"no: {unknown or 'malformed or binary frames'}",
                remedy="They are ignored. Please open an issue with this output and --wire-log.",
                types=dict(probe.unknown),
                malformed=probe.connection.n_malformed,
                binary=probe.connection.n_binary,
            )
        )
    else:
        out.append(finding("unknown_events", "Every frame is known", "ok", "yes"))
    return out


# ------------------------------------------------------------------------- the ceiling


async def speaks_with(
    probe: Probe, voice: str, n_bytes: int, patience: Patience
) -> tuple[str, ev.ErrorBody | None]:
    """Configure with a frame of so many bytes, to speak first; tell what came of it.

    Returns:
        ``speaks``, ``silent``, ``refused`` or ``ended``; and the error, if one came.
    """
    from livekit_plugins_hydra.protocol import wire

    def frame(text: str) -> ev.SessionConfigure:
        session = ev.ClientSession(instructions=text, voice=voice, generate_initial_response=True)
        return ev.SessionConfigure(event_id="dr_" + "x" * 12, session=session)

    filler = "You are kind. "
    opening = "Say hello in one short sentence. "
    n_text = n_bytes - len(wire.encode(frame("")))
    text = (opening + filler * (n_text // len(filler) + 1))[:n_text]
    if await probe.wait(ev.SessionCreated, patience.handshake_s) is None:
        return "ended", None
    probe.send(frame(text))

    def decided() -> object:
        return (
            probe.of(ev.ResponseOutputAudioDelta)
            or probe.of(ev.Error)
            or [end for _, end in probe.of(ev.ResponseDone)]
        )

    await probe.until(decided, patience.handshake_s + patience.sound_s)
    if probe.of(ev.ResponseOutputAudioDelta):
        return "speaks", None
    if errors := probe.of(ev.Error):
        return "refused", errors[0][1].error
    return ("ended" if probe.ended is not None else "silent"), None
