"""Each switch of the emulator does what its name says, seen from the bare wire."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from typing import Any

import pytest

from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.testing import FAULTS, SWITCHES, Call, Emulator, Say, Scenario, Wait
from tests.raw_client import COUGH, KEY, SILENCE, TURN, RawClient, tone

FAST = Scenario(max_lead_s=None, think_s=0.01, audio_speed=200.0)
SLOW = dataclasses.replace(FAST, audio_speed=10.0, default_reply=Say(duration_s=20.0))

CALLING = [Call("f", {"a": 1})]


def thrown(name: str, base: Scenario = FAST, **fields: Any) -> Scenario:
    """Return a scenario with one switch thrown."""
    return dataclasses.replace(base.with_switches(name), **fields)


async def converse(scenario: Scenario, *, model: str = "hydra-v1.1") -> RawClient:
    """Have a greeting, a function call, a cough and a turn; return the client with what it saw."""
    scenario = dataclasses.replace(
        scenario, replies=[Say(text="Good day to you, caller."), CALLING]
    )
    async with (
        Emulator(scenario) as server,
        RawClient(server, query=f"?model={model}&api_key={KEY}") as client,
    ):
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.done")
        await client.wait("response.done")
        await client.hear(COUGH + TURN)
        call = await client.wait("response.function_call_arguments.done")
        await client.output(call["call_id"])
        await client.send("response.create")
        await client.wait("response.output_audio.done", 3 if scenario.speaks_before_calls else 2)
        await server.wait_for(lambda books: books.responses[2].ended_at_s)
        await client.socket.close()
    assert [response.status for response in server.responses] == ["completed"] * 3
    for response in server.responses:
        assert response.pcm == client.audio(response.id)
    return client


@pytest.mark.parametrize("name", SWITCHES)
async def test_a_good_client_holds_a_conversation(name: str) -> None:
    """Under each single switch a greeting, a tool and a turn work without a violation."""
    await converse(thrown(name, max_lead_s=None))


@pytest.mark.parametrize("seed", range(30))
async def test_random_combinations_hold_a_conversation(seed: int) -> None:
    """So do they under switches in combination."""
    scenario = Scenario.random(seed, max_lead_s=None, audio_speed=200.0)
    await converse(scenario, model=("hydra-v1.1", "hydra-v1.0", "hydra")[seed % 3])


# --------------------------------------------------------------------------------- what events hold


async def test_deltas_may_be_ragged() -> None:
    """Empty, odd and tiny deltas occur, and their sum is whole."""
    client = await converse(thrown("ragged_deltas"))
    lengths = {
        len(base64.b64decode(frame["delta"])) for frame in client.of("response.output_audio.delta")
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


# -------------------------------------------------------------------------------------- handshake


@pytest.mark.parametrize(
    ("voice", "switches", "expected"),
    [
        ("wren", (), None),
        ("wren", ("seed_voices_accepted",), "wren"),
        ("wren", ("unknown_voice_replaced",), "sterling"),
        ("marin", (), None),
        ("marin", ("unknown_voice_replaced",), "sterling"),
        ("marin", ("marin_accepted",), "marin"),
        ("sloane", ("marin_accepted",), None),
        ("sterling", (), "sterling"),
    ],
)
async def test_voices(voice: str, switches: tuple[str, ...], expected: str | None) -> None:
    """One list for all tags; the launch voices and unknown ones by switch."""
    async with Emulator(FAST.with_switches(*switches)) as server, RawClient(server) as client:
        await client.send("session.configure", session={"voice": voice}, event_id="ev_1")
        if expected is None:
            error = (await client.wait("error"))["error"]
            assert error["code"] == "invalid_request_error"
            assert error["param"] == "session.configure.session.voice"
            assert error["event_id"] == "ev_1"
            assert not client.of("session.configured")
        else:
            configured = await client.wait("session.configured")
            assert configured["session"]["voice"] == expected


async def test_a_malformed_configuration_is_refused() -> None:
    """It counts as the one that may be sent, unless the server accepts another."""
    scenario = FAST.with_switches("refused_configure_may_be_repeated")
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.send("session.configure", session={"voice": 7})
        assert (await client.wait("error"))["error"]["code"] == "invalid_frame"
        await client.configure()

        assert [each.rule for each in server.violations] == ["malformed_frame"]


async def test_configuring_again_after_a_refusal() -> None:
    """The server ignores it, accepts it, or is gone."""
    outcomes = []
    for after in ("ignores", "accepts", "closes"):
        scenario = dataclasses.replace(FAST, after_refused_configure=after)
        async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
            await client.send("session.configure", session={"voice": "nobody"})
            await client.wait("error")
            if after == "closes":
                outcomes.append(await client.closed())
                continue
            await client.send("session.configure", session={"voice": "aria"})
            await client.send("session.update", session={"tools": [{"type": "x"}]})
            await client.wait("error", 2)
            outcomes.append(len(client.of("session.configured")))

    assert outcomes == [0, 1, 1008]


async def test_a_handshake_may_hang() -> None:
    """Without `session.created`, or without `session.configured`, nothing more ever comes."""
    for name, n_frames in (("never_created", 0), ("never_configured", 1)):
        async with Emulator(FAST.with_switches(name)) as server, RawClient(server) as client:
            await client.send("session.configure", session={"voice": "aria"})
            with pytest.raises(TimeoutError):
                await client.wait("session.configured", timeout=0.05)
            assert len(client.frames) == n_frames


async def test_a_handshake_may_take_its_time() -> None:
    """Each step has its own delay; leaving the emulator waits for none of them."""
    scenario = thrown("slow_handshake")
    begun_at_s = asyncio.get_running_loop().time()
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        record = server.connection
        assert record.configured_at_s is not None
        assert record.configured_at_s - record.opened_at_s >= 0.2
        assert record.opened_at_s - begun_at_s >= scenario.connect_delay_s

    async with Emulator(dataclasses.replace(FAST, connect_delay_s=60.0)) as server:
        attempt = asyncio.create_task(RawClient(server).__aenter__())
        await server.wait_for(lambda books: books.n_dialling)
    with pytest.raises(Exception, match=r"503|closed|connection"):
        await attempt


async def test_early_audio_may_end_the_session() -> None:
    """An earlier build answered audio before `session.configured` with `session_ended`."""
    scenario = thrown("early_audio_ends_session", tolerate={"audio_before_configured"})
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.hear(SILENCE[:1280])
        assert await client.closed() == 1000

        assert client.of("error")[0]["error"]["code"] == "session_ended"


async def test_a_configuration_over_the_ceiling_silences_the_server() -> None:
    """Responses go on without audio or error, also when later tools are too much."""
    big = [{"type": "function", "name": "f", "description": "x" * 2000}]
    scenario = FAST.with_switches("low_payload_ceiling")
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        n_deltas = len(client.of("response.output_audio.delta"))
        await client.send("session.update", session={"tools": big})
        await client.hear(TURN)
        await client.wait("response.done", 2)

        assert n_deltas > 0
        assert len(client.of("response.output_audio.delta")) == n_deltas
        assert not client.of("error")
        assert [each.rule for each in server.violations] == ["over_ceiling"]


@pytest.mark.parametrize("kind", ["output", "text"])
async def test_the_ceiling_may_be_one_of_the_whole_context(kind: str) -> None:
    """Then outputs and texts add up with the configuration, and smaller tools help."""
    tools = [{"type": "function", "name": "f", "description": "x" * 2000}]
    scenario = thrown("low_context_ceiling", replies=[[Call("f"), Call("f")]])
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure(tools=tools, generate_initial_response=True)
        await client.wait("response.done")
        calls = client.of("response.function_call_arguments.done")
        for count, call in enumerate(calls, 2):
            if kind == "output":
                await client.output(call["call_id"], "x" * 1500)
            else:
                await client.text("x" * 1500)
            await client.send("response.create")
            await client.wait("response.done", count)
        await client.send("session.update", session={"tools": []})
        await client.send("response.create")
        await client.wait("response.done", 4)

        assert [bool(response.pcm) for response in server.responses] == [False, True, False, True]
        assert not client.of("error")
        assert "over_ceiling" in {each.rule for each in server.violations}


# ------------------------------------------------------------------------------------------ turns


@pytest.mark.parametrize(
    ("mode", "after_cough", "after_turn"),
    [("on_time", 1, 2), ("late", 1, 2), ("missing_if_discarded", 0, 1), ("missing", 0, 0)],
)
async def test_speech_stopped_may_be_missing(mode: Any, after_cough: int, after_turn: int) -> None:
    """For a discarded turn, or for every turn."""
    async with (
        Emulator(dataclasses.replace(FAST, speech_stopped=mode)) as server,
        RawClient(server) as client,
    ):
        await client.configure()
        await client.hear(COUGH)
        await client.wait("conversation.item.done")
        assert len(client.of("input_audio_buffer.speech_stopped")) == after_cough
        await client.hear(TURN)
        await client.wait("response.done")
        assert len(client.of("input_audio_buffer.speech_stopped")) == after_turn


async def test_the_users_item_may_come_at_the_end_of_the_turn() -> None:
    """It is added and done at once then, whether the turn counts or not."""
    async with Emulator(thrown("user_item_at_end")) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(COUGH + TURN)
        await client.wait("response.created")

    started = client.of("input_audio_buffer.speech_started")
    added = client.of("conversation.item.added")
    assert [each["item_id"] for each in started] == [each["item"]["id"] for each in added[:2]]
    assert added[1]["previous_item_id"] == added[0]["item"]["id"]
    assert client.types()[2:11] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "conversation.item.added",
        "conversation.item.done",
    ] * 2 + ["response.created"]


async def test_a_server_may_think_before_it_says_that_the_user_has_stopped() -> None:
    """Then the response follows `speech_stopped` at once."""
    scenario = thrown("thinks_before_speech_stopped", think_s=1.0)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(TURN)
        with pytest.raises(TimeoutError):
            await client.wait("input_audio_buffer.speech_stopped", timeout=0.2)
        await client.wait("response.created")
        (stopped_at_s,) = (
            sent.at_s
            for sent in server.connection.server_events
            if isinstance(sent.event, events.InputAudioBufferSpeechStopped)
        )

        assert 0.01 <= server.responses[0].created_at_s - stopped_at_s < 0.5


async def test_a_user_who_goes_on_ends_the_thinking() -> None:
    """The turn that was thought about ends before the next one begins; the last one is answered."""
    scenario = thrown("thinks_before_speech_stopped", think_s=60.0)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(TURN + COUGH)
        await client.wait("response.done")
        kinds = [kind for kind in client.types() if kind.startswith("input_audio_buffer")]

        assert [kind.rpartition("_")[2] for kind in kinds] == ["started", "stopped"] * 2
        assert [turn.number for turn in server.connection.turns] == [1]


async def test_the_first_audio_of_a_response_may_take_its_time() -> None:
    """It comes so much later than `response.created`; what follows it comes as ever."""
    scenario = thrown("slow_to_speak", replies=[[Say(duration_s=0.1), Say(duration_s=0.1)]])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        sent_at_s = [sent.at_s for sent in server.connection.server_events if sent.n_audio_bytes]
        created_at_s = server.responses[0].created_at_s

    assert sent_at_s[0] - created_at_s >= 0.2
    assert sent_at_s[-1] - sent_at_s[0] < 0.2


async def test_speech_stopped_may_be_late() -> None:
    """Then it comes in the middle of the answer's audio."""
    client = await converse(thrown("speech_stopped_late"))
    kinds = [frame["type"] for frame in client.frames]
    async with Emulator(thrown("speech_stopped_late")) as server, RawClient(server) as client:
        await client.configure()
        await client.hear(TURN)
        await client.wait("response.done")
        kinds = [frame["type"] for frame in client.frames]

    stopped = kinds.index("input_audio_buffer.speech_stopped")
    assert kinds[stopped - 3 : stopped] == ["response.output_audio.delta"] * 3
    assert kinds.index("response.created") < stopped


