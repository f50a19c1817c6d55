"""Which server a command talks to: the real one, or with ``--offline`` the emulator."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import typer
from livekit.agents.types import NOT_GIVEN

from livekit_plugins_hydra import RealtimeModel
from livekit_plugins_hydra.options import Auth, resolve_key
from livekit_plugins_hydra.protocol.errors import ConfigurationError
from livekit_plugins_hydra.testing import Call, Context, Emulator, Reply, Say, Scenario

from .exits import Exit, stop

Offline = Annotated[
    bool,
    typer.Option("--offline", help="Talk to an emulated Hydra in this process; needs no key."),
]
Model = Annotated[str, typer.Option(help="hydra-v1.1, hydra-v1.0 or hydra.", show_default=False)]
Voice = Annotated[str, typer.Option(help="A voice of the model.", show_default=False)]
BaseUrl = Annotated[
    str,
    typer.Option(
        help="Where to connect, instead of Smallest AI's server.",
        envvar="HYDRA_BASE_URL",
        show_default=False,
    ),
]
Header = Annotated[
    bool, typer.Option("--header", help="Send the key in a header instead of in the URL.")
]

OFFLINE_KEY: Final = "offline-needs-no-key"

_SPOKEN: Final = Say(
    duration_s=2.5, tone_hz=330, text="This is the emulated Hydra: a tone speaks for it."
)


def require_key(*, is_offline: bool) -> None:
    """End the command if there is no key to call with."""
    if is_offline:
        return
    try:
        resolve_key(None)
    except ConfigurationError as problem:
        is_missing = not os.environ.get("SMALLEST_API_KEY", "").strip()
        what = "There is no API key." if is_missing else str(problem)
        stop(
            Exit.NO_KEY,
            what,
            "Set SMALLEST_API_KEY to a key from Smallest AI's console, or try --offline, which"
            " needs none.",
        )


@asynccontextmanager
async def emulated(
    scenario: Scenario | None = None, *, is_offline: bool
) -> AsyncIterator[Emulator | None]:
    """Run the emulator while the block lasts, if it is wanted."""
    if not is_offline:
        yield None
        return
    scenario = scenario or Scenario(replies=_answer, think_s=0.3, transcripts=True)
    async with Emulator(scenario, strict=False) as server:
        yield server


def model_of(
    server: Emulator | None,
    *,
    model: str = "",
    voice: str = "",
    base_url: str = "",
    header: bool = False,
    wire_log: str | None = None,
) -> RealtimeModel:
    """Return the model that a command calls with, or end the command."""
    auth: Auth = "header" if header else "query"
    try:
        return RealtimeModel(
            model=model or NOT_GIVEN,
            voice=voice or NOT_GIVEN,
            base_url=server.url if server else base_url or None,
            api_key=OFFLINE_KEY if server else None,
            auth=auth,
            wire_log=wire_log,
        )
    except ConfigurationError as problem:
        stop(Exit.USAGE, str(problem))


def _answer(context: Context) -> Reply:
    """Call each tool once, one a turn, and speak otherwise: what the emulator does offline."""
    tools = context.tools
    number = context.response_number - 1
    # A turn with a call takes two responses, so every other one is a user's.
    if context.trigger == "user_turn" and number % 2 == 0 and number // 2 < len(tools):
        tool = tools[number // 2]
        return Call(tool.name, sample(tool.parameters or {}))
    return _SPOKEN


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
