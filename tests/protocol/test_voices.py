from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_plugins_hydra.protocol import voices
from livekit_plugins_hydra.protocol.learned import Learned


def test_every_voice_has_one_home() -> None:
    """No voice is in two rosters, so that a voice alone tells its model."""
    names = [name for info in voices.MODELS.values() for name in info.voices]

    assert len(names) == len(set(names))
    for model, info in voices.MODELS.items():
        for name in info.voices:
            assert voices.is_known_voice(name)
            assert voices.model_of_voice(name) == model


def test_the_types_name_every_model_and_voice() -> None:
    """An editor offers exactly the models and voices that are known."""
    names = [name for info in voices.MODELS.values() for name in info.voices]

    assert set(get_args(voices.HydraModel)) == set(voices.MODELS)
    assert set(get_args(voices.HydraVoice)) == set(names)


@pytest.mark.parametrize("model", voices.MODELS)
def test_the_default_voice_of_a_model_is_its_own(model: str) -> None:
    """A user who names only the model gets a voice that the vendor lists for it."""
    assert voices.default_voice(model) in voices.MODELS[model].voices


def test_the_default_model_is_known() -> None:
    """A user who names nothing gets a model with a roster."""
    assert voices.DEFAULT_MODEL in voices.MODELS


def test_the_servers_own_default_is_known() -> None:
    """What an unheard-of voice is replaced by is a voice of the catalogue."""
    assert voices.is_known_voice(voices.SERVER_DEFAULT_VOICE)


def test_a_voice_that_the_server_has_refused_is_not_asked_for_again() -> None:
    """The next calls of a model speak with the server's default voice from their first word."""
    learned = Learned()
    assert learned.voice_for("maya") == "maya"

    learned.voices_refused.add("maya")
    assert learned.voice_for("maya") == voices.SERVER_DEFAULT_VOICE
    assert learned.voice_for("zara") == "zara"


def test_an_unknown_model_gets_what_the_server_would_choose() -> None:
    """A tag of tomorrow works today: the server's default voice, the newest model's rate."""
    assert "hydra-v9" not in voices.MODELS
    assert voices.default_voice("hydra-v9") == voices.SERVER_DEFAULT_VOICE
    assert voices.output_rate_hz("hydra-v9") == voices.output_rate_hz(voices.DEFAULT_MODEL)


def test_the_rates_of_the_models_differ() -> None:
    """A rate that is taken for granted makes a voice an octave too high."""
    assert voices.output_rate_hz("hydra-v1.1") == 24_000
    assert voices.output_rate_hz("hydra-v1.0") == voices.output_rate_hz("hydra") == 48_000


def test_an_unknown_voice_is_not_refused() -> None:
    """Rosters move, so a voice that no roster has goes with the default model."""
    assert not voices.is_known_voice("marin")
    assert voices.model_of_voice("marin") == voices.DEFAULT_MODEL


@pytest.mark.parametrize(
    ("typo", "voice"),
    [("ariya", "aria"), ("Sterling", "sterling"), ("WREN", "wren"), ("marlow", "marlowe")],
)
def test_a_misspelt_voice_is_near_the_one_that_was_meant(typo: str, voice: str) -> None:
    """A warning about an unknown voice names the one that the user probably meant."""
    assert voices.nearest_voice(typo) == voice


@given(st.text(max_size=50))
def test_only_a_known_voice_is_the_nearest(text: str) -> None:
    """However strange the name, what a warning names is there."""
    nearest = voices.nearest_voice(text)
    assert nearest is None or voices.is_known_voice(nearest)


@pytest.mark.parametrize("name", ["alloy", "shimmer", "Puck", "en-US-JennyNeural", ""])
def test_a_voice_that_is_like_none_has_no_nearest(name: str) -> None:
    """Another vendor's voice was not misspelt."""
    assert voices.nearest_voice(name) is None
