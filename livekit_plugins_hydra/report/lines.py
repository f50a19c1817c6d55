"""Reads wire logs: the lines that `livekit_plugins_hydra.transport.wirelog` writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

INPUT_RATE_HZ: Final = 16_000

_ODD: Final = 1e9
"""No number of a frame of audio is as large as this."""


class LogUnreadable(Exception):
    """There is no wire log to read; the text says why, and what to do."""


class LogLine(msgspec.Struct, frozen=True):
    """One line: a frame, or a note about its connection."""

    offset_s: float
    """Seconds since the call began."""
    call: str
    connection: int
    direction: Literal["sent", "received", "note"]
    type: str
    frame: Any
    time: str = ""
    """ISO 8601, UTC."""
    session: str | None = None
    size: int | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The frame's fields; empty where it is no JSON object."""
        return self.frame if isinstance(self.frame, dict) else {}

    def child(self, name: str) -> dict[str, Any]:
        """Return an object inside the frame; empty where there is none."""
        value = self.fields.get(name)
        return value if isinstance(value, dict) else {}

    def text(self, name: str) -> str:
        """Return a text field; empty where there is none."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""


_decoder: Final = msgspec.json.Decoder(LogLine)


PassedOver = Callable[[Path, int], None]


def read(path: Path, *, passed_over: PassedOver = lambda path, number: None) -> list[LogLine]:
    """Return all lines of a log; those that can't be read are left out.

    Args:
        path: the log.
        passed_over: takes the file and the number of each line that is left out.

    Raises:
        LogUnreadable: there is no such file, or it has no line of a wire log.
    """
    if not os.path.isfile(path):
        raise LogUnreadable(
            f"{path} is no file; a session writes one with RealtimeModel(wire_log=...) or"
            " HYDRA_WIRE_LOG"
        )
    lines = list(_lines_of(path, passed_over))
    if not lines:
        raise LogUnreadable(
            f"{path} has no line of a wire log; it should be the file of RealtimeModel(wire_log=)"
        )
    return lines


def calls_in(lines: list[LogLine]) -> dict[str, list[LogLine]]:
    """Return the lines of each call by its id, in order; the call that began last comes last."""
    by_call: dict[str, list[LogLine]] = {}
    for line in lines:
        by_call.setdefault(line.call, []).append(line)
    for of_call in by_call.values():
        of_call.sort(key=lambda line: line.offset_s)
    return dict(sorted(by_call.items(), key=lambda item: item[1][0].time))


def number(value: object, default: float = 0.0) -> float:
    """Return a number of a frame, or what stands for it where there is none."""
    return float(value) if isinstance(value, int | float) and abs(value) < _ODD else default


def parts_of(item: dict[str, Any]) -> list[Any]:
    """Return the content of an item; none where it is no list."""
    content = item.get("content")
    return content if isinstance(content, list) else []


def _lines_of(path: Path, passed_over: PassedOver) -> Iterator[LogLine]:
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    yield _decoder.decode(text)
                except (msgspec.DecodeError, UnicodeError, RecursionError):
                    if text.strip():
                        passed_over(path, number)
    except OSError as error:
        raise LogUnreadable(f"{path} can't be read: {error.strerror or error}") from None
