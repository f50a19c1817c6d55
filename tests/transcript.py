"""A test as a transcript of a conversation or call: what happens, and what has to follow from it.

::

    call = play(Conversation(lambda: "cl"))
    assert (
        call
        >> ev.ResponseCreated(response=ev.Response(id="r1"))
        << fx.BeginResponse("r1")
        >> after(15.0)
        << fx.EndStreams("r1", cut=False)
    )

``>>`` takes an event of the server, a wish of this side (`configure`, `post_output`...) or the
passing of time (`after`); ``<<`` takes the next effect of it. Nothing is played before ``assert``
asks for the outcome; then every effect has to be written down, in order. Otherwise both
transcripts are printed. A transcript that nobody asserts fails when it is thrown away.

Timers are not written down: the transcript has a clock and obeys `StartTimer` and `CancelTimer`,
so that a test says what happens after which time, and not how. Nor is what becomes of the user's
audio after each step, `UserAnswered` and `UserTurnKept`, for which there is
`Transcript.has_answered` and `Transcript.has_kept`. Nor are the times of an
`EndResponse` and whether it has called, for which there is `Transcript.only`, and the ids of what
is sent, for which there is `Transcript.id_of`. Errors are compared by their type, those of the
server by their text too; what only people read, the reason of a `Reconnect` or `ReplyFailed`, is
not compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Generic

import msgspec
from typing_extensions import TypeVar

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import wire
from livekit_plugins_hydra.protocol.call import Call
from livekit_plugins_hydra.protocol.conversation import Conversation
from livekit_plugins_hydra.protocol.errors import ServerError

_Subject = TypeVar("_Subject", bound=Conversation | Call, default=Conversation)
_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Wish(Generic[_Subject]):
    """Something that this side wants of a conversation or call."""

    name: str
    run: Callable[[_Subject, float], list[fx.Effect]]


@dataclass(frozen=True)
class After:
    """The passing of time."""

    seconds: float


Step = ev.ServerEvent | ev.UnknownEvent | Wish[_Subject] | After
_UNWRITTEN = (fx.StartTimer, fx.CancelTimer, fx.UserAnswered, fx.UserTurnKept)

CLOCK_RESOLUTION_S = 1e-9
"""How early a timer may be, as in an event loop: sums of seconds are not exact."""

LINE_CHARS = 300
"""How much of a line is printed."""


def after(seconds: float) -> After:
    """Let time pass; timers run out on the way."""
    return After(seconds)


def open_socket() -> Wish:
    """The socket is open."""
    return Wish("open", lambda conversation, _: conversation.open())


def configure(session: ev.ClientSession) -> Wish:
    """Send the configuration."""
    return Wish("configure", lambda conversation, now: conversation.configure(session, now))


def update_tools(tools: list[ev.Tool]) -> Wish:
    """Replace the tools."""
    return Wish("update_tools", lambda conversation, _: conversation.update_tools(tools))


def post_output(call_id: str, output: str) -> Wish:
    """Send the output of a call."""
    name = f"post_output {call_id}"
    return Wish(name, lambda conversation, _: conversation.post_output(call_id, output))


def add_message(role: str, text: str) -> Wish:
    """Send a text item."""
    return Wish("add_message", lambda conversation, _: conversation.add_message(role, text))


def create_response() -> Wish:
    """Ask for a response."""
    return Wish("create_response", Conversation.create_response)


def cancel_response() -> Wish:
    """Cancel the response."""
    return Wish("cancel_response", lambda conversation, _: conversation.cancel_response())


def lose() -> Wish:
    """The connection ends."""
    return Wish("lose", lambda conversation, _: conversation.lose())


def ended(
    response_id: str, status: str = "completed", *, usage: ev.Usage | None = None
) -> fx.EndResponse:
    """Return an `EndResponse` to compare with; only what is given counts."""
    return fx.EndResponse(response_id, status, usage, 0.0, None, 0.0)


class Stage(Generic[_Subject]):
    """A conversation or call, a clock, and the timers that it has asked for."""

    def __init__(self, subject: _Subject, now: float = 1000.0) -> None:
        self.subject = subject
        self.now = now
        self._timers: dict[str, float] = {}

    @property
    def conversation(self) -> Conversation:
        """The conversation; of a call, the present one."""
        subject: Conversation | Call = self.subject
        return subject.conversation if isinstance(subject, Call) else subject

    def perform(self, step: Step[_Subject]) -> list[fx.Effect]:
        """Let one thing happen, and return what follows from it."""
        match step:
            case After(seconds=seconds):
                return self._pass_time(self.now + seconds)
            case Wish(run=run):
                return self._obey(run(self.subject, self.now))
            case _:
                return self._obey(self.subject.receive(step, self.now))

    def _pass_time(self, until: float) -> list[fx.Effect]:
        effects: list[fx.Effect] = []
        latest = until + CLOCK_RESOLUTION_S
        while due := [(at, name) for name, at in self._timers.items() if at <= latest]:
            self.now, name = min(due)
            del self._timers[name]
            effects += self._obey(self.subject.timer(name, self.now))
        self.now = max(self.now, until)
        return effects

    def _obey(self, effects: list[fx.Effect]) -> list[fx.Effect]:
        for effect in effects:
            match effect:
                case fx.StartTimer(name=name, delay_s=delay_s):
                    self._timers[name] = self.now + delay_s
                case fx.CancelTimer(name=name):
                    self._timers.pop(name, None)
        return effects


class Transcript(Generic[_Subject]):
    """What happened to one conversation or call so far."""

    def __init__(self, subject: _Subject) -> None:
        self.subject = subject
        self.effects: list[fx.Effect] = []
        """What followed in the last part that was asserted."""
        self._stage = Stage(subject)
        self._script: list[Step[_Subject]] = []
        self._expected: list[str] = []
        self._actual: list[str] = []

    @property
    def conversation(self) -> Conversation:
        """The conversation; of a call, the present one."""
        return self._stage.conversation

    @property
    def now(self) -> float:
        """The time on the transcript's clock."""
        return self._stage.now

    def __rshift__(self, step: Step[_Subject]) -> Transcript[_Subject]:
        self._script.append(step)
        self._expected.append(f">> {_show_step(step)}")
        return self

    def __lshift__(self, effect: fx.Effect) -> Transcript[_Subject]:
        self._expected.append(f"<< {_show_effect(effect)}")
        return self

    def __bool__(self) -> bool:
        script, self._script, self.effects = self._script, [], []
        for step in script:
            effects = self._stage.perform(step)
            self.effects += effects
            shown = [effect for effect in effects if not isinstance(effect, _UNWRITTEN)]
            self._actual += [f">> {_show_step(step)}"]
            self._actual += [f"<< {_show_effect(effect)}" for effect in shown]
        if self._expected == self._actual:
            return True
        raise AssertionError(
            _page(["expected:", *self._expected, "", "but it was:", *self._actual])
        )

    def __del__(self) -> None:
        if self._script:
            raise AssertionError(_page(["never asserted:", *self._expected]))

    def is_in(self, *states: Enum) -> bool:
        """Tell whether each of `states` is the present one of its machine."""
        conversation = self.conversation
        present = {
            conversation.handshake,
            conversation.turn,
            conversation.response,
        }
        return present.issuperset(states)

    @property
    def has_answered(self) -> bool:
        """Whether the last part that was asserted has answered what the user said before."""
        return fx.UserAnswered() in self.effects

    @property
    def has_kept(self) -> bool:
        """Whether the user's turn counts since the last part that was asserted."""
        return fx.UserTurnKept() in self.effects

    def only(self, kind: type[_Kind]) -> _Kind:
        """Return the one effect of `kind` in the last part that was asserted."""
        [effect] = [effect for effect in self.effects if isinstance(effect, kind)]
        return effect

    def id_of(self, kind: type[ev.Event]) -> str | None:
        """Return the id of the newest event of `kind` in the last part that was asserted."""
        sent = [effect.event for effect in self.effects if isinstance(effect, fx.Send)]
        return [event.event_id for event in sent if isinstance(event, kind)][-1]


