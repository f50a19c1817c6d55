from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_plugins_hydra.backoff import (
    LOST_CALL_BUDGET_S,
    MAX_DELAY_S,
    STABLE_S,
    Allowance,
    Recovery,
    delays,
)
from livekit_plugins_hydra.errors import (
    AuthenticationFailed,
    ConnectionLost,
    HandshakeRefused,
    ServerFull,
)

LOST = ConnectionLost(1006)
CLOSED = ConnectionLost(1000)
FULL = ServerFull()
REFUSED = HandshakeRefused(503)
POLICY = ConnectionLost(1008)
SHORTEST: Callable[[float, float], float] = min
LONGEST: Callable[[float, float], float] = max


def ready(recovery: Recovery, now: float, *, for_s: float) -> float:
    """Let a connection be READY for so long, and return when that ends."""
    recovery.ready(now)
    return now + for_s


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


# --------------------------------------------------------------------------------- recovery


def test_a_call_that_the_server_closes_is_dialled_again_at_once() -> None:
    """A caller in mid-sentence does not wait for the first retry, and ever longer for the next."""
    recovery = Recovery(3, LONGEST)
    now = ready(recovery, 0.0, for_s=60.0)

    assert recovery.failed(CLOSED, now) == 0.0
    assert recovery.failed(CLOSED, now) == 0.5
    assert recovery.failed(CLOSED, now) == 1.0


def test_a_call_that_was_never_ready_is_retried_as_often_as_the_user_said() -> None:
    """A first connection fails after `max_retry` retries, with delays between all of them."""
    recovery = Recovery(3, LONGEST)

    assert [recovery.failed(LOST, 0.0) for _ in range(4)] == [0.5, 1.0, 2.0, None]
    assert Recovery(0).failed(LOST, 0.0) is None


def test_a_full_server_is_not_dialled_at_once() -> None:
    """`server_full` comes after the upgrade, and hammering the server makes it worse."""
    recovery = Recovery(3, LONGEST)
    now = ready(recovery, 0.0, for_s=60.0)

    assert recovery.failed(FULL, now) == 0.5


@pytest.mark.parametrize("began_at", [0.0, 1000.0])
def test_a_lost_call_is_given_up_in_time(began_at: float) -> None:
    """Nobody holds a phone for minutes: retries end with a budget, whatever the clock shows."""
    recovery = Recovery(3, LONGEST)
    recovery.ready(began_at - 60.0)
    now = began_at
    waits: list[float | None] = []
    for _ in range(7):
        wait_s = recovery.failed(CLOSED, now)
        waits.append(wait_s)
        now += wait_s or 0.0

    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, None]
    assert now - began_at <= LOST_CALL_BUDGET_S


def test_a_connection_that_does_not_last_is_no_success() -> None:
    """A server that drops every new connection is met with growing delays, not with a storm."""
    recovery = Recovery(3, LONGEST)
    now = ready(recovery, 0.0, for_s=60.0)

    waits = []
    for _ in range(4):
        wait_s = recovery.failed(CLOSED, now)
        waits.append(wait_s)
        now = ready(recovery, now + (wait_s or 0.0), for_s=STABLE_S / 2)
    assert waits == [0.0, 0.5, 1.0, 2.0]


def test_a_connection_that_lasts_ends_the_outage() -> None:
    """After a stable connection the count begins anew, and the next loss is met at once."""
    recovery = Recovery(3, LONGEST)
    now = ready(recovery, 0.0, for_s=60.0)
    for _ in range(4):
        recovery.failed(CLOSED, now)
    now = ready(recovery, now, for_s=STABLE_S)

    assert recovery.failed(CLOSED, now) == 0.0
    assert recovery.failed(CLOSED, now) == 0.5


def test_the_first_outage_may_go_over_into_a_call() -> None:
    """A call that became ready late in its first outage is retried with a budget of time."""
    recovery = Recovery(1, LONGEST)

    assert recovery.failed(LOST, 0.0) == 0.5
    now = ready(recovery, 0.5, for_s=1.0)
    assert recovery.failed(LOST, now) == 1.0
    assert recovery.failed(LOST, now + 1.0) == 2.0


def test_what_the_server_asks_for_is_waited() -> None:
    """`Retry-After` makes a delay longer, never shorter, and counts against the budget."""
    recovery = Recovery(3, LONGEST)

    assert recovery.failed(HandshakeRefused(503, retry_after_s=7.0), 0.0) == 7.0
    assert recovery.failed(HandshakeRefused(503, retry_after_s=0.0), 0.0) == 1.0
    assert recovery.failed(REFUSED, 0.0) == 2.0

    recovery = Recovery(3, LONGEST)
    now = ready(recovery, 0.0, for_s=60.0)
    assert recovery.failed(HandshakeRefused(503, retry_after_s=60.0), now) is None


@pytest.mark.parametrize(
    "error", [AuthenticationFailed(401), HandshakeRefused(404), ConnectionLost(4001), OSError()]
)
@pytest.mark.parametrize("is_call", [False, True])
def test_what_would_only_happen_again_is_not_retried(error: Exception, is_call: bool) -> None:
    """A wrong key or address, and a close for cause, end the call at once."""
    recovery = Recovery(3)
    now = ready(recovery, 0.0, for_s=60.0) if is_call else 0.0

    assert recovery.failed(error, now) is None


def test_a_policy_violation_is_forgiven_once_after_a_stable_connection() -> None:
    """A token may have expired in a long call; a second time, it was something else."""
    recovery = Recovery(3, LONGEST)
    now = ready(recovery, 0.0, for_s=STABLE_S)

    assert recovery.failed(POLICY, now) == 0.0
    now = ready(recovery, now, for_s=STABLE_S)
    assert recovery.failed(POLICY, now) is None


def test_a_policy_violation_at_the_beginning_is_final() -> None:
    """A server that refuses the session by a close is not asked again."""
    recovery = Recovery(3)
    assert recovery.failed(POLICY, 0.0) is None

    recovery = Recovery(3)
    now = ready(recovery, 0.0, for_s=STABLE_S / 2)
    assert recovery.failed(POLICY, now) is None


@given(
    st.integers(0, 5),
    st.lists(
        st.tuples(
            st.sampled_from([LOST, FULL, REFUSED, POLICY]),
            st.booleans(),
            st.floats(0.0, 100.0),
        ),
        max_size=30,
    ),
)
def test_a_delay_stays_in_its_bounds(
    max_retry: int, failures: list[tuple[Exception, bool, float]]
) -> None:
    """However a network behaves, a delay is never negative and never longer than the longest."""
    recovery = Recovery(max_retry)
    now = 0.0
    for error, was_ready, lasted_s in failures:
        if was_ready:
            recovery.ready(now)
        now += lasted_s
        wait_s = recovery.failed(error, now)
        assert wait_s is None or 0.0 <= wait_s <= MAX_DELAY_S


def test_a_server_that_asks_for_an_hour_is_not_waited_for() -> None:
    """Nobody stays on the phone for a Retry-After of an hour: the call fails at once."""
    recovery = Recovery(3, LONGEST)

    assert recovery.failed(HandshakeRefused(503, retry_after_s=3600.0), 0.0) is None
