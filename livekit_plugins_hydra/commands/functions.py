"""The function tools of ``--tools module:function``."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from livekit.agents import llm

_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class FunctionUnusable(Exception):
    """A function can't be found or used; the text says why, and what to do."""


def load(spec: str) -> llm.Tool:
    """Return the tool that ``module:function`` or ``file.py:function`` names.

    A plain function is made a tool: its docstring and annotations describe it to the model. One
    that isn't async runs in a thread, for LiveKit awaits tools.

    Raises:
        FunctionUnusable: there is no such function, or it can't be a tool.
    """
    source, colon, name = spec.rpartition(":")
    if not colon or not source or not name:
        raise FunctionUnusable(f"--tools {spec}: write module:function or file.py:function")
    module = _load_file(source) if source.endswith(".py") else _load_module(source)
    found: Any = getattr(module, name, None)
    if found is None:
        near = get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise FunctionUnusable(f"--tools {spec}: {source} has no {name!r}{hint}")
    if isinstance(found, llm.Tool):
        decorated = getattr(found, "__wrapped__", None)
        if decorated is not None and not _is_async(decorated):
            raise FunctionUnusable(f"--tools {spec}: LiveKit awaits tools; write async def {name}")
        _describe(spec, found)
        return found
    if not callable(found) or isinstance(found, type):
        raise FunctionUnusable(f"--tools {spec}: {name!r} is no function")
    try:
        tool: llm.Tool = llm.function_tool(_awaitable(found))
    except Exception as error:  # what the framework makes of a signature
        raise FunctionUnusable(f"--tools {spec} can't be a tool: {error}") from error
    _describe(spec, tool)
    return tool


def load_all(specs: Sequence[str]) -> list[llm.Tool]:
    """Return the tools that are named.

    Raises:
        FunctionUnusable: one of them can't be loaded, or two have the same name.
    """
    tools: dict[str, llm.Tool] = {}
    for spec in specs:
        tool = load(spec)
        if tool.id in tools:
            raise FunctionUnusable(f"--tools {spec}: there is a tool {tool.id!r} already")
        tools[tool.id] = tool
    return list(tools.values())


def _describe(spec: str, tool: llm.Tool) -> None:
    """Describe a tool as a call does, so that what fails there fails before it."""
    if not isinstance(tool, llm.FunctionTool):
        return
    for parameter in inspect.signature(tool).parameters.values():
        if parameter.annotation is parameter.empty or parameter.kind not in _BY_NAME:
            raise FunctionUnusable(
                f"--tools {spec} can't be a tool: its parameter {parameter} has no type, or no"
                " name for the model to use"
            )
    try:
        llm.utils.build_legacy_openai_schema(tool)
    except Exception as error:  # what the framework makes of an annotation
        raise FunctionUnusable(f"--tools {spec} can't be a tool: {_said(error)}") from error


def _awaitable(function: Callable[..., Any]) -> Callable[..., Any]:
    if _is_async(function):
        return function

    @functools.wraps(function)
    async def in_a_thread(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(function, *args, **kwargs)

    return in_a_thread


def _is_async(function: Callable[..., Any]) -> bool:
    return any(inspect.iscoroutinefunction(each) for each in (function, inspect.unwrap(function)))


def _load_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise FunctionUnusable(
                f"there is no module {name!r} here: run this in the folder that has it, install"
                " it, or name its file (path/to/file.py:function)"
            ) from None
        raise FunctionUnusable(f"{name} can't be imported: {error}") from error
    except Exception as error:  # whatever the module does
        raise FunctionUnusable(f"{name} can't be imported: {_said(error)}") from error


def _load_file(name: str) -> ModuleType:
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise FunctionUnusable(f"{name} is no file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does
        raise FunctionUnusable(f"{name} can't be run: {_said(error)}") from error
    return module


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
