"""What every call must keep, whatever the network and the server do to it.

`hold` in `tests/storm.py` holds a call and writes down the evidence; `broken` judges it, by the
same list for every call. `tests/session/test_promises.py` shows that each promise can be broken.

Sound tells by itself what it is: see `marked` and `read_marks`. So it is known to the sample which
response was heard, when, and how far.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from livekit.agents import llm

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import ConnectionRecord, Emulator, Playout, Samples

_MARK: Final = 20_000
"""Samples of marked sound that are greater are the number of a response, plus this."""

_STEP_S: Final = 0.01

STALE_AFTER_S: Final = 0.3
"""How long what was cut may still be heard: the framework has to stop the loudspeaker."""

WHOLE: Final = 0.9
"""How much of a thing is all of it, with the fringes of measuring left out."""

FRINGE_S: Final = 0.06
"""How much of a tone may be missed, or found, at its fringes."""

TONE_LEVEL: Final = 2_000


def marked(number: int, duration_s: float, rate_hz: int) -> bytes:
    """Return sound that says which response it is of, and every 10 ms how far it is."""
    samples = np.empty(int(duration_s * rate_hz) // 2 * 2, dtype=np.int16)
    samples[0::2] = _MARK + number
    samples[1::2] = np.arange(samples.size // 2) * 2 // int(rate_hz * _STEP_S)
    return samples.tobytes()


@dataclass(frozen=True, slots=True)
class Heard:
    """A stretch of one response as it came out of the loudspeaker."""

    response: int
    begins_at: float
    ends_at: float


def read_marks(playouts: Iterable[Playout]) -> Iterator[Heard]:
    """Yield what was heard of marked sound, in order."""
    for playout in playouts:
        for begins_at, samples in playout.pieces:
            marks = samples[samples > _MARK]
            if not marks.size:
                continue
            edges = [0, *(np.flatnonzero(np.diff(marks)) + 1).tolist(), marks.size]
            piece_s = samples.size / playout.rate_hz
            for begin, end in itertools.pairwise(edges):
                yield Heard(
                    int(marks[begin]) - _MARK,
                    begins_at + piece_s * begin / marks.size,
                    begins_at + piece_s * end / marks.size,
                )


def tone_s(pcm: bytes | bytearray | Samples, hz: float) -> float:
    """Return for how long a tone stands in sound, int16 mono 16 kHz."""
    samples = np.frombuffer(pcm, dtype=np.int16) if not isinstance(pcm, np.ndarray) else pcm
    window = 320
    frames = samples[: samples.size // window * window].astype(np.float64).reshape(-1, window)
    probe = np.exp(-2j * np.pi * hz * np.arange(window) / 16_000)
    strength = np.abs(frames @ probe) * 2 / window
    return float((strength > TONE_LEVEL).sum()) * window / 16_000


@dataclass
class Question:
    """Something that the user asked: a tone of its own."""

    number: int
    hz: float
    duration_s: float
    needs_tool: bool
    is_overtaken: bool = False
    """Whether the user went on at once, so that a server may answer only what came next."""
    goes_on_from: int | None = None
    """The number of the question whose second half it is, said after a pause."""
    wait_s: float = 0.0
    """How long the answer has begun before its first sound."""
    tool_s: float | None = None
    """How long the tool runs for it; None for as long as planned for the call."""

    @property
    def result(self) -> str:
        """What the tool returns for it."""
        return f"result-of-question-{self.number}"


@dataclass
class Answer:
    """What a response of the server is about."""

    response: int
    duration_s: float
    questions: frozenset[int] = frozenset()
    results: frozenset[int] = frozenset()
    """Questions whose results it tells."""
    greets: bool = False
    calls: frozenset[int] = frozenset()
    """Questions for which it called the tool."""


@dataclass
class Evidence:
    """Everything that is known of a call after its end."""

    server: Emulator
    key: str
    questions: list[Question] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    """By the number of the response."""
    response_ids: dict[str, int] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    said: list[tuple[float, str, Any]] = field(default_factory=list)
    """The events of the framework's session: when, name, and the error or the text of it."""
    wire: list[tuple[float, Any]] = field(default_factory=list)
    """The events of the server as the client got them."""
    began: list[int] = field(default_factory=list)
    """For which questions the tool has begun to run."""
    ran: list[int] = field(default_factory=list)
    """For which questions the tool has run to its end."""
    faults: list[tuple[float, str]] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    """What the call waited for in vain."""
    states: tuple[str, str] = ("listening", "listening")
    """Of the agent and the user, when all was quiet."""
    close_s: float = 0.0
    """How long the closing took."""
    left_tasks: list[str] = field(default_factory=list)
    left_sockets: int = 0
    left_sessions: int = 0
    logged: list[str] = field(default_factory=list)
    """Every record of every logger, as it would be printed, with tracebacks."""
    complaints: list[str] = field(default_factory=list)
    """Those of the plugin and the framework at level ERROR."""
    n_dials: int = 0
    max_dials: int = 0
    """How many dials the faults explain."""

    def seconds_heard(self, response: int) -> float:
        """Return how much of a response was heard."""
        return sum(
            each.ends_at - each.begins_at for each in self.heard if each.response == response
        )

    def was_heard(self, answer: Answer, share: float = WHOLE) -> bool:
        """Tell whether so much of a response was heard."""
        return self.seconds_heard(answer.response) >= share * answer.duration_s

    def errors(self) -> list[llm.RealtimeModelError]:
        """Return the errors that the framework was told of."""
        return [event for _, _, event in self.said if isinstance(event, llm.RealtimeModelError)]


