"""The way to the server, step by step: name, address, encryption."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from livekit_plugins_hydra.protocol.errors import ConfigurationError
from livekit_plugins_hydra.report.counting import counted
from livekit_plugins_hydra.transport.connecting import trust
from livekit_plugins_hydra.transport.reaching import reach

from .findings import Finding, Status, in_ms

TIMEOUT_S: Final = 8.0
"""For each step."""

_SLOW_S: Final = 0.3
"""A step that takes longer is worth a word: every call begins with it."""

_SOON_DAYS: Final = 3


@dataclass(frozen=True)
class Address:
    """Where a base URL leads."""

    host: str
    port: int
    is_encrypted: bool

    @classmethod
    def of(cls, base_url: str) -> Address:
        """Return the address in a URL that was checked before."""
        parts = urlsplit(base_url)
        is_encrypted = parts.scheme == "wss"
        return cls(parts.hostname or "", parts.port or (443 if is_encrypted else 80), is_encrypted)

    @property
    def proxy(self) -> str:
        """The environment's proxy for it, without its password; empty for none."""
        if urllib.request.proxy_bypass(self.host):
            return ""
        proxies = urllib.request.getproxies()
        found = next(
            (proxies[name] for name in ("socks", "https", "http") if proxies.get(name)), ""
        )
        parts = urlsplit(found)
        return f"{parts.hostname}:{parts.port}" if parts.hostname else ""


async def look_at(address: Address) -> AsyncIterator[Finding]:
    """Look at each step, and yield what was found; those after one that fails are skipped."""
    if address.proxy:
        yield _proxy(address)
    name, addresses = await _name(address)
    yield name
    if addresses:
        for found in await _connect(address):
            yield found
    else:
        yield _skipped("tcp", "TCP")
        yield _skipped("tls", "TLS")


def _proxy(address: Address) -> Finding:
    return _found(
        "proxy",
        "Proxy",
        "note",
        f"calls go through {address.proxy}; the next steps try the direct way",
        "If calls fail, let the proxy pass WebSockets to this host, or set NO_PROXY.",
    )


async def _name(address: Address) -> tuple[Finding, list[str]]:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(address.host)
        return _found("dns", "DNS", "skip", f"{address.host} is an address"), [address.host]
    began_at = time.monotonic()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            infos = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError) as error:
        remedy = (
            "Check the network, and HYDRA_BASE_URL or base_url if it is set."
            if not address.proxy
            else "Behind a proxy that is no problem: the proxy looks the name up."
        )
        answer = f"{address.host} has no address: {_why(error)}"
        return _found("dns", "DNS", _worse(address), answer, remedy), []
    took_s = time.monotonic() - began_at
    addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    families = sorted({"IPv6" if ":" in each else "IPv4" for each in addresses})
    n_addresses = counted(len(addresses), "address", "addresses")
    answer = f"{in_ms(took_s)} ms, {n_addresses} ({', '.join(families)})"
    found = _found("dns", "DNS", "ok", answer, ms=in_ms(took_s), addresses=len(addresses))
    return found, addresses


async def _connect(address: Address) -> list[Finding]:
    began_at = time.monotonic()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            connected = await reach(address.host, address.port)
            _, writer = await asyncio.open_connection(sock=connected)
    except (OSError, TimeoutError) as error:
        return [
            _found(
                "tcp",
                "TCP",
                _worse(address),
                f"port {address.port} can't be reached: {_why(error)}",
                "A firewall may be in the way, or the server is down.",
            ),
            _skipped("tls", "TLS"),
        ]
    took_s = time.monotonic() - began_at
    is_slow = took_s > _SLOW_S
    tcp = _found(
        "tcp",
        "TCP",
        "warn" if is_slow else "ok",
        f"{in_ms(took_s)} ms",
        "Run the agent nearer to the server: each answer takes this way." if is_slow else "",
        ms=in_ms(took_s),
    )
    try:
        return [tcp, await _encrypt(address, writer)]
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()


async def _encrypt(address: Address, writer: asyncio.StreamWriter) -> Finding:
    if not address.is_encrypted:
        return _found("tls", "TLS", "skip", "not used: the URL begins with ws://")
    began_at = time.monotonic()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await writer.start_tls(trust(), server_hostname=address.host)
    except ConfigurationError as error:
        return _found("tls", "TLS", "fail", str(error), "Name another file there, or none.")
    except (OSError, TimeoutError, ssl.SSLError, ssl.CertificateError) as error:
        is_certificate = isinstance(error, ssl.SSLCertVerificationError)
        remedy = (
            "Update the system's certificates; behind a company's proxy, add the company's own."
            if is_certificate
            else "Something between here and the server does not speak TLS: a proxy, or the port."
        )
        return _found("tls", "TLS", _worse(address), f"no encryption: {_why(error)}", remedy)
    took_s = time.monotonic() - began_at
    channel: ssl.SSLObject = writer.get_extra_info("ssl_object")
    days = _days_left(channel)
    status: Status = "warn" if days is not None and days < _SOON_DAYS else "ok"
    until = "" if days is None else f", certificate good for {counted(days, 'day')}"
    return _found(
        "tls",
        "TLS",
        status,
        f"{in_ms(took_s)} ms, {channel.version()}{until}",
        "The server's certificate ends soon: tell Smallest AI." if status == "warn" else "",
        ms=in_ms(took_s),
        version=channel.version(),
        days=days,
    )


def _days_left(channel: ssl.SSLObject) -> int | None:
    certificate: dict[str, Any] | None = channel.getpeercert()
    if not certificate or "notAfter" not in certificate:
        return None
    ends_at = ssl.cert_time_to_seconds(certificate["notAfter"])
    now = datetime.datetime.now(datetime.UTC).timestamp()
    return int((ends_at - now) // 86400)


def _found(
    name: str, title: str, status: Status, answer: str, remedy: str = "", **facts: Any
) -> Finding:
    return Finding(
        id=name,
        group="network",
        title=title,
        status=status,
        answer=answer,
        remedy=remedy,
        facts=facts,
    )


def _worse(address: Address) -> Status:
    """Return what a step that fails is: behind a proxy, calls don't take this way."""
    return "warn" if address.proxy else "fail"


def _skipped(name: str, title: str) -> Finding:
    return _found(name, title, "skip", "not tried")


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {TIMEOUT_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    reason = getattr(error, "reason", None)
    return str(getattr(error, "strerror", None) or reason or type(error).__name__)
