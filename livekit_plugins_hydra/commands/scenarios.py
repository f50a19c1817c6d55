"""``--scenario file.toml|file.py``."""

from __future__ import annotations

from pathlib import Path

from livekit_plugins_hydra.testing import Scenario
from livekit_plugins_hydra.testing.emulator.scenario_file import ScenarioUnreadable, read_scenario

from .exits import Exit, stop


def scenario_option(path: Path | None, *, is_offline: bool = True) -> Scenario | None:
    """Return the scenario in a file, None without one; end the command where it has none.

    So does one that nobody would play: the server is Hydra itself, and bills.
    """
    if path is None:
        return None
    if not is_offline:
        stop(Exit.USAGE, "--scenario is what the emulator plays, so it needs --offline.")
    try:
        return read_scenario(path)
    except ScenarioUnreadable as problem:
        stop(Exit.USAGE, f"--scenario {problem}")
