"""Model tags, voice rosters and output rates: what is known of Hydra's catalogue, as data.

Rosters change, so no voice is refused here: an unknown one is passed on to the server.

Source: vendor docs of 2026-08-21, rates by the docs authors' live probe of 2026-08-20.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final, Literal

HydraModel = Literal["hydra-v1.1", "hydra-v1.0", "hydra"]

# fmt: off
HydraVoice = Literal[
    "zoe", "maya", "elena", "ivy", "grace", "alex", "aria", "leo", "sam", "kai",
    "vaughn", "brooks", "cole", "hayes", "pierce", "sterling", "ellis", "lane", "quinn",
    "arden", "rowan", "blair", "emery", "sawyer",
    "wren", "sloane", "marlowe", "reed", "knox", "tate",
]
# fmt: on

DEFAULT_MODEL: Final = "hydra-v1.1"

SERVER_DEFAULT_VOICE: Final = "sterling"
"""The server's voice when none is named, on every tag (probe of 2026-08-20)."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model tag."""

    voices: tuple[str, ...]
    """The voices that the vendor lists for this tag."""

    default_voice: str
    """Sent when the user names no voice."""

    output_rate_hz: int
    """Rate of the server's audio, used only where `session.configured` does not name one."""


MODELS: Final[dict[str, ModelInfo]] = {
    "hydra-v1.1": ModelInfo(
        voices=("zoe", "maya", "elena", "ivy", "grace", "alex", "aria", "leo", "sam", "kai"),
        default_voice="aria",
        output_rate_hz=24_000,
    ),
    "hydra-v1.0": ModelInfo(
        voices=(
            *("vaughn", "brooks", "cole", "hayes", "pierce", "sterling", "ellis", "lane", "quinn"),
            *("arden", "rowan", "blair", "emery", "sawyer"),
        ),
        default_voice="sterling",
        output_rate_hz=48_000,
    ),
    "hydra": ModelInfo(
        # Listed at launch; a live probe of 2026-08-20 saw them refused.
        voices=("wren", "sloane", "marlowe", "reed", "knox", "tate"),
        default_voice="wren",
        output_rate_hz=48_000,
    ),
}
"""Every known model tag, the current one first."""

FALLBACK_OUTPUT_RATE_HZ: Final = MODELS[DEFAULT_MODEL].output_rate_hz
"""Output rate assumed for a tag that is not in `MODELS`."""


def model_of_voice(voice: str) -> str:
    """Return the model tag whose roster has `voice`, else the default tag."""
    return next((tag for tag, info in MODELS.items() if voice in info.voices), DEFAULT_MODEL)


def default_voice(model: str) -> str:
    """Return the voice to send for `model` when the user names none."""
    info = MODELS.get(model)
    return info.default_voice if info else SERVER_DEFAULT_VOICE


def output_rate_hz(model: str) -> int:
    """Return the rate to assume for `model` until the server names one."""
    info = MODELS.get(model)
    return info.output_rate_hz if info else FALLBACK_OUTPUT_RATE_HZ


def is_known_voice(voice: str) -> bool:
    """Return whether any roster has `voice`; the server has one list for all tags."""
    return any(voice in info.voices for info in MODELS.values())


def nearest_voice(voice: str) -> str | None:
    """Return the known voice that was probably meant; None if `voice` is like none."""
    known = [name for info in MODELS.values() for name in info.voices]
    return next(iter(difflib.get_close_matches(voice.strip().lower(), known, n=1)), None)
