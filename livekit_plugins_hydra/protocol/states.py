"""The four state machines of a conversation, as data.

All transitions live here, and nothing else does: what follows from a transition is written in
`conversation`. A pair that a table does not have means nothing in that state; the machine stays.
The README's picture is drawn from these tables.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeVar

from . import events as ev


class Handshake(Enum):
    """How far the connection is."""

    DIALLED = "the socket is open; the server has not spoken"
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
    """What the newest response does."""

    IDLE = "there is none"
    GENERATING = "in progress"
    WAITING = "its streams are closed; outputs of functions are awaited, or its end"
    CUT = "interrupted; the server has not confirmed its end"


class Round(Enum):
    """Function calls that the server waits for."""

    NONE = "no call is open"
    COLLECTING = "calls arrive"
    SETTLING = "all calls are here; outputs are awaited"


class Signal(Enum):
    """What moves a machine besides the server's events."""

    CONFIGURE = "we sent the configuration"
    DISCARDED = "the server discarded the turn"
    OVERDUE = "nothing came in time"
    CANCELLED = "we cancelled the response"
    CALLED = "a call is complete"
    STREAMS_CLOSED = "the response's streams were closed"
    REOPENED = "more of the response came"
    ANSWERED = "the last open output was sent"
    GIVEN_UP = "the server no longer waits"
    LOST = "the connection ended"


Input = type[ev.Event] | Signal

HANDSHAKE: Final[dict[tuple[Handshake, Input], Handshake]] = {
    (Handshake.DIALLED, ev.SessionCreated): Handshake.CREATED,
    (Handshake.CREATED, Signal.CONFIGURE): Handshake.CONFIGURING,
    (Handshake.CONFIGURING, ev.SessionConfigured): Handshake.READY,
    (Handshake.DIALLED, Signal.LOST): Handshake.CLOSED,
    (Handshake.CREATED, Signal.LOST): Handshake.CLOSED,
    (Handshake.CONFIGURING, Signal.LOST): Handshake.CLOSED,
    (Handshake.READY, Signal.LOST): Handshake.CLOSED,
}

TURN: Final[dict[tuple[Turn, Input], Turn]] = {
    (Turn.QUIET, ev.InputAudioBufferSpeechStarted): Turn.SPEAKING,
    (Turn.SPEAKING, ev.InputAudioBufferSpeechStarted): Turn.SPEAKING,
    (Turn.SPEAKING, ev.InputAudioBufferSpeechStopped): Turn.ENDED,
    (Turn.SPEAKING, ev.ConversationItemDone): Turn.ENDED,
    (Turn.SPEAKING, ev.ResponseCreated): Turn.QUIET,
    (Turn.SPEAKING, Signal.DISCARDED): Turn.QUIET,
    (Turn.SPEAKING, Signal.LOST): Turn.QUIET,
    (Turn.ENDED, ev.InputAudioBufferSpeechStarted): Turn.SPEAKING,
    (Turn.ENDED, ev.ResponseCreated): Turn.QUIET,
    (Turn.ENDED, Signal.DISCARDED): Turn.QUIET,
    (Turn.ENDED, Signal.OVERDUE): Turn.QUIET,
    (Turn.ENDED, Signal.LOST): Turn.QUIET,
}

RESPONSE: Final[dict[tuple[ResponseState, Input], ResponseState]] = {
    (ResponseState.IDLE, ev.ResponseCreated): ResponseState.GENERATING,
    (ResponseState.GENERATING, ev.ResponseCreated): ResponseState.GENERATING,
    (ResponseState.GENERATING, ev.ResponseDone): ResponseState.IDLE,
    (ResponseState.GENERATING, ev.InputAudioBufferSpeechStarted): ResponseState.CUT,
    (ResponseState.GENERATING, Signal.CANCELLED): ResponseState.CUT,
    (ResponseState.GENERATING, Signal.STREAMS_CLOSED): ResponseState.WAITING,
    (ResponseState.GENERATING, Signal.OVERDUE): ResponseState.WAITING,
    (ResponseState.GENERATING, Signal.LOST): ResponseState.IDLE,
    (ResponseState.WAITING, ev.ResponseCreated): ResponseState.GENERATING,
    (ResponseState.WAITING, ev.ResponseDone): ResponseState.IDLE,
    (ResponseState.WAITING, Signal.REOPENED): ResponseState.GENERATING,
    (ResponseState.WAITING, Signal.LOST): ResponseState.IDLE,
    (ResponseState.CUT, ev.ResponseCreated): ResponseState.GENERATING,
    (ResponseState.CUT, ev.ResponseDone): ResponseState.IDLE,
    (ResponseState.CUT, Signal.OVERDUE): ResponseState.IDLE,
    (ResponseState.CUT, Signal.LOST): ResponseState.IDLE,
}

ROUND: Final[dict[tuple[Round, Input], Round]] = {
    (Round.NONE, Signal.CALLED): Round.COLLECTING,
    (Round.COLLECTING, Signal.STREAMS_CLOSED): Round.SETTLING,
    (Round.SETTLING, Signal.CALLED): Round.COLLECTING,
    (Round.SETTLING, Signal.ANSWERED): Round.NONE,
    (Round.COLLECTING, Signal.GIVEN_UP): Round.NONE,
    (Round.SETTLING, Signal.GIVEN_UP): Round.NONE,
    (Round.COLLECTING, Signal.LOST): Round.NONE,
    (Round.SETTLING, Signal.LOST): Round.NONE,
}

_State = TypeVar("_State", bound=Enum)


def next_state(
    table: dict[tuple[_State, Input], _State], state: _State, why: Input
) -> _State | None:
    """Return where `why` leads from `state`; None where it means nothing there."""
    return table.get((state, why))
