"""What the emulated model says unless a scenario says otherwise: one spoken sentence."""

from __future__ import annotations

import functools
from importlib.resources import as_file, files
from typing import Final

from livekit_plugins_hydra.testing import recordings

from .replies import Say


class _Sentence(Say):
    """Two seconds of speech that the package has with it."""

    def sound(self, rate_hz: int) -> bytes:
        return _read(rate_hz)


DEFAULT_REPLY: Final[Say] = _Sentence(duration_s=2.0, text="This is the emulated Hydra.")
"""Spoken by espeak-ng, voice ``en-gb+f4`` at 150 words a minute, and written by `to_opus`."""


@functools.cache
def _read(rate_hz: int) -> bytes:
    with as_file(files(__package__).joinpath("sentence.ogg")) as path:
        return recordings.read(path, rate_hz=rate_hz).tobytes()
