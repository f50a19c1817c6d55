"""False interruptions: what a cough has cut is played after all, and a real interruption is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from livekit.agents import Agent, function_tool
from livekit.agents.llm import RealtimeModelFallbackAdapter

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.testing import Call, Emulator, Loudspeaker, Say, Scenario, Wait
from livekit_plugins_hydra.voice import resumption
from livekit_plugins_hydra.voice.resumption import KEPT_S, LOOK_BACK_S, Speech
from tests.calls import COUGH, KEY, Captions, Desk, call, silence, told, tone
from tests.recognisers import ToneSTT, Vocabulary
from tests.session.test_calls import Silent

WORDS = "one two three four five six seven eight nine ten eleven twelve"
LONG = Say(duration_s=4.0, tone_hz=600, text=WORDS)
NEXT = Say(duration_s=0.4, tone_hz=800, text="What else?")


async def until_cut(desk: Desk, *, after_s: float = 1.0) -> None:
    """Ask something, listen to the answer for a while, and make a noise into it."""
    await desk.say(tone(0.6))
    await desk.until(lambda: desk.loudspeaker.heard)
    await desk.until_state("speaking")
    if after_s >= 1.0:  # the server sends audio ten times faster than it is played
        await desk.until(lambda: desk.server.responses[0].ended_at_s)
        after_s -= 0.5
    desk.microphone.say(np.concatenate([silence(after_s), COUGH]))
    await desk.until_heard(1)


async def until_cut_by_a_cough(desk: Desk, *, after_s: float = 1.0) -> None:
    """The same, and the server has decided that the noise was no speech."""
    await until_cut(desk, after_s=after_s)
    await desk.until(lambda: desk.server.connection.discarded_turns)


def spoken(desk: Desk) -> bytes:
    """Return all that the server has said in its first response."""
    response = desk.server.responses[0]
    return bytes(response.pcm) + bytes(response.late_pcm)


@asynccontextmanager
async def server_of(scenario: Scenario) -> AsyncIterator[tuple[Emulator, Callable[[Desk], None]]]:
    """Give a server for a model that the test makes, and what joins it to the test's desk."""
    desks: list[Desk] = []

    def note(*_: object) -> None:
        for desk in desks:
            desk.note()

    async with Emulator(scenario, observer=note) as server:

        def join(desk: Desk) -> None:
            desk.server = server
            desks.append(desk)

        yield server, join


@pytest.mark.parametrize("barge_in", ["at_once", "when_settled"])
@pytest.mark.parametrize("source", ["nobody", "the server", "an STT"])
async def test_what_a_cough_has_cut_is_played_after_all(barge_in: Any, source: str) -> None:
    """The agent goes on from where it was, and both histories have all of its words, once."""
    scenario = Scenario(default_reply=LONG, barge_in=barge_in, transcripts=source == "the server")
    options: dict[str, Any] = {}
    if source == "an STT":
        options["output_stt"] = ToneSTT(Vocabulary({600: (WORDS, LONG.duration_s)}))
    async with call(scenario, Silent(), captions=Captions(), **options) as desk:
        await until_cut_by_a_cough(desk)
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert_all_was_heard(desk)
        assert desk.heard_s[0] + desk.heard_s[1] > LONG.duration_s - 0.02
        if source == "nobody":
            assert desk.told == desk.remembered == []
            return
        for history in (desk.session.history, desk.line.chat_ctx):
            assert [item.interrupted for item in history.messages()] == [True, False]
        begin, end = (text for _, text in desk.remembered)
        if source == "the server":
            assert f"{begin} {end}" == WORDS
            assert desk.told[1] == desk.remembered[1]
        else:  # the rest begins in a pause before the cut, or in the middle of a word
            assert WORDS.startswith(begin)
            assert abs(len(begin.split()) + len(WORDS.split()[: len(end.split())]) - 12) <= 2


