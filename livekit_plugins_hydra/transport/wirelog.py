"""A log of the wire: each frame of a call is a line of JSON, for people and for `report`.

``RealtimeModel(wire_log="wire.jsonl")`` or the environment's HYDRA_WIRE_LOG turns it on. A line::

    {"time": "2026-11-23T09:14:02.120345Z", "offset_s": 1.204871, "call": "4f0c...",
     "connection": 1, "session": "9a3e...", "direction": "received", "size": 3471,
     "type": "response.output_audio.delta",
     "frame": {"type": "response.output_audio.delta", "response_id": "r_1",
               "delta": {"bytes": 1920, "peak": 0.41}}}

``direction`` is ``sent`` or ``received`` for frames, and ``note`` for what happened to the
connection: ``type`` is then ``connection.opening``, ``connection.opened``, ``connection.failed``,
``connection.closed`` or ``connection.reconnect``. ``offset_s`` counts from the call's first attempt
to connect, by the monotonic clock; ``call`` is an id of the call; ``connection`` counts the call's
attempts to connect from 1.

Instead of audio, its length and its peak (1.0 is full scale) are logged. The key is never logged.
Instructions, tools, texts and outputs of functions are: they may be private, so treat the file
like the call itself.

The event loop only puts frames in a queue; a thread reads, shortens and writes them. Each line is
appended in one write, so that all calls may share a file, those of other processes, too.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import queue
import re
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from livekit_plugins_hydra.log import logger, redacted

MAX_WAITING_LINES: Final = 20_000
"""Lines that wait for the disk, three minutes of one call; after that the log ends."""

STOP_BUDGET_S: Final = 0.5
"""How long the end of the last connection waits for the last lines to be written."""

_MALFORMED_CHARS: Final = 500
"""How much of a frame that is no JSON is kept."""

_AUDIO: Final = re.compile(r"[A-Za-z0-9+/]{256,}={0,2}")
"""Long text without a space, whatever the event and the field are called: 4 ms of audio or more."""

Direction = Literal["sent", "received", "note"]


class Trace:
    """One call's lines: gives each of its connections a `Tap`."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        """Prepare the lines of a call; no file is opened before `connect`.

        Args:
            path: the file; None logs nothing.
        """
        self._path = None if path is None else os.path.abspath(path)
        self.call = uuid.uuid4().hex[:12]
        """The call's id in the file."""
        self.began_at = 0.0
        self.began_wall = 0.0
        self._n_connections = 0
        self._tap: Tap | None = None
        self._file: _File | None = None

    def connect(
        self,
        *,
        secret: str = "",
        about: Mapping[str, Any] | None = None,
        at: float | None = None,
    ) -> Tap:
        """Return the tap of the next connection.

        Args:
            secret: the key; it is removed from every line.
            about: the server and the options, for the first line.
            at: when, by `time.monotonic`; now by default.
        """
        now = time.monotonic()
        at = now if at is None else at
        if not self._n_connections:
            self.began_at, self.began_wall = at, time.time() + at - now
        self._n_connections += 1
        if self._path is not None and (self._file is None or not self._file.n_taps):
            self._file = _File(self._path)
        self._tap = Tap(self, self._file, connection=self._n_connections, secret=secret)
        self._tap.note("connection.opening", about or {}, at=at)
        return self._tap

    def reconnect(self, reason: str) -> None:
        """Note why the present connection is left for another one."""
        if self._tap is not None:
            self._tap.note("connection.reconnect", {"reason": reason})


class Tap:
    """One connection's lines. Nothing here waits for the disk."""

    def __init__(self, trace: Trace, file: _File | None, *, connection: int, secret: str) -> None:
        """Begin; `Trace.connect` makes one."""
        self.trace = trace
        self.connection = connection
        self.secret = secret
        self.session: str | None = None
        """The server's id; set by the thread that writes, when `session.created` passes."""
        self._file = file
        if file is not None:
            file.n_taps += 1

    def sent(self, frame: bytes, *, at: float | None = None) -> None:
        """Log a frame of this side; `at` is by `time.monotonic`, and now by default."""
        self._put("sent", frame, at)

    def received(self, frame: bytes, *, at: float | None = None) -> None:
        """Log a frame of the server, whatever it is."""
        self._put("received", frame, at)

    def note(self, kind: str, fields: Mapping[str, Any], *, at: float | None = None) -> None:
        """Log what happened to the connection."""
        self._put("note", {"type": kind, **fields}, at)

    def _put(self, direction: Direction, content: bytes | dict[str, Any], at: float | None) -> None:
        if self._file is not None:
            self._file.put(_Line(self, time.monotonic() if at is None else at, direction, content))

    async def failed(self, error: BaseException) -> None:
        """Log that the connection could not be opened; the last line."""
        self.note("connection.failed", {"error": str(error) or type(error).__name__})
        await self._end()

    async def closed(
        self, code: int | None, reason: str, *, by_server: bool | None, at: float | None = None
    ) -> None:
        """Log the end of the connection; the last line.

        Args:
            code: of the close frame; None or 1006 where none came.
            reason: of the close frame.
            by_server: who sent the first close frame; None where nobody did.
            at: when, by `time.monotonic`; now by default.
        """
        by = {True: "server", False: "client", None: "nobody"}[by_server]
        self.note("connection.closed", {"code": code, "reason": reason, "by": by}, at=at)
        await self._end()

    async def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.release()


