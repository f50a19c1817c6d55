"""LiveKit Agents plugin for Hydra, Smallest AI's full-duplex speech-to-speech model.

Its names are imported when the first of them is used: LiveKit's framework takes a second, and
``livekit-hydra --help`` needs none of it.
"""

import typing

from .version import __version__ as __version__

if typing.TYPE_CHECKING:
    from .plugin import MODELS as MODELS
    from .plugin import AuthenticationFailed as AuthenticationFailed
    from .plugin import ConfigurationError as ConfigurationError
    from .plugin import ConnectionFailed as ConnectionFailed
    from .plugin import ConnectionLost as ConnectionLost
    from .plugin import HydraError as HydraError
    from .plugin import HydraModel as HydraModel
    from .plugin import HydraVoice as HydraVoice
    from .plugin import RealtimeModel as RealtimeModel
    from .plugin import RealtimeSession as RealtimeSession
    from .plugin import ServerError as ServerError
    from .plugin import ServerFull as ServerFull
    from .plugin import events as events

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


if not typing.TYPE_CHECKING:  # a checker would take any name for one of the package

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import plugin

        return getattr(plugin, name)

    def __dir__() -> list[str]:
        return [*globals(), *__all__]
