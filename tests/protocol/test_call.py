from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.backoff import RECONNECTS_PER_MINUTE
from livekit_plugins_hydra.protocol.call import (
    GREETING_WINDOW_S,
    NARRATION_S,
    Call,
)
from livekit_plugins_hydra.protocol.demand import (
    REPLY_DEADLINE_S,
    REPLY_LIMIT_S,
    REPLY_SILENCE_S,
)
from livekit_plugins_hydra.protocol.errors import RemoteProtocolError, ServerError
from livekit_plugins_hydra.protocol.learned import FORGET_S, Learned, Way
from livekit_plugins_hydra.protocol.line import DEBT_S, KEPT_TURN_S
from livekit_plugins_hydra.protocol.renewal import (
    ANSWER_S,
    INSTRUCTIONS_DEBOUNCE_S,
    INSTRUCTIONS_RECONNECT_EVERY_S,
)
from livekit_plugins_hydra.protocol.response import CUT_OVERDUE_S, GRACE_S, STALL_S
from livekit_plugins_hydra.protocol.results import NARRATE_AFTER_S
from livekit_plugins_hydra.protocol.states import About, Handshake
from livekit_plugins_hydra.protocol.turns import ANSWER_OVERDUE_S
from tests import server_says as server
from tests import session_wants as session
from tests.transcript import Step, Transcript, after, ended, play

CallTranscript = Transcript[Call]
Effects = Sequence[fx.Effect]
SOON = 0.001
LOOK = ev.Tool(name="look")
ASK = fx.Send(ev.ResponseCreate())
RECONNECT = fx.Reconnect("")
STRANGE = fx.Fault(RemoteProtocolError(), fatal=False)


def failed(reply_id: str) -> fx.ReplyFailed:
    """Return the effect that fails a reply."""
    return fx.ReplyFailed(reply_id, "")


def item(text: str, role: str = "user") -> fx.Send:
    """Return the effect that sends a text item."""
    content = [ev.Content(type="input_text", text=text)]
    return fx.Send(
        ev.ConversationItemCreate(item=ev.Item(type="message", role=role, content=content))
    )


def output(call_id: str, text: str = "42") -> fx.Send:
    """Return the effect that sends an output."""
    return fx.Send(
        ev.ConversationItemCreate(
            item=ev.Item(type="function_call_output", call_id=call_id, output=text)
        )
    )


def cancelled(response_id: str) -> fx.Send:
    """Return the effect that cancels a response."""
    return fx.Send(ev.ResponseCancel(response_id=response_id))


def call_function(part_id: str, call_id: str) -> fx.CallFunction:
    """Return the effect that hands a call over."""
    return fx.CallFunction(part_id, f"item_{call_id}", call_id, "look", "{}")


def sound(part_id: str) -> fx.OutputAudio:
    """Return the effect that plays the audio of `server.audio`."""
    return fx.OutputAudio(part_id, "a1", b"\1\0")


def configured(*, greet: bool = False) -> fx.Send:
    """Return the effect that sends the configuration."""
    return fx.Send(ev.SessionConfigure(session=session.configuration(greet=greet)))


def refusing(*ways: Way) -> Learned:
    """Return what is known of a server that has refused some ways, again and again."""
    learned = Learned()
    for way in ways * 2:
        learned.failed(way, 1000.0)
    return learned


def speaking() -> Learned:
    """Return what is known of a server that has spoken on demand."""
    learned = Learned()
    learned.worked(Way.CREATE, 1000.0)
    return learned


# --------------------------------------------------------------------------- how a call stands


def new_call(**options: Any) -> CallTranscript:
    """Return the transcript of a call that has nothing yet."""
    ids = (f"cl_{n}" for n in itertools.count())
    return play(Call(new_event_id=lambda: next(ids), **options))


def connect(call: CallTranscript, *, greet: bool = False, opening: str = "") -> None:
    """Let a connection be made, with or without a first response."""
    assert (
        call
        >> session.open_socket()
        >> ev.SessionCreated()
        << fx.Compose(greet=greet, opening=opening)
        >> session.configure(greet=greet)
        << configured(greet=greet)
        >> ev.SessionConfigured()
        << fx.SessionReady(ev.ServerSession())
    )


def untouched(*, greet: bool = False, **options: Any) -> CallTranscript:
    """Return the transcript of a call that is ready, and in which nothing was said."""
    call = new_call(greet=greet, **options)
    assert call >> session.configurable() >> after(GREETING_WINDOW_S)
    connect(call, greet=greet)
    return call


def configuring() -> CallTranscript:
    """Return the transcript of a call whose configuration is on its way, without a greeting."""
    call = new_call()
    assert call >> session.configurable() >> after(GREETING_WINDOW_S)
    assert (
        call
        >> session.open_socket()
        >> ev.SessionCreated()
        << fx.Compose(greet=False, opening="")
        >> session.configure()
        << configured()
    )
    return call


def plain_turn(call: CallTranscript, n: int, *, is_written: bool = False) -> None:
    """Let the user speak, and the server answer; the server may write both down."""
    user, response = f"u{n}", f"r{n}"
    call = (
        call
        >> server.speech_started(user)
        << fx.UserStarted(user)
        >> server.speech_stopped(user)
        << fx.UserStopped(user)
        >> server.heard(user, "What time is it?" if is_written else None)
    )
    if is_written:
        call <<= fx.UserText(user, "What time is it?")
    call = call >> server.created(response) << fx.BeginResponse(response)
    call = call >> server.audio(response) << sound(response)
    if is_written:
        call = call >> server.text(response, "Noon.") << fx.OutputText(response, "a1", "Noon.")
    assert (
        call
        >> server.done(response)
        << fx.EndStreams(response, cut=False)
        << ended(response)
        >> after(1.0)
    )


def talked(*, learned: Learned | None = None, is_written: bool = False) -> CallTranscript:
    """Return the transcript of a quiet call in which something was said."""
    call = untouched(learned=learned)
    plain_turn(call, 0, is_written=is_written)
    return call


def asked(reply_id: str = "g1", *, learned: Learned | None = None) -> CallTranscript:
    """Return the transcript of a call in which a reply was just asked for."""
    call = talked(learned=learned)
    assert call >> session.reply(reply_id) << ASK
    return call


def calling(*call_ids: str, is_done: bool = True, learned: Learned | None = None) -> CallTranscript:
    """Return the transcript of a call whose response `r1` has called functions."""
    call = talked(learned=learned)
    assert call >> server.created("r1") << fx.BeginResponse("r1")
    for call_id in call_ids or ("c1",):
        assert call >> server.called("r1", call_id) << call_function("r1", call_id)
    if is_done:
        assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    else:
        assert call >> after(GRACE_S) << fx.EndStreams("r1", cut=False)
    return call


def start_speech(call: CallTranscript, user: str = "u1") -> None:
    """Let the user begin to speak while nothing plays."""
    assert call >> server.speech_started(user) << fx.UserStarted(user)


def stop_speech(call: CallTranscript, user: str = "u1") -> None:
    """Let the user stop."""
    assert call >> server.speech_stopped(user) << fx.UserStopped(user)


def discard(call: CallTranscript, user: str = "u1") -> None:
    """Let the server decide that a turn that was stopped was no speech."""
    assert call >> server.discarded(user) << fx.UserDiscarded(user)


def cough(call: CallTranscript, user: str = "u1") -> None:
    """Let the user cough."""
    start_speech(call, user)
    stop_speech(call, user)
    discard(call, user)


def answered(
    call: CallTranscript, response: str, reply_id: str | None = None, *, then: Effects = ()
) -> None:
    """Let a response begin and end; `then` follows."""
    call = (
        call
        >> server.created(response)
        << fx.BeginResponse(response, reply_id=reply_id)
        >> server.audio(response)
        << sound(response)
        >> server.done(response)
        << fx.EndStreams(response, cut=False)
        << ended(response)
    )
    assert follows(call, then)


def follows(call: CallTranscript, effects: Effects) -> CallTranscript:
    """Write down what follows."""
    for effect in effects:
        call <<= effect
    return call


def interrupted(*call_ids: str) -> CallTranscript:
    """Return the transcript of a call whose functions run while the user speaks."""
    call = calling(*call_ids)
    start_speech(call)
    return call


def refused(call: CallTranscript, kind: type[ev.Event], code: str = "invalid_frame") -> ev.Error:
    """Return the refusal of the newest event of `kind` that was sent just now."""
    return server.error(code, "no", event_id=call.id_of(kind))


# --------------------------------------------------------------------------------- the greeting


def test_a_call_that_nobody_opens_is_configured_when_the_window_closes() -> None:
    """The configuration waits a moment for a greeting to join it, and no longer."""
    call = new_call()
    assert call >> session.open_socket() >> session.configurable() >> ev.SessionCreated()

    assert call >> after(GREETING_WINDOW_S - SOON)
    assert call >> after(SOON) << fx.Compose(greet=False, opening="")


def test_the_window_does_not_add_to_a_slow_connect() -> None:
    """The window begins when the session is configured: behind a slow network nobody waits."""
    call = new_call()

    assert (
        call
        >> session.configurable()
        >> after(GREETING_WINDOW_S)
        >> session.open_socket()
        >> ev.SessionCreated()
        << fx.Compose(greet=False, opening="")
    )


def test_frames_before_the_configuration_do_not_keep_the_window_open() -> None:
    """A chatty server does not delay the call."""
    call = new_call()
    assert call >> session.open_socket() >> session.configurable() >> ev.SessionCreated()
    assert call >> after(GREETING_WINDOW_S - SOON) >> ev.Warning() >> ev.SessionUpdated()

    assert call >> after(SOON) << fx.Compose(greet=False, opening="")


def test_nothing_is_sent_before_the_session_is_configured() -> None:
    """Instructions and tools go out once, so they are awaited."""
    call = new_call()
    assert call >> session.open_socket() >> ev.SessionCreated() >> after(600.0)

    assert (
        call
        >> session.configurable()
        >> after(GREETING_WINDOW_S)
        << fx.Compose(greet=False, opening="")
    )


@pytest.mark.parametrize("instructions", ["", "Say hi to Ada."])
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("greet", [False, True])
def test_a_reply_before_the_configuration_becomes_the_first_response(
    instructions: str, is_open: bool, greet: bool
) -> None:
    """What `on_enter` asks for joins the configuration at once, its instructions with it."""
    call = new_call(greet=greet)
    assert call >> session.configurable()
    if is_open:
        assert call >> session.open_socket() >> ev.SessionCreated()
        assert (
            call
            >> session.reply("g1", instructions)
            << fx.Compose(greet=True, opening=instructions)
            >> session.configure(greet=True)
            << configured(greet=True)
            >> ev.SessionConfigured()
            << fx.SessionReady(ev.ServerSession())
        )
    else:
        assert call >> session.reply("g1", instructions)
        connect(call, greet=True, opening=instructions)

    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_the_model_may_speak_first_without_being_asked() -> None:
    """`generate_initial_response` greets once: not again on a later connection."""
    call = untouched(greet=True)
    answered(call, "r1")

    assert call >> session.lose()
    connect(call)


