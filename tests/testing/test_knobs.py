"""What a test can do to the emulator's connections, and how it waits for events."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from websockets.exceptions import InvalidStatus

from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.testing import (
    Emulator,
    Say,
)
from tests.raw_client import RawClient
from tests.testing.scenarios import FAST, refused


async def test_the_connection_can_be_cut() -> None:
    """`drop` ends the transport without a close frame."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        server.drop()
        assert await client.closed() == 1006
        await server.wait_for(lambda books: not books.open_connections)

        assert server.connection.close_code == 1006


async def test_the_connection_can_be_closed() -> None:
    """`close` ends it with the code and reason that a test wants."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        server.close(1012, "restart")
        assert await client.closed() == 1012

        assert client.socket.close_reason == "restart"


async def test_anything_can_be_sent() -> None:
    """`send` takes events, mappings and raw text, and holds none of it against the client."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        server.send(events.Error(error=events.ErrorBody(code="internal_error")))
        server.send({"type": "new.event"})
        server.send('{"type": "raw.event"}', connection=server.connection)
        await client.wait("raw.event")

        assert client.types()[2:] == ["error", "new.event", "raw.event"]
        assert server.connection.server_events[-1].event == '{"type": "raw.event"}'


async def test_a_frozen_server_says_nothing_until_it_thaws() -> None:
    """`freeze` holds everything back, pongs too; `thaw` lets it go."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        server.freeze()
        server.send({"type": "held.back"})
        pong = asyncio.ensure_future(await client.socket.ping())
        with pytest.raises(TimeoutError):
            await client.wait("held.back", timeout=0.1)
        assert not pong.done()
        server.thaw()
        await client.wait("held.back")
        await asyncio.wait_for(pong, 5)


async def test_an_offline_server_cuts_connections() -> None:
    """While `offline`, an attempt to connect ends without an HTTP answer, and is counted."""
    async with Emulator(FAST) as server:
        server.offline = True
        with pytest.raises(Exception, match=r"connection|response"):
            async with RawClient(server):
                pass
        server.offline = False
        async with RawClient(server) as client:
            await client.wait("session.created")

        assert [dial.status for dial in server.dials] == [0, 101]


async def test_knobs_take_one_connection_or_all() -> None:
    """A record names its connection; without one a fault meets all that are open."""
    async with Emulator(FAST) as server, RawClient(server) as first:
        async with RawClient(server) as second:
            await first.configure()
            await second.configure()
            server.drop(server.connections[0])
            assert await first.closed() == 1006
            await second.settle()
            server.drop()
            server.drop()
            server.close()
            server.send({"type": "too.late"})
            assert await second.closed() == 1006

        await server.wait_for(lambda books: not books.open_connections)
        with pytest.raises(LookupError):
            server.drop(server.connections[1])


async def test_failing_predicates_are_raised_at_the_end() -> None:
    """A predicate that fails refuses the client with 500; several faults come as a group."""

    def fail(key: str) -> bool:
        raise ValueError("a bug in the test")

    async def connect() -> None:
        async with Emulator(dataclasses.replace(FAST, keys=fail)) as server:
            for _ in range(2):
                with pytest.raises(InvalidStatus) as refusal:
                    async with RawClient(server):
                        pass
                assert refused(refusal) == 500

    with pytest.raises(ExceptionGroup) as group:
        await connect()
    assert [type(fault) for fault in group.value.exceptions] == [ValueError, ValueError]


async def test_a_slow_reader_pauses_the_server() -> None:
    """Audio waits for a client that does not read, and all of it arrives when it does."""
    scenario = dataclasses.replace(
        FAST, default_reply=Say(duration_s=120.0), audio_speed=10_000.0, output_rate_hz=48_000
    )
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        client.socket.transport.pause_reading()
        await client.send("response.create")
        await server.wait_for(lambda books: books.responses)
        with pytest.raises(TimeoutError):
            await server.wait_for(lambda books: books.responses[0].ended_at_s, timeout=0.3)
        client.socket.transport.resume_reading()
        await client.wait("response.done", timeout=60.0)  # two minutes of audio, on a busy machine

        assert client.audio(server.responses[0].id) == server.responses[0].pcm


async def test_knobs_need_a_connection() -> None:
    """Without one, they say so."""
    async with Emulator(FAST) as server:
        with pytest.raises(LookupError):
            server.drop()
        with pytest.raises(LookupError):
            _ = server.connection


async def test_waiting_returns_what_was_seen() -> None:
    """`wait_for` takes classes of both sides and predicates; what was seen before counts."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        waiting = asyncio.create_task(server.wait_for(events.ResponseDone))
        record = await server.wait_connections(1)
        await client.configure(instructions="x", generate_initial_response=True)

        assert (await waiting).response.status == "completed"
        assert (await server.wait_for(events.SessionConfigure)).session.instructions == "x"
        assert await server.wait_for(lambda books: record.session_id) == record.session_id


async def test_waiting_in_vain_shows_what_came() -> None:
    """A time-out names what was waited for, and the last events."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await client.configure()
        with pytest.raises(TimeoutError, match=r"(?s)no ResponseDone .*session\.configured"):
            await server.wait_for(events.ResponseDone, timeout=0.01)


async def test_scenarios_can_change_between_connections() -> None:
    """A connection keeps its scenario; the next one gets the new."""
    async with Emulator(dataclasses.replace(FAST, keys=())) as server:
        with pytest.raises(InvalidStatus):
            async with RawClient(server):
                pass
        server.scenario = FAST
        async with RawClient(server) as client:
            await client.wait("session.created")
