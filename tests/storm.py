"""Random calls through a bad network, each judged by the promises.

``python -m tests.storm 17`` holds the call of seed 17 and tells what it broke; two numbers hold
all calls between them, and the word ``halting`` those of people who pause in mid-sentence and of
slow tools. A call is a whole one: framework, plugin, proxy and emulator.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import random
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from livekit.agents import Agent, AgentSession, APIConnectOptions, function_tool

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import (
    Call,
    ConnectionRecord,
    Context,
    Emulator,
    Loudspeaker,
    Microphone,
    Observed,
    Piece,
    Reply,
    Say,
    Scenario,
    Violation,
    Wait,
    random_switches,
)

from . import clock
from .calls import COUGH, SESSION_EVENTS, tone
from .promises import Answer, Evidence, Question, broken, marked, read_marks, tone_s
from .proxy import FaultProxy

PATIENCE_S: Final = 45.0
"""How long a call waits for anything: more than the longest outage and what follows it."""

SETTLED_S: Final = 1.0
"""Quiet for so long is settled."""

GREET: Final = "Greet the caller."

_REPLY_DEADLINE_S: Final = 10.0

TURNS: Final = ("ask", "ask", "tool", "tool", "barge", "cough", "quick", "pause", "mute")

HALTING: Final = ("halt", "halt", "halt_tool", "slow", "slow", "retune", "prompt", "ask")
"""Turns of people who pause in mid-sentence, and of tools that run for longer than the framework
gives an interrupted speech; instructions that change, and replies without a question."""

_DEAF: Final = ("message_items_dropped", "bare_create_ignored", "errors_name_no_event")
"""Switches of a server that takes texts and never hears of them."""

TRIGGERS: Final = (
    "session.created",
    "session.configure",
    "session.configured",
    "input_audio_buffer.append",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.create",
    "response.create",
    "response.created",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.done",
)
"""Frames of either side at which faults happen; and at any other moment."""

HARD: Final = ("reset", "abort", "close", "half_close", "cut", "outage", "busy", "full", "freeze")
SOFT: Final = ("delay", "throttle", "stall", "garbage", "repeat", "error")
DEAD: Final = ("vanish", "long_stall")
"""What only pings can find out."""


LONG: Final = ("outage", "busy", "full", *DEAD)
"""What refuses dials for a while."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong once."""

    kind: str
    trigger: str
    """The type of the frame at which it happens; empty for no frame."""
    nth: int
    after_s: float
    size: float
    """How much of it, from 0 to 1."""


@dataclass(frozen=True)
class Plan:
    """A call, told in advance."""

    seed: int
    switches: tuple[str, ...]
    turns: tuple[str, ...]
    faults: tuple[Fault, ...]
    greets: bool
    tool_s: float
    auth: Literal["query", "header"]

    @classmethod
    def random(cls, seed: int, kinds_of_turns: Sequence[str] = TURNS) -> Plan:
        """Return the plan of a seed."""
        dice = random.Random(seed)
        switches = random_switches(seed)
        if kinds_of_turns is HALTING:  # what these need to say later, such a server never hears
            switches = tuple(each for each in switches if each not in _DEAF)
        kinds = [*HARD, *SOFT]
        if "pings_unanswered" not in switches:
            kinds += DEAD
        turns = tuple(dice.choices(kinds_of_turns, k=dice.randint(2, 5)))
        faults = tuple(
            Fault(
                kind=dice.choice(kinds),
                trigger=dice.choice((*TRIGGERS, "", "", "")),
                nth=1 + int(dice.expovariate(0.7)),
                after_s=dice.choice((0.0, dice.uniform(0.0, 0.3), dice.uniform(0.0, 3.0))),
                size=dice.random(),
            )
            for _ in range(dice.randint(1, 3))
        )
        # What refuses dials comes once: an outage that others add to may outlast its budget.
        dead = [fault for fault in faults if fault.kind in DEAD][:1]
        long = [fault for fault in faults if fault.kind in LONG][:1]
        faults = tuple(dead or [*long, *(each for each in faults if each.kind not in LONG)])
        return cls(
            seed=seed,
            switches=switches,
            turns=turns,
            faults=faults,
            greets=dice.random() < 0.6,
            tool_s=dice.choice((0.0, 0.3, 1.5)),
            auth=dice.choice(("query", "header")),
        )


