"""The commands of `livekit-hydra`, a module for each; `livekit_plugins_hydra.cli` wires them."""
