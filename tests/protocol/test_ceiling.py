"""What the server holds is weighed, and a connection that holds too much is left."""

from __future__ import annotations

import itertools

import pytest

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.call import GREETING_WINDOW_S, Call
from livekit_plugins_hydra.protocol.ceiling import (
    CEILING_BYTES,
    MAX_ITEM_BYTES,
    MIN_ITEM_BYTES,
    SPARE_BYTES,
    SUSPECT_BYTES,
    Load,
    shorten,
    size_of,
)
from livekit_plugins_hydra.protocol.history import Line, fit
from livekit_plugins_hydra.protocol.renewal import INSTRUCTIONS_DEBOUNCE_S
from tests import server_says as server
from tests import session_wants as session
from tests.transcript import Transcript, after, ended, play

RECONNECT = fx.Reconnect("")


def connect(call: Transcript[Call], persona: str, *, greet: bool = False, **compose: int) -> None:
    """Let a connection be made, configured with a persona."""
    body = ev.ClientSession(instructions=persona, generate_initial_response=greet)
    assert (
        call
        >> session.open_socket()
        >> ev.SessionCreated()
        << fx.Compose(greet=greet, opening="", **compose)
        >> session.configure_with(body)
        << fx.Send(ev.SessionConfigure(session=body))
        >> ev.SessionConfigured()
        << fx.SessionReady(ev.ServerSession())
    )


def ready(persona: str = "Be kind.") -> Transcript[Call]:
    """Return the transcript of a call that is ready."""
    ids = (f"cl_{n}" for n in itertools.count())
    call = play(Call(new_event_id=lambda: next(ids)))
    assert call >> session.configurable() >> after(GREETING_WINDOW_S)
    connect(call, persona)
    return call


def ask(call: Transcript[Call]) -> None:
    """Let the user ask something, and the server begin to answer."""
    assert (
        call
        >> server.speech_started("u1")
        << fx.UserStarted("u1")
        >> server.speech_stopped("u1")
        << fx.UserStopped("u1")
        >> server.created("r1")
        << fx.BeginResponse("r1")
    )


