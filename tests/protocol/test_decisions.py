"""What the shell is told to do with the user's audio, with outputs and with the voice."""

from __future__ import annotations

import itertools

import pytest

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.call import GREETING_WINDOW_S, Call
from livekit_plugins_hydra.protocol.errors import ServerError
from livekit_plugins_hydra.protocol.learned import Learned
from livekit_plugins_hydra.protocol.line import KEPT_TURN_S
from livekit_plugins_hydra.protocol.turns import ANSWER_OVERDUE_S
from tests import server_says as server
from tests import session_wants as session
from tests.transcript import Transcript, after, ended, play

OUTPUT_WITHIN_S = 6.0


def ready(learned: Learned | None = None, voice: str = "wren") -> Transcript[Call]:
    """Return the transcript of a call whose configuration was sent."""
    ids = (f"cl_{n}" for n in itertools.count())
    call = play(Call(new_event_id=lambda: next(ids), learned=learned))
    assert call >> session.configurable() >> after(GREETING_WINDOW_S)
    configure(call, voice)
    return call


def configure(call: Transcript[Call], voice: str = "wren") -> None:
    """Let a connection be made and configured."""
    body = ev.ClientSession(instructions="Be kind.", voice=voice, generate_initial_response=False)
    assert (
        call
        >> session.open_socket()
        >> ev.SessionCreated()
        << fx.Compose(greet=False, opening="")
        >> session.configure_with(body)
        << fx.Send(ev.SessionConfigure(session=body))
    )


def answering() -> Transcript[Call]:
    """Return the transcript of a call in which a response has begun."""
    call = ready()
    assert call >> ev.SessionConfigured() << fx.SessionReady(ev.ServerSession())
    assert call >> server.created("r1") << fx.BeginResponse("r1")
    return call


def test_a_response_that_ends_has_answered() -> None:
    """What the user said before need not be sent again, be the answer empty."""
    call = answering()

    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call.has_answered


def test_a_function_call_has_answered() -> None:
    """A call is an answer before its response has ended."""
    call = answering()

    run = fx.CallFunction("r1", "item_c1", "c1", "look", "{}")
    assert call >> server.called("r1", "c1") << run
    assert call.has_answered


@pytest.mark.parametrize("said", ["audio", "text", "nothing"])
def test_a_response_that_was_cut_has_answered_if_it_said_something(said: str) -> None:
    """One that the user cut before it said anything leaves the question open."""
    call = answering()
    if said == "audio":
        assert call >> server.audio("r1") << fx.OutputAudio("r1", "a1", b"\1\0")
    if said == "text":
        assert call >> server.text("r1", "Yes.") << fx.OutputText("r1", "a1", "Yes.")

    assert (
        call >> server.speech_started("u1") << fx.EndStreams("r1", cut=True) << fx.UserStarted("u1")
    )
    assert call.has_answered is (said != "nothing")


def test_a_turn_counts_once_its_answer_begins() -> None:
    """A response that nobody wants does not settle what the user said; the answer does."""
    call = answering()
    assert call.has_kept
    assert (
        call
        >> server.called("r1", "c1")
        << fx.CallFunction("r1", "item_c1", "c1", "look", "{}")
        >> after(1.0)
        << fx.EndStreams("r1", cut=False)
        >> server.called("r1", "c2")
        << fx.BeginResponse("r1+1", is_late=True)
        << fx.CallFunction("r1+1", "item_c2", "c2", "look", "{}")
    )
    assert not call.has_kept


def test_a_turn_that_nobody_answers_counts_after_a_while() -> None:
    """What was transcribed of it is told then."""
    call = ready()
    assert call >> ev.SessionConfigured() << fx.SessionReady(ev.ServerSession())
    assert call >> server.speech_started("u1") << fx.UserStarted("u1")
    assert call >> server.speech_stopped("u1") << fx.UserStopped("u1")
    assert not call.has_kept

    assert call >> after(ANSWER_OVERDUE_S)
    assert call.has_kept


@pytest.mark.parametrize("speaks", [False, True])
def test_a_turn_that_the_next_server_does_not_hear_counts(speaks: bool) -> None:
    """Audio was sent again, and no speech was heard in it: the turn is settled as it is."""
    call = ready()
    assert call >> ev.SessionConfigured() << fx.SessionReady(ev.ServerSession())
    assert call >> session.lose(keeps_turn=True)
    configure(call)
    assert call >> ev.SessionConfigured() << fx.SessionReady(ev.ServerSession())
    if speaks:
        assert call >> server.speech_started("u1") << fx.UserStarted("u1")

    assert call >> after(KEPT_TURN_S)
    assert call.has_kept is not speaks


