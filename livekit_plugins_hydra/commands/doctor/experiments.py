"""What is done on connections to find out how a server behaves; none of it raises for that."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Final

from livekit_plugins_hydra.options import Options
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import wire
from livekit_plugins_hydra.protocol.ceiling import CEILING_BYTES
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
)
from livekit_plugins_hydra.transport.wirelog import Trace

from .findings import Ledger, in_ms
from .observed import (
    BareCreate,
    Cancel,
    Ceiling,
    Opening,
    Ping,
    TextItem,
    ToolTurn,
    Traffic,
)
from .probe import Probe, lost, open_probe

CEILINGS_BYTES: Final = (CEILING_BYTES, 48_000, 120_000)
"""Configurations that are tried: what this plugin allows itself, and more.

A client saw audio vanish over 18 KB on 2026-07-01, and over 32 KB on 2026-07-02.
"""

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

_OUTPUT: Final = "Lisbon: sunny, 24 degrees"

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
    audio_s: float = 8.0
    """For the first audio of a first response, with a large configuration."""
    done_s: float = 20.0
    """For the end of a response that has begun."""


# ------------------------------------------------------------------------- with a new connection


async def shake_hands(
    probe: Probe, asked: ev.ClientSession, *, model: str, connected_s: float, patience: Patience
) -> Opening:
    """Configure a connection, and keep what the server says of itself.

    Args:
        probe: a connection that was just opened.
        asked: what it is configured with.
        model: the tag in the query.
        connected_s: how long it took to connect.
        patience: how long to wait.
    """
    created = await probe.wait(ev.SessionCreated, patience.handshake_s)
    if created is None:
        return Opening(model, asked, connected_s, lost(probe), probe.first_error())
    sent_at = time.monotonic()
    probe.send(ev.SessionConfigure(session=asked))

    def decided() -> object:
        return probe.of(ev.SessionConfigured) or probe.of(ev.Error)

    await probe.until(decided, patience.handshake_s)
    configured, warning = probe.first(ev.SessionConfigured), probe.first(ev.Warning)
    return Opening(
        model,
        asked,
        connected_s,
        lost(probe),
        probe.first_error(),
        created_s=created[0] - probe.opened_at,
        session_id=created[1].session_id,
        warning=warning[1] if warning else None,
        configured_s=configured[0] - sent_at if configured else None,
        echoed=configured[1].session if configured else None,
    )


async def try_key(options: Options, ledger: Ledger, trace: Trace, patience: Patience) -> str:
    """Connect with a form of authentication; return ``accepted``, or how it failed."""
    try:
        async with open_probe(options, ledger, trace) as probe:
            if await probe.wait(ev.SessionCreated, patience.handshake_s) is not None:
                return "accepted"
            return f"no session.created ({probe.ended or 'silence'})"
    except AuthenticationFailed as error:
        return f"HTTP {error.status}"
    except (ConnectionFailed, ConfigurationError) as error:
        return str(error)


async def find_ceiling(
    options: Options, ledger: Ledger, trace: Trace, patience: Patience
) -> Ceiling:
    """Find between which sizes of a configuration the server falls silent."""
    spoken, result = 0, ""
    results: dict[str, dict[str, Any]] = {}
    for n_bytes in CEILINGS_BYTES:
        began_at = time.monotonic()
        error: ev.ErrorBody | None = None
        try:
            async with open_probe(options, ledger, trace) as probe:
                result, error = await _speaks_with(probe, options.voice, n_bytes, patience)
        except (ConnectionFailed, ConfigurationError) as failure:
            result = str(failure)
        results[str(n_bytes)] = {"result": result, "ms": in_ms(time.monotonic() - began_at)}
        if error is not None:
            results[str(n_bytes)]["code"] = error.code or ""
        if result != "speaks":
            return Ceiling(spoken, n_bytes, result, results)
        spoken = n_bytes
    return Ceiling(spoken, None, result, results)


async def _speaks_with(
    probe: Probe, voice: str, n_bytes: int, patience: Patience
) -> tuple[str, ev.ErrorBody | None]:
    """Configure with a frame of so many bytes, to speak first; tell what came of it.

    Returns:
        ``speaks``, ``silent``, ``refused`` or ``ended``; and the error, if one came.
    """

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
            probe.of(ev.ResponseOutputAudioDelta) or probe.of(ev.Error) or probe.of(ev.ResponseDone)
        )

    await probe.until(decided, patience.handshake_s + patience.audio_s)
    if probe.of(ev.ResponseOutputAudioDelta):
        return "speaks", None
    if (error := probe.first_error()) is not None:
        return "refused", error
    return ("ended" if probe.ended is not None else "silent"), None


# ------------------------------------------------------------------------- on one that is ready


async def ping(probe: Probe, patience: Patience) -> Ping:
    """Send a ping."""
    return Ping(await probe.connection.ping(patience.ping_s), patience.ping_s)


async def hold_tool_turn(probe: Probe, question: bytes, patience: Patience) -> ToolTurn:
    """Speak, have a function called, and answer it."""
    mark = probe.mark
    spoken_at = await probe.say(question)

    def begun() -> object:
        called = probe.of(ev.ResponseFunctionCallArgumentsDone, mark)
        return called or probe.of(ev.ResponseDone, mark)

    await probe.until(begun, patience.answer_s)
    stopped = probe.first(ev.InputAudioBufferSpeechStopped, mark)
    created = probe.of(ev.ResponseCreated, mark)
    called = probe.first(ev.ResponseFunctionCallArgumentsDone, mark)
    response_id = created[-1][1].response.id if created else ""
    turn = ToolTurn(
        ended=probe.ended,
        is_heard=probe.first(ev.InputAudioBufferSpeechStarted, mark) is not None,
        stopped_s=stopped[0] - spoken_at if stopped else None,
        is_stopped_late=bool(stopped and created and created[0][0] < stopped[0]),
        response_id=response_id,
    )
    if called is None:
        if response_id:
            await probe.wait_done(response_id, patience.done_s)
        return turn
    called_at, call = called
    response_id = call.response_id or response_id
    is_done = await probe.wait_done(response_id, patience.settle_s) is not None
    n_calls = len(probe.of(ev.ResponseFunctionCallArgumentsDone, mark))
    has_audio = probe.n_audio_bytes[response_id] > 0
    narrated_at, narration = await _have_narrated(probe, mark, patience)
    is_done_late = not is_done and await probe.wait_done(response_id, 0.5) is not None
    if narration is not None:
        await probe.wait_done(narration, patience.done_s)
    return replace(
        turn,
        call=call,
        called_s=called_at - spoken_at,
        n_calls=n_calls,
        has_audio=has_audio,
        calling_done="before" if is_done else "after" if is_done_late else "never",
        narrated_s=None if narrated_at is None else narrated_at - spoken_at,
    )


async def _have_narrated(
    probe: Probe, mark: int, patience: Patience
) -> tuple[float | None, str | None]:
    """Send the outputs and ask for the narration; return when it begins, and its id."""
    for _, call in probe.of(ev.ResponseFunctionCallArgumentsDone, mark):
        item = ev.Item(type="function_call_output", call_id=call.call_id, output=_OUTPUT)
        probe.send(ev.ConversationItemCreate(item=item))
    since = probe.mark
    probe.send(ev.ResponseCreate())
    created = await probe.wait(ev.ResponseCreated, patience.answer_s, since)
    if created is None:
        return None, None
    narration = created[1].response.id
    return await probe.wait_audio(narration, patience.audio_s), narration


async def create_out_of_the_blue(probe: Probe, patience: Patience) -> BareCreate:
    """Send a `response.create` that follows nothing, and cancel what it begins."""
    mark = probe.mark
    event_id = probe.send(ev.ResponseCreate())
    await probe.wait_answer({event_id}, patience.bare_s, mark)
    error = probe.error_about({event_id}, mark)
    created = probe.first(ev.ResponseCreated, mark)
    if created is None:
        names_event = error is not None and error.event_id == event_id
        return BareCreate(patience.bare_s, error=error, names_event=names_event)
    response_id = created[1].response.id
    has_audio = await probe.wait_audio(response_id, patience.audio_s) is not None
    cancelled = await _cancel(probe, response_id, patience)
    return BareCreate(patience.bare_s, has_audio=has_audio, cancel=cancelled)


async def _cancel(probe: Probe, response_id: str, patience: Patience) -> Cancel:
    if await probe.wait_done(response_id, 0.0) is not None:
        return Cancel(was_over=True)
    mark = probe.mark
    probe.send(ev.ResponseCancel(response_id=response_id))
    done = await probe.wait_done(response_id, patience.bare_s)
    return Cancel(done=done, late_deltas=len(probe.of(ev.ResponseOutputAudioDelta, mark)))


async def send_text(probe: Probe, patience: Patience) -> TextItem:
    """Send a text item that asks for a word, and a `response.create`."""
    mark = probe.mark
    content = [
        ev.Content(type="input_text", text=f"Please say the word {_SECRET_WORD}, only that.")
    ]
    item = ev.Item(type="message", role="user", content=content)
    sent = {probe.send(ev.ConversationItemCreate(item=item))}
    sent.add(probe.send(ev.ResponseCreate()))
    await probe.wait_answer(sent, patience.bare_s, mark)
    error, created = probe.error_about(sent, mark), probe.first(ev.ResponseCreated, mark)
    words = ""
    if created is not None:
        response_id = created[1].response.id
        await probe.wait_done(response_id, patience.done_s)
        words = probe.words_of(response_id)
    return TextItem(
        error=error,
        is_answered=created is not None,
        words=words,
        is_followed=_SECRET_WORD in words.lower(),
    )


def look_back(probe: Probe) -> Traffic:
    """Return what came along with the turns before."""
    items = [event.item for _, event in probe.of(ev.ConversationItemDone)]
    ends = [event.response for _, event in probe.of(ev.ResponseDone)]
    spoken = probe.of(ev.ResponseOutputAudioTranscriptDelta)
    return Traffic(
        agent_text=bool(spoken) or any(item.role == "assistant" and item.text for item in items),
        user_text=any(item.role == "user" and item.text for item in items),
        n_responses=len(ends),
        tokens=[end.usage.total_tokens or 0 for end in ends if end.usage is not None],
        unknown=dict(probe.unknown),
        n_malformed=probe.connection.n_malformed,
    )
