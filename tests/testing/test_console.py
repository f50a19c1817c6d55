"""The emulator at a terminal."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from livekit_plugins_hydra.testing import (
    Emulator,
)
from livekit_plugins_hydra.testing.emulator.console import ConsoleObserver
from tests.raw_client import KEY, SILENCE, TURN, RawClient
from tests.testing.scenarios import FAST


async def test_the_console_shows_a_line_for_each_event() -> None:
    """Lengths instead of audio, arrows for directions, violations as they happen, never a key."""
    lines: list[str] = []
    observer = ConsoleObserver(lines.append)
    async with (
        Emulator(FAST, strict=False, observer=observer) as server,
        RawClient(server) as client,
    ):
        await client.configure(instructions="a secret persona")
        await client.hear(TURN)
        await client.wait("response.done")
        await client.send("input_audio_buffer.clear")
        await client.wait("error")
        await server.wait_for(lambda books: books.violations)

    shown = [re.sub(r"^ +\d+\.\d{3} #1 ", "", line) for line in lines]
    assert shown[:3] == ["< session.created", "> session.configure", "< session.configured"]
    assert "> audio, 0.08 s" in shown
    assert "< audio, 2.00 s" in shown
    assert "> input_audio_buffer.clear" in shown
    assert any(line.startswith("! violation: connection 1: unknown_type") for line in shown)
    assert KEY not in "".join(lines)
    assert "persona" not in "".join(lines)


async def test_the_console_shows_how_connections_end() -> None:
    """Refusals by their status, closes by code and side, and before these the last audio."""
    lines: list[str] = []
    console = ConsoleObserver(lines.append)
    scenario = dataclasses.replace(FAST, http_refusals=1)
    async with Emulator(scenario, observer=console, on_end=console.ended) as server:
        with pytest.raises(InvalidStatus):
            async with RawClient(server):
                pass
        server.offline = True
        with pytest.raises(Exception, match=r"connection|response"):
            async with RawClient(server, query="?", headers={"Authorization": f"Bearer {KEY}"}):
                pass
        server.offline = False
        for end in ("closed by the client", "lost", "closed by the server"):
            async with RawClient(server) as client:
                await client.configure()
                if end == "lost":
                    server.drop()
                    await client.closed()
                elif end == "closed by the server":
                    server.close(1012, "restart")
                    await client.closed()
            await server.wait_for(lambda books: not books.open_connections)

    shown = [re.sub(r"^ *(\d+\.\d{3} )?", "", line) for line in lines]
    assert shown[:2] == [
        "x refused with HTTP 503, hydra-v1.1, key in the query",
        "x cut off without an answer, no model, key in the header",
    ]
    ends = [line for line in shown[2:] if " x " in line]
    assert ends == [
        "#1 x closed by the client: 1000",
        "#2 x lost without a close frame (1006)",
        "#3 x closed by the server: 1012 restart",
    ]
    assert KEY not in "".join(lines)


async def test_the_console_shows_the_last_audio() -> None:
    """Audio that nothing follows has its line, too, before the connection's end."""
    lines: list[str] = []
    console = ConsoleObserver(lines.append)
    async with Emulator(FAST, observer=console, on_end=console.ended) as server:
        async with RawClient(server) as client:
            await client.configure()
            await client.hear(SILENCE)
        await server.wait_for(lambda books: not books.open_connections)

    assert [line.split(" ", 1)[1] for line in map(str.strip, lines[-2:])] == [
        "#1 > audio, 0.50 s",
        "#1 x closed by the client: 1000",
    ]


@pytest.mark.real_time
async def test_the_command_line_serves_until_interrupted() -> None:
    """`livekit-hydra emulator` says how to reach it, prints the call, and ends with 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "livekit_plugins_hydra",
        "emulator",
        "--port",
        "0",
        "--think",
        "0.01",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        await process.stdout.readline()
        line = (await process.stdout.readline()).decode()
        url = re.fullmatch(
            r"HYDRA_BASE_URL=(ws://127\.0\.0\.1:\d+/waves/v1/s2s) SMALLEST.*\n", line
        )
        assert url is not None
        async with RawClient(_At(url[1])) as client:  # type: ignore[arg-type]
            await client.configure(generate_initial_response=True)
            await client.wait("response.done")
        process.send_signal(signal.SIGINT)
        output, complaints = await process.communicate()

    assert process.returncode == 0
    assert complaints == b""
    assert "#1 > session.configure" in output.decode()
    assert "< audio, 2.00 s" in output.decode()


class _At:
    def __init__(self, url: str) -> None:
        self.url = url


async def test_a_taken_port_is_named_with_the_remedy() -> None:
    """The command line says which port it can't have and what to do, and ends with 1."""
    async with Emulator() as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "livekit_plugins_hydra",
            "emulator",
            "--port",
            str(server.port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        _, complaints = await process.communicate()

    assert process.returncode == 1
    what_happened, remedy = complaints.decode().splitlines()
    assert what_happened.startswith(f"Can't listen on 127.0.0.1:{server.port}")
    assert "--port 0" in remedy


@pytest.mark.real_time
async def test_a_scenario_that_fails_is_reported_as_such(tmp_path: Path) -> None:
    """A missing recording is reported at once and at the end, never as trouble with the port."""
    path = tmp_path / "x.py"
    path.write_text(
        "from livekit_plugins_hydra.testing import Say, Scenario\n"
        "scenario = Scenario(replies=[Say(wav='missing.wav')])\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "livekit_plugins_hydra", "emulator", "--port", "0"),
        *("--scenario", str(path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(30):
        await process.stdout.readline()
        url = (await process.stdout.readline()).decode().split("=")[1].split()[0]
        async with RawClient(_At(url)) as client:  # type: ignore[arg-type]
            await client.configure(generate_initial_response=True)
            reported = (await process.stderr.readline()).decode()
        process.send_signal(signal.SIGINT)
        _, complaints = await process.communicate()

    fault = "FileNotFoundError: [Errno 2] No such file or directory: 'missing.wav'"
    assert reported == f"The scenario fails: {fault}\n"
    assert complaints.decode() == f"The scenario failed once, first with {fault}\n"
    assert process.returncode == 1
