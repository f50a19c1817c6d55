"""Why no connection could be made: each failure says where to look, and what to change."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import trustme
from livekit.agents import APIConnectOptions, APIError
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConfigurationError,
    CouldNotConnect,
    HandshakeRefused,
)
from livekit_plugins_hydra.testing import Say, Scenario
from livekit_plugins_hydra.transport.connecting import connect, trust
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


# ------------------------------------------------------------------------- what is set wrong


@pytest.fixture
def _fresh_trust() -> Iterator[None]:
    trust.cache_clear()
    yield
    trust.cache_clear()


async def misconfigured(base_url: str, caplog: pytest.LogCaptureFixture) -> str:
    """Hold a call that is set up wrong, and return what it says."""
    async with line(base_url=base_url) as opened:
        failure = await given_up(opened)
        assert len(opened.of("error")) == 1
    assert isinstance(failure.error, APIError)
    assert not failure.error.retryable
    assert "a bug" not in caplog.text
    with pytest.raises(ConfigurationError) as caught:
        await connect(options_for(base_url))
    assert caught.value.__cause__ is None
    assert str(caught.value) in str(failure.error)
    return str(caught.value)


@pytest.mark.usefixtures("_fresh_trust")
@pytest.mark.parametrize(
    ("content", "scheme"),
    [(None, "wss"), ("", "wss"), ("no certificate", "wss"), ("no certificate", "WSS")],
)
async def test_certificates_that_can_not_be_read_are_named(
    content: str | None,
    scheme: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A file that is not there, or has none, ends the call with one sentence about it."""
    path = tmp_path / "company.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    text = await misconfigured(f"{scheme}://127.0.0.1:9/s2s", caplog)

    assert "SSL_CERT_FILE" in text
    assert str(path) in text


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("nonsense://me:hush@127.0.0.1:9", "nonsense://127.0.0.1:9"),
        ("http://me:hush@127.0.0.1:99999", "http://127.0.0.1:99999"),
        ("http://me:hush@127.0.0.1:9/path", "http://127.0.0.1:9/path"),
        ("http://me:hu//sh@127.0.0.1:9", "http://127.0.0.1:9"),
        ("me:hush@127.0.0.1:9", "127.0.0.1:9"),
        ("http://[::1", "http://[::1"),
        ("socks5://me:hush@127.0.0.1:9", "socks5://127.0.0.1:9"),
    ],
)
async def test_a_proxy_that_can_not_be_used_is_named(
    proxy: str, shown: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With what it is, but for its password; and it is not tried again."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    text = await misconfigured("wss://hydra.invalid/s2s", caplog)

    assert f"the proxy {shown} can't be used" in text
    assert "HTTPS_PROXY" in text
    assert "hu" not in text
    assert ("python-socks" in text) == proxy.startswith("socks")


@pytest.mark.parametrize(
    "url",
    [
        "wss://ex..ample/s2s",
        f"wss://{'a' * 70}.com/s2s",
        "wss://\u202ehydra.invalid/s2s",
        "wss://me@hydra.invalid/s2s",
    ],
)
async def test_a_url_that_can_not_be_used_is_named(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It has passed the constructor, which looks at its form alone; it is not tried again."""
    text = await misconfigured(f"{url}?token=private", caplog)

    assert "base_url" in text
    assert url.partition("//")[2].rpartition("@")[2].partition("/")[0] in text
    assert "private" not in text


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
