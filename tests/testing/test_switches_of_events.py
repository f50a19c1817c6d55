"""Switches of what events carry; and that a good client need not notice any switch."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest

from livekit_plugins_hydra.testing import SWITCHES, Emulator, Say, Scenario
from tests.raw_client import TURN, RawClient
from tests.testing.scenarios import FAST, converse, thrown


@pytest.mark.parametrize("name", SWITCHES)
async def test_a_good_client_holds_a_conversation(name: str) -> None:
    """Under each single switch a greeting, a tool and a turn work without a violation."""
    await converse(thrown(name, max_lead_s=None))


@pytest.mark.parametrize("seed", range(30))
async def test_random_combinations_hold_a_conversation(seed: int) -> None:
    """So do they under switches in combination."""
    scenario = Scenario.random(seed, max_lead_s=None, audio_speed=200.0)
    await converse(scenario, model=("hydra-v1.1", "hydra-v1.0", "hydra")[seed % 3])


async def test_deltas_may_be_ragged() -> None:
    """Empty, odd and tiny deltas occur, and their sum is whole."""
    client = await converse(thrown("ragged_deltas"))
    lengths = {
        len(base64.b64decode(frame["delta" if "delta" in frame else "audio"]))
        for frame in client.of("response.output_audio.delta")
    }

    assert {0, 1, 4} < lengths


@pytest.mark.parametrize(
    ("model", "rate_hz"), [("hydra-v1.1", 24_000), ("hydra-v1.0", 48_000), ("hydra", 48_000)]
)
async def test_the_rate_follows_the_model(model: str, rate_hz: int) -> None:
    """Each tag has its own rate; what is echoed is true."""
    client = await converse(FAST, model=model)

    echoed = client.of("session.configured")[0]["session"]["output_audio_sample_rate"]
    first = client.of("response.created")[0]["response"]["id"]
    assert echoed == rate_hz
    assert len(client.audio(first)) == 2 * 2 * rate_hz


async def test_rates_may_be_kept_secret() -> None:
    """Then `session.configured` has none of the four audio fields, as the docs have it."""
    client = await converse(thrown("rates_not_echoed"))

    assert not [name for name in client.of("session.configured")[0]["session"] if "audio" in name]


async def test_rates_may_surprise() -> None:
    """A server can have another rate than its tag, and says so."""
    client = await converse(thrown("output_at_48_khz"))

    assert client.of("session.configured")[0]["session"]["output_audio_sample_rate"] == 48_000


async def test_a_requested_rate_may_be_obeyed() -> None:
    """Then the server says so and speaks at that rate; otherwise its own holds."""
    rates = []
    for scenario in (FAST, thrown("requested_rate_obeyed")):
        scenario = dataclasses.replace(scenario, replies=[Say(duration_s=1.0)])
        async with Emulator(scenario) as server, RawClient(server) as client:
            configured = await client.configure(
                output_audio_sample_rate=16_000, generate_initial_response=True
            )
            done = await client.wait("response.done")
        rates.append(configured["session"]["output_audio_sample_rate"])
        assert len(client.audio(done["response"]["id"])) == 2 * rates[-1]

    assert rates == [24_000, 16_000]


@pytest.mark.parametrize(
    ("switch", "model", "expected"),
    [
        ("warning_flat", "hydra-v1.1", {"code", "message"}),
        ("warning_nested", "hydra-v1.1", {"warning"}),
        ("usage_zero", "hydra", {"code", "message"}),
    ],
)
async def test_a_warning_comes_first(switch: str, model: str, expected: set[str]) -> None:
    """Deprecated tags warn before `session.created`, in one of two envelopes."""
    client = await converse(thrown(switch), model=model)

    assert client.types()[:3] == ["warning", "session.created", "session.configured"]
    assert set(client.frames[0]) == {"type", "event_id", *expected}


async def test_a_deprecated_tag_may_stay_silent() -> None:
    """Then the first frame is `session.created` for every tag."""
    client = await converse(dataclasses.replace(FAST, warning="none"), model="hydra")

    assert client.types()[0] == "session.created"


async def test_ids_and_indexes_may_be_absent() -> None:
    """Items, events and positions can come without them."""
    scenario = FAST.with_switches("no_item_ids", "no_indexes", "no_event_ids", "no_response_output")
    client = await converse(scenario)
    text = json.dumps(client.frames)

    for name in ("item_id", "event_id", "output_index", "content_index", "output"):
        assert f'"{name}"' not in text
    assert not [frame for frame in client.of("conversation.item.added") if "id" in frame["item"]]


async def test_function_calls_may_lack_ids_alone() -> None:
    """Their events have neither item nor index then, and all others have both."""
    client = await converse(thrown("no_function_call_ids"))
    with_ids = {
        frame["type"] for frame in client.frames if {"item_id", "output_index"} & set(frame)
    }

    assert client.of("response.function_call_arguments.delta")
    assert not {kind for kind in with_ids if "function_call" in kind}
    assert "response.output_audio.delta" in with_ids
    calls = [frame["item"] for frame in client.of("conversation.item.done")]
    assert [item["id"] for item in calls if item["type"] == "function_call"]


async def test_absent_fields_may_be_null() -> None:
    """Then a frame has every field of its type."""
    client = await converse(thrown("explicit_nulls"))

    done = client.of("response.done")[0]["response"]
    assert done["status_details"] is None
    assert client.of("conversation.item.added")[0]["previous_item_id"] is None
    assert done["output"][0]["content"][0] == {"type": "output_audio", "text": None}


@pytest.mark.parametrize("explicit_nulls", [False, True])
async def test_the_audio_may_be_in_another_field(explicit_nulls: bool) -> None:
    """Then audio deltas have `audio` and no `delta`, as the vendor's quickstart may have seen."""
    scenario = thrown("audio_in_another_field", explicit_nulls=explicit_nulls)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        deltas = client.of("response.output_audio.delta")

        assert not [frame for frame in deltas if "delta" in frame]
        audio = b"".join(base64.b64decode(frame["audio"]) for frame in deltas)
        assert audio == server.responses[0].pcm


