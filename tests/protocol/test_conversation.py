from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.conversation import (
    HANDSHAKE_TIMEOUT_S,
    REMEMBERED_RESPONSES,
    Conversation,
)
from livekit_plugins_hydra.protocol.errors import (
    HandshakeTimeout,
    LocalProtocolError,
    RemoteProtocolError,
    ServerError,
    ServerFull,
)
from livekit_plugins_hydra.protocol.response import (
    CUT_OVERDUE_S,
    END_OVERDUE_S,
    GRACE_S,
    STALL_S,
)
from livekit_plugins_hydra.protocol.states import Handshake, ResponseState, Turn
from livekit_plugins_hydra.protocol.turns import ANSWER_OVERDUE_S
from tests import server_says as server
from tests.transcript import (
    Step,
    Transcript,
    add_message,
    after,
    cancel_response,
    configure,
    create_response,
    ended,
    lose,
    open_socket,
    play,
    post_output,
    update_tools,
)

PERSONA = ev.ClientSession(instructions="Be kind.", voice="aria")
LOOK = ev.Tool(name="look")
SOON = 0.001
STRANGE = fx.Fault(RemoteProtocolError(), fatal=False)
"""What the first frame of each strange kind is reported by."""


def opened() -> Transcript:
    """Return the transcript of a socket that has just opened."""
    call = play(Conversation(lambda: "cl"))
    assert call >> open_socket()
    return call


def ready(session: ev.ClientSession = PERSONA) -> Transcript:
    """Return the transcript of a connection whose handshake is complete."""
    call = opened()
    assert (
        call
        >> ev.SessionCreated()
        >> configure(session)
        << fx.Send(ev.SessionConfigure(event_id="cl", session=session))
        >> ev.SessionConfigured()
        << fx.SessionReady(ev.ServerSession())
    )
    return call


def answering(response_id: str = "r1") -> Transcript:
    """Return the transcript of a connection with a response in progress."""
    call = ready()
    assert call >> server.created(response_id) << fx.BeginResponse(response_id)
    return call


def calling(*call_ids: str) -> Transcript:
    """Return the transcript of a response `r1` that has made calls and may make more."""
    call = answering()
    for call_id in call_ids or ("c1",):
        assert call >> server.called("r1", call_id) << call_function("r1", call_id)
    return call


def waiting(*call_ids: str) -> Transcript:
    """Return the transcript of a response `r1` that only waits for the outputs of its calls."""
    call = calling(*call_ids)
    assert call >> after(GRACE_S) << fx.EndStreams("r1", cut=False)
    return call


def call_function(
    part_id: str,
    call_id: str,
    *,
    name: str = "look",
    arguments: str = "{}",
    item_id: str | None = None,
) -> fx.CallFunction:
    """Return the effect that hands a call over."""
    return fx.CallFunction(part_id, item_id or f"item_{call_id}", call_id, name, arguments)


def output(call_id: str, text: str) -> fx.Send:
    """Return the effect that sends an output."""
    item = ev.Item(type="function_call_output", call_id=call_id, output=text)
    return fx.Send(ev.ConversationItemCreate(event_id="cl", item=item))


def facts(conversation: Conversation) -> tuple[object, ...]:
    """Return all that can be seen of a conversation."""
    return (
        repr(conversation),
        conversation.is_free,
        conversation.is_untouched,
        conversation.open_calls,
        conversation.dropped.copy(),
    )


# ------------------------------------------------------------------------------------ handshake


def test_the_handshake_ends_with_what_the_server_says_of_the_session() -> None:
    """A connection is ready once the server has confirmed the configuration that it asked for."""
    session = ev.ServerSession(output_audio_sample_rate=24_000)
    call = opened()

    assert call >> ev.SessionCreated(session_id="s1")
    assert call.is_in(Handshake.CREATED)
    assert (
        call >> configure(PERSONA) << fx.Send(ev.SessionConfigure(event_id="cl", session=PERSONA))
    )
    assert not call.conversation.is_ready
    assert call >> ev.SessionConfigured(session=session) << fx.SessionReady(session)
    assert call.conversation.is_ready
    assert call.conversation.is_untouched
    assert call >> after(600.0)


def test_a_warning_before_the_first_frame_changes_nothing() -> None:
    """Frames are known by their type and never by their place."""
    call = opened()

    assert call >> ev.Warning(code="model_deprecated") >> ev.SessionCreated()
    assert call.is_in(Handshake.CREATED)


@pytest.mark.parametrize(
    ("steps", "waiting_for"),
    [
        ([], "session.created"),
        ([ev.SessionCreated(), after(300.0), configure(PERSONA)], "session.configured"),
    ],
)
def test_a_silent_server_fails_the_handshake(steps: list[Step], waiting_for: str) -> None:
    """The server has ten seconds for each of its answers; our own time does not count."""
    call = opened()
    for step in steps:
        call >>= step
    if steps:
        call <<= fx.Send(ev.SessionConfigure(event_id="cl", session=PERSONA))

    assert call >> after(HANDSHAKE_TIMEOUT_S - SOON)
    assert call >> after(SOON) << fx.Fault(HandshakeTimeout(waiting_for, HANDSHAKE_TIMEOUT_S), True)
    assert waiting_for in str(call.only(fx.Fault).error)


@pytest.mark.parametrize("is_configured", [False, True])
def test_an_error_is_fatal_only_before_the_handshake_is_complete(is_configured: bool) -> None:
    """A refused configuration fails the connection; later errors are survived."""
    call = ready() if is_configured else opened()

    assert (
        call
        >> server.error("invalid_request_error", "unknown voice", event_id="cl")
        << fx.Fault(ServerError("invalid_request_error", "unknown voice"), fatal=not is_configured)
    )
    error = call.only(fx.Fault).error
    assert isinstance(error, ServerError)
    assert error.event_id == "cl"


@pytest.mark.parametrize(
    ("code", "error"),
    [("server_full", ServerFull()), ("session_ended", ServerError("session_ended"))],
)
def test_some_errors_end_a_session_in_any_state(code: str, error: ServerError | ServerFull) -> None:
    """After these errors the server closes, so nothing more is expected of the connection."""
    assert ready() >> server.error(code) << fx.Fault(error, fatal=True)


def test_an_error_without_a_code_is_named_by_its_type() -> None:
    """The envelope of errors is taken leniently."""
    call = ready()

    assert call >> ev.Error(error=ev.ErrorBody(type="oops")) << fx.Fault(ServerError("oops"), False)
    assert call >> ev.Error() << fx.Fault(ServerError("unknown_error"), False)


def test_handshake_frames_out_of_place_are_dropped() -> None:
    """A confirmation that nobody asked for, and repeats, change nothing."""
    call = opened()

    assert call >> ev.SessionConfigured() << STRANGE
    assert call.is_in(Handshake.OPENED)
    call = ready()
    assert call >> ev.SessionCreated() << STRANGE >> ev.SessionConfigured()
    assert call.conversation.is_ready
    assert call.conversation.dropped["unexpected"] == 2


