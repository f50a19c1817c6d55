"""`prewarm`: a connection that is there before the session that takes it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit.agents import Agent, function_tool
from livekit.agents.metrics import RealtimeModelMetrics

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.testing import Call, Emulator, Say, Scenario
from livekit_plugins_hydra.transport import spare
from tests.calls import KEY, Desk, call, tone

HELLO = Say(duration_s=0.3, tone_hz=500, text="Hello.")


@asynccontextmanager
async def service(
    scenario: Scenario | None = None, **options: Any
) -> AsyncIterator[tuple[Emulator, hydra.RealtimeModel]]:
    """Give a server and a model that calls it."""
    async with Emulator(scenario or Scenario()) as server:
        model = hydra.RealtimeModel(**({"api_key": KEY, "base_url": server.url} | options))
        try:
            yield server, model
        finally:
            await model.aclose()


class Watched:
    """What one session emits."""

    def __init__(self, session: hydra.RealtimeSession) -> None:
        self.metrics: list[RealtimeModelMetrics] = []
        self.errors: list[Any] = []
        self.ready = asyncio.Event()
        session.on("metrics_collected", self.metrics.append)
        session.on("error", self.errors.append)
        session.on("hydra_server_event", self._look)
        session.generate_reply()

    def _look(self, event: Any) -> None:
        if event.type == "session.configured":
            self.ready.set()

    @property
    def reused(self) -> list[bool]:
        """For each connection, whether it was there before it was needed."""
        return [bool(each.connection_reused) for each in self.metrics if each.acquire_time]


@pytest.mark.real_time
async def test_the_next_session_takes_the_spare_and_the_one_after_connects() -> None:
    """One connection for `prewarm` and its session; the metric says that it was there before."""
    async with service() as (server, model):
        await model.prewarm()
        assert len(server.open_connections) == 1
        first = Watched(model.session())
        await first.ready.wait()
        assert len(server.dials) == 1
        second = Watched(model.session())
        await second.ready.wait()

        assert len(server.dials) == 2
        assert first.reused == [True]
        assert second.reused == [False]
        assert first.metrics[0].acquire_time < second.metrics[0].acquire_time


async def test_no_listener_to_metrics_keeps_the_configuration_waiting() -> None:
    """They are called when the configuration has left, where the server has said hello already."""
    emitted: list[str] = []
    async with service() as (_, model):
        await model.prewarm()
        session = model.session()
        session.on("metrics_collected", lambda _: emitted.append("metrics"))
        session.on("hydra_client_event", lambda event: emitted.append(event.type))
        session.generate_reply()
        watched = Watched(session)
        await watched.ready.wait()
        await session.aclose()

    assert emitted.index("session.configure") < emitted.index("metrics")


async def test_the_time_that_a_spare_waits_is_counted() -> None:
    """A connection is billed from its handshake on, whoever uses it."""
    async with service() as (server, model):
        await model.prewarm()
        await asyncio.sleep(0.3)  # what is measured is the time that passes
        session = model.session()
        watched = Watched(session)
        await watched.ready.wait()
        await session.aclose()

        assert sum(each.session_duration or 0.0 for each in watched.metrics) >= 0.3
        await server.wait_for(lambda books: not books.open_connections)


async def test_a_second_prewarm_does_nothing_while_a_spare_waits() -> None:
    """There is one spare at most, however often it is asked for."""
    async with service(Scenario(connect_delay_s=0.1)) as (server, model):
        await asyncio.gather(model.prewarm(), model.prewarm())
        await model.prewarm()

        assert len(server.dials) == 1


async def test_a_session_that_comes_early_waits_for_the_spare() -> None:
    """A spare that is still being made is ahead of a new one."""
    async with service(Scenario(connect_delay_s=0.3)) as (server, model):
        prewarming = asyncio.ensure_future(model.prewarm())
        await asyncio.sleep(0)  # it has begun
        watched = Watched(model.session())
        await watched.ready.wait()
        await prewarming

        assert len(server.dials) == 1
        assert watched.reused == [True]


async def test_a_spare_that_nobody_takes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection costs money: after 20 s it is closed, and the next session connects."""
    assert spare.SPARE_LIFE_S == 20.0
    monkeypatch.setattr(spare, "SPARE_LIFE_S", 0.1)
    async with service() as (server, model):
        await model.prewarm()
        await server.wait_for(lambda books: not books.open_connections)
        watched = Watched(model.session())
        await watched.ready.wait()

        assert len(server.dials) == 2
        assert watched.errors == []


