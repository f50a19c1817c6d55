"""Other programs, run as a user would: at the top of the checkout, with this Python."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parents[1]
"""The checkout."""

STOP_TIMEOUT_S: Final = 20.0
"""How long a program may take to end after SIGTERM."""


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    code: int
    text: str
    """What it printed, to either stream."""


async def _start(*command: str, cwd: Path, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=os.environ | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def finished(*command: str, cwd: Path = TOP, **environment: str) -> Finished:
    """Run a program to its end."""
    process = await _start(*command, cwd=cwd, **environment)
    output, _ = await process.communicate()
    assert process.returncode is not None, "it has ended"
    return Finished(process.returncode, output.decode())


async def python(*arguments: str, cwd: Path = TOP, **environment: str) -> Finished:
    """Run Python to its end."""
    return await finished(sys.executable, *arguments, cwd=cwd, **environment)


@asynccontextmanager
async def python_running(*arguments: str, **environment: str) -> AsyncIterator[None]:
    """Run Python until the block is left; one that fails shows what was printed."""
    process = await _start(sys.executable, *arguments, cwd=TOP, **environment)
    printing = asyncio.create_task(_read_all(process.stdout))
    try:
        yield
    except BaseException as error:
        await _stop(process)
        error.add_note(f"it printed:\n{await printing}")
        raise
    await _stop(process)
    await printing


async def _read_all(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None, "it is a pipe"
    return (await stream.read()).decode()


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
