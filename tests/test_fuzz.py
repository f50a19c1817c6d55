"""Frames that no server should send: 20,000 here, a million in soak."""

from __future__ import annotations

import importlib.util
import tracemalloc
from contextlib import suppress

import pytest

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import wire
from livekit_plugins_hydra.protocol.call import Call
from livekit_plugins_hydra.protocol.errors import RemoteProtocolError

from . import server_says as server
from .fuzz.frames import fuzz
from .processes import python

N_FRAMES = 20_000
N_INPUTS = 500
MAX_KEPT_BYTES = 2_000_000


def test_damaged_frames_cost_nothing_but_the_documented_error() -> None:
    """Whatever a frame holds, the codec and the call take it or refuse it."""
    seen = fuzz(N_FRAMES, seed=1)

    assert seen.total() == N_FRAMES
    assert 0.2 < seen["refused"] / N_FRAMES < 0.8


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel here")
async def test_a_fuzzer_that_sees_the_code_finds_nothing_either() -> None:
    """Atheris looks for inputs that reach new lines, beginning with good frames."""
    finished = await python("-m", "tests.fuzz.with_atheris", f"-runs={N_INPUTS}", "-seed=1")

    assert finished.code == 0, finished.text
    assert f"Done {N_INPUTS} runs" in finished.text


def ready() -> Call:
    """Return a call on a connection that is READY."""
    call = Call(new_event_id=lambda: "cl")
    call.open()
    call.configurable(0.0)
    call.timer("greeting_window", 0.1)
    call.receive(ev.SessionCreated(session_id="s"), 0.1)
    call.configure(ev.ClientSession(), 0.1)
    call.receive(ev.SessionConfigured(session=ev.ServerSession()), 0.1)
    return call


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param('{"type":"' + "x" * 10_000_000 + '"}', id="an endless type"),
        pytest.param(
            '{"type":"response.output_audio.delta","delta":"' + "!" * 10_000_000 + '"}',
            id="no base64",
        ),
        pytest.param("[" * 10_000_000, id="nested without end"),
        pytest.param('{"type":"error","error":{"message":"' + "m" * 10_000_000 + '"}}', id="talk"),
        pytest.param("x" * (wire.MAX_FRAME_BYTES + 1), id="over the limit"),
    ],
)
def test_a_huge_frame_leaves_nothing_behind(frame: str) -> None:
    """Ten megabytes of anything: an event or one error, and then the memory is free again."""
    call = ready()
    tracemalloc.start()
    try:
        for _ in range(5):
            with suppress(RemoteProtocolError):
                call.receive(wire.decode(frame), 1.0)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 1_000_000


def test_a_flood_is_dropped_and_counted() -> None:
    """Twenty-five thousand small frames of responses, calls and turns: what is kept has bounds."""
    call = ready()
    n_faults = 0
    tracemalloc.start()
    try:
        for i in range(5_000):
            for event in (
                server.created(f"r{i}"),
                server.arguments(f"r{i}", f"c{i}", "{"),
                server.speech_started(f"u{i}"),
                ev.UnknownEvent(f"unknown.{i}"),
                server.discarded(f"u{i}"),
            ):
                effects = call.receive(event, 1.0 + i / 1000)
                n_faults += sum(isinstance(effect, fx.Fault) for effect in effects)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < MAX_KEPT_BYTES
    assert n_faults < 20
