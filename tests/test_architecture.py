from __future__ import annotations

import ast
import functools
import graphlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "livekit_plugins_hydra"
ROOT = Path(__file__).parent.parent / PACKAGE

# The pure core, as in design.md: each module may import only what stands above it.
PURE = [
    "voices",
    "errors",
    "events",
    "wire",
    "backoff",
    "states",
    "effects",
    "history",
    "conversation",
    "call",
]
IMPURE = {"livekit", "asyncio", "websockets", "time", "logging"}
THIRD_PARTY_OF_THE_CORE = {"msgspec"}

# A second reading of the protocol, so that a misreading shows: it shares the catalogue only.
OPEN_TO_THE_EMULATOR = {"voices", "errors", "events", "wire"}
USERS_OF_THE_EMULATOR = {"cli", "commands"}


@dataclass(frozen=True)
class Import:
    """One import of a module."""

    name: str
    """What is imported: ``asyncio``, or for a module of ours ``livekit_plugins_hydra.wire``."""
    is_for_types: bool
    """Whether it only happens while types are checked."""

    @property
    def root(self) -> str:
        """The first part of the name."""
        return self.name.split(".")[0]

    @property
    def own(self) -> str | None:
        """The module or package directly under ours; empty for our package itself."""
        if self.root != PACKAGE:
            return None
        return self.name.removeprefix(PACKAGE).removeprefix(".").split(".")[0]


def modules() -> dict[str, Path]:
    """Return the files of our modules by name; ``_namespace`` is no part of the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if "_namespace" not in parts:
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()
THOSE_OF_THE_CORE = [f"{PACKAGE}.{name}" for name in PURE if f"{PACKAGE}.{name}" in MODULES]
THOSE_OF_THE_EMULATOR = [name for name in MODULES if name.startswith(f"{PACKAGE}.emulator")]


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


@pytest.mark.parametrize("module", THOSE_OF_THE_CORE)
def test_the_core_does_no_io(module: str) -> None:
    """No module of the core names a clock, a log, a loop, a socket or the framework anywhere."""
    for found in imports_of(module):
        is_standard = found.root in sys.stdlib_module_names | {"__future__"}
        assert found.root not in IMPURE
        assert is_standard or found.own is not None or found.root in THIRD_PARTY_OF_THE_CORE


@pytest.mark.parametrize("module", THOSE_OF_THE_CORE)
def test_imports_of_the_core_point_up_its_list(module: str) -> None:
    """Each module of the core can be understood with those above it alone."""
    above = PURE[: PURE.index(module.removeprefix(f"{PACKAGE}."))]

    for found in imports_of(module):
        assert found.own is None or found.own in above


def test_the_core_is_imported_without_io() -> None:
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
for module in {THOSE_OF_THE_CORE!r}:
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
        assert found.own is None or found.own in {"emulator", *OPEN_TO_THE_EMULATOR}


def test_the_plugin_does_without_the_emulator() -> None:
    """What talks to the real service never loads what stands in for it."""
    users = {
        module.removeprefix(f"{PACKAGE}.").split(".")[0]
        for module in MODULES
        if module not in THOSE_OF_THE_EMULATOR
        and any(found.own == "emulator" for found in imports_of(module))
    }

    assert users <= USERS_OF_THE_EMULATOR


def test_no_modules_import_each_other_in_a_circle() -> None:
    """The modules can be put in an order in which imports point up only."""
    graph = {
        module: {
            found.name
            for found in imports_of(module)
            if found.own is not None and not found.is_for_types
        }
        for module in MODULES
    }

    assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)


def test_the_core_is_the_core() -> None:
    """The list above names modules that there are."""
    assert {f"{PACKAGE}.{name}" for name in PURE} <= set(MODULES)
