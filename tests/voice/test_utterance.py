"""The states of what the user says: what counts, and what the next server has to hear again."""

from __future__ import annotations

import pytest

from livekit_plugins_hydra.voice.utterance import STATES, Cause, State, Utterance, said_since


def utterance(state: State) -> Utterance:
    """Return an utterance in a state."""
    return Utterance("item", "item", began_at=0.0, place=(0.0, 1), state=state)


@pytest.mark.parametrize("state", State)
def test_every_state_is_one_that_an_utterance_comes_to(state: State) -> None:
    """It begins open, and each other state is the end of a transition."""
    assert state is State.OPEN or state in STATES.values()


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("cause", Cause)
def test_what_counts_goes_on_counting(state: State, cause: Cause) -> None:
    """A text that was told is never taken back."""
    moved = utterance(state)
    moved.move(cause)

    assert moved.counts or not utterance(state).counts


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("cause", [Cause.ANSWERED, Cause.LOST])
def test_no_audio_is_sent_twice_for_an_answer(state: State, cause: Cause) -> None:
    """A server that has answered, or is gone, owes no answer, whatever came before."""
    moved = utterance(state)
    moved.move(cause)

    assert not moved.is_owed


@pytest.mark.parametrize("state", State)
def test_what_is_kept_counts(state: State) -> None:
    """Once nothing can be taken back, the text is told, whatever came before."""
    moved = utterance(state)
    moved.move(Cause.KEPT)

    assert moved.counts


@pytest.mark.parametrize(
    ("known", "text", "new"),
    [
        ("", "Are you open?", "Are you open?"),
        ("Are you open?", "", ""),
        ("Are you open?", "are you open", ""),
        ("Are you open?", "Are you open? And is it free?", "And is it free?"),
        ("Are you open tonight?", "you open tonight? And free?", "And free?"),
        ("Are you open tonight?", "Are you open to night?", "night?"),
        ("Are you open tonight?", "Are you open this night? And free?", "night? And free?"),
        ("Are you open tonight?", "Are you", ""),
        ("Are you open tonight?", "Our you open tonight? Hello?", "Hello?"),
        (
            "Are you open?",
            "What does it cost, if you are open?",
            "What does it cost, if you are open?",
        ),
        ("Are you open?", "Hello?", "Hello?"),
        ("\u4f60\u597d", "\u4f60\u597d", ""),
        ("...", "?!", ""),
    ],
)
def test_only_new_words_are_told_of_what_is_heard_again(known: str, text: str, new: str) -> None:
    """The same speech may be heard from a later word on, a little differently, and with more."""
    assert said_since(known, text) == new