Broken = Iterator[str]


def no_hang(call: Evidence) -> Broken:
    """Whatever the call waits for comes, and it closes within its budget."""
    yield from call.hangs
    if call.close_s > 5.0:
        yield f"closing took {call.close_s:.1f} s"


def no_lost_call(call: Evidence) -> Broken:
    """The call goes on: no error is final, and the framework does not close the session."""
    for error in call.errors():
        if not error.recoverable:
            yield f"unrecoverable: {error.error}"


def no_double_reply(call: Evidence) -> Broken:
    """No question is answered twice, no result told twice, and nobody is greeted twice."""
    told: dict[str, list[Answer]] = {}
    for answer in call.answers.values():
        for number in answer.questions:
            told.setdefault(f"question {number}", []).append(answer)
        for number in answer.results:
            told.setdefault(f"the result for question {number}", []).append(answer)
        if answer.greets:
            told.setdefault("the greeting", []).append(answer)
    for what, answers in told.items():
        whole = [answer for answer in answers if call.was_heard(answer)]
        # Only the last of them may be one whose end the client never got.
        complete = [answer for answer in whole[:-1] if _was_complete(call, answer)]
        if complete:
            numbers = ", ".join(str(answer.response) for answer in whole)
            yield f"{what} was answered more than once: responses {numbers}"
    for number in {question.number for question in call.questions if question.needs_tool}:
        if call.ran.count(number) > 1:
            yield f"the tool ran {call.ran.count(number)} times for question {number}"


def _was_complete(call: Evidence, answer: Answer) -> bool:
    """Tell whether the client could know that it had all of the sound."""
    ends = (ev.ResponseDone, ev.ResponseOutputAudioDone)
    return any(
        isinstance(event, ends) and call.response_ids.get(_response_id(event)) == answer.response
        for _, event in call.wire
    )


def _response_id(event: Any) -> str:
    body = getattr(event, "response", None)
    return (body.id if body is not None else getattr(event, "response_id", None)) or ""


