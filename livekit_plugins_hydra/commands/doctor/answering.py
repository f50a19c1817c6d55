"""How each question is answered from what was observed; the texts are in the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from livekit_plugins_hydra.protocol import voices
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConnectionLost,
    HandshakeRefused,
    ServerFull,
)
from livekit_plugins_hydra.report.counting import counted

from .findings import in_ms
from .observed import (
    Authentication,
    BareCreate,
    Ceiling,
    LiveKitTurn,
    NoConnection,
    Opening,
    OtherForm,
    Ping,
    TextItem,
    ToolTurn,
    Traffic,
)


@dataclass(frozen=True)
class Chosen:
    """Which answer it is, and what stands in it."""

    answer: str
    """A key of the question's `answers`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The answer for programs."""
    words: Mapping[str, object] = field(default_factory=dict)
    """What else the texts name."""


def auth(seen: Authentication) -> Chosen:
    """Tell whether the key is accepted, and whether its other form would be."""
    facts: dict[str, Any]
    match seen.refusal:
        case None:
            where = "in the URL" if seen.form == "query" else "in a header"
            return Chosen("accepted", words={"where": where})
        case AuthenticationFailed(status=status):
            how, facts = f"HTTP {status}", {"http_status": status}
        case ConnectionLost(code=code, reason=reason):
            how, facts = f"close {code} ({reason})", {"close_code": code}
    answer = "form refused" if seen.other_result == "accepted" else "refused"
    facts["other_form"] = seen.other_result
    return Chosen(answer, facts, {"how": how, "other": seen.other_form})


def connection(seen: NoConnection) -> Chosen:
    """Tell by the error what is in the way."""
    match seen.error:
        case ServerFull():
            answer = "full"
        case HandshakeRefused(retryable=True):
            answer = "refused for now"
        case HandshakeRefused():
            answer = "refused"
        case _:
            answer = "unreachable"
    return Chosen(answer, words={"error": seen.error})


def model(seen: Opening) -> Chosen | None:
    """Take a warning for one about the model: no other is known."""
    if seen.created_s is None:
        return None
    if seen.warning is None:
        return Chosen("served", {"model": seen.model})
    warning, body = seen.warning, seen.warning.warning
    message = warning.message or (body and body.message) or warning.code or "a warning"
    words = {"model": seen.model, "message": message}
    return Chosen("warned", {"nested": body is not None}, words)


def handshake(seen: Opening) -> Chosen | None:
    """Tell where it stopped; a refused voice is the question after this one."""
    if seen.created_s is None:
        answer = "not created" if seen.error is None else "not created, with an error"
        return Chosen(answer, words={"lost": seen.lost})
    if seen.configured_s is not None:
        facts = {
            "connect_ms": in_ms(seen.connected_s),
            "created_ms": in_ms(seen.created_s),
            "configured_ms": in_ms(seen.configured_s),
        }
        return Chosen("ready", facts)
    if seen.error is None:
        return Chosen("not configured", {"session_id": seen.session_id}, {"lost": seen.lost})
    if seen.is_voice_refused:
        return None
    words = {"message": seen.error.message}
    return Chosen("refused", {"code": seen.error.code, "param": seen.error.param}, words)


def voice(seen: Opening) -> Chosen | None:
    """Compare the voice that was asked for with the one that speaks."""
    voice = seen.asked.voice
    if seen.is_voice_refused and seen.error is not None:
        info = voices.MODELS.get(seen.model)
        choice = f"one of {', '.join(info.voices)}" if info else "another voice"
        words = {"code": seen.error.code, "message": seen.error.message}
        return Chosen("refused", words={"voice": voice, "choice": choice, **words})
    if seen.echoed is None:
        return None
    if seen.echoed.voice not in (None, voice):
        return Chosen("replaced", words={"voice": voice, "other": seen.echoed.voice})
    return Chosen("accepted", {"voice": voice})


def rate(seen: Opening) -> Chosen | None:
    """Compare the rate with the one that is known of the model."""
    if seen.echoed is None:
        return None
    rate_hz, form = seen.echoed.output_audio_sample_rate, seen.echoed.output_audio_format
    known_hz = voices.output_rate_hz(seen.model)
    if form not in (None, "pcm16"):
        answer = "another format"
    elif rate_hz is None:
        answer = "not said"
    else:
        answer = "as known" if rate_hz == known_hz else "another rate"
    words = {"known_hz": known_hz, "model": seen.model}
    return Chosen(answer, {"rate_hz": rate_hz, "format": form}, words)


def pings(seen: Ping) -> Chosen:
    """Tell whether a pong came."""
    if seen.took_s is None:
        return Chosen("no", {"answered": False}, {"patience_s": seen.patience_s})
    return Chosen("yes", {"answered": True, "ms": in_ms(seen.took_s)})


def turn(seen: ToolTurn) -> Chosen:
    """Tell whether speech was noticed, and when its end was."""
    if not seen.is_heard:
        return Chosen("unheard", words={"ended": seen.ended or "nothing came"})
    if seen.stopped_s is None:
        return Chosen("no end", {"speech_stopped": "never", "detection_ms": None})
    order = "after the response" if seen.is_stopped_late else "before the response"
    return Chosen("heard", {"speech_stopped": order, "detection_ms": in_ms(seen.stopped_s)})


