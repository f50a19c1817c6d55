"""`from livekit.plugins import hydra`: the public names of `livekit_plugins_hydra`."""

from livekit_plugins_hydra import *
from livekit_plugins_hydra import __all__ as __all__
from livekit_plugins_hydra import __version__ as __version__
