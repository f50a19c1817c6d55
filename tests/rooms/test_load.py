"""The load test itself, small: that its figures are figures. The documents have large runs'."""

from __future__ import annotations

import numpy as np

from . import load
from .livekit_server import LiveKit
from .sound import RATE_HZ, Utterance, tone


async def test_load_holds_calls_and_measures_them(livekit: LiveKit) -> None:
    """Two calls at once are answered and broken into, and what each used is told."""
    measured = await load.hold(livekit, 2, 2.5 * load.CYCLE_S)

    assert [call.failures for call in measured.calls] == [[], []]
    for call in measured.calls:
        assert call.answers_s
        assert call.barge_ins_s
        # On an idle machine it is under 0.1 s; others use this one as well.
        assert np.median(call.barge_ins_s) < 0.5
        assert 0.0 < call.used["plugin_s"] < call.used["loop_s"]
    assert measured.used_s["agents"] > 0.0
    assert "2 calls for" in measured.report()[0]


def test_gaps_in_a_steady_tone_are_found() -> None:
    """A hole of 30 ms in a tone is a gap of 30 ms; a tone without holes has none."""
    whole = tone(2.0, hz=440.0, rate_hz=RATE_HZ)
    holed = whole.copy()
    holed[RATE_HZ : RATE_HZ + 30 * RATE_HZ // 1000] = 0

    assert load.gaps_ms(Utterance(0.0, 2.0, whole)) == []
    assert load.gaps_ms(Utterance(0.0, 2.0, holed)) == [30]
