from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.backoff import RECONNECTS_PER_MINUTE
from livekit_plugins_hydra.protocol.call import Call
from livekit_plugins_hydra.protocol.demand import REPLY_LIMIT_S
from livekit_plugins_hydra.protocol.learned import Learned, Way
from livekit_plugins_hydra.protocol.line import DEBT_S
from livekit_plugins_hydra.protocol.renewal import INSTRUCTIONS_RECONNECT_EVERY_S
from livekit_plugins_hydra.protocol.states import Handshake, Turn
from tests import server_says as server
from tests import session_wants as session

TOLERANCE_S = 1e-6
"""Sums of seconds are not exact."""

MAX_TIMERS_PER_S = 20
"""A call whose timers run out more often than this, while nothing happens, spins."""


# --------------------------------------------------------------------------- a shell without I/O


@dataclass
class Shell:
    """Does for a call what the session does, on a clock of its own, and objects to what is wrong.

    What comes from a socket that is not open is not delivered, and what nobody could have wanted
    is not wished for: the rest may happen in any order.
    """

    call: Call
    now: float = 1000.0
    is_connected: bool = False
    is_ready: bool = False
    n_timers: int = 0
    timers: dict[str, float] = field(default_factory=dict)
    pending: dict[str, float] = field(default_factory=dict)
    """Replies that are owed, and since when."""
    begun: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    accounted: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    """Functions that this connection has called and that have no output."""
    sent: list[ev.ClientEvent] = field(default_factory=list)
    """What went out on this connection."""
    asked_at: float | None = None
    """When the newest request went out that was neither answered nor refused."""
    user_speaks: bool = False
    reconnects: list[float] = field(default_factory=list)

    # ------------------------------------------------------------------- what may happen

    def connect(self) -> None:
        """The socket opens."""
        if not self.is_connected:
            self.is_connected = True
            self.perform(self.call.open())

    def shake_hands(self) -> None:
        """A connection is made."""
        self.connect()
        self.receive(ev.SessionCreated())
        self.receive(ev.SessionConfigured())

    def lose(self, *, keeps_turn: bool = False) -> None:
        """The socket closes."""
        if self.is_connected:
            effects = self.call.lose(self.now, keeps_turn=keeps_turn)
            self.disconnect(effects)

    def receive(self, event: ev.ServerEvent | ev.UnknownEvent) -> None:
        """The server says something."""
        if not self.is_connected:
            return
        if isinstance(event, ev.ResponseCreated) and self.is_ready:
            self.asked_at = None
        self.perform(self.call.receive(event, self.now))

    def refuse(self, nth_last: int, code: str) -> None:
        """The server refuses something that was sent."""
        if nth_last <= len(self.sent):
            event = self.sent[-nth_last]
            if isinstance(event, ev.ResponseCreate):
                self.asked_at = None
            self.receive(server.error(code, event_id=event.event_id))

    def ask(self, instructions: str) -> None:
        """The session wants a reply."""
        reply_id = f"g{len(self.pending) + self.n_timers}-{self.now}-{len(self.sent)}"
        while reply_id in self.pending:
            reply_id += "+"
        self.pending[reply_id] = self.now
        self.perform(self.call.generate_reply(reply_id, instructions, self.now))

    def cancel(self) -> None:
        """The session no longer wants its reply."""
        for reply_id in list(self.pending):
            del self.pending[reply_id]
            self.perform(self.call.cancel_reply(reply_id, self.now))

    def wait(self, seconds: float) -> None:
        """Time passes, and timers run out on the way."""
        until = self.now + seconds
        while due := [(at, name) for name, at in self.timers.items() if at <= until]:
            at, name = min(due)
            self.now = max(self.now, at)
            del self.timers[name]
            self.n_timers += 1
            self.perform(self.call.timer(name, self.now))
        self.now = max(self.now, until)

    def end(self) -> None:
        """The session is closed."""
        self.disconnect(self.call.end("the end", self.now))

    # ------------------------------------------------------------------- what follows

    def perform(self, effects: list[fx.Effect]) -> None:
        """Perform effects, and look at each."""
        for effect in effects:
            self.see(effect)

    def disconnect(self, effects: list[fx.Effect]) -> None:
        """Perform the effects of an end; nothing of the connection is left."""
        self.perform(effects)
        assert not self.open
        assert not self.user_speaks
        assert self.accounted == {name for name in self.begun if "+" not in name} | self.accounted
        self.is_connected = self.is_ready = False
        self.asked_at = None
        for memory in (self.begun, self.accounted, self.called):
            memory.clear()
        self.sent.clear()

    def see(self, effect: fx.Effect) -> None:
        """Look at one effect, and do what the session does."""
        match effect:
            case fx.StartTimer(name=name, delay_s=delay_s):
                assert delay_s > 0.0
                self.timers[name] = self.now + delay_s
            case fx.CancelTimer(name=name):
                self.timers.pop(name, None)
            case fx.Compose(greet=greet):
                assert self.call.conversation.handshake is Handshake.CREATED
                body = session.configuration(greet=greet)
                self.perform(self.call.configure(body, self.now))
            case fx.SessionReady():
                assert self.is_connected
                self.is_ready = True
            case fx.Send(event=event):
                self.see_sent(event)
            case fx.BeginResponse(part_id=part_id, reply_id=reply_id):
                assert self.is_ready
                assert part_id not in self.begun
                self.begun.add(part_id)
                self.open.add(part_id)
                if reply_id is not None:
                    del self.pending[reply_id]
                    self.asked_at = None
            case fx.OutputAudio(part_id=part_id) | fx.OutputText(part_id=part_id):
                assert part_id in self.open
                assert not self.user_speaks
            case fx.CallFunction(part_id=part_id, call_id=call_id):
                assert part_id in self.open
                self.called.add(call_id)
            case fx.EndStreams(part_id=part_id):
                self.open.remove(part_id)
            case fx.EndResponse(response_id=response_id):
                assert response_id not in self.open | self.accounted
                self.accounted.add(response_id)
            case fx.UserStarted():
                assert not self.user_speaks
                self.user_speaks = True
            case fx.UserStopped():
                assert self.user_speaks
                self.user_speaks = False
            case fx.ReplyFailed(reply_id=reply_id, reason=reason):
                assert reason
                del self.pending[reply_id]
            case fx.Reconnect():
                assert self.call.conversation.turn is Turn.QUIET
                recent = [at for at in self.reconnects if at > self.now - 60.0 + TOLERANCE_S]
                assert len(recent) < RECONNECTS_PER_MINUTE
                self.reconnects.append(self.now)
                self.disconnect([])

    def see_sent(self, event: ev.ClientEvent) -> None:
        """Look at something that goes out."""
        assert self.is_connected
        assert event.event_id not in {earlier.event_id for earlier in self.sent}
        match event:
            case ev.SessionConfigure():
                assert not any(isinstance(earlier, ev.SessionConfigure) for earlier in self.sent)
            case ev.ResponseCreate():
                assert self.is_ready
                assert not self.open
                assert self.call.conversation.turn is Turn.QUIET
                if self.asked_at is not None:
                    assert self.now - self.asked_at >= DEBT_S - TOLERANCE_S
                self.asked_at = self.now
            case ev.ConversationItemCreate(item=ev.Item(call_id=str(call_id))):
                self.called.remove(call_id)
            case ev.ConversationItemCreate():
                assert self.is_ready
        self.sent.append(event)

    def check(self) -> None:
        """Look at what must hold between any two steps."""
        for since in self.pending.values():
            assert self.now - since <= REPLY_LIMIT_S + TOLERANCE_S
        assert len(self.pending) <= 1
        assert self.call.is_occupied or not self.pending
        assert (self.call.conversation.turn is Turn.SPEAKING) is self.user_speaks