async def test_a_late_speech_stopped_never_follows_the_next_start() -> None:
    """When the user goes on before the answer came, the old turn is stopped first."""
    for think_s in (5.0, 0.01):
        scenario = thrown("speech_stopped_late", SLOW, think_s=think_s)
        scenario = dataclasses.replace(scenario, default_reply=[Wait(9)])
        async with Emulator(scenario) as server, RawClient(server) as client:
            await client.configure()
            await client.hear(TURN)
            await client.wait("conversation.item.done")
            if think_s < 1:
                await client.wait("response.created")
            await client.hear(tone(0.3))
            await client.wait("input_audio_buffer.speech_started", 2)
            kinds = [kind for kind in client.types() if kind.startswith("input_audio_buffer")]

        assert [kind.rpartition("_")[2] for kind in kinds] == ["started", "stopped", "started"]


async def test_a_response_may_survive_a_cough() -> None:
    """A server that waits until it knows cancels for a turn, and not for a cough."""
    async with (
        Emulator(thrown("barge_in_when_settled", SLOW)) as server,
        RawClient(server) as client,
    ):
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.delta")
        await client.hear(COUGH)
        await client.wait("conversation.item.done")
        n_deltas = len(client.of("response.output_audio.delta"))
        await client.wait("response.output_audio.delta", n_deltas + 5)
        assert not client.of("response.done")
        await client.hear(TURN)
        done = (await client.wait("response.done"))["response"]
        assert done["status_details"]["reason"] == "interrupted"
        await client.wait("response.created", 2)


