"""All state machines of the core, as data.

All transitions are here. What follows from one is in `conversation` (one connection) and `call`
(what outlives it). If a table has no row for an input, the state does not change: the comment
above each table says why. Those in `IMPOSSIBLE` cannot happen; the tests check that. `README.md` is
drawn from these tables.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeVar

from . import events as ev


class Handshake(Enum):
    """How far the connection is."""

    OPENED = "the socket is open; the server has not spoken"
    CREATED = "the server waits for our configuration"
    CONFIGURING = "the configuration is sent"
    READY = "audio flows"
    CLOSED = "the connection has ended"


class Turn(Enum):
    """What the user does, as the server hears it."""

    QUIET = "not speaking"
    SPEAKING = "speaking"
    ENDED = "has spoken; neither answered nor discarded yet"


class ResponseState(Enum):
    """What one response does. Each response has a state of its own."""

    IDLE = "there is none, or its end has come"
    GENERATING = "its streams are open, and it goes on"
    WAITING = "its streams are closed; its end is awaited, or more of it"
    CUT = "it was interrupted; the server has not confirmed its end"
    CUT_LATE = "it was interrupted, and a late function call of it runs in streams of its own"
    IDLE_LATE = "its end has come, and a late function call of it runs in streams of its own"


class Awaited(Enum):
    """Which response that this side has asked for comes next. One per connection."""

    NOTHING = "nothing was asked for"
    TURN = "the server gets the user's speech again after a reconnect, and answers it"
    GREETING = "the configuration has asked for a first response"
    ANSWER = "response.create was sent"
    DEBT = "a response that was given up: it will be cancelled; nothing is asked for before"
    SPENT = "a response that was given up, or the answer to the user: nothing is asked for before"
    LATE = "a response that was given up long ago: it will be cancelled"


class Setup(Enum):
    """What the first configuration waits for. One per call."""

    INCOMPLETE = "instructions, history or tools are not known yet"
    WINDOW = "all is known; a greeting may still join the configuration"
    DUE = "it is sent as soon as the server takes it"


class Fate(Enum):
    """Who asks for the reply to a running function's result. One per function call."""

    FRAMEWORK = "LiveKit does, when the function has returned"
    LEFT = "perhaps nobody: the application has interrupted, and may want no reply"
    OURS = "this call does: LiveKit posts the result and asks for nothing"


class About(Enum):
    """What a reply is about, in the words that a new connection gets."""

    START = ""
    TEXT = "Answer the user's last message, which was typed and not spoken."
    OUTPUTS = "Tell the user what the last tool call above returned."
    NEXT = "Go on with the conversation: say what comes next."


class Asked(Enum):
    """How the server was asked for a reply."""

    NOT_YET = "not yet"
    GREETING = "by the configuration"
    OUTPUTS = "by a bare response.create, right after outputs"
    BOTH = "by response.create after outputs and texts"
    WORDS = "by response.create without outputs"


class Signal(Enum):
    """What changes a state besides the server's events."""

    CONFIGURE = "we sent the configuration"
    DISCARDED = "the server discarded the turn"
    OVERDUE = "nothing came in time"
    CANCELLED = "we cancelled the response"
    STREAMS_CLOSED = "the response's streams were closed"
    REOPENED = "more of the response came"
    LOST = "the connection ended"

    GREETS = "the configuration asks for a greeting"
    ASKED = "response.create was sent"
    REFUSED = "the server refused"
    DROPPED = "the reply is given up"
    WELCOME = "the reply may come all the same"
    SPEAKS = "the user speaks"
    STOPPED = "the user has stopped"
    BEGINS = "a response begins"

    CONFIGURABLE = "instructions, history and tools are known"

    INTERRUPTED = "the application interrupts"
    WANTED = "a reply is asked for"


Input = type[ev.Event] | Signal

# A server's event out of order is dropped; a second configuration is refused.
HANDSHAKE: Final[dict[tuple[Handshake, Input], Handshake]] = {
    (Handshake.OPENED, ev.SessionCreated): Handshake.CREATED,
    (Handshake.CREATED, Signal.CONFIGURE): Handshake.CONFIGURING,
    (Handshake.CONFIGURING, ev.SessionConfigured): Handshake.READY,
    (Handshake.OPENED, Signal.LOST): Handshake.CLOSED,
    (Handshake.CREATED, Signal.LOST): Handshake.CLOSED,
    (Handshake.CONFIGURING, Signal.LOST): Handshake.CLOSED,
    (Handshake.READY, Signal.LOST): Handshake.CLOSED,
}

