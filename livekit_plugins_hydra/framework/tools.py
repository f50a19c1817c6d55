"""LiveKit's tools, as Hydra's type, and the arguments that come back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import accumulate
from pathlib import PurePath
from typing import Any, Final

import msgspec
from livekit.agents import llm

from livekit_plugins_hydra.protocol import events, wire
from livekit_plugins_hydra.protocol.errors import ConfigurationError

MAX_DEPTH: Final = 200
"""Deepest nesting of arguments. What is deeper, LiveKit's first parser refuses, and its second one
raises `RecursionError`."""

_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[{]|[\]}]")


def to_hydra(tools: Sequence[llm.Tool | llm.Toolset]) -> tuple[list[events.Tool], list[str]]:
    """Return the tools that Hydra can be offered, and the names of those that it can't.

    Functions of every kind are offered: plain, raw-schema, in toolsets, from MCP servers. A
    provider's own tools run on that provider's servers, so Hydra can't call them.

    Raises:
        ConfigurationError: a schema has what can't be JSON.
    """
    offered: list[events.Tool] = []
    unsupported: list[str] = []
    # Even without tools, a ToolContext takes a fifth of a millisecond to make.
    for tool in llm.ToolContext(tools).flatten() if tools else ():
        match tool:
            case llm.FunctionTool():
                schema = llm.utils.build_legacy_openai_schema(tool, internally_tagged=True)
            case llm.RawFunctionTool():
                schema = dict(tool.info.raw_schema)
            case _:
                unsupported.append(getattr(tool, "id", "") or type(tool).__name__)
                continue
        offered.append(_offer(schema))
    return offered, unsupported


def _offer(schema: dict[str, Any]) -> events.Tool:
    name = _as_json(schema["name"], "name")
    try:
        return events.Tool(
            name=name,
            description=_as_json(schema.get("description") or None, "description"),
            parameters=_as_json(schema.get("parameters"), "parameters"),
        )
    except ValueError as error:
        problem = str(error)
    except RecursionError:
        problem = "its parameters contain themselves, or are nested too deeply"
    raise ConfigurationError(f"the tool {name!r} can't be offered to Hydra: {problem}")


def _as_json(value: Any, path: str) -> Any:
    """Return `value` in the plain types of JSON, as programs leave others in their schemas.

    Raises:
        ValueError: it can't be JSON; the text names `path`.
    """
    match value:
        case None | bool():
            return value
        case Enum(value=inner):
            return _as_json(inner, path)
        case str() | PurePath():
            return wire.plain_text(str(value))
        case int():
            return int(value)
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{path} is {value}, which can't be JSON")
            return float(value)
        case Mapping():
            return {_key(key, path): _as_json(each, f"{path}.{key}") for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_as_json(each, f"{path}[{number}]") for number, each in enumerate(value)]
        case _ if hasattr(value, "tolist"):  # numpy's numbers and arrays
            return _as_json(value.tolist(), path)
    try:
        return msgspec.to_builtins(value)  # dates, UUIDs, decimals
    except TypeError:
        kind = type(value).__name__
    raise ValueError(f"{path} is of type {kind}, which can't be JSON")


def _key(key: Any, path: str) -> str:
    plain = _as_json(key, path)
    if not isinstance(plain, str | int | float) or isinstance(plain, bool):
        raise ValueError(f"{path} has a key of type {type(key).__name__}, which can't be JSON")
    return str(plain)


def readable(arguments: str) -> str:
    """Return arguments as LiveKit can read them: what is nested too deeply becomes a complaint.

    LiveKit answers the function call with it. Source: `llm/utils.py`, `parse_function_arguments`.
    """
    if arguments.count("[") + arguments.count("{") <= MAX_DEPTH:
        return arguments
    brackets = _BRACKET.findall(_TEXT.sub("", arguments))
    depths = accumulate(1 if bracket in "[{" else -1 for bracket in brackets)
    if max(depths, default=0) <= MAX_DEPTH:
        return arguments
    return json.dumps(f"nested more than {MAX_DEPTH} levels deep")
