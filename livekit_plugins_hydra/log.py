"""The package's logger. Content goes under `lk.pii.` keys; audio is logged as a length."""

import logging
import re
from typing import Final

logger = logging.getLogger("livekit.plugins.hydra")

REDACTED: Final = "<redacted>"
"""What stands where a key was."""

SECRET_CHARS: Final = 12
"""A shorter text is no key, and would be found inside other words."""


class Redactor:
    """Cuts a key out of texts, however it is written there."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._pattern = re.compile(b"".join(map(_ways_to_write, self._key)))

    def __call__(self, text: bytes) -> bytes:
        """Return `text` without the key, as itself, in JSON's escapes, or percent-encoded."""
        if len(self._key) < SECRET_CHARS:
            return text
        if self._key in text or b"\\" in text or b"%" in text:  # few texts are, and no audio
            return self._pattern.sub(REDACTED.encode(), text)
        return text


def _ways_to_write(char: int) -> bytes:
    r"""Return a pattern of ``a``, ``\u0061`` and ``%61``, once or several times encoded."""
    as_it_is = re.escape(chr(char)).encode()
    escape = rb"\\*" if chr(char) in '"\\/' else b""
    return rb"(?:%b%b|\\+u00(?i:%02x)|%%(?:25)*(?i:%02x))" % (escape, as_it_is, char, char)


def warn_once(warned: set[str], sentence: str, *, about: str = "") -> None:
    """Log a warning, unless it was given before, or another one `about` the same."""
    key = about or sentence
    if key not in warned:
        warned.add(key)
        logger.warning("%s", sentence)