def test_nothing_is_heard_before_the_handshake_is_complete() -> None:
    """Speech and responses that come too early are dropped, and reported once each."""
    call = opened()

    assert (
        call
        >> server.speech_started("u1")
        << STRANGE
        >> server.created("r1")
        << STRANGE
        >> server.audio("r1")
        << STRANGE
        >> server.audio("r1")
    )
    assert call.conversation.is_untouched
    assert call.conversation.dropped.total() == 4


def test_frames_of_unknown_type_are_counted_and_reported_once() -> None:
    """A new kind of event is no outage."""
    call = ready()

    assert call >> ev.UnknownEvent("session.sang") << STRANGE >> ev.UnknownEvent("session.danced")
    assert "session.sang" in str(call.only(fx.Fault).error)
    assert call.conversation.dropped["unknown type"] == 2


@pytest.mark.parametrize(
    "event",
    [
        ev.Warning(),
        ev.SessionUpdated(),
        ev.ConversationItemAdded(item=ev.Item(id="u1", role="user")),
        ev.ResponseOutputAudioDone(response_id="r1"),
        ev.ResponseOutputAudioTranscriptDone(response_id="r1"),
    ],
)
def test_some_events_say_nothing_new(event: ev.ServerEvent) -> None:
    """What these say, another event says as well."""
    call = answering()

    assert call >> event
    assert call.conversation.dropped.total() == 0


# ---------------------------------------------------------------------------------------- turns


def test_a_plain_turn() -> None:
    """The user speaks, the model answers, and everything is told once and in order."""
    usage = ev.Usage(input_tokens=1, output_tokens=2, total_tokens=3)
    call = ready()

    assert (
        call
        >> server.speech_started("u1")
        << fx.UserStarted("u1")
        >> server.speech_stopped("u1")
        << fx.UserStopped("u1")
        >> server.heard("u1")
        >> server.created("r1")
        << fx.BeginResponse("r1")
        >> server.audio("r1", b"\1\0\2\0", "a1")
        << fx.OutputAudio("r1", "a1", b"\1\0\2\0")
        >> server.spoken("a1")
        >> server.done("r1", usage=usage)
        << fx.EndStreams("r1", cut=False)
        << ended("r1", usage=usage)
        >> after(600.0)
    )
    assert not call.conversation.is_untouched
    assert call.conversation.is_free


def test_a_barge_in_closes_the_response_before_the_turn_begins() -> None:
    """When the user starts to speak, what still comes of the response is kept, and not played."""
    call = answering()

    assert (
        call
        >> server.audio("r1")
        << fx.OutputAudio("r1", "a1", b"\1\0")
        >> server.speech_started("u1")
        << fx.EndStreams("r1", cut=True)
        << fx.UserStarted("u1")
        >> server.audio("r1")
        << fx.LateAudio("r1", b"\1\0")
        >> server.text("r1", "and so")
        << fx.LateText("r1", "and so")
        >> server.spoken("a1", "and so on", status="incomplete")
        >> server.done("r1", "cancelled")
        << ended("r1", "cancelled")
        >> server.audio("r1")
        << fx.LateAudio("r1", b"\1\0")
    )
    assert call.is_in(ResponseState.IDLE)


def test_a_barge_in_after_the_response_has_ended_only_begins_the_turn() -> None:
    """Audio that is still being played does not matter to the protocol."""
    call = answering()
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")

    assert call >> server.speech_started("u1") << fx.UserStarted("u1")


@pytest.mark.parametrize("item_id", ["u1", None])
@pytest.mark.parametrize(
    ("why", "also"),
    [
        (server.speech_stopped, []),
        (server.discarded, [fx.UserDiscarded]),
        (lambda _: server.created("r1"), [lambda _: fx.BeginResponse("r1")]),
        (lambda _: lose(), []),
        (server.speech_started, [fx.UserStarted]),
    ],
    ids=["speech_stopped", "discarded", "response.created", "lost", "speech_started"],
)
def test_each_end_of_a_turn_stops_it(
    item_id: str | None,
    why: Callable[[str | None], Step],
    also: list[Callable[[str | None], fx.Effect]],
) -> None:
    """Whatever ends a turn tells that the user has stopped, with and without item ids."""
    call = ready()
    assert call >> server.speech_started(item_id) << fx.UserStarted(item_id)

    call = call >> why(item_id) << fx.UserStopped(item_id)
    for effect in also:
        call <<= effect(item_id)
    assert call


@pytest.mark.parametrize("item_id", ["u1", None])
@pytest.mark.parametrize(
    ("first", "second", "third"),
    list(itertools.permutations(["speech_stopped", "discarded", "created"])),
)
def test_a_turn_is_stopped_once_in_any_order_of_its_ends(
    item_id: str | None, first: str, second: str, third: str
) -> None:
    """Ends that come late or doubled never stop a turn again."""
    ends: dict[str, ev.ServerEvent] = {
        "speech_stopped": server.speech_stopped(item_id),
        "discarded": server.discarded(item_id),
        "created": server.created("r1"),
    }
    conversation = ready().conversation
    effects = conversation.receive(server.speech_started(item_id), 0.0)
    for end in (first, second, third, first, second, third):
        effects += conversation.receive(ends[end], 0.0)
    effects += conversation.lose()

    assert [
        effect for effect in effects if isinstance(effect, fx.UserStarted | fx.UserStopped)
    ] == [fx.UserStarted(item_id), fx.UserStopped(item_id)]


def test_a_turn_may_be_discarded_before_or_after_it_was_stopped() -> None:
    """A cough is stopped first and discarded then, even if the server never says that it ended."""
    call = ready()

    assert (
        call
        >> server.speech_started("u1")
        << fx.UserStarted("u1")
        >> server.discarded("u1")
        << fx.UserStopped("u1")
        << fx.UserDiscarded("u1")
        >> server.speech_stopped("u1")
        >> server.speech_started("u2")
        << fx.UserStarted("u2")
        >> server.speech_stopped("u2")
        << fx.UserStopped("u2")
        >> server.discarded("u2")
        << fx.UserDiscarded("u2")
        >> after(600.0)
    )
    assert call.is_in(Turn.QUIET)


def test_a_discarded_item_may_lack_its_role() -> None:
    """The id that `speech_started` announced is enough to know the user's item."""
    call = ready()
    assert call >> server.speech_started("u1") << fx.UserStarted("u1")

    assert (
        call
        >> server.item_done(ev.Item(id="u1", status="incomplete"))
        << fx.UserStopped("u1")
        << fx.UserDiscarded("u1")
    )


def test_the_discard_of_an_earlier_turn_does_not_end_the_present_one() -> None:
    """Each turn ends by its own item."""
    call = ready()

    assert (
        call
        >> server.speech_started("u1")
        << fx.UserStarted("u1")
        >> server.speech_stopped("u1")
        << fx.UserStopped("u1")
        >> server.speech_started("u2")
        << fx.UserStarted("u2")
        >> server.discarded("u1")
        << fx.UserDiscarded("u1", is_earlier=True)
    )
    assert call.is_in(Turn.SPEAKING)


