"""From a call's options to an open connection: only here the key is used."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from inspect import isawaitable
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from urllib.request import proxy_bypass

from livekit.agents import __version__ as livekit_version
from livekit.agents import get_job_context

from livekit_plugins_hydra.options import ApiKey, Options, check_key
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
)

from .connection import Connection
from .wirelog import Trace

_HEADERS: Final = {"X-Source": "livekit", "X-LiveKit-Version": livekit_version}
"""The vendor's convention for integrations, as in its STT and TTS plugins."""


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
        ConnectionFailed: it could not be opened, or the key could not be had.
    """
    try:
        return await _open(options, trace)
    except AuthenticationFailed:
        if not is_reconnect or isinstance(options.api_key, str):
            raise
    return await _open(options, trace)


async def _open(options: Options, trace: Trace | None) -> Connection:
    key = await _key(options.api_key, timeout_s=options.conn_options.timeout)
    headers = dict(_HEADERS)
    if options.auth == "header":
        headers["Authorization"] = f"Bearer {key}"
    tap = trace.connect(secret=key, about=_about(options)) if trace is not None else None
    try:
        return await Connection.open(
            _url(options, key if options.auth == "query" else None),
            headers=headers,
            proxy=_job_proxy(options.base_url) or True,
            tls=trust() if options.base_url.startswith("wss:") else None,
            timeout_s=options.conn_options.timeout,
            secret=key,
            tap=tap,
        )
    except BaseException as error:
        if tap is not None:
            await tap.failed(error)
        raise


def _about(options: Options) -> dict[str, str | None]:
    """Return what a log may say about a new connection."""
    return {
        "server": urlsplit(options.base_url).hostname,
        "model": options.model,
        "voice": options.voice,
        "auth": options.auth,
        "livekit-agents": livekit_version,
    }


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


def _job_proxy(url: str) -> str | None:
    """Return the worker's proxy, except for hosts in NO_PROXY; None for the environment's.

    A worker without a proxy of its own has the environment's, but ignores NO_PROXY.
    """
    try:
        proxy = get_job_context().proc.http_proxy
    except RuntimeError:
        return None
    return None if proxy_bypass(urlsplit(url).netloc) else proxy


def trust() -> ssl.SSLContext:
    """Return whom to trust. Reading the certificates takes 20 ms, so a process does it once."""
    return _trust_of(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.cache
def _trust_of(cafile: str | None, capath: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile or None, capath=capath or None)
