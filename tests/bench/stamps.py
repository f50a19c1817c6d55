"""Times that travel inside of what is sent, so that two processes can tell how long it took.

The clock is `time.monotonic`, which all processes of a machine share on Linux.
"""

from __future__ import annotations

import base64
import re
import struct
import time
from typing import Final

_MARK: Final = b"\x7fH\x80S"
_FORMAT: Final = struct.Struct("<4sq")

_WORD: Final = re.compile(r"\bat(\d{6,})")

BYTES: Final = _FORMAT.size
"""Length of a stamp in PCM: six samples."""

CHARS: Final = BYTES * 4 // 3
"""Its length in base64: it ends on a whole character, so the rest can be prebuilt."""


def now() -> bytes:
    """Return the present, to stand at the beginning of a piece of PCM."""
    return _FORMAT.pack(_MARK, time.monotonic_ns())


def now_in_base64() -> str:
    """Return the present, to stand at the beginning of PCM in base64."""
    return base64.b64encode(now()).decode()


def age_s(pcm: bytes | memoryview) -> float | None:
    """Return how long ago the stamp at the beginning of PCM was made; None where there is none."""
    if len(pcm) < BYTES:
        return None
    mark, at_ns = _FORMAT.unpack_from(pcm)
    return (time.monotonic_ns() - at_ns) / 1e9 if mark == _MARK else None


def age_in_base64_s(frame: str, key: str) -> float | None:
    """Return the same of a frame of JSON, for the PCM in base64 under `key`."""
    at = frame.find(f'"{key}":')
    at = frame.find('"', at + len(key) + 3) + 1
    return age_s(base64.b64decode(frame[at : at + CHARS]))


def now_in_text() -> str:
    """Return the present as a word, to stand in a text."""
    return f"at{time.monotonic_ns()}"


def age_of_text_s(text: str) -> float:
    """Return how long ago the word in a text was made, in seconds."""
    found = _WORD.search(text)
    assert found is not None, "the text has a stamp"
    return (time.monotonic_ns() - int(found[1])) / 1e9
