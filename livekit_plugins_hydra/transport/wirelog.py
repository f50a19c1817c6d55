"""A log of the wire: each frame of a call is a line of JSON, for people and for `report`.

``RealtimeModel(wire_log="wire.jsonl")`` or the environment's HYDRA_WIRE_LOG turns it on. A line::

    {"time": "2026-11-23T09:14:02.120345Z", "offset_s": 1.204871, "call": "4f0c...",
     "connection": 1, "session": "9a3e...", "direction": "received", "size": 3471,
     "type": "response.output_audio.delta",
     "frame": {"type": "response.output_audio.delta", "response_id": "r_1",
               "delta": {"bytes": 1920, "peak": 0.41}}}

``direction`` is ``sent`` or ``received`` for frames, and ``note`` for what happened to the
connection: ``type`` is then ``connection.opening``, ``connection.opened``, ``connection.failed``,
``connection.closed``, ``connection.reconnect`` or ``log.lines_lost``. ``offset_s`` counts from the
call's first attempt to connect, by the monotonic clock; ``call`` is an id of the call;
``connection`` counts the call's attempts to connect from 1.

Instead of audio, its length and its peak (1.0 is full scale) are logged. The key is never logged.
Instructions, tools, texts and outputs of functions are: they may be private, so treat the file
like the call itself.

The event loop only puts frames in a queue; a thread reads, shortens and writes them. Files rotate
at `MAX_FILE_BYTES` to ``wire.jsonl.1`` and so on.

Only one process may write and rotate a file. So in a process of Python's `multiprocessing`, such as
the job of a LiveKit worker, the process id is added to the name: ``wire-4711.jsonl``; `report`
finds these by ``wire.jsonl``, too. Separate programs need different names, or ``{pid}`` in the
name, which always becomes the process id.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import multiprocessing
import os
import queue
import re
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import QueueListener, RotatingFileHandler
from typing import Any, Final, Literal

import msgspec
import numpy as np

from livekit_plugins_hydra.log import logger, redacted

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""Size at which a file is rotated: about an hour of one call. Our choice."""

KEPT_FILES: Final = 3
"""How many rotated files are kept besides the one that is written. Our choice."""

MAX_WAITING_LINES: Final = 20_000
"""Lines that wait for the disk; more are dropped and counted. Three minutes of one call."""

STOP_BUDGET_S: Final = 0.5
"""How long the end of the last connection waits for the last lines to be written."""

_MALFORMED_CHARS: Final = 500
"""How much of a frame that is no JSON is kept."""

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{256,}={0,2}")
"""Long text without a space: audio, in a frame that this package doesn't know."""

_AUDIO_FIELDS: Final = {
    "input_audio_buffer.append": "audio",
    "response.output_audio.delta": "delta",
}

Direction = Literal["sent", "received", "note"]

Content = str | bytes
"""A frame; bytes of a text frame are UTF-8."""

Note = dict[str, Any]

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder()


class Trace:
    """One call's lines: gives each of its connections a `Tap`."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        """Prepare the lines of a call; no file is opened before `connect`.

        Args:
            path: the file, named as above; None logs nothing.
        """
        self._path = None if path is None else os.path.abspath(_of_process(os.fspath(path)))
        self.call = uuid.uuid4().hex[:12]
        """The call's id in the file."""
        self._n_connections = 0
        self._began_at = 0.0
        self._began_wall = 0.0
        self._tap: Tap | None = None

    def connect(
        self,
        *,
        secret: str = "",
        about: Mapping[str, Any] | None = None,
        at: float | None = None,
    ) -> Tap | None:
        """Return the tap of the next connection; None while nothing is logged.

        Args:
            secret: the key; it is removed from every line.
            about: the server and the options, for the first line.
            at: when, by `time.monotonic`; now by default.
        """
        if self._path is None:
            return None
        now = time.monotonic()
        at = now if at is None else at
        if not self._n_connections:
            self._began_at, self._began_wall = at, time.time() + at - now
        self._n_connections += 1
        self._tap = Tap(
            _acquire(self._path),
            call=self.call,
            connection=self._n_connections,
            began_at=self._began_at,
            began_wall=self._began_wall,
            secret=secret,
        )
        self._tap.note("connection.opening", about or {}, at=at)
        return self._tap

    def reconnect(self, reason: str) -> None:
        """Note why the present connection is left for another one."""
        if self._tap is not None:
            self._tap.note("connection.reconnect", {"reason": reason})


