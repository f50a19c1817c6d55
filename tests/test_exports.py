"""The public names: a change here is a change for users."""

from __future__ import annotations

import logging
import types

from livekit.agents import Plugin
from livekit.plugins import hydra

import livekit_plugins_hydra


def test_public_names_are_these() -> None:
    """What `from livekit.plugins import hydra` offers is exactly this."""
    assert set(hydra.__all__) == {
        "MODELS",
        "AuthenticationFailed",
        "ConfigurationError",
        "ConnectionFailed",
        "ConnectionLost",
        "HydraError",
        "HydraModel",
        "HydraVoice",
        "RealtimeModel",
        "RealtimeSession",
        "ServerError",
        "ServerFull",
        "events",
    }


def test_both_spellings_are_one_package() -> None:
    """`livekit.plugins.hydra` and `livekit_plugins_hydra` have the same objects."""
    for name in hydra.__all__:
        assert getattr(hydra, name) is getattr(livekit_plugins_hydra, name)


def test_nothing_public_is_undeclared() -> None:
    """Every name without an underscore is declared, is a module, or registers the plugin."""
    names = {
        name
        for name, value in vars(livekit_plugins_hydra).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }

    assert names - set(livekit_plugins_hydra.__all__) == {"HydraPlugin", "Plugin", "logger"}


def test_plugin_is_registered_with_livekit() -> None:
    """LiveKit lists the plugin once, with its version and its logger."""
    (plugin,) = (
        plugin for plugin in Plugin.registered_plugins if plugin.package == "livekit.plugins.hydra"
    )

    assert plugin.version == livekit_plugins_hydra.__version__
    assert plugin.logger is logging.getLogger("livekit.plugins.hydra")