async def test_a_cough_may_cost_the_response() -> None:
    """By default a response is cancelled at once, though the turn is discarded then."""
    async with Emulator(SLOW) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.delta")
        await client.hear(COUGH)
        await client.wait("conversation.item.done", 2)

        assert len(client.of("response.done")) == len(server.responses) == 1


async def test_audio_may_follow_a_cancel() -> None:
    """Late deltas carry the cancelled id: after its end, and one after the next beginning."""
    scenario = SLOW.with_switches("late_deltas", "cancelled_items_stay_open")
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.delta")
        await client.hear(TURN)
        second = (await client.wait("response.created", 2))["response"]["id"]
        await client.wait("conversation.item.added", 3)
        first = server.responses[0]

        done = next(
            index for index, frame in enumerate(client.frames) if frame["type"] == "response.done"
        )
        created = next(
            index
            for index, frame in enumerate(client.frames)
            if frame["type"] == "response.created" and frame["response"]["id"] == second
        )
        late = [
            index
            for index, frame in enumerate(client.frames)
            if frame.get("response_id") == first.id and index > done
        ]
        assert [index > created for index in late] == [False, False, True]
        assert client.audio(first.id) == first.pcm + first.late_pcm
        assert not client.of("response.output_audio.done")
        assert [item["item"]["role"] for item in client.of("conversation.item.done")] == ["user"]