async def test_usage_may_be_zero_or_absent() -> None:
    """It comes "when available", as the docs have it."""
    zero = await converse(thrown("usage_zero"))
    absent = await converse(thrown("usage_absent"))

    assert zero.of("response.done")[0]["response"]["usage"]["total_tokens"] == 0
    assert "usage" not in absent.of("response.done")[0]["response"]


async def test_transcripts_are_optional_on_both_sides() -> None:
    """Phrases come without their spaces, the user's text in the user's item; by default neither."""
    plain = await converse(FAST)
    client = await converse(FAST.with_switches("transcripts", "user_text"))
    phrases = [frame["delta"] for frame in client.of("response.output_audio_transcript.delta")]

    assert not plain.of("response.output_audio_transcript.delta")
    assert phrases[:2] == ["Good day to", "you, caller."]
    assert '"text": "what the user said"' in json.dumps(client.of("conversation.item.done"))
    assert "what the user said" not in json.dumps(plain.frames)


@pytest.mark.parametrize(
    ("switch", "expected"),
    [
        ("transcripts", ["Good day to", "you, caller.", "Speak", "now."]),
        ("transcripts_with_spaces", ["Good day to", " you, caller.", " Speak", " now."]),
        (
            "transcripts_by_token",
            ["Good", " day", " to", " you", ",", " call", "er", ".", " Spea", "k", " now", "."],
        ),
    ],
)
async def test_transcripts_may_be_cut_in_three_ways(switch: str, expected: list[str]) -> None:
    """Phrases without spaces, phrases with them, or parts of words: all say the same."""
    spoken = [Say(text="Good day to  you, caller."), Say(text="Speak"), Say(text="now.")]
    scenario = thrown(switch, replies=[spoken])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")

    deltas = client.of("response.output_audio_transcript.delta")
    assert [frame["delta"] for frame in deltas] == expected


async def test_the_users_text_may_depend_on_the_turn() -> None:
    """A callable says what was said."""
    scenario = dataclasses.replace(FAST, user_text=lambda turn: f"turn {turn.number}")
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(TURN)
        done = await client.wait("conversation.item.done")

    assert done["item"]["content"] == [{"type": "input_audio", "text": "turn 1"}]
