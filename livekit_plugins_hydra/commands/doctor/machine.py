"""What can be seen without a network: Python, versions, settings, the key."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from livekit_plugins_hydra import __version__
from livekit_plugins_hydra.options import Options, resolve_key
from livekit_plugins_hydra.protocol import voices
from livekit_plugins_hydra.protocol.errors import ConfigurationError

from .findings import Finding, Status

_OLDEST_PYTHON: Final = (3, 11)

_WANTED: Final = {
    "livekit-agents": ((1, 8), (2,)),
    "livekit": ((1, 1, 5), None),
    "websockets": ((15,), None),
    "msgspec": ((0, 20), None),
    "soxr": ((0, 5), None),
    "numpy": ((1, 26), None),
}
"""What this package declares: the oldest version that it takes, and the first that it doesn't."""


def python() -> Finding:
    """Look at Python."""
    ok = sys.version_info >= _OLDEST_PYTHON
    return Finding(
        id="python",
        group="machine",
        title="Python",
        status="ok" if ok else "fail",
        answer=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        remedy="" if ok else "Use Python 3.11 or newer.",
        facts={"version": platform.python_version(), "system": platform.system()},
    )


def packages() -> Finding:
    """Look at the versions that matter."""
    found: dict[str, str] = {"livekit-plugins-hydra": __version__}
    wrong: list[str] = []
    for name, (oldest, too_new) in _WANTED.items():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        number = _number(found[name])
        if number < oldest or (too_new is not None and number >= too_new):
            wrong.append(f"{name} {found[name]} is not one that this plugin takes")
    first = ("livekit-plugins-hydra", "livekit-agents", "websockets")
    return Finding(
        id="packages",
        group="machine",
        title="Packages",
        status="fail" if wrong else "ok",
        answer=", ".join(wrong) or ", ".join(f"{name} {found.get(name)}" for name in first),
        remedy="pip install --upgrade livekit-plugins-hydra" if wrong else "",
        facts=found,
    )


def key(*, is_offline: bool) -> Finding:
    """Look whether there is a key; its value goes nowhere."""
    status: Status = "ok"
    answer, remedy = "SMALLEST_API_KEY is set", ""
    if is_offline:
        status, answer = "skip", "none needed: the server is emulated"
    else:
        try:
            resolve_key(None)
        except ConfigurationError as problem:
            status, answer = "fail", str(problem)
            remedy = (
                "Set SMALLEST_API_KEY to a key from Smallest AI's console; --offline needs none."
            )
    return Finding(
        id="key_present",
        group="machine",
        title="API key",
        status=status,
        answer=answer,
        remedy=remedy,
    )


def settings(options: Options) -> Finding:
    """Look at the model and the voice that are asked for."""
    info = voices.MODELS.get(options.model)
    if info is None:
        known = ", ".join(voices.MODELS)
        answer, status = f"{options.model} is no model that this plugin knows", "warn"
        remedy = f"Known are {known}; a newer one may work all the same."
    elif options.voice not in info.voices:
        answer = f"{options.voice} is not in the list of {options.model}"
        status, remedy = "warn", f"Its voices are {', '.join(info.voices)}."
    else:
        answer, status, remedy = f"{options.model}, voice {options.voice}", "ok", ""
    return Finding(
        id="settings",
        group="machine",
        title="Model and voice",
        status="warn" if status == "warn" else "ok",
        answer=answer,
        remedy=remedy,
        facts={"model": options.model, "voice": options.voice, "auth": options.auth},
    )


def _number(text: str) -> tuple[int, ...]:
    parts = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in parts[0].split(".")) if parts else ()
