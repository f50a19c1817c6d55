"""The text of the agent's messages, in whatever pieces the server sends it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from livekit.agents import Agent

from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import Say, Scenario
from livekit_plugins_hydra.voice.transcript import SEAMS, Spacing, Transcript
from tests import server_says as server
from tests.calls import Captions, Desk, call, told, tone
from tests.direct import Line, hear, line

PCM = base64.b64encode(bytes(960)).decode()
TOKENS = ["Met", "amorph", "osis", " is", " a", " long", "-ish", " word", "."]
TRUE = "Metamorphosis is a long-ish word."
PIECES = ["Room twenty", "is over", "there on", "the left."]
WHOLE = "Room 20 is over there, on the left."


def written(*pieces: str, spacing: Spacing | None = None) -> tuple[str, str]:
    """Return the text of pieces, and what was taken of it while they came."""
    transcript = Transcript(spacing or Spacing())
    taken = ""
    for piece in pieces:
        transcript.push(piece)
        taken += transcript.take()
    return transcript.text, taken


# ------------------------------------------------------------------------------- the spaces


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (TOKENS, TRUE),
        (["Hello", " there", ", you", "."], "Hello there, you."),
        (["Hello ", "there, ", "you."], "Hello there, you."),
        (["I am look", "ing for", " you."], "I am looking for you."),
        (["Hi!", "How can I", "help you today?"], "Hi! How can I help you today?"),
        (["Yes.", "No."], "Yes. No."),
        (["Yes.", " ", "No."], "Yes. No."),
        ([" Yes. "], "Yes."),
    ],
)
def test_pieces_are_joined_as_they_were_cut(pieces: list[str], text: str) -> None:
    """Where one has white space at an end, they bring their spaces; else spaces are put between."""
    transcript = Transcript(Spacing())
    taken = ""
    for piece in pieces:
        transcript.push(piece)
        taken += transcript.take()
    transcript.close()

    assert transcript.text == text
    assert taken + transcript.take() == text


def test_what_is_not_sure_is_not_taken() -> None:
    """LiveKit can't take a piece back, so it gets the second one when its place is known."""
    transcript = Transcript(Spacing())
    taken = []
    for piece in TOKENS[:5]:
        transcript.push(piece)
        taken.append(transcript.take())

    assert taken == ["Met", "", "", "amorphosis is", " a"]


def test_phrases_without_spaces_are_soon_taken_as_they_come() -> None:
    """Several words at a time and never a space: after a few seams nothing waits any more."""
    spacing = Spacing()
    phrases = ["Good morning.", "This is", "the museum", "in the", "old town."]

    text, taken = written(*phrases[: SEAMS + 1], spacing=spacing)
    assert text == taken == "Good morning. This is the museum in the"
    assert written("How are", "you?", spacing=spacing) == ("How are you?", "How are you?")


@pytest.mark.parametrize("known", [["One two", "three four", "five six", "seven"], ["One"]])
def test_white_space_rules_for_the_rest_of_the_call(known: list[str]) -> None:
    """Once a piece has brought it, the pieces of all later messages are joined as they come."""
    spacing = Spacing()
    written(*known, spacing=spacing)
    written("Yes", " sir.", spacing=spacing)

    assert written("Un", "believ", "able", spacing=spacing) == ("Unbelievable", "Unbelievable")


# --------------------------------------------------------------------------- the whole text


def test_a_whole_text_takes_the_place_of_its_pieces() -> None:
    """What was taken of them is not taken again."""
    transcript = Transcript(Spacing())
    for piece in ("Met", "amorph", "osis."):
        transcript.push(piece)
    assert transcript.take() == "Met"
    transcript.settle("Metamorphosis.")

    assert transcript.text == "Metamorphosis."
    assert transcript.take() == "amorphosis."


def test_a_whole_text_is_right_where_the_pieces_were_wrong() -> None:
    """What was taken stays as it is; what comes later is taken as ever."""
    transcript = Transcript(Spacing())
    for piece in ("Room twenty", "is over", "there on", "the left."):
        transcript.push(piece)
    assert transcript.take() == "Room twenty is over there on the left."
    transcript.settle("Room 20 is over there, on the left.")

    assert transcript.text == "Room 20 is over there, on the left."
    assert transcript.take() == ""
    transcript.push("Good bye.")
    assert transcript.text == "Room 20 is over there, on the left. Good bye."
    assert transcript.take() == " Good bye."


def test_a_whole_text_of_two_items_is_that_of_both() -> None:
    """Items without ids share a message; a whole text that is repeated is none."""
    transcript = Transcript(Spacing())
    for _ in range(2):
        transcript.settle("One moment.")
    transcript.push("Here it")
    transcript.settle("Here it is.")

    assert transcript.text == transcript.take() == "One moment. Here it is."


# -------------------------------------------------------------------------------- in calls


async def say(opened: Line, *said: str, whole: str = "") -> str:
    """Let the server say something in pieces, and return the text that LiveKit reads."""
    await opened.session._update_session(instructions="")
    await opened.ready()
    opened.server.send(server.created("r1"))
    for piece in said:
        opened.server.send(server.audio("r1", bytes(960)))
        opened.server.send(server.text("r1", piece))
    if whole:
        opened.server.send(server.transcript("r1", whole))
    opened.server.send(server.done("r1"))
    (heard,) = await hear(await opened.generation())
    return heard.text