def new_shell(*, greet: bool = False, learned: Learned | None = None) -> Shell:
    """Return a shell around a call that has nothing yet."""
    ids = (f"cl_{n}" for n in itertools.count())
    return Shell(Call(new_event_id=lambda: next(ids), greet=greet, learned=learned))


# ------------------------------------------------------------------------------ what may happen

Step = Callable[[Shell], None]


def says(event: ev.ServerEvent | ev.UnknownEvent) -> Step:
    """Return the step in which the server says something."""
    return lambda shell: shell.receive(event)


def wants(wish: Callable[[Call, float], list[fx.Effect]]) -> Step:
    """Return the step in which the session wants something."""
    return lambda shell: shell.perform(wish(shell.call, shell.now))


def waits(seconds: float) -> Step:
    """Return the step in which time passes."""
    return lambda shell: shell.wait(seconds)


TURNS = [
    says(event(item_id))
    for item_id in ("u1", "u2", None)
    for event in (server.speech_started, server.speech_stopped, server.discarded, server.heard)
]
RESPONSES = [
    says(event)
    for name in ("r1", "r2", "r3", "r4")
    for event in (
        server.created(name),
        server.created(name),
        server.audio(name),
        server.text(name, "hi"),
        server.called(name, f"c of {name}"),
        server.arguments(name, "c9", "{", "look"),
        server.done(name),
        server.done(name, "cancelled"),
    )
]
ERRORS: list[Step] = [
    lambda shell, n=n, code=code: shell.refuse(n, code)  # type: ignore[misc]
    for n in (1, 2, 3)
    for code in ("invalid_frame", "internal_error")
]
ERRORS += [says(server.error("tool_response_timeout")), says(ev.UnknownEvent("session.sang"))]
REPLIES: list[Step] = [
    lambda shell: shell.ask(""),
    lambda shell: shell.ask(""),
    lambda shell: shell.ask("Say bye."),
    Shell.cancel,
    wants(session.note("hello").run),
    wants(session.note("Be brief.", "system").run),
]
OUTPUTS = [
    wants(session.post(call_id, text).run)
    for call_id in ("c of r1", "c of r2", "c of r3", "c of r4", "c9", "c0")
    for text in ("42", "")
]
REST: list[Step] = [
    wants(session.interrupt().run),
    wants(session.change_instructions().run),
    wants(session.configurable().run),
    lambda shell: shell.perform(shell.call.update_tools([ev.Tool(name="look")])),
]
TIMES = [waits(s) for s in (0.001, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0)]
CONNECTIONS: list[Step] = [
    Shell.shake_hands,
    Shell.shake_hands,
    Shell.connect,
    Shell.lose,
    lambda shell: shell.lose(keeps_turn=True),
    says(ev.SessionCreated()),
    says(ev.SessionConfigured()),
]
ANYTHING = st.one_of(
    *(
        st.sampled_from(steps)
        for steps in (TURNS, RESPONSES, REPLIES, REPLIES, OUTPUTS, TIMES, CONNECTIONS, ERRORS, REST)
    )
)