def test_the_discard_of_an_earlier_turn_does_not_stop_the_wait_for_an_answer() -> None:
    """A turn that nobody answers is over in time, whatever else comes meanwhile."""
    call = ready()
    for item_id in ("u1", "u2"):
        assert call >> server.speech_started(item_id) << fx.UserStarted(item_id)
        assert call >> server.speech_stopped(item_id) << fx.UserStopped(item_id)

    assert call >> server.discarded("u1") << fx.UserDiscarded("u1", is_earlier=True)
    assert call.is_in(Turn.ENDED)
    assert call >> after(ANSWER_OVERDUE_S)
    assert call.is_in(Turn.QUIET)


@pytest.mark.parametrize("is_discarded", [False, True])
def test_a_turn_ends_by_an_item_of_an_unknown_id(is_discarded: bool) -> None:
    """A server that names the same speech differently does not leave the user speaking for ever."""
    call = ready()
    assert call >> server.speech_started("speech 1") << fx.UserStarted("speech 1")

    if is_discarded:
        assert (
            call
            >> server.discarded("item 1")
            << fx.UserStopped("speech 1")
            << fx.UserDiscarded("item 1")
        )
    else:
        assert call >> server.speech_stopped("item 1") << fx.UserStopped("speech 1")


def test_a_late_speech_stopped_tells_nothing() -> None:
    """The response has already said that the user stopped."""
    call = ready()

    assert (
        call
        >> server.speech_started("u1")
        << fx.UserStarted("u1")
        >> server.created("r1")
        << fx.UserStopped("u1")
        << fx.BeginResponse("r1")
        >> server.speech_stopped("u1")
    )
    assert call.conversation.dropped["late speech_stopped"] == 1


def test_a_late_speech_stopped_does_not_end_the_next_turn() -> None:
    """While the user speaks again, the end of the turn before is no end of this one."""
    call = ready()

    assert (
        call
        >> server.speech_started("u1")
        << fx.UserStarted("u1")
        >> server.created("r1")
        << fx.UserStopped("u1")
        << fx.BeginResponse("r1")
        >> server.speech_started("u2")
        << fx.EndStreams("r1", cut=True)
        << fx.UserStarted("u2")
        >> server.speech_stopped("u1")
    )
    assert call.is_in(Turn.SPEAKING)
    assert call >> server.speech_stopped("u2") << fx.UserStopped("u2")


@pytest.mark.parametrize(("started", "stopped"), [("u1", None), (None, "u1")])
def test_a_speech_stopped_without_a_pair_of_ids_ends_the_turn(
    started: str | None, stopped: str | None
) -> None:
    """Where the server leaves out an id, the present turn is meant."""
    call = ready()
    assert call >> server.speech_started(started) << fx.UserStarted(started)

    assert call >> server.speech_stopped(stopped) << fx.UserStopped(started)


def test_an_unanswered_turn_is_over_in_time() -> None:
    """A server that neither answers nor discards does not block replies on demand for ever."""
    call = ready()
    assert call >> server.speech_started() << fx.UserStarted(None)
    assert not call.conversation.is_free
    assert call >> server.speech_stopped() << fx.UserStopped(None)

    assert call >> after(ANSWER_OVERDUE_S - SOON)
    assert not call.conversation.is_free
    assert call >> after(SOON)
    assert call.conversation.is_free


def test_the_wait_for_an_answer_ends_when_the_user_goes_on() -> None:
    """A turn of long pauses is one that the user is still in."""
    call = ready()
    assert call >> server.speech_started() << fx.UserStarted(None)
    assert call >> server.speech_stopped() << fx.UserStopped(None)

    assert call >> server.speech_started() << fx.UserStarted(None) >> after(60.0)
    assert call.is_in(Turn.SPEAKING)


def test_the_servers_own_transcript_of_a_turn_is_passed_on() -> None:
    """The words of a user are told where the server sends them, and only those that were spoken."""
    typed = ev.Item(id="t1", role="user", content=[ev.Content(type="input_text", text="typed")])
    call = ready()

    assert (
        call
        >> server.heard("u1", "hello there")
        << fx.UserText("u1", "hello there")
        >> server.heard("u2", None)
        >> server.heard(None, "whose?")
        >> server.item_done(typed)
    )


@pytest.mark.parametrize("item_id", ["u1", None])
def test_a_transcript_without_an_id_is_of_the_turn_that_goes_on(item_id: str | None) -> None:
    """A server that names no items can still write down what the user says."""
    call = ready()

    assert (
        call
        >> server.speech_started(item_id)
        << fx.UserStarted(item_id)
        >> server.speech_stopped(item_id)
        << fx.UserStopped(item_id)
        >> server.heard(None, "hello there")
        << fx.UserText(item_id or "", "hello there")
    )


# ------------------------------------------------------------------------------------ responses


def test_a_response_may_begin_by_itself() -> None:
    """An initial response needs no user turn."""
    call = ready(ev.ClientSession(generate_initial_response=True))

    assert (
        call
        >> server.created("r1")
        << fx.BeginResponse("r1")
        >> server.audio("r1")
        << fx.OutputAudio("r1", "a1", b"\1\0")
        >> server.done("r1")
        << fx.EndStreams("r1", cut=False)
        << ended("r1")
    )


def test_sound_is_passed_on_as_it_comes() -> None:
    """Odd lengths are passed on, empty deltas are not, and a missing item id is empty."""
    call = answering()

    assert (
        call
        >> server.audio("r1", b"\1")
        << fx.OutputAudio("r1", "a1", b"\1")
        >> server.audio("r1", b"")
        >> server.audio("r1", b"\2\0", None)
        << fx.OutputAudio("r1", "", b"\2\0")
    )


def test_events_without_a_response_id_belong_to_the_newest_response() -> None:
    """Ids are optional on the wire."""
    call = answering()

    assert (
        call
        >> server.audio(None)
        << fx.OutputAudio("r1", "a1", b"\1\0")
        >> server.text(None, "hi")
        << fx.OutputText("r1", "a1", "hi")
        >> server.called(None, "c1")
        << call_function("r1", "c1")
    )


@pytest.mark.parametrize(
    "event",
    [
        server.audio("r9"),
        server.text("r9", "hi"),
        server.arguments("r9", "c1", "{"),
        server.called("r9", "c1"),
        server.done("r9"),
    ],
)
def test_events_of_an_unknown_response_touch_nothing(event: ev.ServerEvent) -> None:
    """What belongs to no response is dropped, and reported once."""
    call = answering()
    before = facts(call.conversation)[:4]

    assert call >> event << STRANGE >> event
    assert facts(call.conversation)[:4] == before
    assert call.conversation.dropped.total() == 2


def test_a_response_begins_once() -> None:
    """A doubled `response.created` is dropped, even when its response has ended."""
    call = answering()

    assert call >> server.created("r1") << STRANGE
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call >> server.created("r1")


