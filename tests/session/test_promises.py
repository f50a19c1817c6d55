"""Each promise can be broken: a session with one deliberate fault does it, and is found out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import pytest

import livekit_plugins_hydra.session as session_module
from livekit_plugins_hydra.options import Options
from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.backoff import Recovery
from livekit_plugins_hydra.protocol.call import Call
from livekit_plugins_hydra.protocol.conversation import Conversation
from livekit_plugins_hydra.transport import connecting, keeper
from livekit_plugins_hydra.transport.connection import Connection
from livekit_plugins_hydra.voice.audio import Uplink
from livekit_plugins_hydra.voice.listening import Listening
from tests import clock
from tests.promises import PROMISES, broken
from tests.storm import Plan, a_call, hold

Break = Callable[[pytest.MonkeyPatch], None]


def never_reconnects(patch: pytest.MonkeyPatch) -> None:
    """Lose the call by waiting."""
    patch.setattr(Recovery, "failed", lambda *_: 3600.0)


def gives_up_at_once(patch: pytest.MonkeyPatch) -> None:
    """Lose the call at the first fault."""
    patch.setattr(Recovery, "failed", lambda *_: None)


def reconnects_without_pause(patch: pytest.MonkeyPatch) -> None:
    """Storm a server that is away."""
    patch.setattr(Recovery, "failed", lambda *_: 0.05)


def forgets_that_it_was_answered(patch: pytest.MonkeyPatch) -> None:
    """Send each turn again."""
    patch.setattr(Listening, "turn_answered", lambda _: None)


def does_not_hear_interruptions(patch: pytest.MonkeyPatch) -> None:
    """Speak on while the user speaks."""
    receive = Call.receive

    def deaf(call: Call, event: Any, *moment: float) -> list[fx.Effect]:
        is_cut = isinstance(event, ev.InputAudioBufferSpeechStarted)
        return [] if is_cut else receive(call, event, *moment)

    patch.setattr(Call, "receive", deaf)


def drops_foreign_outputs(patch: pytest.MonkeyPatch) -> None:
    """Forget what a function returns to the next connection."""
    monkey = Call.post_output

    def forgetful(call: Call, call_id: str, output: str, **rest: Any) -> list[fx.Effect]:
        known = call_id in call.conversation.open_calls
        return monkey(call, call_id, output if known else "", **rest)

    patch.setattr(Call, "post_output", forgetful)


def keeps_no_words(patch: pytest.MonkeyPatch) -> None:
    """Leave behind what was said on a connection that is lost."""
    stop = Uplink.stop
    patch.setattr(Uplink, "stop", lambda uplink, unheard=(): stop(uplink))


def never_says_that_the_user_stopped(patch: pytest.MonkeyPatch) -> None:
    """Leave the framework in the belief that the user speaks."""
    receive = Conversation.receive

    def stuck(conversation: Conversation, event: Any, now: float) -> list[fx.Effect]:
        effects = receive(conversation, event, now)
        return [effect for effect in effects if not isinstance(effect, fx.UserStopped)]

    patch.setattr(Conversation, "receive", stuck)


def does_not_close(patch: pytest.MonkeyPatch) -> None:
    """Go on after the end."""

    async def aclose(_: session_module.RealtimeSession) -> None:
        pass

    patch.setattr(session_module.RealtimeSession, "aclose", aclose)


def logs_the_key(patch: pytest.MonkeyPatch) -> None:
    """Tell the log how it connects."""

    async def connect(options: Options, *rest: Any, **named: Any) -> Connection:
        logging.getLogger("anything").debug("connecting with %s", options.api_key)
        return await connecting.connect(options, *rest, **named)

    patch.setattr(keeper, "connect", connect)


def sends_outputs_twice(patch: pytest.MonkeyPatch) -> None:
    """Break the protocol."""
    post = Conversation.post_output

    def doubled(conversation: Conversation, call_id: str, output: str) -> Sequence[fx.Effect]:
        return [*post(conversation, call_id, output)] * 2

    patch.setattr(Conversation, "post_output", doubled)


def raises(patch: pytest.MonkeyPatch) -> None:
    """Have a bug."""

    def raise_error(*_: object) -> None:
        raise AttributeError("a bug")

    patch.setattr(Listening, "turn_stopped", raise_error)


BROKEN: Final[dict[str, tuple[Break, Plan]]] = {
    "no_hang": (never_reconnects, a_call("ask", fault="reset", after_s=1.0)),
    "no_lost_call": (gives_up_at_once, a_call("ask", fault="reset", after_s=1.0)),
    "no_double_reply": (
        forgets_that_it_was_answered,
        a_call("ask", "pause", fault="reset", at="response.done", after_s=1.2),
    ),
    "no_stale_audio": (does_not_hear_interruptions, a_call("ask", "ask", "barge", "ask")),
    "no_lost_result": (
        drops_foreign_outputs,
        a_call("tool", fault="reset", at="response.function_call_arguments.done", after_s=0.5),
    ),
    "no_lost_words": (
        keeps_no_words,
        a_call("ask", fault="reset", at="input_audio_buffer.speech_started", after_s=0.3),
    ),
    "no_lost_half": (
        keeps_no_words,
        a_call("halt", fault="reset", at="input_audio_buffer.speech_stopped"),
    ),
    "no_double_words": (
        forgets_that_it_was_answered,
        a_call("ask", "pause", fault="reset", at="response.done", after_s=1.2),
    ),
    "right_states": (never_says_that_the_user_stopped, a_call("ask")),
    "no_leak": (does_not_close, a_call("ask")),
    "no_key": (logs_the_key, a_call("ask")),
    "bounded_dials": (reconnects_without_pause, a_call("pause", fault="outage", after_s=0.5)),
    "kept_protocol": (sends_outputs_twice, a_call("tool")),
    "no_bug": (raises, a_call("ask")),
}


@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_session_is_found_out(promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that the sound session survives breaks the promise with the broken one."""
    damage, plan = BROKEN[promise]
    assert broken(clock.run(partial(hold, plan))) == {}

    damage(monkeypatch)

    assert promise in broken(clock.run(partial(hold, plan)))


def test_every_promise_is_shown_to_break() -> None:
    """No promise is one that nothing can break."""
    assert set(BROKEN) == {promise.__name__ for promise in PROMISES}
