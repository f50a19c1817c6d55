"""The page in `examples/web`, in a real browser, as a person uses it.

HYDRA_PICTURES=folder keeps a picture of each state.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest

from . import chromium
from .chromium import DESKTOP, PHONE, Page, write_microphone
from .livekit_server import LiveKit, find_program
from .programs import TOP, Program
from .sound import recording

pytestmark = pytest.mark.skipif(
    chromium.why_not() is not None, reason=chromium.why_not() or "a browser is there"
)

PORT = 8002
"""Of the page that most tests use; `examples/web.sh` has 8000 to itself."""

URL = f"http://localhost:{PORT}"


NO_ONE = {
    "LIVEKIT_URL": "ws://127.0.0.1:9",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "a-secret-of-thirty-two-characters",
}
"""A LiveKit server that isn't there."""


@contextmanager
def serving(script: str, port: int, **environment: str) -> Iterator[Program]:
    """Run one of the page's two programs."""
    program = Program.python(f"examples/web/{script}", "--port", str(port), **environment)
    with program:
        program.wait_for("Open http://localhost")
        yield program


@pytest.fixture(scope="module")
def everything(livekit: LiveKit) -> Iterator[Program]:
    """What `sh examples/web.sh` starts, with the tests' LiveKit server."""
    with serving("all.py", PORT, **livekit.environment) as program:
        program.wait_for("registered worker")
        yield program


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A microphone that hears a question, a barge-in, and a goodbye."""
    path = tmp_path / "speech.wav"
    write_microphone(
        path,
        [
            14.0,
            recording("user-question", 48_000),
            6.0,
            recording("user-barge-in", 48_000),
            8.0,
            recording("user-goodbye", 48_000),
            30.0,
        ],
    )
    return path


async def begin(page: Page, *, port: int = PORT) -> None:
    """Open the page and press its button."""
    await page.do("goto", f"http://localhost:{port}")
    await page.do("click", "#call")


@pytest.mark.parametrize(
    ("screen", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"]
)
async def test_person_talks_to_the_agent(
    everything: Program, speech: Path, screen: dict[str, Any], scheme: str
) -> None:
    """From the button to the goodbye: greeting, question, barge-in; with captions, the agent's
    state, the microphone's level, and how long each answer took.
    """
    name = "phone" if screen is PHONE else "desktop"
    context = {**screen, "colorScheme": scheme}
    async with chromium.page(microphone=speech, context=context) as page:
        await page.do("goto", URL)
        assert await page.text("#call") == "Start talking"
        await page.picture(f"{name}-1-idle")
        await page.do("click", "#call")
        await page.until_state("speaking")
        await page.until("document.querySelector('.captions .agent')")
        await page.until("document.getElementById('meter').value > 0.3")
        await page.until_logged("agent answers after")
        await page.until_state("speaking")
        await page.picture(f"{name}-2-speaking")
        await page.until_logged("agent fell silent")
        await page.until("Number(document.getElementById('turns').textContent) >= 3")
        await page.until_state("listening")
        await page.do("click", ".events summary")
        await page.picture(f"{name}-3-listening")

        overflow = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert await page.do("evaluate", overflow) is False
        captions = await page.text("#captions")
        answer = await page.text("#last")
        noted = await page.text(".captions .agent:last-child small")
        said = await page.do("evaluate", "document.querySelectorAll('.captions .user').length")

        await page.do("click", "#call")
        await page.until_state("idle")
        assert await page.text("#call") == "Start talking"

    assert "this is the weather line" in captions
    assert "Lisbon is sunny" in captions
    assert said == 3
    assert noted == f"after {answer}"
    # The emulated Hydra waits for 0.4 s of silence and thinks for 0.3 s.
    assert 0.6 < float(answer.removesuffix(" s")) < 3.0


async def test_page_works_by_keyboard_and_takes_text(everything: Program, tmp_path: Path) -> None:
    """Tab and Enter start a call, mute it, and send a line that the agent answers aloud."""
    write_microphone(tmp_path / "silence.wav", [60.0])
    async with chromium.page(microphone=tmp_path / "silence.wav") as page:
        await page.do("goto", URL)
        await page.do("keyboard.press", "Tab")
        await page.do("keyboard.press", "Enter")
        await page.until_state("speaking")
        await page.until_state("listening")

        await page.do("keyboard.press", "Tab")
        await page.do("keyboard.press", "Space")
        await page.until_logged("microphone muted")
        assert await page.text("#mute") == "Unmute"

        # The captions can be scrolled by keys, so they are on the way.
        await page.do("keyboard.press", "Tab")
        await page.do("keyboard.press", "Tab")
        await page.do("keyboard.type", "And tomorrow?")
        await page.do("keyboard.press", "Enter")
        await page.until_state("speaking")
        await page.until("/Lisbon is sunny/.test(document.getElementById('captions').textContent)")
        captions = await page.text("#captions")

    assert "And tomorrow?" in captions


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        ([], "No microphone was found"),
        (["--use-fake-device-for-media-stream"], "The microphone is blocked"),
    ],
    ids=["none", "blocked"],
)
async def test_missing_microphone_is_named(arguments: list[str], title: str) -> None:
    """Without a microphone, or with a blocked one, the page says so and can be tried again."""
    with serving("serve.py", 8001, **NO_ONE):
        async with chromium.page(arguments=arguments, context=PHONE) as page:
            await begin(page, port=8001)
            await page.until_state("error")
            await page.picture(f"phone-4-{title.split()[-1]}")
            shown = await page.text("#problem-title")
            button = await page.text("#call")

    assert shown == title
    assert button == "Try again"


async def test_missing_server_is_named(speech: Path) -> None:
    """With no LiveKit server, and then with no server of the page itself, the page says so."""
    with serving("serve.py", 8001, **NO_ONE) as program:
        async with chromium.page(microphone=speech) as page:
            await begin(page, port=8001)
            await page.until_state("error")
            await page.picture("desktop-4-no-server")
            assert await page.text("#problem-title") == "LiveKit can't be reached"
            assert NO_ONE["LIVEKIT_URL"] in await page.text("#problem-text")

            await asyncio.to_thread(program.stop)
            await page.do("click", "#call")
            await page.until("/server is gone/.test(document.body.textContent)")


async def test_missing_agent_is_named(livekit: LiveKit, speech: Path) -> None:
    """With no worker, the page gives up after a while and says how one is started."""
    with serving("serve.py", 8001, **livekit.environment, LIVEKIT_AGENT_NAME="nobody"):
        async with chromium.page(microphone=speech) as page:
            await begin(page, port=8001)
            await page.until_state("waiting")
            await page.picture("desktop-4-waiting")
            await page.until_state("error")
            await page.picture("desktop-4-no-agent")
            shown = await page.text("#problem")

    assert "No agent has come" in shown
    assert "examples/agent.py dev" in shown


async def test_agent_that_leaves_is_named(
    everything: Program, livekit: LiveKit, tmp_path: Path
) -> None:
    """When the agent goes in the middle of a call, the page says so."""
    write_microphone(tmp_path / "silence.wav", [60.0])
    async with chromium.page(microphone=tmp_path / "silence.wav") as page:
        await begin(page)
        await page.until_state("speaking")
        await livekit.remove_agents()
        await page.until_state("error")
        assert await page.text("#problem-title") == "The agent has left"


async def test_one_command_is_enough(livekit: LiveKit, tmp_path: Path) -> None:
    """`sh examples/web.sh` starts all there is, the `livekit-server` on the PATH included, and ends
    it again; in between the user is greeted.
    """
    livekit_server = find_program()
    assert livekit_server is not None, "one is running"
    (tmp_path / "livekit-server").symlink_to(livekit_server)
    write_microphone(tmp_path / "silence.wav", [60.0])
    path = f"{tmp_path}:{os.environ['PATH']}"
    with Program("sh", "examples/web.sh", stop_with=SIGINT, environment={"PATH": path}) as program:
        await program.has_said("Open http://localhost:8000")
        await program.has_said("registered worker")
        async with chromium.page(microphone=tmp_path / "silence.wav") as page:
            await begin(page, port=8000)
            await page.until("/weather line/.test(document.getElementById('captions').textContent)")
        await asyncio.to_thread(program.stop)

    assert program.find("Traceback") == []
    assert program.find("Goodbye")


@pytest.mark.parametrize("script", ["all.py", "serve.py"])
async def test_taken_port_is_named(livekit: LiveKit, script: str) -> None:
    """Where something else has the page's port, one line says so, and how another is chosen."""
    command = ("--port", "8001")
    with (
        serving("serve.py", 8001, **NO_ONE),
        Program.python(f"examples/web/{script}", *command, **livekit.environment) as program,
    ):
        code = await asyncio.to_thread(program.wait)

    assert code == 1
    assert program.lines == ["Port 8001 is taken; another one is chosen with --port."]


async def test_turns_are_measured_by_their_sound() -> None:
    """What the page takes for an answer or a barge-in, and its times: `turns.test.mjs`."""
    if shutil.which("node") is None:
        pytest.skip("there is no node")
    with Program("node", "--test", TOP / "tests" / "rooms" / "browser" / "turns.test.mjs") as tests:
        code = await asyncio.to_thread(tests.wait)

    assert code == 0, json.dumps(tests.lines, indent=1)