def test_a_greeting_that_is_cancelled_before_the_handshake_is_over_is_cut() -> None:
    """What nobody wants any more is cancelled when it begins, and the call goes on."""
    call = new_call()
    assert call >> session.configurable() >> session.reply("g1")
    assert (
        call
        >> session.open_socket()
        >> ev.SessionCreated()
        << fx.Compose(greet=True, opening="")
        >> session.configure(greet=True)
        << configured(greet=True)
        >> session.cancel("g1")
        >> ev.SessionConfigured()
        << fx.SessionReady(ev.ServerSession())
    )

    assert call >> server.created("r1") << cancelled("r1")
    assert call >> server.done("r1", "cancelled") << ended("r1", "cancelled")
    plain_turn(call, 2)


def test_a_reply_after_a_reconnect_goes_on_from_what_was_said_before() -> None:
    """A new connection on which nothing was said yet is not the beginning of the call."""
    call = talked()
    assert call >> session.lose()
    connect(call)

    assert call >> session.reply("g1") << RECONNECT
    connect(call, greet=True, opening=About.NEXT.value)
    answered(call, "r1", "g1")


def test_a_greeting_that_was_lost_is_made_up_for() -> None:
    """If the connection ends before the greeting begins, the next one greets."""
    call = untouched(greet=True)

    assert call >> session.lose()
    connect(call, greet=True)
    answered(call, "r1")


def test_a_greeting_that_was_lost_before_its_first_sound_is_made_up_for() -> None:
    """A response that has begun is no greeting yet; one with audio is not said again."""
    call = untouched(greet=True)
    assert call >> server.created("r1") << fx.BeginResponse("r1")

    assert call >> session.lose() << fx.EndStreams("r1", cut=False) << ended("r1", "lost")
    connect(call, greet=True)
    answered(call, "r1")
    assert call >> session.lose()
    connect(call)


def test_a_reply_adopts_a_pending_greeting() -> None:
    """A greeting that is on its way is the reply, so that nobody is greeted twice."""
    call = untouched(greet=True)

    assert call >> session.reply("g1", "Say hi to Ada.")
    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_the_greeting_is_not_the_answer_to_what_was_typed() -> None:
    """A typed message that comes while the greeting is on its way is answered after it."""
    call = untouched(greet=True)
    assert call >> session.note("hello?") >> session.reply("g1") >> after(1.0)
    answered(call, "r1", then=[item("hello?"), ASK])

    answered(call, "r2", "g1")


def test_a_greeting_that_never_comes_does_not_block_the_call() -> None:
    """A server that does not greet is asked again when a reply is wanted."""
    call = untouched(greet=True)
    assert call >> session.note("hello?") >> session.reply("g1")

    assert call >> after(REPLY_SILENCE_S - SOON)
    assert call >> after(SOON) << RECONNECT
    connect(call, greet=True, opening=About.TEXT.value)
    answered(call, "r1", "g1")


def test_a_greeting_that_never_comes_does_not_block_new_instructions() -> None:
    """Waiting for a greeting comes to an end."""
    call = untouched(greet=True)

    assert call >> session.change_instructions() >> after(REPLY_SILENCE_S) << RECONNECT


@pytest.mark.parametrize("instructions", ["", "Say hi to Ada."])
def test_a_later_greeting_reconnects(instructions: str) -> None:
    """While nothing was said, only a first response is sure to be spoken, and nothing is lost."""
    call = untouched()

    assert call >> after(3.0) >> session.reply("g1", instructions) << RECONNECT
    connect(call, greet=True, opening=instructions)
    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_a_later_greeting_does_not_wait_for_the_handshake() -> None:
    """A configuration that is on its way without the greeting is left at once."""
    call = configuring()

    assert call >> session.reply("g1", "Say hi.") << RECONNECT
    connect(call, greet=True, opening="Say hi.")
    answered(call, "r1", "g1")


def test_a_server_that_has_spoken_on_demand_is_asked_for_a_greeting() -> None:
    """What has worked before on this model object saves the new connection."""
    learned = speaking()
    call = new_call(learned=learned)
    assert call >> session.configurable() >> after(GREETING_WINDOW_S)
    assert (
        call
        >> session.open_socket()
        >> ev.SessionCreated()
        << fx.Compose(greet=False, opening="")
        >> session.configure()
        << configured()
        >> session.reply("g1", "Say hi.")
        >> ev.SessionConfigured()
        << fx.SessionReady(ev.ServerSession())
        << item("Say hi.", "system")
        << ASK
    )
    answered(call, "r1", "g1")


def test_a_newer_greeting_takes_the_place_of_one_on_its_way() -> None:
    """The first greeting is never played: its connection is left."""
    call = new_call()
    assert call >> session.configurable() >> session.reply("g1", "Say hi.")
    connect(call, greet=True, opening="Say hi.")

    assert call >> session.reply("g2", "Say hello.") << failed("g1") << RECONNECT
    connect(call, greet=True, opening="Say hello.")
    answered(call, "r1", "g2")


def test_a_greeting_that_nobody_wants_any_more_is_not_spoken_by_the_next_connection() -> None:
    """A greeting that was cancelled while the connection was away stays cancelled."""
    call = new_call()
    assert call >> session.configurable() >> session.reply("g1", "Say hi.")
    connect(call, greet=True, opening="Say hi.")

    assert call >> session.lose() >> session.cancel("g1")
    connect(call)


def test_a_cancelled_greeting_is_cancelled_when_it_comes() -> None:
    """A greeting that was asked for and then cancelled begins for nobody."""
    call = new_call()
    assert call >> session.configurable() >> session.reply("g1", "Say hi.")
    connect(call, greet=True, opening="Say hi.")

    assert call >> session.cancel("g1") >> server.created("r1") << cancelled("r1")
    assert call >> server.done("r1", "cancelled") << ended("r1", "cancelled")


# -------------------------------------------------------------------------- replies in mid-call


def test_a_bare_reply_asks_for_a_response() -> None:
    """With nothing to say to the model, the request goes alone."""
    call = talked()

    assert call >> session.reply("g1") << ASK
    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_instructions_of_a_reply_are_a_text_item() -> None:
    """What the reply is about goes before the request."""
    call = talked()

    assert call >> session.reply("g1", "Say bye.") << item("Say bye.", "system") << ASK
    answered(call, "r1", "g1")


def test_texts_wait_for_the_request_that_they_belong_to() -> None:
    """What was typed goes out with the request, in order; a new connection has it as history."""
    call = talked()
    assert call >> session.note("She is a vet.", "system") >> session.note("Who?") >> after(1.0)

    assert call >> session.reply("g1") << item("She is a vet.", "system") << item("Who?") << ASK
    answered(call, "r1", "g1")
    assert call >> session.reply("g2") << ASK


def generating(call: CallTranscript) -> None:
    """Let a response be in progress."""
    assert call >> server.created("r1") << fx.BeginResponse("r1")


def generated(call: CallTranscript) -> None:
    """Let it end."""
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")


def unanswered(call: CallTranscript) -> None:
    """Let the user have spoken."""
    start_speech(call)
    stop_speech(call)


def interrupted_by_us(call: CallTranscript) -> None:
    """Let a response be cancelled whose end is not confirmed."""
    generating(call)
    assert call >> session.interrupt() << cancelled("r1") << fx.EndStreams("r1", cut=True)


@pytest.mark.parametrize(
    ("begin", "end", "also"),
    [
        (generating, server.done("r1"), [fx.EndStreams("r1", cut=False), ended("r1")]),
        (interrupted_by_us, server.done("r1", "cancelled"), [ended("r1", "cancelled")]),
        (start_speech, server.discarded("u1"), [fx.UserStopped("u1"), fx.UserDiscarded("u1")]),
        (unanswered, server.discarded("u1"), [fx.UserDiscarded("u1")]),
        (unanswered, after(ANSWER_OVERDUE_S), []),
    ],
    ids=["a response", "a cancelled response", "speech", "an unanswered turn", "no answer"],
)
def test_a_reply_waits_until_nothing_is_in_flight(
    begin: Callable[[CallTranscript], None], end: Step[Call], also: Effects
) -> None:
    """Nobody is interrupted, and nothing is asked for twice."""
    call = talked()
    begin(call)
    assert call >> session.reply("g1", "Say bye.")

    assert follows(call >> end, also) << item("Say bye.", "system") << ASK


def test_the_answer_to_the_user_is_the_reply() -> None:
    """A response that the server begins by itself fulfils the reply, so nobody hears two."""
    call = talked()
    start_speech(call)
    assert call >> session.reply("g1")
    stop_speech(call)

    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_the_answer_to_the_user_does_not_follow_instructions_that_it_does_not_know() -> None:
    """What a reply is to say is said afterwards."""
    call = talked()
    start_speech(call)
    assert call >> session.reply("g1", "Say bye.")
    stop_speech(call)

    answered(call, "r1", then=[item("Say bye.", "system"), ASK])
    answered(call, "r2", "g1")


def test_the_answer_to_the_user_is_the_reply_that_was_asked_for() -> None:
    """Also when the request went out just before the user spoke."""
    call = asked()
    start_speech(call)
    stop_speech(call)

    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_the_answer_to_the_user_is_not_the_answer_to_what_was_typed() -> None:
    """Text that the server does not know yet is answered afterwards."""
    call = talked()
    start_speech(call)
    assert call >> session.note("And Bob?") >> session.reply("g1")
    stop_speech(call)

    answered(call, "r1", then=[item("And Bob?"), ASK])
    answered(call, "r2", "g1")


def test_what_was_typed_is_known_to_the_answer_to_the_user() -> None:
    """Text that waits when the user begins to speak goes out before the server answers."""
    call = talked()
    assert call >> session.note("I am Ada.")

    assert call >> server.speech_started("u1") << fx.UserStarted("u1") << item("I am Ada.")
    stop_speech(call)
    answered(call, "r1")
    assert call >> session.reply("g1") << ASK


def test_a_newer_reply_takes_the_place_of_one_that_waits() -> None:
    """One reply is owed at a time; the other one fails at once, and what was typed stays."""
    call = talked()
    generating(call)
    assert call >> session.note("Who?") >> session.reply("g1")

    assert call >> session.note("And when?") >> session.reply("g2") << failed("g1")
    assert (
        call
        >> server.done("r1")
        << fx.EndStreams("r1", cut=False)
        << ended("r1")
        << item("Who?")
        << item("And when?")
        << ASK
    )
    answered(call, "r2", "g2")


def test_a_newer_reply_with_nothing_new_goes_on_with_the_one_that_was_asked_for() -> None:
    """Two quick replies are one request and one response."""
    call = asked("g1")

    assert call >> session.reply("g2") << failed("g1")
    answered(call, "r1", "g2")
    assert call >> after(600.0)


