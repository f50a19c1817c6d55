"""Connections: how they are made, refused, ended and made again, and what never leaks from them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import socket
import ssl
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import pytest
import trustme
from livekit.agents import APIConnectionError, APIConnectOptions, APIError, APIStatusError, llm
from livekit.agents import __version__ as livekit_version
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.options import Options
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.errors import (
    ConfigurationError,
    ConnectionFailed,
    CouldNotConnect,
)
from livekit_plugins_hydra.protocol.voices import SERVER_DEFAULT_VOICE
from livekit_plugins_hydra.testing import Call, Emulator, Reply, Say, Scenario
from livekit_plugins_hydra.transport.connecting import connect
from tests.calls import KEY, PATIENCE_S, call, tone
from tests.direct import Line, hear, line
from tests.session.test_calls import GREETING, Greeter, Silent

YES = Say(duration_s=0.3, tone_hz=500, text="Yes, of course.")
FAST = Scenario(default_reply=YES, think_s=0.01, silence_ms=200)
ONCE = APIConnectOptions(max_retry=0, timeout=5.0)
TWICE = APIConnectOptions(max_retry=1, timeout=5.0)


async def answered(opened: Line) -> None:
    """Have the user say something and the model answer."""
    count = len(opened.of("generation_created"))
    opened.say(tone(0.4))
    (heard,) = await hear(await opened.generation(count + 1))
    assert heard.pcm == bytes(opened.server.responses[-1].pcm)


async def given_up(opened: Line) -> llm.RealtimeModelError:
    """Wait for the error that ends the call, and return it."""
    await opened.until(lambda: [each for each in opened.of("error") if not each.recoverable])
    error: llm.RealtimeModelError = opened.of("error")[-1]
    return error


def options_for(url: str, *, api_key: str = KEY, auth: Any = "query") -> Options:
    """Return the options of a call, as a model makes them."""
    return Options(
        model="hydra-v1.1",
        voice="aria",
        api_key=api_key,
        base_url=url,
        auth=auth,
        generate_initial_response=False,
        input_stt=None,
        output_stt=None,
        resume_false_interruption=True,
        conn_options=TWICE,
    )


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the plugin logged as a warning or worse, but for the missing text."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
        and record.name == "livekit.plugins.hydra"
        and "sends no text" not in record.getMessage()
    ]


# ------------------------------------------------------------------------ refused for good


@pytest.mark.parametrize("auth", ["query", "header"])
@pytest.mark.parametrize(("fault", "status"), [("bad_key_401", 401), ("bad_key_403", 403)])
async def test_a_refused_key_ends_the_call_at_once(fault: str, status: int, auth: str) -> None:
    """One attempt, one unrecoverable error that names the cause and never the key."""
    async with line(FAST.with_switches(fault), auth=auth) as opened:
        reply = opened.session.generate_reply()
        failure = await given_up(opened)

        assert isinstance(failure.error, APIStatusError)
        assert failure.error.status_code == status
        assert not failure.error.retryable
        assert "refused the API key" in str(failure.error)
        assert "SMALLEST_API_KEY" in str(failure.error)
        assert len(opened.of("error")) == len(opened.server.dials) == 1
        with pytest.raises(llm.RealtimeError, match="refused the API key"):
            await reply
        with pytest.raises(llm.RealtimeError, match="refused the API key"):
            await opened.session.generate_reply()


async def test_a_key_refused_by_close_ends_the_call_at_once() -> None:
    """A server that closes 1008 instead of answering 401 is not connected to again either."""
    async with line(FAST.with_switches("bad_key_1008")) as opened:
        failure = await given_up(opened)
        assert "1008" in str(failure.error)
        assert len(opened.of("error")) == len(opened.server.dials) == 1


@pytest.mark.parametrize("status", [400, 402, 404])
async def test_a_refusal_that_would_only_repeat_ends_the_call(status: int) -> None:
    """A 4xx that no retry can cure is one unrecoverable error that says where to look."""
    scenario = Scenario(http_refusals=9, http_refusal_status=status, http_retry_after_s=None)
    async with line(scenario) as opened:
        failure = await given_up(opened)
        assert isinstance(failure.error, APIStatusError)
        assert failure.error.status_code == status
        assert "base_url=" in str(failure.error)
        assert len(opened.of("error")) == len(opened.server.dials) == 1


async def test_a_wrong_path_is_a_refusal() -> None:
    """A base URL that leads nowhere on the right server is a 404."""
    async with Emulator() as server, line(FAST, base_url=server.url + "/nowhere") as opened:
        failure = await given_up(opened)
        assert "404" in str(failure.error)


@pytest.mark.parametrize("auth", ["query", "header"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_key_follows_nobody_to_another_address(status: int, auth: str) -> None:
    """A redirect is a refusal that says what to do; only `base_url` is connected to."""
    async with Emulator() as other:

        def redirect(connection: ServerConnection, _: Request) -> Response:
            response = connection.respond(HTTPStatus(status), "")
            response.headers["Location"] = f"{other.url}?model=hydra-v1.1&api_key={KEY}"
            return response

        async with serve(_nobody, "127.0.0.1", 0, process_request=redirect) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with line(base_url=f"ws://127.0.0.1:{port}/", auth=auth) as opened:
                failure = await given_up(opened)

        assert isinstance(failure.error, APIStatusError)
        assert failure.error.status_code == status
        assert "another address" in str(failure.error)
        assert "base_url=" in str(failure.error)
        assert other.dials == []


async def _nobody(_: ServerConnection) -> None:
    """Serve nothing."""


@asynccontextmanager
async def refuses_to_configure(*, closes: bool = False) -> AsyncIterator[str]:
    """Run a server that has no voice at all; yields its URL."""

    async def refuse(client: ServerConnection) -> None:
        await client.send('{"type":"session.created","session_id":"s"}')
        await client.recv()
        await client.send(
            '{"type":"error","error":{"code":"invalid_request_error","message":"no voice",'
            '"param":"session.configure.session.voice"}}'
        )
        if closes:
            await client.close(1008, "session.configure was refused")
        await client.wait_closed()

    unheard = logging.getLogger("a server's own")  # it writes the URL that it was asked for
    unheard.propagate = False
    async with serve(refuse, "127.0.0.1", 0, logger=unheard) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/"


@pytest.mark.parametrize("closes", [False, True])
async def test_a_configuration_that_is_refused_ends_the_call_at_once(closes: bool) -> None:
    """One unrecoverable error with the server's words and the field; nothing is tried again."""
    async with (
        refuses_to_configure(closes=closes) as url,
        line(base_url=url, voice=SERVER_DEFAULT_VOICE) as opened,
    ):
        reply = opened.session.generate_reply()
        failure = await given_up(opened)

        assert "no voice" in str(failure.error)
        assert "session.configure.session.voice" in str(failure.error)
        assert len(opened.of("error")) == 1
        with pytest.raises(llm.RealtimeError, match="no voice"):
            await reply