def a_call(
    *turns: str, fault: str = "", at: str = "", after_s: float = 0.0, switches: tuple[str, ...] = ()
) -> Plan:
    """Return the plan of a call with at most one fault, for tests that say what happens."""
    faults = (Fault(fault, at, nth=1, after_s=after_s, size=0.4),) if fault else ()
    return Plan(
        seed=0,
        switches=switches,
        turns=turns,
        faults=faults,
        greets=False,
        tool_s=1.5,
        auth="query",
    )


class Mind:
    """The emulated model: understands the tones, and marks what it says."""

    def __init__(self, evidence: Evidence, scenario: Scenario) -> None:
        self._evidence = evidence
        self._scenario = scenario

    def answer(self, context: Context) -> Reply:
        """Answer everything that it has heard of."""
        questions = [each for each in self._evidence.questions if _was_asked(each, context)]
        calls = [each.number for each in questions if each.needs_tool]
        heard_of = [output.output for output in context.outputs] + [context.text]
        opening = ""
        if context.trigger == "greeting":
            history, _, opening = context.instructions.partition("# Your first words")
            if "tool call" in opening:  # the plugin's words, or the framework's own
                heard_of.append(history[history.rfind("result-of") :])
        if context.trigger == "user_turn":
            known = " ".join((context.instructions, *self._outputs_before(context)))
        else:
            known = ""
        told = self._told()
        results = [
            each.number
            for each in self._evidence.questions
            if (each.number not in told and f"{each.result}." in known)
            or any(f"{each.result}." in text for text in heard_of)
        ]
        number = context.response_number
        answer = self._evidence.answers[number] = Answer(
            response=number,
            duration_s=3.0 if context.response_number % 3 == 0 else 0.8,
            questions=frozenset(each.number for each in questions),
            results=frozenset(results),
            greets=GREET in opening or GREET in context.text,
            calls=frozenset(calls),
        )
        wait_s = max((each.wait_s for each in questions), default=0.0)
        reply: list[Piece] = [Wait(wait_s)] if wait_s else []
        if not calls or len(calls) < len(questions) or results:
            rate_hz = self._scenario.rate_of(context.model)
            pcm = marked(number, answer.duration_s, rate_hz)
            reply.append(Say(pcm=pcm, text=f"Answer {number}."))
        return [*reply, *(Call("look", {"question": each}) for each in calls)]

    def _outputs_before(self, context: Context) -> list[str]:
        """Return what the server was told before: an answer may have been cut before it spoke."""
        record = self._evidence.server.connections[context.connection_number - 1]
        items = record.events_of(ev.ConversationItemCreate)
        return [item.item.output or item.item.text for item in items]

    def _told(self) -> set[int]:
        """Return the questions whose results were told, or are about to be."""
        spoken = {
            self._evidence.response_ids.get(response.id): bool(response.pcm)
            for record in self._evidence.server.connections
            for response in record.responses
        }
        return {
            number
            for each in self._evidence.answers.values()
            if spoken.get(each.response, True)
            for number in each.results
        }


def _was_asked(question: Question, context: Context) -> bool:
    if context.turn is None:
        return False
    return tone_s(context.turn.pcm, question.hz) >= 0.6 * min(question.duration_s, 0.4)


class Clerk(Agent):
    """Looks things up."""

    def __init__(self, plan: Plan, evidence: Evidence, on_change: Callable[[], None]) -> None:
        super().__init__(instructions="You are a clerk.")
        self._plan = plan
        self._evidence = evidence
        self._on_change = on_change

    async def on_enter(self) -> None:
        """Greet, if that is planned."""
        if self._plan.greets:
            self.session.generate_reply(instructions=GREET)

    @function_tool
    async def look(self, question: int) -> str:
        """Look up the answer.

        Args:
            question: its number.
        """
        asked = self._evidence.questions[question - 1]
        self._evidence.began.append(question)
        self._on_change()
        await asyncio.sleep(self._plan.tool_s if asked.tool_s is None else asked.tool_s)
        self._evidence.ran.append(question)
        return f"{asked.result}."