def knowing(failed: set[Way], worked: set[Way]) -> Learned:
    """Return what is known of a server."""
    learned = Learned()
    for way in worked:
        learned.worked(way, 0.0)
    for way in failed:
        learned.failed(way, 0.0)
        learned.failed(way, 0.0)
    return learned


LEARNED = st.builds(knowing, st.sets(st.sampled_from(Way)), st.sets(st.sampled_from(Way)))
WALKS = st.lists(ANYTHING, max_size=60)


def begin(shell: Shell) -> None:
    """Let the session be configured, and a connection be made."""
    shell.perform(shell.call.configurable(shell.now))
    shell.shake_hands()
    shell.wait(0.05)
    shell.receive(ev.SessionConfigured())


# ----------------------------------------------------------------------------------- any call


@given(WALKS, st.booleans(), LEARNED, st.booleans())
def test_any_call_keeps_its_promises(
    steps: list[Step], greet: bool, learned: Learned, is_begun: bool
) -> None:
    """Whatever happens in whatever order, on however many connections.

    Each reply that is asked for ends once: as a response, as a failure, or because nobody wants
    it any more; never later than its deadline. One request is out at a time: the next one goes
    out after a response, a refusal, a new connection, or when the debt of the first has lapsed.
    Nothing is asked for while the user speaks or a response plays, and no connection is left
    then. Streams are opened and closed once, with sound, text and calls between; outputs go to
    the connection that asked for them; new connections stay within their budget; and the end
    ends everything.
    """
    shell = new_shell(greet=greet, learned=learned)
    if is_begun:
        begin(shell)
    for step in steps:
        step(shell)
        shell.check()
    shell.end()

    assert not shell.pending
    assert not shell.open


