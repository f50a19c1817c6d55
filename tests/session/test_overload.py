"""Servers that are full, busy or away: how often it connects, and what the framework hears."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest
from livekit.agents import Agent, APIConnectOptions
from livekit.agents.llm import RealtimeModelFallbackAdapter

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol.backoff import LOST_CALL_BUDGET_S
from livekit_plugins_hydra.testing import Emulator, Say, Scenario
from tests.calls import KEY, call, tone
from tests.direct import Line, line
from tests.proxy import FaultProxy

FULL: dict[str, Any] = {"server_full_connections": 10_000}
BUSY: dict[str, Any] = {"http_refusals": 10_000, "http_retry_after_s": None}
OVERLOADS: dict[str, dict[str, Any]] = {
    "server_full": FULL,
    "server_full without a close": FULL | {"closes_after": ("session_ended",)},
    "429": BUSY | {"http_refusal_status": 429},
    "503": BUSY | {"http_refusal_status": 503},
    "503 that asks for 3 s": BUSY | {"http_refusal_status": 503, "http_retry_after_s": 3},
}
MAX_RETRY = 3

RECONNECTS_OF_AN_OUTAGE = 10
"""One at once, and those that fit in 20 s when the delays are the shortest: 0.25, 0.5, 1, 2 and
four times 4 s, and a last one when the 20 s end."""

SEEN_AFTER_S = 0.01
"""A session sees a loss later than the test that causes it."""


async def given_up(call: Line) -> list[bool]:
    """Wait for the end of a call; return for each error whether it was recoverable."""
    await call.until(lambda: any(not error.recoverable for error in call.of("error")), 600.0)
    await asyncio.sleep(60.0)
    return [error.recoverable for error in call.of("error")]


async def hold(opened: Line) -> None:
    """Let a call begin as the framework does."""
    await opened.session._update_session(instructions="Be kind.")


@pytest.mark.parametrize("overload", OVERLOADS)
async def test_a_call_that_never_began_is_given_up(overload: str) -> None:
    """A first connection is tried `max_retry` times more, and the last error is final."""
    options = APIConnectOptions(max_retry=MAX_RETRY)
    async with line(Scenario(**OVERLOADS[overload]), conn_options=options) as opened:
        await hold(opened)
        recoverable = await given_up(opened)

        assert recoverable == [*[True] * MAX_RETRY, False]
        assert len(opened.server.dials) == 1 + MAX_RETRY


@pytest.mark.parametrize("overload", OVERLOADS)
async def test_a_call_that_was_up_is_given_up_after_its_budget(overload: str) -> None:
    """Twenty seconds of reconnects with growing delays, then one final error and no more."""
    async with line() as opened:
        await hold(opened)
        await opened.ready()
        await asyncio.sleep(10.0)
        server = opened.server
        server.scenario = dataclasses.replace(server.scenario, **OVERLOADS[overload])
        lost_at = time.monotonic()
        server.drop()
        recoverable = await given_up(opened)

        assert recoverable.count(False) == 1
        assert recoverable[-1] is False
        assert len(recoverable) == len(server.dials)
        assert 3 <= len(server.dials) - 1 <= RECONNECTS_OF_AN_OUTAGE
        assert server.dials[-1].at_s - lost_at <= LOST_CALL_BUDGET_S + SEEN_AFTER_S
        delays = [b.at_s - a.at_s for a, b in zip(server.dials[1:], server.dials[2:], strict=False)]
        asked_s = server.scenario.http_retry_after_s if "asks" in overload else 0.0
        assert min(delays) >= max(0.25, asked_s or 0.0)


def resets(server: Emulator) -> None:
    """Cut the connection."""
    server.drop()


def goes_away(server: Emulator) -> None:
    """Close in order."""
    server.close(1001, "going away")


def closes_normally(server: Emulator) -> None:
    """Close with 1000."""
    server.close(1000)


@pytest.mark.parametrize("end", [resets, goes_away, closes_normally])
@pytest.mark.parametrize("is_ready_first", [False, True])
async def test_a_server_that_accepts_and_closes_is_given_up(
    end: Callable[[Emulator], None], is_ready_first: bool
) -> None:
    """An accepted connection proves nothing: the count goes on, and ends."""
    async with line() as opened:
        await hold(opened)
        await opened.ready()
        await asyncio.sleep(10.0)
        server = opened.server
        if not is_ready_first:
            server.scenario = Scenario(handshake="never_created")
        end(server)
        n_seen = 1
        lost_at = time.monotonic()
        while not any(not error.recoverable for error in opened.of("error")):
            async with asyncio.timeout(60.0):
                await server.wait_connections(n_seen + 1, timeout=60.0)
                if is_ready_first:
                    await opened.ready(n_seen + 1)
            n_seen = len(server.connections)
            end(server)
            await asyncio.sleep(0.1)

        assert [error.recoverable for error in opened.of("error")].count(False) == 1
        assert n_seen - 1 <= RECONNECTS_OF_AN_OUTAGE
        assert server.dials[-1].at_s - lost_at <= LOST_CALL_BUDGET_S + SEEN_AFTER_S
        await asyncio.sleep(60.0)
        assert len(server.dials) == n_seen


async def test_nobody_at_home_is_bounded_too() -> None:
    """Where nothing listens, or nobody answers, a first connection ends as fast as it says."""
    options = APIConnectOptions(max_retry=2, timeout=3.0)
    async with FaultProxy(1) as nobody, FaultProxy(1) as silence:
        silence.refuses = "silence"
        for proxy in (nobody, silence):
            began_at = time.monotonic()
            async with line(conn_options=options, base_url=proxy.url) as opened:
                await opened.until(lambda: opened.of("error")[-1:] and not _last(opened), 60.0)
                assert time.monotonic() - began_at <= 3 * 3.0 + 2 * 1.0 + 0.1
                await asyncio.sleep(60.0)
            assert [error.recoverable for error in opened.of("error")] == [True, True, False]
            assert proxy.n_connections == 3


def _last(opened: Line) -> bool:
    recoverable: bool = opened.of("error")[-1].recoverable
    return recoverable


async def test_when_the_budget_is_spent_a_fallback_takes_over() -> None:
    """A full server in mid-call: another model goes on, with instructions, and greets nobody."""
    yes = Say(duration_s=0.3, text="Yes.")
    async with (
        Emulator(Scenario(default_reply=yes, transcripts=True)) as first,
        Emulator(Scenario(default_reply=yes, transcripts=True)) as second,
    ):
        models = [
            hydra.RealtimeModel(api_key=KEY, base_url=server.url) for server in (first, second)
        ]
        adapter = RealtimeModelFallbackAdapter(list(models))
        agent = Agent(instructions="Be kind.")
        async with call(Scenario(), agent, model=adapter, complaints_are_fine=True) as desk:
            await desk.say(tone(0.6))
            await desk.until_heard(1)
            first.scenario = Scenario(**FULL)
            first.drop()
            await second.wait_connections(1, timeout=60.0)
            await second.wait_for(lambda books: books.connection.configured_at_s)
            await desk.say(tone(0.6))
            await desk.until_heard(2)
            await asyncio.sleep(60.0)

        assert len(first.dials) - 1 <= RECONNECTS_OF_AN_OUTAGE
        assert all(event.error.recoverable for event in desk.of("error"))
        instructions = second.connection.configuration.instructions or ""
        assert instructions.startswith("Be kind.")
        assert 'assistant: "Yes."' in instructions
        assert [each.trigger for each in second.responses] == ["user_turn"]
        assert len(second.dials) == 1
