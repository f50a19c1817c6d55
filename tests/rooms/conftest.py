"""What every room test stands on: a network of its own, a LiveKit server, a worker.

Outside of such a network none of these tests is collected, so a plain `pytest` doesn't see them:
`sh tests/run.sh rooms` makes it (`namespace.py`) and runs them in it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from livekit import api

from livekit_plugins_hydra.emulator import Emulator

from . import livekit_server
from .guests import Guest, joined
from .livekit_server import LiveKit
from .namespace import ADDRESS_VARIABLE
from .programs import Program

ADDRESS = os.environ.get(ADDRESS_VARIABLE)

collect_ignore_glob = [] if ADDRESS else ["test_*.py"]


@pytest.fixture(scope="session")
def livekit() -> Iterator[LiveKit]:
    """A LiveKit server for all tests."""
    assert ADDRESS is not None, "otherwise nothing is collected"
    if livekit_server.find_program() is None:
        pytest.skip(os.environ.get("HYDRA_NO_LIVEKIT", "there is no livekit-server"))
    with livekit_server.running(ADDRESS) as server:
        yield server


@pytest.fixture(scope="session")
def worker(livekit: LiveKit) -> Iterator[Program]:
    """The tests' worker, registered with the server."""
    program = Program.python(
        "-m", "tests.rooms.worker", "dev", "--no-reload", **livekit.environment
    )
    with program:
        program.wait_for("registered worker")
        yield program


@dataclass(frozen=True)
class Rooms:
    """Makes rooms with the tests' agent in them."""

    livekit: LiveKit

    async def dispatch(self, room: str, agent: str = "tests", **wishes: Any) -> None:
        """Send the agent to a room."""
        client = self.livekit.client()
        try:
            await client.agent_dispatch.create_dispatch(
                api.CreateAgentDispatchRequest(
                    agent_name=agent, room=room, metadata=json.dumps(wishes)
                )
            )
        finally:
            await client.aclose()

    @asynccontextmanager
    async def call(
        self,
        server: Emulator,
        *,
        rate_hz: int = 48_000,
        has_microphone: bool = True,
        **wishes: Any,
    ) -> AsyncIterator[Guest]:
        """Be in a new room with the agent, when its session has started."""
        room = f"room-{uuid.uuid4().hex[:8]}"
        token = self.livekit.token(room, "user")
        await self.dispatch(room, base_url=server.url, **wishes)
        async with joined(
            self.livekit.url, token, rate_hz=rate_hz, has_microphone=has_microphone
        ) as guest:
            await guest.until_told("started")
            yield guest


Calling = Callable[..., AbstractAsyncContextManager[Guest]]


@pytest.fixture
def rooms(livekit: LiveKit, worker: Program) -> Iterator[Rooms]:
    """Rooms; an error that the worker has logged meanwhile fails the test."""
    n_lines = len(worker.lines)
    yield Rooms(livekit)
    assert worker.find(r"\bERROR\b|\bCRITICAL\b|Traceback", since=n_lines) == []
