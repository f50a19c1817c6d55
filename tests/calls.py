"""A whole call for tests: emulator, model, `AgentSession` and an agent, ears and mouth in memory.

Nothing here sleeps to synchronise: `Desk.until` looks again whenever the server, the session or
the loudspeaker has done something.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from livekit.agents import Agent, AgentSession, llm
from livekit.agents.voice import TranscriptSynchronizer, io

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.testing import (
    Emulator,
    Loudspeaker,
    Microphone,
    Playout,
    Samples,
    Scenario,
)

KEY = "sk-secret-key-of-the-tests"
PATIENCE_S = 30.0
"""How long `until` waits for what must come; far more than it takes on a slow machine."""

SESSION_EVENTS = (
    "agent_state_changed",
    "user_state_changed",
    "speech_created",
    "function_tools_executed",
    "conversation_item_added",
    "user_input_transcribed",
    "error",
    "close",
)

_T = TypeVar("_T")


def silence(seconds: float) -> Samples:
    """Return silence."""
    return np.zeros(int(seconds * 24_000), dtype=np.int16)


def tone(seconds: float, *, hz: float = 300.0, rate_hz: int = 24_000) -> Samples:
    """Return a tone at the level of speech: int16 mono."""
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    return (6_000 * np.sin(2 * np.pi * hz * times)).astype(np.int16)


COUGH = tone(0.2)
"""Too short for a turn: the emulator starts one and discards it."""


class Complaints(logging.Handler):
    """Keeps what the plugin or the framework logs as an error: tests fail on it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(self.format(record))


class Captions(io.TextOutput):
    """What the caller reads while the agent speaks, one line for each message."""

    def __init__(self) -> None:
        super().__init__(label="captions", next_in_chain=None)
        self.lines: list[str] = []
        self._is_open = False

    async def capture_text(self, text: str) -> None:
        """Take a piece of text."""
        if not self._is_open:
            self.lines.append("")
        self._is_open = True
        self.lines[-1] += text

    def flush(self) -> None:
        """The message has ended."""
        self._is_open = False


def told(ctx: llm.ChatContext) -> list[tuple[str, str]]:
    """Return who said what in a history, oldest first; functions are left out."""
    return [(str(item.role), item.text_content or "") for item in ctx.messages()]


@dataclass
class Desk:
    """One call, with both ends at hand."""

    server: Emulator
    model: llm.RealtimeModel
    session: AgentSession[Any]
    microphone: Microphone
    loudspeaker: Loudspeaker
    events: list[tuple[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, *_: object) -> None:
        """Something has happened: look again."""
        self.changed.set()

    async def until(self, look: Callable[[], _T], timeout: float = PATIENCE_S) -> _T:
        """Wait until `look` returns something true, and return it."""
        async with asyncio.timeout(timeout):
            while not (seen := look()):
                self.changed.clear()
                await self.changed.wait()
        return seen

    async def say(self, samples: Samples) -> None:
        """Speak, and return when the last frame has left the microphone."""
        self.microphone.say(samples)
        await self.microphone.wait_quiet()

    async def until_heard(self, count: int) -> Playout:
        """Wait until so many playouts have ended, and return the last of them."""
        await self.until(lambda: self.n_finished >= count)
        return self.loudspeaker.heard[count - 1]

    @property
    def n_finished(self) -> int:
        """How many playouts have ended."""
        return self.loudspeaker.n_finished

    async def until_state(self, state: str) -> None:
        """Wait until the agent is in a state, for example ``speaking``."""
        await self.until(lambda: self.session.agent_state == state)

    @property
    def line(self) -> hydra.RealtimeSession:
        """The present agent's session with the model."""
        line = self.session.current_agent.realtime_llm_session
        assert isinstance(line, hydra.RealtimeSession)
        return line

    @property
    def told(self) -> list[tuple[str, str]]:
        """Who said what, by LiveKit's history."""
        return told(self.session.history)

    @property
    def remembered(self) -> list[tuple[str, str]]:
        """Who said what, by the session's own history: what a reconnect replays."""
        return told(self.line.chat_ctx)

    def of(self, kind: str) -> list[Any]:
        """Return the session's events of a kind, oldest first."""
        return [event for name, event in self.events if name == kind]

    @property
    def heard_s(self) -> list[float]:
        """The lengths of what came out of the loudspeaker, in seconds."""
        return [round(playout.duration_s, 2) for playout in self.loudspeaker.heard]


@asynccontextmanager
async def call(
    scenario: Scenario,
    agent: Agent,
    *,
    microphone: Microphone | None = None,
    loudspeaker: Loudspeaker | None = None,
    captions: Captions | None = None,
    complaints_are_fine: bool = False,
    session_options: dict[str, Any] | None = None,
    model: llm.RealtimeModel | None = None,
    **model_options: Any,
) -> AsyncIterator[Desk]:
    """Hold a call: everything is started, and ended and checked afterwards.

    Args:
        scenario: how the server behaves.
        agent: whom the user talks to.
        microphone: the user's; by default one like a room's.
        loudspeaker: the user's; by default at real time.
        captions: shows what the agent says, in step with the voice, as in a room.
        complaints_are_fine: whether errors may be logged; otherwise they fail the test.
        session_options: for `AgentSession`.
        model: instead of one with `model_options`.
        model_options: for `hydra.RealtimeModel`.
    """
    complaints = Complaints()
    loggers = [logging.getLogger(name) for name in ("livekit.plugins.hydra", "livekit.agents")]
    for logger in loggers:
        logger.addHandler(complaints)
    try:
        changed = asyncio.Event()
        async with Emulator(scenario, observer=lambda *_: changed.set()) as server:
            options = {"api_key": KEY, "base_url": server.url} | model_options
            model = model or hydra.RealtimeModel(**options)
            session: AgentSession[Any] = AgentSession(
                llm=model, **({"aec_warmup_duration": None} | (session_options or {}))
            )
            desk = Desk(
                server,
                model,
                session,
                microphone or Microphone(),
                loudspeaker or Loudspeaker(),
                changed=changed,
            )
            for name in SESSION_EVENTS:
                session.on(name, _keep(desk, name))  # type: ignore[arg-type]
            for name in ("playback_started", "playback_finished"):
                desk.loudspeaker.on(name, desk.note)  # type: ignore[arg-type]
            session.input.audio = desk.microphone
            session.output.audio = desk.loudspeaker
            if captions is not None:
                synchronizer = TranscriptSynchronizer(
                    next_in_chain_audio=desk.loudspeaker, next_in_chain_text=captions
                )
                session.output.audio = synchronizer.audio_output
                session.output.transcription = synchronizer.text_output
            await session.start(agent)
            try:
                yield desk
            finally:
                await session.aclose()
                await model.aclose()
                if captions is not None:
                    await synchronizer.aclose()
    finally:
        for logger in loggers:
            logger.removeHandler(complaints)
    assert complaints_are_fine or complaints.records == []


def _keep(desk: Desk, name: str) -> Callable[[Any], None]:
    def keep(event: Any) -> None:
        desk.events.append((name, event))
        desk.note()

    return keep
