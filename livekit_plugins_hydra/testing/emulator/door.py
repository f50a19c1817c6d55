"""Who may connect: what a request says, its key, and how it is refused."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qs, urlsplit

from .records import REDACTED

if TYPE_CHECKING:
    from websockets.http11 import Request

    from .scenario import Scenario

PATH: Final = "/waves/v1/s2s"
"""Path of the service. Source: docs of 2026-08-21."""

_TOKEN_PREFIX: Final = "wat_"
"""How short-lived tokens begin. Source: the vendor's OpenAPI after 2026-08-22."""

_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True)
class Client:
    """Who wants to connect, as the request says."""

    key: str = field(repr=False)
    auth: Literal["query", "header", "none"]
    path: str
    model: str | None
    query: dict[str, str]
    """Without the key."""

    headers: dict[str, str]
    """Names in lower case; without the key."""


@dataclass(frozen=True)
class Refusal:
    """An HTTP answer other than 101."""

    status: int
    text: str
    retry_after_s: int | None = None


def read(request: Request) -> Client:
    """Return what `request` says of its sender."""
    target = urlsplit(request.path)
    query = {
        name: values[-1] for name, values in parse_qs(target.query, keep_blank_values=True).items()
    }
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    bearer = headers.get("authorization", "")
    key = query.get("api_key", "")
    auth: Literal["query", "header", "none"] = "query" if key else "none"
    if not key and bearer.lower().startswith("bearer "):
        key, auth = bearer[len("bearer ") :].strip(), "header"
    return Client(
        key=key,
        auth=auth,
        path=target.path,
        model=query.get("model") or None,
        query={name: REDACTED if name == "api_key" else value for name, value in query.items()},
        headers={
            name: REDACTED if name in _SECRET_HEADERS else value for name, value in headers.items()
        },
    )


class Door:
    """Decides who may connect; remembers when each short-lived token was first used."""

    def __init__(self, closing: asyncio.Event) -> None:
        self._closing = closing
        self._first_uses: dict[bytes, float] = {}

    async def refuse(
        self, client: Client, scenario: Scenario, *, n_attempts: int
    ) -> Refusal | None:
        """Return why `client` may not connect, or None.

        Args:
            client: who wants to connect.
            scenario: how the server behaves.
            n_attempts: how many attempts to connect came before, since it behaves so.
        """
        if scenario.connect_delay_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), scenario.connect_delay_s)
        if self._closing.is_set():
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the emulator is closing\n")
        if client.path != PATH:
            return Refusal(HTTPStatus.NOT_FOUND, "no such path\n")
        if n_attempts < scenario.http_refusals:
            return Refusal(
                scenario.http_refusal_status, "come back later\n", scenario.http_retry_after_s
            )
        if scenario.bad_key != "close_1008" and not self.accepts(client, scenario):
            return Refusal(int(scenario.bad_key.removeprefix("http_")), "bad key\n")
        return None

    def accepts(self, client: Client, scenario: Scenario) -> bool:
        """Tell whether the key is valid now."""
        left_s = self.token_left_s(client, scenario)
        if not client.key or (left_s is not None and left_s < 0):
            return False
        if scenario.keys is None:
            return True
        return scenario.keys(client.key) if callable(scenario.keys) else client.key in scenario.keys

    def token_left_s(self, client: Client, scenario: Scenario) -> float | None:
        """Return how long a short-lived token is still valid; None for lasting keys."""
        if scenario.token_lifetime_s is None or not client.key.startswith(_TOKEN_PREFIX):
            return None
        now = asyncio.get_running_loop().time()
        token = hashlib.sha256(client.key.encode()).digest()
        return scenario.token_lifetime_s - (now - self._first_uses.setdefault(token, now))