def test_silence_on_a_connection_that_holds_much_is_answered_by_another() -> None:
    """Never mute: the next connection hears the question again, and is told half as much."""
    call = ready("p" * SUSPECT_BYTES)
    held = call.conversation.load.bytes
    ask(call)

    assert (
        call
        >> server.done("r1")
        << fx.EndStreams("r1", cut=False)
        << ended("r1")
        << fx.FellSilent(held)
        << RECONNECT
    )
    assert not call.has_answered
    connect(call, "p", budget_bytes=held // 2)
    ask(call)
    assert call >> server.audio("r1") << fx.OutputAudio("r1", "a1", b"\1\0")


def test_silence_that_goes_on_is_not_met_by_one_connection_after_another() -> None:
    """The second silence within a minute is the server's answer: the call goes on with it."""
    call = ready("p" * SUSPECT_BYTES)
    held = call.conversation.load.bytes
    ask(call)
    call = call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call << fx.FellSilent(held) << RECONNECT
    connect(call, "p" * SUSPECT_BYTES, budget_bytes=held // 2)
    ask(call)

    call = call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call << fx.FellSilent(held)
    assert call.has_answered


def test_silence_on_a_small_connection_is_the_servers_answer() -> None:
    """A response may be empty; nothing is laid to a size of a few hundred bytes."""
    call = ready()
    ask(call)

    assert call >> server.done("r1") << fx.EndStreams("r1", cut=False) << ended("r1")
    assert call.has_answered
    assert call >> after(600.0)


def test_a_greeting_that_is_silent_is_spoken_by_another_connection() -> None:
    """A reply that nobody heard is still owed."""
    ids = (f"cl_{n}" for n in itertools.count())
    call = play(Call(new_event_id=lambda: next(ids)))
    assert call >> session.configurable() >> session.reply("g1")
    connect(call, "p" * SUSPECT_BYTES, greet=True)
    held = call.conversation.load.bytes
    assert call >> server.created("r1") << fx.BeginResponse("r1", reply_id="g1")
    assert (
        call
        >> server.done("r1")
        << fx.EndStreams("r1", cut=False)
        << ended("r1")
        << fx.FellSilent(held)
        << RECONNECT
    )

    connect(call, "p", greet=True, budget_bytes=held // 2)


def test_a_connection_that_is_sent_too_much_is_left_when_it_is_quiet() -> None:
    """Texts and outputs count as the configuration does."""
    call = ready("p" * (CEILING_BYTES - SPARE_BYTES - 1_000))
    fitting = call.conversation.load.fit("x" * 7_000)
    text = ev.Item(
        type="message", role="user", content=[ev.Content(type="input_text", text=fitting)]
    )
    assert (
        call
        >> session.note("x" * 7_000)
        >> server.speech_started("u1")
        << fx.UserStarted("u1")
        << fx.Send(ev.ConversationItemCreate(item=text))
    )

    assert call.conversation.load.is_over
    assert call >> server.speech_stopped("u1") << fx.UserStopped("u1")
    assert call >> server.discarded("u1") << fx.UserDiscarded("u1")
    assert call >> after(INSTRUCTIONS_DEBOUNCE_S) << RECONNECT


def test_tools_that_come_later_count() -> None:
    """The server holds them, whenever it was told."""
    call = ready("p" * (CEILING_BYTES - SPARE_BYTES - 1_000))
    tools = [ev.Tool(name="look", description="d" * 7_000)]

    update = ev.SessionUpdate(session=ev.ClientSession(tools=tools))
    assert call >> session.update_tools(tools) << fx.Send(update)
    assert call.conversation.load.is_over


def test_a_persona_that_is_too_large_alone_does_not_cost_a_connection() -> None:
    """Another one would hold as much."""
    call = ready("p" * (CEILING_BYTES + 1_000))

    assert call >> after(600.0)


@pytest.mark.parametrize("text", ["x" * 50_000, "ö" * 20_000, "\n" * 30_000, "😀" * 5_000])
def test_a_text_that_is_too_long_is_cut_with_a_mark(text: str) -> None:
    """Its size is that of its escaped form."""
    cut = shorten(text)

    assert MAX_ITEM_BYTES - 100 < size_of(cut) <= MAX_ITEM_BYTES
    assert cut.startswith(text[:100])
    assert cut.endswith("(cut: this is all that fits)")
    assert shorten("short") == "short"


def holding(n_persona: int) -> Load:
    """Return what a server holds that has a persona of so many bytes."""
    load = Load()
    load.configure(ev.SessionConfigure(session=ev.ClientSession(instructions="p" * n_persona)))
    return load


@pytest.mark.parametrize("n_persona", [10_000, 24_500, 29_800])
def test_a_text_is_cut_to_what_the_server_may_still_be_sent(n_persona: int) -> None:
    """However large the persona, what a function returned is heard; it says what is missing."""
    load = holding(n_persona)

    text = load.fit("x" * 50_000)
    assert text.endswith("(cut: this is all that fits)")
    assert MIN_ITEM_BYTES - 100 < size_of(text) <= MAX_ITEM_BYTES
    assert load.bytes + size_of(text) <= CEILING_BYTES + MIN_ITEM_BYTES


def test_a_persona_above_the_ceiling_costs_no_output() -> None:
    """It was warned of, and a server without a ceiling has room for all of both."""
    assert holding(2 * CEILING_BYTES).fit("x" * 5_000) == "x" * 5_000


def test_an_opening_that_does_not_fit_is_cut() -> None:
    """The persona is never shortened; what is to be read out is."""
    text = fit(
        "Be kind.",
        [Line("user", "Hello.")],
        opening="r" * 50_000,
        frame_bytes=size_of,
        budget_bytes=10_000,
    )

    assert text.startswith("Be kind.")
    assert size_of(text) <= 10_000
    assert text.count("r") > 8_000
