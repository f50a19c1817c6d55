"""The call's memory: what was said and heard, in whole calls, with text from either source."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import pytest
from livekit.agents import Agent, function_tool

from livekit_plugins_hydra.testing import Call, Say, Scenario
from tests.calls import COUGH, Captions, call, told, tone
from tests.recognisers import ToneSTT, Vocabulary

ASKED_HZ, THANKED_HZ = 300.0, 350.0
OPEN = Say(duration_s=1.2, tone_hz=600, text="The museum is open until six today, every day.")
ROOM = Say(duration_s=0.8, tone_hz=700, text="Room twelve is upstairs, on the left.")
ASKED = "When does the museum close tonight?"
THANKED = "Thank you very much, that is good."

USER = Vocabulary({ASKED_HZ: (ASKED, 0.8), THANKED_HZ: (THANKED, 0.6)})
AGENT = Vocabulary({say.tone_hz: (say.text or "", say.duration_s) for say in (OPEN, ROOM)})

WHOLE_TALK = [
    ("user", ASKED),
    ("assistant", OPEN.text),
    ("user", THANKED),
    ("assistant", ROOM.text),
]


def asking() -> Any:
    """The audio of a question."""
    return tone(0.8, hz=ASKED_HZ)


def thanking() -> Any:
    """The audio of thanks."""
    return tone(0.6, hz=THANKED_HZ)


def stts(streaming: bool = False, delay_s: float = 0.0) -> dict[str, Any]:
    """Return the options of a model that transcribes both sides."""
    return {
        "input_stt": ToneSTT(USER, streaming=streaming, delay_s=delay_s),
        "output_stt": ToneSTT(AGENT, streaming=streaming, delay_s=delay_s),
    }


class GatedSTT(ToneSTT):
    """Answers when it is let."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self.gate = asyncio.Event()

    async def _recognize_impl(self, *args: Any, **options: Any) -> Any:
        await self.gate.wait()
        return await super()._recognize_impl(*args, **options)


class CancelledSTT(ToneSTT):
    """Shares a task with others, and somebody has cancelled it."""

    async def _recognize_impl(self, *args: Any, **options: Any) -> Any:
        raise asyncio.CancelledError


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was warned of, but for the desk's loudspeaker, which can't pause."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "pause" not in record.getMessage()
    ]


# ----------------------------------------------------------------------- the sources of text


