"""Headless Chromium, driven over its DevTools protocol; only for tests of pages."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
"""The browser of this machine; None where there is none."""

# The sandbox needs rights that containers don't give; nothing but our own pages is shown.
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
"""What Chromium needs in a test, whoever drives it: no sandbox, no network of its own, sound."""

_OURS: Final = (
    "--headless",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--remote-debugging-port=0",
)

PATIENCE_S: Final = 30.0
"""How long anything may take; far more than it does on a slow machine."""

_LISTENING: Final = re.compile(rb"DevTools listening on (ws://\S+)")


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._session: str | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.troubles: list[str] = []
        """Exceptions of scripts, and what the browser complains of: policy violations too."""
        self.requests: list[str] = []
        """What was asked of a network or a disk, beside the page itself."""

    async def read(self) -> None:
        """Take what the browser says, until it is closed."""
        async for text in self._socket:
            message = json.loads(text)
            answer = self._answers.pop(message.get("id", 0), None)
            if answer is not None and not answer.done():
                answer.set_result(message)
            elif message.get("sessionId") == self._session:
                self._take(message["method"], message.get("params", {}))

    def _take(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.troubles.append(str(details.get("exception", details).get("description")))
            case "Log.entryAdded":
                self.troubles.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                if not params["request"]["url"].startswith(("data:", "blob:")):
                    self.requests.append(params["request"]["url"])

    async def begin(self) -> None:
        """Open the tab."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        session = {} if self._session is None else {"sessionId": self._session}
        message = {"id": number, "method": method, "params": params, **session}
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(PATIENCE_S):
            said = await answer
        assert "error" not in said, f"{method}: {said['error']}"
        result: dict[str, Any] = said["result"]
        return result

    async def open(self, path: Path) -> None:
        """Load a file, and wait until it has loaded."""
        self._loaded.clear()
        self.requests.clear()
        await self.call("Page.navigate", url=path.as_uri())
        async with asyncio.timeout(PATIENCE_S):
            await self._loaded.wait()

    async def run(self, script: str) -> Any:
        """Return what an expression is; promises are awaited."""
        said = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until an expression is true, looking at each frame that is drawn."""
        return await self.run(
            f"new Promise((done) => {{ const look = () => {{ const seen = ({script});"
            " if (seen) done(seen); else requestAnimationFrame(look); }; look(); })"
        )

    async def press(self, key: str, *, code: str = "", modifiers: int = 0) -> None:
        """Press and release a key."""
        text = key if len(key) == 1 else ""
        fields = {"key": key, "code": code or key, "modifiers": modifiers}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **fields)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    async def click(self, x: float, y: float) -> None:
        """Click at a place of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def resize(self, width: int, height: int, *, scale: float = 1.0) -> None:
        """Give the window a size; one under 600 is a phone's."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    async def prefer(self, scheme: str) -> None:
        """Set the reader's wish: ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen as a PNG."""
        said = await self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(said["data"]))


@asynccontextmanager
async def page() -> AsyncIterator[Page]:
    """Open a browser with one tab, while the block lasts."""
    assert CHROMIUM is not None, "the test is skipped without"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM,
            *FLAGS,
            *_OURS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None, "it is a pipe"
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = None
                while found is None:
                    line = await process.stderr.readline()
                    assert line, "Chromium has ended"
                    found = _LISTENING.search(line)
            drain = asyncio.create_task(process.stderr.read())
            async with connect(
                found[1].decode(), max_size=None, compression=None, proxy=None, ping_interval=None
            ) as socket:
                tab = Page(socket)
                reading = asyncio.create_task(tab.read())
                await tab.begin()
                try:
                    yield tab
                finally:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
