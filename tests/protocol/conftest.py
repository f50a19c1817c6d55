"""Each test of the protocol looks whether what `states.IMPOSSIBLE` names happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import pytest

from livekit_plugins_hydra.protocol import (
    call,
    conversation,
    line,
    response,
    results,
    states,
    turns,
)

TABLES = ("HANDSHAKE", "TURN", "RESPONSE", "AWAITED", "SETUP", "FATE")


class Watched(dict[Any, Any]):
    """A table that objects to a row that can't be."""

    def get(self, key: Any, default: Any = None) -> Any:
        """Return where a row leads."""
        assert key not in states.IMPOSSIBLE, f"{key} is called impossible, and happens"
        return super().get(key, default)


@pytest.fixture(autouse=True, scope="session")
def watched_tables() -> Iterator[None]:
    """Watch all tables."""
    with ExitStack() as patches:
        for module in (call, conversation, line, response, results, turns):
            for name in TABLES:
                if hasattr(module, name):
                    table = Watched(getattr(states, name))
                    patches.enter_context(patch.object(module, name, table))
        yield
