"""The key is shown to nobody: with every failure, with both kinds of auth, in all texts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from livekit.agents import APIConnectOptions

from livekit_plugins_hydra.testing import FAULTS, Emulator, Scenario
from tests.direct import Line, line
from tests.promises import texts_of
from tests.proxy import FaultProxy
from tests.storm import all_logs

SECRET: Final = "sk-nobody-may-read-this-0123456789"

Failure = Callable[[Emulator, FaultProxy], None]

FAILURES: Final[dict[str, Failure]] = {
    "a reset": lambda server, proxy: proxy.reset(),
    "a half-close": lambda server, proxy: proxy.half_close(),
    "a frame cut in two": lambda server, proxy: proxy.cut_after(10),
    "a close in order": lambda server, proxy: server.close(1011, "oops"),
    "a close for policy": lambda server, proxy: server.close(1008, "bad key"),
    "a hang": lambda server, proxy: server.freeze(),
    "a link that dies": lambda server, proxy: proxy.stall(),
    "garbage": lambda server, proxy: server.send('{"type":"error","error":7}'),
    "a binary frame": lambda server, proxy: server.send(b"\0"),
}


async def mint() -> str:
    """Mint a token."""
    return SECRET


async def fail_to_mint() -> str:
    """Fail with words that hold what they should not."""
    raise RuntimeError(f"the token service does not like {SECRET}")


@asynccontextmanager
async def watched(
    scenario: Scenario, tmp_path: Path, **options: Any
) -> AsyncIterator[tuple[Line, Emulator, FaultProxy]]:
    """Hold a call through a proxy; afterwards, look for the key in all texts that it left."""
    log = tmp_path / "wire.jsonl"
    with all_logs() as logs:
        async with (
            Emulator(scenario, strict=False) as server,
            FaultProxy(server.port) as proxy,
            line(
                base_url=proxy.url,
                wire_log=log,
                conn_options=APIConnectOptions(max_retry=1, timeout=2.0),
                complaints_are_fine=True,
                **({"api_key": SECRET} | options),
            ) as opened,
        ):
            await opened.session._update_session(instructions="Be kind.")
            yield opened, server, proxy
            proxy.resume()
            shown = [repr(opened.session), repr(opened.model)]
            for name, event in opened.events:
                shown.append(f"{name} {event!r}")
                if name == "error":
                    shown += texts_of(event.error)
            future = opened.session.generate_reply()
            await opened.model.aclose()
            shown += texts_of(future.exception() or ValueError())
    shown += logs.lines
    if log.exists():
        shown.append(log.read_text())
    assert [each.replace(SECRET, "<key>") for each in shown if SECRET in each] == []


@pytest.mark.parametrize("auth", ["query", "header"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_call_that_breaks_shows_no_key(
    failure: str, auth: Literal["query", "header"], tmp_path: Path
) -> None:
    """Whatever ends a connection that was up, and until it is up again."""
    async with watched(Scenario(), tmp_path, auth=auth) as (_, server, proxy):
        await server.wait_for(lambda books: books.connections and books.connection.configured_at_s)
        FAILURES[failure](server, proxy)
        await asyncio.sleep(20.0)


@pytest.mark.parametrize("auth", ["query", "header"])
@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_a_call_that_is_refused_shows_no_key(
    fault: str, auth: Literal["query", "header"], tmp_path: Path
) -> None:
    """Each way in which a server may refuse a call, or something in it."""
    scenario = Scenario().with_switches(fault)
    async with watched(scenario, tmp_path, auth=auth):
        await asyncio.sleep(30.0)


@pytest.mark.parametrize("auth", ["query", "header"])
@pytest.mark.parametrize("refuses", ["reset", "silence"])
async def test_a_call_that_reaches_nobody_shows_no_key(
    refuses: Literal["reset", "silence"], auth: Literal["query", "header"], tmp_path: Path
) -> None:
    """Handshakes that are reset, or that nobody answers."""
    async with watched(Scenario(), tmp_path, auth=auth) as (_, _, proxy):
        proxy.refuses = refuses
        await asyncio.sleep(20.0)


@pytest.mark.parametrize("api_key", [mint, fail_to_mint])
@pytest.mark.parametrize("auth", ["query", "header"])
async def test_a_token_is_shown_as_little(
    auth: Literal["query", "header"], api_key: Any, tmp_path: Path
) -> None:
    """The same for keys that are minted for each connection, and for a mint that fails."""
    async with watched(Scenario(), tmp_path, auth=auth, api_key=api_key) as (_, _, proxy):
        await asyncio.sleep(2.0)
        proxy.reset()
        await asyncio.sleep(20.0)
