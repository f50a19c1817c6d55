"""What every room test stands on: a network of its own, a LiveKit server, a worker.

Outside of such a network none of these tests is collected, so a plain `pytest` doesn't see them:
`sh tests/run.sh rooms` makes it (`namespace.py`) and runs them in it.
"""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from livekit import api

from livekit_plugins_hydra.testing import Emulator

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


@contextmanager
def working(livekit: LiveKit, **environment: str) -> Iterator[Program]:
    """Run the tests' worker, registered with the server; see `worker.py` for its variables."""
    program = Program.python(
        *("-m", "tests.rooms.worker", "dev", "--no-reload"), **livekit.environment, **environment
    )
    with program:
        program.wait_for("registered worker")
        yield program


@pytest.fixture(scope="session")
def worker(livekit: LiveKit) -> Iterator[Program]:
    """The tests' worker, for all tests; a process for each call."""
    with working(livekit) as program:
        yield program


def pytest_configure() -> None:
    """Let SIGTERM end a run as Ctrl-C does: with all that the tests have started."""
    if ADDRESS:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let livekit.rtc drop handles that it has dropped before: it asserts in a destructor."""
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue
        item.add_marker(
            pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
        )


def complaints(program: Program, *, since: int = 0) -> list[str]:
    """Return what a worker has logged of things gone wrong in Python.

    What LiveKit's WebRTC engine logs as an error, for example a data channel that closes while a
    job ends, is left out.
    """
    lines = program.find(r"\bERROR\b|\bCRITICAL\b|Traceback", since=since)
    return [line for line in lines if "livekit::" not in line]


def new_room() -> str:
    """Return a name that no room has."""
    return f"room-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Rooms:
    """Makes rooms with the tests' agent in them."""

    livekit: LiveKit

    async def dispatch(self, room: str, agent: str, **wishes: Any) -> None:
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
        room: str | None = None,
        rate_hz: int = 48_000,
        has_microphone: bool = True,
        agent: str = "tests",
        **wishes: Any,
    ) -> AsyncIterator[Guest]:
        """Be in a room with the agent, when its session has started."""
        room = room or new_room()
        token = self.livekit.token(room, "user")
        await self.dispatch(room, agent, base_url=server.url, **wishes)
        async with joined(
            self.livekit.url, token, rate_hz=rate_hz, has_microphone=has_microphone
        ) as guest:
            await guest.until_told("started")
            yield guest


@pytest.fixture
def rooms(livekit: LiveKit, worker: Program) -> Iterator[Rooms]:
    """Rooms; an error that the worker has logged meanwhile fails the test."""
    n_lines = len(worker.lines)
    yield Rooms(livekit)
    if complaints(worker, since=n_lines):
        pytest.fail("the worker has logged:\n" + "\n".join(worker.lines[n_lines:]))
