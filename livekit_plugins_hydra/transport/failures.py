"""Why no connection could be made, without the key.

The key travels in the URL, and exceptions, their causes and websockets' own debug log would show
it. So what is raised has no header, no query and no foreign exception.
"""

from __future__ import annotations

import os
import ssl
from urllib.parse import urlsplit

import websockets

from livekit_plugins_hydra.options import Options
from livekit_plugins_hydra.protocol.errors import (
    RETRYABLE_STATUSES,
    AuthenticationFailed,
    ConfigurationError,
    CouldNotConnect,
    HandshakeRefused,
    HydraError,
)


def address_of(url: str) -> str:
    """Return ``host:port/path`` of a server's URL."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'wss' else 80)}{parts.path}"


def failure_of(error: Exception, options: Options, proxy: str | None) -> HydraError:
    """Return why a connection could not be opened.

    Args:
        error: what asyncio or websockets has raised.
        options: where to.
        proxy: the proxy's URL; None where there is none.
    """
    address = address_of(options.base_url)
    through = "" if proxy is None else f", through the proxy {_without_password(proxy)}"
    match error:
        case websockets.InvalidStatus():
            status = error.response.status_code
            has_path = urlsplit(options.base_url).path not in ("", "/")
            if status in (401, 403):
                return AuthenticationFailed(status, has_path=has_path)
            retry_after = next(iter(error.response.headers.get_all("Retry-After")), "")
            retry_after_s = float(retry_after) if retry_after.isdecimal() else None
            return HandshakeRefused(status, retry_after_s=retry_after_s, has_path=has_path)
        case websockets.InvalidProxyStatus():
            status = error.response.status_code
            is_passing = status >= 500 or status in RETRYABLE_STATUSES
            reason = f"the proxy answered HTTP {status}"
            return CouldNotConnect(address, reason, retryable=is_passing)
        case websockets.InvalidProxy() | ImportError() | ValueError() if proxy is not None:
            socks = "; for socks5://, pip install python-socks" if proxy.startswith("socks") else ""
            return ConfigurationError(
                f"the proxy {_without_password(proxy)} can't be used: HTTPS_PROXY, or the worker's"
                f" http_proxy, must look like http://host:port{socks}"
            )
        case websockets.InvalidURI() | UnicodeError():
            return ConfigurationError(f"base_url (or HYDRA_BASE_URL) can't be used: {address}")
        case _:
            return CouldNotConnect(address, _reason(error, options.conn_options.timeout) + through)


def _reason(error: Exception, timeout_s: float) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {timeout_s:g} s"
        case ssl.SSLError():
            return error.strerror or type(error).__name__
        case OSError(errno=int(code)) if code > 0:
            return os.strerror(code)  # what asyncio says instead has no reason
        case OSError() if error.strerror:
            return error.strerror
        case ConnectionError() | websockets.InvalidMessage(__cause__=EOFError()):
            return "it hung up"
        case _:
            return f"no WebSocket server answered ({type(error).__name__})"


def _without_password(proxy: str) -> str:
    scheme, slashes, rest = proxy.partition("//") if "//" in proxy else ("", "", proxy)
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
