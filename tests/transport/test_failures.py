"""Why no connection could be made: each failure says where to look, and what to change."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest
import trustme
from livekit.agents import APIConnectOptions
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    CouldNotConnect,
    HandshakeRefused,
)
from livekit_plugins_hydra.testing import Say, Scenario
from livekit_plugins_hydra.transport.connecting import connect
from tests.calls import KEY
from tests.direct import line
from tests.transport.test_connection import answered, given_up, options_for

ONCE = APIConnectOptions(max_retry=0, timeout=0.3)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer nothing."""


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer nothing and wait."""
    await reader.read()


async def speak_ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be another program."""
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await reader.read()


@asynccontextmanager
async def listening(handler: Handler, **options: Any) -> AsyncIterator[int]:
    """Serve a port; yield it."""
    serving: set[asyncio.Future[None] | None] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        await handler(reader, writer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*filter(None, serving), return_exceptions=True)


async def failure_at(url: str, **changes: Any) -> CouldNotConnect:
    """Fail to connect, and return why."""
    options = replace(options_for(url), conn_options=ONCE, **changes)
    with pytest.raises(CouldNotConnect) as caught:
        await connect(options)
    return caught.value


# ------------------------------------------------------------------------- nobody was reached


@pytest.mark.parametrize(
    ("handler", "reason"),
    [(hang_up, "it hung up"), (say_nothing, "no answer within 0.3 s"), (speak_ssh, "no WebSocket")],
)
async def test_a_server_that_does_not_answer_is_named(handler: Handler, reason: str) -> None:
    """With host, port and path, and nothing of the query."""
    async with listening(handler) as port:
        failure = await failure_at(f"ws://127.0.0.1:{port}/waves/v1/s2s?token=private")

    assert str(failure).startswith(f"Could not connect to 127.0.0.1:{port}/waves/v1/s2s: {reason}")
    assert failure.retryable
    assert "private" not in repr(failure) + str(failure)


async def test_a_port_where_nobody_listens_is_named() -> None:
    """The reason is the system's."""
    async with listening(hang_up) as port:
        pass
    failure = await failure_at(f"ws://127.0.0.1:{port}/s2s")

    assert str(failure) == f"Could not connect to 127.0.0.1:{port}/s2s: Connection refused."


async def test_a_name_that_nobody_has_is_named() -> None:
    """The port that is meant is said, too."""
    failure = await failure_at("wss://hydra.invalid/s2s")

    assert str(failure).startswith("Could not connect to hydra.invalid:443/s2s: ")


async def test_an_address_of_ipv6_is_named_as_in_a_url() -> None:
    """With its brackets."""
    failure = await failure_at("ws://[::1]:9/s2s")

    assert str(failure).startswith("Could not connect to [::1]:9/s2s: ")


async def test_a_server_that_is_not_trusted_is_named() -> None:
    """The reason says that it is the certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with listening(hang_up, ssl=tls) as port:
        failure = await failure_at(f"wss://127.0.0.1:{port}/s2s")

    assert str(failure).startswith(f"Could not connect to 127.0.0.1:{port}/s2s: ")
    assert "certificate" in str(failure)


async def test_a_token_that_can_not_be_had_is_no_lost_connection() -> None:
    """The call did not get as far as the network."""

    async def mint() -> str:
        raise RuntimeError(KEY)

    failure = await failure_at("ws://127.0.0.1:9/s2s", api_key=mint)

    assert str(failure) == "Could not connect to 127.0.0.1:9/s2s: api_key() raised RuntimeError."


async def test_what_never_was_is_never_called_lost(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the errors of a call nor in its log; what was, is."""
    async with line(base_url="ws://127.0.0.1:9/s2s", conn_options=ONCE) as opened:
        failure = await given_up(opened)
    assert "Could not connect to 127.0.0.1:9/s2s" in str(failure.error)
    assert "Could not connect to 127.0.0.1:9/s2s" in caplog.text
    assert "lost" not in str(failure.error) + caplog.text

    async with line(Scenario(default_reply=Say(duration_s=0.2))) as opened:
        await answered(opened)
        opened.server.drop()
        await opened.ready(2)
        (lost,) = opened.of("error")
    assert "The connection to Hydra was lost" in str(lost.error)


# ------------------------------------------------------------------------- who answers: no


@asynccontextmanager
async def refusing(status: int) -> AsyncIterator[str]:
    """Serve a URL without a path that answers with an HTTP status."""

    def refuse(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(HTTPStatus(status), "")

    async def nobody(_: ServerConnection) -> None:
        """Serve nothing."""

    async with serve(nobody, "127.0.0.1", 0, process_request=refuse) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 405])
async def test_a_base_url_without_a_path_is_told_of_it(status: int) -> None:
    """Whatever a server answers at its root, the path may be what is missing."""
    async with refusing(status) as url:
        for path, is_told in (("", True), ("/", True), ("/waves/v1/s2s", False)):
            with pytest.raises((AuthenticationFailed, HandshakeRefused)) as caught:
                await connect(options_for(url + path))
            assert ("/waves/v1/s2s" in str(caught.value)) == is_told


async def test_a_key_that_is_refused_in_mid_call_does_not_keep_it_from_starting() -> None:
    """The call is over, and its error does not say that it could not start."""
    valid = {KEY}
    scenario = Scenario(keys=lambda key: key in valid, default_reply=Say(duration_s=0.2))
    async with line(scenario) as opened:
        await answered(opened)
        valid.clear()
        opened.server.drop()
        failure = await given_up(opened)

    assert "refused the API key (HTTP 401)" in str(failure.error)
    assert "start" not in str(failure.error)
