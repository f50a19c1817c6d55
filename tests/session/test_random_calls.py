"""Whole calls under random combinations of the emulator's switches."""

from __future__ import annotations

import pytest

from livekit_plugins_hydra.testing import Scenario

from .test_calls import REPLIES, hold_a_conversation


@pytest.mark.parametrize("seed", range(30))
async def test_a_whole_call_goes_well_in_any_combination(seed: int) -> None:
    """Whatever a server does differently at the same time, the caller hears the same."""
    scenario = Scenario.random(seed, replies=REPLIES)
    seed_voice = "wren" if scenario.seed_voices == "accepted" else "kai"
    voice = ("maya", "sterling", seed_voice)[seed % 3]
    await hold_a_conversation(scenario, voice=voice)
