"""From a call's options to an open connection: only here the key is used.

Every failure is raised as a `ConnectionFailed` that holds no URL, no header and no foreign
exception: the key travels in the URL, and exceptions, their causes and websockets' own debug log
would show it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import ssl
from inspect import isawaitable
from typing import Any, Final, Literal, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import websockets
from livekit.agents import __version__ as livekit_version
from livekit.agents import get_job_context

from livekit_plugins_hydra.log import Redactor
from livekit_plugins_hydra.options import ApiKey, Options, check_key
from livekit_plugins_hydra.protocol.errors import (
    RETRYABLE_STATUSES,
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    HandshakeRefused,
    HandshakeTimeout,
)

from .connection import Connection
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
    options: Options, trace: Trace | None = None, *, is_reconnect: bool = False
) -> Connection:
    """Open a connection.

    Args:
        options: where to, and with which key.
        trace: logs its frames.
        is_reconnect: whether the call was up before, so its key was good once. If the key is
            refused then, a callable is asked once more: its token may have expired.

    Raises:
        AuthenticationFailed: the server answered 401 or 403.
        HandshakeRefused: it answered another status than 101.
        HandshakeTimeout: it did not answer in time.
        ConnectionLost: no server was reached, or the key could not be had.
    """
    try:
        return await _open(options, trace)
    except AuthenticationFailed:
        if not is_reconnect or isinstance(options.api_key, str):
            raise
    return await _open(options, trace)


async def _open(options: Options, trace: Trace | None) -> Connection:
    key = await _key(options.api_key, timeout_s=options.conn_options.timeout)
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
        socket = await _websocket(options, key)
    except BaseException as error:
        tap.failed(error)
        raise
    tap.note("connection.opened", {})
    return Connection(socket, redact=redact, tap=tap)


async def _websocket(options: Options, key: str) -> WebSocket:
    headers = dict(_HEADERS)
    if options.auth == "header":
        headers["Authorization"] = f"Bearer {key}"
    timeout_s = options.conn_options.timeout
    parts = urlsplit(options.base_url)
    is_secure = parts.scheme == "wss"
    extra: dict[str, Any] = {"ssl": trust()} if is_secure else {}
    proxy = _proxy(options.base_url)
    try:
        async with asyncio.timeout(timeout_s):
            if proxy is None:
                port = parts.port or (443 if is_secure else 80)
                extra["sock"] = await reach(parts.hostname or "", port)
            socket = await _Connect(
                _url(options, key if options.auth == "query" else None),
                additional_headers=headers,
                proxy=proxy,
                open_timeout=None,
                create_connection=cast(Any, WebSocket),
                compression=None,
                max_size=None,
                logger=_silent,
                **extra,
            )
    except Exception as error:  # a network can raise anything
        failure = _refusal(error, timeout_s)
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


async def _key(api_key: ApiKey, *, timeout_s: float) -> str:
    """Return the key; a callable mints one for each connection."""
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
    raise ConnectionLost(reason=reason)


def _proxy(url: str) -> str | Literal[True] | None:
    """Return the worker's proxy, True for the environment's, or None for a direct connection.

    A worker without a proxy of its own has the environment's, but ignores NO_PROXY.
    """
    if proxy_bypass(urlsplit(url).netloc):
        return None
    with contextlib.suppress(RuntimeError):  # in no job
        if proxy := get_job_context().proc.http_proxy:
            return proxy
    schemes = ["socks", "https", *(["wss"] if url.startswith("wss:") else ["ws", "http"])]
    return True if any(getproxies().get(scheme) for scheme in schemes) else None


@functools.cache
def trust() -> ssl.SSLContext:
    """Return whom to trust. Reading the certificates takes 20 ms, so a process does it once."""
    return ssl.create_default_context(
        cafile=os.environ.get("SSL_CERT_FILE") or None,
        capath=os.environ.get("SSL_CERT_DIR") or None,
    )


def _refusal(error: Exception, timeout_s: float) -> ConnectionFailed:
    """Return why it could not be opened, without the foreign exception's text."""
    match error:
        case websockets.InvalidStatus():
            status = error.response.status_code
            if status in (401, 403):
                return AuthenticationFailed(status)
            retry_after = next(iter(error.response.headers.get_all("Retry-After")), "")
            retry_after_s = float(retry_after) if retry_after.isdecimal() else None
            return HandshakeRefused(status, retry_after_s=retry_after_s)
        case websockets.InvalidProxyStatus():
            status = error.response.status_code
            is_passing = status >= 500 or status in RETRYABLE_STATUSES
            return ConnectionLost(reason=f"the proxy answered HTTP {status}", retryable=is_passing)
        case websockets.InvalidProxy() | ImportError():
            return ConnectionLost(
                reason="the proxy's URL can't be used; for SOCKS, install python-socks",
                retryable=False,
            )
        case TimeoutError():
            return HandshakeTimeout("answer to the WebSocket upgrade", timeout_s)
        case OSError():
            return ConnectionLost(reason=error.strerror or type(error).__name__)
        case _:
            return ConnectionLost(reason=f"{type(error).__name__} at the handshake")
