"""Whole calls through a bad network, each judged by all promises; in virtual time.

`sh tests/run.sh soak` holds 500 of the random ones. What they found has a name here.
"""

from __future__ import annotations

from functools import partial

import pytest

from . import clock
from .promises import broken
from .storm import DEAD, HARD, SOFT, TRIGGERS, Fault, Plan, a_call, hold

SEEDS = range(1, 13)


def judge(plan: Plan) -> None:
    """Hold a call; it keeps every promise."""
    evidence = clock.run(partial(hold, plan), seed=plan.seed)

    assert broken(evidence) == {}, f"{plan}\nfaults: {evidence.faults}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_call_keeps_every_promise(seed: int) -> None:
    """Random faults at random moments, against a server with random switches."""
    judge(Plan.random(seed))


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


def test_a_loss_in_a_loss_is_survived() -> None:
    """Two resets and a busy server in a row, with a question in the middle."""
    plan = a_call("ask", "tool", fault="reset", at="input_audio_buffer.speech_started")
    faults = (
        *plan.faults,
        Fault("reset", "session.configured", nth=2, after_s=0.2, size=0.5),
        Fault("busy", "session.configured", nth=3, after_s=0.2, size=0.5),
    )
    judge(Plan(**(vars(plan) | {"faults": faults})))
