"""The cost of a call in steps of the interpreter, tasks and writes: counted, never timed.

A frame or a turn must cost as much late in a call as early, and not much more than it does today.
What is counted are the steps of this package and of `livekit`, which it calls; the emulator's own
are left out. `sh tests/run.sh bench` has the same in milliseconds.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np
import pytest
from livekit import agents, rtc
from livekit.agents import llm

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.testing import Emulator, Say, Scenario
from livekit_plugins_hydra.transport.websocket import WebSocket

from .bench import cpu
from .calls import KEY
from .clock import in_virtual_time

N_SAMPLES: Final = 1_200
FRAME_S: Final = 0.05
SOUND: Final = np.random.default_rng(1).integers(-90, 90, N_SAMPLES, dtype=np.int16)
FRAME: Final = rtc.AudioFrame(SOUND.tobytes(), 24_000, 1, N_SAMPLES)
"""As a room delivers them; too quiet to be speech, so that nothing else happens."""

MAX_STEPS_OF_A_FRAME: Final = 1_900
"""It takes about 1,150 on Python 3.11; other versions have other bytecodes."""

MAX_STEPS_OF_A_DELTA: Final = 1_400
"""It takes about 870, and is heard."""

MAX_GROWTH: Final = 1.25
"""What a frame or a turn late in a call may cost, against an early one."""

MAX_CALLS_TO_FLOOR: Final = 1.5
"""How many functions may be called, against a bare client with the same sound: about 0.95."""

PACKAGE: Final = str(Path(hydra.__file__).parent)
COUNTED: Final = (PACKAGE, str(Path(agents.__file__).parent), str(Path(rtc.__file__).parent))
LEFT_OUT: Final = str(Path(PACKAGE) / "testing")


@dataclass
class Steps:
    """How many steps were taken."""

    count: int = 0


@contextmanager
def counting() -> Iterator[Steps]:
    """Count the bytecodes that are run in the block, in the files that are counted."""
    steps = Steps()

    def step(_frame: FrameType, event: str, _argument: Any) -> Any:
        steps.count += event == "opcode"
        return step

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(COUNTED) or file.startswith(LEFT_OUT):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return step

    before = sys.gettrace()
    here = inspect.currentframe()
    assert here is not None
    here.f_trace_opcodes = True  # Python 3.12 looks for it when tracing begins, and not later
    sys.settrace(enter)
    try:
        yield steps
    finally:
        sys.settrace(before)


@dataclass
class Held:
    """A call that is up, and what the test plays of it."""

    server: Emulator
    session: hydra.RealtimeSession
    said: asyncio.Queue[llm.GenerationCreatedEvent]

    async def speak(self, n_frames: int) -> None:
        """Let the user's microphone give frames, at real time."""
        for _ in range(n_frames):
            self.session.push_audio(FRAME)
            await asyncio.sleep(FRAME_S)

    async def hear(self, n_responses: int, say: Say) -> int:
        """Let the agent speak, and return how many frames were heard."""
        n_frames = 0
        for _ in range(n_responses):
            self.server.speak(say)
            async for message in (await self.said.get()).message_stream:
                n_frames += len([frame async for frame in message.audio_stream])
                assert [text async for text in message.text_stream]
        return n_frames


@contextmanager
def _noted_tasks() -> Iterator[list[str]]:
    """Note the coroutines that become tasks, by name."""
    made: list[str] = []

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(make)
    try:
        yield made
    finally:
        loop.set_task_factory(None)


async def _hold(server: Emulator) -> Held:
    model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
    held = Held(server, model.session(), asyncio.Queue())
    held.session.on("generation_created", held.said.put_nowait)
    await held.session.update_instructions("Be kind.")
    await held.speak(10)
    return held


@in_virtual_time
async def test_a_frame_of_the_microphone_costs_the_same_for_ever() -> None:
    """The thousandth takes no more steps than the first, no task, and one write."""
    async with Emulator(Scenario(records_audio=False)) as server:
        held = await _hold(server)
        with counting() as early:
            await held.speak(50)
        await held.speak(900)
        with counting() as late:
            await held.speak(50)
        with _noted_tasks() as tasks:
            await held.speak(50)
        await held.session.aclose()

    assert late.count <= early.count * MAX_GROWTH
    assert late.count / 50 <= MAX_STEPS_OF_A_FRAME
    assert len(tasks) <= 5  # pings


@in_virtual_time
async def test_a_response_costs_the_same_for_ever() -> None:
    """The three hundredth takes no more steps than the tenth, with all texts written down."""
    say = Say(duration_s=0.4, text="That is so.")
    async with Emulator(Scenario(transcripts=True)) as server:
        held = await _hold(server)
        await held.hear(10, say)
        with counting() as early:
            await held.hear(20, say)
        await held.hear(300, say)
        with counting() as late:
            await held.hear(20, say)
        await held.session.aclose()

    assert late.count <= early.count * MAX_GROWTH


@in_virtual_time
async def test_a_piece_of_sound_costs_the_same_for_ever() -> None:
    """In a response of a minute, as in one of a second; and none of its pieces makes a task."""
    async with Emulator(Scenario(transcripts=True)) as server:
        held = await _hold(server)
        await held.hear(1, Say(duration_s=1.0, text="Well."))
        with counting() as short:
            n_short = await held.hear(4, Say(duration_s=1.0, text="Well."))
        with counting() as long, _noted_tasks() as tasks:
            n_long = await held.hear(1, Say(duration_s=60.0, text="Well."))
        await held.session.aclose()

    assert n_long > 5 * n_short
    assert long.count / n_long <= short.count / n_short * MAX_GROWTH
    assert long.count / n_long <= MAX_STEPS_OF_A_DELTA
    assert len(tasks) < n_long / 10  # pings


@in_virtual_time
async def test_the_history_leaves_no_garbage() -> None:
    """LiveKit asks for it, and gives it back, whenever functions have run."""
    async with Emulator(Scenario(transcripts=True)) as server:
        held = await _hold(server)
        await held.hear(1, Say(duration_s=0.4, text="Well."))
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await held.session.update_chat_ctx(held.session.chat_ctx)
            n_unreachable = gc.collect()
        finally:
            gc.enable()
        await held.session.aclose()

    assert n_unreachable == 0


class CountedTransport:
    """A transport that counts what is written to it."""

    n_writes = 0

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: Any) -> None:
        """Write, and count."""
        CountedTransport.n_writes += 1
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def test_a_frame_of_the_microphone_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """System calls are most of what a call costs, so the appends of a frame share one."""

    def connection_made(socket: WebSocket, transport: asyncio.Transport) -> None:
        counted: Any = CountedTransport(transport)
        plain(socket, counted)

    @in_virtual_time
    async def hold() -> None:
        async with Emulator(Scenario(records_audio=False)) as server:
            held = await _hold(server)
            n_before = CountedTransport.n_writes
            await held.speak(100)
            n_writes = CountedTransport.n_writes - n_before
            await held.session.aclose()
        assert 100 <= n_writes <= 103  # pings

    plain = WebSocket.connection_made
    monkeypatch.setattr(WebSocket, "connection_made", connection_made)
    hold()


async def test_the_plugin_calls_little_more_than_a_bare_client() -> None:
    """The same sound both ways in the same run: as many functions called, or half more."""
    n_calls = {name: cpu.n_called(await cpu.profile(name)) for name in ("floor", "plugin")}

    assert n_calls["plugin"] <= n_calls["floor"] * MAX_CALLS_TO_FLOOR
