"""The emulator at a terminal: a line for each event, refusal and close, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Final, TypeAlias

from .books import Observed, describe
from .records import ConnectionRecord, Dial, Received, Sent, Violation
from .server import Emulator

_INPUT_BYTES_PER_S: Final = 32_000

Write: TypeAlias = Callable[[str], object]


class ConsoleObserver:
    """Writes a line for each event: seconds since the connection began, number, arrow, event.

    Audio that follows audio makes one line, written when something else comes: its length. `ended`
    writes a line for each attempt to connect that was refused, and each connection that has ended.

    Args:
        write: takes a line.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._n_received: dict[int, int] = {}
        self._n_sent: dict[int, int] = {}

    def __call__(self, record: ConnectionRecord, what: Observed) -> None:
        """Take note of one event or violation."""
        match what:
            case Received(n_audio_bytes=n_bytes) if n_bytes:
                self._n_received[record.number] = self._n_received.get(record.number, 0) + n_bytes
            case Sent(n_audio_bytes=n_bytes) if n_bytes:
                self._n_sent[record.number] = self._n_sent.get(record.number, 0) + n_bytes
            case _:
                self._write_audio(record, what.at_s)
                arrow = {Received: ">", Sent: "<", Violation: "!"}[type(what)]
                self._write_line(record, what.at_s, f"{arrow} {describe(what)}")

    def ended(self, what: Dial | ConnectionRecord) -> None:
        """Take note of a refusal, or of a connection's end."""
        match what:
            case Dial(status=0):
                self._write(f"         x cut off without an answer, {_of(what)}")
            case Dial():
                self._write(f"         x refused with HTTP {what.status}, {_of(what)}")
            case ConnectionRecord():
                at_s = what.closed_at_s or what.opened_at_s
                self._write_audio(what, at_s)
                self._write_line(what, at_s, f"x {_close_of(what)}")

    def _write_audio(self, record: ConnectionRecord, at_s: float) -> None:
        if n_bytes := self._n_received.pop(record.number, 0):
            duration_s = n_bytes / _INPUT_BYTES_PER_S
            self._write_line(record, at_s, f"> audio, {duration_s:.2f} s")
        if n_bytes := self._n_sent.pop(record.number, 0):
            duration_s = n_bytes / 2 / record.output_rate_hz
            self._write_line(record, at_s, f"< audio, {duration_s:.2f} s")

    def _write_line(self, record: ConnectionRecord, at_s: float, text: str) -> None:
        self._write(f"{at_s - record.opened_at_s:8.3f} #{record.number} {text}")


def _of(dial: Dial) -> str:
    where = "no key" if dial.auth == "none" else f"key in the {dial.auth}"
    return f"{dial.model or 'no model'}, {where}"


def _close_of(record: ConnectionRecord) -> str:
    if record.closed_by_client is None:
        return f"lost without a close frame ({record.close_code})"
    who = "client" if record.closed_by_client else "server"
    return f"closed by the {who}: {record.close_code} {record.close_reason}".rstrip()


async def serve_until_stopped(server: Emulator, write: Write) -> None:
    """Run `server` until SIGINT or SIGTERM, after writing how to point a client at it.

    What its scenario raises is left to its ``on_fault``.

    Raises:
        OSError: it can't listen.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    await server.start()
    try:
        write("Hydra is emulated here. Point the plugin at it with:")
        write(f"HYDRA_BASE_URL={server.url} SMALLEST_API_KEY=anything")
        write("Ctrl-C ends it.")
        await stopped.wait()
    finally:
        await server.aclose()