@pytest.mark.parametrize("is_noticed", [False, True])
async def test_a_spare_that_died_is_not_used(is_noticed: bool) -> None:
    """A spare whose connection was lost costs a handshake, and no error reaches anybody."""
    async with service() as (server, model):
        await model.prewarm()
        if is_noticed:
            server.close(1011)
            await server.wait_for(lambda books: not books.open_connections)
        else:
            server.drop()
        watched = Watched(model.session())
        await watched.ready.wait()

        assert len(server.dials) == 2
        assert watched.errors == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_spare_of_another_event_loop_is_left_to_it() -> None:
    """``asyncio.run(model.prewarm())`` before the job's loop costs a handshake, not the call."""
    async with service() as (server, model):
        await asyncio.to_thread(asyncio.run, model.prewarm())
        watched = Watched(model.session())
        await watched.ready.wait()
        await asyncio.to_thread(asyncio.run, model.prewarm())
        await model.prewarm()

        assert len(server.dials) == 4
        assert watched.errors == []
    gc.collect()  # says that asyncio.run() has left sockets open: here, and not in another test


async def test_a_spare_that_cant_be_had_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """`prewarm` never fails: the session connects by itself, and reports what is wrong."""
    async with service(Scenario(keys={"another"})) as (server, model):
        with caplog.at_level(logging.WARNING):
            await model.prewarm()

        (warning,) = caplog.messages
        assert warning.startswith("prewarm: ")
        assert KEY not in warning
        assert not server.open_connections


async def test_a_key_is_minted_for_the_spare_as_for_a_session() -> None:
    """A callable key is asked once for each connection, the spare's too."""
    asked: list[str] = []

    async def mint() -> str:
        asked.append("token")
        return KEY

    async with service(api_key=mint) as (server, model):
        await model.prewarm()
        watched = Watched(model.session())
        await watched.ready.wait()

        assert len(asked) == len(server.dials) == 1


@pytest.mark.parametrize("is_there", [False, True])
async def test_closing_the_model_closes_the_spare(is_there: bool) -> None:
    """Nothing stays open, whether the spare waits or is still being made."""
    async with service(Scenario(connect_delay_s=0.0 if is_there else 5.0)) as (server, model):
        prewarming = asyncio.ensure_future(model.prewarm())
        if is_there:
            await prewarming
        else:
            await asyncio.sleep(0)
        await model.aclose()
        await prewarming

        await server.wait_for(lambda books: not books.open_connections)


async def test_closing_a_session_that_waits_for_the_spare_closes_both() -> None:
    """A session that is closed at once leaves no connection behind."""
    async with service(Scenario(connect_delay_s=0.2)) as (server, model):
        prewarming = asyncio.ensure_future(model.prewarm())
        await asyncio.sleep(0)
        session = model.session()
        await asyncio.sleep(0)
        await session.aclose()
        await prewarming

        await server.wait_for(lambda books: not books.open_connections)


# ------------------------------------------------------------------------------- handoffs


class Clerk(Agent):
    """The second agent: greets."""

    async def on_enter(self) -> None:
        """Greet."""
        self.session.generate_reply()


class Reception(Agent):
    """The first agent: connects with the clerk, with everything that was said."""

    @function_tool
    async def connect(self) -> Agent:
        """Connect the caller with a clerk."""
        return Clerk(instructions="You are the clerk.", chat_ctx=self.chat_ctx)


CONNECT_S = 0.5


async def hand_over(*, prewarms: bool) -> tuple[Desk, float]:
    """Hold a call with a handoff; return how long it took from the old line to the new voice."""
    scenario = Scenario(
        replies=[HELLO, Call("connect"), HELLO],
        transcripts=True,
        user_text="Give me the clerk.",
        connect_delay_s=CONNECT_S,
    )
    async with call(scenario, Reception(instructions="You are kind.")) as desk:
        await desk.say(tone(0.6))
        await desk.until_heard(1)
        if prewarms:
            assert isinstance(desk.model, hydra.RealtimeModel)
            await desk.model.prewarm()
        await desk.say(tone(0.6))
        executed = await desk.until(lambda: desk.of("function_tools_executed"))
        await desk.until_heard(2)

        old, new = desk.server.connections
        assert len(executed) == 1
        assert not old.is_open
        instructions = new.configuration.instructions or ""
        assert instructions.startswith("You are the clerk.")
        assert instructions.count('"Give me the clerk."') == 2
        assert 'assistant: "Hello."' in instructions
        called_at_s = old.responses[-1].ended_at_s
        assert called_at_s is not None
        return desk, desk.loudspeaker.heard[1].started_at - called_at_s


async def test_a_handoff_knows_what_was_said_and_costs_one_handshake_or_none() -> None:
    """With `chat_ctx=self.chat_ctx` the next agent knows the call; a spare spares the handshake."""
    without, gap_s = await hand_over(prewarms=False)
    prewarmed, short_gap_s = await hand_over(prewarms=True)
    print(f"from the function call to the next agent's voice, with a handshake of {CONNECT_S} s:")
    print(f"{gap_s:.3f} s; {short_gap_s:.3f} s after prewarm()")

    assert len(without.server.dials) == len(prewarmed.server.dials) == 2
    assert gap_s >= CONNECT_S
    assert short_gap_s < gap_s - CONNECT_S / 2