def play(subject: _Subject) -> Transcript[_Subject]:
    """Begin a transcript of a conversation or call."""
    return Transcript(subject)


def _page(lines: list[str]) -> str:
    return "\n".join(line[:LINE_CHARS] for line in lines)


def _show_step(step: Step[Any]) -> str:
    match step:
        case After(seconds=seconds):
            return f"after {seconds:g} s"
        case Wish(name=name):
            return name
        case ev.UnknownEvent():
            return repr(step)
        case _:
            return wire.encode(step).decode()


def _without_circumstances(end: fx.EndResponse) -> fx.EndResponse:
    return replace(end, requested_at=0.0, first_audio_at=None, ended_at=0.0, has_called=False)


def _show_effect(effect: fx.Effect) -> str:
    match effect:
        case fx.Send(event=event):
            anonymous = msgspec.structs.replace(event, event_id=None)
            return f"Send {wire.encode(anonymous).decode()}"
        case fx.EndResponse():
            return repr(_without_circumstances(effect))
        case fx.Reconnect() | fx.ReplyFailed():
            return repr(replace(effect, reason=""))
        case fx.Fault(error=ServerError() as error, fatal=fatal):
            return f"Fault ServerError fatal={fatal}: {error}"
        case fx.Fault(error=error, fatal=fatal):
            return f"Fault {type(error).__name__} fatal={fatal}"
        case _:
            return repr(effect)