@given(WALKS, st.booleans(), LEARNED)
def test_any_call_comes_to_rest(steps: list[Step], greet: bool, learned: Learned) -> None:
    """When nothing more happens, nothing is owed after a while, and no timer spins.

    New connections are made as often as they are asked for; the server says nothing on them.
    """
    shell = new_shell(greet=greet, learned=learned)
    begin(shell)
    for step in steps:
        step(shell)
    for _ in range(60):
        n_timers = shell.n_timers
        shell.shake_hands()
        shell.wait(1.0)
        shell.check()
        assert shell.n_timers - n_timers < MAX_TIMERS_PER_S
    n_reconnects = len(shell.reconnects)
    shell.wait(60.0)

    assert not shell.pending
    assert not shell.open
    assert len(shell.reconnects) == n_reconnects


@given(WALKS)
def test_instructions_alone_do_not_make_a_storm_of_connections(steps: list[Step]) -> None:
    """However often they change, there is one new connection in fifteen seconds at most."""
    shell = new_shell()
    begin(shell)
    quiet = [step for step in steps if step not in REPLIES and step not in OUTPUTS]
    for step in quiet:
        step(shell)
        shell.perform(shell.call.instructions_changed(shell.now))
        shell.wait(0.6)
        shell.shake_hands()

    for earlier, later in itertools.pairwise(shell.reconnects):
        assert later - earlier >= INSTRUCTIONS_RECONNECT_EVERY_S - TOLERANCE_S


# ------------------------------------------------------------------------- a whole tool round


@dataclass(frozen=True)
class Round:
    """A tool round during which the user makes a sound."""

    tool_s: float
    """How long the tool takes."""
    sound_at_s: float
    """When the user makes the sound, from the call on."""
    sound_s: float
    """How long it is."""
    verdict_s: float
    """When the server decides about it, from its end on."""
    is_speech: bool
    """Whether the server takes it for speech, and answers."""
    tells_end: bool
    """Whether it says that the user has stopped."""
    latency_s: float
    """How long it takes to begin a response that was asked for."""
    keeps_request: bool
    """Whether it answers after the sound what was asked for before or during it."""
    ends_calling_response: bool
    """Whether it ends the response that called before it has the output."""


ROUNDS = st.builds(
    Round,
    tool_s=st.floats(0.01, 4.0),
    sound_at_s=st.floats(0.01, 5.0),
    sound_s=st.floats(0.05, 1.5),
    verdict_s=st.floats(0.0, 0.5),
    is_speech=st.booleans(),
    tells_end=st.booleans(),
    latency_s=st.floats(0.01, 1.0),
    keeps_request=st.booleans(),
    ends_calling_response=st.booleans(),
)