# The end of a turn may come late or twice: then there is no turn to end.
TURN: Final[dict[tuple[Turn, Input], Turn]] = {
    (Turn.QUIET, ev.InputAudioBufferSpeechStarted): Turn.SPEAKING,
    (Turn.SPEAKING, ev.InputAudioBufferSpeechStarted): Turn.SPEAKING,
    (Turn.SPEAKING, ev.InputAudioBufferSpeechStopped): Turn.ENDED,
    (Turn.SPEAKING, ev.ResponseCreated): Turn.QUIET,
    (Turn.SPEAKING, Signal.DISCARDED): Turn.QUIET,
    (Turn.SPEAKING, Signal.LOST): Turn.QUIET,
    (Turn.ENDED, ev.InputAudioBufferSpeechStarted): Turn.SPEAKING,
    (Turn.ENDED, ev.ResponseCreated): Turn.QUIET,
    (Turn.ENDED, Signal.DISCARDED): Turn.QUIET,
    (Turn.ENDED, Signal.OVERDUE): Turn.QUIET,
    (Turn.ENDED, Signal.LOST): Turn.QUIET,
}

# Closed streams can't be closed again, and a second end is ignored.
RESPONSE: Final[dict[tuple[ResponseState, Input], ResponseState]] = {
    (ResponseState.IDLE, ev.ResponseCreated): ResponseState.GENERATING,
    (ResponseState.IDLE, Signal.REOPENED): ResponseState.IDLE_LATE,
    (ResponseState.GENERATING, Signal.STREAMS_CLOSED): ResponseState.WAITING,
    (ResponseState.GENERATING, Signal.OVERDUE): ResponseState.WAITING,
    (ResponseState.GENERATING, ev.InputAudioBufferSpeechStarted): ResponseState.CUT,
    (ResponseState.GENERATING, Signal.CANCELLED): ResponseState.CUT,
    (ResponseState.GENERATING, ev.ResponseDone): ResponseState.IDLE,
    (ResponseState.GENERATING, Signal.LOST): ResponseState.IDLE,
    (ResponseState.WAITING, Signal.REOPENED): ResponseState.GENERATING,
    (ResponseState.WAITING, ev.ResponseDone): ResponseState.IDLE,
    (ResponseState.WAITING, Signal.LOST): ResponseState.IDLE,
    (ResponseState.CUT, Signal.REOPENED): ResponseState.CUT_LATE,
    (ResponseState.CUT, Signal.OVERDUE): ResponseState.IDLE,
    (ResponseState.CUT, ev.ResponseDone): ResponseState.IDLE,
    (ResponseState.CUT, Signal.LOST): ResponseState.IDLE,
    (ResponseState.CUT_LATE, Signal.STREAMS_CLOSED): ResponseState.CUT,
    (ResponseState.CUT_LATE, ev.ResponseDone): ResponseState.IDLE,
    (ResponseState.CUT_LATE, Signal.LOST): ResponseState.IDLE,
    (ResponseState.IDLE_LATE, Signal.STREAMS_CLOSED): ResponseState.IDLE,
    (ResponseState.IDLE_LATE, ev.ResponseDone): ResponseState.IDLE,
    (ResponseState.IDLE_LATE, Signal.LOST): ResponseState.IDLE,
}

# SPEAKS matters in TURN only; STOPPED and WELCOME only where a response would be cancelled.
AWAITED: Final[dict[tuple[Awaited, Input], Awaited]] = {
    (Awaited.NOTHING, Signal.GREETS): Awaited.GREETING,
    (Awaited.NOTHING, Signal.ASKED): Awaited.ANSWER,
    (Awaited.NOTHING, Signal.DROPPED): Awaited.DEBT,
    (Awaited.TURN, Signal.SPEAKS): Awaited.NOTHING,
    (Awaited.TURN, Signal.OVERDUE): Awaited.NOTHING,
    (Awaited.TURN, Signal.BEGINS): Awaited.NOTHING,
    (Awaited.GREETING, Signal.OVERDUE): Awaited.NOTHING,
    (Awaited.GREETING, Signal.DROPPED): Awaited.DEBT,
    (Awaited.GREETING, Signal.BEGINS): Awaited.NOTHING,
    (Awaited.ANSWER, Signal.REFUSED): Awaited.NOTHING,
    (Awaited.ANSWER, Signal.DROPPED): Awaited.DEBT,
    (Awaited.ANSWER, Signal.BEGINS): Awaited.NOTHING,
    (Awaited.DEBT, Signal.STOPPED): Awaited.SPENT,
    (Awaited.DEBT, Signal.WELCOME): Awaited.SPENT,
    (Awaited.DEBT, Signal.OVERDUE): Awaited.LATE,
    (Awaited.DEBT, Signal.BEGINS): Awaited.NOTHING,
    (Awaited.SPENT, Signal.OVERDUE): Awaited.NOTHING,
    (Awaited.SPENT, Signal.BEGINS): Awaited.NOTHING,
    (Awaited.LATE, Signal.ASKED): Awaited.ANSWER,
    (Awaited.LATE, Signal.STOPPED): Awaited.NOTHING,
    (Awaited.LATE, Signal.WELCOME): Awaited.NOTHING,
    (Awaited.LATE, Signal.BEGINS): Awaited.NOTHING,
}

