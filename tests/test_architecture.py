from __future__ import annotations

import ast
import functools
import graphlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "livekit_plugins_hydra"
ROOT = Path(__file__).parent.parent / PACKAGE

MAX_LINES = 500
"""A module above this holds two things."""

# Each room, and those that it may import from. What is not in a folder is a room of its own.
ROOMS: dict[str, set[str]] = {
    "protocol": set(),
    "log": set(),
    "timers": set(),
    "options": {"log", "protocol"},
    "transport": {"log", "options", "protocol"},
    "framework": {"protocol"},
    "voice": {"log", "framework", "protocol"},
    "functions": {"framework", "protocol", "voice"},
    "journal": {"log", "protocol"},
    "context": {"framework", "functions", "protocol", "voice"},
    "performer": {
        *("context", "framework", "functions", "journal", "log"),
        *("options", "protocol", "timers", "transport", "voice"),
    },
    "session": {"log", "options", "performer", "protocol", "transport"},
    "model": {"log", "options", "protocol", "session", "transport"},
    "version": set(),
    "plugin": {"log", "model", "protocol", "session", "version"},
    "": {"plugin", "version"},
    "testing": {"protocol"},
    "report": {"protocol", "testing"},
    "commands": {"", "options", "protocol", "report", "testing", "transport"},
    "__main__": {"commands"},
}

# Protocol, first to read first: each module may import only what stands above it.
PROTOCOL = [
    "voices",
    "errors",
    "events",
    "wire",
    "ceiling",
    "backoff",
    "states",
    "effects",
    "history",
    "turns",
    "response",
    "conversation",
    "learned",
    "memory",
    "reply",
    "renewal",
    "results",
    "line",
    "demand",
    "call",
]
IMPURE = {"livekit", "asyncio", "websockets", "time", "logging"}
THIRD_PARTY_OF_THE_PROTOCOL = {"msgspec"}

# A second reading of the protocol, so that a misreading shows: it shares the catalogue only. What
# reads audio files knows no protocol.
OPEN_TO_THE_EMULATOR = {
    f"{PACKAGE}.testing.recordings",
    *(f"{PACKAGE}.protocol.{name}" for name in PROTOCOL[:4]),
}


@dataclass(frozen=True)
class Import:
    """One import of a module."""

    name: str
    """What is imported: ``asyncio``, or ``livekit_plugins_hydra.protocol.wire`` of ours."""
    is_for_types: bool
    """Whether it only happens while types are checked."""

    @property
    def root(self) -> str:
        """The first part of the name."""
        return self.name.split(".")[0]

    @property
    def room(self) -> str | None:
        """The room of ours; empty for our package itself, None for what is not ours."""
        return room_of(self.name) if self.root == PACKAGE else None


def room_of(module: str) -> str:
    """Return the room of one of our modules; empty for our package itself."""
    return module.removeprefix(PACKAGE).removeprefix(".").split(".")[0]


def modules() -> dict[str, Path]:
    """Return the files of our modules by name; ``_namespace`` is no part of the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if "_namespace" not in parts:
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()
THOSE_OF_THE_PROTOCOL = [f"{PACKAGE}.protocol.{name}" for name in PROTOCOL]
THOSE_OF_THE_EMULATOR = [name for name in MODULES if name.startswith(f"{PACKAGE}.testing.emulator")]


@functools.cache
def imports_of(module: str) -> list[Import]:
    """Return all imports of a module, also those inside of functions."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return list(_imports(ast.parse(path.read_text()), package, is_for_types=False))


def _imports(node: ast.AST, package: str, *, is_for_types: bool) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield Import(alias.name, is_for_types)
        case ast.ImportFrom(module=module, names=names, level=level):
            source = importlib.util.resolve_name("." * level + (module or ""), package)
            for alias in names:
                part = f"{source}.{alias.name}"
                yield Import(part if part in MODULES else source, is_for_types)
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body, orelse=orelse):
            for statement in body:
                yield from _imports(statement, package, is_for_types=True)
            for statement in orelse:
                yield from _imports(statement, package, is_for_types=is_for_types)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _imports(child, package, is_for_types=is_for_types)


