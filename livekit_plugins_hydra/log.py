"""The package's logger. Content goes under `lk.pii.` keys; audio is logged as a length."""

import logging
from typing import Final

logger = logging.getLogger("livekit.plugins.hydra")

REDACTED: Final = "<redacted>"
"""What stands where a key was."""

SECRET_CHARS: Final = 12
"""What is shorter is no key, and would be found in every other word."""


def redacted(text: str, secret: str) -> str:
    """Return a text without the key, whoever put it there."""
    return text.replace(secret, REDACTED) if len(secret) >= SECRET_CHARS else text


def warn_once(warned: set[str], sentence: str) -> None:
    """Log a warning, unless it is among those that were given before."""
    if sentence not in warned:
        warned.add(sentence)
        logger.warning("%s", sentence)
