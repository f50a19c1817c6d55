"""The page's server: its files, and a token for each call.

    cd examples/web && npm install && cd ../..
    LIVEKIT_URL=... LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... python examples/web/serve.py

Without those variables it takes those of `livekit-server --dev`. LIVEKIT_AGENT_NAME sends an agent
of that name to each room; one without a name comes by itself. Whoever reaches this page gets a
token: put your own login before it.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import errno
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web
from livekit import api

PAGE: Final = Path(__file__).parent
CLIENT: Final = PAGE / "node_modules" / "livekit-client" / "dist" / "livekit-client.esm.mjs"

TOKEN_LIFETIME: Final = datetime.timedelta(minutes=10)
"""A token opens the door; who is inside may stay longer."""


def new_pass() -> dict[str, str]:
    """Return what lets one user into a room of their own: the server's URL and a token."""
    room = f"web-{uuid.uuid4().hex[:12]}"
    token = (
        api.AccessToken(
            os.environ.get("LIVEKIT_API_KEY", "devkey"),
            os.environ.get("LIVEKIT_API_SECRET", "secret"),
        )
        .with_identity(f"user-{uuid.uuid4().hex[:8]}")
        .with_ttl(TOKEN_LIFETIME)
        .with_grants(
            api.VideoGrants(
                room_join=True, room=room, can_publish_sources=["microphone"], can_subscribe=True
            )
        )
    )
    if agent := os.environ.get("LIVEKIT_AGENT_NAME"):
        agents = [api.RoomAgentDispatch(agent_name=agent)]
        token = token.with_room_config(api.RoomConfiguration(agents=agents))
    url = os.environ.get("LIVEKIT_URL", "ws://localhost:7880")
    return {"url": url, "token": token.to_jwt()}


async def give_pass(_: web.Request) -> web.Response:
    """Answer the page's request for a token."""
    return web.json_response(new_pass(), headers={"Cache-Control": "no-store"})


async def show_page(_: web.Request) -> web.FileResponse:
    """Answer with the page itself."""
    return web.FileResponse(PAGE / "index.html")


def make_app() -> web.Application:
    """Return the server's application.

    Raises:
        SystemExit: livekit-client is not installed.
    """
    if not CLIENT.exists():
        raise SystemExit(f"livekit-client is missing; run `npm install` in {PAGE}")
    app = web.Application()
    app.router.add_get("/", show_page)
    app.router.add_post("/token", give_pass)
    for name in ("app.js", "turns.js", "style.css"):
        app.router.add_get(f"/{name}", _show(PAGE / name))
    app.router.add_get(f"/{CLIENT.relative_to(PAGE)}", _show(CLIENT))
    return app


def _show(path: Path) -> Callable[[web.Request], Awaitable[web.FileResponse]]:
    async def show(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return show


@asynccontextmanager
async def serving(host: str, port: int) -> AsyncIterator[None]:
    """Serve the page while the block runs.

    Raises:
        SystemExit: livekit-client is not installed, or the port is taken.
    """
    runner = web.AppRunner(make_app())
    await runner.setup()
    try:
        await _take_port(web.TCPSite(runner, host, port), port)
        yield
    finally:
        await runner.cleanup()


async def _take_port(site: web.TCPSite, port: int) -> None:
    try:
        await site.start()
    except OSError as problem:
        if problem.errno != errno.EADDRINUSE:
            raise
        raise SystemExit(f"Port {port} is taken; another one is chosen with --port.") from None


async def until_told_to_stop() -> None:
    """Wait for Ctrl-C, or for the signal that ends services."""
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()
    print("Goodbye.", flush=True)


async def run(host: str, port: int) -> None:
    """Serve until told to stop."""
    async with serving(host, port):
        print(f"Open http://{host}:{port}", flush=True)
        await until_told_to_stop()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="The page to talk to an agent, and its tokens.")
    parser.add_argument("--host", default="localhost", help="where to listen (localhost)")
    parser.add_argument("--port", type=int, default=8000, help="its port (8000)")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