def test_a_newer_reply_with_something_new_is_asked_for_after_the_other_one() -> None:
    """The response to the older request is cancelled when it comes, and then the newer is asked."""
    call = asked("g1")

    assert call >> session.reply("g2", "Say bye.") << failed("g1")
    assert call >> server.created("r1") << cancelled("r1")
    assert (
        call
        >> server.done("r1", "cancelled")
        << ended("r1", "cancelled")
        << item("Say bye.", "system")
        << ASK
    )
    answered(call, "r2", "g2")


def test_a_reply_to_outputs_does_not_go_on_with_a_request_from_before_them() -> None:
    """A response that was asked for before the results came can't tell them."""
    call = calling()
    assert (
        call >> session.reply("g1", "Say: one moment.") << item("Say: one moment.", "system") << ASK
    )
    assert call >> session.post("c1") << output("c1")

    assert call >> session.reply("g2") << failed("g1")
    assert call >> server.created("r2") << cancelled("r2")
    assert call >> server.done("r2", "cancelled") << ended("r2", "cancelled") << ASK
    answered(call, "r3", "g2")


def test_a_reply_to_outputs_goes_on_with_the_request_that_answers_them() -> None:
    """One request for each tool round, however often it is wanted."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK

    assert call >> session.reply("g2") << failed("g1")
    answered(call, "r2", "g2")


def test_what_speaks_on_demand_is_remembered() -> None:
    """One spoken reply shows that the server can, for all calls of the model."""
    learned = Learned()
    call = asked(learned=learned)
    answered(call, "r1", "g1")

    assert learned.has_worked(Way.CREATE)
    call = untouched(learned=learned)
    assert call >> session.reply("g1") << ASK


def test_an_answer_to_the_user_does_not_show_that_the_server_speaks_on_demand() -> None:
    """What the server would have said anyway proves nothing."""
    learned = Learned()
    call = asked(learned=learned)
    start_speech(call)
    stop_speech(call)
    answered(call, "r1", "g1")

    assert not learned.has_worked(Way.CREATE)


def test_the_narration_of_outputs_does_not_show_that_the_server_speaks_on_demand() -> None:
    """That much is documented."""
    learned = Learned()
    call = talked(learned=learned)
    generating(call)
    assert call >> server.called("r1", "c1") << call_function("r1", "c1")
    generated(call)
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    answered(call, "r2", "g1")

    assert not learned.has_worked(Way.CREATE)


# ------------------------------------------------------------------- replies nobody wants any more


def test_a_cancelled_reply_is_forgotten() -> None:
    """A reply that was not asked for yet leaves nothing behind, whichever way it was cancelled."""
    call = talked()
    generating(call)
    assert call >> session.reply("g1", "Say bye.")

    assert call >> session.cancel("g1") >> session.cancel("g1") >> session.cancel("g0")
    generated(call)
    assert call >> after(600.0)


def test_the_response_to_a_cancelled_reply_is_cancelled_by_its_id() -> None:
    """A late response that nobody waits for is not played, but its end is reported."""
    call = asked()
    assert call >> session.cancel("g1")

    assert call >> server.created("r1") << cancelled("r1") >> server.audio("r1")
    assert call >> server.done("r1", "cancelled") << ended("r1", "cancelled") >> after(600.0)


def test_a_cancelled_reply_that_is_answered_is_not_cancelled() -> None:
    """The debt lapses when the user has spoken: their own answer is never its victim."""
    call = asked()
    start_speech(call)
    assert call >> session.cancel("g1")
    stop_speech(call)

    answered(call, "r1")


def test_an_answer_that_begins_before_the_user_has_stopped_is_not_cancelled() -> None:
    """Servers may say late that the user has stopped."""
    call = asked()
    start_speech(call)
    assert call >> session.cancel("g1")

    assert call >> server.created("r1") << fx.UserStopped("u1") << fx.BeginResponse("r1")


@pytest.mark.parametrize("is_deadline", [False, True])
def test_the_answer_to_the_user_does_not_pay_for_a_reply_that_ends_meanwhile(
    is_deadline: bool,
) -> None:
    """A reply that ends while the user's answer is awaited takes nothing with it."""
    call = asked()
    assert call >> after(REPLY_SILENCE_S - 2.0)
    start_speech(call)
    assert call >> after(REPLY_LIMIT_S - REPLY_SILENCE_S + 1.0)
    stop_speech(call)
    if is_deadline:
        assert call >> after(1.0) << failed("g1")
    else:
        assert call >> session.cancel("g1")

    answered(call, "r1")


def test_a_debt_holds_back_the_next_request_for_a_moment() -> None:
    """Two requests at a time would be answered twice; one that is never answered is forgotten."""
    call = asked()
    assert call >> session.cancel("g1") >> session.reply("g2")

    assert call >> after(DEBT_S - SOON)
    assert call >> after(SOON) << ASK
    answered(call, "r1", "g2")


def test_any_response_settles_a_debt() -> None:
    """After the user's own answer nothing is held back."""
    call = asked()
    start_speech(call)
    assert call >> session.cancel("g1")
    stop_speech(call)
    answered(call, "r1")

    assert call >> session.reply("g2") << ASK


def test_a_function_that_a_swallowed_response_calls_is_run() -> None:
    """Every call is answered: the server waits for it."""
    call = asked()
    assert call >> session.cancel("g1") >> server.created("r1") << cancelled("r1")

    assert (
        call
        >> server.called("r1", "c1")
        << fx.BeginResponse("r1+1", is_late=True)
        << call_function("r1+1", "c1")
        >> after(GRACE_S)
        << fx.EndStreams("r1+1", cut=False)
    )


# ------------------------------------------------------------------------------------- refusals


def test_a_refused_request_is_made_by_a_new_connection() -> None:
    """The reply is spoken all the same, and nobody is told of the detour."""
    learned = Learned()
    call = asked(learned=learned)

    assert call >> refused(call, ev.ResponseCreate) << RECONNECT
    connect(call, greet=True, opening=About.NEXT.value)
    answered(call, "r1", "g1")
    assert not learned.is_closed(Way.CREATE, call.now), "one refusal may be about that moment"


@pytest.mark.parametrize("typed", ["", "Who?"])
def test_a_refused_item_is_told_by_a_new_connection(typed: str) -> None:
    """The text of a reply is never lost, and what is said without it is not played."""
    learned = Learned()
    call = talked(learned=learned)
    if typed:
        assert call >> session.note(typed) >> session.reply("g1") << item(typed) << ASK
    else:
        assert call >> session.reply("g1", "Say bye.") << item("Say bye.", "system") << ASK

    assert call >> refused(call, ev.ConversationItemCreate) << RECONNECT
    connect(call, greet=True, opening=About.TEXT.value if typed else "Say bye.")
    answered(call, "r1", "g1")
    assert not learned.is_closed(Way.ITEMS, call.now), "one refusal may be about that moment"
    assert call >> after(600.0)


def test_what_the_server_refused_is_not_tried_again_by_any_call_of_the_model() -> None:
    """The next reply saves the round trip."""
    call = talked(learned=refusing(Way.CREATE))
    assert call >> session.reply("g1") << RECONNECT

    call = talked(learned=refusing(Way.ITEMS))
    assert call >> session.reply("g1") << ASK
    answered(call, "r1", "g1")
    assert call >> session.reply("g2", "Say bye.") << RECONNECT
    connect(call, greet=True, opening="Say bye.")

    call = talked(learned=refusing(Way.ITEMS))
    assert call >> session.note("Who?") >> session.reply("g1") << RECONNECT
    connect(call, greet=True, opening=About.TEXT.value)


def test_texts_are_not_sent_to_a_server_that_takes_none() -> None:
    """They wait for the next configuration, which holds them."""
    call = talked(learned=refusing(Way.ITEMS))
    assert call >> session.note("I am Ada.")

    start_speech(call)
    stop_speech(call)
    answered(call, "r1")
    assert call >> session.lose()
    connect(call)
    start_speech(call)


def test_a_request_that_is_refused_while_the_user_speaks_is_made_again() -> None:
    """The refusal may be about that, and says nothing in general."""
    learned = Learned()
    call = asked(learned=learned)
    create = refused(call, ev.ResponseCreate)
    start_speech(call)

    assert call >> create
    stop_speech(call)
    assert call >> server.discarded("u1") << fx.UserDiscarded("u1") << ASK
    assert learned == Learned()


def test_text_that_is_refused_while_the_user_speaks_is_not_lost() -> None:
    """It is told by a new connection once the user has been answered."""
    learned = Learned()
    call = talked(learned=learned)
    assert call >> session.note("Who?") >> session.reply("g1") << item("Who?") << ASK
    refusal = refused(call, ev.ConversationItemCreate)
    start_speech(call)

    assert call >> refusal
    stop_speech(call)
    answered(call, "r1", then=[RECONNECT])
    connect(call, greet=True, opening=About.TEXT.value)
    answered(call, "r2", "g1")
    assert not learned.is_closed(Way.ITEMS, call.now), "one refusal may be about that moment"


def test_text_that_a_failing_server_has_lost_is_told_by_a_new_connection() -> None:
    """A failure inside the server says nothing of texts in general, and loses none."""
    learned = Learned()
    call = talked(learned=learned)
    assert call >> session.note("Who?") >> session.reply("g1") << item("Who?") << ASK

    assert call >> refused(call, ev.ConversationItemCreate, "internal_error") << RECONNECT
    connect(call, greet=True, opening=About.TEXT.value)
    answered(call, "r1", "g1")
    assert learned == Learned()


def test_text_that_goes_out_with_the_users_speech_may_be_refused() -> None:
    """The error is told, the text waits, and the user's own answer is not disturbed."""
    call = talked()
    assert call >> session.note("I am Ada.")
    assert call >> server.speech_started("u1") << fx.UserStarted("u1") << item("I am Ada.")

    assert (
        call
        >> refused(call, ev.ConversationItemCreate)
        << fx.Fault(ServerError("invalid_frame", "no"), fatal=False)
    )
    stop_speech(call)
    answered(call, "r1")
    assert call >> session.reply("g1") << RECONNECT
    connect(call, greet=True, opening=About.TEXT.value)


def test_a_failure_inside_the_server_is_no_refusal() -> None:
    """It is met by a new connection, but not held against the server for ever."""
    learned = Learned()
    call = asked(learned=learned)

    assert call >> refused(call, ev.ResponseCreate, "internal_error") << RECONNECT
    assert learned == Learned()


def test_errors_about_something_else_are_told_and_change_nothing() -> None:
    """Only an error that names a request is about it."""
    call = asked()
    fault = fx.Fault(ServerError("invalid_audio", "no"), fatal=False)

    assert (
        call
        >> server.error("invalid_audio", "no", event_id="cl_x")
        << fault
        >> server.error("invalid_audio", "no")
        << fault
    )
    answered(call, "r1", "g1")


