from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from livekit_plugins_hydra.protocol.backoff import Allowance, delays

SHORTEST: Callable[[float, float], float] = min
LONGEST: Callable[[float, float], float] = max


# ----------------------------------------------------------------------------------- delays


def test_delays_double_up_to_a_bound() -> None:
    """The longest delays are 0.5, 1, 2, 4 and then always 8 seconds; the shortest half of it."""
    assert list(itertools.islice(delays(LONGEST), 6)) == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert list(itertools.islice(delays(SHORTEST), 6)) == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0]


def test_delays_differ_from_caller_to_caller() -> None:
    """Callers whom one server has lost do not come back all at once."""
    assert len({next(delays()) for _ in range(20)}) > 1


# -------------------------------------------------------------------------------- allowance


def test_an_allowance_is_for_a_sliding_window() -> None:
    """So many are allowed at once, and each becomes free again when its time has passed."""
    allowance = Allowance(2, 60.0)

    assert allowance.take(0.0)
    assert allowance.take(10.0)
    assert not allowance.take(59.0)
    assert allowance.wait_s(59.0) == 1.0
    assert allowance.take(60.0)
    assert not allowance.take(69.0)
    assert allowance.take(70.0)


@given(st.integers(1, 4), st.integers(1, 20), st.lists(st.integers(0, 15), max_size=40))
def test_an_allowance_is_never_exceeded_and_never_wasted(
    limit: int, window_s: int, gaps: list[int]
) -> None:
    """Whoever waits as long as told may take one, and no window ever holds more than the limit."""
    allowance = Allowance(limit, window_s)
    taken: list[float] = []
    now = 0.0
    for gap in gaps:
        now += gap
        wait_s = allowance.wait_s(now)
        may_take = allowance.take(now)
        assert may_take is (wait_s == 0.0)
        if not may_take:
            now += wait_s
            assert allowance.take(now)
        taken.append(now)

    for end in taken:
        assert sum(end - window_s < at <= end for at in taken) <= limit
