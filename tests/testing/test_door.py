"""Who may connect to the emulator, and how others are refused."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from livekit_plugins_hydra.testing import (
    Emulator,
)
from tests.raw_client import KEY, RawClient
from tests.testing.scenarios import FAST, refused


@pytest.mark.parametrize(
    ("query", "headers", "auth"),
    [
        (f"?model=hydra&api_key={KEY}", {}, "query"),
        ("?model=hydra", {"Authorization": f"Bearer {KEY}"}, "header"),
    ],
)
async def test_the_key_is_taken_from_query_or_header(
    query: str, headers: dict[str, str], auth: str
) -> None:
    """Both documented ways to authenticate open a connection."""
    scenario = dataclasses.replace(FAST, keys={KEY})
    async with Emulator(scenario) as server:
        async with RawClient(server, query=query, headers=headers) as client:
            await client.wait("session.created")

        assert (server.connection.auth, server.connection.model) == (auth, "hydra")


@pytest.mark.parametrize(
    ("changes", "query", "status"),
    [
        ({}, "?model=hydra", 401),
        ({}, "?model=hydra&api_key=", 401),
        ({"keys": {"other"}}, f"?model=hydra&api_key={KEY}", 401),
        ({"keys": lambda key: False}, f"?model=hydra&api_key={KEY}", 401),
        ({"keys": (), "bad_key": "http_403"}, f"?model=hydra&api_key={KEY}", 403),
        ({"http_refusals": 1}, f"?model=hydra&api_key={KEY}", 503),
        ({"http_refusals": 1, "http_refusal_status": 429}, f"?model=hydra&api_key={KEY}", 429),
        ({}, f"/elsewhere?model=hydra&api_key={KEY}", 404),
    ],
)
async def test_refused_connections(changes: dict[str, Any], query: str, status: int) -> None:
    """A refusal is an HTTP status, and is kept in the books."""
    async with Emulator(dataclasses.replace(FAST, **changes)) as server:
        with pytest.raises(InvalidStatus) as attempt:
            async with RawClient(server, query=query):
                pass

        assert refused(attempt) == status
        assert [each.status for each in server.dials] == [status]
        assert not server.connections
        if status in (429, 503):
            assert attempt.value.response.headers["Retry-After"] == "1"
            async with RawClient(server) as client:
                await client.wait("session.created")


async def test_a_bad_key_may_be_refused_after_the_upgrade() -> None:
    """The early model card's way: close 1008."""
    scenario = dataclasses.replace(FAST, keys=(), bad_key="close_1008")
    async with Emulator(scenario) as server, RawClient(server) as client:
        assert await client.closed() == 1008


async def test_tokens_expire() -> None:
    """A short-lived token opens connections for its lifetime, other keys for ever."""
    query = "?model=hydra&api_key=wat_token"
    async with Emulator(dataclasses.replace(FAST, token_lifetime_s=0.0)) as server:
        async with RawClient(server, query=query) as client:
            await client.wait("session.created")
        with pytest.raises(InvalidStatus) as attempt:
            async with RawClient(server, query=query):
                pass
        async with RawClient(server):
            pass

    assert refused(attempt) == 401


async def test_an_expired_token_may_end_its_session() -> None:
    """On request a session ends with its token."""
    scenario = dataclasses.replace(FAST, token_lifetime_s=0.05, expired_token="closed")
    async with (
        Emulator(scenario) as server,
        RawClient(server, query="?model=hydra&api_key=wat_token") as client,
    ):
        assert await client.closed() == 1008


@pytest.mark.parametrize("status", [503, 429])
async def test_a_server_can_become_busy_in_mid_call(status: int) -> None:
    """The first attempts under a scenario are refused, however many came before it."""
    async with Emulator(FAST) as server, RawClient(server):
        server.scenario = dataclasses.replace(FAST, http_refusals=2, http_refusal_status=status)
        for _ in range(2):
            with pytest.raises(InvalidStatus) as attempt:
                async with RawClient(server):
                    pass
            assert refused(attempt) == status
        async with RawClient(server) as client:
            await client.wait("session.created")


async def test_a_server_can_become_full_in_mid_call() -> None:
    """The first connections under a scenario get `server_full`, however many came before it."""
    async with Emulator(FAST) as server, RawClient(server):
        server.scenario = dataclasses.replace(FAST, server_full_connections=1)
        async with RawClient(server) as client:
            assert await client.closed() == 1013
        async with RawClient(server) as client:
            await client.configure()


async def test_a_full_server_says_so_and_closes() -> None:
    """`server_full` is followed by close 1013; the next connection finds room."""
    async with Emulator(dataclasses.replace(FAST, server_full_connections=1)) as server:
        async with RawClient(server) as client:
            assert await client.closed() == 1013
        assert client.types() == ["error"]
        assert client.frames[0]["error"]["code"] == "server_full"
        async with RawClient(server) as client:
            await client.configure()


async def test_silence_of_both_sides_ends_a_connection() -> None:
    """After the idle time-out without a frame the server closes with 1000, without an error."""
    async with (
        Emulator(dataclasses.replace(FAST, idle_timeout_s=0.1)) as server,
        RawClient(server) as client,
    ):
        await client.configure()
        assert await client.closed() == 1000

    assert not client.of("error")
    assert server.connection.close_reason == "idle"
    assert server.connection.closed_by_client is False


async def test_the_key_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """No record, representation or log line holds the key, whichever way it came."""
    logging.getLogger("websockets").setLevel(logging.INFO)  # the client's own lines hold it
    with caplog.at_level(logging.DEBUG):
        async with Emulator(dataclasses.replace(FAST, keys={KEY})) as server:
            async with RawClient(server) as client:
                await client.configure()
            headers = {"Authorization": f"Bearer {KEY}"}
            async with RawClient(server, query="?model=hydra", headers=headers) as client:
                await client.wait("session.created")
            shown = repr([server, vars(server), server.connections, server.dials, server.scenario])

    assert KEY not in shown + caplog.text + "".join(server.transcript())
    assert server.connections[0].query == {"model": "hydra-v1.1", "api_key": "<redacted>"}
    assert server.connections[1].headers["authorization"] == "<redacted>"