async def test_the_end_of_a_cancelled_response_may_come_late() -> None:
    """After the next `response.created`; or with the end of the turn, if that is discarded."""
    async with (
        Emulator(SLOW.with_switches("cancelled_done_late")) as server,
        RawClient(server) as client,
    ):
        await client.configure(generate_initial_response=True)
        await client.wait("response.output_audio.delta")
        await client.hear(TURN)
        await client.wait("response.done")
        ends = [kind for kind in client.types() if kind.startswith("response")]
        await client.wait("response.output_audio.delta")
        await client.hear(COUGH)
        await client.wait("response.done", 2)

        assert ends[:5] == [
            "response.created",
            "response.output_audio.delta",
            "response.created",
            "response.output_audio.done",
            "response.done",
        ]
        assert [done["response"]["id"] for done in client.of("response.done")] == [
            response.id for response in server.responses
        ]


# ----------------------------------------------------------------------------- responses and tools


@pytest.mark.parametrize(
    ("switches", "n_responses", "refused"),
    [
        ((), 2, []),
        (("bare_create_refused",), 0, ["ev_1", "ev_2"]),
        (("bare_create_ignored",), 0, []),
        (("message_items_refused",), 2, ["ev_text"]),
        (("message_items_dropped",), 2, []),
        (("message_items_refused", "bare_create_refused"), 0, ["ev_text", "ev_1", "ev_2"]),
    ],
)
async def test_replies_on_demand(
    switches: tuple[str, ...], n_responses: int, refused: list[str]
) -> None:
    """A text with `response.create`, and a bare one: spoken, refused by name, or ignored."""
    async with Emulator(FAST.with_switches(*switches)) as server, RawClient(server) as client:
        await client.configure()
        await client.text("say hello")
        await client.send("response.create", event_id="ev_1")
        if n_responses:
            await client.wait("response.done")
        await client.send("response.create", event_id="ev_2")
        if n_responses:
            await client.wait("response.done", 2)
        await client.settle()

        assert len(server.responses) == n_responses
        assert [error["error"]["event_id"] for error in client.of("error")] == refused


