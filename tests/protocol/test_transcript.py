from __future__ import annotations

import pytest

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.conversation import Conversation
from livekit_plugins_hydra.protocol.errors import HandshakeTimeout, ServerError, ServerFull
from tests import server_says as server
from tests.transcript import After, Transcript, after, open_socket, play

TIMEOUT = fx.Fault(HandshakeTimeout("session.created", 10.0), fatal=True)


def call() -> Transcript:
    """Return the transcript of a socket that has just opened."""
    transcript = play(Conversation(lambda: "cl"))
    assert transcript >> open_socket()
    return transcript


def test_a_transcript_that_is_right_is_true() -> None:
    """Timers run out on the way, at their time, and what they bring is written down."""
    assert call() >> after(9.0) >> ev.Warning() >> after(1.0) << TIMEOUT >> after(60.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: call() >> after(10.0),
        lambda: call() >> after(9.0) << TIMEOUT,
        lambda: call() >> after(10.0) << TIMEOUT << TIMEOUT,
        lambda: call() >> after(10.0) << fx.Fault(ServerFull(), fatal=True),
        lambda: call() >> after(10.0) << fx.UserStarted(None),
        lambda: call() >> server.error("a") << fx.Fault(ServerError("b"), fatal=True),
    ],
    ids=["too little", "too early", "too much", "another error", "another effect", "other words"],
)
def test_a_transcript_that_is_wrong_shows_both_sides(wrong: object) -> None:
    """What was expected and what it was are printed, whatever the difference."""
    assert callable(wrong)
    transcript = wrong()

    with pytest.raises(AssertionError, match=r"(?s)expected:.*>> open.*but it was:.*>> open"):
        bool(transcript)


def test_a_transcript_that_nobody_asserts_fails() -> None:
    """A forgotten `assert` does not pass for a test."""
    transcript = call() >> After(1.0)

    with pytest.raises(AssertionError, match=r"(?s)never asserted:.*after 1 s"):
        transcript.__del__()
    assert transcript