class Tap:
    """One connection's lines. Nothing here waits for the disk."""

    def __init__(
        self,
        log: _Log,
        *,
        call: str,
        connection: int,
        began_at: float,
        began_wall: float,
        secret: str,
    ) -> None:
        """Begin; `Trace.connect` makes one."""
        self._log: _Log | None = log
        self.call = call
        self.connection = connection
        self.began_at = began_at
        self.began_wall = began_wall
        self.secret = secret
        self.session: str | None = None
        """The server's id; set by the thread that writes, when `session.created` passes."""

    def sent(self, frame: bytes, *, at: float | None = None) -> None:
        """Log a frame of this side; `at` is by `time.monotonic`, and now by default."""
        self._put("sent", frame, at)

    def received(self, frame: Content, *, at: float | None = None) -> None:
        """Log a frame of the server, whatever it is."""
        self._put("received", frame, at)

    def note(self, kind: str, fields: Mapping[str, Any], *, at: float | None = None) -> None:
        """Log what happened to the connection."""
        self._put("note", {"type": kind, **fields}, at)

    def _put(self, direction: Direction, content: Content | Note, at: float | None) -> None:
        if self._log is not None:
            at = time.monotonic() if at is None else at
            self._log.put(_Line(self, at, direction, content))

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
        log, self._log = self._log, None
        if log is not None and _release(log):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_BUDGET_S):
                    await asyncio.to_thread(log.stop)


class _Line:
    """What the event loop puts in the queue: a frame or a note, and its time."""

    __slots__ = ("at", "content", "direction", "tap")

    def __init__(self, tap: Tap, at: float, direction: Direction, content: Content | Note) -> None:
        self.tap = tap
        self.at = at
        self.direction = direction
        self.content = content


class _Log:
    """An open file, and the thread that writes it; shared by all calls that use its path."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.n_users = 0
        self._n_lost = 0
        self._queue: queue.Queue[_Line | None] = queue.Queue(MAX_WAITING_LINES)
        self._file = _File(path)
        self._listener = _Listener(self._queue, self._file)
        self._listener.start()

    def put(self, line: _Line) -> None:
        try:
            if self._n_lost and line.direction == "note":  # notes are few
                lost = _Line(
                    line.tap, line.at, "note", {"type": "log.lines_lost", "lines": self._n_lost}
                )
                self._queue.put_nowait(lost)
                self._n_lost = 0
            self._queue.put_nowait(line)
        except queue.Full:
            self._n_lost += 1

    def stop(self) -> None:
        """Write what waits, and close the file; not to be called in the event loop."""
        self._listener.stop()
        self._file.close()


class _Listener(QueueListener):
    """Turns lines into text, in a thread."""

    def prepare(self, record: Any) -> logging.LogRecord:
        """Return a record with the text of a line."""
        try:
            text = render(record)
        except Exception:  # else it would end the thread, and the log
            logger.exception("a bug: a frame could not be written to the wire log")
            text = "{}"
        return logging.LogRecord("wire", logging.INFO, "", 0, text, None, None)

    def enqueue_sentinel(self) -> None:
        """Ask the thread to end, after all lines that wait."""
        self.queue.put(None)  # type: ignore[attr-defined]


class _File(RotatingFileHandler):
    """Appends lines; after a failure it warns once and stops."""

    def __init__(self, path: str) -> None:
        super().__init__(
            path, maxBytes=MAX_FILE_BYTES, backupCount=KEPT_FILES, encoding="utf-8", delay=True
        )
        self._is_broken = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless that has failed before."""
        if not self._is_broken:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Warn, once."""
        error = sys.exc_info()[1]
        self._is_broken = True
        why = getattr(error, "strerror", None) or type(error).__name__
        logger.warning(
            "the wire log %s can't be written (%s); the call goes on without it",
            self.baseFilename,
            why,
        )

    def close(self) -> None:
        """Close the file, even on a full disk."""
        with contextlib.suppress(OSError):
            super().close()


_logs: Final[dict[str, _Log]] = {}
_lock: Final = threading.Lock()


def _acquire(path: str) -> _Log:
    with _lock:
        log = _logs.get(path)
        if log is None:
            log = _logs[path] = _Log(path)
        log.n_users += 1
        return log


def _release(log: _Log) -> bool:
    """Give a log back; return whether nobody uses it any more."""
    with _lock:
        log.n_users -= 1
        if log.n_users:
            return False
        del _logs[log.path]
        return True


def _of_process(path: str) -> str:
    """Return this process's file; a path that is no file, such as a pipe, is kept."""
    is_job = multiprocessing.parent_process() is not None
    if is_job and "{pid}" not in path and (os.path.isfile(path) or not os.path.exists(path)):
        root, suffix = os.path.splitext(path)
        path = f"{root}-{{pid}}{suffix}"
    return path.replace("{pid}", str(os.getpid()))