def no_stale_audio(call: Evidence) -> Broken:
    """What the user's words have cut is not heard any more."""
    created: dict[int, float] = {}
    for at, event in call.wire:
        if isinstance(event, ev.ResponseCreated):
            number = call.response_ids.get(event.response.id)
            if number is not None:
                created[number] = at
    cuts = list(_cuts(call.wire))
    for each in call.heard:
        begun_at = created.get(each.response)
        if begun_at is None:
            yield f"response {each.response} was heard, and the client never saw it begin"
            continue
        cut_at = min((at for at in cuts if at > begun_at), default=None)
        if cut_at is not None and each.ends_at > cut_at + STALE_AFTER_S:
            late_s = each.ends_at - cut_at
            yield f"response {each.response} was heard {late_s:.2f} s after it was cut"


def _cuts(wire: list[tuple[float, Any]]) -> Iterator[float]:
    """Yield when the user began to say something that counts."""
    for i, (at, event) in enumerate(wire):
        if isinstance(event, ev.InputAudioBufferSpeechStarted):
            verdict = next(_verdicts(wire[i + 1 :]), None)
            if verdict is not None and verdict != "incomplete":
                yield at


def _verdicts(wire: list[tuple[float, Any]]) -> Iterator[str]:
    for _, event in wire:
        if isinstance(event, ev.ConversationItemDone) and event.item.role == "user":
            yield event.item.status or "completed"
        elif isinstance(event, ev.InputAudioBufferSpeechStarted | ev.ResponseCreated):
            yield "completed"


def no_lost_result(call: Evidence) -> Broken:
    """Every result of a tool reaches the server, outlives its connection, and is told."""
    by_number = {question.number: question for question in call.questions}
    for number in set(call.ran):
        marker = by_number[number].result
        knowing = [record for record in call.server.connections if _knows(record, marker)]
        if not knowing or knowing[-1] is not _last_ready(call.server):
            yield f"the last server does not know {marker}"
        told = [answer for answer in call.answers.values() if number in answer.results]
        if not any(call.seconds_heard(answer.response) > 0 for answer in told):
            yield f"nobody told {marker}"


def _last_ready(server: Emulator) -> ConnectionRecord:
    return [record for record in server.connections if record.configured_at_s is not None][-1]


def _knows(record: ConnectionRecord, marker: str) -> bool:
    items = record.events_of(ev.ConversationItemCreate)
    was_sent = any(marker in (item.item.output or item.item.text) for item in items)
    return was_sent or marker in (record.configuration.instructions or "")


def no_lost_words(call: Evidence) -> Broken:
    """What the user said is heard by one server as a whole, and is answered."""
    for question in call.questions:
        most_s = max(
            (tone_s(record.received_audio, question.hz) for record in call.server.connections),
            default=0.0,
        )
        spoken_s = question.duration_s
        if most_s < WHOLE * spoken_s - FRINGE_S:
            yield (
                f"of {spoken_s:.2f} s of question {question.number} no server has heard more than"
                f" {most_s:.2f} s"
            )
        answers = [each for each in call.answers.values() if question.number in each.questions]
        if not answers and not question.is_overtaken:
            yield f"question {question.number} was not answered"


def no_lost_half(call: Evidence) -> Broken:
    """Who goes on after a pause is heard as a whole, unless the first half had its answer."""
    answered = _answered_on(call)
    for second in call.questions:
        if second.goes_on_from is None:
            continue
        first = call.questions[second.goes_on_from - 1]
        is_whole = any(
            all(_has_heard(record, half) for half in (first, second))
            for record in call.server.connections
        )
        if not is_whole and first.number not in answered:
            yield f"no server has heard question {second.number} with its first half"


def no_double_words(call: Evidence) -> Broken:
    """What was answered is not sent again."""
    for number, answered_on in _answered_on(call).items():
        question = call.questions[number - 1]
        for record in call.server.connections:
            again_s = tone_s(record.received_audio, question.hz)
            if record.number > answered_on and again_s > FRINGE_S:
                yield f"{again_s:.2f} s of question {number}, which was answered, were sent again"


