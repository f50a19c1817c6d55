"""Chromium with a page in it, driven from tests: a person at `examples/web`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.browser import FLAGS

from .programs import TOP
from .sound import Samples

PATIENCE_S: Final = 30.0
"""How long the page may take to show something; far more than it does on a slow machine."""

DESKTOP: Final = {"viewport": {"width": 1280, "height": 800}}
PHONE: Final = {
    "viewport": {"width": 390, "height": 844},
    "deviceScaleFactor": 2,
    "hasTouch": True,
    "isMobile": True,
}

_MICROPHONE_RATE_HZ: Final = 48_000

_DRIVER: Final = TOP / "tests" / "rooms" / "browser" / "drive.mjs"


def why_not() -> str | None:
    """Return why no browser can be driven here, or None."""
    if reason := os.environ.get("HYDRA_NO_BROWSER"):
        return reason
    missing = [name for name in ("chromium", "node") if shutil.which(name) is None]
    if not (_DRIVER.parent / "node_modules" / "playwright-core").exists():
        missing.append("playwright-core")
    return f"{' and '.join(missing)} are missing" if missing else None


def write_microphone(path: Path, pieces: Sequence[float | Samples]) -> None:
    """Write what a fake microphone hears, once: samples at 48 kHz, and seconds of silence."""
    sounds = [
        np.zeros(int(piece * _MICROPHONE_RATE_HZ), dtype=np.int16)
        if isinstance(piece, float)
        else piece
        for piece in pieces
    ]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_MICROPHONE_RATE_HZ)
        file.writeframes(np.concatenate(sounds).tobytes())


class Page:
    """One page; methods have the names of playwright's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, method: str, *arguments: Any) -> Any:
        """Call a method of playwright's Page; return its value if that is plain."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(json.dumps([method, *arguments]).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> Any:
        """Return what the driver says next.

        Raises:
            AssertionError: playwright has raised.
        """
        assert self._process.stdout is not None, "it is a pipe"
        async with asyncio.timeout(PATIENCE_S * 2):
            line = await self._process.stdout.readline()
        reply = json.loads(line)
        assert "error" not in reply, reply["error"]
        return reply["value"]

    async def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(await self.do("textContent", selector))

    async def until(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true."""
        try:
            await self.do("waitForFunction", condition, None, {"timeout": PATIENCE_S * 1000})
        except AssertionError as error:
            error.add_note(f"the log: {await self.text('#events')}")
            error.add_note(f"the console: {await self.do('console')}")
            raise

    async def until_state(self, *states: str) -> None:
        """Wait until the page is in one of these states."""
        await self.until(f"{json.dumps(states)}.includes(document.body.dataset.state)")

    async def until_logged(self, pattern: str) -> None:
        """Wait until the page's event log has a line like this regular expression."""
        await self.until(f"/{pattern}/.test(document.getElementById('events').textContent)")

    async def picture(self, name: str) -> None:
        """Save a picture of the whole page, where HYDRA_PICTURES names a folder."""
        if folder := os.environ.get("HYDRA_PICTURES"):
            await self.do("screenshot", {"path": f"{folder}/{name}.png", "fullPage": True})


@asynccontextmanager
async def page(
    *,
    microphone: Path | None = None,
    context: dict[str, Any] | None = None,
    arguments: Sequence[str] = (),
) -> AsyncIterator[Page]:
    """Run a browser while the block runs.

    Args:
        microphone: what its microphone hears; without, it has none.
        context: options of playwright's context: the size of the screen, the permissions.
        arguments: more of Chromium's.
    """
    flags = [*FLAGS, *arguments]
    if microphone is not None:
        flags += [
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}%noloop",
        ]
    options = {"args": flags, "context": context or DESKTOP}
    process = await asyncio.create_subprocess_exec(
        *("node", _DRIVER, json.dumps(options)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        shown = Page(process)
        await shown.answer()
        yield shown
    finally:
        assert process.stdin is not None, "it is a pipe"
        process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
