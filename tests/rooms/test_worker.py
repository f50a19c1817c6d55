"""Workers: programs that wait at a LiveKit server, and hold a call for each room."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import pytest

from livekit_plugins_hydra.testing import Emulator, Say, Scenario

from .conftest import Rooms, complaints, new_room, working
from .guests import Guest, joined
from .livekit_server import LiveKit
from .programs import TOP, Program
from .sound import recording

N_ROOMS = 5
"""Calls after one another in one process."""

N_CALLS = 12
"""Calls at most until two workers have one each: one in 2,000 runs needs more."""

N_TRIES = 8
TRY_S = 15.0
"""How long a caller waits for an agent before the next try."""

LATE_S = 0.3
"""A gap in the sound of this length would be noticed."""


@asynccontextmanager
async def in_a_room_with_an_agent(livekit: LiveKit) -> AsyncIterator[Guest]:
    """Be in a new room that an agent has joined by itself.

    A worker begun with `start` takes no calls while its machine is busy; then it is tried again.
    """
    for _ in range(N_TRIES):
        room = new_room()
        async with joined(livekit.url, livekit.token(room, "user")) as guest:
            try:
                await guest.until(lambda: guest.agent, TRY_S)
            except TimeoutError:
                continue
            yield guest
            return
    raise TimeoutError(f"no agent has come to any of {N_TRIES} rooms")


@pytest.mark.parametrize("command", ["dev", "start"])
async def test_example_holds_a_call_as_a_worker(livekit: LiveKit, command: str) -> None:
    """`agent.py` joins a new room by itself, greets, answers, and its job ends with the room; the
    worker ends when it is told to.
    """
    scenario = Scenario(replies=[Say(duration_s=1.0)])
    async with Emulator(scenario) as server:
        program = Program.python(
            *("examples/agent.py", command),
            **livekit.environment,
            HYDRA_BASE_URL=server.url,
            SMALLEST_API_KEY="any-key-will-do",
        )
        with program:
            await program.has_said("registered worker")
            async with in_a_room_with_an_agent(livekit) as guest:
                await guest.until_heard(1)
                await guest.say(recording("user-question", 48_000))
                await guest.until_heard(2)
            await program.has_said("process exiting")
            code = await asyncio.to_thread(program.stop)

    assert code == 0
    assert [response.trigger for response in server.responses] == ["greeting", "user_turn"]
    assert server.connection.close_code == 1000
    assert complaints(program) == []


async def test_downloading_files_passes_the_plugin() -> None:
    """The step that images run when they are built asks the plugin, too, which needs no files."""
    with Program.python("-m", "livekit.agents", "download-files") as program:
        await program.has_said("finished downloading files for livekit.plugins.hydra")
        code = await asyncio.to_thread(program.wait)

    assert code == 0


async def test_process_for_each_call(rooms: Rooms, worker: Program) -> None:
    """By default each call has a process of its own, whose main thread has imported the plugin."""
    async with Emulator() as server, rooms.call(server) as guest:
        started = await guest.until_told("started")

    assert started["pid"] not in (worker.pid, os.getpid())
    assert started["thread"] == "MainThread"


@pytest.fixture
def threads(livekit: LiveKit) -> Iterator[Program]:
    """A worker whose calls are threads of one process."""
    with working(livekit, HYDRA_ROOMS_THREADS="1", HYDRA_ROOMS_AGENT="threads") as program:
        yield program


async def test_many_rooms_after_one_another_in_one_process(rooms: Rooms, threads: Program) -> None:
    """Where calls are threads, one process holds call after call, and keeps no connection."""
    pids = set()
    async with Emulator(Scenario(default_reply=Say(duration_s=0.5))) as server:
        for _ in range(N_ROOMS):
            async with rooms.call(server, agent="threads") as guest:
                started = await guest.until_told("started")
                assert started["thread"] != "MainThread"
                pids.add(started["pid"])
                await guest.say(recording("user-goodbye", 48_000))
                await guest.until_heard(1)
        await server.wait_for(lambda books: not books.open_connections, timeout=30.0)

    assert len(pids) == 1
    assert [record.close_code for record in server.connections] == [1000] * N_ROOMS
    assert complaints(threads) == []


async def test_worker_that_dies_takes_no_other_workers_calls_along(
    rooms: Rooms, livekit: LiveKit
) -> None:
    """Two workers of one name share the calls; when one is killed, the other's go on, and new
    calls are served.
    """
    forecast = Say(wav=TOP / "examples" / "speech" / "agent-forecast.wav")
    async with Emulator(Scenario(default_reply=forecast)) as server:
        with ExitStack() as programs:
            workers = {
                name: programs.enter_context(
                    working(
                        livekit,
                        HYDRA_ROOMS_THREADS="1",
                        HYDRA_ROOMS_AGENT="pair",
                        HYDRA_ROOMS_WORKER=name,
                    )
                )
                for name in ("first", "second")
            }
            async with AsyncExitStack() as calls:
                guests: dict[str, Guest] = {}
                for _ in range(N_CALLS):
                    guest = await calls.enter_async_context(rooms.call(server, agent="pair"))
                    guests[(await guest.until_told("started"))["worker"]] = guest
                    if len(guests) == len(workers):
                        break
                assert set(guests) == set(workers), "both have a call"

                survivor = guests["second"]
                await survivor.say(recording("user-question", 48_000))
                await survivor.until_agent_sounds()
                workers["first"].kill()
                await guests["first"].until(lambda: guests["first"].left, timeout=60.0)
                await survivor.until_state("listening")
                assert survivor.agent_ear.longest_gap_s < LATE_S
                assert survivor.told("close") == []

                newcomer = await calls.enter_async_context(rooms.call(server, agent="pair"))
                assert (await newcomer.until_told("started"))["worker"] == "second"
                await newcomer.say(recording("user-question", 48_000))
                await newcomer.until_agent_sounds()


def test_image_is_made_of_what_is_tested_here() -> None:
    """The Dockerfile copies an example that is there, and runs the two commands of this module.

    No Docker engine runs on the machines of this project, so no image was built.
    """
    lines = (TOP / "examples" / "deploy" / "Dockerfile").read_text(encoding="utf-8").splitlines()

    assert (TOP / "examples" / "agent.py").exists()
    assert "COPY agent.py ./" in lines
    assert "RUN python -m livekit.agents download-files" in lines
    assert 'CMD ["python", "agent.py", "start"]' in lines
