"""LiveKit's words for what Hydra says, and what works around its framework."""