def _has_heard(record: ConnectionRecord, question: Question) -> bool:
    heard_s = tone_s(record.received_audio, question.hz)
    return heard_s >= WHOLE * question.duration_s - FRINGE_S


def _answered_on(call: Evidence) -> dict[int, int]:
    """Return the questions whose answers the client got, and on which connection the first."""
    connections = {
        response.id: record.number
        for record in call.server.connections
        for response in record.responses
    }
    answered: dict[int, int] = {}
    newest, has_begun = "", False
    for _, event in call.wire:
        match event:
            case ev.SessionCreated():  # what was cut by the loss of a connection is no answer
                newest, has_begun = "", False
            case ev.ResponseCreated():
                newest, has_begun = event.response.id, False
            case ev.ResponseOutputAudioDelta() if _response_id(event) in ("", newest):
                has_begun = True
            case ev.ResponseFunctionCallArgumentsDone():
                has_begun = True
        ends = (
            ev.ResponseDone,
            ev.InputAudioBufferSpeechStarted,
            ev.ResponseFunctionCallArgumentsDone,
        )
        if isinstance(event, ends):
            answer = call.answers.get(call.response_ids.get(newest, 0))
            if has_begun and answer is not None and newest in connections:
                for number in answer.questions:
                    answered.setdefault(number, connections[newest])
            newest, has_begun = "", False
    return answered


def right_states(call: Evidence) -> Broken:
    """When all is quiet, the framework knows it."""
    if call.states != ("listening", "listening"):
        agent, user = call.states
        yield f"all is quiet, and the agent is {agent!r}, the user {user!r}"


def no_leak(call: Evidence) -> Broken:
    """When the call is over, no task, socket or session of it is left."""
    for name in call.left_tasks:
        yield f"a task is left: {name}"
    if call.left_sockets:
        yield f"{call.left_sockets} sockets are left"
    if call.left_sessions:
        yield f"{call.left_sessions} sessions are left"


def no_key(call: Evidence) -> Broken:
    """The key is in no log record and in nothing that is told."""
    for line in call.logged:
        if call.key in line:
            yield f"the key was logged: {line.replace(call.key, '<key>')[:300]}"
    for error in call.errors():
        if any(call.key in text for text in texts_of(error.error)):
            yield "the key is in an error"
    for _, name, event in call.said:
        if call.key in repr(event):
            yield f"the key is in the event {name}"


def texts_of(error: BaseException) -> Iterator[str]:
    """Yield everything that a person could be shown of an exception, its causes included."""
    yield "".join(traceback.format_exception(error))
    chain: list[BaseException | None] = [error]
    while chain:
        latest = chain.pop()
        if latest is not None:
            yield from (repr(latest), str(latest), repr(vars(latest)))
            chain += [latest.__cause__, latest.__context__]


def bounded_dials(call: Evidence) -> Broken:
    """The faults explain every dial."""
    if call.n_dials > call.max_dials:
        yield f"{call.n_dials} dials, where the faults explain {call.max_dials}"


def kept_protocol(call: Evidence) -> Broken:
    """The client keeps the protocol."""
    for violation in call.server.violations:
        yield str(violation)


def no_bug(call: Evidence) -> Broken:
    """Nobody logs an error: those are bugs."""
    yield from call.complaints


PROMISES: Final[tuple[Callable[[Evidence], Broken], ...]] = (
    no_hang,
    no_lost_call,
    no_double_reply,
    no_stale_audio,
    no_lost_result,
    no_lost_words,
    no_lost_half,
    no_double_words,
    right_states,
    no_leak,
    no_key,
    bounded_dials,
    kept_protocol,
    no_bug,
)


def broken(call: Evidence) -> dict[str, list[str]]:
    """Return the promises that a call has broken, and how."""
    found = {promise.__name__: list(promise(call)) for promise in PROMISES}
    return {name: how for name, how in found.items() if how}
