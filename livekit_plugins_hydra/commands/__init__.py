"""The commands of `livekit-hydra`, a module for each; `cli` wires them."""
