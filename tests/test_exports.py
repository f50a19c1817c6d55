"""The public names: a change here is a change for users."""

from __future__ import annotations

import logging
import types

from livekit.agents import Plugin
from livekit.plugins import hydra

import livekit_plugins_hydra

from .processes import python


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
    """Every name without an underscore is declared, or is a module."""
    names = {
        name
        for name, value in vars(livekit_plugins_hydra).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }

    assert names <= set(livekit_plugins_hydra.__all__)
    assert set(livekit_plugins_hydra.__all__) <= set(dir(livekit_plugins_hydra))


def test_plugin_is_registered_with_livekit() -> None:
    """LiveKit lists the plugin once, with its version and its logger."""
    (plugin,) = (
        plugin for plugin in Plugin.registered_plugins if plugin.package == "livekit.plugins.hydra"
    )

    assert plugin.version == livekit_plugins_hydra.__version__
    assert plugin.logger is logging.getLogger("livekit.plugins.hydra")


FIRST_USE = """
import sys, threading
import livekit_plugins_hydra as hydra

assert "livekit.agents" not in sys.modules
used = []
thread = threading.Thread(target=lambda: used.append(hydra.RealtimeModel(api_key="any-key")))
thread.start()
thread.join()
print(used)
"""


async def test_the_first_use_may_be_in_any_thread() -> None:
    """The framework is imported with the first name that is used, in a job's thread, too."""
    ran = await python("-c", FIRST_USE)

    assert ran.text == "[hydra.RealtimeModel(model='hydra-v1.1', voice='aria')]\n"
