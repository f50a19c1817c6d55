"""How long it takes until somebody speaks, against a bare client on the same server.

``python -m tests.bench.call_setup ROUND_TRIP_MS`` sets up calls with a real `AgentSession` and
bare ones in turns, through a proxy that holds everything back for half a round trip each way.
(Only the TCP handshake is not held back, for neither.) Times are to the first frame that reaches
the room's output, or the bare client.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median
from typing import Any, Final

from livekit.agents import Agent, AgentSession
from websockets.asyncio.client import connect

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.testing import Loudspeaker

from . import servers
from .away import Row, away, tell

ROUND_TRIPS_MS: Final = (0, 50, 150)

ROUNDS: Final = {0: 31, 50: 21, 150: 15}

LATER_S: Final = 0.3
"""How long after `session.start()` a reply is asked for, where nobody greets."""

PATIENCE_S: Final = 15.0


class Greeter(Agent):
    """Greets whom it is given."""

    def __init__(self, name: str) -> None:
        super().__init__(instructions=f"You are {name}.")

    async def on_enter(self) -> None:
        """Greet."""
        self.session.generate_reply(instructions="Greet the user.")


class Model(hydra.RealtimeModel):
    """Knows when it was asked for a session: what comes before is LiveKit's own time."""

    asked_at = 0.0

    def session(self, **options: Any) -> hydra.RealtimeSession:
        """Note when."""
        self.asked_at = time.monotonic()
        return super().session(**options)


class Call:
    """An `AgentSession` that is set up and heard."""

    def __init__(self, port: int) -> None:
        self.model = Model(api_key="k", base_url=servers.url(port, "greeting"))
        self.session: AgentSession[Any] = AgentSession(llm=self.model)
        self._loudspeaker = Loudspeaker(speed=20.0)
        self._changed = asyncio.Event()
        self.session.output.audio = self._loudspeaker
        for name in ("playback_started", "playback_finished"):
            self._loudspeaker.on(name, lambda *_: self._changed.set())
        self.session.on("agent_state_changed", lambda *_: self._changed.set())

    async def first_sound_at(self, number: int = 1) -> float:
        """Return when a playout began, on the monotonic clock."""
        while len(self._loudspeaker.heard) < number:
            await self._wait()
        return self._loudspeaker.heard[number - 1].pieces[0][0]

    async def silence(self) -> None:
        """Wait until all was heard, and the agent listens again."""
        while not self._is_silent:
            await self._wait()

    @property
    def _is_silent(self) -> bool:
        was_heard = self._loudspeaker.n_finished == len(self._loudspeaker.heard)
        return was_heard and self.session.agent_state == "listening"

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


@asynccontextmanager
async def _call(port: int) -> AsyncIterator[Call]:
    call = Call(port)
    try:
        yield call
    finally:
        await call.session.aclose()
        await call.model.aclose()


async def bare(port: int) -> float:
    """Dial, configure, and wait for the first sound."""
    began_at = time.monotonic()
    async with connect(servers.url(port, "greeting"), compression=None, max_size=None) as socket:
        await socket.recv()
        await socket.send(
            '{"type":"session.configure","session":{"generate_initial_response":true}}'
        )
        async for frame in socket:
            if '"response.output_audio.delta"' in str(frame):
                break
        return time.monotonic() - began_at


async def greeting(port: int) -> float:
    """Start a session whose agent greets."""
    async with _call(port) as call:
        began_at = time.monotonic()
        await call.session.start(Greeter("Ann"))
        return await call.first_sound_at() - began_at


async def asked(port: int) -> float:
    """The same, from the moment at which LiveKit asks for a session."""
    async with _call(port) as call:
        await call.session.start(Greeter("Ann"))
        return await call.first_sound_at() - call.model.asked_at


async def later(port: int) -> float:
    """Start a session, and ask for the greeting when the connection is long there."""
    async with _call(port) as call:
        await call.session.start(Agent(instructions="You are Ann."))
        await asyncio.sleep(LATER_S)
        began_at = time.monotonic()
        call.session.generate_reply(instructions="Greet the user.")
        return await call.first_sound_at() - began_at


async def handoff(port: int) -> float:
    """Hand over to an agent with other instructions."""
    return await _handoff(port, is_prewarmed=False)


async def prewarmed(port: int) -> float:
    """Hand over to an agent whose connection was dialled before."""
    return await _handoff(port, is_prewarmed=True)


async def _handoff(port: int, *, is_prewarmed: bool) -> float:
    async with _call(port) as call:
        await call.session.start(Greeter("Ann"))
        await call.first_sound_at()
        await call.silence()
        if is_prewarmed:
            await call.model.prewarm()
        began_at = time.monotonic()
        call.session.update_agent(Greeter("Bob"))
        return await call.first_sound_at(2) - began_at


WAYS: Final[tuple[Callable[[int], Awaitable[float]], ...]] = (
    bare,
    greeting,
    asked,
    later,
    handoff,
    prewarmed,
)


async def measure(round_trip_ms: int) -> dict[str, float]:
    """Return the median of each way, in seconds."""
    times: dict[str, list[float]] = {way.__name__: [] for way in WAYS}
    async with servers.running(delay_s=round_trip_ms / 2000) as port:
        for way in WAYS:  # what is loaded late
            await way(port)
        for _ in range(ROUNDS[round_trip_ms]):
            for way in random.sample(WAYS, len(WAYS)):
                gc.collect()  # of the call before, whatever it was
                async with asyncio.timeout(PATIENCE_S):
                    times[way.__name__].append(await way(port))
    return {name: median(of_way) for name, of_way in times.items()}


TITLES: Final = {
    "greeting": ("session.start() -> the greeting's first frame", "5 ms more"),
    "asked": ("the same, from the moment at which LiveKit asks for a session", ""),
    "later": (f"generate_reply() {LATER_S * 1000:g} ms after the start -> first frame", "one dial"),
    "handoff": ("update_agent() -> the next agent's first frame", ""),
    "prewarmed": ("the same after prewarm()", ""),
}


async def rows() -> list[Row]:
    """Return each way's time and the bare client's, for each round trip."""
    found: list[Row] = []
    for round_trip_ms in ROUND_TRIPS_MS:
        times = await away("call_setup", round_trip_ms)
        bare_ms = times["bare"] * 1000
        for name, (title, target) in TITLES.items():
            ms = times[name] * 1000
            found.append(
                (
                    f"{round_trip_ms} ms round trip: {title}",
                    f"{ms:.1f} ms ({ms - bare_ms:+.1f})",
                    f"bare dial {bare_ms:.1f} ms",
                    target,
                )
            )
    return found


if __name__ == "__main__":
    tell(measure(int(sys.argv[1])))