@pytest.mark.parametrize("source", ["the server", "streaming STTs", "STTs", "STTs that take 1 s"])
async def test_what_is_said_is_in_the_history_and_in_the_captions(
    source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever transcribes it, both histories have each turn once, in order; captions too."""
    scenario = Scenario(replies=[OPEN, ROOM])
    options: dict[str, Any] = {}
    match source:
        case "the server":
            said = iter([ASKED, THANKED])
            scenario = Scenario(
                replies=[OPEN, ROOM], transcripts=True, user_text=lambda _: next(said)
            )
        case "streaming STTs":
            options = stts(streaming=True)
        case "STTs":
            options = stts()
        case _:
            options = stts(delay_s=1.0)
    captions = Captions()
    async with call(scenario, Agent(instructions=""), captions=captions, **options) as desk:
        await desk.say(asking())
        await desk.until_heard(1)
        await desk.say(thanking())
        await desk.until_heard(2)
        await desk.until(lambda: len(desk.told) == 4)
        await desk.until_state("listening")

        assert desk.told == WHOLE_TALK
        assert desk.remembered == WHOLE_TALK
        assert [item.interrupted for item in desk.line.chat_ctx.messages()] == [False] * 4
        turns = [turn.item_id for turn in desk.server.connection.turns]
        assert [item.id for item in desk.session.history.messages()][::2] == turns
        added = [event.item.id for event in desk.of("conversation_item_added")]
        assert {item.id for item in desk.session.history.messages()} < set(added)
        if source != "STTs that take 1 s":
            assert captions.lines == [OPEN.text, ROOM.text]
            assert warnings(caplog) == []


async def test_without_text_the_call_works_and_one_warning_says_what_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No STT and no server text: the same call, an empty history, one warning in all."""
    async with call(Scenario(replies=[OPEN, ROOM]), Agent(instructions="")) as desk:
        await desk.say(asking())
        await desk.until_heard(1)
        await desk.say(thanking())
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert desk.heard_s == [OPEN.duration_s, ROOM.duration_s]
        assert desk.told == desk.remembered == []
        (warning,) = warnings(caplog)
        assert "output_stt=" in warning
        assert "input_stt=" in warning


# -------------------------------------------------------------------------- the user's words


async def test_the_users_words_are_told_before_the_answer_and_guessed_before_that() -> None:
    """Interim results while the user speaks; the final has the server's id and begins the turn."""
    async with call(Scenario(replies=[OPEN]), Agent(instructions=""), **stts(True)) as desk:
        await desk.say(asking())
        await desk.until_heard(1)
        await desk.until(lambda: len(desk.told) == 2)

        heard = desk.of("user_input_transcribed")
        *guesses, final = [event for event in heard if event.transcript]
        assert guesses
        assert not any(guess.is_final for guess in guesses)
        assert all(ASKED.startswith(guess.transcript) for guess in guesses)
        assert (final.transcript, final.is_final) == (ASKED, True)
        (turn,) = desk.server.connection.turns
        assert {event.item_id for event in heard if event.transcript} == {turn.item_id}
        question, answer = desk.session.history.messages()
        assert question.id == turn.item_id
        assert question.created_at < answer.created_at
        assert question.metrics["started_speaking_at"] == question.created_at


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_discarded_turn_leaves_no_message(streaming: bool) -> None:
    """A cough is in no history, whatever the STT makes of it; the turns around it are."""
    cough = tone(0.2, hz=THANKED_HZ)
    async with call(
        Scenario(replies=[OPEN, ROOM]), Agent(instructions=""), **stts(streaming)
    ) as desk:
        await desk.say(asking())
        await desk.until_heard(1)
        await desk.say(cough)
        await desk.until(lambda: desk.server.connection.discarded_turns)
        await desk.say(asking())
        await desk.until_heard(2)
        await desk.until(lambda: len(desk.told) == 4)

        said = [("user", ASKED), ("assistant", OPEN.text)]
        assert desk.told == [*said, ("user", ASKED), ("assistant", ROOM.text)]
        assert desk.remembered == desk.told


async def test_turns_that_follow_each_other_closely_share_no_words() -> None:
    """The audio before a turn is not that of the turn before, which has been transcribed."""
    scenario = Scenario(replies=[ROOM, OPEN], silence_ms=200)
    async with call(scenario, Agent(instructions=""), **stts()) as desk:
        await desk.say(asking())
        await desk.until(lambda: desk.server.connection.turns)
        await desk.say(thanking())
        await desk.until(lambda: len(desk.told) == 3)

        assert [text for role, text in desk.told if role == "user"] == [ASKED, THANKED]


async def test_the_servers_own_text_of_a_turn_wins() -> None:
    """Where the server transcribes the user, it knows best what it has understood."""
    scenario = Scenario(replies=[OPEN], user_text="When does the museum close?")
    for delay_s in (0.0, 1.0):
        async with call(scenario, Agent(instructions=""), **stts(delay_s=delay_s)) as desk:
            await desk.say(asking())
            await desk.until_heard(1)
            await desk.until(lambda: len(desk.told) == 2)

            assert desk.told[0] == ("user", "When does the museum close?")
            assert desk.remembered == desk.told
            finals = [event for event in desk.of("user_input_transcribed") if event.is_final]
            assert len(finals) == 1


async def test_a_turn_that_two_servers_hear_is_transcribed_once() -> None:
    """A connection that drops before the answer: the next server hears the turn again."""
    scenario = Scenario(replies=[OPEN], think_s=1.0)
    async with call(scenario, Agent(instructions=""), **stts()) as desk:
        await desk.say(asking())
        await desk.until(lambda: desk.server.connection.turns)
        desk.server.drop()
        await desk.until_heard(1)
        await desk.until(lambda: len(desk.told) == 2)

        assert len(desk.server.connections) == 2
        assert desk.told == desk.remembered == [("user", ASKED), ("assistant", OPEN.text)]


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_long_turn_that_a_drop_cuts_is_whole_in_both_histories(streaming: bool) -> None:
    """The next server hears its last 6 s; what came before is transcribed, no word twice."""
    spoken = [f"word{n}" for n in range(11)]
    words = {300.0 + 100 * n: (word, 1.0) for n, word in enumerate(spoken)}
    stt = ToneSTT(Vocabulary(words), streaming=streaming)
    async with call(Scenario(replies=[OPEN]), Agent(instructions=""), input_stt=stt) as desk:
        desk.microphone.say(np.concatenate([tone(1.0, hz=hz) for hz in words]))
        await desk.until(lambda: len(desk.microphone.heard) >= 10.0 / 0.05)
        desk.server.drop()
        await desk.until_heard(1)
        await desk.until(lambda: len(desk.told) == 2)

        for history in (desk.told, desk.remembered):
            first, second = [text.split() for role, text in history if role == "user"]
            told_words = [*first, *second]
            assert told_words == [word for word in spoken if word in told_words]
            assert len(told_words) >= len(spoken) - 1  # the cut may go through a word
            assert len(second) >= 6


# ------------------------------------------------------------------------- the agent's words


class Reception(Agent):
    """Connects with a clerk, and tells the clerk what was said."""

    @function_tool
    async def connect(self) -> Agent:
        """Connect."""
        return Agent(instructions="You are the clerk.", chat_ctx=self.chat_ctx)


class Weather(Agent):
    """Knows the weather."""

    def __init__(self) -> None:
        super().__init__(instructions="")

    @function_tool
    async def weather(self) -> str:
        """Tell the weather."""
        return "sunny"


async def test_a_text_that_does_not_come_does_not_hold_the_turn() -> None:
    """An STT that says nothing: the agent listens again; what comes later is still remembered."""
    slow = GatedSTT(AGENT)
    options = stts() | {"output_stt": slow}
    async with call(Scenario(replies=[OPEN, ROOM]), Agent(instructions=""), **options) as desk:
        await desk.say(asking())
        await desk.until_heard(1)
        await desk.until_state("listening")
        assert desk.told == desk.remembered == [("user", ASKED)]
        await desk.say(thanking())
        await desk.until_heard(2)
        await desk.until_state("listening")
        await desk.until(lambda: len(desk.told) == 2)
        slow.gate.set()
        await desk.until(lambda: len(desk.remembered) == 4)

        assert desk.heard_s == [OPEN.duration_s, ROOM.duration_s]
        assert desk.remembered == WHOLE_TALK
        assert desk.told == [("user", ASKED), ("user", THANKED)]


async def test_outputs_of_functions_do_not_wait_for_text() -> None:
    """A response that speaks and calls: its outputs go out when it was heard, text or no text."""
    slow = GatedSTT(AGENT)
    scenario = Scenario(replies=[[OPEN, Call("weather")], ROOM])
    async with call(scenario, Weather(), output_stt=slow) as desk:
        await desk.say(asking())
        await desk.until_heard(2)

        assert not slow.gate.is_set()
        assert desk.heard_s == [OPEN.duration_s, ROOM.duration_s]
        heard = desk.loudspeaker.heard
        assert heard[1].started_at - heard[0].ends_at < OPEN.duration_s


async def test_a_message_that_waits_for_its_turn_waits_for_its_text_too() -> None:
    """The clock of a text begins when its message is played, not when it came."""
    options: dict[str, Any] = {"output_stt": ToneSTT(AGENT, delay_s=1.6)}
    long = Say(duration_s=2.0, tone_hz=600, text=OPEN.text)
    async with call(Scenario(replies=[long]), Agent(instructions=""), **options) as desk:
        await desk.say(asking())
        await desk.until(lambda: desk.server.responses and desk.server.responses[0].ended_at_s)
        desk.server.speak(Say(duration_s=0.4, tone_hz=700))
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert [role for role, _ in desk.told] == ["assistant", "assistant"]
        assert desk.remembered == desk.told


@pytest.mark.parametrize("source", ["the server", "an STT"])
async def test_what_the_user_interrupts_is_cut_to_what_was_heard(source: str) -> None:
    """Both histories end with the words that came out, not with those that were to come."""
    words = " ".join(f"w{i}" for i in range(30))
    story = Say(duration_s=3.0, tone_hz=600, text=words)
    knows = Vocabulary({600: (words, 3.0), 700: (ROOM.text or "", ROOM.duration_s)})
    options: dict[str, Any] = {"input_stt": ToneSTT(USER)}
    scenario = Scenario(replies=[story, ROOM], transcripts=source == "the server")
    if source == "an STT":
        options["output_stt"] = ToneSTT(knows)
    captions = Captions()
    async with call(scenario, Agent(instructions=""), captions=captions, **options) as desk:
        await desk.say(asking())
        await desk.until(lambda: desk.loudspeaker.heard)
        await desk.until(lambda: len(desk.remembered) == 2)
        await desk.say(np.concatenate([np.zeros(24_000, dtype=np.int16), thanking()]))
        await desk.until_heard(2)
        await desk.until(lambda: len(desk.told) == 4)

        share = desk.loudspeaker.heard[0].duration_s / story.duration_s
        for history in (desk.session.history, desk.line.chat_ctx):
            cut = history.messages()[1]
            assert cut.interrupted
            assert cut.text_content
            assert words.startswith(cut.text_content)
        # LiveKit's captions keep the pace of speech, and a tone has none: they may run ahead.
        assert len(desk.remembered[1][1].split()) < 30 * share + 6
        assert desk.remembered[2:] == [("user", THANKED), ("assistant", ROOM.text)]


async def test_a_barge_in_before_the_text_is_missed_by_livekits_history_alone() -> None:
    """The agent is interrupted before its words are known: its own contexts have them later."""
    slow = GatedSTT(Vocabulary({600: ("one two three four five six seven eight", 2.0)}))
    story = Say(duration_s=2.0, tone_hz=600)
    options: dict[str, Any] = {"input_stt": ToneSTT(USER), "output_stt": slow}
    async with call(Scenario(replies=[story, []]), Agent(instructions=""), **options) as desk:
        await desk.say(asking())
        await desk.until(lambda: desk.server.responses and desk.server.responses[0].ended_at_s)
        await desk.say(thanking())
        await desk.until_heard(1)
        await desk.until(lambda: len(desk.told) == 2)
        slow.gate.set()
        await desk.until(lambda: len(desk.remembered) == 3)

        assert desk.told == [("user", ASKED), ("user", THANKED)]
        assert [role for role, _ in desk.remembered] == ["user", "assistant", "user"]
        assert desk.line.chat_ctx.messages()[1].interrupted
        assert "one two three four five six seven eight".startswith(desk.remembered[1][1])
        agents = desk.session.current_agent.chat_ctx
        assert sorted(told(agents)) == sorted(desk.remembered)


async def test_the_next_agent_knows_what_was_transcribed_late() -> None:
    """A handoff after a barge-in that came before the text: the words are where they were said."""
    slow = GatedSTT(AGENT)
    options = stts() | {"output_stt": slow}
    scenario = Scenario(replies=[OPEN, Call("connect"), ROOM])
    async with call(scenario, Reception(instructions="You are kind."), **options) as desk:
        await desk.say(asking())
        await desk.until_heard(1)
        await desk.until_state("listening")
        first = desk.session.current_agent
        desk.microphone.say(thanking())
        await desk.until(lambda: desk.server.connection.turns[1:])
        slow.gate.set()
        await desk.until(lambda: desk.session.current_agent is not first)
        await desk.until(lambda: len(desk.server.connections) == 2)
        await desk.until(lambda: desk.server.connection.configured_at_s)

        instructions = desk.server.connection.configuration.instructions or ""
        said = [line for line in instructions.splitlines() if line.endswith('"')]
        assert said[:3] == [
            f'user: "{ASKED}"',
            f'assistant: "{OPEN.text}"',
            f'user: "{THANKED}"',
        ]
        assert ("assistant", OPEN.text) not in desk.told


async def test_what_nobody_heard_was_not_said() -> None:
    """A response that waits behind another and is cut off before it began is in no history."""
    options = stts()
    async with call(Scenario(replies=[OPEN]), Agent(instructions=""), **options) as desk:
        await desk.say(asking())
        await desk.until(lambda: desk.server.responses and desk.server.responses[0].ended_at_s)
        desk.server.speak(ROOM)
        await desk.until(lambda: len(desk.server.responses) > 1)
        await desk.until(lambda: desk.server.responses[1].ended_at_s)
        await desk.until(lambda: len(desk.remembered) == 3)
        await desk.say(COUGH)
        await desk.until_heard(1)

        assert [role for role, _ in desk.remembered] == ["user", "assistant"]


# ------------------------------------------------------------------------ an STT that is ill


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_stt_that_fails_once_loses_nothing(
    streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A dropped request is made again, from the turn's first word, and nobody is warned."""
    options = stts(streaming)
    for each in options.values():
        each.fails = 1
    async with call(Scenario(replies=[OPEN]), Agent(instructions=""), **options) as desk:
        await desk.say(asking())
        await desk.until_heard(1)
        await desk.until(lambda: len(desk.told) == 2)

        assert desk.told == [("user", ASKED), ("assistant", OPEN.text)]
        assert warnings(caplog) == []


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_stt_that_always_fails_costs_text_and_one_warning_a_side(
    streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The call goes on without text; each side's STT is complained of once."""
    options = stts(streaming)
    for each in options.values():
        each.fails = 1_000
    async with call(Scenario(replies=[OPEN, ROOM]), Agent(instructions=""), **options) as desk:
        await desk.say(asking())
        await desk.until_heard(1)
        await desk.say(thanking())
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert desk.heard_s == [OPEN.duration_s, ROOM.duration_s]
        assert desk.told == []
        assert sorted(warnings(caplog)) == [
            "the STT for the agent's words has failed (APIConnectionError); the call goes on"
            " without them",
            "the STT for the user's words has failed (APIConnectionError); the call goes on"
            " without them",
        ]


async def test_an_stt_that_is_cancelled_costs_its_text_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By whoever it shares its connection with: that is a warning, and the call goes on."""
    options: dict[str, Any] = {"input_stt": CancelledSTT(USER), "output_stt": ToneSTT(AGENT)}
    async with call(Scenario(replies=[OPEN]), Agent(instructions=""), **options) as desk:
        await desk.say(asking())
        await desk.until_heard(1)
        await desk.until(lambda: desk.told)

        assert desk.told == [("assistant", OPEN.text)]
        assert warnings(caplog) == [
            "the STT for the user's words was cancelled; the call goes on without them"
        ]
