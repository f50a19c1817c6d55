"""Hypothesis strategies: any event, as the catalogue defines it, and any JSON."""

from __future__ import annotations

import types
import typing
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from livekit_plugins_hydra.protocol import events as ev

_Event = TypeVar("_Event")

NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)

SERVER_EVENTS: tuple[type[ev.Event], ...] = typing.get_args(ev.ServerEvent)
CLIENT_EVENTS: tuple[type[ev.Event], ...] = typing.get_args(ev.ClientEvent)


def any_of(*kinds: type[_Event]) -> st.SearchStrategy[_Event]:
    """Return a strategy for events of these kinds, all of them equally often."""
    return st.one_of(*map(_struct, kinds))


def _struct(kind: type[_Event]) -> st.SearchStrategy[_Event]:
    hints = typing.get_type_hints(kind)
    assert issubclass(kind, msgspec.Struct)
    return st.builds(kind, **{name: _value(hints[name]) for name in kind.__struct_fields__})


def _value(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a type that the catalogue uses."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is types.UnionType:
        return st.one_of(*map(_value, parts))
    if typing.get_origin(hint) is list:
        return st.lists(_value(parts[0]), max_size=3)
    if typing.get_origin(hint) is dict:
        return st.dictionaries(st.text(max_size=5), JSON, max_size=3)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _struct(hint)
    return _PLAIN[hint]


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    Any: JSON,
    type(None): st.none(),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    float: st.floats(allow_nan=False, allow_infinity=False),
    int: st.integers(-(2**53), 2**53),
    str: st.text(max_size=12),
}
