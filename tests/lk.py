"""LiveKit's part in tests of workers: the console of its command line, and a place to register.

`lk agent console` starts ``python -m livekit.agents console FILE --connect-addr HOST:PORT`` and
plays microphone and loudspeaker over that connection. `Console` does the same, so an example
talks as it would on a developer's machine, without sound card and room.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

from livekit.protocol import agent as worker_pb
from livekit.protocol.agent_pb import agent_session as pb
from websockets.asyncio.server import ServerConnection, serve

from livekit_plugins_hydra.testing import Microphone

RATE_HZ: Final = 48_000
"""Of the console's sound, both ways."""


CONSOLE: Final = """
import asyncio, runpy
from livekit.agents import AgentSession

start = AgentSession.start

async def join(session, *arguments, **options):
    await start(session, *arguments, **options)
    await asyncio.sleep(0.3)

AgentSession.start = join
runpy.run_module("livekit.agents", run_name="__main__")
"""
"""For ``python -c``: LiveKit's command line. Its console has no room, and in a room
`AgentSession.start` also waits until the room is joined: here it takes as long.
"""


class Console:
    """Gives one worker a microphone, and hears its agent; playing takes no time."""

    def __init__(self) -> None:
        self.microphone = Microphone(rate_hz=RATE_HZ, frame_ms=20)
        self.n_heard: list[int] = []
        """Samples in each thing that the agent has said, those of the last one growing."""
        self._is_new = True
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """What to give the worker as ``--connect-addr``."""
        assert self._server is not None, "inside of the block"
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def heard_s(self) -> list[float]:
        """How long the agent has spoken, one number for each time."""
        return [round(n / RATE_HZ, 1) for n in self.n_heard]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None, "inside of the block"
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._speak(writer))
        self._tasks.add(task)
        try:
            while True:
                (n_bytes,) = struct.unpack(">I", await reader.readexactly(4))
                message = pb.AgentSessionMessage.FromString(await reader.readexactly(n_bytes))
                match message.WhichOneof("message"):
                    case "audio_output":
                        if self._is_new:
                            self.n_heard.append(0)
                            self._is_new = False
                        self.n_heard[-1] += message.audio_output.samples_per_channel
                    case "audio_playback_flush":
                        self._is_new = True
                        finished = pb.AgentSessionMessage.ConsoleIO.AudioPlaybackFinished()
                        _send(writer, pb.AgentSessionMessage(audio_playback_finished=finished))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            task.cancel()
            writer.close()

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        async for frame in self.microphone:
            audio = pb.AgentSessionMessage.ConsoleIO.AudioFrame(
                data=bytes(frame.data),
                sample_rate=frame.sample_rate,
                num_channels=frame.num_channels,
                samples_per_channel=frame.samples_per_channel,
            )
            _send(writer, pb.AgentSessionMessage(audio_input=audio))


def _send(writer: asyncio.StreamWriter, message: pb.AgentSessionMessage) -> None:
    data = message.SerializeToString()
    writer.write(struct.pack(">I", len(data)) + data)


class Registry:
    """A LiveKit server as far as a worker needs one to start."""

    def __init__(self) -> None:
        self.registered = asyncio.Event()
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        """Take workers while the block runs."""
        async with serve(self._register, "127.0.0.1", 0) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _register(self, worker: ServerConnection) -> None:
        async for frame in worker:
            assert isinstance(frame, bytes), "workers speak protobuf"
            message = worker_pb.WorkerMessage.FromString(frame)
            if message.HasField("register"):
                answer = worker_pb.ServerMessage(
                    register=worker_pb.RegisterWorkerResponse(worker_id="worker-1")
                )
                await worker.send(answer.SerializeToString())
                self.registered.set()