def test_a_refusal_that_comes_when_the_reply_has_begun_is_told() -> None:
    """What is played already is not taken back."""
    call = talked()
    assert call >> session.reply("g1", "Say bye.") << item("Say bye.", "system") << ASK
    refusal = refused(call, ev.ConversationItemCreate)
    assert call >> server.created("r1") << fx.BeginResponse("r1", reply_id="g1")

    assert call >> refusal << fx.Fault(ServerError("invalid_frame", "no"), fatal=False)


def test_what_is_refused_while_a_function_runs_is_not_held_against_the_server() -> None:
    """The refusal may be about that: this reply goes another way, later ones are asked for."""
    learned = Learned()
    call = calling(learned=learned)
    assert call >> session.reply("g1") << ASK

    assert call >> refused(call, ev.ResponseCreate) << RECONNECT
    assert learned == Learned()


@pytest.mark.parametrize("wanted", ["Say bye.", "Who?"])
@pytest.mark.parametrize("output_text", ["", "saved"])
def test_words_that_follow_an_output_are_not_lost_on_a_server_that_refuses_them(
    wanted: str, output_text: str
) -> None:
    """After a function whose output wanted no reply, a reply about something else is that."""
    call = calling()
    assert call >> session.post("c1", output_text) << output("c1", output_text) >> after(60.0)
    if wanted == "Who?":
        assert call >> session.note(wanted) >> session.reply("g1") << item(wanted) << ASK
    else:
        assert call >> session.reply("g1", wanted) << item(wanted, "system") << ASK

    assert call >> refused(call, ev.ConversationItemCreate) << RECONNECT
    connect(call, greet=True, opening=About.TEXT.value if wanted == "Who?" else wanted)
    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_words_that_follow_an_output_are_asked_for_once() -> None:
    """The framework's own reply to the output is the same one: nothing newer is known."""
    call = calling()
    assert call >> session.post("c1") << output("c1")
    assert call >> session.reply("g1", "Be short.") << item("Be short.", "system") << ASK

    assert call >> session.reply("g2") << failed("g1")
    answered(call, "r2", "g2")
    assert call >> after(600.0)


def test_a_refused_narration_waits_for_its_deadline() -> None:
    """A request after outputs is documented: a new connection would only forget the call."""
    learned = Learned()
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK

    assert (
        call
        >> refused(call, ev.ResponseCreate)
        << fx.Fault(ServerError("invalid_frame", "no"), fatal=False)
        >> after(REPLY_DEADLINE_S)
        << failed("g1")
    )
    assert learned == Learned()


# ---------------------------------------------------------------- silence, deadline, budgets


def test_silence_is_met_by_a_new_connection_if_nothing_would_be_forgotten() -> None:
    """A server that ignores the request gets a new connection, with all that was said as text."""
    learned = Learned()
    call = talked(learned=learned, is_written=True)
    assert call >> session.reply("g1", "Say bye.") << item("Say bye.", "system") << ASK

    assert call >> after(REPLY_SILENCE_S - SOON)
    assert call >> after(SOON) << RECONNECT
    connect(call, greet=True, opening="Say bye.")
    answered(call, "r1", "g1")
    assert learned.is_closed(Way.ANSWER, call.now)


def test_silence_is_an_error_where_a_new_connection_would_forget() -> None:
    """Without text of what was said, the reply fails with a sentence that says why."""
    call = talked()
    assert call >> session.reply("g1") << ASK

    assert call >> after(REPLY_SILENCE_S) << failed("g1")
    assert "no text" in call.only(fx.ReplyFailed).reason


@pytest.mark.parametrize("side", ["user", "agent"])
def test_the_text_of_one_side_is_not_enough(side: str) -> None:
    """Half a conversation would be forgotten."""
    call = untouched(knows_user_text=side == "user", knows_agent_text=side == "agent")
    plain_turn(call, 0)
    assert call >> session.reply("g1") << ASK

    assert call >> after(REPLY_SILENCE_S) << failed("g1")


def test_text_may_come_from_an_stt() -> None:
    """What an STT transcribes counts like the server's own text."""
    call = untouched(knows_user_text=True, knows_agent_text=True)
    plain_turn(call, 0)
    assert call >> session.reply("g1") << ASK

    assert call >> after(REPLY_SILENCE_S) << RECONNECT


def test_a_server_that_was_silent_is_not_waited_for_again() -> None:
    """Who checks in every ten seconds is heard each time, and without the wait for silence."""
    call = untouched(learned=speaking(), knows_user_text=True, knows_agent_text=True)
    assert call >> session.reply("g1") << ASK >> after(REPLY_SILENCE_S) << RECONNECT
    connect(call, greet=True)
    answered(call, "r1", "g1")

    assert call >> after(10.0) >> session.reply("g2") << RECONNECT
    connect(call, greet=True, opening=About.NEXT.value)
    answered(call, "r1", "g2")
    assert call >> after(FORGET_S) >> session.reply("g3") << ASK


def test_a_way_that_is_refused_again_is_not_tried_for_a_while() -> None:
    """Two refusals in a row are the server's way; after ten minutes it may have another."""
    learned = Learned()
    for reply_id in ("g1", "g2"):
        call = asked(reply_id, learned=learned)
        assert call >> refused(call, ev.ResponseCreate) << RECONNECT
    call = talked(learned=learned)

    assert call >> session.reply("g3") << RECONNECT
    connect(call, greet=True, opening=About.NEXT.value)
    answered(call, "r1", "g3")
    assert call >> after(FORGET_S) >> session.reply("g4") << ASK


@pytest.mark.parametrize("code", ["invalid_frame", "rate_limit_exceeded"])
def test_a_refusal_outweighs_no_success(code: str) -> None:
    """A server that has spoken on demand is asked again, whatever it refused in between."""
    learned = Learned()
    call = asked(learned=learned)
    answered(call, "r1", "g1")
    for n in range(3):
        assert call >> session.reply(f"g{n}") << ASK
        assert call >> refused(call, ev.ResponseCreate, code) << RECONNECT
        connect(call, greet=True, opening=About.NEXT.value)
        answered(call, "r1", f"g{n}")

    assert call >> session.reply("g9") << ASK


def test_a_success_of_long_ago_outweighs_nothing() -> None:
    """A server that is another one since is believed: two refusals in a row are its way."""
    learned = Learned()
    call = asked(learned=learned)
    answered(call, "r1", "g1")
    assert call >> after(FORGET_S)
    for reply_id in ("g2", "g3"):
        assert call >> session.reply(reply_id) << ASK
        assert call >> refused(call, ev.ResponseCreate) << RECONNECT
        connect(call, greet=True, opening=About.NEXT.value)
        answered(call, "r1", reply_id)

    assert call >> session.reply("g4") << RECONNECT


def test_the_user_is_not_left_for_silence() -> None:
    """While the user speaks, no new connection is made; the answer is the reply."""
    call = talked(is_written=True)
    assert call >> session.reply("g1") << ASK >> after(REPLY_SILENCE_S - SOON)
    start_speech(call)

    assert call >> after(2.0)
    stop_speech(call)
    answered(call, "r1", "g1")


def test_a_reply_that_waits_fails_in_time() -> None:
    """There is a limit over everything: nobody waits longer for a future."""
    call = talked()
    start_speech(call)
    assert call >> session.reply("g1", "Say bye.") >> after(REPLY_LIMIT_S - SOON)

    assert call >> after(SOON) << failed("g1")
    discard_speaking(call)
    assert call >> after(600.0)


def test_a_reply_has_its_time_after_a_long_sentence_of_the_users() -> None:
    """Who tells an address for half a minute hears what the application wanted said."""
    call = talked()
    assert call >> session.reply("g1", "Say bye.") << item("Say bye.", "system") << ASK
    assert call >> after(4.0)
    start_speech(call)
    assert call >> after(30.0)
    stop_speech(call)

    assert call >> after(REPLY_DEADLINE_S - 4.0 - SOON)
    assert call >> after(SOON) << failed("g1")


def test_a_greeting_is_kept_until_the_call_is_up() -> None:
    """A busy server is no reason for silence: whoever is connected late is greeted, too."""
    call = new_call()
    assert call >> session.configurable() >> session.reply("g1", "Greet Ada.")
    assert call >> after(30.0)
    connect(call, greet=True, opening="Greet Ada.")
    answered(call, "r1", "g1")


def test_a_greeting_outlives_its_future() -> None:
    """After a minute nobody waits for it, but the caller still has heard nothing."""
    call = new_call()
    assert call >> session.configurable() >> session.reply("g1", "Greet Ada.")
    assert call >> after(REPLY_LIMIT_S) << failed("g1")

    connect(call, greet=True, opening="Greet Ada.")
    answered(call, "r1")


def discard_speaking(call: CallTranscript) -> None:
    """Let the server discard the turn in which the user still speaks."""
    assert call >> server.discarded("u1") << fx.UserStopped("u1") << fx.UserDiscarded("u1")


def test_a_reconnect_does_not_prolong_the_deadline() -> None:
    """However many ways are tried, it is one deadline."""
    call = talked(is_written=True)
    assert call >> session.reply("g1") << ASK >> after(REPLY_SILENCE_S) << RECONNECT
    connect(call, greet=True, opening=About.NEXT.value)

    assert call >> after(REPLY_DEADLINE_S - REPLY_SILENCE_S - SOON)
    assert call >> after(SOON) << failed("g1")


def test_a_response_after_the_deadline_is_cancelled() -> None:
    """It would come out of nowhere."""
    call = new_call()
    assert call >> session.configurable() >> session.reply("g1", "Say hi.")
    connect(call, greet=True, opening="Say hi.")
    assert call >> after(REPLY_DEADLINE_S) << failed("g1")

    assert call >> server.created("r1") << cancelled("r1")


def test_new_connections_for_replies_have_a_budget() -> None:
    """Six in a minute; then a reply fails at once, and says so, until the minute is over."""
    call = talked(learned=refusing(Way.CREATE))
    first_at = call.now
    for n in range(RECONNECTS_PER_MINUTE):
        assert call >> session.reply("g1") << RECONNECT
        connect(call, greet=True, opening=About.NEXT.value)
        answered(call, f"s{n}", "g1")
        assert call >> after(1.0)

    assert call >> session.reply("g2") << failed("g2")
    assert str(RECONNECTS_PER_MINUTE) in call.only(fx.ReplyFailed).reason
    assert call >> after(60.0 - (call.now - first_at)) >> session.reply("g3") << RECONNECT


# --------------------------------------------------------------------------------------- tools


@pytest.mark.parametrize("is_done", [True, False])
def test_outputs_are_answered_by_one_bare_request(is_done: bool) -> None:
    """Outputs go out at once and ask for nothing; one reply asks, as it is documented."""
    call = calling("c1", "c2", is_done=is_done)

    assert call >> session.post("c2", "2") << output("c2", "2") >> after(SOON)
    assert call >> session.post("c1", "1") << output("c1", "1") >> after(SOON)
    assert call >> session.reply("g1") << ASK
    answered(call, "r2", "g1")