# ------------------------------------------------------------------------- rendering


def render(line: _Line) -> str:
    """Return a line's text: one JSON object."""
    tap, content = line.tap, line.content
    size: int | None = None
    shown: Any = content
    if isinstance(content, dict):
        kind = content["type"]
    else:
        size = len(content)
        kind, shown = _shorten(content)
    if kind == "session.created" and isinstance(shown, dict):
        session = shown.get("session_id")
        tap.session = session if isinstance(session, str) else None
    offset_s = line.at - tap.began_at
    when = datetime.fromtimestamp(tap.began_wall + offset_s, UTC)
    fields: dict[str, Any] = {
        "time": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "offset_s": round(offset_s, 6),
        "call": tap.call,
        "connection": tap.connection,
        "session": tap.session,
        "direction": line.direction,
        "type": kind,
    }
    if size is not None:
        fields["size"] = size
    fields["frame"] = shown
    return redacted(_encoder.encode(fields).decode(), tap.secret)


def _shorten(frame: Content) -> tuple[str, Any]:
    """Return the type and content of a text frame, without its audio."""
    try:
        content = _decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        text = frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
        return "(malformed)", _printable(text)
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        return "(malformed)", _without_audio(content)
    kind = content["type"]
    field = _AUDIO_FIELDS.get(kind)
    if field is not None and isinstance(content.get(field), str):
        content[field] = _measure(content[field])
        return kind, content
    return kind, _without_audio(content)


def _printable(text: str) -> str:
    shown = text[:_MALFORMED_CHARS].encode("utf-8", "replace").decode()
    shown = _BASE64.sub("<audio?>", shown)
    rest = len(text) - _MALFORMED_CHARS
    return f"{shown}... ({rest} more)" if rest > 0 else shown


def _without_audio(value: Any) -> Any:
    """Return JSON without anything that looks like audio."""
    match value:
        case str() if len(value) >= 256 and _BASE64.fullmatch(value):
            return {"bytes": len(value) * 3 // 4}
        case dict():
            return {key: _without_audio(each) for key, each in value.items()}
        case list():
            return [_without_audio(each) for each in value]
        case _:
            return value


def _measure(audio: str) -> dict[str, Any]:
    """Return the length of audio, and its peak relative to full scale."""
    try:
        pcm = base64.b64decode(audio)
    except ValueError:
        return {"malformed": len(audio)}
    samples = np.frombuffer(pcm[: len(pcm) & ~1], dtype="<i2")
    peak = int(np.abs(samples.astype(np.int32)).max()) / 32768 if samples.size else 0.0
    return {"bytes": len(pcm), "peak": round(peak, 4)}