@pytest.mark.parametrize("whole", ["", TRUE])
async def test_parts_of_words_are_put_together(whole: str) -> None:
    """With or without the whole text behind them: LiveKit and the session's history have words."""
    async with line() as opened:
        assert await say(opened, *TOKENS, whole=whole) == TRUE
        assert told(opened.session.chat_ctx) == [("assistant", TRUE)]


async def test_a_text_that_comes_as_a_whole_alone_is_shown() -> None:
    """No piece at all, but the text of the item: that is what was said."""
    async with line() as opened:
        assert await say(opened, "", whole=TRUE) == TRUE
        assert told(opened.session.chat_ctx) == [("assistant", TRUE)]


async def test_the_whole_text_is_what_a_reconnect_replays() -> None:
    """LiveKit has read something else by then; the session's history has the truth."""
    async with line() as opened:
        assert await say(opened, *PIECES, whole=WHOLE) == " ".join(PIECES)
        assert told(opened.session.chat_ctx) == [("assistant", WHOLE)]


WORDS = "Uninterrupted conversations, however long-winded, are remembered word-for-word."


@pytest.mark.parametrize("deltas", ["phrases", "spaced_phrases", "tokens"])
async def test_both_histories_have_the_words_that_the_server_says(deltas: str) -> None:
    """A whole call, with captions: however the text is cut, no word is torn."""
    scenario = Scenario(
        replies=[Say(duration_s=1.5, text=WORDS), Say(duration_s=0.5, text="Unbelievable!")],
        transcripts=True,
        transcript_deltas=deltas,  # type: ignore[arg-type]  # mypy takes it for any string
    )
    captions = Captions()
    async with call(scenario, Agent(instructions=""), captions=captions) as desk:
        for count in (1, 2):
            await desk.say(tone(0.6))
            await desk.until_heard(count)
            await desk.until(lambda n=count: len(desk.told) == n)  # type: ignore[misc]

        assert desk.told == [("assistant", WORDS), ("assistant", "Unbelievable!")]
        assert desk.remembered == desk.told
        assert captions.lines == [WORDS, "Unbelievable!"]


@asynccontextmanager
async def told_otherwise(audio_s: float, captions: Captions | None) -> AsyncIterator[Desk]:
    """Hold a call whose server corrects what it has said in pieces, once LiveKit has read them."""
    async with call(Scenario(), Agent(instructions=""), captions=captions) as desk:
        await desk.server.wait_for(ev.SessionConfigured)
        desk.server.send(server.created("r1"))
        for piece in PIECES:
            desk.server.send(server.audio("r1", tone(audio_s / len(PIECES)).tobytes()))
            desk.server.send(server.text("r1", piece))
        await desk.until_state("speaking")
        desk.server.send(server.transcript("r1", WHOLE))
        desk.server.send(server.done("r1"))
        yield desk


async def take_note(desk: Desk) -> None:
    """Add a message to the agent's context, as applications do."""
    agent = desk.session.current_agent
    noted = agent.chat_ctx.copy()
    noted.add_message(role="user", content="It rains.")
    await agent.update_chat_ctx(noted)


@pytest.mark.parametrize("has_captions", [False, True])
async def test_what_livekit_has_read_is_no_edit_of_the_whole_text(has_captions: bool) -> None:
    """The agent gives its context back with a note in it; what was said stays what it was."""
    async with told_otherwise(0.4, Captions() if has_captions else None) as desk:
        await desk.until_heard(1)
        await desk.until(lambda: desk.told)
        assert desk.told == [("assistant", " ".join(PIECES))]
        await take_note(desk)

        assert desk.remembered == [("assistant", WHOLE), ("user", "It rains.")]


@pytest.mark.parametrize("has_captions", [False, True])
async def test_of_a_whole_text_that_was_cut_the_beginning_is_remembered(has_captions: bool) -> None:
    """LiveKit says how much it has played in the words that it has read, which are others."""
    async with told_otherwise(4.0, Captions() if has_captions else None) as desk:
        await asyncio.sleep(1.6)
        desk.server.send(server.speech_started("u1"))
        await desk.until_heard(1)
        desk.server.send(server.speech_stopped("u1"))
        desk.server.send(server.heard("u1"))
        await desk.until(lambda: desk.told)
        ((_, text),) = desk.remembered
        assert text in ("Room 20 is", "Room 20 is over")
        await take_note(desk)

        assert desk.remembered == [("assistant", text), ("user", "It rains.")]


@pytest.mark.parametrize("has_captions", [False, True])
async def test_after_a_cough_a_whole_text_goes_on_where_it_was(has_captions: bool) -> None:
    """What was played before is not said to be in the rest."""
    async with told_otherwise(4.0, Captions() if has_captions else None) as desk:
        await asyncio.sleep(1.6)
        desk.server.send(server.speech_started("u1"))
        await desk.until_heard(1)
        desk.server.send(server.discarded("u1"))
        await desk.until_heard(2)
        await desk.until(lambda: len(desk.told) == 2)

        begin, end = (text for _, text in desk.remembered)
        assert f"{begin} {end}" == WHOLE
