"""LiveKit's tools, as Hydra's type."""

from __future__ import annotations

from collections.abc import Sequence

from livekit.agents import llm

from livekit_plugins_hydra.protocol import events


def to_hydra(tools: Sequence[llm.Tool | llm.Toolset]) -> tuple[list[events.Tool], list[str]]:
    """Return the tools that Hydra can be offered, and the names of those that it can't.

    Functions of every kind are offered: plain, raw-schema, in toolsets, from MCP servers. A
    provider's own tools run on that provider's servers, so Hydra can't call them.
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
        offered.append(
            events.Tool(
                name=schema["name"],
                description=schema.get("description") or None,
                parameters=schema.get("parameters"),
            )
        )
    return offered, unsupported
