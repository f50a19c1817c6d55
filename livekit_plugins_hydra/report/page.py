"""One HTML file that shows a call: data, audio, style and script in it, no network.

What comes from the wire is data, never markup: it travels as JSON in which ``<``, ``>`` and ``&``
are escaped, and the script only ever sets text. A content security policy names the one script
and the one style by their hashes, and forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import asdict
from importlib.resources import files
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from livekit_plugins_hydra.testing import recordings

from .lines import LogLine
from .reading import timeline_of
from .rows import rows_of
from .timeline import Piece, Timeline

BIN_S: Final = 0.01
"""Resolution of the waveforms: ten minutes are 60,000 bins a side."""

AUDIO_RATE_HZ: Final = 24_000

_MAX_AUDIO_S: Final = 2 * 3600
"""A longer call is drawn without a player: its page would have more than 25 MB. Our choice."""

_MAX_WAVES_S: Final = 24 * 3600
"""Waveforms end here: a log with an odd time in it would ask for all memory. Our choice."""

_SCRIPTS: Final = ("page_base.js", "page_scene.js", "page_lists.js")
"""They are the page's one script, joined in this order: they share their names."""


def render(
    lines: list[LogLine],
    *,
    audio: recordings.Samples | None = None,
    audio_at_s: float = 0.0,
    title: str = "",
) -> str:
    """Return the page of a call.

    Args:
        lines: the call's lines, in order; at least one.
        audio: int16 (n_samples, 2) at `AUDIO_RATE_HZ`, user left and agent right; None draws the
            waveforms from the peaks in the log, and has no player.
        audio_at_s: where in the call the audio begins: seconds after the call began.
        title: a heading; by default the time of the call.
    """
    timeline = timeline_of(lines)
    data = _data_of(timeline, lines, title)
    encoded = ""
    placed = None if audio is None else _place(audio, audio_at_s)
    if placed is not None:
        data["duration_s"] = max(data["duration_s"], placed.shape[0] / AUDIO_RATE_HZ)
        data["waves"] = _waves_of_audio(placed)
        encoded = base64.b64encode(recordings.to_opus(placed, rate_hz=AUDIO_RATE_HZ)).decode()
    else:
        data["waves"] = _waves_of_pieces(timeline)
    return _fill(data, encoded)


def _data_of(timeline: Timeline, lines: list[LogLine], title: str) -> dict[str, Any]:
    exchanges = [
        asdict(each) | {"voice_to_voice_s": each.voice_to_voice_s, "segments": each.segments}
        for each in timeline.exchanges
    ]
    return {
        "title": title,
        "began": timeline.began,
        "duration_s": timeline.duration_s,
        "about": timeline.about,
        "summary": timeline.summary(),
        "spans": [asdict(span) for span in timeline.spans],
        "marks": [asdict(mark) for mark in timeline.marks],
        "exchanges": exchanges,
        "captions": [asdict(each) | {"text": each.text} for each in timeline.captions],
        "rows": [
            [row.at_s, row.direction, row.connection, row.type, row.summary, row.flag, row.frame]
            for row in rows_of(lines)
        ],
    }


def _place(audio: recordings.Samples, at_s: float) -> recordings.Samples | None:
    """Return audio that begins with the call: padded in front, or cut there.

    None where nothing of it is left, or where it is too long for a player.
    """
    n_samples = round(at_s * AUDIO_RATE_HZ)
    if not 0 < audio.shape[0] + n_samples <= _MAX_AUDIO_S * AUDIO_RATE_HZ:
        return None
    if n_samples <= 0:
        return audio[-n_samples:]
    return np.concatenate([np.zeros((n_samples, audio.shape[1]), dtype=np.int16), audio])


def _waves_of_audio(audio: recordings.Samples) -> dict[str, Any]:
    sides = [
        recordings.envelope(audio[:, side], rate_hz=AUDIO_RATE_HZ, bin_s=BIN_S) for side in (0, 1)
    ]
    return _waves(*sides, source="recording")


def _waves_of_pieces(timeline: Timeline) -> dict[str, Any]:
    n_bins = int(min(timeline.duration_s, _MAX_WAVES_S) / BIN_S) + 1
    sides = [_envelope_of(pieces, n_bins) for pieces in (timeline.user_audio, timeline.agent_audio)]
    return _waves(*sides, source="log")


def _envelope_of(pieces: list[Piece], n_bins: int) -> npt.NDArray[np.float64]:
    bins = np.zeros(n_bins)
    for piece in pieces:
        first = int(piece.begin_s / BIN_S)
        last = max(first + 1, int(piece.end_s / BIN_S))
        bins[first:last] = np.maximum(bins[first:last], piece.peak)
    return bins


def _waves(
    user: npt.NDArray[np.float64], agent: npt.NDArray[np.float64], *, source: str
) -> dict[str, Any]:
    return {
        "bin_s": BIN_S,
        "source": source,
        "user": _as_bytes(user),
        "agent": _as_bytes(agent),
    }


def _as_bytes(peaks: npt.NDArray[np.float64]) -> str:
    """Return peaks as base64 of one byte each; the square root keeps soft speech visible."""
    quantized = np.rint(np.sqrt(np.clip(peaks, 0.0, 1.0)) * 255).astype(np.uint8)
    return base64.b64encode(quantized.tobytes()).decode()


def _fill(data: dict[str, Any], recording: str) -> str:
    page, style = _text_of("page.html"), _text_of("page.css")
    script = "\n".join(map(_text_of, _SCRIPTS))
    parts = {
        "{{csp}}": (
            "default-src 'none'; media-src blob:; img-src data:; base-uri 'none';"
            f" form-action 'none'; script-src {_hash_of(script)}; style-src {_hash_of(style)}"
        ),
        "{{style}}": style,
        "{{script}}": script,
        "{{recording}}": recording,
        "{{data}}": _as_json(data),
    }
    # One pass over the template: what looks like a placeholder in the data stays as it is.
    return _PLACEHOLDER.sub(lambda match: parts[match[0]], page)


_PLACEHOLDER: Final = re.compile(r"\{\{\w+\}\}")


def _text_of(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash_of(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _as_json(data: dict[str, Any]) -> str:
    text = msgspec.json.encode(data).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
