"""One write for all that is sent in one step of the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from livekit_plugins_hydra.corking import CorkedTransport


class Pipe(asyncio.Transport):
    """A transport that notes what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []

    def write(self, data: Any) -> None:
        self.done.append(bytes(data))

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def get_write_buffer_size(self) -> int:
        return 7


async def step() -> None:
    """Let the event loop take one step."""
    await asyncio.sleep(0)


async def test_writes_of_one_step_leave_together_and_in_order() -> None:
    """Two appends of one frame are one system call."""
    pipe = Pipe()
    corked = CorkedTransport(pipe)
    corked.write(b"a")
    corked.write(bytearray(b"b"))

    assert pipe.done == []
    assert corked.get_write_buffer_size() == 9
    await step()
    assert pipe.done == [b"ab"]
    corked.write(b"c")
    await step()
    assert pipe.done == [b"ab", b"c"]


async def test_nothing_is_lost_at_the_end() -> None:
    """What was written before a close, or an end of file, leaves before it."""
    pipe = Pipe()
    corked = CorkedTransport(pipe)
    corked.write(b"a")
    corked.write_eof()
    corked.write(b"b")
    corked.close()
    await step()

    assert pipe.done == [b"a", "eof", b"b", "close"]


async def test_an_abort_sends_nothing_more() -> None:
    """A connection that is given up does not speak any more."""
    pipe = Pipe()
    corked = CorkedTransport(pipe)
    corked.write(b"a")
    corked.abort()
    await step()

    assert pipe.done == ["abort"]
