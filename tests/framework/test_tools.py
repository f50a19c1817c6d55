"""Tools as Hydra is offered them, whatever their schemas are made of, and their arguments."""

from __future__ import annotations

import json
from collections import OrderedDict
from datetime import date
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from livekit.agents import Agent, AgentSession, function_tool, llm
from livekit.agents.llm import RealtimeModelFallbackAdapter

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.framework.tools import MAX_DEPTH, readable, to_hydra
from livekit_plugins_hydra.protocol import wire
from livekit_plugins_hydra.protocol.events import ClientSession, SessionUpdate
from livekit_plugins_hydra.testing import Call, Emulator, Say, Scenario
from tests.calls import KEY, call, tone
from tests.direct import line
from tests.odd_texts import Safe, Scalar, Voice


class Real(float):
    """As a YAML file's ScalarFloat."""


class Whole(int):
    """As a YAML file's ScalarInt."""


class Level(IntEnum):
    """A number with a name."""

    HIGH = 3


class Unit(Enum):
    """Something with a name."""

    METRE = "m"


def tool(schema: dict[str, Any]) -> llm.Tool:
    """Return a function with a raw schema."""

    async def run(raw_arguments: dict[str, object]) -> str:
        return "done"

    return function_tool(run, raw_schema=schema)


def with_property(value: Any) -> llm.Tool:
    """Return a function whose schema has something in it."""
    return tool({"name": "roll", "description": "", "parameters": {"bias": value}})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Scalar("a die"), "a die"),
        (Safe("a die"), "a die"),
        (Voice.ARIA, "aria"),
        (Unit.METRE, "m"),
        (Level.HIGH, 3),
        (Whole(5), 5),
        (Real(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(5), 5),
        (np.bool_(True), True),
        (np.str_("a die"), "a die"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (PurePosixPath("/etc/dice"), "/etc/dice"),
        (date(2026, 11, 30), "2026-11-30"),
        ((1, [Real(2.0)], {"a"}), [1, [2.0], ["a"]]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({Scalar("a"): Real(1.0)}), {"a": 1.0}),
        ({Unit.METRE: 1, 2: 3}, {"m": 1, "2": 3}),
        (None, None),
        (True, True),
    ],
    ids=repr,
)
def test_a_schema_may_be_made_of_whatever_stands_for_json(value: Any, plain: Any) -> None:
    """What files, templates, numpy and enumerations leave in a schema goes out as plain JSON."""
    (offered,), _ = to_hydra([with_property(value)])
    frame = wire.encode(SessionUpdate(session=ClientSession(tools=[offered])))

    assert json.loads(frame)["session"]["tools"][0]["parameters"] == {"bias": plain}


def test_names_and_descriptions_may_be_any_text() -> None:
    """Of a raw schema, as of its parameters."""
    schema = {"name": Scalar("roll"), "description": Safe("Roll."), "parameters": OrderedDict()}
    (offered,), _ = to_hydra([tool(schema)])

    assert (type(offered.name), offered.name) == (str, "roll")
    assert (type(offered.description), offered.description) == (str, "Roll.")


def circle() -> list[Any]:
    """Return a list that contains itself."""
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (object(), r"parameters\.bias is of type object"),
        ([1, print], r"parameters\.bias\[1\] is of type builtin_function_or_method"),
        ({"max": float("inf")}, r"parameters\.bias\.max is inf"),
        (np.float64("nan"), r"parameters\.bias is nan"),
        ({(1, 2): 3}, r"parameters\.bias has a key of type tuple"),
        (circle(), "contain themselves"),
    ],
    ids=["object", "function", "inf", "nan", "key", "circle"],
)
def test_what_cannot_be_json_is_named_with_its_tool_and_its_place(value: Any, problem: str) -> None:
    """Of a hundred tools with a hundred parameters each, it is found."""
    with pytest.raises(ValueError, match=f"the tool 'roll' .*{problem}"):
        to_hydra([tool({"name": "look", "parameters": {}}), with_property(value)])


# --------------------------------------------------------------------------- failed starts


@pytest.mark.parametrize("is_behind_an_adapter", [False, True])
async def test_a_start_with_an_impossible_tool_fails_and_leaves_nothing(
    is_behind_an_adapter: bool,
) -> None:
    """`AgentSession.start` raises the error, and the session that it leaves connects to nobody."""
    async with Emulator(Scenario()) as server:
        model: llm.RealtimeModel = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        if is_behind_an_adapter:
            model = RealtimeModelFallbackAdapter([model])
        session: AgentSession[Any] = AgentSession(llm=model)
        with pytest.raises(ValueError, match="the tool 'roll' can't be offered"):
            await session.start(Agent(instructions="Be kind.", tools=[with_property(object())]))

        assert server.dials == []


async def test_an_impossible_tool_in_mid_call_changes_nothing() -> None:
    """The error is raised; the call goes on with the tools that it had."""
    async with line(Scenario()) as opened:
        await opened.session._update_session(tools=[tool({"name": "look", "parameters": {}})])
        await opened.ready()
        with pytest.raises(ValueError, match="the tool 'roll' can't be offered"):
            await opened.session.update_tools([with_property(object())])

        assert list(opened.session.tools.function_tools) == ["look"]
        assert len(opened.server.open_connections) == 1


# ------------------------------------------------------------------------------- arguments


def nested(depth: int) -> str:
    """Return arguments that are nested so deep."""
    return '{"city":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


@pytest.mark.parametrize(
    "arguments",
    ["{}", "", nested(MAX_DEPTH), '{"a": "' + "[" * 999 + '"}'],
    ids=["empty", "nothing", "deep", "text"],
)
def test_arguments_that_can_be_read_stay_as_they_are(arguments: str) -> None:
    """Brackets inside of a text are no nesting."""
    assert readable(arguments) == arguments


@pytest.mark.parametrize(
    "arguments",
    [nested(MAX_DEPTH + 1), nested(100_000), '{"city":' + "[" * 5_000],
    ids=["a little", "far", "without end"],
)
async def test_arguments_that_are_nested_too_deeply_are_answered(arguments: str) -> None:
    """The function is not run, the model is told why, and the call goes on."""
    scenario = Scenario(
        replies=[Call("roll", arguments)], default_reply=Say(duration_s=0.3), silence_ms=200
    )
    agent = Agent(instructions="", tools=[tool({"name": "roll", "parameters": {}})])
    async with call(scenario, agent) as desk:
        await desk.say(tone(0.4))
        await desk.until_heard(1)

        (posted,) = desk.server.responses[0].call_ids
        (executed,) = desk.of("function_tools_executed")
        (output,) = executed.function_call_outputs
        assert output.call_id == posted
        assert "nested more than 200 levels deep" in output.output