async def test_a_response_create_while_one_is_in_flight() -> None:
    """It is refused, ignored, or answered afterwards."""
    outcomes = []
    for mode in ("refused", "ignored", "queued"):
        scenario = dataclasses.replace(
            FAST, busy_response_create=mode, default_reply=Say(duration_s=4.0), audio_speed=20.0
        )
        async with Emulator(scenario) as server, RawClient(server) as client:
            await client.configure(generate_initial_response=True)
            await client.wait("response.created")
            await client.send("response.create")
            await client.wait("response.done")
            if mode == "queued":
                await client.wait("response.done", 2)
            outcomes.append((len(client.of("error")), len(server.responses)))

    assert outcomes == [(1, 1), (0, 1), (0, 2)]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(("mode", "n_answers"), [("one_answer", 1), ("two_answers", 2)])
async def test_a_response_create_beside_a_turn(mode: Any, n_answers: int, is_first: bool) -> None:
    """Both are answered by one response, or by one each, in their order."""
    scenario = dataclasses.replace(FAST, create_beside_turn=mode, think_s=0.5)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        if is_first:
            await client.send("response.create")
        await client.hear(TURN)
        await client.wait("conversation.item.done")
        if not is_first:
            await client.send("response.create")
        await client.wait("response.done", n_answers)
        with pytest.raises(TimeoutError):
            await client.wait("response.created", n_answers + 1, timeout=0.8)

        triggers = ["bare_create", "user_turn"] if is_first else ["user_turn", "bare_create"]
        expected = triggers if mode == "two_answers" else ["user_turn"]
        assert [response.trigger for response in server.responses] == expected


async def test_a_turn_that_waits_behind_a_response_is_answered_though_it_is_cut() -> None:
    """The user breaks into the first of two answers: the newest turn gets the second."""
    scenario = thrown("create_and_turn_both_answered", SLOW, think_s=0.1)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.send("response.create")
        await client.hear(TURN)
        await client.wait("response.output_audio.delta")
        await client.hear(TURN)
        await client.wait("response.created", 2)
        await client.send("response.cancel")
        await client.wait("response.done", 2)
        with pytest.raises(TimeoutError):
            await client.wait("response.created", 3, timeout=0.3)

        assert [response.trigger for response in server.responses] == ["bare_create", "user_turn"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("before_outputs", [1, 1, 2]), ("after_outputs", [0, 1, 2]), ("never", [0, 0, 1])],
)
async def test_the_end_of_a_calling_response(mode: Any, expected: list[int]) -> None:
    """It comes before the outputs, after the last of them, or never."""
    seen = []
    scenario = dataclasses.replace(
        FAST, calling_response_done=mode, replies=[[Call("a"), Call("b")]]
    )
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        first = (await client.wait("response.function_call_arguments.done", 1))["call_id"]
        second = (await client.wait("response.function_call_arguments.done", 2))["call_id"]
        await client.output(first)
        await client.settle()
        seen.append(len(client.of("response.done")))
        await client.output(second)
        await client.settle()
        seen.append(len(client.of("response.done")))
        await client.send("response.create")
        await client.wait("response.output_audio.done")
        await client.settle()
        seen.append(len(client.of("response.done")))

    assert seen == expected


