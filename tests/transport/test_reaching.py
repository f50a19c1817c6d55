"""Hosts with several addresses: those that swallow packets, or refuse, do not stand in the way."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from livekit_plugins_hydra.testing import Emulator
from livekit_plugins_hydra.transport.connecting import connect
from livekit_plugins_hydra.transport.reaching import STAGGER_S, reach
from tests.calls import PATIENCE_S
from tests.transport.test_connection import options_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is loopback")

NAME = "hydra.test"


class _Known(socket.socket):
    """A socket that is remembered."""

    made: list[_Known]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.family != socket.AF_UNIX:  # the event loop's own
            self.made.append(self)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[_Known]:
    """All sockets that are made in a test."""
    _Known.made = []
    monkeypatch.setattr(socket, "socket", _Known)
    return _Known.made


def n_open(sockets: list[_Known]) -> int:
    """Return how many are open."""
    return len([each for each in sockets if each.fileno() != -1])


async def settle() -> None:
    """Let those run that were cancelled."""
    for _ in range(5):
        await asyncio.sleep(0)


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let the name have these addresses."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        assert host == NAME
        return [
            (
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (each, port),
            )
            for each in addresses
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@contextmanager
def listening(address: str) -> Iterator[int]:
    """Listen at an address; yield the port."""
    with socket.socket() as server:
        server.bind((address, 0))
        server.listen()
        yield server.getsockname()[1]


@contextmanager
def swallowing(address: str, port: int) -> Iterator[None]:
    """Answer nothing at an address: the queue of a server that accepts nobody is full."""
    clients = [socket.socket() for _ in range(3)]
    with socket.socket() as server:
        server.bind((address, port))
        server.listen(0)
        for client in clients:
            client.setblocking(False)
            client.connect_ex((address, port))
        yield
        for client in clients:
            client.close()


async def test_a_call_gets_past_an_address_that_swallows_packets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one is tried a quarter of a second later: the first costs that, and no call."""
    async with Emulator() as server:
        with swallowing("127.0.0.2", server.port):
            resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
            began_at = time.monotonic()
            connection = await connect(options_for(server.url.replace("127.0.0.1", NAME)))
            took_s = time.monotonic() - began_at
            await connection.close()

        assert STAGGER_S <= took_s < 3 * STAGGER_S
        assert len(server.dials) == 1


async def test_an_address_that_refuses_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is tried at once."""
    with listening("127.0.0.1") as port:
        resolve(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.1")
        began_at = time.monotonic()
        found = await reach(NAME, port)
        took_s = time.monotonic() - began_at

        assert found.getpeername() == ("127.0.0.1", port)
        assert took_s < STAGGER_S
        found.close()


async def test_a_slow_address_may_still_win(
    monkeypatch: pytest.MonkeyPatch, made: list[_Known]
) -> None:
    """Those that were tried before are waited for as well, and the loser is closed."""
    loop = asyncio.get_running_loop()
    plain = loop.sock_connect
    is_second_tried = asyncio.Event()

    async def late(sock: socket.socket, address: Any) -> None:
        if address[0] == "127.0.0.1":
            await is_second_tried.wait()
            await plain(sock, address)
        else:
            is_second_tried.set()
            await asyncio.Event().wait()

    with listening("127.0.0.1") as port:
        resolve(monkeypatch, "127.0.0.1", "127.0.0.2")
        monkeypatch.setattr(loop, "sock_connect", late)
        found = await reach(NAME, port)
        await settle()

        assert found.getpeername() == ("127.0.0.1", port)
        assert n_open(made) == 2  # it, and the server
        found.close()


async def test_two_addresses_that_answer_together_give_one_socket(
    monkeypatch: pytest.MonkeyPatch, made: list[_Known]
) -> None:
    """The other one is closed."""
    both_tried = asyncio.Event()

    async def together(_: socket.socket, address: Any) -> None:
        if address[0] == "127.0.0.2":
            both_tried.set()
        await both_tried.wait()

    resolve(monkeypatch, "127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", together)
    found = await reach(NAME, 9)
    await settle()

    assert len(made) == 2
    assert n_open(made) == 1
    assert found.fileno() != -1
    found.close()


async def test_where_nobody_answers_the_reason_is_that_of_the_first_address(
    monkeypatch: pytest.MonkeyPatch, made: list[_Known]
) -> None:
    """And nothing stays open."""
    resolve(monkeypatch, "127.0.0.2", "::ffff:0:0:1", "127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        await reach(NAME, 9)

    assert n_open(made) == 0


async def test_nothing_is_left_of_an_attempt_that_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, made: list[_Known]
) -> None:
    """Python's own happy_eyeballs_delay leaves a socket open."""
    both_tried = asyncio.Event()

    async def swallow(_: socket.socket, address: Any) -> None:
        if address[0] == "127.0.0.1":
            both_tried.set()
        await asyncio.Event().wait()

    resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", swallow)
    reaching = asyncio.ensure_future(reach(NAME, 9))
    async with asyncio.timeout(PATIENCE_S):
        await both_tried.wait()
    reaching.cancel()
    await asyncio.wait([reaching])
    await settle()

    assert len(made) == 2
    assert n_open(made) == 0


async def test_the_two_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8305: a host with a broken IPv6 and many addresses there is reached over IPv4."""
    tried: list[str] = []

    async def refuse(_: socket.socket, address: Any) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError

    resolve(monkeypatch, "::1", "::2", "::3", "127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", refuse)
    with pytest.raises(ConnectionRefusedError):
        await reach(NAME, 9)

    assert tried == ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]
