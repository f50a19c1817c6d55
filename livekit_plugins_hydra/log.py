"""The package's logger. Content goes under `lk.pii.` keys; audio is logged as a length."""

import logging
from typing import Final

logger = logging.getLogger("livekit.plugins.hydra")

REDACTED: Final = "<redacted>"
"""What stands where a key was."""

SECRET_CHARS: Final = 12
"""A shorter text is no key, and would be found inside other words."""


def redacted(text: str, secret: str) -> str:
    """Return `text` without the key."""
    return text.replace(secret, REDACTED) if len(secret) >= SECRET_CHARS else text


def warn_once(warned: set[str], sentence: str) -> None:
    """Log a warning, unless it was given before."""
    if sentence not in warned:
        warned.add(sentence)
        logger.warning("%s", sentence)