# Later connections are configured in DUE. Until then, each CONFIGURABLE begins the window anew.
SETUP: Final[dict[tuple[Setup, Input], Setup]] = {
    (Setup.INCOMPLETE, Signal.CONFIGURABLE): Setup.WINDOW,
    (Setup.WINDOW, Signal.CONFIGURABLE): Setup.WINDOW,
    (Setup.WINDOW, Signal.OVERDUE): Setup.DUE,
    (Setup.WINDOW, Signal.CONFIGURE): Setup.DUE,
}

# OURS never changes. WANTED changes nothing in FRAMEWORK: LiveKit asks for that reply.
FATE: Final[dict[tuple[Fate, Input], Fate]] = {
    (Fate.FRAMEWORK, Signal.SPEAKS): Fate.OURS,
    (Fate.FRAMEWORK, Signal.INTERRUPTED): Fate.LEFT,
    (Fate.LEFT, Signal.SPEAKS): Fate.OURS,
    (Fate.LEFT, Signal.WANTED): Fate.OURS,
}

_CUTS: Final = (ev.InputAudioBufferSpeechStarted, Signal.CANCELLED)
_OPEN: Final = (ResponseState.GENERATING, ResponseState.CUT_LATE, ResponseState.IDLE_LATE)

# In order: a turn is awaited an answer of only when it has ended. Only what goes on is cut, a
# response begins once, and only what is closed is opened. Nothing is asked while something holds
# it back, so that what is refused or dropped was asked; nothing is overdue without a timer, nor
# configured before it is configurable.
IMPOSSIBLE: Final[frozenset[tuple[Enum, Input]]] = frozenset(
    {
        (Turn.QUIET, Signal.OVERDUE),
        (Turn.SPEAKING, Signal.OVERDUE),
        *((state, why) for state in ResponseState for why in _CUTS if (state, why) not in RESPONSE),
        *(
            (state, ev.ResponseCreated)
            for state in ResponseState
            if state is not ResponseState.IDLE
        ),
        *((state, Signal.REOPENED) for state in _OPEN),
        (ResponseState.WAITING, Signal.OVERDUE),
        (ResponseState.CUT_LATE, Signal.OVERDUE),
        (ResponseState.IDLE_LATE, Signal.OVERDUE),
        *((state, Signal.GREETS) for state in set(Awaited) - {Awaited.NOTHING}),
        *((state, Signal.REFUSED) for state in set(Awaited) - {Awaited.ANSWER}),
        (Awaited.TURN, Signal.ASKED),
        (Awaited.TURN, Signal.DROPPED),
        (Awaited.TURN, Signal.STOPPED),
        (Awaited.GREETING, Signal.ASKED),
        (Awaited.ANSWER, Signal.ASKED),
        (Awaited.ANSWER, Signal.WELCOME),
        (Awaited.DEBT, Signal.ASKED),
        (Awaited.DEBT, Signal.DROPPED),
        (Awaited.SPENT, Signal.ASKED),
        (Awaited.SPENT, Signal.DROPPED),
        (Awaited.LATE, Signal.DROPPED),
        (Awaited.NOTHING, Signal.OVERDUE),
        (Awaited.ANSWER, Signal.OVERDUE),
        (Awaited.LATE, Signal.OVERDUE),
        (Setup.INCOMPLETE, Signal.OVERDUE),
        (Setup.INCOMPLETE, Signal.CONFIGURE),
        (Setup.DUE, Signal.OVERDUE),
    }
)

_State = TypeVar("_State", bound=Enum)


def next_state(
    table: dict[tuple[_State, Input], _State], state: _State, why: Input
) -> _State | None:
    """Return the next state; None if `why` changes nothing in `state`."""
    return table.get((state, why))
