"""Links that are half open: the other side has gone, or stopped reading, and does not say so."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from livekit import rtc

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import Emulator, Say, Scenario
from livekit_plugins_hydra.transport.connecting import connect
from livekit_plugins_hydra.transport.websocket import CLOSE_TIMEOUT_S, GOODBYE_S, STUCK_AFTER_S
from tests import clock
from tests.calls import tone
from tests.direct import Line, line
from tests.proxy import FaultProxy
from tests.transport.test_connection import options_for

NOTICED_WITHIN_S = 12.5
FRAME = rtc.AudioFrame(tone(0.05).tobytes(), 24_000, 1, 1200)
READY_AGAIN_S = 0.05
FULL_WITHIN_S = 5.0
"""How long speech takes to fill a socket that nobody reads from."""


class _SmallSocket(socket.socket):
    """A socket that holds what a real path does: those of loopback take megabytes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.family == socket.AF_INET:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 43_000)
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)


@pytest.fixture(autouse=True)
def _small_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", _SmallSocket)


def _type(event: ev.ServerEvent) -> str:
    return event.type


async def talk(opened: Line, seconds: float) -> None:
    """Push speech at real time."""
    for _ in range(int(seconds / 0.05)):
        opened.session.push_audio(FRAME)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("idle_s", [0.0, 0.1, 1.0, 4.9, 5.1, 33.3])
async def test_a_peer_that_vanishes_is_noticed(idle_s: float) -> None:
    """Whenever a link dies without a word, a new one is made within 12.5 s."""
    async with (
        Emulator() as server,
        FaultProxy(server.port) as proxy,
        line(base_url=proxy.url) as opened,
    ):
        await opened.session._update_session(instructions="")
        await server.wait_for(ev.SessionConfigured)
        await asyncio.sleep(idle_s)
        proxy.stall()
        began_at = time.monotonic()
        talking = asyncio.ensure_future(talk(opened, 60.0))
        await opened.until(lambda: opened.of("error"))

        assert time.monotonic() - began_at <= NOTICED_WITHIN_S
        talking.cancel()


@pytest.mark.parametrize("talked_s", [0.0, 0.1, 1.0, 4.9, 5.1, 33.3])
async def test_a_peer_that_stops_reading_is_noticed(talked_s: float) -> None:
    """A server that hangs with the connection open is given up within 12.5 s."""
    async with line() as opened:
        await opened.session._update_session(instructions="")
        await opened.ready()
        await talk(opened, talked_s)
        opened.server.freeze()
        began_at = time.monotonic()
        talking = asyncio.ensure_future(talk(opened, 60.0))
        await opened.ready(2)

        assert time.monotonic() - began_at <= NOTICED_WITHIN_S
        talking.cancel()


async def test_a_peer_that_stops_reading_is_left_all_the_same() -> None:
    """A connection that is full of what nobody reads is closed as fast as any other."""
    async with Emulator(strict=False) as server:
        connection = await connect(options_for(server.url))
        server.freeze()
        for _ in range(100):
            connection.send_audio([bytes(1280)] * 25)
        began_at = time.monotonic()
        await connection.close()

        assert time.monotonic() - began_at <= 2 * CLOSE_TIMEOUT_S
        server.thaw()


@pytest.mark.parametrize("talked_s", [0.0, 5.1, 33.3])
async def test_a_peer_that_stops_reading_and_never_answered_a_ping_is_noticed(
    talked_s: float,
) -> None:
    """What it does not read fills the socket, and ten seconds later it is given up."""
    async with line(Scenario(answers_pings=False)) as opened:
        await opened.session._update_session(instructions="")
        await opened.until(
            lambda: "session.configured" in map(_type, opened.of("hydra_server_event"))
        )
        await talk(opened, talked_s)
        opened.server.freeze()
        began_at = time.monotonic()
        talking = asyncio.ensure_future(talk(opened, 60.0))
        await opened.ready(2)

        # The kernel's late acknowledgements, in real time, may make room once more: twice ten.
        assert time.monotonic() - began_at <= FULL_WITHIN_S + 2 * STUCK_AFTER_S
        (error,) = opened.of("error")
        assert "nothing was read for 10 s" in str(error.error)
        talking.cancel()
        opened.server.thaw()


