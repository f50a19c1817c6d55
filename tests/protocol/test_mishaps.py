"""What went wrong in sequences that somebody thought of who wanted the core to fail."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.call import GREETING_WINDOW_S, Call
from livekit_plugins_hydra.protocol.ceiling import CEILING_BYTES, SPARE_BYTES, SUSPECT_BYTES
from livekit_plugins_hydra.protocol.demand import REPLY_DEADLINE_S, REPLY_LIMIT_S
from livekit_plugins_hydra.protocol.states import Turn
from tests import server_says as server
from tests import session_wants as session
from tests.transcript import Stage, Step, after

HEAVY = "p" * SUSPECT_BYTES
FAILED = server.done(
    "r1", "failed", details=ev.StatusDetails(error=ev.ErrorBody(code="internal_error"))
)


class Player:
    """Plays a call, and answers each `Compose` with a persona."""

    def __init__(self, persona: str = "Be kind.", **options: Any) -> None:
        ids = (f"cl_{n}" for n in itertools.count())
        self.call = Call(new_event_id=lambda: next(ids), **options)
        self.persona = persona
        self.effects: list[fx.Effect] = []
        self._stage = Stage(self.call)

    def play(self, *steps: Step[Call]) -> list[fx.Effect]:
        """Let things happen; return what followed from them."""
        n_before = len(self.effects)
        for step in steps:
            waiting = self._stage.perform(step)
            while waiting:
                effect = waiting.pop(0)
                self.effects.append(effect)
                if isinstance(effect, fx.Compose):
                    body = ev.ClientSession(
                        instructions=self.persona, generate_initial_response=effect.greet
                    )
                    waiting += self._stage.perform(session.configure_with(body))
        return self.effects[n_before:]

    def connect(self) -> list[fx.Effect]:
        """Let a connection be made."""
        return self.play(session.open_socket(), ev.SessionCreated(), ev.SessionConfigured())

    def ask(self, user: str = "u1") -> list[fx.Effect]:
        """Let the user ask something."""
        return self.play(server.speech_started(user), server.speech_stopped(user))


def ready(persona: str = "Be kind.") -> Player:
    """Return a call that is ready."""
    player = Player(persona)
    player.play(session.configurable(), after(GREETING_WINDOW_S))
    player.connect()
    return player


def talked(persona: str = "Be kind.") -> Player:
    """Return a quiet call in which something was said."""
    player = ready(persona)
    player.ask()
    player.play(server.created("r0"), server.audio("r0"), server.done("r0"))
    return player


def has(effects: list[fx.Effect], kind: type[fx.Effect]) -> bool:
    """Return whether there is an effect of a kind."""
    return any(isinstance(effect, kind) for effect in effects)


def requests(effects: list[fx.Effect]) -> int:
    """Return how often a response was asked for."""
    sent = [effect.event for effect in effects if isinstance(effect, fx.Send)]
    return sum(isinstance(event, ev.ResponseCreate) for event in sent)


def test_a_transcript_without_audio_is_no_answer() -> None:
    """Above the ceiling the words may come, and the sound may not: the question is kept."""
    player = ready(HEAVY)
    player.ask()
    effects = player.play(server.created("r1"), server.text("r1", "It is four."), server.done("r1"))

    assert has(effects, fx.Reconnect)
    assert not has(effects, fx.UserAnswered)


def test_a_late_end_of_an_older_silent_response_leaves_the_newest_alone() -> None:
    """What speaks now goes on."""
    player = ready(HEAVY)
    player.ask()
    player.play(server.created("r1"), server.created("r2"), server.audio("r2"))

    assert not has(player.play(server.done("r1")), fx.Reconnect)


@pytest.mark.parametrize("how", ["interrupted", "given up"])
def test_a_silent_response_that_nobody_wanted_is_not_made_up_for(how: str) -> None:
    """It was cut before its first audio, by the application."""
    player = talked(HEAVY)
    player.play(session.reply("g1", "Say the offer."))
    if how == "interrupted":
        player.play(server.created("r1"), session.interrupt())
    else:
        player.play(session.cancel("g1"), server.created("r1"))

    assert not has(player.play(server.done("r1")), fx.Reconnect)


@pytest.mark.parametrize("persona_bytes", [CEILING_BYTES + 500, CEILING_BYTES - SPARE_BYTES + 500])
def test_a_persona_that_fills_the_ceiling_makes_no_storm_of_connections(persona_bytes: int) -> None:
    """Another connection would hold as much."""
    player = talked("p" * persona_bytes)
    for n in range(10):
        player.play(session.note("x" * 3_000))
        player.ask(f"u{n}")
        player.play(server.created(f"r{n + 1}"), server.audio(f"r{n + 1}"))
        player.play(server.done(f"r{n + 1}"), after(20.0))

    assert not has(player.effects, fx.Reconnect)


def test_a_greeting_outlives_the_limit_that_ends_within_the_handshake() -> None:
    """It was asked for by the configuration, so it comes, and is not cancelled."""
    player = Player()
    player.play(session.configurable(), session.reply("g1", "Greet Ada."))
    player.play(after(REPLY_LIMIT_S - 5.0), session.open_socket(), ev.SessionCreated())
    player.play(after(6.0), ev.SessionConfigured())
    effects = player.play(server.created("r1"), server.audio("r1"))

    assert has(effects, fx.OutputAudio)


@pytest.mark.parametrize("is_reply", [False, True])
def test_a_response_that_fails_before_its_first_audio_is_made_up_for(is_reply: bool) -> None:
    """The pages say to reconnect once; the question is kept, or the reply is owed again."""
    player = talked()
    if is_reply:
        player.play(session.reply("g1"))
    else:
        player.ask("u2")
    effects = player.play(server.created("r1"), FAILED)

    assert has(effects, fx.Reconnect)
    assert not has(effects, fx.UserAnswered)
    greets = [each.greet for each in player.connect() if isinstance(each, fx.Compose)]
    assert greets == [is_reply]


def test_a_failure_inside_the_server_is_not_waited_out_by_a_reply() -> None:
    """Nobody spoke, but a reply was asked for."""
    player = talked()
    player.play(server.created("r1"), server.called("r1", "c1"), after(0.3))
    player.play(session.post("c1"), session.reply("g1"))

    assert has(player.play(server.error("internal_error")), fx.Reconnect)


def test_an_adopted_answer_that_is_silent_is_heard_again_and_not_greeted_over() -> None:
    """The response was the answer to the user, whatever reply it stood for as well."""
    player = talked(HEAVY)
    player.play(server.speech_started("u2"), session.reply("g1"), server.speech_stopped("u2"))
    player.play(server.created("r1"), server.done("r1"))
    composed = [each for each in player.connect() if isinstance(each, fx.Compose)]

    assert [each.greet for each in composed] == [False]
    begun = player.play(server.speech_started("u1"), server.created("r2"), server.audio("r2"))
    assert has(begun, fx.OutputAudio)


def test_a_result_that_a_silent_server_was_to_tell_by_itself_is_told() -> None:
    """A server that narrates without being asked may fall silent at that."""
    player = ready(HEAVY)
    player.ask()
    player.play(server.created("r1"), server.audio("r1"), server.called("r1", "c1"), after(0.3))
    player.play(session.post("c1"), server.created("r2"), server.done("r2"))
    composed = [each for each in player.connect() if isinstance(each, fx.Compose)]

    assert [each.greet for each in composed] == [True]


def test_the_time_of_a_reply_does_not_run_while_a_response_is_in_flight() -> None:
    """It could not be asked for."""
    player = ready()
    player.ask()
    player.play(server.created("r1"), server.audio("r1"), session.reply("g1", "Say bye."))
    for _ in range(int(REPLY_DEADLINE_S) + 2):
        player.play(after(1.0), server.audio("r1"))

    assert not has(player.effects, fx.ReplyFailed)


def test_silence_is_noticed_after_somebody_has_spoken_over_it() -> None:
    """A cough at the moment at which silence is looked for does not end the looking."""
    player = Player(knows_user_text=True, knows_agent_text=True)
    player.play(session.configurable(), after(GREETING_WINDOW_S))
    player.connect()
    player.ask()
    player.play(server.created("r0"), server.audio("r0"), server.done("r0"))
    player.play(session.reply("g1"), after(4.9), server.speech_started("u2"), after(1.0))
    effects = player.play(server.discarded("u2"), after(6.0))

    assert player.call.conversation.turn is Turn.QUIET
    assert has(effects, fx.Reconnect)


def test_a_budget_that_silence_has_taught_never_grows() -> None:
    """Half of what was too much may still be more than the budget was."""
    player = ready("p" * 60_000)
    player.ask()
    player.play(server.created("r1"), server.done("r1"))
    budgets = [each.budget_bytes for each in player.connect() if isinstance(each, fx.Compose)]

    assert budgets == [CEILING_BYTES - SPARE_BYTES]


def test_what_an_older_response_ends_does_not_end_the_newest() -> None:
    """Its item has an id; a response that goes on after a pause is not over."""
    player = ready()
    player.ask()
    player.play(server.created("r1"), server.audio("r1", item_id="a1"))
    player.ask("u2")
    player.play(server.created("r2"), server.spoken("a1", status="incomplete"))
    player.play(server.audio("r2", item_id="a2"))
    player.play(ev.ResponseOutputAudioDone(response_id="r2", item_id="a2"), after(1.5))

    assert not has(player.play(after(1.5)), fx.EndStreams)