def test_the_next_response_closes_the_one_before() -> None:
    """One response plays at a time; what comes late of the other is dropped but accounted for."""
    call = answering()

    assert (
        call
        >> server.created("r2")
        << fx.EndStreams("r1", cut=False)
        << fx.BeginResponse("r2")
        >> server.audio("r1")
        >> server.audio("r2")
        << fx.OutputAudio("r2", "a1", b"\1\0")
        >> server.done("r1", "cancelled")
        << ended("r1", "cancelled")
        >> server.audio("r2")
        << fx.OutputAudio("r2", "a1", b"\1\0")
    )
    assert call.is_in(ResponseState.GENERATING)


def test_a_response_ends_once() -> None:
    """A doubled `response.done` is dropped, also that of a response that has failed."""
    call = answering()

    assert (
        call
        >> server.done("r1", "failed")
        << fx.EndStreams("r1", cut=False)
        << ended("r1", "failed")
        << fx.Fault(ServerError("response_failed", "response r1 failed"), fatal=False)
        >> server.done("r1", "failed")
    )
    assert call.conversation.dropped["late response.done"] == 1


def test_a_response_without_a_status_is_complete() -> None:
    """The status is optional on the wire."""
    call = answering()

    assert call >> server.done("r1", None) << fx.EndStreams("r1", cut=False) << ended("r1")


def test_a_failed_response_says_why() -> None:
    """The server's words about a failure are passed on."""
    details = ev.StatusDetails(error=ev.ErrorBody(type="server_error", message="no room"))
    call = answering()

    assert (
        call
        >> server.done("r1", "failed", details=details)
        << fx.EndStreams("r1", cut=False)
        << ended("r1", "failed")
        << fx.Fault(ServerError("server_error", "no room"), fatal=False)
    )


def test_phrases_are_written_down_as_they_come() -> None:
    """Transcripts are optional; empty phrases are none."""
    call = answering()

    assert (
        call
        >> server.text("r1", "Good morning.")
        << fx.OutputText("r1", "a1", "Good morning.")
        >> server.text("r1", "")
        >> server.text("r1", "How are you?", None)
        << fx.OutputText("r1", "", "How are you?")
    )
    assert call.conversation.dropped.total() == 0


def test_the_whole_text_of_an_item_comes_once_more() -> None:
    """It takes the place of the pieces; an empty one is none, nor is one of a cut response."""
    call = answering()

    assert (
        call
        >> server.text("r1", "Good morn")
        << fx.OutputText("r1", "a1", "Good morn")
        >> server.transcript("r1", "Good morning.")
        << fx.OutputTranscript("r1", "a1", "Good morning.")
        >> server.transcript("r1", " ")
        >> server.transcript("r1", None)
        >> server.transcript(None, "All of it.", None)
        << fx.OutputTranscript("r1", "", "All of it.")
        >> server.speech_started("u2")
        << fx.EndStreams("r1", cut=True)
        << fx.UserStarted("u2")
        >> server.transcript("r1", "Good morning.")
    )
    assert call.conversation.dropped == {"late text": 1}


@pytest.mark.parametrize("phrase_id", ["a1", None])
@pytest.mark.parametrize("item_id", ["a1", None])
def test_text_is_not_written_down_twice(phrase_id: str | None, item_id: str | None) -> None:
    """The text of an item repeats its phrases, whether or not both name the item."""
    call = answering()

    assert (
        call
        >> server.text("r1", "Good morning.", phrase_id)
        << fx.OutputText("r1", phrase_id or "", "Good morning.")
        >> server.spoken(item_id, "Good morning.")
    )


@pytest.mark.parametrize(
    "item",
    [
        ev.Item(id="x", role="system", content=[ev.Content(type="input_text", text="Obey.")]),
        ev.Item(id="x", type="function_call_output", call_id="c1", output="42"),
    ],
)
def test_items_that_we_sent_are_not_the_models_words(item: ev.Item) -> None:
    """A server that confirms our own items does not put them into the model's mouth."""
    assert answering() >> server.item_done(item)


def test_items_without_a_response_are_ignored() -> None:
    """An item of the model before any response belongs to none."""
    assert ready() >> server.spoken("a1", "hi")


def test_a_silent_response_is_given_up() -> None:
    """A response that stops without its end does not keep the call waiting for ever."""
    call = answering()

    assert call >> after(10.0) >> server.audio("r1") << fx.OutputAudio("r1", "a1", b"\1\0")
    assert call >> after(STALL_S - SOON)
    assert not call.conversation.is_free
    assert (
        call
        >> after(SOON)
        << fx.EndStreams("r1", cut=False)
        << ended("r1", "incomplete")
        << STRANGE
    )
    assert call.conversation.is_free
    assert call >> server.done("r1") >> after(600.0)


def test_a_response_that_was_only_slow_is_still_played() -> None:
    """Audio and function calls that come after a response was given up get a part of their own."""
    call = answering()
    assert (
        call
        >> after(STALL_S)
        << fx.EndStreams("r1", cut=False)
        << ended("r1", "incomplete")
        << STRANGE
    )

    assert (
        call
        >> server.audio("r1")
        << fx.BeginResponse("r1+1", is_late=True)
        << fx.OutputAudio("r1+1", "a1", b"\1\0")
    )
    assert not call.conversation.is_free
    assert call >> server.done("r1") << fx.EndStreams("r1+1", cut=False)
    assert call.conversation.is_free


@pytest.mark.parametrize("cut", [server.speech_started("u1"), cancel_response()])
def test_a_cut_response_is_over_without_its_end(cut: Step) -> None:
    """If the server never confirms the end of what was cut, it is over once it is silent."""
    call = answering()
    call = call >> cut
    if isinstance(cut, ev.Event):
        call = call << fx.EndStreams("r1", cut=True) << fx.UserStarted("u1")
        assert call >> server.speech_stopped("u1") << fx.UserStopped("u1")
    else:
        cancel = ev.ResponseCancel(event_id="cl", response_id="r1")
        assert call << fx.Send(cancel) << fx.EndStreams("r1", cut=True)

    call = call >> after(CUT_OVERDUE_S - SOON) >> server.audio("r1")
    if isinstance(cut, ev.Event):
        call = call << fx.LateAudio("r1", b"\1\0")
    assert call >> after(CUT_OVERDUE_S - SOON)
    assert call.is_in(ResponseState.CUT)
    assert call >> after(SOON) << ended("r1", "cancelled")
    assert call.is_in(ResponseState.IDLE)


def test_a_cut_response_is_awaited_while_the_user_speaks() -> None:
    """A long user turn leaves the server time to confirm, with its numbers, what it cancelled."""
    usage = ev.Usage(total_tokens=7)
    call = answering()
    assert (
        call >> server.speech_started("u1") << fx.EndStreams("r1", cut=True) << fx.UserStarted("u1")
    )

    assert (
        call
        >> after(30.0)
        >> server.done("r1", "cancelled", usage=usage)
        << ended("r1", "cancelled", usage=usage)
    )


def test_a_cut_response_is_overdue_even_if_another_has_begun() -> None:
    """The end of an old response never touches the new one."""
    call = answering()
    assert (
        call
        >> server.speech_started()
        << fx.EndStreams("r1", cut=True)
        << fx.UserStarted(None)
        >> server.created("r2")
        << fx.UserStopped(None)
        << fx.BeginResponse("r2")
    )

    assert call >> after(CUT_OVERDUE_S) << ended("r1", "cancelled")
    assert call.is_in(ResponseState.GENERATING)


