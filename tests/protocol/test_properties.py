from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import states, wire
from livekit_plugins_hydra.protocol.conversation import Conversation
from livekit_plugins_hydra.protocol.errors import LocalProtocolError, RemoteProtocolError
from livekit_plugins_hydra.protocol.response import STALL_S
from livekit_plugins_hydra.protocol.states import Handshake, ResponseState, Turn
from tests import server_says as server
from tests.anything import CLIENT_EVENTS, JSON, SERVER_EVENTS, any_of
from tests.transcript import (
    Stage,
    Step,
    add_message,
    after,
    cancel_response,
    configure,
    create_response,
    lose,
    open_socket,
    post_output,
    update_tools,
)

EXAMPLES = settings.default.max_examples if settings.default else 100

# ------------------------------------------------------------------------- what may happen

GREETING = ev.ClientSession(generate_initial_response=True)
HANDSHAKE: list[Step] = [
    open_socket(),
    ev.SessionCreated(),
    configure(GREETING),
    ev.SessionConfigured(),
]
OUTPUT = [server.call_item("c1"), server.call_item("c4")]
TURNS: list[Step] = [
    event(item_id)
    for item_id in ("u1", "u2", None)
    for event in (
        server.speech_started,
        server.speech_stopped,
        server.discarded,
        server.heard,
    )
]
RESPONSES: list[Step] = [
    event
    for response_id in ("r1", "r2", "r3")
    for event in (
        server.created(response_id),
        server.audio(response_id),
        server.text(response_id, "hi"),
        server.arguments(response_id, "c2", "{", "look"),
        server.called(response_id, "c1"),
        server.called(response_id, f"c of {response_id}"),
        server.done(response_id),
        server.done(response_id, "cancelled", output=OUTPUT),
        server.done(response_id, "failed"),
    )
]
NAMELESS: list[Step] = [
    server.audio(None),
    server.text(None, "hi"),
    server.called(None, "c2"),
    server.arguments(None, "c3", "{"),
    server.spoken("a1", "hi"),
    server.item_done(server.call_item("c4")),
    server.item_done(ev.Item(id="u1", status="incomplete")),
]
REST: list[Step] = [
    *HANDSHAKE[1:],
    server.error("internal_error"),
    server.error("tool_response_timeout"),
    ev.UnknownEvent("session.sang"),
    create_response(),
    cancel_response(),
    add_message("user", "hello"),
    update_tools([ev.Tool(name="look")]),
    *[post_output(call_id, "42") for call_id in ("c1", "c2", "c4", "c of r1")],
]
TIME: list[Step] = [after(seconds) for seconds in (0.05, 0.2, 1.0, 5.0, 15.0)]
LIKELY: list[Step] = [*TIME, *TURNS, *RESPONSES, *NAMELESS, *REST]

N_KINDS = 8
"""How many different things happen in one walk: few that recur meet more often than many."""


def _walk(choices: bytes) -> list[Step]:
    few = [LIKELY[choice % len(LIKELY)] for choice in choices[:N_KINDS]]
    steps = [few[choice % N_KINDS] for choice in choices[N_KINDS:]]
    return [*HANDSHAKE, server.created("r1"), *steps]


CALLS = st.binary(min_size=N_KINDS + 12, max_size=N_KINDS + 40).map(_walk)
ANYTHING = st.one_of(
    st.sampled_from(LIKELY),
    any_of(*SERVER_EVENTS),
    st.builds(ev.UnknownEvent, st.text(max_size=5)),
)


def new_stage() -> Stage:
    """Return a conversation on a stage."""
    return Stage(Conversation(lambda: "cl"))


def attempt(stage: Stage, step: Step) -> list[fx.Effect]:
    """Let `step` happen; a wish that the state does not allow is refused, and nothing else is."""
    with suppress(LocalProtocolError):
        return stage.perform(step)
    assert not isinstance(step, ev.Event | ev.UnknownEvent)
    return []