def assert_all_was_heard(desk: Desk) -> None:
    """The first half and the rest are all that the server said, and it said it once."""
    first, rest = desk.loudspeaker.heard
    assert first.interrupted
    assert not rest.interrupted
    said = spoken(desk)
    assert first.samples.tobytes() == said[: len(first.samples) * 2]
    assert said.endswith(rest.samples.tobytes())
    assert len(first.samples) + len(rest.samples) >= len(said) // 2 - 240
    assert len(desk.server.responses) == 1
    assert desk.server.events_of(ev.ResponseCreate) == []


@pytest.mark.parametrize("barge_in", ["at_once", "when_settled"])
async def test_a_cough_at_the_very_beginning_loses_nothing(barge_in: Any) -> None:
    """The server is still speaking when the cough comes: what it says meanwhile is kept."""
    scenario = Scenario(
        default_reply=LONG, barge_in=barge_in, transcripts=True, audio_speed=2.5, late_deltas=1
    )
    async with call(scenario, Silent(), captions=Captions()) as desk:
        await until_cut_by_a_cough(desk, after_s=0.1)
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert_all_was_heard(desk)
        heard = " ".join(text for _, text in desk.remembered)
        assert WORDS.startswith(heard)
        if barge_in == "when_settled":
            assert heard == WORDS


@pytest.mark.parametrize("deltas", ["phrases", "spaced_phrases", "tokens"])
async def test_no_word_is_torn_where_a_cough_has_cut(deltas: Any) -> None:
    """However the server cuts its text, before the cough and after it, both halves are words."""
    scenario = Scenario(
        default_reply=LONG,
        barge_in="when_settled",
        transcripts=True,
        transcript_deltas=deltas,
        audio_speed=2.5,
    )
    async with call(scenario, Silent(), captions=Captions()) as desk:
        await until_cut_by_a_cough(desk, after_s=0.1)
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert " ".join(text for _, text in desk.remembered) == WORDS
        assert desk.told[-1] == desk.remembered[-1]


@pytest.mark.parametrize("source", ["nobody", "the server"])
async def test_a_cough_before_the_first_audio_loses_nothing(source: str) -> None:
    """The server has begun, and goes on after the cough: all of it is played, and remembered."""
    scenario = Scenario(
        default_reply=[Wait(0.4), LONG],
        barge_in="when_settled",
        transcripts=source == "the server",
    )
    async with call(scenario, Silent(), captions=Captions()) as desk:
        await desk.say(tone(0.6))
        await desk.until(lambda: desk.of("speech_created"))
        await desk.say(COUGH)
        await desk.until_heard(1)
        await desk.until_state("listening")

        assert desk.heard_s == [LONG.duration_s]
        assert desk.remembered == ([("assistant", WORDS)] if source == "the server" else [])


@pytest.mark.parametrize("n_bytes", [960, 961])
def test_of_a_long_reply_only_what_can_still_be_played_is_kept(n_bytes: int) -> None:
    """An hour's reply takes a few seconds' memory; what it goes on with is what it would be."""
    unplayed_s = 1.0
    dice = np.random.default_rng(1)
    pieces = [dice.bytes(n_bytes) for _ in range(400)]
    pieces[-120:-110] = [bytes(n_bytes)] * 10
    short, whole = Speech("r", 24_000), Speech("r", 24_000)
    for piece in pieces:
        short.push("m", piece)
        short.forget(unplayed_s)
        whole.push("m", piece)
    played_s = sum(map(len, pieces)) / 48_000 - unplayed_s

    for position_s in (played_s, played_s - 1.0, played_s - LOOK_BACK_S, played_s - KEPT_S + 0.001):
        assert short.position_s("m", position_s) == position_s
        assert short.rest(position_s) == whole.rest(position_s)
    assert short.pause_before(played_s) == whole.pause_before(played_s) < played_s
    assert short.position_s("m", played_s - KEPT_S - 0.1) is None
    assert whole.position_s("m", 0.0) == 0.0