@pytest.mark.parametrize("is_posted", [False, True])
def test_an_output_that_the_framework_drops_is_asked_for(is_posted: bool) -> None:
    """Where the user has spoken while a function ran, its output may never be handed over."""
    call = answering()
    run = fx.CallFunction("r1", "item_c1", "c1", "look", "{}")
    assert call >> server.called("r1", "c1") << run
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call >> server.speech_started("u1") << fx.UserStarted("u1")
    assert call >> session.announce("c1", within_s=OUTPUT_WITHIN_S)
    if is_posted:
        assert (
            call
            >> session.post("c1", "")
            << fx.Send(
                ev.ConversationItemCreate(
                    item=ev.Item(type="function_call_output", call_id="c1", output="")
                )
            )
        )

    later = call >> after(OUTPUT_WITHIN_S)
    assert later if is_posted else later << fx.OutputDropped("c1")


def test_an_output_of_an_undisturbed_function_is_not_doubted() -> None:
    """LiveKit hands it over, however long that takes."""
    call = answering()
    run = fx.CallFunction("r1", "item_c1", "c1", "look", "{}")
    assert call >> server.called("r1", "c1") << run
    assert call >> session.announce("c1", within_s=OUTPUT_WITHIN_S)
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")

    assert call >> after(60.0)


REFUSAL = ev.Error(
    error=ev.ErrorBody(code="invalid_request_error", param="session.configure.session.voice")
)
REFUSED = fx.Fault(
    ServerError("invalid_request_error", param="session.configure.session.voice"), fatal=True
)


@pytest.mark.parametrize("voice", ["wren", "marin"])
def test_a_voice_that_is_refused_gives_way_to_the_servers_default(voice: str) -> None:
    """One new connection, with the voice that every server has, and the model remembers.

    A listed voice as well as one that is left over from another vendor.
    """
    learned = Learned()
    call = ready(learned, voice=voice)

    assert (
        call
        >> REFUSAL
        << fx.UseVoice(refused=voice, voice="sterling")
        << fx.Reconnect("another voice")
    )
    assert learned.voices_refused == {voice}


def test_the_servers_default_has_no_alternative() -> None:
    """A server that refuses it ends the connection."""
    call = ready(voice="sterling")

    assert call >> REFUSAL << REFUSED


def test_a_result_is_told_when_what_was_said_before_has_been_played() -> None:
    """LiveKit drops what waits behind other speech, and the server believes that it was told."""
    call = answering()
    run = fx.CallFunction("r1", "item_c1", "c1", "look", "{}")
    assert call >> server.called("r1", "c1") << run
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call >> server.speech_started("u1") << fx.UserStarted("u1")
    output = ev.Item(type="function_call_output", call_id="c1", output="42")
    assert call >> session.post("c1") << fx.Send(ev.ConversationItemCreate(item=output))
    assert call >> server.speech_stopped("u1") << fx.UserStopped("u1")
    played_until = call.now + 5.0

    waits = call.subject.receive(server.discarded("u1"), call.now, played_until)
    asks = call.subject.timer("narrate", played_until, played_until)
    assert fx.StartTimer("narrate", 5.0) in waits
    assert [type(effect.event) for effect in asks if isinstance(effect, fx.Send)] == [
        ev.ResponseCreate
    ]


def test_new_instructions_wait_until_what_was_said_has_been_played() -> None:
    """While a new connection is made, nobody hears the user."""
    call = answering()
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    played_until = call.now + 5.0

    waits = call.subject.instructions_changed(call.now, played_until)
    leaves = call.subject.timer("instructions", played_until, played_until)
    assert waits == [fx.StartTimer("instructions", 5.0)]
    assert any(isinstance(effect, fx.Reconnect) for effect in leaves)


@pytest.mark.parametrize("late", ["function call", "end"])
def test_what_comes_late_of_an_older_response_answers_no_newer_turn(late: str) -> None:
    """The user's second question is sent again after a lost connection: nobody has answered it."""
    call = answering()
    run = fx.CallFunction("r1", "item_c1", "c1", "look", "{}")
    assert call >> server.called("r1", "c1") << run
    assert call >> after(1.0) << fx.EndStreams("r1", cut=False)
    assert call >> server.speech_started("u2") << fx.UserStarted("u2")
    assert call >> server.speech_stopped("u2") << fx.UserStopped("u2")

    if late == "end":
        assert call >> server.done("r1") << ended("r1")
    else:
        assert (
            call
            >> server.called("r1", "c2")
            << fx.BeginResponse("r1+1", is_late=True)
            << fx.CallFunction("r1+1", "item_c2", "c2", "look", "{}")
        )
    assert not call.has_answered