@pytest.mark.parametrize(
    "switch",
    ["none", "refused_configure_closes", "errors_name_no_event", "errors_all_invalid_frame"],
)
@pytest.mark.parametrize(("model", "voice"), [("hydra", "wren"), ("hydra-v1.1", "nobody")])
async def test_a_voice_that_is_refused_is_replaced(
    model: str, voice: str, switch: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried, then `sterling` on a new connection: one warning, and it is remembered."""
    scenario = FAST if switch == "none" else FAST.with_switches(switch)
    async with line(scenario, model=model, voice=voice) as opened:
        await hear(await opened.session.generate_reply(instructions="Say hello."))

        voices = [record.configures[0].session.voice for record in opened.server.connections]
        assert voices == [voice, "sterling"]
        assert opened.of("error") == []
        (warning,) = [text for text in warnings_in(caplog) if f"'{voice}'" in text]
        assert "'sterling'" in warning

        later = opened.model.session()
        await hear(await later.generate_reply())
        voices = [record.configures[0].session.voice for record in opened.server.connections]
        assert voices == [voice, "sterling", "sterling"]


# ------------------------------------------------------------------------- refused for now


@pytest.mark.parametrize("fault", ["busy_503", "busy_429"])
async def test_a_busy_server_is_tried_again_when_it_says(fault: str) -> None:
    """The error is recoverable, `Retry-After` is kept, and the greeting still comes."""
    async with line(FAST.with_switches(fault)) as opened:
        reply = opened.session.generate_reply()
        await hear(await reply)

        first, second = opened.server.dials
        assert second.at_s - first.at_s >= 1.0
        assert [error.recoverable for error in opened.of("error")] == [True]
        assert opened.server.responses[0].trigger == "greeting"


async def test_a_busy_server_may_say_twice_when() -> None:
    """Two `Retry-After` headers, of the server and of what stands before it, are no fault."""

    def refuse(connection: ServerConnection, _: Request) -> Response:
        response = connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "")
        response.headers["Retry-After"] = "1"
        response.headers["Retry-After"] = "2"
        return response

    async with serve(_nobody, "127.0.0.1", 0, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with line(base_url=f"ws://127.0.0.1:{port}/") as opened:
            opened.session.generate_reply()
            errors = await opened.until(lambda: opened.of("error"))
            assert errors[0].recoverable


@pytest.mark.parametrize("fault", ["server_full", "server_full_does_not_close"])
async def test_a_full_server_is_tried_again(fault: str) -> None:
    """`server_full` is one recoverable error, whether a close follows or not."""
    async with line(FAST.with_switches(fault)) as opened:
        await hear(await opened.session.generate_reply())

        assert [error.recoverable for error in opened.of("error")] == [True]
        assert len(opened.server.dials) == 2


async def test_a_server_that_stays_full_is_left_in_peace() -> None:
    """After `max_retry` the call ends: an accepted handshake is no success."""
    scenario = Scenario(server_full_connections=99)
    async with line(scenario, conn_options=TWICE) as opened:
        reply = opened.session.generate_reply()
        failure = await given_up(opened)

        assert isinstance(failure.error, APIConnectionError)
        assert [error.recoverable for error in opened.of("error")] == [True, False]
        assert len(opened.server.dials) == 2
        with pytest.raises(llm.RealtimeError):
            await reply


async def test_nobody_there() -> None:
    """Where nothing listens the call ends after `max_retry`, and says why."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}/"
        async with line(base_url=url, conn_options=TWICE) as opened:
            failure = await given_up(opened)
    assert isinstance(failure.error, APIConnectionError)
    assert "Connection refused" in str(failure.error)
    assert [error.recoverable for error in opened.of("error")] == [True, False]


async def test_a_server_that_hangs_up_on_handshakes() -> None:
    """A handshake that is cut without an answer is a failure like any other."""
    async with line(FAST, conn_options=TWICE) as opened:
        opened.server.offline = True
        failure = await given_up(opened)
        assert isinstance(failure.error, APIConnectionError)
        assert [each.status for each in opened.server.dials] == [0, 0]


async def test_an_upgrade_has_a_time_limit() -> None:
    """`conn_options.timeout` bounds an upgrade that nobody answers."""
    options = APIConnectOptions(max_retry=0, timeout=0.2)
    async with line(Scenario(connect_delay_s=60), conn_options=options) as opened:
        began_at = time.monotonic()
        failure = await given_up(opened)
        assert 0.2 <= time.monotonic() - began_at < 5
        assert "0.2 s" in str(failure.error)


@pytest.mark.parametrize(
    ("fault", "missing"),
    [("never_created", "session.created"), ("never_configured", "session.configured")],
)
async def test_a_handshake_has_a_time_limit(
    fault: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepts and then says nothing fails the connection, which is tried again."""
    monkeypatch.setattr("livekit_plugins_hydra.protocol.conversation.HANDSHAKE_TIMEOUT_S", 0.2)
    async with line(FAST.with_switches(fault), conn_options=TWICE) as opened:
        reply = opened.session.generate_reply()
        failure = await given_up(opened)

        assert missing in str(failure.error)
        assert [error.recoverable for error in opened.of("error")] == [True, False]
        assert len(opened.server.connections) == 2
        with pytest.raises(llm.RealtimeError, match=missing):
            await reply


# ------------------------------------------------------------------------- how it connects


@pytest.mark.parametrize("auth", ["query", "header"])
async def test_the_key_travels_in_one_place(auth: str) -> None:
    """By query or by header, never both; the model and the integration are always named."""
    async with line(Scenario(keys={KEY}, default_reply=YES), auth=auth) as opened:
        await hear(await opened.session.generate_reply())

        record = opened.server.connection
        assert record.auth == auth
        assert ("api_key" in record.query) == (auth == "query")
        assert ("authorization" in record.headers) == (auth == "header")
        assert record.query["model"] == "hydra-v1.1"
        assert record.headers["x-source"] == "livekit"
        assert record.headers["x-livekit-version"] == livekit_version


async def test_a_base_url_keeps_its_own_query() -> None:
    """What a gateway needs in the URL stays; model and key are ours."""
    async with Emulator(Scenario(keys={KEY}, default_reply=YES)) as server:
        url = f"{server.url}?region=eu%20west&model=other&api_key=old"
        async with line(base_url=url) as opened:
            await hear(await opened.session.generate_reply())
        query = server.connection.query
        assert query == {"region": "eu west", "model": "hydra-v1.1", "api_key": "<redacted>"}


async def test_a_key_with_odd_characters_arrives_whole() -> None:
    """A key is escaped in the URL, whatever printable characters it has."""
    key = "sk+/=&?#%41~"
    async with line(Scenario(keys={key}, default_reply=YES), api_key=key) as opened:
        await hear(await opened.session.generate_reply())
        assert opened.server.connection.auth == "query"


async def test_a_token_is_minted_for_each_connection() -> None:
    """A callable key is called once for each connection, so that tokens may be short-lived."""
    minted: list[str] = []

    async def mint() -> str:
        minted.append(f"wat_{len(minted)}")
        return minted[-1]

    scenario = Scenario(default_reply=YES, token_lifetime_s=0.0, silence_ms=200)
    async with line(scenario, api_key=mint) as opened:
        await answered(opened)
        opened.server.drop()
        await opened.ready(2)
        assert minted == ["wat_0", "wat_1"]


async def test_a_token_that_has_expired_is_asked_for_once_more() -> None:
    """Where a callable keeps its token too long, a reconnect asks again before it gives up."""
    tokens = iter(["wat_a", "wat_a", "wat_b", "wat_b", "wat_b"])

    async def mint() -> str:
        return next(tokens)

    scenario = Scenario(default_reply=YES, token_lifetime_s=0.0, silence_ms=200)
    async with line(scenario, api_key=mint) as opened:
        await answered(opened)
        opened.server.drop()
        await opened.ready(2)
        await answered(opened)
        assert [each.status for each in opened.server.dials] == [101, 401, 101]

        opened.server.drop()
        failure = await given_up(opened)
        assert "refused the API key" in str(failure.error)
        assert [each.status for each in opened.server.dials] == [101, 401, 101, 401, 401]


async def test_a_token_that_never_was_good_is_not_asked_for_again() -> None:
    """At the first connection of a call a refused token ends it, as a refused key does."""

    async def mint() -> str:
        return "wat_bad"

    async with line(FAST.with_switches("bad_key_401"), api_key=mint) as opened:
        await given_up(opened)
        assert len(opened.server.dials) == 1


@pytest.mark.parametrize("failure", ["raises", "hangs", "empty", "no text", "spaces"])
async def test_a_token_that_can_not_be_had_is_a_failed_connection(failure: str) -> None:
    """What a token service raises or returns is never quoted; the failure says where it was."""

    async def mint() -> Any:
        if failure == "raises":
            raise RuntimeError(f"no token for {KEY}")
        if failure == "hangs":
            await asyncio.Event().wait()
        return {"empty": " ", "no text": None, "spaces": f"{KEY} {KEY}"}[failure]

    options = APIConnectOptions(max_retry=0, timeout=0.2)
    async with line(FAST, api_key=mint, conn_options=options) as opened:
        given = await given_up(opened)
        assert "api_key()" in str(given.error)
        assert KEY not in repr(given.error)
        assert opened.server.dials == []


async def test_a_token_may_end_in_a_newline() -> None:
    """A token that was read from a file, newline and all, works."""

    async def mint() -> str:
        return f"{KEY}\n"

    for auth in ("query", "header"):
        async with line(Scenario(keys={KEY}, default_reply=YES), api_key=mint, auth=auth) as opened:
            await hear(await opened.session.generate_reply())


async def test_the_bundle_of_certificates_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 20 ms of the event loop, in which no audio moves; once in a process is enough."""
    n_read = 0
    real = ssl.create_default_context

    def counted(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        nonlocal n_read
        n_read += 1
        return real(*args, **kwargs)

    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server_side)

    async def wait(client: ServerConnection) -> None:
        await client.wait_closed()

    async with serve(wait, "127.0.0.1", 0, ssl=server_side) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"wss://127.0.0.1:{port}/"
        monkeypatch.setattr(ssl, "create_default_context", counted)
        for _ in range(3):
            with pytest.raises(ConnectionFailed, match="CERTIFICATE"):
                await connect(options_for(url))
    assert n_read <= 1


@asynccontextmanager
async def connect_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """Run an HTTP proxy on loopback; yield its URL, and the requests that it gets."""
    requests: list[str] = []
    pumps: set[asyncio.Task[None]] = set()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        requests.append(head)
        host, _, port = head.split()[1].rpartition(":")
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        ways = [(reader, upstream_writer), (upstream_reader, writer)]
        pumps.update(asyncio.ensure_future(pump(*way)) for way in ways)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    finally:
        server.close()
        for each in pumps:
            each.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


@pytest.mark.parametrize("source", ["environment", "job"])
async def test_a_proxy_is_used(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's own proxy, where LiveKit was given one, or else the environment's."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with connect_proxy() as (url, requests):
        if source == "environment":
            monkeypatch.setenv("http_proxy", url)
        else:
            monkeypatch.setattr(
                "livekit_plugins_hydra.transport.connecting.get_job_context",
                lambda: SimpleNamespace(proc=SimpleNamespace(http_proxy=url)),
            )
        async with line(FAST) as opened:
            await hear(await opened.session.generate_reply())
            port = opened.server.port
            await opened.session.aclose()

    (request,) = requests
    assert request.startswith(f"CONNECT 127.0.0.1:{port} ")
    assert KEY not in request


async def test_no_proxy_holds_for_the_worker_s_proxy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiveKit's worker takes HTTPS_PROXY for its own, without a look at NO_PROXY."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setattr(
        "livekit_plugins_hydra.transport.connecting.get_job_context",
        lambda: SimpleNamespace(proc=SimpleNamespace(http_proxy="http://127.0.0.1:9")),
    )
    async with Emulator() as server:
        connection = await connect(options_for(server.url))
        await connection.close()


async def test_no_proxy_may_name_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the URL leaves it out, as it is the usual one."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1:443")
    with pytest.raises(CouldNotConnect) as caught:  # nobody is there
        await connect(options_for("wss://127.0.0.1/s2s"))

    assert "127.0.0.1:443" in str(caught.value)
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_is_named(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status says what to do: credentials, a rule of the firewall, or a name."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://me:password@127.0.0.1:{port}")
        with pytest.raises(ConnectionFailed, match=f"proxy answered HTTP {status}") as raised:
            await connect(options_for("wss://hydra.invalid/"))
    assert raised.value.retryable == (status == 502)


# ---------------------------------------------------------------------- what makes no sense


async def test_what_is_dropped_is_counted() -> None:
    """Frames that are no events are counted and not delivered; an event may come as binary."""
    async with Emulator() as server:
        delivered: list[str] = []
        arrived = asyncio.Event()

        def deliver(event: ev.ServerEvent | ev.UnknownEvent) -> None:
            delivered.append(event.type)
            if event.type == "last":
                arrived.set()

        connection = await connect(options_for(server.url))
        running = asyncio.ensure_future(connection.run(deliver))
        await server.wait_for(ev.SessionCreated)
        for frame in (b"\x00", b'{"type": "binary"}', b"", "no JSON", '{"type": 5}'):
            server.send(frame)
        server.send({"type": "last"})
        await arrived.wait()
        connection.leave()
        await running
        await connection.close()

    assert delivered == ["session.created", "binary", "last"]
    assert connection.n_malformed == 4


PCM = base64.b64encode(bytes(960)).decode()

STRANGE: dict[str, str | bytes | dict[str, Any]] = {
    "binary": b"\x00\x01\x02",
    "empty": "",
    "no JSON": "hello",
    "no object": "[1, 2]",
    "no type": "{}",
    "a type that is no text": '{"type": 5}',
    "cut off": '{"type": "response.created", "respo',
    "too deep": "[" * 20_000,
    "half a surrogate": '{"type": "error", "error": {"message": "\\ud83d"}}',
    "unknown": {"type": "response.thinking", "secret": "words"},
    "known, without its fields": {"type": "response.created"},
    "known, with wrong fields": {"type": "response.output_audio.delta", "delta": 5},
    "bad base64": {"type": "response.output_audio.delta", "delta": "!!!!"},
    "second session.created": {"type": "session.created", "session_id": "other"},
    "second session.configured": {
        "type": "session.configured",
        "session": {"output_audio_sample_rate": 8_000},
    },
    "audio of a foreign response": {
        "type": "response.output_audio.delta",
        "response_id": "resp_foreign",
        "delta": PCM,
    },
    "words of a foreign response": {
        "type": "response.output_audio_transcript.delta",
        "response_id": "resp_foreign",
        "delta": "foreign words",
    },
    "a call of a foreign response": {
        "type": "response.function_call_arguments.done",
        "response_id": "resp_foreign",
        "call_id": "call_foreign",
        "name": "weather",
        "arguments": "{}",
    },
    "the end of a foreign response": {"type": "response.done", "response": {"id": "resp_foreign"}},
    "the end of a turn that never began": {
        "type": "input_audio_buffer.speech_stopped",
        "item_id": "item_foreign",
    },
    "the discard of a foreign turn": {
        "type": "conversation.item.done",
        "item": {"id": "item_foreign", "type": "message", "role": "user", "status": "incomplete"},
    },
    "a warning": {"type": "warning", "code": "soon", "message": "maintenance at noon"},
    "an error about nothing": {"type": "error", "error": {"code": "invalid_audio"}},
    "an error without a body": {"type": "error"},
}
REPEATED = [
    "response.created",
    "response.output_audio.delta",
    "response.output_audio.done",
    "conversation.item.done",
    "response.done",
]
"""What is doubled, once its response has ended."""


@pytest.mark.parametrize("name", STRANGE)
async def test_a_strange_frame_is_dropped(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Before, during and after a response, twice each: the call goes on, and little is logged."""
    frame = STRANGE[name]
    replies = [YES, Say(duration_s=1.5, tone_hz=400), YES]
    async with line(Scenario(replies=replies, think_s=0.01, silence_ms=200)) as opened:
        await answered(opened)
        for _ in range(2):
            opened.server.send(frame)
        opened.say(tone(0.4))
        generation = await opened.generation(2)
        for _ in range(2):
            opened.server.send(frame)
        (heard,) = await hear(generation)
        assert heard.pcm == bytes(opened.server.responses[1].pcm)
        assert heard.rates_hz == {24_000}
        await answered(opened)

        assert len(opened.server.connections) == 1
        assert len(opened.of("generation_created")) == 3
        assert [each.cancelled for each in opened.responses_measured] == [False] * 3
        assert opened.session.session_id == opened.server.connection.session_id
    assert len(warnings_in(caplog)) <= (4 if "error" in name else 1)
    assert "words" not in caplog.text


async def test_what_comes_twice_counts_once() -> None:
    """Frames of a response that come again when it has ended do nothing."""
    frames: list[str] = []
    async with line(FAST) as opened:

        @opened.session.on("hydra_server_event")
        def _(event: ev.Event) -> None:
            if event.type in REPEATED:
                frames.append(json.dumps({"type": event.type} | _fields(event)))

        await answered(opened)
        await opened.until(lambda: opened.responses_measured)
        for frame in frames.copy():
            opened.server.send(frame)
        await answered(opened)

        assert len(opened.of("generation_created")) == 2
        assert len(opened.responses_measured) == 2


def _fields(event: Any) -> dict[str, Any]:
    import msgspec

    fields: dict[str, Any] = msgspec.to_builtins(event)
    return fields | ({"delta": PCM} if "delta" in event.__struct_fields__ else {})


RUDE: dict[str, bytes] = {
    "a frame of an unknown kind": b"\x83\x00",
    "a reserved bit": b"\xc1\x02{}",
    "a masked frame": b"\x81\x82\x00\x00\x00\x00{}",
}


@pytest.mark.parametrize("name", RUDE)
async def test_a_frame_that_is_no_frame_costs_a_connection(name: str) -> None:
    """What breaks WebSocket's own rules ends a connection and not the call."""
    n_connections = 0

    async def serve_rudely(client: ServerConnection) -> None:
        nonlocal n_connections
        n_connections += 1
        await client.send('{"type": "session.created", "session_id": "s"}')
        await client.recv()
        await client.send('{"type": "session.configured"}')
        if n_connections == 1:
            client.transport.write(RUDE[name])
        await client.wait_closed()

    async with serve(serve_rudely, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with line(base_url=f"ws://127.0.0.1:{port}/") as opened:
            await opened.session._update_session()
            await opened.until(lambda: opened.of("session_reconnected"))
            (failure,) = opened.of("error")
            assert failure.recoverable
    assert n_connections == 2


# ---------------------------------------------------------------------------- signs of life


async def test_a_server_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that did answer pings, and then nothing at all, is connected to anew."""
    monkeypatch.setattr("livekit_plugins_hydra.transport.connection.PING_EVERY_S", 0.05)
    monkeypatch.setattr("livekit_plugins_hydra.transport.connection.DEAD_AFTER_S", 0.2)
    async with line(FAST) as opened:
        await answered(opened)
        opened.server.freeze()
        await opened.ready(2)
        opened.server.thaw()
        await answered(opened)

        (failure,) = opened.of("error")
        assert failure.recoverable
        assert "no sign of life" in str(failure.error)


# ------------------------------------------------------------------------------ reconnects


@pytest.mark.parametrize("end", ["drop", 1000, 1001, 1005, 1011, 1012])
async def test_a_lost_connection_is_made_again(end: Any) -> None:
    """However it ended, the next one knows the history, and the call goes on without a gap."""
    scenario = Scenario(
        default_reply=YES, transcripts=True, user_text="Are you there?", silence_ms=200
    )
    async with line(scenario) as opened:
        await opened.session._update_session(instructions="Be kind.")
        await answered(opened)
        lost_at = time.monotonic()
        if end == "drop":
            opened.server.drop()
        else:
            opened.server.close(end if end != 1005 else 1000)
        record = await opened.ready(2)
        assert time.monotonic() - lost_at < 2.0
        await answered(opened)

        instructions = record.configuration.instructions or ""
        assert instructions.startswith("Be kind.\n")
        assert 'user: "Are you there?"\nassistant: "Yes, of course."' in instructions
        assert record.configuration.generate_initial_response is False
        assert len(opened.of("session_reconnected")) == 1
        assert [error.recoverable for error in opened.of("error")] == [True]
        assert opened.session.session_id == record.session_id


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1010, 4000, 4401])
async def test_a_close_that_would_only_repeat_ends_the_call(code: int) -> None:
    """Close codes that blame this side are not retried; the reason is passed on."""
    async with line(FAST) as opened:
        await answered(opened)
        opened.server.close(code, "a good reason")
        failure = await given_up(opened)

        assert str(code) in str(failure.error)
        assert "a good reason" in str(failure.error)
        assert len(opened.of("error")) == len(opened.server.dials) == 1


async def test_a_call_of_the_framework_survives_its_connection() -> None:
    """A greeting, a turn, a lost connection, a tool: the caller hears all of it."""
    result = Say(duration_s=0.4, tone_hz=700, text="It is sunny in Rome.")
    replies: list[Reply] = [GREETING, YES, Call("weather", {"city": "Rome"}), result]
    async with call(Scenario(replies=replies, silence_ms=200), Greeter()) as desk:
        await desk.until_heard(1)
        await desk.say(tone(0.5))
        await desk.until_heard(2)
        desk.server.drop()
        await desk.server.wait_connections(2, timeout=PATIENCE_S)
        await desk.say(tone(0.5))
        await desk.until_heard(3)
        await desk.until_state("listening")

        assert desk.heard_s == [GREETING.duration_s, YES.duration_s, result.duration_s]
        assert len(desk.server.connections) == 2
        assert [event.error.recoverable for event in desk.of("error")] == [True]


async def test_a_session_without_a_connection_has_no_id() -> None:
    """`session_id` is the present connection's: nothing, while there is none."""
    async with line(FAST) as opened:
        await answered(opened)
        opened.server.offline = True
        opened.server.drop()
        await opened.until(lambda: opened.of("error"))
        assert opened.session.session_id is None


# -------------------------------------------------------------------------------- secrets

SECRET = "sk-top+/=secret"


class Everything(logging.Handler):
    """Keeps all that a log record can show."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, formatted and raw."""
        self.seen.append(self.format(record))
        self.seen.append(repr(vars(record)))


@pytest.fixture
def everything() -> Iterator[Everything]:
    """All records of all loggers, at every level."""
    handler = Everything()
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, [*root.manager.loggerDict, "websockets.client"])]
    levels = [(each, each.level) for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for each, level in levels:
        each.setLevel(level)


def shown_by(error: BaseException | None) -> Iterator[str]:
    """Yield all that an exception shows: texts, arguments, and its chain, suppressed or not."""
    while error is not None:
        yield str(error)
        yield repr(error)
        yield repr(error.args)
        yield repr(vars(error))
        yield "".join(traceback.format_exception(error))
        yield from shown_by(error.__cause__)
        error = error.__context__


WAYS_TO_FAIL: dict[str, Scenario] = {
    "refused": FAST.with_switches("bad_key_401"),
    "refused by close": FAST.with_switches("bad_key_1008"),
    "busy": Scenario(http_refusals=9, http_retry_after_s=None),
    "full": Scenario(server_full_connections=9),
    "slow": Scenario(connect_delay_s=60),
    "unconfigured": FAST,
    "nobody there": FAST,
    "bad proxy": FAST,
    "fine": FAST,
}


def options_of_way(way: str, rude_url: str) -> dict[str, Any]:
    """Return the options of a model that fails in a way."""
    match way:
        case "unconfigured":
            return {"base_url": rude_url, "voice": SERVER_DEFAULT_VOICE}
        case "nobody there":
            return {"base_url": "ws://127.0.0.1:9/"}
        case _:
            return {}


@pytest.mark.parametrize("auth", ["query", "header"])
@pytest.mark.parametrize("way", WAYS_TO_FAIL)
async def test_the_key_is_nowhere(
    way: str, auth: str, everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No log record at any level, no exception, cause, context or repr ever shows the key."""
    options: dict[str, Any] = {"auth": auth, "api_key": SECRET}
    options["conn_options"] = APIConnectOptions(max_retry=1, timeout=0.3 if way == "slow" else 5.0)
    if way == "bad proxy":
        monkeypatch.setenv("http_proxy", "nonsense://127.0.0.1:9")
    errors: list[BaseException | None] = []
    shown: list[str] = []
    asyncio.get_running_loop().set_debug(True)
    async with (
        refuses_to_configure() as url,
        line(WAYS_TO_FAIL[way], **options, **options_of_way(way, url)) as opened,
    ):
        reply = opened.session.generate_reply()
        if way == "fine":
            await hear(await reply)
            opened.server.drop()
            await opened.ready(2)
        else:
            await given_up(opened)
            await asyncio.wait([reply])
            errors.append(reply.exception())
        for failure in opened.of("error"):
            assert isinstance(failure.error, APIError)
            errors.append(failure.error)
            shown += [repr(failure), failure.model_dump_json()]
        shown += [repr(each) for each in opened.of("metrics_collected")]
        shown += [repr(opened.session), repr(opened.model)]

    shown += [text for error in errors for text in shown_by(error)]
    assert everything.seen
    for text in [*shown, *everything.seen]:
        assert SECRET not in text
        assert quote_plus(SECRET) not in text


@pytest.mark.parametrize("auth", ["query", "header"])
@pytest.mark.parametrize("way", ["refused", "busy", "nobody there", "no url"])
async def test_what_a_failed_connection_raises_leads_to_no_key(way: str, auth: Any) -> None:
    """The plugin's own exceptions have no cause and no context in which the key could be."""
    async with Emulator(WAYS_TO_FAIL.get(way)) as server:
        urls = {"nobody there": "ws://127.0.0.1:9/", "no url": "nonsense://127.0.0.1/"}
        options = options_for(urls.get(way, server.url), api_key=SECRET, auth=auth)
        with pytest.raises((ConnectionFailed, ConfigurationError)) as caught:
            await connect(options)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    for text in [repr(options), *shown_by(caught.value)]:
        assert SECRET not in text
        assert quote_plus(SECRET) not in text


async def test_the_key_is_not_in_what_the_framework_shows(everything: Everything) -> None:
    """A refused key in a real call: neither its events nor the framework's log show the key."""
    scenario = FAST.with_switches("bad_key_401")
    async with call(scenario, Silent(), api_key=SECRET, complaints_are_fine=True) as desk:
        await desk.until(lambda: desk.of("close"))
        shown = [repr(desk.events)]
        shown += [text for event in desk.of("error") for text in shown_by(event.error.error)]
        shown += [text for event in desk.of("close") for text in shown_by(event.error.error)]
    for text in [*shown, *everything.seen]:
        assert SECRET not in text
        assert quote_plus(SECRET) not in text


FORMS: dict[str, str] = {
    "as it is": SECRET,
    "in a URL": quote_plus(SECRET),
    "in a URL, in small letters": quote_plus(SECRET).replace("%2B", "%2b").replace("%3D", "%3d"),
    "in a URL in a URL": quote_plus(quote_plus(SECRET)),
    "each character in a URL": "".join(f"%{ord(each):02X}" for each in SECRET),
    "in JSON": SECRET.replace("/", r"\/"),
    "in JSON, in escapes": "".join(rf"\u{ord(each):04x}" for each in SECRET),
    "in JSON in JSON": SECRET.replace("/", r"\\\/").replace("+", r"\\u002B"),
    "in all of them": SECRET.replace("/", r"\/").replace("+", "%2b").replace("s", r"\u0073"),
}


def decoded(text: str) -> str:
    """Return text as whoever looks for a key would read it."""
    text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
    text = re.sub(r"%(?:25)*([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), text)
    return re.sub(r"\\+/", "/", text)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["error frame", "no frame", "close reason"])
async def test_a_key_that_the_server_repeats_is_shown_to_nobody(
    where: str, form: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """However it is written: logs, errors, events, exceptions and the wire log don't have it."""

    async def refuse(client: ServerConnection) -> None:
        if where == "close reason":
            await client.close(4001, f"invalid key {FORMS[form]}")
        else:
            await client.send('{"type":"session.created","session_id":"s"}')
            await client.recv()
            begin = '{"type":"error","error":{"code":"invalid_api_key","message":"Invalid API key: '
            await client.send(begin + FORMS[form] + ('"' if where == "no frame" else '"}}'))
            if where == "no frame":
                await client.close(4001, "invalid key")
        await client.wait_closed()

    assert SECRET in decoded(FORMS[form])
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    log = tmp_path / "wire.jsonl"
    async with serve(refuse, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}/"
        model = hydra.RealtimeModel(api_key=SECRET, base_url=url, conn_options=ONCE, wire_log=log)
        session = model.session()
        session.on("error", lambda error: shown.append(repr(error)))
        session.on("hydra_server_event", lambda event: shown.append(repr(event)))
        with pytest.raises(Exception, match="nvalid") as caught:
            await session.generate_reply()
        shown.append(repr(caught.value))
        await model.aclose()
    records = [r.getMessage() for r in caplog.records if r.name == "livekit.plugins.hydra"]
    lines = log.read_text(encoding="utf-8").splitlines()
    assert any("<redacted>" in line for line in lines)
    assert all(json.loads(line) for line in lines)
    assert [each for each in [*shown, *records, *lines] if SECRET in decoded(each)] == []
