"""From a call's options to an open connection: only here the key is used."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import ssl
from collections.abc import Collection
from inspect import isawaitable
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from urllib.request import proxy_bypass

import websockets
from livekit.agents import __version__ as livekit_version
from livekit.agents import get_job_context
from websockets.asyncio.client import get_proxy  # type: ignore[attr-defined] # in all versions
from websockets.uri import WebSocketURI, parse_uri

from livekit_plugins_hydra.log import Redactor
from livekit_plugins_hydra.options import Options, check_key
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConfigurationError,
    CouldNotConnect,
)

from .connection import Connection
from .failures import address_of, failure_of
from .reaching import reach
from .websocket import WebSocket
from .wirelog import Trace

_HEADERS: Final = {"X-Source": "livekit", "X-LiveKit-Version": livekit_version}
"""The vendor's convention for integrations, as in its STT and TTS plugins."""

_silent: Final = logging.Logger("websockets")  # noqa: LOG001 - in no tree, so it can't be turned on
_silent.disabled = True
"""For websockets, which would log the request line, with the key."""


class _Connect(websockets.connect):
    """Refuses redirects: websockets 15 takes the Authorization header along to any address."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def connect(
    options: Options,
    trace: Trace | None = None,
    *,
    is_reconnect: bool = False,
    goodbyes: Collection[asyncio.Task[None]] = (),
) -> Connection:
    """Open a connection.

    Args:
        options: where to, and with which key.
        trace: logs its frames.
        is_reconnect: whether the call was up before, so its key was good once. If the key is
            refused then, a callable is asked once more: its token may have expired.
        goodbyes: of other connections; a server that counts sessions should have them first.

    Raises:
        AuthenticationFailed: the server answered 401 or 403.
        HandshakeRefused: it answered another status than 101.
        CouldNotConnect: no server was reached, or answered in time, or the key could not be had.
        ConfigurationError: the certificates, the proxy or the URL can't be used.
    """
    try:
        return await _open(options, trace, goodbyes)
    except AuthenticationFailed:
        if not is_reconnect or isinstance(options.api_key, str):
            raise
    return await _open(options, trace, goodbyes)


async def _open(
    options: Options, trace: Trace | None, goodbyes: Collection[asyncio.Task[None]]
) -> Connection:
    key = await _key(options)
    about = {
        "server": urlsplit(options.base_url).hostname,
        "model": options.model,
        "voice": options.voice,
        "auth": options.auth,
        "livekit-agents": livekit_version,
    }
    redact = Redactor(key)
    tap = (trace or Trace(None)).connect(redact=redact, about=about)
    try:
        socket = await _websocket(options, key, goodbyes)
    except BaseException as error:
        tap.failed(error)
        raise
    tap.note("connection.opened", {})
    return Connection(socket, redact=redact, tap=tap)


async def _websocket(
    options: Options, key: str, goodbyes: Collection[asyncio.Task[None]]
) -> WebSocket:
    headers = dict(_HEADERS)
    if options.auth == "header":
        headers["Authorization"] = f"Bearer {key}"
    proxy: str | None = None
    is_secure = urlsplit(options.base_url).scheme == "wss"
    extra: dict[str, Any] = {"ssl": trust()} if is_secure else {}
    try:
        async with asyncio.timeout(options.conn_options.timeout):
            url = parse_uri(options.base_url)
            proxy = _proxy(url)
            if proxy is None:
                extra["sock"] = await reach(url.host, url.port)
            socket = await _Connect(
                _url(options, key if options.auth == "query" else None),
                additional_headers=headers,
                proxy=proxy,
                open_timeout=None,
                create_connection=cast(Any, functools.partial(WebSocket, goodbyes=goodbyes)),
                compression=None,
                max_size=None,
                logger=_silent,
                **extra,
            )
    except Exception as error:  # a network can raise anything
        failure = failure_of(error, options, proxy)
    else:
        return cast(WebSocket, socket)
    # Outside of the handler, so that its context is not the exception with the URL.
    raise failure


def _url(options: Options, api_key: str | None) -> str:
    parts = urlsplit(options.base_url)
    query = [
        (k, v)
        for k, v in parse_qsl(parts.query, keep_blank_values=True)
        if k not in ("model", "api_key")
    ]
    query.append(("model", options.model))
    if api_key is not None:
        query.append(("api_key", api_key))
    return urlunsplit(parts._replace(query=urlencode(query)))


async def _key(options: Options) -> str:
    """Return the key; a callable mints one for each connection."""
    api_key, timeout_s = options.api_key, options.conn_options.timeout
    if isinstance(api_key, str):
        return api_key
    try:
        async with asyncio.timeout(timeout_s):
            minted = api_key()
            return check_key(await minted if isawaitable(minted) else minted)
    except ConfigurationError:
        reason = "api_key() returned what can't be a key"
    except TimeoutError:
        reason = f"api_key() took longer than {timeout_s:g} s"
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        reason = "api_key() was cancelled"  # together with others that wait for the same token
    except Exception as error:
        reason = f"api_key() raised {type(error).__name__}"
    # Outside of the handler: the error of a token service may hold secrets.
    raise CouldNotConnect(address_of(options.base_url), reason)


def _proxy(url: WebSocketURI) -> str | None:
    """Return the worker's proxy, or else the environment's; None for hosts in NO_PROXY.

    A worker without a proxy of its own has the environment's, but ignores NO_PROXY.
    """
    if proxy_bypass(f"{url.host}:{url.port}"):
        return None
    with contextlib.suppress(RuntimeError):  # in no job
        if proxy := get_job_context().proc.http_proxy:
            return proxy
    return get_proxy(url)  # here and not in `connect`, so that an error can name it


@functools.cache
def trust() -> ssl.SSLContext:
    """Return whom to trust. Reading the certificates takes 20 ms, so a process does it once.

    Raises:
        ConfigurationError: the environment names a file that has none.
    """
    cafile = os.environ.get("SSL_CERT_FILE") or None
    capath = os.environ.get("SSL_CERT_DIR") or None
    try:
        return ssl.create_default_context(cafile=cafile, capath=capath)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or type(error).__name__
    raise ConfigurationError(f"SSL_CERT_FILE can't be used: {cafile} ({reason})")