async def test_a_peer_that_reads_slowly_is_kept() -> None:
    """A network that carries half of what is said is full all the time, but not stuck."""
    scenario = Scenario(answers_pings=False, max_lead_s=None)
    async with (
        Emulator(scenario) as server,
        FaultProxy(server.port) as proxy,
        line(base_url=proxy.url) as opened,
    ):
        await opened.session._update_session(instructions="")
        await server.wait_for(ev.SessionConfigured)
        proxy.bytes_per_s = 20_000
        await talk(opened, 60.0)

        assert proxy.n_connections == 1
        assert opened.of("error") == []


async def test_a_server_that_never_answers_pings_keeps_its_call() -> None:
    """Ten silent minutes: not answering pings is no fault."""
    async with line(Scenario(answers_pings=False)) as opened:
        await opened.session._update_session(instructions="")
        await opened.ready()
        await asyncio.sleep(600.0)

        assert len(opened.server.dials) == 1
        assert opened.of("error") == []


async def test_a_slow_network_is_no_dead_one() -> None:
    """Half a second each way, and stalls of 5 s now and then: the connection is kept."""
    async with (
        Emulator(Scenario(max_lead_s=None)) as server,
        FaultProxy(server.port) as proxy,
        line(base_url=proxy.url) as opened,
    ):
        proxy.delay_s = 0.5
        await opened.session._update_session(instructions="")
        for _ in range(5):
            await talk(opened, 10.0)
            proxy.stall()
            await talk(opened, 5.0)
            proxy.resume()

        assert proxy.n_connections == 1
        assert opened.of("error") == []


@pytest.mark.parametrize("way", ["another connection", "another call"])
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15])
async def test_a_connection_that_is_left_is_gone_before_the_next_is_counted(
    delay_s: float, way: str
) -> None:
    """An account may have room for one session: the next one does not meet the one before it."""
    scenario = Scenario(bare_response_create="refused", default_reply=Say(duration_s=0.2))
    async with (
        Emulator(scenario, strict=False) as server,
        FaultProxy(server.port) as proxy,
        line(base_url=proxy.url, complaints_are_fine=True) as opened,
    ):
        proxy.delay_s = delay_s
        await opened.session._update_session(instructions="")
        await server.wait_for(ev.SessionConfigured)
        if way == "another connection":
            await asyncio.sleep(1.0)
            await opened.session.generate_reply()
        else:
            await opened.session.aclose()
            await opened.model.session()._update_session(instructions="")
        await server.wait_for(
            lambda books: len(books.connections) == 2 and books.connection.configured_at_s
        )
        old, new = server.connections

        assert old.closed_at_s is not None
        assert old.closed_at_s <= new.opened_at_s


async def test_a_server_that_says_no_goodbye_is_not_waited_for_long() -> None:
    """A new connection is asked for half a second later at most."""
    scenario = Scenario(bare_response_create="refused", default_reply=Say(duration_s=0.2))
    async with line(scenario, complaints_are_fine=True) as opened:
        await opened.session._update_session(instructions="")
        await opened.ready()
        await asyncio.sleep(1.0)
        opened.server.freeze()
        left_at = time.monotonic()
        reply = opened.session.generate_reply()
        await opened.ready(2)

        assert time.monotonic() - left_at <= GOODBYE_S + READY_AGAIN_S
        await reply
        opened.server.thaw()


def test_a_call_is_back_within_a_handshake() -> None:
    """From a drop to READY it takes as long as the handshake, here 100 ms, and 50 ms at most."""

    async def drop() -> float:
        async with line(Scenario(connect_delay_s=0.04, configure_delay_s=0.06)) as opened:
            opened.session.push_audio(FRAME)
            await opened.ready()
            await asyncio.sleep(6.0)
            lost_at = time.monotonic()
            opened.server.drop()
            record = await opened.ready(2)
            return (record.configured_at_s or 0.0) - lost_at

    assert clock.run(drop) <= 0.1 + READY_AGAIN_S
