"""All that the page needs, on this machine: LiveKit, an agent, and Hydra, real or emulated.

    sh examples/web.sh

It uses the LiveKit server in LIVEKIT_URL, else it starts `livekit-server --dev`. With
SMALLEST_API_KEY the agent talks to the real Hydra; without, to one that is emulated here, which
hears you and answers from a script.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from serve import serving, until_told_to_stop

from livekit_plugins_hydra.testing import Context, Emulator, Reply, Say, Scenario

TOP: Final = Path(__file__).parents[2]
SPEECH: Final = TOP / "examples" / "speech"

DEV_SERVER: Final = {
    "LIVEKIT_URL": "ws://localhost:7880",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "secret",
}
"""What `livekit-server --dev` listens to."""

ALONE: Final = {"NUM_CPUS": "64", "LIVEKIT_CONFIG": "agents: {target_load: 2}"}
"""LiveKit sends no agent from a busy machine, so that another one may; here is no other one. The
first is for the worker's reckoning of its load, the second for the server's bound."""

ANSWERS: Final = ("forecast", "reaction", "goodbye")


def spoken(name: str) -> Say:
    """Return a recording as something that the emulated Hydra says."""
    text = (SPEECH / f"agent-{name}.txt").read_text(encoding="utf-8").strip()
    return Say(wav=SPEECH / f"agent-{name}.wav", text=text)


class Script:
    """What the emulated Hydra answers: a greeting for each call, then one answer after another."""

    def __init__(self) -> None:
        self._n_answers: dict[int, int] = {}

    def __call__(self, context: Context) -> Reply:
        """Return what is said next in a call."""
        if context.trigger == "greeting":
            return spoken("greeting")
        number = self._n_answers.get(context.connection_number, 0)
        self._n_answers[context.connection_number] = number + 1
        return spoken(ANSWERS[number % len(ANSWERS)])


@asynccontextmanager
async def program(*command: str, **environment: str) -> AsyncIterator[None]:
    """Run a program while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=TOP, env={**os.environ, **environment}
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def livekit() -> AsyncIterator[dict[str, str]]:
    """Give the variables of a LiveKit server: yours, or one that is started here."""
    if "LIVEKIT_URL" in os.environ:
        yield {}
        return
    if shutil.which("livekit-server") is None:
        raise SystemExit(
            "There is no LiveKit server: set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET,"
            " or put livekit-server on your PATH; see examples/README.md, 'In the browser'."
        )
    options = ("--bind", "127.0.0.1", "--node-ip", "127.0.0.1")
    async with program("livekit-server", "--dev", *options, **ALONE):
        os.environ.update(DEV_SERVER)
        yield DEV_SERVER | ALONE


@asynccontextmanager
async def hydra() -> AsyncIterator[dict[str, str]]:
    """Give the variables of a Hydra: the real one, or one that is emulated here."""
    if "SMALLEST_API_KEY" in os.environ:
        yield {}
        return
    scenario = Scenario(replies=Script(), think_s=0.3, transcripts=True)
    async with Emulator(scenario, strict=False) as server:
        print("Hydra is emulated: it hears when you speak, and answers from a script.", flush=True)
        yield {"HYDRA_BASE_URL": server.url, "SMALLEST_API_KEY": "any-key-will-do"}


async def run(host: str, port: int, agent: str) -> None:
    """Run everything until told to stop."""
    async with AsyncExitStack() as parts:
        await parts.enter_async_context(serving(host, port))
        environment = await parts.enter_async_context(livekit())
        environment |= await parts.enter_async_context(hydra())
        await parts.enter_async_context(program(sys.executable, agent, "dev", **environment))
        print(f"Open http://{host}:{port}", flush=True)
        await until_told_to_stop()


def main() -> None:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="examples/web.sh", description="Talk in a browser.")
    parser.add_argument("--host", default="localhost", help="where the page is (localhost)")
    parser.add_argument("--port", type=int, default=8000, help="its port (8000)")
    parser.add_argument("--agent", default="examples/agent.py", help="whom to talk to")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.host, arguments.port, arguments.agent))


if __name__ == "__main__":
    main()