@pytest.mark.parametrize("module", MODULES)
def test_each_room_imports_only_from_the_rooms_that_it_may(module: str) -> None:
    """A newcomer sees from the folders which way data flows; imports for types count, too."""
    room = room_of(module)

    for found in imports_of(module):
        assert found.room in {None, room, *ROOMS[room]}


def test_the_rooms_are_the_rooms() -> None:
    """The table above names the rooms that there are, and the arrows that are used."""
    used: dict[str, set[str]] = {room_of(module): set() for module in MODULES}
    for module in MODULES:
        rooms = {found.room for found in imports_of(module)} - {None, room_of(module)}
        used[room_of(module)] |= {room for room in rooms if room is not None}

    assert used == ROOMS


def test_no_rooms_import_each_other_in_a_circle() -> None:
    """The rooms can be put in an order in which imports point one way only."""
    assert set(graphlib.TopologicalSorter(ROOMS).static_order()) == set(ROOMS)


@pytest.mark.parametrize("module", THOSE_OF_THE_PROTOCOL)
def test_the_protocol_does_no_io(module: str) -> None:
    """No module of `protocol/` names a clock, a log, a loop, a socket or the framework."""
    for found in imports_of(module):
        is_standard = found.root in sys.stdlib_module_names | {"__future__"}
        assert found.root not in IMPURE
        assert is_standard or found.room is not None or found.root in THIRD_PARTY_OF_THE_PROTOCOL


@pytest.mark.parametrize("module", THOSE_OF_THE_PROTOCOL)
def test_imports_of_the_protocol_point_up_its_list(module: str) -> None:
    """Each module of `protocol/` can be understood with those above it alone."""
    above = THOSE_OF_THE_PROTOCOL[: THOSE_OF_THE_PROTOCOL.index(module)]

    for found in imports_of(module):
        assert found.room is None or found.name in above


def test_the_protocol_is_imported_without_io() -> None:
    """The core works where none of that can be imported by it, and never pulls in the framework.

    The guard looks at who imports: what the standard library and msgspec need is theirs.
    """
    script = f"""
import builtins, sys, types

plain_import = builtins.__import__

def guarded(name, globals=None, *args, **kwargs):
    importer = (globals or {{}}).get("__name__") or ""
    if importer.startswith({PACKAGE!r}) and name.split(".")[0] in {IMPURE!r}:
        raise ImportError(f"{{importer}} imports {{name}}")
    return plain_import(name, globals, *args, **kwargs)

builtins.__import__ = guarded
package = types.ModuleType({PACKAGE!r})  # without what __init__ imports
package.__path__ = [{str(ROOT)!r}]
sys.modules[{PACKAGE!r}] = package
for module in {THOSE_OF_THE_PROTOCOL!r}:
    plain_import(module)
assert not {{"livekit", "websockets", "asyncio"}} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("module", THOSE_OF_THE_EMULATOR)
def test_the_emulator_reads_the_protocol_for_itself(module: str) -> None:
    """The emulator shares the catalogue and the codec with the client, and nothing else."""
    for found in imports_of(module):
        is_own = found.name in {*THOSE_OF_THE_EMULATOR, *OPEN_TO_THE_EMULATOR}
        assert found.room is None or is_own or found.name == f"{PACKAGE}.protocol"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """The modules can be put in an order in which imports point one way; those for types, too."""
    graph = {
        module: {found.name for found in imports_of(module) if found.room is not None} - {module}
        for module in MODULES
    }

    assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)


def test_each_quirk_stands_where_it_is_said_to() -> None:
    """`framework/quirks` names the place of each workaround, and the name is there."""
    text = MODULES[f"{PACKAGE}.framework.quirks"].read_text()
    places = re.findall(r"Here: `([\w/]+)`,\s+`(\w+)`", text)

    assert len(places) > 15
    for module, name in places:
        assert name in MODULES[f"{PACKAGE}.{module.replace('/', '.')}"].read_text()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_long(module: str) -> None:
    """A module holds one thing, so it is short."""
    assert len(MODULES[module].read_text().splitlines()) <= MAX_LINES


def test_the_protocol_is_all_of_its_folder() -> None:
    """The list above names all modules of `protocol/`."""
    there = {name for name in MODULES if name.startswith(f"{PACKAGE}.protocol.")}

    assert set(THOSE_OF_THE_PROTOCOL) == there
