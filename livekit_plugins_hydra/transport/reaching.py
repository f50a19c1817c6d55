"""Reaches a host of which some addresses may be dead: RFC 8305, "Happy Eyeballs"."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

STAGGER_S: Final = 0.25
"""After this the next address is tried, or as soon as one has failed. Source: RFC 8305."""

Address = tuple[Any, ...]
"""As `socket.getaddrinfo` has it."""


async def reach(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to the first address of a host that answers.

    asyncio can do so, too, but leaves a socket open if it is cancelled.

    Raises:
        OSError: why the first address could not be reached; no other could.
    """
    waiting = deque(_in_turns(await _addresses(host, port)))
    attempts: set[asyncio.Task[socket.socket]] = set()
    failures: list[BaseException] = []
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_attempt(waiting.popleft())))
            timeout_s = STAGGER_S if waiting else None
            done, _ = await asyncio.wait(
                attempts, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                attempts.remove(attempt)
                if (failure := attempt.exception()) is None:
                    return attempt.result()
                failures.append(failure)
        raise failures[0]
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close)


async def _addresses(host: str, port: int) -> Sequence[Address]:
    try:  # an address needs no thread to be looked up
        numeric = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _in_turns(addresses: Sequence[Address]) -> list[Address]:
    """Return the addresses of IPv6 and of IPv4 in turns."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    other = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for pair in zip_longest(first, other) for each in pair if each is not None]


async def _attempt(address: Address) -> socket.socket:
    family, kind, protocol, _, where = address
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, where)
    except BaseException:
        connecting.close()
        raise
    return connecting


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """Close the socket of an attempt that nobody waits for any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