def test_the_reply_to_outputs_never_reconnects() -> None:
    """Neither what was learned, nor silence, nor a refusal takes the tool round away."""
    learned = refusing(Way.CREATE, Way.ITEMS)
    call = untouched(learned=learned)
    generating(call)
    assert call >> server.called("r1", "c1") << call_function("r1", "c1")
    generated(call)

    assert call >> session.change_instructions()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    assert call >> after(REPLY_DEADLINE_S - SOON)
    answered(call, "r2", "g1", then=[RECONNECT])


def test_the_reply_to_outputs_fails_at_its_deadline() -> None:
    """A server that never tells the result does not keep the future."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK

    assert call >> after(REPLY_DEADLINE_S - SOON)
    assert call >> after(SOON) << failed("g1")


def test_a_late_part_is_nobodys_reply_before_the_outputs_are_answered() -> None:
    """What the calling response says late by itself is the server's own."""
    call = calling(is_done=False)

    assert call >> session.reply("g1", "Say: a moment.") << item("Say: a moment.", "system") << ASK
    assert (
        call
        >> server.audio("r1")
        << fx.BeginResponse("r1+1", is_late=True)
        << sound("r1+1")
        >> after(GRACE_S)
        << fx.EndStreams("r1+1", cut=False)
    )
    answered(call, "r2", "g1")


def test_an_output_of_a_call_that_this_connection_never_issued_is_text() -> None:
    """It goes with the reply, as words, and never under a foreign id."""
    call = talked()
    assert call >> session.post("c9", "42")

    assert call >> session.reply("g1") << item(session.as_text("42"), "system") << ASK


def test_an_empty_output_of_an_unknown_call_is_nothing() -> None:
    """There is nothing to tell."""
    call = talked()

    assert call >> session.post("c9", "") >> session.reply("g1") << ASK


def test_an_output_after_a_reconnect_is_told_by_a_first_response() -> None:
    """The call was lost with its connection; the result is in the history of the next one."""
    call = calling()
    assert call >> session.lose()
    connect(call)

    assert call >> session.post("c1") >> session.reply("g1") << RECONNECT
    connect(call, greet=True, opening=About.OUTPUTS.value)
    answered(call, "r1", "g1")


def test_an_output_of_an_old_call_is_not_the_answer_to_a_new_one_of_the_same_id() -> None:
    """A server may number its function calls anew on each connection."""
    call = calling()
    assert call >> session.lose()
    connect(call)
    assert (
        call
        >> server.created("r1")
        << fx.BeginResponse("r1")
        >> server.called("r1", "c1")
        << call_function("r1", "c1+1")
    )

    assert call >> session.post("c1", "old")
    assert call >> session.post("c1+1", "new") << output("c1", "new")


def test_an_output_during_an_outage_is_told_by_the_next_connection() -> None:
    """A tool that ends while there is no connection is told by the first response of the next."""
    call = calling()
    assert call >> session.lose() >> session.post("c1") >> session.reply("g1")

    connect(call, greet=True, opening=About.OUTPUTS.value)
    answered(call, "r1", "g1")


def test_an_output_that_the_server_no_longer_waits_for_is_text() -> None:
    """After `tool_response_timeout` the result is told as words."""
    timeout = fx.Fault(ServerError("tool_response_timeout", "too slow"), fatal=False)
    call = calling()
    assert call >> server.error("tool_response_timeout", "too slow") << timeout

    assert call >> session.post("c1")
    assert call >> session.reply("g1") << item(session.as_text("42"), "system") << ASK
    answered(call, "r2", "g1")


def test_a_reply_during_a_tool_round_does_not_wait_for_the_tool() -> None:
    """The application may fill a long wait."""
    call = calling()

    assert call >> session.reply("g1", "Say: a moment.") << item("Say: a moment.", "system") << ASK
    answered(call, "r2", "g1")
    assert call >> session.post("c1") << output("c1") >> session.reply("g2") << ASK


def test_late_calls_are_passed_on() -> None:
    """A call after the grace is a part of its own, and fulfils no reply."""
    call = calling(is_done=False)
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK

    assert (
        call
        >> server.called("r1", "c2")
        << fx.BeginResponse("r1+1", is_late=True)
        << call_function("r1+1", "c2")
        >> after(GRACE_S)
        << fx.EndStreams("r1+1", cut=False)
    )
    answered(call, "r2", "g1")


# --------------------------------------------------------------------------- a cough during a tool


@pytest.mark.parametrize("posted_after", ["speech_started", "speech_stopped", "discarded"])
def test_a_cough_during_a_tool_does_not_leave_dead_air(posted_after: str) -> None:
    """The framework posts the outputs of an interrupted round and asks nothing: the call does."""
    call = interrupted()
    if posted_after == "speech_started":
        assert call >> session.post("c1") << output("c1")
    stop_speech(call)
    if posted_after == "speech_stopped":
        assert call >> session.post("c1") << output("c1")
    discard(call)
    if posted_after == "discarded":
        assert call >> session.post("c1") << output("c1")

    assert call >> after(NARRATE_AFTER_S - SOON)
    assert call >> after(SOON) << ASK
    answered(call, "r2")
    assert call >> after(600.0)


def test_a_result_after_an_okay_is_told() -> None:
    """The server answered the user before the result came, so nobody has told it."""
    call = interrupted()
    stop_speech(call)
    assert call >> server.created("r2") << fx.BeginResponse("r2")
    assert call >> session.post("c1") << output("c1") >> after(1.0)

    assert call >> server.done("r2") << fx.EndStreams("r2", cut=False) << ended("r2") << ASK
    answered(call, "r3")
    assert call >> after(600.0)


def test_a_result_before_the_answer_to_an_okay_counts_as_told() -> None:
    """The server knew the result when it answered, so it is not told twice."""
    call = interrupted()
    assert call >> session.post("c1") << output("c1")
    stop_speech(call)
    answered(call, "r2")

    assert call >> after(600.0)


def test_a_result_is_told_when_the_server_leaves_a_turn_unanswered() -> None:
    """Neither answered nor discarded: the turn is over in time, and the result is told."""
    call = interrupted()
    assert call >> session.post("c1") << output("c1")
    stop_speech(call)

    assert call >> after(ANSWER_OVERDUE_S + NARRATE_AFTER_S) << ASK


def test_a_result_that_the_framework_asks_for_is_told_once() -> None:
    """If a reply is asked for after all, it is the narration."""
    call = interrupted()
    stop_speech(call)
    discard(call)

    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    answered(call, "r2", "g1")
    assert call >> after(600.0)


def test_a_reply_that_comes_after_the_call_has_asked_is_the_same_one() -> None:
    """A framework that asks late gets what is on its way."""
    call = interrupted()
    stop_speech(call)
    discard(call)
    assert call >> session.post("c1") << output("c1") >> after(NARRATE_AFTER_S) << ASK

    assert call >> session.reply("g1")
    answered(call, "r2", "g1")
    assert call >> after(600.0)


def test_empty_outputs_are_not_told() -> None:
    """`StopResponse` means silence."""
    call = interrupted()
    stop_speech(call)
    discard(call)

    assert call >> session.post("c1", "") << output("c1", "") >> after(600.0)


def test_all_results_of_a_round_are_told_at_once() -> None:
    """The narration waits for the last of parallel calls, and one full result is enough for it."""
    call = interrupted("c1", "c2")
    stop_speech(call)
    discard(call)
    assert call >> session.post("c1") << output("c1") >> after(3.0)

    assert call >> session.post("c2", "") << output("c2", "") << ASK


def test_a_round_that_nobody_interrupted_is_the_frameworks() -> None:
    """Where nobody spoke, the framework asks or does not want to."""
    call = calling()

    assert call >> session.post("c1") << output("c1") >> after(600.0)


def test_a_user_who_speaks_again_is_heard_first() -> None:
    """The narration waits for the user, and counts as told once the server has answered."""
    call = interrupted()
    stop_speech(call)
    discard(call)
    assert call >> session.post("c1") << output("c1") >> after(NARRATE_AFTER_S - SOON)
    start_speech(call, "u2")

    assert call >> after(3.0)
    stop_speech(call, "u2")
    answered(call, "r2")
    assert call >> after(600.0)


def test_a_second_cough_does_not_swallow_the_narration() -> None:
    """A request that the user coughs over is made again, after the time in which it may come."""
    call = interrupted()
    stop_speech(call)
    discard(call)
    assert call >> session.post("c1") << output("c1") >> after(NARRATE_AFTER_S) << ASK
    cough(call, "u2")

    assert call >> after(DEBT_S - SOON)
    assert call >> after(SOON) << ASK
    answered(call, "r2")
    assert call >> after(600.0)


def test_a_narration_that_comes_in_spite_of_a_cough_is_heard_once() -> None:
    """The server may answer the first request after the cough: then nothing is asked again."""
    call = interrupted()
    stop_speech(call)
    discard(call)
    assert call >> session.post("c1") << output("c1") >> after(NARRATE_AFTER_S) << ASK
    cough(call, "u2")

    assert call >> after(1.0)
    answered(call, "r2")
    assert call >> after(600.0)


