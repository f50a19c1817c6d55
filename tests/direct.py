"""A session without a framework: the test is what calls it, as LiveKit's conformance suite does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from livekit import rtc
from livekit.agents import llm
from livekit.agents.metrics import RealtimeModelMetrics

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.testing import ConnectionRecord, Emulator, Samples, Scenario

from .calls import KEY, PATIENCE_S, Complaints

SESSION_EVENTS = (
    "generation_created",
    "input_speech_started",
    "input_speech_stopped",
    "input_audio_transcription_completed",
    "session_reconnected",
    "metrics_collected",
    "remote_item_added",
    "error",
    "hydra_server_event",
    "hydra_client_event",
)

_T = TypeVar("_T")


@dataclass
class Heard:
    """A message of a generation, read to its end."""

    message_id: str
    modalities: list[str]
    pcm: bytes
    rates_hz: set[int]
    text: str


@dataclass
class Line:
    """A session, the server at its other end, and what both have said."""

    server: Emulator
    model: hydra.RealtimeModel
    session: hydra.RealtimeSession
    events: list[tuple[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, kind: str) -> list[Any]:
        """Return the session's events of a kind, oldest first."""
        return [event for name, event in self.events if name == kind]

    async def until(self, look: Callable[[], _T], timeout: float = PATIENCE_S) -> _T:
        """Wait until `look` returns something true, and return it."""
        async with asyncio.timeout(timeout):
            while not (seen := look()):
                self.changed.clear()
                await self.changed.wait()
        return seen

    async def ready(self, n_connections: int = 1) -> ConnectionRecord:
        """Wait until a connection is configured, and return its record."""
        await self.until(
            lambda: (
                len(self.server.connections) >= n_connections
                and self.server.connections[n_connections - 1].configured_at_s
            )
        )
        return self.server.connections[n_connections - 1]

    async def generation(self, count: int = 1) -> llm.GenerationCreatedEvent:
        """Wait for so many generations, and return the last of them."""
        await self.until(lambda: len(self.of("generation_created")) >= count)
        generation: llm.GenerationCreatedEvent = self.of("generation_created")[count - 1]
        return generation

    def say(self, samples: Samples, *, rate_hz: int = 24_000) -> None:
        """Push speech, all at once; what has to be paced, the session paces."""
        for frame in _frames(samples, rate_hz):
            self.session.push_audio(frame)

    async def speak(self, *sounds: Samples) -> None:
        """Push speech at real time: mono at 24 kHz."""
        for frame in _frames(np.concatenate(sounds), 24_000):
            self.session.push_audio(frame)
            await asyncio.sleep(frame.duration)

    @property
    def responses_measured(self) -> list[RealtimeModelMetrics]:
        """The metrics of responses, without those of connections."""
        return [each for each in self.of("metrics_collected") if each.request_id]


def _frames(samples: Samples, rate_hz: int) -> Iterator[rtc.AudioFrame]:
    n_frame = rate_hz // 50
    for start in range(0, len(samples), n_frame):
        piece = samples[start : start + n_frame]
        yield rtc.AudioFrame(piece.tobytes(), rate_hz, 1, len(piece))


async def hear(generation: llm.GenerationCreatedEvent) -> list[Heard]:
    """Read all that a generation says, to its end."""
    heard = []
    async for message in generation.message_stream:
        frames = [frame async for frame in message.audio_stream]
        texts = [text async for text in message.text_stream]
        heard.append(
            Heard(
                message_id=message.message_id,
                modalities=list(await message.modalities),
                pcm=b"".join(bytes(frame.data) for frame in frames),
                rates_hz={frame.sample_rate for frame in frames},
                text="".join(str(text) for text in texts),
            )
        )
    return heard


async def calls_of(generation: llm.GenerationCreatedEvent) -> list[llm.FunctionCall]:
    """Read all functions that a generation calls, to the end of the stream."""
    return [call async for call in generation.function_stream]


@asynccontextmanager
async def line(
    scenario: Scenario | None = None,
    *,
    complaints_are_fine: bool = False,
    **model_options: Any,
) -> AsyncIterator[Line]:
    """Open a session; close it and check what was logged afterwards.

    Args:
        scenario: how the server behaves.
        complaints_are_fine: whether errors may be logged; otherwise they fail the test.
        model_options: for `hydra.RealtimeModel`.
    """
    complaints = Complaints()
    logger = logging.getLogger("livekit.plugins.hydra")
    logger.addHandler(complaints)
    try:
        changed = asyncio.Event()
        async with Emulator(scenario, observer=lambda *_: changed.set()) as server:
            options = {"api_key": KEY, "base_url": server.url} | model_options
            model = hydra.RealtimeModel(**options)
            session = model.session()
            opened = Line(server, model, session, changed=changed)
            for name in SESSION_EVENTS:
                session.on(name, _keep(opened, name))  # type: ignore[arg-type]
            try:
                yield opened
            finally:
                await model.aclose()
    finally:
        logger.removeHandler(complaints)
    assert complaints_are_fine or complaints.records == []


def _keep(opened: Line, name: str) -> Callable[[Any], None]:
    def keep(event: Any) -> None:
        opened.events.append((name, event))
        opened.changed.set()

    return keep