def test_old_responses_are_forgotten_and_accounted_for() -> None:
    """A response whose end never comes still ends once, when it is too old to be remembered."""
    call = ready()
    names = [f"r{n}" for n in range(REMEMBERED_RESPONSES + 1)]
    assert call >> server.created(names[0]) << fx.BeginResponse(names[0])
    for before, name in itertools.pairwise(names[:-1]):
        assert (
            call
            >> server.created(name)
            << fx.EndStreams(before, cut=False)
            << fx.BeginResponse(name)
        )

    assert (
        call
        >> server.created(names[-1])
        << fx.EndStreams(names[-2], cut=False)
        << ended(names[0])
        << fx.BeginResponse(names[-1])
        >> server.done(names[0])
        << STRANGE
    )


def test_times_of_an_answer_count_from_the_end_of_the_users_speech() -> None:
    """`speech_stopped` is when the latency begins, and the first audio is when it ends."""
    call = ready()
    assert call >> server.speech_started() << fx.UserStarted(None)
    assert call >> after(2.0) >> server.speech_stopped() << fx.UserStopped(None)
    stopped_at = call.now
    assert call >> after(0.5) >> server.created("r1") << fx.BeginResponse("r1")
    assert call >> after(0.25) >> server.audio("r1") << fx.OutputAudio("r1", "a1", b"\1\0")
    first_audio_at = call.now
    assert call >> after(1.0) >> server.audio("r1") << fx.OutputAudio("r1", "a1", b"\1\0")

    assert call >> after(1.0) >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    end = call.only(fx.EndResponse)
    assert (stopped_at, first_audio_at, call.now) == (
        end.requested_at,
        end.first_audio_at,
        end.ended_at,
    )


def test_times_of_an_answer_count_from_its_beginning_if_that_came_first() -> None:
    """Where the server answers before it says that the user stopped, the answer is the mark."""
    call = ready()
    assert call >> server.speech_started() << fx.UserStarted(None)
    assert (
        call
        >> after(2.0)
        >> server.created("r1")
        << fx.UserStopped(None)
        << fx.BeginResponse("r1")
        >> server.speech_stopped()
    )
    created_at = call.now

    assert call >> after(1.0) >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call.only(fx.EndResponse).requested_at == created_at
    assert call.only(fx.EndResponse).first_audio_at is None


def test_times_of_a_late_answer_count_from_the_end_of_the_users_speech() -> None:
    """An answer that comes when it is hardly expected any more was waited for all the time."""
    call = ready()
    assert call >> server.speech_started() << fx.UserStarted(None)
    assert call >> server.speech_stopped() << fx.UserStopped(None)
    stopped_at = call.now

    assert call >> after(2 * ANSWER_OVERDUE_S) >> server.created("r1") << fx.BeginResponse("r1")
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call.only(fx.EndResponse).requested_at == stopped_at


def test_times_after_a_discarded_turn_do_not_count_from_it() -> None:
    """Nobody waits for an answer to a cough."""
    call = ready()
    assert (
        call
        >> server.speech_started("u1")
        << fx.UserStarted("u1")
        >> server.speech_stopped("u1")
        << fx.UserStopped("u1")
        >> server.discarded("u1")
        << fx.UserDiscarded("u1")
    )

    assert call >> after(3.0) >> server.created("r1") << fx.BeginResponse("r1")
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call.only(fx.EndResponse).requested_at == call.now


@pytest.mark.parametrize("is_greeting", [True, False])
def test_times_of_a_reply_on_demand_count_from_the_request(is_greeting: bool) -> None:
    """What was asked for was waited for since it was asked for."""
    call = ready(ev.ClientSession(generate_initial_response=is_greeting))
    asked_at = call.now
    if not is_greeting:
        assert call >> create_response() << fx.Send(ev.ResponseCreate(event_id="cl"))

    assert call >> after(0.5) >> server.created("r1") << fx.BeginResponse("r1")
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call.only(fx.EndResponse).requested_at == asked_at


# ---------------------------------------------------------------------------------------- tools


def test_a_tool_round_whose_response_ends_before_the_outputs() -> None:
    """Where `response.done` follows the call, the streams are closed without delay."""
    call = calling()
    assert call.is_in(ResponseState.GENERATING)
    assert call.conversation.open_calls

    assert (
        call
        >> server.done("r1", output=[server.call_item("c1")])
        << fx.EndStreams("r1", cut=False)
        << ended("r1")
    )
    assert not call.is_in(ResponseState.GENERATING)
    assert call.conversation.open_calls
    assert call >> after(3.0) >> post_output("c1", "42") << output("c1", "42")
    assert not call.conversation.open_calls
    assert call >> create_response() << fx.Send(ev.ResponseCreate(event_id="cl"))
    assert call >> server.created("r2") << fx.BeginResponse("r2")


def test_a_tool_round_whose_response_ends_after_the_outputs() -> None:
    """A server that waits for the outputs gets them: the streams are closed after the grace."""
    call = calling()

    assert call >> after(GRACE_S - SOON)
    assert call.is_in(ResponseState.GENERATING)
    assert call >> after(SOON) << fx.EndStreams("r1", cut=False)
    assert call.is_in(ResponseState.WAITING)
    assert call.conversation.is_free
    assert call >> post_output("c1", "42") << output("c1", "42")
    assert call >> server.done("r1") << ended("r1")
    assert call.is_in(ResponseState.IDLE)
    assert call >> create_response() << fx.Send(ev.ResponseCreate(event_id="cl"))


def test_a_tool_round_whose_response_never_ends() -> None:
    """The narration follows and goes on without the end of the response that called."""
    call = waiting()

    assert (
        call
        >> post_output("c1", "42")
        << output("c1", "42")
        >> create_response()
        << fx.Send(ev.ResponseCreate(event_id="cl"))
        >> server.created("r2")
        << fx.BeginResponse("r2")
        >> server.done("r2")
        << fx.EndStreams("r2", cut=False)
        << ended("r2")
        >> after(600.0)
        >> lose()
        << ended("r1")
    )


def test_the_narration_may_begin_before_the_grace_is_over() -> None:
    """The next response closes the streams of the one that called, and the grace is over."""
    call = calling()

    assert (
        call
        >> server.created("r2")
        << fx.EndStreams("r1", cut=False)
        << fx.BeginResponse("r2")
        >> after(2 * GRACE_S)
    )
    assert call.is_in(ResponseState.GENERATING)
    assert call.conversation.open_calls == {"c1"}