def test_a_cough_over_the_frameworks_own_request_does_not_leave_dead_air() -> None:
    """The framework cancels its reply to the outputs when the user coughs; the call makes it up."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    start_speech(call)
    assert call >> session.cancel("g1")
    stop_speech(call)
    discard(call)

    assert call >> after(DEBT_S - SOON)
    assert call >> after(SOON) << ASK
    answered(call, "r2")
    assert call >> after(600.0)


def test_a_cough_over_a_reply_to_outputs_that_waits_does_not_leave_dead_air() -> None:
    """Nothing was asked yet, so nothing has to be waited for."""
    call = interrupted()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1")
    assert call >> session.cancel("g1")
    stop_speech(call)

    assert call >> server.discarded("u1") << fx.UserDiscarded("u1") << ASK


def cut_silent(call: CallTranscript, response: str, user: str) -> None:
    """Let the user speak before a response that has begun says anything."""
    call = call >> server.speech_started(user) << fx.EndStreams(response, cut=True)
    assert call << fx.UserStarted(user)
    stop_speech(call, user)


@pytest.mark.parametrize("who", ["framework", "call", "server"])
def test_a_cough_before_the_first_sound_of_a_narration_does_not_leave_dead_air(who: str) -> None:
    """The server has begun to tell the results, whoever asked for it, and gives it up."""
    call = calling() if who == "framework" else interrupted()
    if who == "call":
        stop_speech(call)
        discard(call)
    assert call >> session.post("c1") << output("c1")
    reply_id = "g1" if who == "framework" else None
    if who == "framework":
        assert call >> session.reply("g1") << ASK
    elif who == "call":
        assert call >> after(NARRATE_AFTER_S) << ASK
    else:
        stop_speech(call)
    assert call >> server.created("r2") << fx.BeginResponse("r2", reply_id=reply_id)
    cut_silent(call, "r2", "u2")
    assert call >> server.done("r2", "cancelled") << ended("r2", "cancelled")

    assert call >> server.discarded("u2") << fx.UserDiscarded("u2") << ASK
    answered(call, "r3")
    assert call >> after(600.0)


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_question_that_is_thought_of_for_long_is_not_left(is_answered: bool) -> None:
    """A new connection would begin to think anew; but one that is never answered holds nothing."""
    call = talked()
    start_speech(call, "u1")
    stop_speech(call, "u1")
    assert call >> session.change_instructions() >> after(ANSWER_S - SOON)

    if is_answered:
        assert call >> server.created("r1") << fx.BeginResponse("r1")
        assert call >> server.audio("r1") << sound("r1")
        call = call >> server.done("r1") << fx.EndStreams("r1", cut=False)
        call = call << ended("r1")
    else:
        call = call >> after(SOON)
    assert call << RECONNECT


@pytest.mark.parametrize("about", ["the user's question", "a reply", "a greeting"])
@pytest.mark.parametrize("is_ended_before_verdict", [True, False])
def test_a_cough_before_the_first_sound_does_not_leave_dead_air(
    about: str, is_ended_before_verdict: bool
) -> None:
    """The server gives up what nobody has heard, so there is no rest to play: it is asked for."""
    call = untouched(greet=about == "a greeting")
    if about == "the user's question":
        start_speech(call)
        stop_speech(call)
    if about == "a reply":
        call = talked()
        assert call >> session.reply("g1", "Say bye.") << item("Say bye.", "system") << ASK
    assert (
        call
        >> server.created("r1")
        << fx.BeginResponse("r1", reply_id="g1" if about == "a reply" else None)
    )
    cut_silent(call, "r1", "u2")
    if is_ended_before_verdict:
        assert call >> server.done("r1", "cancelled") << ended("r1", "cancelled")
        call = call >> server.discarded("u2") << fx.UserDiscarded("u2")
    else:
        call = call >> server.discarded("u2") << fx.UserDiscarded("u2")
        assert call >> after(2 * CUT_OVERDUE_S)
        call = call >> server.done("r1", "cancelled") << ended("r1", "cancelled")

    assert (call << item("Say bye.", "system") if about == "a reply" else call) << ASK
    answered(call, "r2")
    assert call >> after(600.0)


def cut_before_a_sound() -> CallTranscript:
    """Return the transcript of a call whose answer to the user was cut before its first sound."""
    call = untouched()
    start_speech(call)
    stop_speech(call)
    assert call >> server.created("r1") << fx.BeginResponse("r1")
    cut_silent(call, "r1", "u2")
    return call


def test_what_the_server_still_says_after_a_cough_is_not_asked_for() -> None:
    """It had not given up the response: its first sound comes late, and that is heard."""
    call = cut_before_a_sound()
    discard(call, "u2")

    assert call >> after(2 * CUT_OVERDUE_S) >> server.audio("r1") << fx.LateAudio("r1", b"\1\0")
    assert call >> server.done("r1") << ended("r1", "cancelled") >> after(600.0)


@pytest.mark.parametrize("then", ["answered", "not answered", "a later cough"])
def test_what_was_cut_unsaid_by_speech_is_not_asked_for(then: str) -> None:
    """The user has gone on: the server answers that, in its own time."""
    call = cut_before_a_sound()
    assert call >> server.done("r1", "cancelled") << ended("r1", "cancelled")
    if then == "answered":
        answered(call, "r2")
    else:
        assert call >> after(ANSWER_OVERDUE_S)
    if then == "a later cough":
        cough(call, "u3")

    assert call >> after(600.0)


def test_an_answer_makes_up_for_a_narration_that_was_cut_before_its_first_sound() -> None:
    """The user has spoken on, and the server knew the results when it answered."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    assert call >> server.created("r2") << fx.BeginResponse("r2", reply_id="g1")
    cut_silent(call, "r2", "u2")
    assert call >> server.done("r2", "cancelled") << ended("r2", "cancelled")
    answered(call, "r3")

    assert call >> after(600.0)


def test_a_narration_that_is_cut_after_its_first_sound_was_told() -> None:
    """What was cut then is played on, if the user only coughed, and not asked for again."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    call = call >> server.created("r2") << fx.BeginResponse("r2", reply_id="g1")
    assert call >> server.audio("r2") << sound("r2")
    cut_silent(call, "r2", "u2")
    discard(call, "u2")

    assert call >> server.done("r2", "cancelled") << ended("r2", "cancelled") >> after(600.0)


def test_a_narration_that_calls_another_function_is_not_asked_for_again() -> None:
    """It goes on from that one's output, and an empty one is not told."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    call = call >> server.created("r2") << fx.BeginResponse("r2", reply_id="g1")
    assert call >> server.called("r2", "c2") << call_function("r2", "c2")
    cut_silent(call, "r2", "u2")
    discard(call, "u2")
    assert call >> server.done("r2", "cancelled") << ended("r2", "cancelled")

    assert call >> session.post("c2", "") << output("c2", "") >> after(600.0)


@pytest.mark.parametrize("is_reply", [False, True])
def test_results_whose_narration_was_cut_before_its_first_sound_survive_a_lost_connection(
    is_reply: bool,
) -> None:
    """The next connection begins with them."""
    call = calling() if is_reply else interrupted()
    assert call >> session.post("c1") << output("c1")
    if is_reply:
        assert call >> session.reply("g1") << ASK
    else:
        stop_speech(call)
    reply_id = "g1" if is_reply else None
    assert call >> server.created("r2") << fx.BeginResponse("r2", reply_id=reply_id)
    cut_silent(call, "r2", "u2")
    assert call >> session.lose() << ended("r2", "cancelled")

    connect(call, greet=True, opening=About.OUTPUTS.value)
    answered(call, "r3")
    assert call >> after(600.0)


def test_the_application_may_cut_a_narration_before_its_first_sound() -> None:
    """It wanted silence; speech that follows changes nothing about that."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    call = call >> server.created("r2") << fx.BeginResponse("r2", reply_id="g1")
    assert call >> session.interrupt() << cancelled("r2") << fx.EndStreams("r2", cut=True)
    assert call >> server.done("r2", "cancelled") << ended("r2", "cancelled")
    cough(call, "u2")

    assert call >> after(600.0)


def test_an_answer_makes_up_for_a_cancelled_reply_to_outputs() -> None:
    """The user spoke on, and the server knew the results when it answered."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    start_speech(call)
    assert call >> session.cancel("g1")
    stop_speech(call)
    answered(call, "r2")

    assert call >> after(600.0)


def test_a_result_that_was_due_is_told_when_the_reply_in_its_place_is_cancelled() -> None:
    """The application did not want those words; the result it has not heard of is another thing."""
    call = interrupted()
    stop_speech(call)
    discard(call)
    assert call >> session.post("c1") << output("c1")
    assert call >> session.reply("g1", "Be short.") << item("Be short.", "system") << ASK

    assert call >> session.cancel("g1")
    assert call >> after(DEBT_S) << ASK
    answered(call, "r2")
    assert call >> after(600.0)


