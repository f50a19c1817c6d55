"""Which server a command talks to: the real one, or with ``--offline`` the emulator."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from livekit.agents.types import NOT_GIVEN

from livekit_plugins_hydra import RealtimeModel
from livekit_plugins_hydra.options import resolve_key
from livekit_plugins_hydra.protocol.errors import ConfigurationError
from livekit_plugins_hydra.testing import Emulator, Scenario

from .exits import Exit, stop

OFFLINE_KEY: Final = "offline-needs-no-key"


@dataclass(frozen=True)
class Target:
    """A server, and how it is talked to. Empty texts are the defaults."""

    model: str
    voice: str
    base_url: str
    header: bool
    """Whether the key goes in a header."""
    is_offline: bool

    def require_key(self) -> None:
        """End the command if there is no key to call with."""
        if self.is_offline:
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
    async def emulated(self, scenario: Scenario) -> AsyncIterator[Emulator | None]:
        """Run the emulator while the block lasts, if it is wanted."""
        if not self.is_offline:
            yield None
            return
        async with Emulator(scenario, strict=False) as server:
            yield server

    def realtime_model(self, emulator: Emulator | None, wire_log: Path | None) -> RealtimeModel:
        """Return the model that a command calls with, or end the command."""
        try:
            return RealtimeModel(
                model=self.model or NOT_GIVEN,
                voice=self.voice or NOT_GIVEN,
                base_url=emulator.url if emulator else self.base_url or None,
                api_key=OFFLINE_KEY if emulator else None,
                auth="header" if self.header else "query",
                wire_log=wire_log,
            )
        except ConfigurationError as problem:
            stop(Exit.USAGE, str(problem))