class WatchedModel(hydra.RealtimeModel):
    """Keeps what its sessions hear from the server."""

    def __init__(self, evidence: Evidence, **options: Any) -> None:
        super().__init__(**options)
        self._evidence = evidence
        self.made: list[weakref.ref[hydra.RealtimeSession]] = []

    def session(self, *, turn_detection_disabled: bool = False) -> hydra.RealtimeSession:
        """Make a session and watch it."""
        session = super().session(turn_detection_disabled=turn_detection_disabled)
        wire = self._evidence.wire
        session.on("hydra_server_event", lambda event: wire.append((time.monotonic(), event)))
        self.made.append(weakref.ref(session))
        return session


class LogWatch(logging.Handler):
    """Keeps every record of every logger, as it would be printed."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.complaints: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        line = f"{record.name}: {self.format(record)} {vars(record)!r}"
        self.lines.append(line)
        if record.levelno >= logging.ERROR:
            self.complaints.append(f"{record.name}: {self.format(record)}")


@contextmanager
def all_logs() -> Iterator[LogWatch]:
    """Keep all that is logged in the block, from DEBUG on, whatever the levels are."""
    watch = LogWatch()
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, list(root.manager.loggerDict))]
    levels = [(each, each.level) for each in loggers]
    handlers = root.handlers[:]
    for each in loggers:
        each.setLevel(logging.DEBUG)
    root.handlers[:] = [watch]
    try:
        yield watch
    finally:
        root.handlers[:] = handlers
        for each, level in levels:
            each.setLevel(level)


class Storm:
    """One call and what befalls it."""

    def __init__(self, plan: Plan, evidence: Evidence, proxy: FaultProxy) -> None:
        self._plan = plan
        self._call = evidence
        self._server = evidence.server
        self._proxy = proxy
        self._dice = random.Random(plan.seed + 1)
        self._seen: Counter[str] = Counter()
        self._began_at = time.monotonic()
        self._changed = asyncio.Event()
        self._n_manners = 0
        self.microphone = Microphone()
        self.loudspeaker = Loudspeaker()
        for name in ("playback_started", "playback_finished"):
            self.loudspeaker.on(name, self.note)

    # ---------------------------------------------------------------------------- watching

    def note(self, *_: object) -> None:
        """Something has happened."""
        self._changed.set()

    def observe(self, record: ConnectionRecord, what: Observed) -> None:
        """Take in a frame that the server got or sent."""
        if not isinstance(what, Violation) and not isinstance(what.event, str):
            self._seen[what.event.type] += 1
            if isinstance(what.event, ev.ResponseCreated):
                number = max(self._call.answers, default=0)
                self._call.response_ids.setdefault(what.event.response.id, number)
        self.note()

    def keep(self, name: str, event: Any) -> None:
        """Take in an event of the framework's session; those that hold the session are told."""
        shown = event if name in ("error", "close") else None
        error = getattr(event, "error", None)
        self._call.said.append((time.monotonic(), name, error if shown else repr(event)))
        self.note()

    async def _until(self, what: str, look: Any, patience_s: float = PATIENCE_S) -> None:
        try:
            async with asyncio.timeout(patience_s):
                while not look():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._call.hangs.append(f"waited {patience_s:g} s for {what}")
            raise

    def _has_heard(self, question: Question, *, told: bool = False) -> bool:
        numbers = {
            answer.response
            for answer in self._call.answers.values()
            if question.number in (answer.results if told else answer.questions)
        }
        return any(each.response in numbers for each in read_marks(self.loudspeaker.heard))

    # -------------------------------------------------------------------------- the caller

    async def converse(self, session: AgentSession[Any]) -> None:
        """Hold the conversation that is planned."""
        if self._plan.greets:
            await self._until("the greeting", self._greeting_is_over)
        for turn in self._plan.turns:
            await self._take(turn, session)
        await self._settle(session)

    def _greeting_is_over(self) -> bool:
        is_late = time.monotonic() - self._began_at > _REPLY_DEADLINE_S
        return self.loudspeaker.n_finished > 0 or is_late

    async def close_well(self, session: AgentSession[Any]) -> None:
        """Ask a last question: after all that has happened, it is answered."""
        self.microphone.unmute()
        await self._take("ask", session)

    async def _take(self, turn: str, session: AgentSession[Any]) -> None:
        match turn:
            case "ask":
                await self._answered(await self._ask())
                await self._settle(session)
            case "tool":
                await self._told(await self._ask(needs_tool=True))
                await self._settle(session)
            case "barge":
                await self._answered(await self._ask())
            case "cough":
                self.microphone.say(COUGH)
                await asyncio.sleep(1.5)
            case "quick":
                question = await self._ask()
                question.is_overtaken = True
                await asyncio.sleep(self._dice.uniform(0.2, 1.0))
            case "pause":
                await asyncio.sleep(self._dice.uniform(1.0, 8.0))
            case "halt" | "halt_tool":
                await self._halt(needs_tool=turn == "halt_tool")
                await self._settle(session)
            case "slow":
                await self._outlast(session)
                await self._settle(session)
            case "retune":
                await self._retune(session)
                await self._settle(session)
            case "prompt":
                handle = session.generate_reply(instructions="Say how it goes.")
                handle.add_done_callback(self.note)
                await self._until("the end of a reply", handle.done)
                await self._settle(session)
            case "mute":
                question = await self._ask()
                self.microphone.mute()
                await self._answered(question)
                await asyncio.sleep(self._dice.uniform(0.0, 40.0))
                self.microphone.unmute()
                await self._settle(session)

    async def _halt(self, *, needs_tool: bool = False) -> None:
        """Pause in mid-sentence, before the answer to the first half has sounded or just then."""
        first = await self._ask(wait_s=self._dice.choice((0.0, self._dice.uniform(0.0, 2.0))))
        first.is_overtaken = True
        await asyncio.sleep(self._dice.choice((0.3, 0.4, self._dice.uniform(0.2, 1.5))))
        second = await self._ask(needs_tool=needs_tool, goes_on_from=first.number)
        await self._answered(second)
        if needs_tool:
            await self._told(second)

    async def _outlast(self, session: AgentSession[Any]) -> None:
        """Speak while a tool runs for longer than an interrupted speech may take."""
        tool_s = self._dice.choice((self._dice.uniform(4.5, 9.0), 22.0))
        question = await self._ask(needs_tool=True, tool_s=tool_s)
        number = question.number
        await self._until(f"the call for question {number}", lambda: number in self._call.began)
        for turn in self._dice.choices(("barge", "cough", "cough", "halt", ""), k=2):
            await asyncio.sleep(self._dice.uniform(0.0, 4.0))
            if turn == "halt":
                await self._halt()
            elif turn:
                await self._take(turn, session)
        await self._told(question)

    async def _retune(self, session: AgentSession[Any]) -> None:
        """Change the instructions; the server is told at the next quiet moment."""
        self._n_manners += 1
        manner = f"You are a clerk. Manner {self._n_manners}."
        self._call.max_dials += 2
        await session.current_agent.update_instructions(manner)
        await self._until("new instructions", lambda: self._knows(manner))

    def _knows(self, manner: str) -> bool:
        ready = [each for each in self._server.connections if each.configured_at_s is not None]
        return bool(ready) and manner in (ready[-1].configuration.instructions or "")

    async def _ask(self, *, needs_tool: bool = False, **details: Any) -> Question:
        number = len(self._call.questions) + 1
        duration_s = self._dice.choice((0.6, 0.9, 1.2))
        question = Question(number, 250 + 150 * number, duration_s, needs_tool, **details)
        self._call.questions.append(question)
        self.microphone.say(tone(duration_s, hz=question.hz))
        await self.microphone.wait_quiet()
        return question

    async def _answered(self, question: Question) -> None:
        number = question.number
        what = f"the answer to question {number}"
        if question.needs_tool:
            await self._until(what, lambda: number in self._call.ran)
        else:
            await self._until(what, lambda: self._has_heard(question))

    async def _told(self, question: Question) -> None:
        what = f"the result for question {question.number}"
        await self._until(what, lambda: self._has_heard(question, told=True))

    async def _settle(self, session: AgentSession[Any]) -> None:
        """Wait until nobody has spoken for a while."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    n_seen = len(self._call.said), self.loudspeaker.n_finished, self._n_frames
                    await asyncio.sleep(SETTLED_S)
                    is_quiet = self.loudspeaker.n_finished == len(self.loudspeaker.heard)
                    now = len(self._call.said), self.loudspeaker.n_finished, self._n_frames
                    if is_quiet and now == n_seen and session.agent_state == "listening":
                        return
        except TimeoutError:
            state = f"the agent is {session.agent_state}"
            self._call.hangs.append(f"waited {PATIENCE_S:g} s for quiet: {state}")
            raise

    @property
    def _n_frames(self) -> int:
        """How much the server said, but for keep-alive."""
        return sum(count for kind, count in self._seen.items() if kind.startswith("response."))

    # --------------------------------------------------------------------------- the storm

    async def rage(self) -> None:
        """Let the faults happen, each at its moment."""
        async with asyncio.TaskGroup() as tasks:
            for fault in self._plan.faults:
                tasks.create_task(self._happen(fault))

    async def _happen(self, fault: Fault) -> None:
        if fault.trigger:
            while self._seen[fault.trigger] < fault.nth:
                self._changed.clear()
                await self._changed.wait()
        else:
            await asyncio.sleep(fault.nth * 2.0)
        await asyncio.sleep(fault.after_s)
        self._call.faults.append((time.monotonic(), f"{fault.kind} {fault.size:.2f}"))
        await self._do(fault)

    async def _do(self, fault: Fault) -> None:
        server, proxy, size = self._server, self._proxy, fault.size
        is_open = bool(server.open_connections)
        match fault.kind:
            case "reset":
                proxy.reset()
            case "abort" if is_open:
                server.drop()
            case "close" if is_open:
                codes = (1000, 1001, 1011, 1012, 1013)
                server.close(codes[int(size * len(codes))])
            case "half_close":
                proxy.half_close()
            case "cut":
                proxy.cut_after(1 + int(size * 4_000))
            case "outage":
                proxy.refuses = "reset" if size < 0.5 else "silence"
                proxy.reset()
                await asyncio.sleep(4.0 * size)
                proxy.refuses = "no"
            case "busy":
                server.scenario = dataclasses.replace(
                    server.scenario,
                    http_refusals=1 + int(2 * size),
                    http_refusal_status=503 if size < 0.5 else 429,
                    server_full_connections=0,
                )
                proxy.reset()
            case "full":
                server.scenario = dataclasses.replace(
                    server.scenario, http_refusals=0, server_full_connections=1
                )
                proxy.reset()
            case "freeze" if is_open:
                frozen = server.open_connections
                server.freeze()
                await asyncio.sleep(4.0 * size)
                for record in frozen:
                    if record.is_open:
                        server.thaw(record)
            case "delay":
                proxy.delay_s = 0.3 * size
            case "throttle":
                proxy.bytes_per_s = 300_000 + 700_000 * size
            case "stall":
                proxy.stall()
                await asyncio.sleep(4.0 * size)
                proxy.resume()
            case "garbage" if is_open:
                server.send(_GARBAGE[int(size * len(_GARBAGE))])
            case "repeat" if is_open:
                for sent in server.connection.server_events[-5:]:
                    if not isinstance(sent.event, str) and not sent.n_audio_bytes:
                        server.send(sent.event)
            case "error" if is_open:
                body = ev.ErrorBody(code="internal_error", message="something failed")
                server.send(ev.Error(error=body))
            case "vanish":
                proxy.stall()
                await asyncio.sleep(16.0)
                proxy.reset()
                proxy.resume()
            case "long_stall":
                proxy.stall()
                await asyncio.sleep(4.0 + 12.0 * size)
                proxy.resume()

    def calm(self) -> None:
        """End all that is still wrong."""
        self._proxy.refuses = "no"
        self._proxy.delay_s = 0.0
        self._proxy.bytes_per_s = None
        self._proxy.resume()
        if self._server.open_connections:
            self._server.thaw()


_GARBAGE: Final[tuple[str | bytes, ...]] = (
    "",
    "{}",
    "null",
    "[" * 2000,
    '{"type":"session.sang"}',
    '{"type":"response.created"}',
    '{"type":"response.done","response":{"id":"r_unknown"}}',
    '{"type":"response.output_audio.delta","response_id":"r_unknown","delta":"AAAA"}',
    '{"type":"response.output_audio.delta","delta":"***"}',
    '{"type":"error","error":{}}',
    b"\x00\x01\x02",
    b"",
)


_TIMED_OUT: Final = "generate_reply timed out"

_OUTLASTED: Final = "speech not done in time after interruption"
"""What the framework says of a tool that runs for longer than an interrupted speech may."""


def scenario_of(plan: Plan) -> Scenario:
    """Return how the server of a plan behaves.

    What it holds against clients leaves out what a bad network excuses: a client that hears late
    of something, and a burst after a stall.
    """
    scenario = Scenario().with_switches(*plan.switches)
    return dataclasses.replace(
        scenario, race_grace_s=60.0, flood_clock="session", http_retry_after_s=None
    )


async def hold(plan: Plan, model_type: type[WatchedModel] = WatchedModel) -> Evidence:
    """Hold the call of a plan, to its end, and write down everything."""
    before = asyncio.all_tasks()
    key = f"sk-secret-{plan.seed}-of-the-storm"
    with all_logs() as logs:
        observers: list[Storm] = []
        scenario = scenario_of(plan)
        server = Emulator(
            scenario, strict=False, observer=lambda record, what: observers[0].observe(record, what)
        )
        evidence = Evidence(server, key)
        evidence.max_dials = 4 + sum(_DIALS.get(fault.kind, 3) for fault in plan.faults)
        server.scenario = dataclasses.replace(scenario, replies=Mind(evidence, scenario).answer)
        async with server, FaultProxy(server.port) as proxy:
            storm = Storm(plan, evidence, proxy)
            observers.append(storm)
            model = model_type(
                evidence,
                api_key=key,
                base_url=proxy.url,
                auth=plan.auth,
                conn_options=APIConnectOptions(max_retry=8, timeout=5.0),
            )
            await _hold(plan, evidence, storm, model)
            made = model.made
            del model, storm
            await asyncio.sleep(2.5)
            evidence.left_sockets = proxy.n_open
            evidence.n_dials = proxy.n_connections
            observers.clear()
            observers.append(Storm(plan, evidence, proxy))
        await asyncio.sleep(0.1)
        gc.collect()
        evidence.left_sessions = sum(each() is not None for each in made)
        left = asyncio.all_tasks() - before
        evidence.left_tasks = [repr(task.get_coro()) for task in left]
        for task in left:
            task.cancel()
    fine = [_TIMED_OUT] if any(fault.kind in DEAD for fault in plan.faults) else []
    fine += [_OUTLASTED] if "slow" in plan.turns else []
    evidence.logged = logs.lines
    evidence.complaints = [
        line for line in logs.complaints if not any(words in line for words in fine)
    ]
    return evidence


async def _hold(plan: Plan, evidence: Evidence, storm: Storm, model: WatchedModel) -> None:
    session: AgentSession[Any] = AgentSession(llm=model, aec_warmup_duration=None)
    for name in SESSION_EVENTS:
        session.on(name, partial(storm.keep, name))  # type: ignore[arg-type]
    session.input.audio, session.output.audio = storm.microphone, storm.loudspeaker
    await session.start(Clerk(plan, evidence, storm.note))
    raging = asyncio.get_running_loop().create_task(storm.rage())
    try:
        await storm.converse(session)
        raging.cancel()
        await asyncio.gather(raging, return_exceptions=True)
        storm.calm()
        await storm.close_well(session)
    except TimeoutError:
        pass
    finally:
        raging.cancel()
        await asyncio.gather(raging, return_exceptions=True)
        storm.calm()
        evidence.states = (session.agent_state, session.user_state)
        began_at = time.monotonic()
        await session.aclose()
        await model.aclose()
        evidence.close_s = time.monotonic() - began_at
    evidence.heard = list(read_marks(storm.loudspeaker.heard))


_DIALS: Final = {"outage": 8, "vanish": 5, "long_stall": 5, "busy": 6, "full": 4}
"""How many dials a fault may cost, beyond the usual."""


def main(arguments: list[str]) -> int:
    """Hold the calls of some seeds; return how many broke a promise."""
    seeds = [int(each) for each in arguments if each.isdecimal()]
    turns = HALTING if "halting" in arguments else TURNS
    first, last = seeds[0], seeds[-1]
    n_broken = 0
    for seed in range(first, last + 1):
        plan = Plan.random(seed, turns)
        evidence = clock.run(partial(hold, plan), seed=seed)
        found = broken(evidence)
        n_broken += bool(found)
        if first == last:
            print(plan, *evidence.server.transcript(), *evidence.said, sep="\n")
        if found or first == last:
            print(f"seed {seed}: {' '.join(plan.turns)}\n  faults: {evidence.faults}")
            for name, how in found.items():
                print(f"  {name}: {[each[:600] for each in how[:3]]}")
    print(f"{last - first + 1 - n_broken} of {last - first + 1} calls kept every promise")
    return n_broken


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
