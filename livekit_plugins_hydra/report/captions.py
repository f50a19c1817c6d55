"""Makes the agent's captions: what was played of a response's text, and when."""

from __future__ import annotations

import bisect
import itertools
from typing import Final

from .spans import LoggedResponse
from .timeline import Caption

_CUT_S: Final = 0.05
"""A response that lacks less of its end than this was played: times are not more exact."""


def caption_of(response: LoggedResponse, *, has_spaces: bool) -> Caption | None:
    """Return what was played of a response's text; None where that is nothing.

    Text runs ahead of its audio, so each phrase is shown where its share of the audio is played:
    speech is taken as even, as where a call's history is cut to what was played.

    Args:
        response: its text came in phrases.
        has_spaces: whether the phrases bring the spaces between them.
    """
    phrases = [text if has_spaces else f" {text.strip()}" for _, text in response.words]
    text = "".join(phrases)
    ends_s = list(itertools.accumulate(piece.duration_s for piece in response.pieces))
    n_played = len(text)
    if response.cut_s is not None:
        played_s = ends_s[-1] if ends_s else 0.0
        if not played_s or played_s < response.audio_s - _CUT_S:
            n_played = _end_of_word(text, int(len(text) * played_s / (response.audio_s or 1.0)))
    caption = Caption("agent", 0.0, [])
    n_before = 0
    for (at_s, _), phrase in zip(response.words, phrases, strict=True):
        if ends_s:
            position_s = response.audio_s * n_before / len(text)
            which = min(bisect.bisect_right(ends_s, position_s), len(ends_s) - 1)
            at_s = response.pieces[which].end_s - ends_s[which] + position_s
        if shown := phrase[: max(0, n_played - n_before)]:
            caption.phrases.append((at_s, shown))
        n_before += len(phrase)
    if not caption.text:
        return None
    caption.begin_s = caption.phrases[0][0]
    return caption


def _end_of_word(text: str, end: int) -> int:
    """Return where the last word ends that is whole before a place in the text."""
    while 0 < end < len(text) and not text[end].isspace():
        end -= 1
    return end
