"""What follows from each way in which a connection can fail: design.md's table, row by row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_plugins_hydra.protocol.backoff import (
    AT_ONCE_S,
    LOST_CALL_BUDGET_S,
    MAX_DELAY_S,
    STABLE_S,
    Recovery,
)
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    ConnectionLost,
    CouldNotConnect,
    HandshakeRefused,
    HandshakeTimeout,
    ServerError,
    ServerFull,
)

LONGEST: Callable[[float, float], float] = max
FIRST_S, SECOND_S, THIRD_S = 0.5, 1.0, 2.0
"""The longest delays before the first retries."""

TRANSPORT = ConnectionLost(reason="no route to host")
UNREACHED = CouldNotConnect("host:443/s2s", "Connection refused")
LINK_LOST = [TRANSPORT, UNREACHED, ConnectionLost(1000), ConnectionLost(1005)]
"""Ends that say nothing against the server."""

UNRECOVERABLE = [
    AuthenticationFailed(401),
    AuthenticationFailed(403),
    HandshakeRefused(400),
    HandshakeRefused(402),
    HandshakeRefused(404),
    HandshakeRefused(404, retry_after_s=1.0),
    ConnectionLost(1002),
    ConnectionLost(1003),
    ConnectionLost(4000),
    ConnectionLost(4001),
    ConnectionLost(4999),
    ServerError("invalid_request_error", param="session.configure.session.voice"),
]
BUSY = [
    HandshakeRefused(408),
    HandshakeRefused(429),
    HandshakeRefused(500),
    HandshakeRefused(502),
    HandshakeRefused(503),
    HandshakeTimeout("session.configured", 10.0),
    ServerFull(),
    ConnectionLost(1001),
    ConnectionLost(1011),
    ConnectionLost(1012),
    ServerError("internal_error"),
]


def new_call(*, max_retry: int = 3) -> Recovery:
    """Return the recovery of a call that was never connected."""
    return Recovery(max_retry, LONGEST)


def talking(*, for_s: float = 60.0) -> Recovery:
    """Return the recovery of a call that was READY for so long at 0.0."""
    recovery = Recovery(3, LONGEST)
    recovery.ready(-for_s)
    return recovery


def name(error: object) -> str:
    """Return what is to be told of an error in the name of a test."""
    assert isinstance(error, Exception)
    return f"{type(error).__name__} {error.args}"


# ------------------------------------------------------------------------------------ each row


@pytest.mark.parametrize("error", UNRECOVERABLE, ids=name)
def test_what_a_retry_can_not_cure_ends_the_call(error: Exception) -> None:
    """A wrong key, address, plan or request, and a close for cause, would only happen again."""
    assert new_call().failed(error, 0.0) is None
    assert talking().failed(error, 0.0) is None


@pytest.mark.parametrize("error", BUSY, ids=name)
def test_what_may_pass_is_retried_with_growing_delays(error: Exception) -> None:
    """Nobody hammers a server that is busy, down or coming up, and all callers spread out."""
    for recovery in (new_call(), talking()):
        delays = [recovery.failed(error, 0.0) for _ in range(3)]
        assert delays == [FIRST_S, SECOND_S, THIRD_S]


@pytest.mark.parametrize("error", LINK_LOST, ids=name)
def test_a_lost_call_is_connected_again_at_once_the_first_time(error: Exception) -> None:
    """Links break and servers close idle sessions: a caller in mid-sentence waits for nothing."""
    recovery = talking()

    assert recovery.failed(error, 0.0) == AT_ONCE_S
    recovery.ready(0.2)
    assert recovery.failed(error, 1.0) == FIRST_S
    recovery.ready(2.0)
    assert recovery.failed(error, 3.0) == SECOND_S


@pytest.mark.parametrize("error", LINK_LOST, ids=name)
def test_a_lost_call_is_connected_again_at_once_after_each_good_connection(
    error: Exception,
) -> None:
    """A long call may be closed for idleness, or cut, again and again."""
    recovery = talking()
    now = 0.0

    for _ in range(5):
        assert recovery.failed(error, now) == AT_ONCE_S
        recovery.ready(now)
        now += STABLE_S


@pytest.mark.parametrize("error", LINK_LOST, ids=name)
def test_a_call_that_never_began_is_not_connected_again_at_once(error: Exception) -> None:
    """A server that lets nobody in politely is not hammered either."""
    recovery = new_call(max_retry=2)

    delays = [recovery.failed(error, 0.0) for _ in range(3)]
    assert delays == [FIRST_S, SECOND_S, None]


def test_a_policy_violation_is_forgiven_once_in_a_good_connection() -> None:
    """It may be an expired token, and a new one helps at once; twice is something else."""
    recovery = talking(for_s=STABLE_S)
    policy = ConnectionLost(1008)

    assert recovery.failed(policy, 0.0) == AT_ONCE_S
    recovery.ready(0.0)
    assert recovery.failed(policy, STABLE_S) is None


@pytest.mark.parametrize("for_s", [0.0, STABLE_S / 2, STABLE_S - 0.001])
def test_a_policy_violation_at_the_beginning_ends_the_call(for_s: float) -> None:
    """The server does not want this session."""
    assert talking(for_s=for_s).failed(ConnectionLost(1008), 0.0) is None
    assert new_call().failed(ConnectionLost(1008), 0.0) is None


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_the_server_may_ask_for_patience(status: int) -> None:
    """`Retry-After` is honoured where it is longer than the delay, for calls of either kind."""
    for recovery in (new_call(), talking()):
        assert recovery.failed(HandshakeRefused(status, retry_after_s=4.0), 0.0) == 4.0
        assert recovery.failed(HandshakeRefused(status, retry_after_s=0.1), 0.0) == SECOND_S


# --------------------------------------------------------------------------------- the budgets


@pytest.mark.parametrize("max_retry", [0, 1, 3])
def test_a_first_connection_is_tried_as_often_as_the_user_says(max_retry: int) -> None:
    """However long each attempt to connect takes."""
    recovery = new_call(max_retry=max_retry)
    now = 0.0
    n_retries = 0
    while (delay_s := recovery.failed(TRANSPORT, now)) is not None:
        n_retries += 1
        now += delay_s + 10.0

    assert n_retries == max_retry


@pytest.mark.parametrize("began_at", [0.0, 12_345.0])
@pytest.mark.parametrize("connect_s", [0.0, 0.3, 3.0])
def test_a_lost_call_is_tried_for_twenty_seconds(began_at: float, connect_s: float) -> None:
    """No attempt begins later than that, and the last one begins when they end.

    Else an outage of 15 s would lose calls that a server which is back would have answered.
    """
    recovery = Recovery(0, LONGEST)
    recovery.ready(began_at - 60.0)
    now = began_at
    delay_s = recovery.failed(TRANSPORT, now)
    last_at = now
    while delay_s is not None:
        last_at = now + delay_s
        now = last_at + connect_s
        delay_s = recovery.failed(TRANSPORT, now)

    assert LOST_CALL_BUDGET_S - FIRST_S / 2 - connect_s <= last_at - began_at <= LOST_CALL_BUDGET_S


def test_a_hard_beginning_is_not_held_against_a_call() -> None:
    """The twenty seconds begin with the loss of the call, not with the first failure to connect."""
    recovery = new_call()
    assert recovery.failed(TRANSPORT, 0.0) is not None
    assert recovery.failed(TRANSPORT, 12.0) is not None
    recovery.ready(24.0)

    assert recovery.failed(TRANSPORT, 26.0) is not None
    assert recovery.failed(TRANSPORT, 26.0 + LOST_CALL_BUDGET_S - 4.0) is not None
    assert recovery.failed(TRANSPORT, 26.0 + LOST_CALL_BUDGET_S) is None


def test_a_connection_that_does_not_last_neither_resets_delays_nor_the_budget() -> None:
    """`server_full` comes after the upgrade: an accepted connection proves nothing."""
    recovery = talking()
    now = 0.0
    delays = []
    while (delay_s := recovery.failed(ServerFull(), now)) is not None:
        delays.append(delay_s)
        now += delay_s
        recovery.ready(now)
        now += STABLE_S / 2

    assert delays == [0.5, 1.0, 2.0, 4.0, 2.5]


def test_a_connection_that_lasts_resets_both() -> None:
    """Five good seconds end an outage, and the next one is met with all patience."""
    recovery = talking()
    for _ in range(3):
        recovery.failed(TRANSPORT, 0.0)
    recovery.ready(15.0)

    lost_at = 15.0 + STABLE_S
    assert recovery.failed(TRANSPORT, lost_at) == AT_ONCE_S
    assert recovery.failed(TRANSPORT, lost_at + LOST_CALL_BUDGET_S - 0.75) == FIRST_S
    assert recovery.failed(TRANSPORT, lost_at + LOST_CALL_BUDGET_S) is None


def test_an_old_loss_is_over_when_its_connection_has_lasted_and_was_left() -> None:
    """A connection that is made anew on purpose fails early: that is a loss of its own."""
    recovery = talking()
    recovery.failed(TRANSPORT, 0.0)
    recovery.ready(0.2)
    recovery.ready(700.0)

    assert recovery.failed(TRANSPORT, 703.0) == AT_ONCE_S
    assert recovery.failed(TRANSPORT, 703.0 + LOST_CALL_BUDGET_S / 2) == FIRST_S


def test_patience_that_the_server_asks_for_counts_against_the_budget() -> None:
    """Nobody holds a phone for that long."""
    recovery = talking()

    assert recovery.failed(HandshakeRefused(503, retry_after_s=15.0), 0.0) == 15.0
    assert recovery.failed(HandshakeRefused(503, retry_after_s=15.0), 15.0) is None


def test_a_server_that_asks_for_an_hour_is_not_waited_for() -> None:
    """Nobody stays on the phone for a Retry-After of an hour: the call fails at once."""
    assert new_call().failed(HandshakeRefused(503, retry_after_s=3600.0), 0.0) is None


@given(
    st.integers(0, 4),
    st.lists(
        st.tuples(
            st.sampled_from([*BUSY, *UNRECOVERABLE, *LINK_LOST, ConnectionLost(1008)]),
            st.booleans(),
            st.floats(0.0, 30.0),
        ),
        max_size=30,
    ),
)
def test_a_server_is_never_hammered(
    max_retry: int, failures: list[tuple[ConnectionFailed, bool, float]]
) -> None:
    """After a reconnect at once comes a delay, whatever happens, unless a connection has lasted."""
    recovery = Recovery(max_retry)
    now = 0.0
    may_connect_at_once = True
    for error, is_ready, lasted_s in failures:
        if is_ready:
            recovery.ready(now)
            may_connect_at_once |= lasted_s >= STABLE_S
        now += lasted_s
        delay_s = recovery.failed(error, now)
        if delay_s is None:
            continue
        if delay_s <= AT_ONCE_S:
            assert may_connect_at_once
            may_connect_at_once = False
        else:
            assert FIRST_S / 2 <= delay_s <= MAX_DELAY_S
