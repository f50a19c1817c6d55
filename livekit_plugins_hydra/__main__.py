"""``python -m livekit_plugins_hydra``: the same as ``livekit-hydra``."""

from .commands.cli import main

if __name__ == "__main__":
    main()