def test_parallel_calls_share_one_response() -> None:
    """Each further event of the response begins the grace anew; all calls are one round."""
    call = calling("c1", "c2")

    assert call >> after(GRACE_S - SOON) >> server.called("r1", "c3") << call_function("r1", "c3")
    assert (
        call >> after(GRACE_S - SOON) >> server.audio("r1") << fx.OutputAudio("r1", "a1", b"\1\0")
    )
    assert call >> after(GRACE_S - SOON)
    assert call >> after(SOON) << fx.EndStreams("r1", cut=False)
    assert call.conversation.open_calls == {"c1", "c2", "c3"}
    for call_id in ("c2", "c3", "c1"):
        assert not call.is_in(ResponseState.GENERATING)
        assert call.conversation.open_calls
        assert call >> post_output(call_id, "ok") << output(call_id, "ok")
    assert not call.conversation.open_calls


@pytest.mark.parametrize(("whole", "expected"), [('{"a":1}', '{"a":1}'), (None, "{}"), ("", "{}")])
def test_the_end_of_a_call_has_its_name_and_arguments(whole: str | None, expected: str) -> None:
    """Pieces only show that it goes on; a call without arguments has none."""
    call = answering()

    assert (
        call
        >> server.arguments("r1", "c1", '{"a"', "look")
        >> server.arguments("r1", "c1", ":1}")
        >> server.called("r1", "c1", "look", whole)
        << call_function("r1", "c1", arguments=expected)
    )


def test_a_call_that_streams_in_keeps_the_streams_open() -> None:
    """The grace begins anew with each piece of a further call."""
    call = calling("c1")
    for piece in ('{"a"', ":", "1}"):
        assert call >> after(GRACE_S - SOON) >> server.arguments("r1", "c2", piece, "look")

    assert call >> server.called("r1", "c2") << call_function("r1", "c2")
    assert call >> after(GRACE_S) << fx.EndStreams("r1", cut=False)


def test_speech_and_calls_may_share_a_response() -> None:
    """What the model says before it calls is played, and what it calls is run."""
    call = answering()

    assert (
        call
        >> server.audio("r1")
        << fx.OutputAudio("r1", "a1", b"\1\0")
        >> server.called("r1", "c1")
        << call_function("r1", "c1")
        >> server.audio("r1")
        << fx.OutputAudio("r1", "a1", b"\1\0")
        >> server.done("r1")
        << fx.EndStreams("r1", cut=False)
        << ended("r1")
    )


@pytest.mark.parametrize("has_output", [False, True])
def test_an_id_that_comes_again_in_a_later_response_is_a_new_call(has_output: bool) -> None:
    """It is run under an id of its own, and its output goes back under the server's."""
    call = waiting("c1")
    if has_output:
        assert call >> post_output("c1", "one") << output("c1", "one")

    assert (
        call
        >> server.created("r2")
        << fx.BeginResponse("r2")
        >> server.called("r2", "c1")
        << call_function("r2", "c1+1")
        >> server.called("r2", "c1")
        >> after(GRACE_S)
        << fx.EndStreams("r2", cut=False)
        >> server.created("r3")
        << fx.BeginResponse("r3")
        >> server.called("r3", "c1")
        << call_function("r3", "c1+2")
        >> post_output("c1+2", "three")
        << output("c1", "three")
        >> post_output("c1+1", "two")
        << output("c1", "two")
    )
    assert call.conversation.open_calls == frozenset(() if has_output else ("c1",))


@pytest.mark.parametrize(
    "again",
    [
        server.called("r1", "c1"),
        server.arguments("r1", "c1", "{"),
        server.item_done(server.call_item("c1")),
    ],
)
@pytest.mark.parametrize("has_output", [False, True])
def test_a_call_is_handed_over_once(again: ev.ServerEvent, has_output: bool) -> None:
    """However often the server names a call, it is run once."""
    call = calling()
    if has_output:
        assert call >> post_output("c1", "42") << output("c1", "42")

    assert (
        call
        >> again
        >> server.done("r1", output=[server.call_item("c1")])
        << fx.EndStreams("r1", cut=False)
        << ended("r1")
    )


def test_a_late_call_gets_a_part_of_its_own() -> None:
    """A call that comes after the grace is run in a further part, however often that happens."""
    call = waiting("c1")

    for part, call_id in enumerate(["c2", "c3"], start=1):
        part_id = f"r1+{part}"
        assert (
            call
            >> server.called("r1", call_id)
            << fx.BeginResponse(part_id, is_late=True)
            << call_function(part_id, call_id)
        )
        assert call.is_in(ResponseState.GENERATING)
        assert call.conversation.open_calls
        assert not call.conversation.is_free
        assert call >> after(GRACE_S) << fx.EndStreams(part_id, cut=False)
        assert not call.is_in(ResponseState.GENERATING)
        assert call.conversation.open_calls
        assert call.conversation.is_free
    assert call >> server.done("r1") << ended("r1")


def test_a_late_call_is_run_even_if_another_response_has_begun() -> None:
    """Every call is answered, and the response that plays is not touched."""
    call = waiting("c1")
    assert call >> server.created("r2") << fx.BeginResponse("r2")

    assert (
        call
        >> server.called("r1", "c2")
        << fx.BeginResponse("r1+1", is_late=True)
        << call_function("r1+1", "c2")
        >> server.audio("r2")
        << fx.OutputAudio("r2", "a1", b"\1\0")
        >> after(GRACE_S)
        << fx.EndStreams("r1+1", cut=False)
        >> server.done("r2")
        << fx.EndStreams("r2", cut=False)
        << ended("r2")
    )


def test_a_call_after_the_end_of_its_response_is_run() -> None:
    """A call that `response.done` overtook gets a part of its own; the response ended once."""
    call = answering()
    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")

    assert (
        call
        >> server.called("r1", "c1")
        << fx.BeginResponse("r1+1", is_late=True)
        << call_function("r1+1", "c1")
        >> after(GRACE_S)
        << fx.EndStreams("r1+1", cut=False)
    )


def test_a_call_of_a_cut_response_is_run_but_nothing_more_is_said() -> None:
    """A call under way when the user began to speak is answered; its speech is not played."""
    call = answering()
    assert (
        call
        >> server.arguments("r1", "c1", "{", "look")
        >> server.speech_started("u1")
        << fx.EndStreams("r1", cut=True)
        << fx.UserStarted("u1")
    )

    assert (
        call
        >> server.called("r1", "c1")
        << fx.BeginResponse("r1+1", is_late=True)
        << call_function("r1+1", "c1")
        >> server.audio("r1")
        << fx.LateAudio("r1", b"\1\0")
        >> server.text("r1", "so")
        << fx.LateText("r1", "so")
        >> after(GRACE_S)
        << fx.EndStreams("r1+1", cut=False)
        >> server.done("r1", "cancelled")
        << ended("r1", "cancelled")
    )


def test_sound_after_the_grace_gets_a_part_of_its_own() -> None:
    """A response that called may go on to speak; that is played, with its text."""
    call = waiting("c1")

    assert (
        call
        >> server.audio("r1")
        << fx.BeginResponse("r1+1", is_late=True)
        << fx.OutputAudio("r1+1", "a1", b"\1\0")
        >> server.text("r1", "One moment.")
        << fx.OutputText("r1+1", "a1", "One moment.")
        >> server.done("r1")
        << fx.EndStreams("r1+1", cut=False)
        << ended("r1")
    )


