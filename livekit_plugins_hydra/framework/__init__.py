"""LiveKit's words for what Hydra says: tools, metrics, errors, and what its job does."""
