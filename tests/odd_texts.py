"""Texts as programs have them that are no plain `str`, and for which all libraries take them."""

from __future__ import annotations

from enum import Enum


class Scalar(str):
    """As a YAML file's scalar, markupsafe's Markup and the like: a `str`, and nothing else."""

    __slots__ = ()


class Safe(str):
    """As Django's SafeString: `str()` of it is itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return self


class Voice(str, Enum):  # noqa: UP042 - not a StrEnum: that is the point
    """A `str` whose `str()` is no value: `Voice.ARIA`."""

    ARIA = "aria"
