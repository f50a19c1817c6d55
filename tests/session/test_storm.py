"""Whole calls through a bad network, each judged by all promises; in virtual time.

`sh tests/run.sh soak` holds 500 of the random ones. What they found has a name here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from tests import clock
from tests.promises import broken
from tests.storm import DEAD, HALTING, HARD, SOFT, TRIGGERS, Fault, Plan, a_call, hold

SEEDS = range(1, 13)


def judge(plan: Plan) -> None:
    """Hold a call; it keeps every promise."""
    evidence = clock.run(partial(hold, plan), seed=plan.seed)

    assert broken(evidence) == {}, f"{plan}\nfaults: {evidence.faults}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_call_keeps_every_promise(seed: int) -> None:
    """Random faults at random moments, against a server with random switches."""
    judge(Plan.random(seed))


@pytest.mark.parametrize("seed", [*range(3, 13), 26, 159, 168, 177])
def test_who_pauses_and_who_waits_for_long_is_served(seed: int) -> None:
    """Sentences with pauses and slow tools, in random calls with random faults."""
    judge(Plan.random(seed, HALTING))


@pytest.mark.parametrize("kind", [*HARD, *SOFT, *DEAD])
def test_each_fault_in_mid_answer_is_survived(kind: str) -> None:
    """Every kind of fault while the answer is on its way: the call goes on."""
    judge(a_call("ask", "tool", fault=kind, at="response.output_audio.delta"))


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_loss_at_each_frame_is_survived(trigger: str) -> None:
    """The connection breaks right after any kind of frame: the call goes on."""
    judge(a_call("ask", "tool", "ask", fault="reset", at=trigger))


def test_a_function_called_just_before_a_loss_runs_once() -> None:
    """The question that led to a call is not asked again: the call was its answer."""
    judge(
        a_call(
            "tool",
            fault="reset",
            at="response.function_call_arguments.done",
            after_s=0.05,
            switches=("calling_done_after_outputs",),
        )
    )


def test_a_link_that_dies_young_is_noticed() -> None:
    """A link that vanishes before its first five seconds are over is given up all the same."""
    judge(a_call("ask", fault="vanish", at="session.configured", after_s=0.05))


def test_words_said_into_a_dead_link_are_answered() -> None:
    """A question asked long before the link is known to be dead is sent again on the next."""
    judge(a_call("ask", fault="vanish", at="input_audio_buffer.speech_started"))


def test_words_before_a_mute_on_a_dead_link_are_answered() -> None:
    """The same with the microphone off since: silence follows what is sent again."""
    judge(a_call("mute", fault="vanish", at="input_audio_buffer.speech_started"))


def test_a_result_that_was_asked_for_on_a_dead_link_is_told() -> None:
    """A reply gives up after 10 s; what a function returned is told when the link is back."""
    judge(a_call("tool", fault="vanish", at="conversation.item.create"))


def test_a_result_that_comes_later_than_a_reply_may_is_told() -> None:
    """The network stands still for more than 10 s, and then brings the response: it is welcome."""
    judge(
        replace(
            a_call("tool"),
            faults=(Fault("long_stall", "response.create", nth=1, after_s=0.0, size=0.6),),
        )
    )


def test_a_result_that_was_lost_before_its_first_audio_is_told() -> None:
    """A reply that has begun and was not played yet when the connection breaks is asked for again.

    The framework takes it for said.
    """
    judge(a_call("tool", fault="cut", at="response.create"))


def test_a_result_from_an_outage_longer_than_a_reply_may_take_is_told() -> None:
    """A function returns while no connection can be made for more than 10 s."""
    judge(a_call("tool", fault="vanish", at="response.function_call_arguments.done", after_s=0.3))


def test_a_loss_in_a_loss_is_survived() -> None:
    """Two resets and a busy server in a row, with a question in the middle."""
    plan = a_call("ask", "tool", fault="reset", at="input_audio_buffer.speech_started")
    faults = (
        *plan.faults,
        Fault("reset", "session.configured", nth=2, after_s=0.2, size=0.5),
        Fault("busy", "session.configured", nth=3, after_s=0.2, size=0.5),
    )
    judge(replace(plan, faults=faults))
