"""How long a new user waits: ``python -m tests.first_minutes``, after ``sh tests/run.sh rooms``.

A fresh clone each time, with an environment of its own; packages come from where this machine
gets them. It prints the seconds from the first command to the demo's first audio, to a passing
test of one's own agent, and to a page whose agent has greeted a browser. Nothing is asserted.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from signal import SIGINT
from typing import Final

from .documents import TESTING, blocks
from .rooms import chromium
from .rooms.livekit_server import find_program
from .rooms.programs import TOP, Program

PATIENCE_S: Final = 600.0


def clone(folder: Path) -> Path:
    """Return a fresh clone of this checkout."""
    subprocess.run(["git", "clone", "--quiet", TOP, folder], check=True)
    return folder


def until_the_demo_speaks(folder: Path) -> None:
    """One command, until the first line about the agent's voice."""
    checkout = clone(folder / "demo")
    with Program("sh", "examples/demo.sh", cwd=checkout) as demo:
        demo.wait_for("begins to speak", timeout=PATIENCE_S)


def until_a_test_passes(folder: Path) -> None:
    """A new environment, the package, pytest, and the test that is shown to users."""
    checkout = clone(folder / "package")
    place = folder / "agent"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    python = str(place / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", checkout, "pytest"], check=True)
    test = place / "test_weather.py"
    test.write_text(blocks(TESTING, "python")[0], encoding="utf-8")
    subprocess.run([python, "-m", "pytest", "--quiet", test], cwd=place, check=True)


def until_the_page_talks(folder: Path) -> None:
    """One command, a browser, a click, and the words of the greeting on the page."""
    checkout = clone(folder / "page")
    server = find_program()
    assert server is not None, "sh tests/run.sh rooms builds it"
    (folder / "livekit-server").symlink_to(server)
    path = f"{folder}:{os.environ['PATH']}"
    web = Program(
        *("sh", "examples/web.sh"), cwd=checkout, stop_with=SIGINT, environment={"PATH": path}
    )
    with web:
        web.wait_for("Open http://localhost:8000", timeout=PATIENCE_S)
        web.wait_for("registered worker")
        asyncio.run(_be_greeted(folder / "silence.wav"))


async def _be_greeted(microphone: Path) -> None:
    chromium.write_microphone(microphone, [60.0])
    async with chromium.page(microphone=microphone) as page:
        await page.do("goto", "http://localhost:8000")
        await page.do("click", "#call")
        await page.until("/weather line/.test(document.getElementById('captions').textContent)")


def main() -> None:
    """Measure all three."""
    for told, measure in (
        ("the demo's first audio", until_the_demo_speaks),
        ("a passing test of one's own agent", until_a_test_passes),
        ("a page whose agent has greeted", until_the_page_talks),
    ):
        with tempfile.TemporaryDirectory() as folder:
            began_at = time.monotonic()
            measure(Path(folder))
            print(f"{time.monotonic() - began_at:5.0f} s to {told}", flush=True)


if __name__ == "__main__":
    main()
