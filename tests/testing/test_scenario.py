"""What a `Scenario` may be, and that documents and code name the same switches."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import livekit_plugins_hydra.testing.emulator as emulator_package
from livekit_plugins_hydra.testing import (
    FAULTS,
    SWITCHES,
    Say,
    Scenario,
)
from tests.documents import TESTING, section, tables
from tests.raw_client import KEY


def test_every_number_of_the_protocols_unknowns_is_mapped() -> None:
    """The package's tables have the numbers 1 to 26 and a to l, and name only fields that exist."""
    documentation = emulator_package.__doc__ or ""
    numbers = [int(number) for number in re.findall(r"^ +(\d+)  \S", documentation, re.M)]
    fields = {field.name for field in dataclasses.fields(Scenario)}
    rows = "".join(documentation.split("====\n")[2::2])
    named = set(re.findall(r"(?<!`)`([a-z_0-9]+)`(?!`)", rows))
    letters = re.findall(r"^ +([a-z])  \S", documentation, re.M)

    assert numbers == list(range(1, 27))
    assert letters == list("abcdefghijkl")
    assert named <= fields
    assert len(named) > 25


def test_every_switch_changes_a_field() -> None:
    """Each entry of `SWITCHES` and `FAULTS` makes a scenario other than the default."""
    for name, fields in ({**SWITCHES, **FAULTS}).items():
        scenario = dataclasses.replace(Scenario(), **fields)
        assert scenario != Scenario(), name


def test_every_switch_is_in_the_document() -> None:
    """Its tables have each switch and fault, in order, with the fields that it sets."""
    told = [
        {name.strip("`"): fields for name, fields, _ in table}
        for table in tables(section(TESTING, "Switches"))
    ]

    assert told == [
        {
            name: ", ".join(f"`{field}={value!r}`" for field, value in fields.items())
            for name, fields in switches.items()
        }
        for switches in (SWITCHES, FAULTS)
    ]
    assert [list(table) for table in told] == [list(SWITCHES), list(FAULTS)]


def test_every_other_field_is_in_the_document() -> None:
    """The last table has each field that no switch sets, with its default."""
    (table,) = tables(section(TESTING, "Other fields"))
    told = {name.strip("`"): default.strip("`") for name, default, _ in table}
    set_by_switches = {name for fields in ({**SWITCHES, **FAULTS}).values() for name in fields}
    others = {
        field.name: "a sentence" if field.name == "default_reply" else repr(field.default)
        for field in dataclasses.fields(Scenario)
        if field.name not in set_by_switches
    }

    assert told == others


def test_random_scenarios_are_reproducible() -> None:
    """The same seed gives the same scenario, other seeds give others, given fields hold."""
    shown = [repr(Scenario.random(seed)) for seed in range(30)]

    assert shown == [repr(Scenario.random(seed)) for seed in range(30)]
    assert len(set(shown)) == 30
    assert Scenario.random(1, think_s=0.125).think_s == 0.125


def test_a_scenario_shows_only_what_is_unusual() -> None:
    """The representation is short, and never holds the keys."""
    assert repr(Scenario()) == "Scenario()"
    assert repr(Scenario(keys={KEY}, late_deltas=1)) == "Scenario(late_deltas=1)"


def test_a_script_is_a_list() -> None:
    """A lone reply is a mistake that would only show in the middle of a call."""
    with pytest.raises(TypeError, match="list of replies"):
        Scenario(replies=Say())  # type: ignore[arg-type]


def test_the_emulator_is_a_second_reading() -> None:
    """It shares names and codec with the client, and nothing that decides."""
    shared = set()
    for path in Path(emulator_package.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                package, _, module = (node.module or "").partition(".protocol")
                if package == "livekit_plugins_hydra":
                    shared |= {module[1:]} if module else {name.name for name in node.names}

    assert shared == {"events", "wire", "errors", "voices"}


def test_a_script_is_made_of_pieces() -> None:
    """A text in place of `Say(text=...)` would be a response without anything in it."""
    for scenario in ({"replies": ["Hello."]}, {"replies": "Hello."}, {"default_reply": ["Hello."]}):
        with pytest.raises(TypeError, match="made of Say, Call, Wait and End"):
            Scenario(**scenario)


@pytest.mark.parametrize(
    "name", ["keys", "deprecated_models", "more_voices", "closes_after", "tolerate"]
)
def test_several_are_a_list(name: str) -> None:
    """A text in its place would have each of its parts in it: a key "secret" the key "sec"."""
    with pytest.raises(TypeError, match=f"{name} takes a list of texts"):
        Scenario(**{name: "secret"})  # type: ignore[arg-type]


def test_a_refusal_is_a_status_of_http() -> None:
    """Another number could not be sent."""
    with pytest.raises(ValueError, match="299"):
        Scenario(http_refusals=1, http_refusal_status=299)
