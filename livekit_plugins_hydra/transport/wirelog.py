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

import base64
import functools
import os
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
import numpy as np

from livekit_plugins_hydra.log import logger

MAX_WAITING_LINES: Final = 20_000
"""Lines that wait for the disk, three minutes of one call; after that the log ends."""

STOP_BUDGET_S: Final = 0.5
"""How long the end of a process waits for the last lines of a connection."""

_AUDIO: Final = re.compile(r"[A-Za-z0-9+/]{256,}={0,2}")
"""Long text without a space, whatever the event and the field are called: 4 ms of audio or more."""

Direction = Literal["sent", "received", "note"]
Content = bytes | dict[str, Any]
"""A frame, or the fields of a note."""
Line = tuple[float, Direction, Content]

_LAST_LINES: Final = "hydra.wirelog: last lines"
"""The name of threads that wait for the disk; the end of the process waits for them."""


def finish() -> None:
    """Wait a moment until what was logged is on the disk; one that hangs is not waited for."""
    for thread in threading.enumerate():
        if thread.name == _LAST_LINES:
            thread.join()


class Trace:
    """One call's lines: gives each of its connections a `Tap`."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        """Prepare the lines of a call; None logs nothing."""
        self.path = None if path is None else os.path.abspath(path)
        """The file; None once it has failed, too."""
        self.call = uuid.uuid4().hex[:12]
        """The call's id in the file."""
        self.began_at = 0.0
        self.began_wall = 0.0
        self._n_connections = 0
        self._tap: Tap | None = None

    def connect(
        self,
        *,
        redact: Callable[[bytes], bytes] = bytes,
        about: Mapping[str, Any] | None = None,
        at: float | None = None,
    ) -> Tap:
        """Return the tap of the next connection.

        Args:
            redact: cuts the key out of each line.
            about: the server and the options, for the first line.
            at: when, by `time.monotonic`; now by default.
        """
        now = time.monotonic()
        at = now if at is None else at
        if not self._n_connections:
            self.began_at, self.began_wall = at, time.time() + at - now
        self._n_connections += 1
        self._tap = Tap(self, connection=self._n_connections, redact=redact)
        self._tap.note("connection.opening", about or {}, at=at)
        return self._tap

    def reconnect(self, reason: str) -> None:
        """Note why the present connection is left for another one."""
        if self._tap is not None:
            self._tap.note("connection.reconnect", {"reason": reason})


class Tap:
    """One connection's lines, and the thread that writes them. Nothing here waits for the disk."""

    def __init__(self, trace: Trace, *, connection: int, redact: Callable[[bytes], bytes]) -> None:
        """Open the file; `Trace.connect` makes one."""
        self.trace = trace
        self.connection = connection
        self.redact = redact
        self.session: str | None = None
        """The server's id; set by the thread, when `session.created` passes."""
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, args=(trace.path,), daemon=True)
        self._is_over = trace.path is None
        if not self._is_over:
            self._thread.start()

    def sent(self, frame: bytes, *, at: float | None = None) -> None:
        """Log a frame of this side; `at` is by `time.monotonic`, and now by default."""
        self._put("sent", frame, at)

    def received(self, frame: bytes, *, at: float | None = None) -> None:
        """Log a frame of the server, whatever it is."""
        self._put("received", frame, at)

    def note(self, kind: str, fields: Mapping[str, Any], *, at: float | None = None) -> None:
        """Log what happened to the connection."""
        self._put("note", {"type": kind, **fields}, at)

    def failed(self, error: BaseException) -> None:
        """Log that the connection could not be opened; the last line."""
        self.note("connection.failed", {"error": str(error) or type(error).__name__})
        self._end()

    def closed(
        self, code: int | None, reason: str, *, by_server: bool | None, at: float | None = None
    ) -> None:
        """Log the end of the connection, the last line; `by_server` is None if nobody closed it."""
        by = {True: "server", False: "client", None: "nobody"}[by_server]
        self.note("connection.closed", {"code": code, "reason": reason, "by": by}, at=at)
        self._end()

    def _put(self, direction: Direction, content: Content, at: float | None) -> None:
        if not self._is_over:
            self._lines.put((time.monotonic() if at is None else at, direction, content))
            if self._lines.qsize() > MAX_WAITING_LINES:
                self._give_up("the disk is too slow")

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._lines.put(None)
            wait = functools.partial(self._thread.join, STOP_BUDGET_S)
            threading.Thread(target=wait, name=_LAST_LINES).start()

    def _write(self, path: str) -> None:
        try:
            with open(path, "ab", buffering=0) as file:
                for line in iter(self._lines.get, None):
                    file.write(_render(self, *line) + b"\n")
        except OSError as error:
            self._give_up(error.strerror or type(error).__name__)

    def _give_up(self, why: str) -> None:
        path, self.trace.path = self.trace.path, None
        self._is_over = True
        self._lines.put(None)
        if path is not None:
            logger.warning(
                "the wire log %s can't be written (%s); the call goes on without it", path, why
            )


# ------------------------------------------------------------------------- rendering


def _render(tap: Tap, at: float, direction: Direction, content: Content) -> bytes:
    """Return a line: one JSON object."""
    if isinstance(content, bytes):
        kind, shown = _read(content)
    else:
        kind, shown = content["type"], content
    if kind == "session.created":
        session = shown.get("session_id")
        tap.session = session if isinstance(session, str) else None
    offset_s = at - tap.trace.began_at
    when = datetime.fromtimestamp(tap.trace.began_wall + offset_s, UTC)
    fields = {
        "time": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "offset_s": round(offset_s, 6),
        "call": tap.trace.call,
        "connection": tap.connection,
        "session": tap.session,
        "direction": direction,
        "type": kind,
        "size": len(content) if isinstance(content, bytes) else None,
        "frame": shown,
    }
    return tap.redact(msgspec.json.encode(fields))


def _read(frame: bytes) -> tuple[str, Any]:
    """Return the type and content of a frame, without its audio."""
    try:
        content = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "(malformed)", frame.decode("utf-8", "replace")[:500]
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