def test_a_reply_to_outputs_that_the_application_cancels_stays_cancelled() -> None:
    """While the user is quiet, who cancels means it."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK

    assert call >> session.cancel("g1") >> after(600.0)


def test_a_cough_over_another_reply_narrates_nothing() -> None:
    """What was interrupted and is not about outputs is gone, as everywhere in LiveKit."""
    call = asked()
    start_speech(call)
    assert call >> session.cancel("g1")
    stop_speech(call)
    discard(call)

    assert call >> after(600.0)


def test_results_that_nobody_told_survive_a_lost_connection() -> None:
    """The next connection begins with them."""
    call = interrupted()
    assert call >> session.post("c1") << output("c1")
    assert call >> session.lose() << fx.UserStopped("u1")

    connect(call, greet=True, opening=About.OUTPUTS.value)
    assert call >> session.lose()
    connect(call, greet=True, opening=About.OUTPUTS.value)
    answered(call, "r1")
    assert call >> session.lose()
    connect(call)


def test_a_result_of_an_interrupted_round_is_told_after_a_reconnect() -> None:
    """The tool ended on another connection than it began; nobody asks; the call does."""
    call = interrupted()
    assert call >> session.lose() << fx.UserStopped("u1")
    connect(call)

    assert call >> session.post("c1") >> after(NARRATE_AFTER_S) << RECONNECT
    connect(call, greet=True, opening=About.OUTPUTS.value)
    answered(call, "r1")
    assert call >> after(600.0)


@pytest.mark.parametrize("is_cough", [False, True])
@pytest.mark.parametrize("cause", ["lost", "timed out"])
def test_a_result_that_its_connection_did_not_wait_for_is_told(cause: str, is_cough: bool) -> None:
    """The user spoke while the function ran on, so the framework asks nothing: the call does."""
    call = calling()
    if cause == "lost":
        assert call >> session.lose()
        connect(call)
    else:
        fault = fx.Fault(ServerError("tool_response_timeout", "slow"), fatal=False)
        assert call >> server.error("tool_response_timeout", "slow") << fault
    if is_cough:
        cough(call)
    else:
        plain_turn(call, 2)

    told = [item("The function returned 42.", "system"), ASK]
    assert follows(call >> session.post("c1") >> after(NARRATE_AFTER_S), told)
    answered(call, "r3")
    assert call >> after(600.0)


def test_a_result_that_waits_as_text_is_not_told_by_the_answer_to_something_else() -> None:
    """It came while the user spoke on a new connection, and the server has not seen it."""
    call = interrupted()
    assert call >> session.lose() << fx.UserStopped("u1")
    connect(call)
    start_speech(call, "u2")
    assert call >> session.post("c1")
    stop_speech(call, "u2")

    told = [item("The function returned 42.", "system"), ASK]
    answered(call, "r2")
    assert follows(call >> after(NARRATE_AFTER_S), told)
    answered(call, "r3")
    assert call >> after(600.0)


def test_a_result_is_told_after_what_was_typed_meanwhile() -> None:
    """A room interrupts for typed text, and the framework then asks for no reply to the output."""
    call = calling()
    assert call >> session.interrupt() >> session.note("How long?")
    assert call >> session.reply("g1") << item("How long?") << ASK
    answered(call, "r2", "g1")

    assert call >> session.post("c1") << output("c1") >> after(NARRATE_AFTER_S) << ASK
    answered(call, "r3")
    assert call >> after(600.0)


def test_a_result_is_not_told_where_the_application_wanted_silence() -> None:
    """It interrupted, and asked for nothing more."""
    call = calling()
    assert call >> session.interrupt()

    assert call >> session.post("c1") << output("c1") >> after(600.0)


def test_a_narration_that_does_not_come_fails_quietly() -> None:
    """Nobody waits for its future; the call goes on."""
    call = interrupted()
    assert call >> session.post("c1") << output("c1")
    stop_speech(call)
    discard(call)
    assert call >> after(NARRATE_AFTER_S) << ASK

    assert call >> after(REPLY_DEADLINE_S) >> session.reply("g1")
    assert call >> after(DEBT_S) << ASK


def background(*, is_written: bool = False) -> CallTranscript:
    """Return the transcript of a call whose framework has asked for a result in its own words."""
    call = talked(is_written=is_written)
    result, wanted = session.as_text("42"), "Tell the news."
    assert (
        call
        >> session.post("c9")
        >> session.reply("g1", wanted)
        << item(result, "system")
        << item(wanted, "system")
        << ASK
    )
    return call


def test_a_result_is_told_when_the_reply_that_asked_for_it_has_failed() -> None:
    """The link was dead; the framework asks only once."""
    call = background(is_written=True)
    assert call >> after(REPLY_SILENCE_S) << RECONNECT
    assert call >> after(REPLY_LIMIT_S - REPLY_SILENCE_S) << failed("g1")

    connect(call, greet=True, opening=About.OUTPUTS.value)
    answered(call, "r1")
    assert call >> after(600.0)


def test_a_result_outlives_a_cough_over_the_reply_that_asked_for_it() -> None:
    """The framework drops the reply, and asks only once."""
    call = background()
    start_speech(call)
    assert call >> session.cancel("g1")
    stop_speech(call)
    discard(call)

    assert call >> after(DEBT_S) << ASK
    answered(call, "r1")
    assert call >> after(600.0)


def test_a_call_is_occupied_while_something_is_to_be_said() -> None:
    """A reply that is owed, a function that runs and a result that waits will be played."""
    call = talked()
    assert not call.subject.is_occupied
    assert call >> session.reply("g1") << ASK
    assert call.subject.is_occupied
    answered(call, "r1", "g1")
    assert not call.subject.is_occupied

    call = interrupted()
    assert call.subject.is_occupied
    assert call >> session.post("c1") << output("c1")
    assert call.subject.is_occupied


# ----------------------------------------------------------------------------- new instructions


def test_new_instructions_make_a_new_connection_when_it_is_quiet() -> None:
    """Half a second after the last change, without a word of the model."""
    call = talked()
    assert call >> session.change_instructions() >> after(INSTRUCTIONS_DEBOUNCE_S - SOON)
    assert call >> session.change_instructions() >> after(INSTRUCTIONS_DEBOUNCE_S - SOON)

    assert call >> after(SOON) << RECONNECT
    connect(call)
    assert call >> after(600.0)


def test_instructions_before_the_configuration_are_part_of_it() -> None:
    """Nothing was sent that could be out of date."""
    call = new_call()
    assert call >> session.change_instructions() >> session.configurable()
    assert call >> after(GREETING_WINDOW_S)
    connect(call)

    assert call >> after(600.0)


def test_instructions_that_change_while_the_connection_is_configured_are_not_lost() -> None:
    """What was sent a moment ago is out of date."""
    call = configuring()
    assert (
        call
        >> session.change_instructions()
        >> after(1.0)
        >> ev.SessionConfigured()
        << fx.SessionReady(ev.ServerSession())
        << RECONNECT
    )


@pytest.mark.parametrize("begin", [generating, start_speech, unanswered])
def test_new_instructions_wait_for_a_quiet_moment(
    begin: Callable[[CallTranscript], None],
) -> None:
    """Nobody is cut off for them."""
    call = talked()
    begin(call)
    assert call >> session.change_instructions() >> after(INSTRUCTIONS_DEBOUNCE_S)
    if begin is generating:
        assert (
            call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1") << RECONNECT
        )
    elif begin is start_speech:
        assert (
            call
            >> server.discarded("u1")
            << fx.UserStopped("u1")
            << fx.UserDiscarded("u1")
            << RECONNECT
        )
    else:
        assert call >> server.discarded("u1") << fx.UserDiscarded("u1") << RECONNECT


def test_new_instructions_wait_for_a_tool_round() -> None:
    """Outputs and their narration belong to the connection that asked for them."""
    call = calling()
    assert call >> session.change_instructions() >> after(60.0)
    assert call >> session.post("c1") << output("c1") >> after(NARRATION_S - SOON)
    assert call >> after(SOON) << RECONNECT
    connect(call)
    assert call >> session.reply("g1") << RECONNECT
    connect(call, greet=True, opening=About.OUTPUTS.value)

    call = calling()
    assert call >> session.change_instructions()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK >> after(1.0)
    answered(call, "r2", "g1", then=[RECONNECT])


def test_instructions_that_are_changed_back_cost_nothing() -> None:
    """What the server has already needs no new connection."""
    call = talked()
    assert call >> session.change_instructions() >> session.change_instructions(is_stale=False)

    assert call >> after(600.0)


def test_new_instructions_are_applied_at_most_every_quarter_of_a_minute() -> None:
    """They wait rather than fail."""
    call = talked()
    assert call >> session.change_instructions() >> after(INSTRUCTIONS_DEBOUNCE_S) << RECONNECT
    connect(call)
    assert call >> session.change_instructions()

    assert call >> after(INSTRUCTIONS_RECONNECT_EVERY_S - SOON)
    assert call >> after(SOON) << RECONNECT
    connect(call)
    assert call >> after(600.0)


def test_new_instructions_wait_for_the_budget_of_connections() -> None:
    """Replies have used it up: the instructions come when there is one again."""
    call = talked(learned=refusing(Way.CREATE))
    first_at = call.now
    for n in range(RECONNECTS_PER_MINUTE):
        assert call >> session.reply("g1") << RECONNECT
        connect(call, greet=True, opening=About.NEXT.value)
        answered(call, f"s{n}", "g1")

    assert call >> session.change_instructions()
    assert call >> after(60.0 - (call.now - first_at) - SOON)
    assert call >> after(SOON) << RECONNECT


def test_a_reply_is_spoken_under_the_new_instructions() -> None:
    """A reply right after the change makes the new connection at once, and opens it."""
    call = talked()

    assert call >> session.change_instructions() >> session.reply("g1", "Say ahoy.") << RECONNECT
    connect(call, greet=True, opening="Say ahoy.")
    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_a_reply_does_not_fail_for_new_instructions() -> None:
    """Where no new connection may be made for them yet, the present one speaks, and they wait."""
    call = talked()
    assert call >> session.change_instructions() >> session.reply("g1", "Say ahoy.") << RECONNECT
    reconnected_at = call.now
    connect(call, greet=True, opening="Say ahoy.")
    answered(call, "r1", "g1")

    assert call >> after(1.0) >> session.change_instructions()
    assert call >> session.reply("g2", "Say arr.") << item("Say arr.", "system") << ASK
    answered(call, "r2", "g2")
    assert call >> after(reconnected_at + INSTRUCTIONS_RECONNECT_EVERY_S - call.now - SOON)
    assert call >> after(SOON) << RECONNECT


def test_new_instructions_go_with_any_new_connection() -> None:
    """A loss brings them, and then there is nothing left to do."""
    call = talked()
    assert call >> session.change_instructions() >> session.lose()

    connect(call)
    assert call >> after(600.0)


def test_results_are_told_before_new_instructions_are_applied() -> None:
    """What the user waits for comes first."""
    call = interrupted()
    assert call >> session.change_instructions() >> session.post("c1") << output("c1")
    stop_speech(call)
    discard(call)
    assert call >> after(NARRATE_AFTER_S) << ASK >> after(1.0)

    answered(call, "r2", then=[RECONNECT])


# ----------------------------------------------------------------- lost connections, the end


@pytest.mark.parametrize("instructions", ["", "Say bye."])
@pytest.mark.parametrize("is_asked", [False, True])
def test_an_owed_reply_survives_a_lost_connection(instructions: str, is_asked: bool) -> None:
    """It becomes the first response of the next one, asked for or not."""
    call = talked()
    if not is_asked:
        start_speech(call)
    call = call >> session.reply("g1", instructions)
    if is_asked and instructions:
        call <<= item(instructions, "system")
    assert call << ASK if is_asked else call
    stopped = [] if is_asked else [fx.UserStopped("u1")]
    assert follows(call >> session.lose(), stopped)

    connect(call, greet=True, opening=instructions or About.NEXT.value)
    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_an_owed_reply_to_outputs_survives_a_lost_connection() -> None:
    """The outputs are in the history, and the first response is about them."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK

    assert call >> session.lose()
    connect(call, greet=True, opening=About.OUTPUTS.value)
    answered(call, "r1", "g1")


@pytest.mark.parametrize("instructions", ["", "Say bye."])
def test_a_reply_is_owed_until_its_first_sound(instructions: str) -> None:
    """A reply that was lost before its first audio is said by the next connection, once."""
    call = talked()
    call = call >> session.reply("g1", instructions)
    assert (call << item(instructions, "system") if instructions else call) << ASK
    assert call >> server.created("r1") << fx.BeginResponse("r1", reply_id="g1")

    assert call >> session.lose() << fx.EndStreams("r1", cut=False) << ended("r1", "lost")
    connect(call, greet=True, opening=instructions or About.NEXT.value)
    answered(call, "r1")
    assert call >> session.lose()
    connect(call)


def owed_again(instructions: str) -> CallTranscript:
    """Return a call that was lost before a reply had audio, while the user began to speak."""
    call = talked(learned=speaking())
    call = call >> session.reply("g1", instructions)
    assert (call << item(instructions, "system") if instructions else call) << ASK
    assert call >> server.created("r1") << fx.BeginResponse("r1", reply_id="g1")
    lost = call >> session.lose(keeps_turn=True)
    assert lost << fx.EndStreams("r1", cut=False) << ended("r1", "lost")
    connect(call)
    start_speech(call)
    stop_speech(call)
    return call


@pytest.mark.parametrize("instructions", ["", "Say bye."])
def test_a_reply_that_is_owed_again_outlasts_a_cough(instructions: str) -> None:
    """Nobody waits for its future any more, but the caller waits for what it says."""
    call = owed_again(instructions)

    call = call >> server.discarded("u1") << fx.UserDiscarded("u1")
    assert (call << item(instructions, "system") if instructions else call) << ASK
    answered(call, "r1")
    assert call >> after(600.0)


@pytest.mark.parametrize("instructions", ["", "Say bye."])
def test_the_answer_to_the_user_makes_up_for_a_reply_that_is_owed_again(instructions: str) -> None:
    """The conversation has gone on: what was to be said before would come too late."""
    call = owed_again(instructions)

    answered(call, "r1")
    assert call >> after(600.0)


def test_a_reply_that_was_heard_is_not_said_again() -> None:
    """Nobody wants to hear the same words twice."""
    call = asked()
    assert call >> server.created("r1") << fx.BeginResponse("r1", reply_id="g1")
    assert call >> server.audio("r1") << sound("r1")

    assert call >> session.lose() << fx.EndStreams("r1", cut=False) << ended("r1", "lost")
    connect(call)


def test_a_reply_that_was_interrupted_is_not_said_again() -> None:
    """A reply that the user speaks over is not needed any more, with or without audio."""
    call = asked()
    assert call >> server.created("r1") << fx.BeginResponse("r1", reply_id="g1")
    assert (
        call >> server.speech_started("u1") << fx.EndStreams("r1", cut=True) << fx.UserStarted("u1")
    )

    assert call >> session.lose() << ended("r1", "cancelled") << fx.UserStopped("u1")
    connect(call)