class _Line(NamedTuple):
    """A frame or a note, and its time."""

    tap: Tap
    at: float
    direction: Direction
    content: bytes | dict[str, Any]


class _File:
    """An open file, and the thread that writes it."""

    def __init__(self, path: str) -> None:
        self.n_taps = 0
        """How many connections use it."""
        self._path = path
        self._is_broken = False
        self._lines: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._written = asyncio.Event()
        threading.Thread(target=self._write, name="hydra.wirelog", daemon=True).start()

    def put(self, line: _Line) -> None:
        if self._is_broken:
            return
        self._lines.put(line)
        if self._lines.qsize() > MAX_WAITING_LINES:
            self._give_up("the disk is too slow")

    async def release(self) -> None:
        """Give it back; the last user waits a moment for what is not written yet."""
        self.n_taps -= 1
        if not self.n_taps:
            self._lines.put(None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_BUDGET_S):
                    await self._written.wait()

    def _write(self) -> None:
        try:
            with open(self._path, "ab", buffering=0) as file:
                for line in iter(self._lines.get, None):
                    file.write(render(line).encode() + b"\n")
        except OSError as error:
            self._give_up(error.strerror or type(error).__name__)
        finally:
            with contextlib.suppress(RuntimeError):  # the event loop did not wait, and is closed
                self._loop.call_soon_threadsafe(self._written.set)

    def _give_up(self, why: str) -> None:
        self._is_broken = True
        logger.warning(
            "the wire log %s can't be written (%s); the call goes on without it", self._path, why
        )


# ------------------------------------------------------------------------- rendering


def render(line: _Line) -> str:
    """Return a line's text: one JSON object."""
    tap, content = line.tap, line.content
    if isinstance(content, bytes):
        kind, shown = _read(content)
    else:
        kind, shown = content["type"], content
    if kind == "session.created":
        session = shown.get("session_id")
        tap.session = session if isinstance(session, str) else None
    offset_s = line.at - tap.trace.began_at
    when = datetime.fromtimestamp(tap.trace.began_wall + offset_s, UTC)
    fields = {
        "time": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "offset_s": round(offset_s, 6),
        "call": tap.trace.call,
        "connection": tap.connection,
        "session": tap.session,
        "direction": line.direction,
        "type": kind,
        "size": len(content) if isinstance(content, bytes) else None,
        "frame": shown,
    }
    return redacted(msgspec.json.encode(fields).decode(), tap.secret)


def _read(frame: bytes) -> tuple[str, Any]:
    """Return the type and content of a frame, without its audio."""
    try:
        content = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "(malformed)", frame.decode("utf-8", "replace")[:_MALFORMED_CHARS]
    kind = content.get("type") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else "(malformed)", _without_audio(content)


def _without_audio(value: Any) -> Any:
    """Return JSON without anything that looks like audio."""
    match value:
        case str() if _AUDIO.fullmatch(value):
            return _measure(value)
        case dict():
            return {key: _without_audio(each) for key, each in value.items()}
        case list():
            return [_without_audio(each) for each in value]
        case _:
            return value


def _measure(audio: str) -> dict[str, Any]:
    """Return the length of audio, and its peak relative to full scale."""
    pcm = base64.b64decode(audio[: len(audio) & ~3])
    samples = np.frombuffer(pcm[: len(pcm) & ~1], dtype="<i2")
    peak = int(np.abs(samples.astype(np.int32)).max()) / 32768
    return {"bytes": len(pcm), "peak": round(peak, 4)}