class Theatre:
    """A server, a user and LiveKit's framework, played in one round."""

    def __init__(self, played: Round) -> None:
        self.round = played
        self.shell = new_shell()
        begin(self.shell)
        self.told = 0
        """How many responses that know the output the user heard the beginning of."""
        self._has_output = False
        self._was_interrupted = False
        self._is_sounding = False
        self._requests: list[float] = []
        """When the server means to answer what it was asked for."""
        self._n_responses = itertools.count(1)
        self._n_seen = 0

    def play(self) -> None:
        """Play the round, and wait until everything has been said."""
        played = self.round
        self._says(server.created("r0"), server.audio("r0"), server.called("r0", "c1"))
        if played.ends_calling_response:
            self._says(server.done("r0"))
        sound_ends_at_s = played.sound_at_s + played.sound_s
        acts: list[tuple[float, Callable[[], None]]] = [
            (played.tool_s, self._tool_returns),
            (played.sound_at_s, self._sound_begins),
            (sound_ends_at_s, self._sound_ends),
            (sound_ends_at_s + played.verdict_s, self._server_decides),
        ]
        acts.sort(key=lambda act: act[0])
        began_at = self.shell.now
        for _ in range(3_000):
            while acts and began_at + acts[0][0] <= self.shell.now:
                acts.pop(0)[1]()
            self._serve()
            self.shell.wait(0.01)

    def _says(self, *events: ev.ServerEvent) -> None:
        for event in events:
            self.shell.receive(event)

    # the framework: after an interruption it posts outputs, and asks for nothing

    def _tool_returns(self) -> None:
        self._has_output = True
        self.shell.perform(session.post("c1").run(self.shell.call, self.shell.now))
        if not self._was_interrupted:
            self.shell.ask("")

    # the user

    def _sound_begins(self) -> None:
        self._is_sounding = True
        self._was_interrupted = True
        self._says(server.speech_started("u1"))
        self.shell.cancel()

    def _sound_ends(self) -> None:
        if self.round.tells_end:
            self._says(server.speech_stopped("u1"))

    # the server

    def _server_decides(self) -> None:
        self._is_sounding = False
        if self.round.is_speech:
            self._requests.clear()
            self._respond(is_answer=True)
        else:
            self._says(server.discarded("u1"))
            self._requests = [self.shell.now + self.round.latency_s for _ in self._requests]

    def _serve(self) -> None:
        """Take what was sent, and answer what is due."""
        new, self._n_seen = self.shell.sent[self._n_seen :], len(self.shell.sent)
        asked = [event for event in new if isinstance(event, ev.ResponseCreate)]
        self._requests += [self.shell.now + self.round.latency_s for _ in asked]
        if self._is_sounding and not self.round.keeps_request:
            self._requests.clear()
        while self._requests and not self._is_sounding and self._requests[0] <= self.shell.now:
            self._requests.pop(0)
            self._respond(is_answer=False)

    def _respond(self, *, is_answer: bool) -> None:
        name = f"r{next(self._n_responses)}"
        self._says(server.created(name))
        if name in self.shell.open and self._has_output and not (is_answer and self.told):
            self.told += 1
        self._says(server.audio(name), server.done(name))


@given(ROUNDS)
def test_a_sound_during_a_tool_neither_swallows_the_result_nor_doubles_it(played: Round) -> None:
    """The user hears the result once, whenever they cough or speak, and whatever the server does.

    The tool may return before, during or after the sound; the server may take the sound for
    speech and answer it, or discard it; it may forget a request that the sound interrupts, or
    answer it later.
    """
    theatre = Theatre(played)
    theatre.play()

    assert theatre.told == 1


# ------------------------------------------------------------------------- the first words


@dataclass(frozen=True)
class Opening:
    """The beginning of a call in which the user is silent."""

    greet: bool
    """Whether the model is to speak first by itself."""
    asks_at_s: float | None
    """When the application asks for its first words, if it does; 0.0 is `on_enter`."""
    instructions: str
    takes_requests: bool
    """Whether the server speaks on demand; otherwise it refuses."""
    takes_items: bool
    """Whether the server takes text items."""
    connect_s: float
    configure_s: float
    latency_s: float
    lost_at_s: float | None
    """When the connection is lost, if it is."""


OPENINGS = st.builds(
    Opening,
    greet=st.booleans(),
    asks_at_s=st.none() | st.just(0.0) | st.floats(0.0, 4.0),
    instructions=st.sampled_from(["", "Say hi."]),
    takes_requests=st.booleans(),
    takes_items=st.booleans(),
    connect_s=st.floats(0.0, 0.5),
    configure_s=st.floats(0.0, 0.3),
    latency_s=st.floats(0.05, 1.0),
    lost_at_s=st.none() | st.floats(0.0, 4.0),
)