@pytest.mark.parametrize("has_stopped", [False, True])
@pytest.mark.parametrize("has_late_call", [False, True])
def test_sound_of_an_earlier_response_is_not_played_over_a_turn(
    has_stopped: bool, has_late_call: bool
) -> None:
    """Until the user's turn is answered or discarded, nothing from before it is played."""
    call = waiting("c1")
    assert call >> server.speech_started("u1") << fx.UserStarted("u1")
    if has_stopped:
        assert call >> server.speech_stopped("u1") << fx.UserStopped("u1")
    if has_late_call:
        assert (
            call
            >> server.called("r1", "c2")
            << fx.BeginResponse("r1+1", is_late=True)
            << call_function("r1+1", "c2")
        )

    assert call >> server.audio("r1") >> server.text("r1", "and so")
    assert call.conversation.dropped["late audio"] == 1
    assert call.conversation.dropped["late text"] == 1


def test_outputs_go_out_in_any_state() -> None:
    """The server may be waiting, whoever speaks."""
    call = waiting("c1", "c2")

    assert call >> server.speech_started("u1") << fx.UserStarted("u1")
    assert call >> post_output("c1", "one") << output("c1", "one")
    assert (
        call
        >> server.created("r2")
        << fx.UserStopped("u1")
        << fx.BeginResponse("r2")
        >> post_output("c2", "two")
        << output("c2", "two")
    )
    assert call.conversation.open_calls == frozenset()


def test_an_output_may_come_before_the_streams_are_closed() -> None:
    """A fast tool does not leave its round open."""
    call = calling()
    assert call >> post_output("c1", "42") << output("c1", "42")

    assert call >> after(GRACE_S) << fx.EndStreams("r1", cut=False)
    assert not call.conversation.open_calls


def test_the_server_gives_up_waiting_for_outputs() -> None:
    """`tool_response_timeout` ends the round: the calls can't be answered, the call goes on."""
    call = waiting("c1")

    assert (
        call
        >> server.error("tool_response_timeout", "too slow")
        << fx.Fault(ServerError("tool_response_timeout", "too slow"), fatal=False)
    )
    assert not call.conversation.open_calls
    assert call.conversation.open_calls == frozenset()
    with pytest.raises(LocalProtocolError):
        call.conversation.post_output("c1", "42")
    assert call >> server.called("r1", "c1")


def test_the_server_gives_up_a_response_whose_streams_are_open() -> None:
    """`tool_response_timeout` closes the generation that called, and nothing waits for it."""
    call = calling("c1")

    assert (
        call
        >> server.error("tool_response_timeout", "too slow")
        << fx.EndStreams("r1", cut=False)
        << fx.Fault(ServerError("tool_response_timeout", "too slow"), fatal=False)
    )
    assert call.conversation.is_free
    assert call >> after(600.0)


def test_giving_up_old_calls_does_not_cut_the_response_that_speaks() -> None:
    """A slow tool of an earlier response takes nothing from the answer that plays."""
    call = waiting("c1")
    assert call >> server.created("r2") << fx.BeginResponse("r2")

    assert (
        call
        >> server.error("tool_response_timeout", "too slow")
        << fx.Fault(ServerError("tool_response_timeout", "too slow"), fatal=False)
        >> server.audio("r2")
        << fx.OutputAudio("r2", "a1", b"\1\0")
    )


# --------------------------------------------------------------------------------- our intents


def test_cancelling_sends_the_id_and_closes_the_response() -> None:
    """What was cancelled is not played any further, whatever still comes."""
    call = answering()

    assert (
        call
        >> cancel_response()
        << fx.Send(ev.ResponseCancel(event_id="cl", response_id="r1"))
        << fx.EndStreams("r1", cut=True)
        >> server.audio("r1")
        >> cancel_response()
    )
    assert not call.conversation.is_free
    assert call >> server.done("r1", "cancelled") << ended("r1", "cancelled")
    assert call.conversation.is_free


def test_cancelling_does_nothing_when_nothing_is_generating() -> None:
    """An idle connection has nothing to cancel, and a response that waits would lose its calls."""
    assert opened() >> cancel_response()
    assert ready() >> cancel_response()
    call = waiting("c1")
    assert call >> cancel_response()
    assert call.conversation.open_calls == {"c1"}
    assert call >> server.done("r1") << ended("r1") >> cancel_response()


def test_tools_are_replaced_once_they_differ() -> None:
    """An unchanged list sends nothing, since the server would not answer it."""
    call = ready(ev.ClientSession(tools=[LOOK]))

    assert call >> update_tools([LOOK])
    assert (
        call
        >> update_tools([])
        << fx.Send(ev.SessionUpdate(event_id="cl", session=ev.ClientSession(tools=[])))
    )
    assert call >> update_tools([])
    assert (
        call
        >> update_tools([LOOK])
        << fx.Send(ev.SessionUpdate(event_id="cl", session=ev.ClientSession(tools=[LOOK])))
    )


@pytest.mark.parametrize("changes", [[[LOOK]], [[LOOK], []]], ids=["changed", "back again"])
def test_tools_that_change_during_the_handshake_wait_for_its_end(
    changes: list[list[ev.Tool]],
) -> None:
    """Between `session.configure` and `session.configured` the server takes nothing."""
    call = opened()
    assert (
        call
        >> ev.SessionCreated()
        >> configure(PERSONA)
        << fx.Send(ev.SessionConfigure(event_id="cl", session=PERSONA))
    )
    for tools in changes:
        assert call >> update_tools(tools)

    call = call >> ev.SessionConfigured() << fx.SessionReady(ev.ServerSession())
    if changes[-1]:
        call <<= fx.Send(
            ev.SessionUpdate(event_id="cl", session=ev.ClientSession(tools=changes[-1]))
        )
    assert call
    assert call >> update_tools(changes[-1])


def test_changing_the_callers_list_afterwards_changes_nothing() -> None:
    """The list of tools is copied."""
    tools = [LOOK]
    call = ready(ev.ClientSession(tools=[]))
    [effect] = call.conversation.update_tools(tools)
    tools.clear()

    assert effect == fx.Send(
        ev.SessionUpdate(event_id="cl", session=ev.ClientSession(tools=[LOOK]))
    )
    assert call >> update_tools([LOOK])


def test_a_message_is_a_text_item() -> None:
    """Text goes out as a message item of its role."""
    item = ev.Item(
        type="message", role="user", content=[ev.Content(type="input_text", text="hello")]
    )

    assert (
        ready()
        >> add_message("user", "hello")
        << fx.Send(ev.ConversationItemCreate(event_id="cl", item=item))
    )


