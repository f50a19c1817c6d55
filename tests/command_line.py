"""`livekit-hydra` as a process: what it prints, where, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner
from websockets.asyncio.server import ServerConnection, serve

from livekit_plugins_hydra.commands.cli import app

from .calls import KEY
from .processes import TOP

SPEECH = TOP / "examples" / "speech"

ENVIRONMENT = {name: value for name, value in os.environ.items() if "HYDRA" not in name} | {
    "COLUMNS": "120",
    "NO_COLOR": "1",
}


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """All that was printed, line breaks as spaces: a terminal may break anywhere."""
        return " ".join(f"{self.out} {self.err}".split())


async def hydra(
    *arguments: str | Path, cwd: Path, key: str | None = KEY, base_url: str | None = None
) -> Ran:
    """Run a command to its end, with a key that no output may show."""
    environment = {name: each for name, each in ENVIRONMENT.items() if name != "SMALLEST_API_KEY"}
    if key is not None:
        environment["SMALLEST_API_KEY"] = key
    if base_url is not None:
        environment["HYDRA_BASE_URL"] = base_url
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "livekit_plugins_hydra", *map(str, arguments)),
        cwd=cwd,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None, "it has ended"
    ran = Ran(process.returncode, out.decode(), err.decode())
    assert KEY not in ran.out + ran.err
    assert "Traceback" not in ran.err, ran.err
    return ran


def here(folder: Path, *arguments: str | Path, **environment: str | None) -> tuple[int, str]:
    """Run a command in this process: quicker, where only its answer counts.

    Returns:
        Its exit code, and all that it printed on one line.
    """
    env = {"SMALLEST_API_KEY": KEY, "HYDRA_BASE_URL": None, "COLUMNS": "200"} | environment
    loggers = [logging.getLogger(name) for name in ("livekit", "livekit.agents")]
    levels = [logger.level for logger in loggers]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = CliRunner().invoke(app, [str(each) for each in arguments], env=env)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    assert KEY not in ran.output
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran.exit_code, " ".join(ran.output.split())


@asynccontextmanager
async def without_voices() -> AsyncIterator[str]:
    """Run a server that refuses every voice, its own default too; give its URL."""

    async def refuse(connection: ServerConnection) -> None:
        await connection.send(json.dumps({"type": "session.created", "session_id": "s"}))
        async for frame in connection:
            if json.loads(frame)["type"] == "session.configure":
                error = {
                    "code": "invalid_request_error",
                    "message": "no such voice",
                    "param": "session.configure.session.voice",
                }
                await connection.send(json.dumps({"type": "error", "error": error}))

    async with serve(refuse, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
