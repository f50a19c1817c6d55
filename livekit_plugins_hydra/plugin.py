"""The names of the package, and its place among LiveKit's plugins."""

import threading

from livekit.agents import Plugin

from .log import logger
from .model import RealtimeModel as RealtimeModel
from .protocol import events as events
from .protocol.errors import AuthenticationFailed as AuthenticationFailed
from .protocol.errors import ConfigurationError as ConfigurationError
from .protocol.errors import ConnectionFailed as ConnectionFailed
from .protocol.errors import ConnectionLost as ConnectionLost
from .protocol.errors import HydraError as HydraError
from .protocol.errors import ServerError as ServerError
from .protocol.errors import ServerFull as ServerFull
from .protocol.voices import MODELS as MODELS
from .protocol.voices import HydraModel as HydraModel
from .protocol.voices import HydraVoice as HydraVoice
from .session import RealtimeSession as RealtimeSession
from .version import __version__


class HydraPlugin(Plugin):
    """What `livekit-agents` lists among its plugins."""

    def __init__(self) -> None:
        super().__init__("livekit.plugins.hydra", __version__, "livekit.plugins.hydra", logger)


if threading.current_thread() is threading.main_thread():  # LiveKit takes plugins there only
    Plugin.register_plugin(HydraPlugin())
