"""The package's logger. Content goes under `lk.pii.` keys; audio is logged as a length."""

import logging

logger = logging.getLogger("livekit.plugins.hydra")


def warn_once(told: set[str], sentence: str) -> None:
    """Log a warning, unless it is among those that were `told` before."""
    if sentence not in told:
        told.add(sentence)
        logger.warning("%s", sentence)
