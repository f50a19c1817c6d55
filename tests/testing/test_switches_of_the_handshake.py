"""Switches of the handshake and of the connection, seen by a client of the bare wire."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from livekit_plugins_hydra.testing import FAULTS, SWITCHES, Call, Emulator
from tests.raw_client import SILENCE, TURN, RawClient
from tests.testing.scenarios import FAST, thrown


@pytest.mark.parametrize(
    ("voice", "switches", "expected"),
    [
        ("wren", (), None),
        ("wren", ("seed_voices_accepted",), "wren"),
        ("wren", ("unknown_voice_replaced",), "sterling"),
        ("marin", (), None),
        ("marin", ("unknown_voice_replaced",), "sterling"),
        ("marin", ("marin_accepted",), "marin"),
        ("sloane", ("marin_accepted",), None),
        ("sterling", (), "sterling"),
    ],
)
async def test_voices(voice: str, switches: tuple[str, ...], expected: str | None) -> None:
    """One list for all tags; the launch voices and unknown ones by switch."""
    async with Emulator(FAST.with_switches(*switches)) as server, RawClient(server) as client:
        await client.send("session.configure", session={"voice": voice}, event_id="ev_1")
        if expected is None:
            error = (await client.wait("error"))["error"]
            assert error["code"] == "invalid_request_error"
            assert error["param"] == "session.configure.session.voice"
            assert error["event_id"] == "ev_1"
            assert not client.of("session.configured")
        else:
            configured = await client.wait("session.configured")
            assert configured["session"]["voice"] == expected


async def test_a_malformed_configuration_is_refused() -> None:
    """It counts as the one that may be sent, unless the server accepts another."""
    scenario = FAST.with_switches("refused_configure_may_be_repeated")
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.send("session.configure", session={"voice": 7})
        assert (await client.wait("error"))["error"]["code"] == "invalid_frame"
        await client.configure()

        assert [each.rule for each in server.violations] == ["malformed_frame"]


async def test_configuring_again_after_a_refusal() -> None:
    """The server ignores it, accepts it, or is gone."""
    outcomes = []
    for after in ("ignores", "accepts", "closes"):
        scenario = dataclasses.replace(FAST, after_refused_configure=after)
        async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
            await client.send("session.configure", session={"voice": "nobody"})
            await client.wait("error")
            if after == "closes":
                outcomes.append(await client.closed())
                continue
            await client.send("session.configure", session={"voice": "aria"})
            await client.send("session.update", session={"tools": [{"type": "x"}]})
            await client.wait("error", 2)
            outcomes.append(len(client.of("session.configured")))

    assert outcomes == [0, 1, 1008]


async def test_a_handshake_may_hang() -> None:
    """Without `session.created`, or without `session.configured`, nothing more ever comes."""
    for name, n_frames in (("never_created", 0), ("never_configured", 1)):
        async with Emulator(FAST.with_switches(name)) as server, RawClient(server) as client:
            await client.send("session.configure", session={"voice": "aria"})
            with pytest.raises(TimeoutError):
                await client.wait("session.configured", timeout=0.05)
            assert len(client.frames) == n_frames


async def test_a_handshake_may_take_its_time() -> None:
    """Each step has its own delay; leaving the emulator waits for none of them."""
    scenario = thrown("slow_handshake")
    begun_at_s = asyncio.get_running_loop().time()
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        record = server.connection
        assert record.configured_at_s is not None
        assert record.configured_at_s - record.opened_at_s >= 0.2
        assert record.opened_at_s - begun_at_s >= scenario.connect_delay_s

    async with Emulator(dataclasses.replace(FAST, connect_delay_s=60.0)) as server:
        attempt = asyncio.create_task(RawClient(server).__aenter__())
        await server.wait_for(lambda books: books.n_dialling)
    with pytest.raises(Exception, match=r"503|closed|connection"):
        await attempt


async def test_early_audio_may_end_the_session() -> None:
    """An earlier build answered audio before `session.configured` with `session_ended`."""
    scenario = thrown("early_audio_ends_session", tolerate={"audio_before_configured"})
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.hear(SILENCE[:1280])
        assert await client.closed() == 1000

        assert client.of("error")[0]["error"]["code"] == "session_ended"


async def test_a_configuration_over_the_ceiling_silences_the_server() -> None:
    """Responses go on without audio or error, also when later tools are too much."""
    big = [{"type": "function", "name": "f", "description": "x" * 2000}]
    scenario = FAST.with_switches("low_payload_ceiling")
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        n_deltas = len(client.of("response.output_audio.delta"))
        await client.send("session.update", session={"tools": big})
        await client.hear(TURN)
        await client.wait("response.done", 2)

        assert n_deltas > 0
        assert len(client.of("response.output_audio.delta")) == n_deltas
        assert not client.of("error")
        assert [each.rule for each in server.violations] == ["over_ceiling"]


@pytest.mark.parametrize("kind", ["output", "text"])
async def test_the_ceiling_may_be_one_of_the_whole_context(kind: str) -> None:
    """Then outputs and texts add up with the configuration, and smaller tools help."""
    tools = [{"type": "function", "name": "f", "description": "x" * 2000}]
    scenario = thrown("low_context_ceiling", replies=[[Call("f"), Call("f")]])
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure(tools=tools, generate_initial_response=True)
        await client.wait("response.done")
        calls = client.of("response.function_call_arguments.done")
        for count, call in enumerate(calls, 2):
            if kind == "output":
                await client.output(call["call_id"], "x" * 1500)
            else:
                await client.text("x" * 1500)
            await client.send("response.create")
            await client.wait("response.done", count)
        await client.send("session.update", session={"tools": []})
        await client.send("response.create")
        await client.wait("response.done", 4)

        assert [bool(response.pcm) for response in server.responses] == [False, True, False, True]
        assert not client.of("error")
        assert "over_ceiling" in {each.rule for each in server.violations}


async def test_pings_may_be_left_unanswered() -> None:
    """The connection works, and only pongs never come."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await asyncio.wait_for(await client.socket.ping(), 5)
    async with Emulator(thrown("pings_unanswered")) as server, RawClient(server) as client:
        pong = asyncio.ensure_future(await client.socket.ping())
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        assert not pong.done()
        pong.cancel()


async def test_errors_may_close() -> None:
    """What the docs call survivable can end a session, and `server_full` can let it stand."""
    scenario = FAST.with_switches("every_error_closes")
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure()
        await client.output("call_unknown")
        assert await client.closed() == 1008
    scenario = FAST.with_switches("server_full_does_not_close")
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.wait("error")
        await client.configure()


async def test_a_burst_after_a_gap_floods_a_queue_only() -> None:
    """By the session's clock a gap may be made up for, by the queue's it may not."""
    for name, n_violations in (("flood_measured_by_queue", 1), ("usage_zero", 0)):
        scenario = thrown(name, max_lead_s=0.2)
        async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
            await client.configure()
            await asyncio.sleep(0.4)  # the gap itself, not a synchronisation
            await client.hear(bytes(16_000))
            await (client.closed() if n_violations else client.settle())

            assert [each.rule for each in server.violations].count("flooded") == n_violations


def test_faults_and_switches_are_disjoint() -> None:
    """No name means two things."""
    assert not set(FAULTS) & set(SWITCHES)
