"""The whole examination: what is looked at in which order, with how many connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import as_file, files
from typing import Any, Final

from livekit_plugins_hydra.options import Auth, Options
from livekit_plugins_hydra.protocol import backoff
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    ConnectionLost,
    HandshakeRefused,
    ServerFull,
)
from livekit_plugins_hydra.protocol.history import CONFIGURE_BUDGET_BYTES
from livekit_plugins_hydra.protocol.voices import SERVER_DEFAULT_VOICE, is_known_voice
from livekit_plugins_hydra.testing import recordings
from livekit_plugins_hydra.transport.wirelog import Trace

from . import network, questions
from .findings import Finding, Ledger, in_ms
from .probe import Probe, open_probe
from .questions import Patience, finding

CEILINGS_BYTES: Final = (CONFIGURE_BUDGET_BYTES, 48_000, 120_000)
"""Configurations that are tried: what this plugin allows itself, and more.

A client saw sound vanish over 18 KB on 2026-07-01, and over 32 KB on 2026-07-02.
"""

MAX_CONNECTIONS: Final = 8
"""How many connections an examination makes at most, one after the other."""

TIMEOUT_S: Final = 240.0
"""How long an examination may take."""

Progress = Callable[[str], None]
OneTurn = Callable[[], Awaitable[Finding]]


@dataclass
class Examination:
    """What was found, and what it cost."""

    findings: list[Finding] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)

    def add(self, *found: Finding) -> None:
        """Keep findings."""
        self.findings += found

    def failed(self, name: str) -> bool:
        """Tell whether something that has been looked at is broken."""
        return any(each.id == name and each.status == "fail" for each in self.findings)


def question() -> bytes:
    """Return what the doctor asks: "Hi, what is the weather like in Lisbon today?".

    int16 mono 16 kHz; spoken by espeak-ng, see ``examples/speech``.
    """
    with as_file(files(__package__).joinpath("question.ogg")) as path:
        return recordings.read(path, rate_hz=16_000).tobytes()


async def examine(
    options: Options,
    *,
    one_turn: OneTurn | None = None,
    is_quick: bool = False,
    patience: Patience | None = None,
    progress: Progress = lambda what: None,
    sound: bytes | None = None,
) -> Examination:
    """Look at the way to a server, at the server, and at a call with it.

    Args:
        options: where to, with which key, model and voice.
        one_turn: holds a call of one turn through the framework; None leaves it out.
        is_quick: ends after the handshake.
        patience: how long to wait for what may never come.
        progress: is told what is looked at.
        sound: what is asked, int16 mono 16 kHz; by default the doctor's own question.
    """
    found = Examination()
    patience = patience or Patience()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            progress("the network")
            found.add(*await network.look_at(network.Address.of(options.base_url)))
            trace = Trace(options.wire_log)
            progress("the handshake")
            options = await _first(found, options, trace, patience, progress, is_quick, sound)
            if is_quick or not _may_go_on(found):
                return found
            progress("the other form of authentication")
            found.add(await _other_auth(found, options, trace, patience))
            progress("the payload ceiling")
            found.add(await _ceiling(found, options, trace, patience))
            if one_turn is not None:
                progress("a call of one turn")
                began_at = time.monotonic()
                found.ledger.n_connections += 1
                found.add(await one_turn())
                found.ledger.connected_s += time.monotonic() - began_at
    except TimeoutError:
        found.add(
            finding(
                "time",
                "Time",
                "fail",
                f"the examination was ended after {TIMEOUT_S:g} s",
                group="session",
                remedy="Run it again; --quick looks at the network and the handshake only.",
            )
        )
    return found


def _may_go_on(found: Examination) -> bool:
    return not any(found.failed(name) for name in ("connection", "auth", "handshake", "voice"))


async def _first(
    found: Examination,
    options: Options,
    trace: Trace,
    patience: Patience,
    progress: Progress,
    is_quick: bool,
    sound: bytes | None,
) -> Options:
    """Look at the handshake, and on the same connection at the open questions.

    Returns:
        The options with which it came up: with another voice, where the wanted one is refused.
    """
    began_at = time.monotonic()
    try:
        async with open_probe(options, found.ledger, trace) as probe:
            dialled_s = time.monotonic() - began_at
            session = ev.ClientSession(
                instructions=questions.INSTRUCTIONS, voice=options.voice, tools=[questions.TOOL]
            )
            shaken = await questions.shake_hands(
                probe, session, model=options.model, dialled_s=dialled_s, patience=patience
            )
            if not shaken.is_ready and probe.refusal is not None:
                raise probe.refusal
            found.add(_accepted(options))
            found.add(*shaken.findings)
            if shaken.is_ready and not is_quick:
                await _ask(found, probe, patience, progress, sound or question())
    except ConnectionFailed as error:
        found.add(await _no_connection(found, options, error, trace, patience))
        return options
    if shaken.voice_refused and options.voice != SERVER_DEFAULT_VOICE and not is_quick:
        (refusal,) = [_softer(each, options.voice) for each in found.findings if each.id == "voice"]
        again = ("auth", "model", "voice")
        found.findings = [each for each in found.findings if each.id not in again]
        options = replace(options, voice=SERVER_DEFAULT_VOICE)
        options = await _first(found, options, trace, patience, progress, is_quick, sound)
        found.findings = [refusal if each.id == "voice" else each for each in found.findings]
    return options


async def _ask(
    found: Examination, probe: Probe, patience: Patience, progress: Progress, sound: bytes
) -> None:
    streaming = asyncio.create_task(probe.stream())
    try:
        progress("pings")
        found.add(await questions.ask_ping(probe, patience))
        progress("a turn with a function call")
        found.add(*await questions.ask_tool_turn(probe, sound, patience))
        if probe.ended is None:
            progress("a bare response.create")
            found.add(*await questions.ask_bare_create(probe, patience))
        if probe.ended is None:
            progress("text items")
            found.add(await questions.ask_message_item(probe, patience))
        found.add(*questions.look_back(probe))
        if probe.ended is not None:
            remedy = "Run it again with --wire-log wire.jsonl, and look at the last frames."
            found.add(
                finding("lasts", "The connection lasts", "fail", str(probe.ended), remedy=remedy)
            )
    finally:
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)


def _softer(each: Finding, voice: str) -> Finding:
    """Return a refused voice as a warning: the examination goes on with another one."""
    is_retried = is_known_voice(voice)  # others end a call
    then = f"go on with {SERVER_DEFAULT_VOICE!r}, as here" if is_retried else "with it fail"
    return replace(each, status="warn", remedy=f"{each.remedy} Calls {then}.")


# ------------------------------------------------------------------------- authentication


def _accepted(options: Options) -> Finding:
    where = "in the URL" if options.auth == "query" else "in a header"
    return finding("auth", "Key is accepted", "ok", f"yes, {where}", group="session")


async def _no_connection(
    found: Examination,
    options: Options,
    error: ConnectionFailed,
    trace: Trace,
    patience: Patience,
) -> Finding:
    facts: dict[str, Any]
    match error:
        case AuthenticationFailed(status=status):
            answer, facts = f"HTTP {status}", {"http_status": status}
        case ConnectionLost(code=backoff.POLICY_VIOLATION as code):
            answer, facts = f"close {code} ({error.reason})", {"close_code": code}
        case _:
            return _unreachable(error)
    other = _other(options.auth)
    other_form = await _try_auth(found, replace(options, auth=other), trace, patience)
    remedy = (
        f'The key is good in the other form: use auth="{other}".'
        if other_form == "accepted"
        else "Copy the key again, and see in the console that it may use speech-to-speech."
    )
    return finding(
        "auth",
        "Key is accepted",
        "fail",
        f"no: {answer}",
        group="session",
        remedy=remedy,
        **facts,
        other_form=other_form,
    )


def _unreachable(error: ConnectionFailed) -> Finding:
    match error:
        case ServerFull():
            remedy = "Wait, or raise the plan's limit; calls that run count, too."
        case HandshakeRefused(retryable=True):
            remedy = "Run it again in a minute: the server may be busy, or down."
        case HandshakeRefused():
            remedy = "Check HYDRA_BASE_URL, --model, and that the plan has speech-to-speech."
        case _:
            remedy = "Look at the network above."
    return finding("connection", "Connection", "fail", str(error), group="session", remedy=remedy)


async def _other_auth(
    found: Examination, options: Options, trace: Trace, patience: Patience
) -> Finding:
    other = _other(options.auth)
    status = await _try_auth(found, replace(options, auth=other), trace, patience)
    where = {"header": "Header form of auth", "query": "URL form of auth"}[other]
    known = {"header": "the vendor's SDK does it, undocumented", "query": "documented"}[other]
    is_good = status == "accepted"
    answer = 'accepted; auth="header" keeps the key out of URLs' if is_good else f"no: {status}"
    if other == "query" and is_good:
        answer = "accepted"
    return finding(
        "other_auth",
        where,
        "ok" if is_good else "note",
        answer,
        known=known,
        form=other,
        result=status,
    )


def _other(auth: Auth) -> Auth:
    return "header" if auth == "query" else "query"


async def _try_auth(found: Examination, options: Options, trace: Trace, patience: Patience) -> str:
    """Dial with a form of authentication, and say what came of it."""
    try:
        async with open_probe(options, found.ledger, trace) as probe:
            created = await probe.wait(ev.SessionCreated, patience.handshake_s)
            if created is not None:
                return "accepted"
            return f"no session.created ({probe.ended or 'silence'})"
    except AuthenticationFailed as error:
        return f"HTTP {error.status}"
    except ConnectionFailed as error:
        return str(error)


# ------------------------------------------------------------------------- the ceiling


async def _ceiling(
    found: Examination, options: Options, trace: Trace, patience: Patience
) -> Finding:
    """Find between which sizes of a configuration the server falls silent."""
    spoken = 0
    results: dict[str, dict[str, object]] = {}
    for n_bytes in CEILINGS_BYTES:
        began_at = time.monotonic()
        try:
            async with open_probe(options, found.ledger, trace) as probe:
                result, error = await questions.speaks_with(probe, options.voice, n_bytes, patience)
        except ConnectionFailed as failure:
            result, error = str(failure), None
        results[str(n_bytes)] = {"result": result, "ms": in_ms(time.monotonic() - began_at)}
        if error is not None:
            results[str(n_bytes)]["code"] = error.code or ""
        if result != "speaks":
            return _limit(spoken, n_bytes, result, results)
        spoken = n_bytes
    return finding(
        "payload_ceiling",
        "Payload ceiling",
        "ok",
        f"over {spoken:,} bytes",
        known="sound was missing over 18 KB on 2026-07-01, over 32 KB on 2026-07-02",
        results=results,
    )


def _limit(spoken: int, n_bytes: int, result: str, results: Mapping[str, object]) -> Finding:
    known = "sound was missing over 18 KB on 2026-07-01, over 32 KB on 2026-07-02"
    if not spoken:
        return finding(
            "payload_ceiling",
            "Payload ceiling",
            "fail",
            f"{result} at {n_bytes:,} bytes already, which this plugin takes for safe",
            remedy="Keep instructions and tools short, and please open an issue with this output:"
            " either the ceiling is lower, or the server does not speak first.",
            known=known,
            results=results,
        )
    return finding(
        "payload_ceiling",
        "Payload ceiling",
        "ok",
        f"between {spoken:,} and {n_bytes:,} bytes ({result} there)",
        remedy="",
        known=known,
        results=results,
    )
