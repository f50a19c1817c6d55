"""What text costs the sound: the same call with and without STTs, side by side in one run.

    python -m tests.text_latency [rounds]

Two calls at a time on one event loop, one without text and one with an STT on each side, so that
whatever the machine does meanwhile, it does to both. Measured from the end of the user's words to
the first sound of the answer, and from the first sound of a barge-in to silence.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from typing import Any, Final

import numpy as np
from livekit.agents import Agent

from livekit_plugins_hydra.testing import Say, Scenario

from .calls import call, tone
from .recognisers import ToneSTT, Vocabulary

ANSWER: Final = Say(duration_s=3.0, tone_hz=600, text="We are open until six, every day.")
SHORT: Final = Say(duration_s=0.3, tone_hz=600)
WORDS: Final = Vocabulary({300.0: ("When do you close?", 0.6), 600.0: (ANSWER.text or "", 3.0)})
LISTENS_S: Final = 0.8


async def hold_call(rounds: int, **options: Any) -> tuple[list[float], list[float]]:
    """Hold a call; return the seconds to each answer, and to each silence."""
    answers, silences = [], []
    scenario = Scenario(replies=[ANSWER, SHORT] * rounds)
    async with call(scenario, Agent(instructions=""), **options) as desk:
        for number in range(rounds):
            await desk.say(tone(0.6))
            asked_at = desk.microphone.ended_at
            await desk.until(lambda: len(desk.loudspeaker.heard) == 2 * number + 1)  # noqa: B023
            answers.append(desk.loudspeaker.heard[-1].started_at - asked_at)
            await desk.until_state("speaking")
            pause = np.zeros(int(LISTENS_S * 24_000), dtype=np.int16)
            n_heard = len(desk.microphone.heard)
            await desk.say(np.concatenate([pause, tone(0.6)]))
            began_at = desk.microphone.heard[n_heard][0] + LISTENS_S
            silences.append(desk.loudspeaker.cleared_at[-1] - began_at)
            await desk.until_heard(2 * number + 2)
            await desk.until_state("listening")
    return answers, silences


async def main(rounds: int) -> None:
    """Print the medians of both calls, and what text adds."""
    plain, written = await asyncio.gather(
        hold_call(rounds),
        hold_call(rounds, input_stt=ToneSTT(WORDS), output_stt=ToneSTT(WORDS)),
    )
    for what, without, with_text in zip(
        ("end of the question to first sound", "begin of a barge-in to silence"),
        plain,
        written,
        strict=True,
    ):
        a, b = (statistics.median(each) * 1000 for each in (without, with_text))
        spread = statistics.stdev(without) * 1000
        print(f"{what}: {a:.0f} ms without text, {b:.0f} ms with, {b - a:+.0f} ms", end=" ")
        print(f"({rounds} rounds; standard deviation without text {spread:.0f} ms)")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