def test_every_event_that_we_send_has_an_id_of_its_own() -> None:
    """An error can name the event that it is about."""
    ids = (f"cl_{n}" for n in itertools.count())
    conversation = Conversation(lambda: next(ids))
    effects = conversation.receive(ev.SessionCreated(), 0.0)
    effects += conversation.configure(PERSONA, 0.0)
    effects += conversation.receive(ev.SessionConfigured(), 0.0)
    effects += conversation.update_tools([LOOK])
    effects += conversation.add_message("user", "hello")
    effects += conversation.create_response(0.0)
    effects += conversation.receive(server.created("r1"), 0.0)
    effects += conversation.receive(server.called("r1", "c1"), 0.0)
    effects += conversation.post_output("c1", "42")
    effects += conversation.cancel_response()

    sent = [effect.event for effect in effects if isinstance(effect, fx.Send)]
    assert [f"cl_{n}" for n in range(6)] == [event.event_id for event in sent]


@pytest.mark.parametrize(
    ("make", "misuse"),
    [
        (opened, lambda c: c.configure(PERSONA, 0.0)),
        (ready, lambda c: c.configure(PERSONA, 0.0)),
        (opened, lambda c: c.update_tools([LOOK])),
        (opened, lambda c: c.add_message("user", "hello")),
        (opened, lambda c: c.create_response(0.0)),
        (answering, lambda c: c.create_response(0.0)),
        (ready, lambda c: c.post_output("c1", "42")),
        (waiting, lambda c: c.post_output("c2", "42")),
    ],
    ids=[
        "configure before session.created",
        "configure twice",
        "tools before the configuration",
        "a message before the handshake is complete",
        "a response before the handshake is complete",
        "a response while one is generating",
        "an output without a call",
        "an output of another call",
    ],
)
def test_local_misuse_raises_and_changes_nothing(
    make: Callable[[], Transcript], misuse: Callable[[Conversation], object]
) -> None:
    """What the state does not allow is refused as a whole, and says what the state was."""
    conversation = make().conversation
    before = facts(conversation)

    with pytest.raises(LocalProtocolError, match=r"<Conversation [A-Z ]+>"):
        misuse(conversation)
    assert facts(conversation) == before


def test_a_call_has_one_output() -> None:
    """A second output for the same call is refused."""
    call = waiting("c1")
    assert call >> post_output("c1", "42") << output("c1", "42")

    with pytest.raises(LocalProtocolError):
        call.conversation.post_output("c1", "43")


@pytest.mark.parametrize("asked", [server.speech_started(), cancel_response()])
def test_no_response_can_be_asked_for_while_something_is_in_the_way(asked: Step) -> None:
    """Nobody is interrupted by a reply on demand."""
    conversation = answering().conversation
    if isinstance(asked, ev.Event):
        conversation.receive(asked, 0.0)
    else:
        conversation.cancel_response()

    assert not conversation.is_free
    with pytest.raises(LocalProtocolError):
        conversation.create_response(0.0)


# ---------------------------------------------------------------------------------- the end


def test_a_lost_connection_ends_everything() -> None:
    """Streams, responses, turns and calls end with their connection, once."""
    call = calling("c1")

    assert (
        call
        >> lose()
        << fx.EndStreams("r1", cut=False)
        << ended("r1", "lost")
        >> lose()
        >> after(600.0)
    )
    conversation = call.conversation
    assert repr(conversation) == "<Conversation CLOSED QUIET IDLE>"
    assert conversation.open_calls == frozenset()
    assert not conversation.is_free
    with pytest.raises(LocalProtocolError):
        conversation.post_output("c1", "42")


def test_a_lost_connection_ends_a_turn_and_a_cut_response() -> None:
    """What was cut counts as cancelled, and the user's turn is stopped."""
    call = answering()
    assert (
        call >> server.speech_started("u1") << fx.EndStreams("r1", cut=True) << fx.UserStarted("u1")
    )

    assert call >> lose() << ended("r1", "cancelled") << fx.UserStopped("u1") >> after(600.0)


def test_the_times_of_a_lost_response_end_with_its_last_event() -> None:
    """The time that it took to notice the loss is not the response's."""
    call = answering()
    assert call >> after(1.0) >> server.audio("r1") << fx.OutputAudio("r1", "a1", b"\1\0")
    last_event_at = call.now

    assert call >> after(7.0) >> lose() << fx.EndStreams("r1", cut=False) << ended("r1", "lost")
    assert call.only(fx.EndResponse).ended_at == last_event_at


def test_frames_after_the_end_are_dropped() -> None:
    """Nothing comes from a connection that was given up."""
    call = opened()

    assert (
        call
        >> lose()
        >> ev.SessionCreated()
        >> server.error("server_full")
        >> server.created("r1")
        >> after(HANDSHAKE_TIMEOUT_S)
    )
    assert call.is_in(Handshake.CLOSED)
    assert call.conversation.dropped["after the end"] == 3


def test_a_timer_that_nobody_knows_does_nothing() -> None:
    """A timer may outlive what it was for."""
    conversation = ready().conversation

    assert conversation.timer("stall:r9", 0.0) == []
    assert conversation.timer("supper", 0.0) == []


def test_the_representation_shows_all_three_machines_and_the_open_calls() -> None:
    """A log line or a debugger tells the state at a glance."""
    call = waiting()
    assert call >> server.speech_started() << fx.UserStarted(None)

    assert repr(call.conversation) == "<Conversation READY SPEAKING WAITING CALLING>"


@pytest.mark.parametrize(
    "echo",
    [
        ev.Item(role="user", content=[ev.Content(type="input_text", text="typed")]),
        ev.Item(id="item_77", type="message", role="user", status="completed"),
    ],
)
def test_a_typed_item_does_not_end_a_turn(echo: ev.Item) -> None:
    """The server's echo of typed text, with its content or without, tells nothing of who speaks."""
    call = ready()
    assert call >> server.speech_started("u1") << fx.UserStarted("u1") >> server.item_done(echo)
    assert call >> server.speech_stopped("u1") << fx.UserStopped("u1")


def test_a_response_whose_end_never_comes_is_over_soon_after_its_audio_and_item() -> None:
    """The agent does not seem to speak for a quarter of a minute; a late end changes nothing."""
    call = answering()
    assert call >> server.audio("r1") << fx.OutputAudio("r1", "a1", b"\1\0")
    assert call >> ev.ResponseOutputAudioDone(response_id="r1", item_id="a1") >> server.spoken("a1")

    assert call >> after(END_OVERDUE_S - SOON)
    assert call >> after(SOON) << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call.conversation.is_free
    assert call >> server.done("r1")


@pytest.mark.parametrize("goes_on", ["audio", "function call"])
def test_a_response_that_goes_on_after_its_item_is_not_over(goes_on: str) -> None:
    """It may have a second item, or call a function."""
    call = answering()
    assert call >> ev.ResponseOutputAudioDone(response_id="r1", item_id="a1") >> server.spoken("a1")
    assert call >> after(END_OVERDUE_S - SOON)
    if goes_on == "audio":
        assert call >> server.audio("r1", item_id="a2") << fx.OutputAudio("r1", "a2", b"\1\0")
        assert call >> after(END_OVERDUE_S - SOON)
        assert call.is_in(ResponseState.GENERATING)
    else:
        assert call >> server.called("r1", "c1") << call_function("r1", "c1")
        assert call >> after(GRACE_S) << fx.EndStreams("r1", cut=False)
        assert call >> server.done("r1") << ended("r1")
