"""Scenarios in files: ``.toml`` for those without code, ``.py`` for those with.

A ``.py`` file has a `Scenario` named ``scenario``. A ``.toml`` file has the fields of `Scenario`,
``switches`` with names of `SWITCHES` and `FAULTS`, and a table for each reply::

    think_s = 0.4
    switches = ["transcripts", "late_deltas"]

    [[replies]]
    say = "Hello, this is the weather line."    # a tone; or wav = "hello.wav", beside this file

    [[replies]]
    call = "get_weather"
    arguments = { city = "Lisbon" }

    [[replies]]                                 # several pieces in one response
    pieces = [{ say = "One moment." }, { wait = 0.5 }, { call = "get_weather" }]

    [[replies]]
    end = "incomplete"
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import os
import sys
import tomllib
import types
import typing
import wave
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from .replies import Call, End, Piece, Reply, Say, Wait, pieces_of
from .scenario import Scenario
from .switches import FAULTS, SWITCHES


class ScenarioUnreadable(Exception):
    """A file has no scenario; the text says what is wrong where, and what would be right."""


def read_scenario(path: Path) -> Scenario:
    """Return the scenario in a file.

    Raises:
        ScenarioUnreadable: there is none.
    """
    if not os.path.isfile(path):  # Path.is_file raises where a folder can't be entered
        raise ScenarioUnreadable(f"{path} is no file")
    match path.suffix:
        case ".toml":
            try:
                return _from_toml(path)
            except _Wrong as problem:
                raise ScenarioUnreadable(f"{path}: {problem}") from None
        case ".py":
            return _from_python(path)
        case _:
            raise ScenarioUnreadable(f"{path} is neither .toml nor .py")


class _Wrong(Exception):
    """Something in a file that does not fit."""


_MODULE: Final = "_hydra_scenario"
"""The name of a file's module; its own might be another module's."""


def _from_python(path: Path) -> Scenario:
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise ScenarioUnreadable(f"{path} can't be run")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # where dataclasses look for what annotations name
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does
        raise ScenarioUnreadable(f"{path}: {type(error).__name__}: {error}") from error
    scenario = getattr(module, "scenario", None)
    if not isinstance(scenario, Scenario):
        raise ScenarioUnreadable(f"{path} needs a line like: scenario = Scenario(replies=[...])")
    return scenario


def _from_toml(path: Path) -> Scenario:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _Wrong(str(error)) from None
    switches = table.pop("switches", [])
    replies = table.pop("replies", None)
    default_reply = table.pop("default_reply", None)
    fields: dict[str, Any] = {}
    for name in _names(switches):
        fields |= {**SWITCHES, **FAULTS}[_known(name, {**SWITCHES, **FAULTS}, "switch")]
    fields |= _fields(table)
    if replies is not None:
        if not isinstance(replies, list):
            raise _Wrong("replies are tables: [[replies]]")
        fields["replies"] = tuple(_reply(each, path.parent) for each in replies)
    if default_reply is not None:
        fields["default_reply"] = _reply(default_reply, path.parent)
    try:
        scenario = Scenario(**fields)
    except ValueError as problem:
        raise _Wrong(str(problem)) from None
    _check_sounds(scenario)
    return scenario


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _Wrong("switches is a list of names")
    return value


def _known(name: str, known: Collection[str], what: str) -> str:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
        raise _Wrong(f"there is no {what} {name!r}{hint}")
    return name


# ------------------------------------------------------------------------- fields

_IN_CODE: Final = frozenset({"replies", "default_reply"})


def _fields(table: Mapping[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(Scenario)
    known = [each.name for each in dataclasses.fields(Scenario) if each.name not in _IN_CODE]
    fields: dict[str, Any] = {}
    for name, value in table.items():
        hint = hints[_known(name, known, "field")]
        if not _fits(value, hint):
            raise _Wrong(f"{name} = {value!r} does not fit: it takes {_said(hint)}")
        fields[name] = value
    return fields


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in typing.get_args(hint))
    if origin is Collection:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (int, str, dict):
        return isinstance(value, hint) and not isinstance(value, bool)
    return hint is bool and isinstance(value, bool)


def _said(hint: Any) -> str:
    """Return what a field takes, in the words of a TOML file."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return " or ".join(f'"{each}"' for each in typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        kinds = [_said(each) for each in typing.get_args(hint) if each is not type(None)]
        return " or ".join(kind for kind in kinds if kind)
    if origin is Collection:
        return "a list of names"
    words = {
        float: "a number",
        int: "a whole number",
        str: "text",
        bool: "true or false",
        dict: "a table",
    }
    return words.get(hint, "code, so it needs a .py file")


# ------------------------------------------------------------------------- replies

_FIELDS_OF: Final[dict[str, dict[str, Any]]] = {
    "say": {"say": str, "wav": str, "tone_hz": float, "duration_s": float},
    "wav": {"wav": str, "say": str},
    "call": {"call": str, "arguments": dict | str, "call_id": str, "delta_s": float},
    "wait": {"wait": float},
    "end": {
        "end": Literal["incomplete", "failed", "completed", "cancelled"],
        "reason": str,
        "error_code": str,
    },
}
"""What a piece may have, by its first field."""


def _reply(table: Any, folder: Path) -> Reply:
    if not isinstance(table, dict):
        raise _Wrong(f"a reply is a table, not {table!r}")
    if "pieces" not in table:
        return _piece(table, folder)
    pieces = table["pieces"]
    if len(table) > 1 or not isinstance(pieces, list):
        raise _Wrong("a reply has either pieces, a list of tables, or one piece")
    return tuple(_piece(each, folder) for each in pieces)


def _piece(table: Any, folder: Path) -> Piece:
    if not isinstance(table, dict):
        raise _Wrong(f"a piece is a table, not {table!r}")
    kind = next((each for each in _FIELDS_OF if each in table), None)
    if kind is None:
        raise _Wrong(f"a piece has one of {', '.join(_FIELDS_OF)}; this one has {list(table)}")
    for name, value in table.items():
        hint = _FIELDS_OF[kind][_known(name, _FIELDS_OF[kind], f"field of {kind!r}")]
        if not _fits(value, hint):
            raise _Wrong(f"{name} = {value!r} does not fit: it takes {_said(hint)}")
    more = {name: value for name, value in table.items() if name != kind}
    try:
        match kind:
            case "call":
                return Call(table[kind], **more)
            case "wait":
                return Wait(table[kind])
            case "end" if table[kind] == "completed":
                return End("completed", **{"reason": None} | more)
            case "end":
                return End(table[kind], **more)
            case _:
                return _say(table, folder)
    except ValueError as problem:
        raise _Wrong(str(problem)) from None


def _say(table: Mapping[str, Any], folder: Path) -> Say:
    return Say(
        text=table.get("say"),
        wav=folder / table["wav"] if "wav" in table else None,
        tone_hz=float(table.get("tone_hz", Say.tone_hz)),
        duration_s=float(table.get("duration_s", Say.duration_s)),
    )


def _check_sounds(scenario: Scenario) -> None:
    """Fail now and not in the middle of a call where a recording can't be read."""
    replies = [] if callable(scenario.replies) else list(scenario.replies)
    for reply in (*replies, scenario.default_reply):
        for piece in pieces_of(reply):
            if isinstance(piece, Say) and piece.wav is not None:
                try:
                    piece.sound(16_000)
                except (OSError, EOFError, ValueError, wave.Error) as error:
                    raise _Wrong(f"{piece.wav} can't be read as a 16-bit wav: {error}") from None
