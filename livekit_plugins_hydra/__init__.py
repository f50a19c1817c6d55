"""LiveKit Agents plugin for Hydra, Smallest AI's full-duplex speech-to-speech model."""

from livekit.agents import Plugin

from .log import logger
from .model import RealtimeModel
from .protocol import events
from .protocol.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    HydraError,
    ServerError,
    ServerFull,
)
from .protocol.voices import MODELS, HydraModel, HydraVoice
from .session import RealtimeSession

__version__ = "0.1.0"

__all__ = [
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
]


class HydraPlugin(Plugin):
    """What `livekit-agents` lists among its plugins."""

    def __init__(self) -> None:
        super().__init__("livekit.plugins.hydra", __version__, "livekit.plugins.hydra", logger)


Plugin.register_plugin(HydraPlugin())