async def test_a_cough_late_in_a_long_reply_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was played long before the cough is not kept, and nobody misses it."""
    monkeypatch.setattr(resumption, "KEPT_S", 0.5)
    scenario = Scenario(default_reply=LONG, audio_speed=1.5)
    async with call(scenario, Silent()) as desk:
        await desk.say(tone(0.6))
        await desk.until_state("speaking")
        desk.microphone.say(np.concatenate([silence(1.5), COUGH]))
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert_all_was_heard(desk)


async def test_a_cough_after_a_function_without_a_word_is_nothing() -> None:
    """There is nothing to go on with, though the server never said that its response is done."""

    @function_tool
    async def note() -> None:
        """Write down that somebody called."""

    scenario = Scenario(
        replies=[Call("note")], default_reply=NEXT, calling_response_done="never", silence_ms=200
    )
    agent = Agent(instructions="Be kind.", tools=[note])
    async with call(scenario, agent) as desk:
        await desk.say(tone(0.6))
        await desk.until(lambda: desk.server.events_of(ev.ConversationItemCreate))
        await desk.until_state("listening")
        discarded = asyncio.Event()

        @desk.line.on("hydra_server_event")
        def _(event: ev.Event) -> None:
            if isinstance(event, ev.ConversationItemDone) and event.item.status == "incomplete":
                asyncio.get_running_loop().call_soon(discarded.set)  # when it was dealt with

        await desk.say(COUGH)
        await discarded.wait()

        await desk.session.generate_reply()
        assert desk.heard_s == [NEXT.duration_s]


async def test_a_second_cough_cuts_and_is_forgiven_too() -> None:
    """Positions add up: after two coughs all was played, and nothing twice."""
    scenario = Scenario(replies=[LONG, NEXT], transcripts=True)
    async with call(scenario, Silent(), captions=Captions()) as desk:
        await until_cut_by_a_cough(desk)
        await desk.until(lambda: len(desk.loudspeaker.heard) == 2)
        await desk.until_state("speaking")
        await desk.say(np.concatenate([silence(0.3), COUGH]))
        await desk.until_heard(3)

        heard = np.concatenate([playout.samples for playout in desk.loudspeaker.heard])
        assert abs(len(heard) * 2 - len(spoken(desk))) < 0.02 * 48_000
        assert [playout.interrupted for playout in desk.loudspeaker.heard] == [True, True, False]
        assert " ".join(text for _, text in desk.remembered) == WORDS


async def test_a_real_turn_is_answered_and_nothing_else() -> None:
    """What the user interrupts with words stays cut."""
    scenario = Scenario(replies=[LONG, NEXT])
    async with call(scenario, Silent()) as desk:
        await desk.say(tone(0.6))
        await desk.until(lambda: desk.loudspeaker.heard)
        await desk.until_state("speaking")
        await desk.say(tone(0.6))
        await desk.until_heard(2)
        await desk.until_state("listening")

        assert desk.heard_s[1:] == [NEXT.duration_s]


async def nothing_but(desk: Desk, *durations_s: float) -> None:
    """Ask something more, and see that nothing came between the cut and the answers."""
    await desk.say(tone(0.6))
    await desk.until_heard(1 + len(durations_s))
    await desk.until_state("listening")

    assert desk.loudspeaker.heard[0].interrupted
    assert desk.heard_s[1:] == list(durations_s)


async def test_it_can_be_turned_off() -> None:
    """`resume_false_interruption=False`: what was cut stays cut."""
    scenario = Scenario(replies=[LONG, NEXT])
    async with call(scenario, Silent(), resume_false_interruption=False) as desk:
        await until_cut_by_a_cough(desk)
        await nothing_but(desk, NEXT.duration_s)


async def test_a_noise_that_lasts_is_not_forgiven() -> None:
    """A turn that is discarded more than 3 s after the cut: by then the agent has stopped."""
    scenario = Scenario(
        replies=[LONG, NEXT], discard_turn=lambda turn: turn.number == 2, max_lead_s=None
    )
    async with call(scenario, Silent()) as desk:
        await until_cut(desk)
        await desk.say(tone(3.2))
        await desk.until(lambda: desk.server.connection.discarded_turns)
        await nothing_but(desk, NEXT.duration_s)


async def test_what_the_application_interrupts_stays_cut() -> None:
    """`session.interrupt()` after a cough has cut: somebody wanted silence."""
    async with call(Scenario(replies=[LONG, NEXT]), Silent()) as desk:
        await until_cut(desk)
        await desk.session.interrupt()
        await desk.until(lambda: desk.server.connection.discarded_turns)
        await nothing_but(desk, NEXT.duration_s)


async def test_a_reply_on_demand_comes_instead_of_the_rest() -> None:
    """`generate_reply()` after a cough has cut: its answer is what is played next."""
    other = Say(duration_s=0.6, tone_hz=900)
    async with call(Scenario(replies=[LONG, other, NEXT]), Silent()) as desk:
        await until_cut(desk)
        await desk.session.generate_reply()
        assert desk.server.connection.discarded_turns
        await nothing_but(desk, other.duration_s, NEXT.duration_s)


async def test_without_a_report_of_what_was_played_the_rest_is_not_played() -> None:
    """A framework that does not call `truncate`: nobody knows where to go on."""
    scenario = Scenario(replies=[LONG, NEXT], transcripts=True)
    async with server_of(scenario) as (server, join):
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        model.capabilities.message_truncation = False
        async with call(scenario, Silent(), model=model) as desk:
            join(desk)
            await until_cut_by_a_cough(desk)
            await nothing_but(desk, NEXT.duration_s)

            cut = told(desk.line.chat_ctx)[0][1]
            assert cut
            assert cut != WORDS
            assert WORDS.startswith(cut)


@pytest.mark.parametrize("hides_truncate", [False, True])
async def test_behind_a_fallback_adapter_it_is_as_the_adapter_allows(hides_truncate: bool) -> None:
    """An adapter passes on what all of its models can: `truncate` or not, so the rest or not."""
    scenario = Scenario(replies=[LONG, NEXT])
    async with server_of(scenario) as (server, join):
        models = [hydra.RealtimeModel(api_key=KEY, base_url=server.url) for _ in range(2)]
        models[1].capabilities.message_truncation = not hides_truncate
        adapter = RealtimeModelFallbackAdapter(list(models))
        async with call(scenario, Silent(), model=adapter) as desk:
            join(desk)
            await until_cut_by_a_cough(desk)
            if hides_truncate:
                await nothing_but(desk, NEXT.duration_s)
            else:
                rest = await desk.until_heard(2)
                assert spoken(desk).endswith(rest.samples.tobytes())
        for model in models:
            await model.aclose()


class LateReporter(Loudspeaker):
    """Says late how much was played, as a far-away player does."""

    def on_playback_finished(self, **position: Any) -> None:
        """Report, a good second late where it was cut."""
        delay_s = 1.3 if position["interrupted"] else 0.0
        report = super().on_playback_finished
        asyncio.get_running_loop().call_later(delay_s, lambda: report(**position))


async def test_a_late_report_is_not_trusted() -> None:
    """An audio output that reports more than a second late: the rest is not played."""
    scenario = Scenario(replies=[LONG, NEXT], transcripts=True)
    async with call(scenario, Silent(), loudspeaker=LateReporter()) as desk:
        await until_cut_by_a_cough(desk)
        await desk.until(lambda: desk.told)
        await nothing_but(desk, NEXT.duration_s)

        assert desk.remembered[0][1] != WORDS
        assert WORDS.startswith(desk.remembered[0][1])