class Premiere:
    """A server and an application, played through the beginning of a call."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.shell = new_shell(greet=opening.greet)
        self.n_spoken = 0
        """How many responses the user heard."""
        self._names = (f"r{n}" for n in itertools.count())
        self._due: list[tuple[float, Step]] = []
        self._n_seen = 0
        self._is_connecting = False

    def play(self) -> None:
        """Play for 15 s."""
        opening, shell = self.opening, self.shell
        began_at = shell.now
        shell.perform(shell.call.configurable(shell.now))
        asks_at = None if opening.asks_at_s is None else began_at + opening.asks_at_s
        lost_at = None if opening.lost_at_s is None else began_at + opening.lost_at_s
        for _ in range(1_500):
            if not shell.is_connected and not self._is_connecting:
                self._hang_up()
                self._is_connecting = True
                self._in(opening.connect_s, self._connect)
            if asks_at is not None and asks_at <= shell.now:
                asks_at = None
                shell.ask(opening.instructions)
            if lost_at is not None and lost_at <= shell.now:
                lost_at = None
                shell.lose()
                continue
            for step in [step for at, step in self._due if at <= shell.now]:
                if shell.is_connected or self._is_connecting:
                    step(shell)
            self._due = [(at, step) for at, step in self._due if at > shell.now]
            self._serve()
            shell.wait(0.01)

    def _in(self, delay_s: float, step: Step) -> None:
        self._due.append((self.shell.now + delay_s, step))

    def _connect(self, shell: Shell) -> None:
        self._is_connecting = False
        shell.connect()
        shell.receive(ev.SessionCreated())

    def _hang_up(self) -> None:
        self._due.clear()
        self._n_seen = 0

    def _serve(self) -> None:
        new, self._n_seen = self.shell.sent[self._n_seen :], len(self.shell.sent)
        for event in new:
            match event:
                case ev.SessionConfigure(session=body):
                    self._in(self.opening.configure_s, says(ev.SessionConfigured()))
                    if body.generate_initial_response:
                        self._speak_in(self.opening.configure_s + self.opening.latency_s)
                case ev.ConversationItemCreate() if not self.opening.takes_items:
                    self._refuse(event)
                case ev.ResponseCreate() if not self.opening.takes_requests:
                    self._refuse(event)
                case ev.ResponseCreate():
                    self._speak_in(self.opening.latency_s)

    def _refuse(self, event: ev.ClientEvent) -> None:
        self._in(0.02, says(server.error("invalid_frame", event_id=event.event_id)))

    def _speak_in(self, delay_s: float) -> None:
        name = next(self._names)

        def speak(shell: Shell) -> None:
            shell.receive(server.created(name))
            self.n_spoken += name in shell.open
            shell.receive(server.audio(name))
            shell.receive(server.done(name))

        self._in(delay_s, speak)


@given(OPENINGS)
def test_the_first_words_are_heard_once(opening: Opening) -> None:
    """However fast the network and whatever the server takes, nobody is greeted twice or not.

    A model that is to speak first does, once; a reply that is asked for before it has spoken is
    the same words; one that is asked for later is said as well, and once. Nothing is spoken where
    nobody asks, and a lost connection changes nothing of that.
    """
    premiere = Premiere(opening)
    premiere.play()

    n_asked = int(opening.asks_at_s is not None)
    assert not premiere.shell.pending
    assert premiere.n_spoken >= max(n_asked, int(opening.greet))
    assert premiere.n_spoken <= n_asked + int(opening.greet)
    if opening.asks_at_s == 0.0:
        assert premiere.n_spoken == 1


def test_the_shell_objects() -> None:
    """The witness is no yes-man: a response for nobody, and a stream closed twice, are seen."""
    shell = new_shell()
    begin(shell)

    with pytest.raises(KeyError):
        shell.see(fx.BeginResponse("r1", reply_id="g1"))
    with pytest.raises(KeyError):
        shell.see(fx.EndStreams("r9", cut=False))
    shell.user_speaks = True
    with pytest.raises(AssertionError):
        shell.see(fx.UserStarted("u1"))