def tool_call(seen: ToolTurn) -> Chosen:
    """Tell whether a function was called as the protocol has it."""
    if seen.call is None:
        answer = "no call" if seen.response_id else "no response"
        return Chosen(answer, words={"ended": seen.ended or "nothing came"})
    try:
        is_object = isinstance(json.loads(seen.call.arguments or ""), dict)
    except ValueError:
        is_object = False
    facts = {
        "after_ms": in_ms(seen.called_s),
        "calls": seen.n_calls,
        "audio_in_same_response": seen.has_audio,
        "name_in_done": seen.call.name is not None,
    }
    more = ", with audio in the same response" if seen.has_audio else ""
    return Chosen("called" if is_object else "odd arguments", facts, {"more": more})


def calling_done(seen: ToolTurn) -> Chosen | None:
    """Tell when the response with the function call was done, if there was one."""
    return None if seen.call is None else Chosen(seen.calling_done, {"when": seen.calling_done})


def tool_answer(seen: ToolTurn) -> Chosen | None:
    """Tell whether the output was narrated, if there was a function call."""
    if seen.call is None:
        return None
    if seen.narrated_s is None:
        return Chosen("silence")
    return Chosen("narrated", {"voice_to_voice_ms": in_ms(seen.narrated_s)})


def bare_create(seen: BareCreate) -> Chosen:
    """Tell whether the model spoke."""
    if seen.has_audio is not None:
        return Chosen("spoken" if seen.has_audio else "silent", {"how": "spoken"})
    how = "ignored" if seen.error is None else "refused"
    code = seen.error.code if seen.error else None
    facts = {"how": how, "code": code, "names_event": seen.names_event}
    return Chosen(how, facts, {"patience_s": seen.patience_s})


def cancel(seen: BareCreate) -> Chosen | None:
    """Tell how the response ended that was cancelled, if there was one."""
    if seen.cancel is None:
        return None
    if seen.cancel.was_over:
        return Chosen("over before")
    done = seen.cancel.done
    if done is None:
        return Chosen("not done")
    reason = done.status_details.reason if done.status_details else None
    facts = {"ended_as": done.status, "reason": reason, "late_deltas": seen.cancel.late_deltas}
    answer = "cancelled" if done.status == "cancelled" else "done otherwise"
    deltas = counted(seen.cancel.late_deltas, "delta")
    return Chosen(answer, facts, {"why": f" ({reason})" if reason else "", "deltas": deltas})


def message_items(seen: TextItem) -> Chosen:
    """Tell what came of the text."""
    if seen.error is not None:
        return Chosen("refused", {"how": "refused"}, {"code": seen.error.code})
    if not seen.is_answered:
        how = "silent"
    elif not seen.words:
        how = "answered"
    else:
        how = "read" if seen.is_followed else "not_followed"
    return Chosen(how, {"how": how})


def transcripts(seen: Traffic) -> Chosen:
    """Tell whose words came."""
    facts = {"agent": seen.agent_text, "user": seen.user_text}
    sides = (("the agent", seen.agent_text), ("the user", seen.user_text))
    who = [name for name, has_text in sides if has_text]
    return Chosen(("none", "of one", "of both")[len(who)], facts, {"who": " and ".join(who)})


def usage(seen: Traffic) -> Chosen:
    """Tell how many responses had their tokens counted."""
    words = {"counted": len(seen.tokens), "responses": seen.n_responses}
    return Chosen("counted" if seen.tokens else "not counted", {"tokens": sum(seen.tokens)}, words)


def unknown_events(seen: Traffic) -> Chosen:
    """Tell what came that is not in the catalogue."""
    if not (seen.unknown or seen.n_malformed):
        return Chosen("all known")
    facts = {"types": dict(seen.unknown), "malformed": seen.n_malformed}
    which = ", ".join(f"{kind} ({count})" for kind, count in seen.unknown.items())
    return Chosen("some unknown", facts, {"which": which or "malformed frames"})


def other_auth(seen: OtherForm) -> Chosen:
    """Tell whether the other form works."""
    words = {
        "query": {"where": "URL", "known": "documented"},
        "header": {"where": "Header", "known": "the vendor's SDK does it, undocumented"},
    }[seen.form]
    answer = f"{seen.form} accepted" if seen.result == "accepted" else "refused"
    return Chosen(answer, {"form": seen.form, "result": seen.result}, words)


def payload_ceiling(seen: Ceiling) -> Chosen:
    """Tell between which sizes the server falls silent."""
    words = {"spoken": seen.spoken, "silent": seen.silent, "result": seen.result}
    answer = "higher" if seen.silent is None else "between" if seen.spoken else "too low"
    return Chosen(answer, {"results": seen.results}, words)


def one_turn(seen: LiveKitTurn) -> Chosen:
    """Tell how long the user waited."""
    if seen.failure:
        return Chosen("failed", words={"failure": seen.failure, "remedy": seen.remedy})
    facts = {"voice_to_voice_ms": in_ms(seen.waited_s), "answer_s": round(seen.answer_s, 2)}
    return Chosen("answered", facts, {"seconds": seen.answer_s})
