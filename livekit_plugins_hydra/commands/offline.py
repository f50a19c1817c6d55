"""What the emulator answers with ``--offline``: it calls each tool once, and speaks otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from livekit_plugins_hydra.testing import Call, Context, Reply, Scenario


def answer(context: Context) -> Reply:
    """Call each tool once, one a turn, and say the emulator's own sentence otherwise."""
    tools = context.tools
    number = context.response_number - 1
    # A turn with a call takes two responses, so every other one is a user's.
    if context.trigger == "user_turn" and number % 2 == 0 and number // 2 < len(tools):
        tool = tools[number // 2]
        return Call(tool.name, sample(tool.parameters or {}))
    return Scenario().default_reply


SCENARIO: Final = Scenario(replies=answer, think_s=0.3, transcripts=True)
"""How the emulator behaves where no ``--scenario`` says it."""


def sample(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that fit a JSON schema: the defaults, or something simple."""
    value = _sample(schema, schema.get("$defs", {}), depth=0)
    return value if isinstance(value, dict) else {}


_DEPTH: Final = 8
"""How deep a sample goes: schemas may contain themselves."""

_SIMPLE: Final[dict[str, Any]] = {
    "string": "example",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "array": [],
    "null": None,
}


def _sample(schema: Mapping[str, Any], definitions: Mapping[str, Any], *, depth: int) -> Any:
    if depth > _DEPTH:
        return None
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return _sample(definitions.get(name, {}), definitions, depth=depth + 1)
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _sample(schema[key][0], definitions, depth=depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        return {
            name: _sample(properties.get(name, {}), definitions, depth=depth + 1)
            for name in schema.get("required", ())
        }
    if kind in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    return json.loads(json.dumps(_SIMPLE.get(str(kind), "example")))
