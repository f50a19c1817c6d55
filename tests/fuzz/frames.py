"""A hostile server without a socket: whatever it sends, the codec and the core stay sane.

The only exception that a frame may cost is `RemoteProtocolError`. What is kept of frames is
bounded, however many come.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Final

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import wire
from livekit_plugins_hydra.protocol.call import Call
from livekit_plugins_hydra.protocol.errors import RemoteProtocolError
from livekit_plugins_hydra.protocol.states import Handshake
from tests import server_says as server

_SOME: Final = ("a", "b", "c", "", None, "r\u2028\x00", "\ud83d\ude00" * 40)

_SEEDS: Final[tuple[ev.ServerEvent, ...]] = (
    ev.SessionCreated(session_id="s"),
    ev.SessionConfigured(session=ev.ServerSession(output_audio_sample_rate=24_000)),
    ev.SessionUpdated(session=ev.ServerSession()),
    ev.Warning(code="model_deprecated"),
    server.error("internal_error", "oops"),
    server.error("tool_response_timeout"),
    *[server.speech_started(each) for each in _SOME[:5]],
    *[server.speech_stopped(each) for each in _SOME[:5]],
    *[server.discarded(each) for each in _SOME[:5]],
    *[server.heard(each, "words") for each in _SOME[:5]],
    *[
        event
        for each in ("r1", "r2", "r3", "", "r" * 300)
        for event in (
            server.created(each),
            server.audio(each, b"\0\1" * 60),
            server.audio(each, b"\0"),
            server.text(each, "phrase"),
            server.arguments(each, f"c{each}", "{", "look"),
            server.called(each, f"c{each}"),
            server.done(each),
            server.done(each, "cancelled"),
            server.done(each, "failed", output=[server.call_item("c9")]),
        )
    ],
    server.audio(None),
    server.text(None, "phrase"),
    server.spoken("a1", "words"),
    server.item_done(server.call_item("c4")),
)

CORPUS: Final = tuple(wire.encode(event) for event in _SEEDS)
"""Good frames of all types, with ids that meet."""

_SPLICES: Final = (
    b"null",
    b"-1e999",
    b"18446744073709551616",
    b'"\\ud800"',
    b"[[[[[[[[",
    b"{}",
    b"\xff\xfe",
    b"\x00",
    b'"' + b"A" * 5_000 + b'"',
    b'"response.created"',
    b'"type":"response.done",',
    b"\\",
)


def frames(seed: int) -> Iterator[bytes]:
    """Yield frames without end: good ones, damaged ones and nonsense."""
    dice = random.Random(seed)
    while True:
        frame = bytearray(dice.choice(CORPUS))
        damage = dice.random()
        if damage < 0.5:
            for _ in range(dice.randint(1, 4)):
                _damage(frame, dice)
        elif damage < 0.52:
            frame = bytearray(dice.randbytes(dice.randint(0, 80)))
        yield bytes(frame)


def _damage(frame: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(frame) + 1)
    match dice.randrange(5):
        case 0 if frame:
            frame[at % len(frame)] = dice.randrange(256)
        case 1:
            del frame[at : at + dice.randint(1, 30)]
        case 2:
            frame[at:at] = dice.choice(_SPLICES)
        case 3:
            other = dice.choice(CORPUS)
            frame[at:] = other[dice.randrange(len(other)) :]
        case _:
            frame[at:at] = frame[at : at + 40]


class Victim:
    """A call that takes whatever comes, on one connection after another."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: Counter[str] = Counter()
        """What the frames came to."""
        self._call = Call(new_event_id=lambda: "cl")
        self._timers: dict[str, float] = {}
        self._perform(self._call.configurable(0.0))
        self._connect()

    def take(self, frame: bytes) -> None:
        """Take a frame as the connection does; raises nothing."""
        self.now += 0.003
        self._run_timers()
        try:
            event = wire.decode(frame)
        except RemoteProtocolError:
            self.seen["refused"] += 1
            return
        self.seen[type(event).__name__] += 1
        self._perform(self._call.receive(event, self.now))
        if self.seen.total() % 500 == 0:
            self._perform(self._call.lose(self.now))
            self._connect()

    def _connect(self) -> None:
        self._perform(self._call.open())
        self._perform(self._call.receive(ev.SessionCreated(session_id="s"), self.now))
        for name in [name for name in self._timers if name == "greeting_window"]:
            self._timers[name] = self.now
        self._run_timers()
        self._perform(
            self._call.receive(ev.SessionConfigured(session=ev.ServerSession()), self.now)
        )

    def _run_timers(self) -> None:
        for name in [name for name, at in self._timers.items() if at <= self.now]:
            if self._timers.pop(name, None) is not None:
                self._perform(self._call.timer(name, self.now))

    def _perform(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            match effect:
                case fx.Compose(greet=greet):
                    body = ev.ClientSession(generate_initial_response=greet)
                    self._perform(self._call.configure(body, self.now))
                case fx.CallFunction(call_id=call_id):
                    post = self._call.post_output(call_id, "42", as_text="42", now=self.now)
                    self._perform(post)
                case fx.StartTimer(name=name, delay_s=delay_s):
                    self._timers[name] = self.now + delay_s
                case fx.CancelTimer(name=name):
                    self._timers.pop(name, None)
                case fx.Send(event=event):
                    wire.encode(event)
                case fx.Reconnect():
                    self._connect()
                case fx.Fault(fatal=True) if self._call.conversation.handshake is Handshake.READY:
                    self._perform(self._call.lose(self.now))
                    self._connect()


def fuzz(n_frames: int, seed: int) -> Counter[str]:
    """Play so many frames to a call; return what they came to.

    Raises:
        Exception: any that is not documented; it names the frame.
    """
    victim = Victim()
    for number, frame in enumerate(frames(seed)):
        if number == n_frames:
            break
        try:
            victim.take(frame)
        except Exception as error:
            error.add_note(f"seed {seed}, frame {number}: {frame!r}")
            raise
    return victim.seen
