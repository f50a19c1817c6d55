"""What is said of LiveKit's code, and of ours, is still there to be read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from livekit import agents, rtc

import livekit_plugins_hydra
from livekit_plugins_hydra.framework import quirks

OURS = Path(livekit_plugins_hydra.__file__).parent
LIVEKIT = [Path(agents.__file__).parent, Path(rtc.__file__).parent]
TEXT = re.sub(r"\s+", " ", Path(quirks.__file__).read_text())


@pytest.mark.parametrize(
    ("file", "name"), sorted(set(re.findall(r"Source: `([\w/]+\.py)`[^,]*, `(\w+)`", TEXT)))
)
def test_the_source_of_a_quirk_is_there(file: str, name: str) -> None:
    """A new version of LiveKit's that moves what we work around makes this fail: read it again."""
    paths = [folder / file for folder in LIVEKIT if (folder / file).exists()]

    assert paths
    assert name in names_in(paths[0])


@pytest.mark.parametrize(
    ("module", "name"), sorted(set(re.findall(r"Here: `([\w/]+)`, `(\w+)`", TEXT)))
)
def test_a_quirk_is_met_where_it_is_said_to_be(module: str, name: str) -> None:
    """The table of quirks names what there is."""
    assert name in names_in(OURS / f"{module}.py")


def names_in(path: Path) -> set[str]:
    """Return what a module defines or mentions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
    return found
