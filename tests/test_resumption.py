"""False interruptions: what a cough has cut is played after all."""

from __future__ import annotations

import pytest

from livekit_plugins_hydra import events as ev
from livekit_plugins_hydra.emulator import Say, Scenario

from .calls import COUGH, Desk, call, tone
from .test_calls import Silent

LONG = Say(duration_s=3.0, tone_hz=600, text="one two three four five six seven eight nine ten")


async def until_cut_by_a_cough(desk: Desk) -> None:
    """Ask something, let the answer begin, and cough into it."""
    await desk.say(tone(0.6))
    await desk.until(lambda: desk.loudspeaker.heard)
    await desk.until_state("speaking")
    await desk.say(COUGH)
    await desk.until(lambda: desk.server.connection.discarded_turns)


@pytest.mark.parametrize("barge_in", ["at_once", "when_settled"])
@pytest.mark.parametrize("transcripts", [False, True])
async def test_what_a_cough_has_cut_is_played_after_all(barge_in: str, transcripts: bool) -> None:
    """The caller coughs, the agent stops, and goes on from where it was."""
    scenario = Scenario(default_reply=LONG, barge_in=barge_in, transcripts=transcripts)  # type: ignore[arg-type]
    async with call(scenario, Silent()) as desk:
        await until_cut_by_a_cough(desk)
        await desk.until_heard(2)

        first, rest = desk.loudspeaker.heard
        assert first.interrupted
        assert not rest.interrupted
        played = bytes(desk.server.responses[0].pcm)
        assert first.samples.tobytes() == played[: len(first.samples) * 2]
        assert played.endswith(rest.samples.tobytes())
        assert len(desk.server.responses) == 1
        assert desk.server.events_of(ev.ResponseCreate) == []