async def test_a_response_whose_calls_others_have_replaced_ends_too() -> None:
    """Its end comes with its own last output, whatever was called since."""
    scenario = thrown("calling_done_after_outputs", replies=[Call("slow"), Call("quick")])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.function_call_arguments.done")
        await client.hear(TURN)
        await client.wait("response.function_call_arguments.done", 2)
        slow, quick = client.of("response.function_call_arguments.done")
        await client.output(quick["call_id"])
        await client.wait("response.done", 1)
        await client.output(slow["call_id"])
        await client.wait("response.done", 2)

    ended = [done["response"]["id"] for done in client.of("response.done")]
    assert ended == [quick["response_id"], slow["response_id"]]


async def test_a_calling_response_without_outputs_fails_in_the_end() -> None:
    """A server that waits for outputs ends the response when it gives them up."""
    scenario = FAST.with_switches("tools_time_out_soon", "calling_done_after_outputs")
    scenario = dataclasses.replace(scenario, replies=[CALLING])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        done = (await client.wait("response.done"))["response"]
        await client.wait("error")

    assert (done["status"], done["status_details"]["error"]["code"]) == (
        "failed",
        "tool_response_timeout",
    )


@pytest.mark.parametrize("speaks", [False, True])
async def test_a_tool_that_was_answered_in_time_is_not_given_up(speaks: bool) -> None:
    """Though the model thinks, or the user speaks, until long after the time is over."""
    scenario = thrown("tools_time_out_soon", replies=[CALLING], think_s=1.0)
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        call = await client.wait("response.function_call_arguments.done")
        await client.wait("response.done")
        if speaks:
            await client.hear(TURN)
            await client.wait("conversation.item.done", 2)
        await client.output(call["call_id"])
        await client.send("response.create")
        await client.wait("response.done", 2)

        assert not client.of("error")
        assert len(server.responses[1].pcm)


async def test_a_barge_in_may_cut_a_calling_response() -> None:
    """Its function calls can still be answered, and nothing times out for want of an answer."""
    scenario = SLOW.with_switches("tools_time_out_soon")
    scenario = dataclasses.replace(scenario, replies=[[Call("f"), Wait(60)]])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        call = await client.wait("response.function_call_arguments.done")
        await client.hear(TURN)
        done = (await client.wait("response.done"))["response"]
        await client.wait("response.created", 2)
        await client.output(call["call_id"])
        with pytest.raises(TimeoutError):
            await client.wait("error", timeout=0.4)

    assert done["status"] == "cancelled"


async def test_later_function_calls_replace_unanswered_ones() -> None:
    """The user goes on over a slow tool, and the answer calls again; both outputs are taken."""
    scenario = dataclasses.replace(FAST, replies=[Call("slow"), Call("quick")])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        slow = await client.wait("response.function_call_arguments.done")
        await client.wait("response.done")
        await client.hear(TURN)
        quick = await client.wait("response.function_call_arguments.done", 2)
        await client.wait("response.done", 2)
        await client.output(quick["call_id"])
        await client.send("response.create")
        await client.wait("response.done", 3)
        await client.output(slow["call_id"])
        await client.send("response.create")
        await client.wait("response.done", 4)

        assert [response.trigger for response in server.responses] == [
            "greeting",
            "user_turn",
            "tool_outputs",
            "tool_outputs",
        ]


async def test_a_function_call_may_overtake_a_response_create() -> None:
    """A client that took its calls for complete is answered when the response has ended."""
    scenario = dataclasses.replace(FAST, replies=[[Call("a"), Wait(0.3), Call("b")]])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        first = await client.wait("response.function_call_arguments.done")
        await client.output(first["call_id"])
        await client.send("response.create")
        second = await client.wait("response.function_call_arguments.done", 2)
        await client.output(second["call_id"])
        await client.wait("response.done", 2)

        assert [response.trigger for response in server.responses] == ["greeting", "tool_outputs"]


async def test_speech_and_function_calls_may_share_a_response() -> None:
    """By switch, or because the script says so."""
    client = await converse(thrown("speaks_before_calls"))
    response_id = client.of("response.function_call_arguments.done")[0]["response_id"]

    assert client.audio(response_id)


