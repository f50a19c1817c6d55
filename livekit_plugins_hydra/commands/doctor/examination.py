"""The whole examination: what is looked at in which order, with how many connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from importlib.resources import as_file, files
from typing import Final

from livekit_plugins_hydra.options import Options
from livekit_plugins_hydra.protocol import backoff
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    HydraError,
)
from livekit_plugins_hydra.protocol.voices import SERVER_DEFAULT_VOICE
from livekit_plugins_hydra.testing import recordings
from livekit_plugins_hydra.transport.wirelog import Trace

from . import experiments, network
from .engine import findings_of
from .experiments import Patience
from .findings import Finding, Ledger, Status
from .observed import Authentication, LiveKitTurn, Lost, NoConnection, OtherForm
from .probe import Probe, open_probe

MAX_CONNECTIONS: Final = 8
"""How many connections an examination makes at most, one after the other."""

TIMEOUT_S: Final = 240.0
"""How long an examination may take."""

Progress = Callable[[str], None]
OneTurn = Callable[[], Awaitable[LiveKitTurn]]


@dataclass
class Examination:
    """What was found, and what it cost."""

    findings: list[Finding] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)

    def add(self, *found: Finding) -> None:
        """Keep findings."""
        self.findings += found

    def observe(self, observed: object) -> None:
        """Keep what the table of questions says to it."""
        self.add(*findings_of(observed))

    def interrupted(self) -> None:
        """Keep that the rest was not looked at."""
        self.add(
            Finding(
                id="interrupted",
                group="session",
                title="Interrupted",
                status="skip",
                answer="what is not here was not looked at",
            )
        )

    async def look_at_network(self, options: Options) -> None:
        """Keep what is found on the way to a server."""
        async for finding in network.look_at(network.Address.of(options.base_url)):
            self.add(finding)

    def failed(self, name: str) -> bool:
        """Tell whether something that has been looked at is broken."""
        return self.has(name, "fail")

    def has(self, name: str, status: Status) -> bool:
        """Tell whether something that has been looked at was found so."""
        return any(each.id == name and each.status == status for each in self.findings)


def question() -> bytes:
    """Return what the doctor asks: "Hi, what is the weather like in Lisbon today?".

    int16 mono 16 kHz; spoken by espeak-ng, see ``examples/speech``.
    """
    with as_file(files(__package__).joinpath("question.ogg")) as path:
        return recordings.read(path, rate_hz=16_000).tobytes()


async def examine(
    options: Options,
    *,
    found: Examination | None = None,
    one_turn: OneTurn | None = None,
    is_quick: bool = False,
    patience: Patience | None = None,
    progress: Progress = lambda what: None,
    audio: bytes | None = None,
) -> Examination:
    """Look at the way to a server, at the server, and at a call with it.

    Args:
        options: where to, with which key, model and voice.
        found: what was found before, and gets what is found here as soon as it is.
        one_turn: holds a call of one turn through the framework; None leaves it out.
        is_quick: ends after the handshake.
        patience: how long to wait for what may never come.
        progress: takes what is looked at.
        audio: what is asked, int16 mono 16 kHz; by default the doctor's own question.
    """
    found = found or Examination()
    patience = patience or Patience()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            progress("the network")
            await found.look_at_network(options)
            trace = Trace(options.wire_log)
            progress("the handshake")
            up = await _first(found, options, trace, patience, progress, is_quick, audio)
            if is_quick or up is None:
                return found
            progress("the other form of authentication")
            other = _in_other_form(up)
            result = await experiments.try_key(other, found.ledger, trace, patience)
            found.observe(OtherForm(other.auth, result))
            progress("the payload ceiling")
            ceiling = await experiments.find_ceiling(up, found.ledger, trace, patience)
            found.observe(ceiling)
            if one_turn is not None:
                progress("a call of one turn")
                began_at = time.monotonic()
                found.ledger.n_connections += 1
                found.observe(await one_turn())
                found.ledger.connected_s += time.monotonic() - began_at
    except TimeoutError:
        found.add(
            Finding(
                id="time",
                group="session",
                title="Time",
                status="fail",
                answer=f"the examination was ended after {TIMEOUT_S:g} s",
                remedy="Run it again; --quick looks at the network and the handshake only.",
            )
        )
    return found


async def _first(
    found: Examination,
    options: Options,
    trace: Trace,
    patience: Patience,
    progress: Progress,
    is_quick: bool,
    audio: bytes | None,
) -> Options | None:
    """Look at the handshake, and on the same connection at the open questions.

    Returns:
        The options with which it came up: with another voice, where the wanted one is refused.
        None where it did not.
    """
    began_at = time.monotonic()
    try:
        async with open_probe(options, found.ledger, trace) as probe:
            connected_s = time.monotonic() - began_at
            session = ev.ClientSession(
                instructions=experiments.INSTRUCTIONS,
                voice=options.voice,
                tools=[experiments.TOOL],
            )
            shaken = await experiments.shake_hands(
                probe, session, model=options.model, connected_s=connected_s, patience=patience
            )
            if not shaken.is_ready and probe.refusal is not None:
                raise probe.refusal
            found.observe(Authentication(options.auth))
            found.observe(shaken)
            if shaken.is_ready and not is_quick:
                await _ask(found, probe, patience, progress, audio or question())
    except (ConnectionFailed, ConfigurationError) as error:
        await _observe_refusal(found, options, error, trace, patience)
        return None
    if shaken.is_ready:
        return options
    if not shaken.is_voice_refused or options.voice == SERVER_DEFAULT_VOICE or is_quick:
        return None
    again = Examination(ledger=found.ledger)
    instead = replace(options, voice=SERVER_DEFAULT_VOICE)
    try:
        return await _first(again, instead, trace, patience, progress, is_quick, audio)
    finally:
        by_id = {each.id: each for each in [*found.findings, *again.findings]}
        (refused,) = (each for each in found.findings if each.id == "voice")
        by_id["voice"] = _with_consequence(refused, options.voice, again)
        found.findings = list(by_id.values())


async def _ask(
    found: Examination, probe: Probe, patience: Patience, progress: Progress, audio: bytes
) -> None:
    streaming = asyncio.create_task(probe.stream())
    try:
        progress("pings")
        found.observe(await experiments.ping(probe, patience))
        progress("a turn with a function call")
        found.observe(await experiments.hold_tool_turn(probe, audio, patience))
        if probe.ended is None:
            progress("a bare response.create")
            found.observe(await experiments.create_out_of_the_blue(probe, patience))
        if probe.ended is None:
            progress("text items")
            found.observe(await experiments.send_text(probe, patience))
        found.observe(experiments.look_back(probe))
        if probe.ended is not None:
            found.observe(Lost(probe.ended))
    finally:
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)


def _with_consequence(refused: Finding, voice: str, again: Examination) -> Finding:
    """Return a refused voice with what it means for calls; a warning where they go on without.

    Args:
        refused: the finding.
        voice: the voice.
        again: what was found with the server's default in its place.
    """
    if voice == SERVER_DEFAULT_VOICE:
        then = "Calls with it fail."
    elif again.has("voice", "fail"):
        then = f"Calls with it fail: {SERVER_DEFAULT_VOICE!r}, its substitute, is refused, too."
    elif again.has("voice", "ok"):
        then = f"Calls go on with {SERVER_DEFAULT_VOICE!r}, as here."
        refused = replace(refused, status="warn")
    else:
        then = f"Calls then ask for {SERVER_DEFAULT_VOICE!r}."
    return replace(refused, remedy=f"{refused.remedy} {then}")


async def _observe_refusal(
    found: Examination,
    options: Options,
    error: HydraError,
    trace: Trace,
    patience: Patience,
) -> None:
    """Keep why there is no connection; where the key is refused, try its other form."""
    match error:
        case AuthenticationFailed() | ConnectionLost(code=backoff.POLICY_VIOLATION) as refusal:
            other = _in_other_form(options)
            result = await experiments.try_key(other, found.ledger, trace, patience)
            found.observe(Authentication(options.auth, refusal, other.auth, result))
        case _:
            found.observe(NoConnection(error))


def _in_other_form(options: Options) -> Options:
    return replace(options, auth="header" if options.auth == "query" else "query")
