from __future__ import annotations

import pytest

from livekit_plugins_hydra.protocol import errors
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    CouldNotConnect,
    HandshakeRefused,
    HandshakeTimeout,
    HydraError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    ServerError,
    ServerFull,
    is_retryable,
)

EXAMPLES: list[HydraError] = [
    ConfigurationError("set SMALLEST_API_KEY"),
    ConnectionFailed("no network"),
    AuthenticationFailed(401),
    HandshakeRefused(503),
    CouldNotConnect("host:443/s2s", "Connection refused"),
    HandshakeTimeout("session.created", 10.0),
    ServerFull(),
    ConnectionLost(1006),
    ProtocolError("a rule"),
    LocalProtocolError("a bug"),
    RemoteProtocolError("a bad frame"),
    ServerError("internal_error"),
]


def test_there_is_an_example_of_every_error() -> None:
    """The tests below speak of all errors."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]

    assert {type(error) for error in EXAMPLES} | {HydraError} == set(kinds)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_a_sentence(error: HydraError) -> None:
    """What reaches a user is text, on one line, and not a tuple of arguments."""
    text = str(error)

    assert text
    assert text.splitlines() == [text]
    assert not text.startswith("(")


def test_bad_arguments_are_value_errors() -> None:
    """A user who knows only Python catches what the constructor raises."""
    with pytest.raises(ValueError, match="SMALLEST_API_KEY"):
        raise ConfigurationError("set SMALLEST_API_KEY")


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed(403),
        HandshakeRefused(404),
        HandshakeTimeout("session.created", 10.0),
        ServerFull(),
        ConnectionLost(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_ends_a_connection_is_one_kind(error: Exception) -> None:
    """One `except` clause catches every way in which a connection fails."""
    assert isinstance(error, ConnectionFailed)


@pytest.mark.parametrize(
    ("error", "may_work_later"),
    [
        (AuthenticationFailed(401), False),
        (AuthenticationFailed(403), False),
        (HandshakeRefused(302), False),
        (HandshakeRefused(400), False),
        (HandshakeRefused(402), False),
        (HandshakeRefused(404), False),
        (HandshakeRefused(408), True),
        (HandshakeRefused(429), True),
        (HandshakeRefused(500), True),
        (HandshakeRefused(503), True),
        (HandshakeTimeout("session.created", 10.0), True),
        (ServerFull(), True),
        (ConnectionLost(), True),
        (ConnectionLost(1000), True),
        (ConnectionLost(1001), True),
        (ConnectionLost(1006), True),
        (ConnectionLost(1008), False),
        (ConnectionLost(1011), True),
        (ConnectionLost(1012), True),
        (ConnectionLost(4001), False),
        (CouldNotConnect("host:443/s2s", "no"), True),
        (CouldNotConnect("host:443/s2s", "no", retryable=False), False),
        (ServerError("internal_error"), True),
        (ServerError("session_ended"), True),
        (ServerError("invalid_request_error"), False),
        (ServerError("invalid_frame"), False),
        (ConfigurationError("no key"), False),
        (LocalProtocolError("a bug"), False),
        (RemoteProtocolError("a bad frame"), False),
        (OSError("no route"), False),
    ],
    ids=repr,
)
def test_only_what_may_pass_is_tried_again(error: Exception, may_work_later: bool) -> None:
    """Repeating what can't work costs the user time, and giving up too early costs the call."""
    assert is_retryable(error) is may_work_later


def test_a_refused_key_says_what_to_check() -> None:
    """The most common first error names its cure and its status."""
    error = AuthenticationFailed(401)

    assert error.status == 401
    assert "401" in str(error)
    assert "SMALLEST_API_KEY" in str(error)


def test_a_refused_connection_says_whose_turn_it_is() -> None:
    """A busy server is waited for; a wrong address is for the user to correct."""
    busy = HandshakeRefused(503, retry_after_s=7.0)
    wrong = HandshakeRefused(404)
    moved = HandshakeRefused(302)

    assert busy.retry_after_s == 7.0
    assert wrong.retry_after_s is None
    assert "503" in str(busy)
    assert "base_url" not in str(busy)
    assert "404" in str(wrong)
    assert "base_url" in str(wrong)
    assert "another address" in str(moved)
    assert "base_url" in str(moved)


def test_a_timeout_says_what_was_waited_for() -> None:
    """The two halves of the handshake fail for different reasons."""
    error = HandshakeTimeout("session.configured", 10.0)

    assert error.waiting_for == "session.configured"
    assert "no session.configured within 10 s" in str(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionLost(), ["was lost."]),
        (ConnectionLost(reason="no route"), ["was lost (no route)."]),
        (ConnectionLost(1006), ["1006"]),
        (ConnectionLost(1008, "policy"), ["1008 (policy)", "the call ends here"]),
    ],
)
def test_a_lost_connection_says_what_is_known(error: ConnectionLost, words: list[str]) -> None:
    """Code and reason are told where there are any, and whether the call goes on."""
    for part in words:
        assert part in str(error)
    assert ("ends here" in str(error)) is not error.retryable


def test_a_servers_error_says_where_and_what() -> None:
    """The server's code, place and words reach the user, and its ids the caller."""
    error = ServerError(
        "invalid_request_error",
        "unknown voice",
        param="session.configure.session.voice",
        event_id="cl_1",
    )

    assert error.event_id == "cl_1"
    assert str(error) == (
        "Hydra reports invalid_request_error at session.configure.session.voice: unknown voice"
    )
    assert str(ServerError("internal_error")) == "Hydra reports internal_error: no message"


@pytest.mark.parametrize("code", ["tool_response_timeout", "invalid_audio"])
def test_some_errors_of_a_server_come_with_a_hint(code: str) -> None:
    """Where the server's words don't help, ours follow."""
    assert str(ServerError(code, "words")) != f"Hydra reports {code}: words"
    assert str(ServerError(code, "words")).startswith(f"Hydra reports {code}: words (")


@pytest.mark.parametrize(
    ("param", "is_about_voice"),
    [
        ("session.configure.session.voice", True),
        ("voice", True),
        ("session.configure.session.voices", False),
        ("voice.name", False),
        (None, False),
    ],
)
def test_a_servers_error_is_about_the_field_that_it_names(
    param: str | None, is_about_voice: bool
) -> None:
    """The field at fault is told by its name, however deep it stands in the request."""
    assert ServerError("invalid_request_error", param=param).is_about("voice") is is_about_voice