def test_a_reply_that_has_called_a_function_is_not_said_again() -> None:
    """Its result is what comes next."""
    call = asked()
    assert call >> server.created("r1") << fx.BeginResponse("r1", reply_id="g1")
    assert call >> server.called("r1", "c1") << call_function("r1", "c1")

    assert call >> session.lose() << fx.EndStreams("r1", cut=False) << ended("r1", "lost")
    connect(call)


def test_a_newer_reply_takes_the_place_of_one_that_was_lost() -> None:
    """One reply is owed at a time, also to the next connection."""
    call = asked()
    assert call >> server.created("r1") << fx.BeginResponse("r1", reply_id="g1")
    assert call >> session.reply("g2", "Say bye.")

    assert call >> session.lose() << fx.EndStreams("r1", cut=False) << ended("r1", "lost")
    connect(call, greet=True, opening="Say bye.")
    answered(call, "r1", "g2")
    assert call >> after(600.0)


def test_results_that_the_server_never_told_are_told_by_the_next_connection() -> None:
    """A connection that dies silently lets the reply to outputs fail before it is lost."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    assert call >> after(REPLY_DEADLINE_S) << failed("g1")

    assert call >> session.lose()
    connect(call, greet=True, opening=About.OUTPUTS.value)
    answered(call, "r1")
    assert call >> session.lose()
    connect(call)


def test_results_whose_reply_fails_in_an_outage_are_told_by_the_next_connection() -> None:
    """The future fails in time; what the user waits for comes all the same."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    assert call >> session.lose() >> after(REPLY_LIMIT_S) << failed("g1")

    connect(call, greet=True, opening=About.OUTPUTS.value)
    answered(call, "r1")


def test_results_that_no_server_tells_do_not_make_connections_for_ever() -> None:
    """A server that is silent on a new connection too is left in peace until something happens."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    assert call >> after(REPLY_DEADLINE_S) << failed("g1") >> session.lose()
    connect(call, greet=True, opening=About.OUTPUTS.value)

    assert call >> after(REPLY_SILENCE_S) << RECONNECT
    connect(call, greet=True, opening=About.OUTPUTS.value)
    assert call >> after(600.0)


def test_results_that_were_overtaken_by_a_response_are_not_told_again() -> None:
    """A response of the server knows them, whatever became of the reply."""
    call = calling()
    assert call >> session.post("c1") << output("c1") >> session.reply("g1") << ASK
    assert call >> after(REPLY_DEADLINE_S) << failed("g1")
    plain_turn(call, 2)

    assert call >> session.lose()
    connect(call)


def test_another_conversation_begins_on_another_connection() -> None:
    """At once: what waited is not told, and the first words are those of a beginning."""
    call = talked()
    assert call >> session.note("I am Ada.") >> session.start_over() << RECONNECT
    assert call >> session.reply("g1")

    connect(call, greet=True, opening=About.START.value)
    answered(call, "r1", "g1")


def test_a_conversation_that_has_not_begun_needs_no_other_connection() -> None:
    """The configuration is still to come."""
    call = new_call()
    assert call >> session.configurable() >> session.open_socket() >> session.start_over()


def test_what_was_typed_survives_a_lost_connection() -> None:
    """It is in the history, so it is not sent again."""
    call = talked()
    start_speech(call)
    assert call >> session.note("Who?") >> session.reply("g1")

    assert call >> session.lose() << fx.UserStopped("u1")
    connect(call, greet=True, opening=About.TEXT.value)
    answered(call, "r1", "g1")
    assert call >> session.reply("g2") << ASK


def test_speech_that_reaches_the_next_connection_is_answered_before_anything_is_asked_for() -> None:
    """The server hears the user's last words again, and its answer is the owed reply."""
    call = asked()
    assert call >> session.lose(keeps_turn=True)
    connect(call)

    assert call >> after(KEPT_TURN_S - SOON)
    start_speech(call)
    assert call >> after(KEPT_TURN_S)
    stop_speech(call)
    answered(call, "r1", "g1")
    assert call >> after(600.0)


def test_speech_that_the_next_connection_does_not_notice_is_not_awaited_for_ever() -> None:
    """An owed reply is spoken after all, and so are results that nobody told."""
    call = asked()
    assert call >> session.lose(keeps_turn=True)
    connect(call)
    assert call >> after(KEPT_TURN_S - SOON)
    assert call >> after(SOON) << RECONNECT
    connect(call, greet=True, opening=About.NEXT.value)

    call = interrupted()
    assert call >> session.post("c1") << output("c1")
    assert call >> session.lose(keeps_turn=True) << fx.UserStopped("u1")
    connect(call)
    assert call >> after(KEPT_TURN_S) << RECONNECT
    connect(call, greet=True, opening=About.OUTPUTS.value)


def test_the_answer_to_kept_speech_may_come_without_its_turn() -> None:
    """A server may leave out that the user spoke; then nothing more is awaited either."""
    call = talked(learned=speaking())
    assert call >> session.lose(keeps_turn=True)
    connect(call)
    answered(call, "r1")

    assert call >> session.reply("g1") << ASK


def test_a_second_loss_begins_the_wait_for_kept_speech_anew() -> None:
    """Each connection has its own time to notice the speech."""
    call = asked()
    assert call >> session.lose(keeps_turn=True)
    connect(call)
    assert call >> after(2.0) >> session.lose(keeps_turn=True) >> after(2.0)

    connect(call)


def test_a_lost_connection_takes_its_responses_with_it() -> None:
    """Streams are closed, the loss is accounted for, and the next connection is silent."""
    call = talked()
    generating(call)

    assert call >> session.lose() << fx.EndStreams("r1", cut=False) << ended("r1", "lost")
    assert call.is_in(Handshake.OPENED)
    connect(call)
    assert call.is_in(Handshake.READY)
    assert call >> after(600.0)


def cut_by_the_user(call: CallTranscript) -> Effects:
    """Let the user interrupt a response, and return what a loss brings."""
    assert (
        call >> server.speech_started("u1") << fx.EndStreams("r1", cut=True) << fx.UserStarted("u1")
    )
    return [ended("r1", "cancelled"), fx.UserStopped("u1")]


def calling_without_end(call: CallTranscript) -> Effects:
    """Let a response call a function, and return what a loss brings."""
    assert call >> server.called("r1", "c1") << call_function("r1", "c1")
    return [fx.EndStreams("r1", cut=False), ended("r1", "lost")]


@pytest.mark.parametrize("begin", [cut_by_the_user, calling_without_end])
def test_what_is_awaited_ends_with_its_connection(
    begin: Callable[[CallTranscript], Effects],
) -> None:
    """A server that numbers its responses anew on each connection does not confuse the call."""
    call = talked()
    generating(call)
    lost = begin(call)
    assert follows(call >> session.lose(), lost)
    connect(call)

    generating(call)
    assert call >> after(STALL_S - SOON)
    assert call >> server.audio("r1") << sound("r1")


def test_a_debt_ends_with_its_connection() -> None:
    """The next connection knows nothing of it."""
    call = asked()
    assert call >> session.cancel("g1") >> session.lose()

    connect(call)
    assert call >> server.created("r1") << fx.BeginResponse("r1")


def test_an_error_about_a_lost_connection_is_about_nothing() -> None:
    """Ids of the old connection mean nothing on the new one."""
    call = talked()
    assert call >> session.note("Who?") >> session.reply("g1") << item("Who?") << ASK
    refusal = refused(call, ev.ConversationItemCreate)
    assert call >> session.lose()
    connect(call, greet=True, opening=About.TEXT.value)

    assert call >> refusal << fx.Fault(ServerError("invalid_frame", "no"), fatal=False)
    answered(call, "r1", "g1")


def test_nothing_is_owed_when_the_call_ends() -> None:
    """Futures fail with the reason, streams are closed, and nothing happens any more."""
    call = asked()
    assert call >> server.speech_started("u1") << fx.UserStarted("u1")

    assert call >> session.end() << failed("g1") << fx.UserStopped("u1") >> after(600.0)
    assert call.effects[0] == fx.ReplyFailed("g1", "the end")
    assert not call.subject.is_occupied
    assert call >> session.end()


# ----------------------------------------------------------------------------------- the rest


def test_tools_are_patched_once_they_were_sent() -> None:
    """Before the configuration they go into it; afterwards they are an update."""
    call = new_call()
    assert call >> session.update_tools([LOOK])
    assert call >> session.configurable() >> after(GREETING_WINDOW_S)
    connect(call)

    update = ev.SessionUpdate(session=ev.ClientSession(tools=[LOOK]))
    assert call >> session.update_tools([LOOK]) << fx.Send(update)


def test_an_interruption_cancels_the_response_that_is_generating() -> None:
    """It does nothing where nothing is generating."""
    call = talked()
    assert call >> session.interrupt()
    generating(call)

    assert call >> session.interrupt() << cancelled("r1") << fx.EndStreams("r1", cut=True)
    assert call >> after(CUT_OVERDUE_S) << ended("r1", "cancelled")


def test_frames_that_mean_nothing_are_reported_once() -> None:
    """The conversation's faults are passed on."""
    call = talked()

    assert call >> ev.UnknownEvent("x") << STRANGE >> ev.UnknownEvent("y")


def test_a_call_knows_no_server_unless_it_is_told() -> None:
    """What one call has learned reaches another one only through the model."""
    call = talked()
    assert call >> session.reply("g1") << ASK
    assert call >> refused(call, ev.ResponseCreate) << RECONNECT

    call = talked()
    assert call >> session.reply("g1") << ASK


def test_the_representation_shows_the_conversation_and_the_reply() -> None:
    """A log line or a debugger tells the state at a glance."""
    call = talked()
    assert repr(call.subject) == "<Call <Conversation READY QUIET IDLE> NOTHING reply=none>"
    assert call >> session.reply("g1") << ASK

    assert repr(call.subject) == "<Call <Conversation READY QUIET IDLE> ANSWER reply=WORDS>"


def test_a_question_at_which_the_server_fails_is_put_to_another_connection() -> None:
    """Once: a server that fails again is reported, and the call goes on."""
    call = talked()
    failure = fx.Fault(ServerError("internal_error", "oops"), fatal=False)
    start_speech(call)
    stop_speech(call)
    assert call >> server.error("internal_error", "oops") << failure << RECONNECT
    connect(call)
    start_speech(call)
    stop_speech(call)

    assert call >> server.error("internal_error", "oops") << failure
    answered(call, "r1")


def test_a_failure_inside_the_server_without_a_question_changes_nothing() -> None:
    """Nobody waits for an answer, so the call goes on as it is."""
    call = talked()

    assert (
        call
        >> server.error("internal_error", "oops")
        << fx.Fault(ServerError("internal_error", "oops"), fatal=False)
        >> after(60.0)
    )