async def test_a_function_call_may_be_streamed_slowly() -> None:
    """The deltas of a function call can be apart, so that a client sees it half-streamed."""
    scenario = dataclasses.replace(FAST, replies=[Call("f", {"text": "x" * 20}, delta_s=0.05)])
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure(generate_initial_response=True)
        await client.wait("response.function_call_arguments.delta")
        assert not client.of("response.function_call_arguments.done")
        await client.wait("response.function_call_arguments.done")


async def test_items_of_the_client_may_come_back() -> None:
    """As `conversation.item.added` and `done`, in the chain of items."""
    client = await converse(thrown("client_items_echoed"))

    echoed = [
        frame["item"]
        for frame in client.of("conversation.item.added")
        if frame["item"]["type"] == "function_call_output"
    ]
    assert [item["output"] for item in echoed] == ["42"]


@pytest.mark.parametrize(
    ("switch", "codes"),
    [
        ("usage_zero", ["invalid_frame", "invalid_request_error", "invalid_frame"]),
        ("errors_all_invalid_request", ["invalid_request_error"] * 3),
        ("errors_all_invalid_frame", ["invalid_frame"] * 3),
    ],
)
async def test_codes_of_refusals(switch: str, codes: list[str]) -> None:
    """By the page schema failures are `invalid_frame`; the probes saw one code for all."""
    async with Emulator(thrown(switch), strict=False) as server, RawClient(server) as client:
        await client.configure()
        await client.send("session.update", session={"voice": "leo"})
        await client.output("call_unknown")
        await client.send("input_audio_buffer.clear")
        await client.wait("error", 3)

    assert [error["error"]["code"] for error in client.of("error")] == codes


async def test_errors_may_name_no_event() -> None:
    """Then a client can't tell what was wrong."""
    scenario = FAST.with_switches("errors_name_no_event", "message_items_refused")
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.configure()
        await client.text("hello")
        error = (await client.wait("error"))["error"]

    assert "event_id" not in error


async def test_unknown_types_may_be_ignored() -> None:
    """As an earlier page had it; a violation all the same."""
    scenario = thrown("unknown_types_ignored")
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure()
        await client.send("input_audio_buffer.clear")
        await client.settle()

        assert not client.of("error")
        assert server.violations[0].rule == "unknown_type"


# ------------------------------------------------------------------------------------- connection


async def test_pings_may_be_left_unanswered() -> None:
    """The connection works, and only pongs never come."""
    async with Emulator(FAST) as server, RawClient(server) as client:
        await asyncio.wait_for(await client.socket.ping(), 5)
    async with Emulator(thrown("pings_unanswered")) as server, RawClient(server) as client:
        pong = asyncio.ensure_future(await client.socket.ping())
        await client.configure(generate_initial_response=True)
        await client.wait("response.done")
        assert not pong.done()
        pong.cancel()


async def test_errors_may_close() -> None:
    """What the docs call survivable can end a session, and `server_full` can let it stand."""
    scenario = FAST.with_switches("every_error_closes")
    async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
        await client.configure()
        await client.output("call_unknown")
        assert await client.closed() == 1008
    scenario = FAST.with_switches("server_full_does_not_close")
    async with Emulator(scenario) as server, RawClient(server) as client:
        await client.wait("error")
        await client.configure()


async def test_a_burst_after_a_gap_floods_a_queue_only() -> None:
    """By the session's clock a gap may be made up for, by the queue's it may not."""
    for name, n_violations in (("flood_measured_by_queue", 1), ("usage_zero", 0)):
        scenario = thrown(name, max_lead_s=0.2)
        async with Emulator(scenario, strict=False) as server, RawClient(server) as client:
            await client.configure()
            await asyncio.sleep(0.4)  # the gap itself, not a synchronisation
            await client.hear(bytes(16_000))
            await (client.closed() if n_violations else client.settle())

            assert [each.rule for each in server.violations].count("flooded") == n_violations


def test_faults_and_switches_are_disjoint() -> None:
    """No name means two things."""
    assert not set(FAULTS) & set(SWITCHES)