class Witness:
    """Sees all effects of a conversation, and objects to what must not be."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.begun: set[str] = set()
        self.open: set[str] = set()
        self.accounted: set[str] = set()
        self.called: set[str] = set()
        self.user_item: list[str | None] = []
        """The item of the turn that was started and not stopped."""
        self.n_ready = 0

    def watch(self, step: Step) -> None:
        """Let `step` happen, and look at what follows."""
        for effect in attempt(self.stage, step):
            self.see(effect)

    def see(self, effect: fx.Effect) -> None:
        """Look at one effect."""
        conversation = self.stage.conversation
        match effect:
            case fx.BeginResponse(part_id=part_id, is_late=is_late):
                assert part_id not in self.begun
                assert is_late is (part_id.rpartition("+")[0] in self.begun)
                self.begun.add(part_id)
                self.open.add(part_id)
            case fx.OutputAudio(part_id=part_id, pcm=pcm):
                assert part_id in self.open
                assert conversation.turn is Turn.QUIET
                assert pcm
            case (
                fx.OutputText(part_id=part_id, text=text)
                | fx.OutputTranscript(part_id=part_id, text=text)
            ):
                assert part_id in self.open
                assert conversation.turn is Turn.QUIET
                assert text
            case fx.CallFunction(part_id=part_id, call_id=call_id):
                assert part_id in self.open
                assert call_id not in self.called
                self.called.add(call_id)
            case fx.LateAudio(response_id=response_id):
                assert response_id in self.begun
            case fx.EndStreams(part_id=part_id):
                self.open.remove(part_id)
            case fx.EndResponse(response_id=response_id):
                assert response_id in self.begun - self.open - self.accounted
                assert effect.requested_at <= (effect.first_audio_at or effect.ended_at)
                assert (effect.first_audio_at or 0.0) <= effect.ended_at <= self.stage.now
                self.accounted.add(response_id)
            case fx.UserStarted(item_id=item_id):
                assert not self.user_item
                self.user_item = [item_id]
            case fx.UserStopped(item_id=item_id):
                assert self.user_item == [item_id]
                self.user_item = []
            case fx.UserDiscarded(item_id=item_id):
                assert self.user_item != [item_id]
            case fx.Send(event=event):
                assert wire.decode_client(wire.encode(event)) == event
            case fx.StartTimer(delay_s=delay_s):
                assert 0.0 < delay_s <= STALL_S
            case fx.SessionReady():
                self.n_ready += 1
                assert self.n_ready == 1


# --------------------------------------------------------------------------- conversations


def watch_to_the_end(steps: list[Step]) -> None:
    """Object to any effect that is out of place, and to anything that the end leaves open."""
    witness = Witness(new_stage())
    for step in [*steps, lose()]:
        witness.watch(step)

    assert not witness.open
    assert not witness.user_item
    assert witness.accounted == {name for name in witness.begun if not _is_part(name, witness)}
    assert witness.stage.conversation.open_calls == frozenset()


def _is_part(part_id: str, witness: Witness) -> bool:
    return part_id.rpartition("+")[0] in witness.begun


@settings(max_examples=10 * EXAMPLES)
@given(CALLS)
def test_any_conversation_keeps_its_promises(steps: list[Step]) -> None:
    """Whatever happens in whatever order: no effect is out of place, and the end ends everything.

    Each response begins once and ends its streams once, with sound, text and calls only between;
    each turn of the user that was started is stopped once before the next; nothing is played
    while a turn is unsettled; each call is handed over once; each response is accounted for at
    most once, and exactly once when its connection has ended.
    """
    watch_to_the_end(steps)


@given(st.lists(ANYTHING, max_size=30))
def test_a_conversation_of_nonsense_keeps_its_promises(steps: list[Step]) -> None:
    """The same holds for any values in any fields, and in a handshake of any order."""
    watch_to_the_end(steps)


@settings(max_examples=10 * EXAMPLES)
@given(CALLS)
def test_any_conversation_comes_to_rest(steps: list[Step]) -> None:
    """When the server falls silent, nothing is left half done, and the call can go on.

    All streams are closed, no response is in flight, an unanswered turn is over, and a reply may
    be asked for, unless the user still speaks.
    """
    witness = Witness(new_stage())
    for step in steps:
        witness.watch(step)
    witness.watch(after(60.0))
    conversation = witness.stage.conversation

    assert not witness.open
    assert conversation.turn is not Turn.ENDED
    assert bool(witness.user_item) is (conversation.turn is Turn.SPEAKING)
    if conversation.turn is Turn.QUIET:
        assert conversation.response in (ResponseState.IDLE, ResponseState.WAITING)
        assert conversation.is_free


@given(CALLS, st.sampled_from([*REST, configure(GREETING), post_output("c9", "42")]))
def test_a_refused_wish_changes_nothing(steps: list[Step], wish: Step) -> None:
    """What raises leaves no trace: not in the states, the facts, or what follows later."""
    stage = new_stage()
    for step in steps:
        attempt(stage, step)
    twin = copy.deepcopy(stage)

    with suppress(LocalProtocolError):
        stage.perform(wish)
        return
    assert repr(stage.conversation) == repr(twin.conversation)
    assert stage.conversation.open_calls == twin.conversation.open_calls
    assert stage.conversation.dropped == twin.conversation.dropped
    for step in (after(20.0), server.created("r9"), server.audio("r9"), lose()):
        assert repr(stage.perform(step)) == repr(twin.perform(step))


def reachable() -> Iterator[tuple[Stage, Step, Stage]]:
    """Yield every step from every state that can be reached, with the stage before and after."""
    alphabet = [*HANDSHAKE, *LIKELY, lose()]
    seen: set[str] = set()
    frontier = [new_stage()]
    while frontier:
        before = frontier.pop(0)
        for step in alphabet:
            stage = copy.deepcopy(before)
            attempt(stage, step)
            yield before, step, stage
            if repr(stage.conversation) not in seen:
                seen.add(repr(stage.conversation))
                frontier.append(stage)


def test_every_state_takes_every_event_and_every_row_of_the_tables_happens() -> None:
    """From each state that can be reached, each event leads to a state; no transition is dead."""
    moves: set[tuple[Enum, Enum]] = set()
    for before, _, stage in reachable():
        moves |= set(zip(_machines(before), _machines(stage), strict=True))

    for table in (states.HANDSHAKE, states.TURN, states.RESPONSE):
        rows = {(state, result) for (state, _), result in table.items()}
        assert rows <= moves
    assert {state for move in moves for state in move} == {
        state for machine in (Handshake, Turn, ResponseState) for state in machine
    }


def _machines(stage: Stage) -> tuple[Enum, ...]:
    conversation = stage.conversation
    return (
        conversation.handshake,
        conversation.turn,
        conversation.response,
    )


# ---------------------------------------------------------------------------------- frames


@given(any_of(*SERVER_EVENTS))
def test_every_server_event_survives_the_wire(event: Any) -> None:
    """What is encoded is what is decoded, for all values of all fields."""
    assert wire.decode(wire.encode(event)) == event
    assert wire.decode(wire.encode(event).decode()) == event


@given(any_of(*CLIENT_EVENTS))
def test_every_client_event_survives_the_wire(event: Any) -> None:
    """What we send is what a server reads, with no key that we did not mean to send."""
    frame = wire.encode(event)

    assert wire.decode_client(frame) == event
    assert b"null" not in frame or "null" in repr(event) or "None" in repr(event)
    assert wire.escaped_size(event) >= len(frame)


@given(any_of(*SERVER_EVENTS), st.integers(0, 400), st.integers(0, 20), st.binary(max_size=10))
def test_a_damaged_frame_is_an_event_or_one_error(
    event: ev.Event, at: int, n_lost: int, put: bytes
) -> None:
    """Bytes lost, changed or added anywhere raise nothing but the documented error."""
    frame = wire.encode(event)
    damaged = frame[:at] + put + frame[at + n_lost :]

    with suppress(RemoteProtocolError):
        assert isinstance(wire.decode(damaged), ev.Event | ev.UnknownEvent)
    with suppress(RemoteProtocolError):
        wire.decode(damaged.decode(errors="surrogateescape"))


SECRET = "the launch code is 0000"
STRANGERS = JSON | st.sampled_from([SECRET, [SECRET], {SECRET: SECRET}, {"type": SECRET}])


@given(
    any_of(*SERVER_EVENTS, *CLIENT_EVENTS),
    st.data(),
    STRANGERS,
    st.sampled_from([wire.decode, wire.decode_client]),
)
def test_a_frame_with_a_strange_value_is_never_quoted(
    event: ev.Event, data: st.DataObject, stranger: Any, decode: Any
) -> None:
    """Whatever stands in a place where it does not belong, the error does not repeat it."""
    tree = json.loads(wire.encode(event))
    container, key = data.draw(st.sampled_from(list(_places(tree))))
    container[key] = stranger

    try:
        decoded = decode(json.dumps(tree))
    except RemoteProtocolError as error:
        assert SECRET not in str(error)  # noqa: PT017
    else:
        assert isinstance(decoded, ev.Event | ev.UnknownEvent)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a JSON document, as a container and a key or an index."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


@given(st.text() | JSON.map(json.dumps) | st.binary().map(lambda raw: raw.decode("latin-1")))
@example("")
@example('{"type":null}')
def test_any_text_is_an_event_or_one_error(frame: str) -> None:
    """A server may send what it likes."""
    with suppress(RemoteProtocolError):
        assert isinstance(wire.decode(frame), ev.Event | ev.UnknownEvent)


@given(any_of(*SERVER_EVENTS, *CLIENT_EVENTS) | st.builds(ev.UnknownEvent, st.text()))
def test_any_event_is_described_on_one_short_line(event: Any) -> None:
    """Whatever a server puts into types and ids, a log line stays a line."""
    line = wire.describe(event)

    assert len(line.splitlines()) <= 1
    assert len(line) <= wire.DESCRIPTION_CHARS


@pytest.mark.parametrize("kind", [*SERVER_EVENTS, *CLIENT_EVENTS])
def test_every_event_is_either_of_the_server_or_of_the_client(kind: type[ev.Event]) -> None:
    """The two unions share nothing, and the codec knows every member."""
    tag = kind.__struct_config__.tag

    assert (tag in wire.SERVER_EVENT_TYPES) is (kind in SERVER_EVENTS)
    assert (tag in wire.CLIENT_EVENT_TYPES) is (kind in CLIENT_EVENTS)
