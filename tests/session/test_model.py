"""`RealtimeModel`: what it takes, what it refuses, what it says of itself, and its calls."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import APIConnectOptions, llm
from livekit.agents.types import NOT_GIVEN

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol import voices
from livekit_plugins_hydra.protocol.errors import ConfigurationError
from livekit_plugins_hydra.testing import Emulator, Scenario
from tests.calls import KEY, PATIENCE_S
from tests.odd_texts import Safe, Scalar, Voice

EVERY_VOICE = [(tag, voice) for tag, info in hydra.MODELS.items() for voice in info.voices]
SEEDS_WELCOME = Scenario(seed_voices="accepted")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set does not matter here."""
    for name in ("SMALLEST_API_KEY", "HYDRA_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as a warning or worse."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def wake(session: hydra.RealtimeSession) -> None:
    """Have a session configure its connection, whatever becomes of the reply."""
    session.generate_reply().add_done_callback(lambda reply: reply.exception())


async def configured(server: Emulator, n_connections: int = 1) -> Any:
    """Wait until a connection is configured, and return its record."""
    return await server.wait_for(
        lambda books: (
            books.connections[n_connections - 1]
            if len(books.connections) >= n_connections
            and books.connections[n_connections - 1].configured_at_s is not None
            else None
        ),
        timeout=PATIENCE_S,
    )


# ------------------------------------------------------------------------------- the key


@pytest.mark.parametrize("key", [None, "", "  \n"])
def test_a_missing_key_says_what_to_do(key: str | None) -> None:
    """Without a key the constructor names the variable to set and the argument to pass."""
    with pytest.raises(ValueError, match=r"SMALLEST_API_KEY.*api_key="):
        hydra.RealtimeModel(api_key=key)


def test_an_empty_key_in_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing is like one that is not set."""
    monkeypatch.setenv("SMALLEST_API_KEY", "")
    with pytest.raises(ValueError, match="SMALLEST_API_KEY"):
        hydra.RealtimeModel()


@pytest.mark.parametrize("key", ["two words", "schlüssel", "a\nb", "a\x00b"])
def test_a_garbled_key_is_refused_and_not_shown(key: str) -> None:
    """A key with characters that no key has is refused before any connection, and never quoted."""
    with pytest.raises(ValueError, match="copy it again") as caught:
        hydra.RealtimeModel(api_key=key)
    assert key not in str(caught.value)


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """SMALLEST_API_KEY and HYDRA_BASE_URL are enough; spaces around a key do no harm."""
    async with Emulator(Scenario(keys={KEY})) as server:
        monkeypatch.setenv("SMALLEST_API_KEY", f" {KEY}\n")
        monkeypatch.setenv("HYDRA_BASE_URL", server.url)
        model = hydra.RealtimeModel()
        wake(model.session())
        await configured(server)
        await model.aclose()


@pytest.mark.parametrize("quoted", [f'"{KEY}"', f"'{KEY}'", f' "{KEY}" ', f'{KEY}"'])
def test_a_key_in_quotes_is_refused(quoted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's env files keep them, and Hydra would refuse the key in mid-dial."""
    monkeypatch.setenv("SMALLEST_API_KEY", quoted)
    with pytest.raises(ValueError, match="the API key has quotes around it") as refused:
        hydra.RealtimeModel()
    assert KEY not in str(refused.value)


def test_configuration_errors_are_hydra_errors() -> None:
    """Whoever catches `HydraError` catches bad arguments as well."""
    with pytest.raises(hydra.HydraError):
        hydra.RealtimeModel(api_key="")


# ------------------------------------------------------------------------------- the url


@pytest.mark.parametrize(
    "url",
    [
        *("api.smallest.ai", "https://api.smallest.ai", "wss://", "wss://host:port/", "wss://[1/"),
        *("ws://localhost:0/", "wss://host:00/"),
    ],
)
def test_a_malformed_url_says_how_one_looks(url: str) -> None:
    """A base URL that is no WebSocket URL is refused with an example of a good one."""
    with pytest.raises(ValueError, match="wss://host/path"):
        hydra.RealtimeModel(api_key=KEY, base_url=url)


@pytest.mark.parametrize("url", [Path("wss://host/path"), b"wss://host/path", 443])
def test_a_url_of_another_type_says_how_one_looks(url: Any) -> None:
    """It is what it reads like, and that is no URL."""
    with pytest.raises(ValueError, match="wss://host/path"):
        hydra.RealtimeModel(api_key=KEY, base_url=url)


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "[2001:db8::1]:80"])
def test_a_key_in_clear_is_warned_of(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """``ws://`` beyond this machine warns that the key travels in clear."""
    hydra.RealtimeModel(api_key=KEY, base_url=f"ws://{host}/s2s")
    assert len(warnings_in(caplog)) == 1
    assert "in clear" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "url", ["ws://localhost:1/", "ws://127.0.0.1:1/", "ws://[::1]:1/", "wss://example.org/"]
)
def test_loopback_and_tls_are_not_warned_of(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """An emulator on this machine and an encrypted connection are fine."""
    hydra.RealtimeModel(api_key=KEY, base_url=url)
    assert warnings_in(caplog) == []


def test_there_are_two_ways_for_a_key_to_travel() -> None:
    """Another value of ``auth`` is refused with the two that there are."""
    with pytest.raises(ValueError, match="'query' or 'header'"):
        hydra.RealtimeModel(api_key=KEY, auth="cookie")  # type: ignore[arg-type]


# -------------------------------------------------------------------- models and voices


def test_there_are_three_models_and_thirty_voices() -> None:
    """The catalogue is the documented one, and each name exists once."""
    assert list(hydra.MODELS) == ["hydra-v1.1", "hydra-v1.0", "hydra"]
    assert len({voice for _, voice in EVERY_VOICE}) == len(EVERY_VOICE) == 30


@pytest.mark.parametrize("name", ["model", "voice"])
def test_an_empty_name_is_refused(name: str) -> None:
    """An empty model or voice is named, and what to do instead is said."""
    options: dict[str, Any] = {name: " "}
    with pytest.raises(ValueError, match=f"{name} is empty; leave it out"):
        hydra.RealtimeModel(api_key=KEY, **options)


async def test_every_model_and_voice_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The model follows from the voice, both reach the server, and its rate is known."""
    async with Emulator(SEEDS_WELCOME) as server:
        for tag, voice in EVERY_VOICE:
            model = hydra.RealtimeModel(api_key=KEY, base_url=server.url, voice=voice)
            session = model.session()
            wake(session)
            record = await configured(server, len(server.connections) + 1)
            await model.aclose()

            assert model.model == record.model == record.query["model"] == tag
            assert record.configuration.voice == voice
            assert record.output_rate_hz == hydra.MODELS[tag].output_rate_hz
    assert [text for text in warnings_in(caplog) if "deprecated" not in text] == []


@pytest.mark.parametrize(
    ("tag", "voice"), [("hydra-v1.1", "aria"), ("hydra-v1.0", "sterling"), ("hydra", "wren")]
)
async def test_a_voice_is_always_sent(tag: str, voice: str) -> None:
    """A model without a voice gets its own default, since the server's fits one roster only."""
    async with Emulator(SEEDS_WELCOME) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url, model=tag)
        wake(model.session())
        record = await configured(server)
        await model.aclose()
    assert record.query["model"] == tag
    assert record.configuration.voice == voice


@pytest.mark.parametrize(
    ("voice", "name"), [(Scalar("maya"), "maya"), (Safe("maya"), "maya"), (Voice.ARIA, "aria")]
)
async def test_a_name_may_be_any_kind_of_text(voice: str, name: str) -> None:
    """A YAML file's scalar, a safe string, a member of an enumeration: the server gets its text."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url, voice=voice)
        wake(model.session())
        record = await configured(server)
        await model.aclose()
    assert record.configuration.voice == name
    assert repr(model) == f"hydra.RealtimeModel(model='hydra-v1.1', voice={name!r})"


@pytest.mark.parametrize("name", ["model", "voice"])
def test_a_name_that_is_no_text_is_refused(name: str) -> None:
    """A class of voices, or a number, says what it should be."""
    options: dict[str, Any] = {name: 7}
    with pytest.raises(ConfigurationError, match=f"{name} must be text"):
        hydra.RealtimeModel(api_key=KEY, **options)


def test_a_voice_of_another_model_stays_with_the_model_that_was_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server has one list of voices for all tags: both are taken, and one warning names what
    there is.
    """
    model = hydra.RealtimeModel(api_key=KEY, model="hydra-v1.1", voice="sterling")
    assert model.model == "hydra-v1.1"
    assert "sterling" in repr(model)
    (warned,) = warnings_in(caplog)
    assert warned.startswith("the voice 'sterling' is one of 'hydra-v1.0'; 'hydra-v1.1' has 'zoe',")


def test_a_model_that_is_not_known_is_passed_on_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another vendor's, or a new one: one warning names those that there are."""
    model = hydra.RealtimeModel(api_key=KEY, model="gpt-4")
    model.update_options(voice="sterling")
    assert model.model == "gpt-4"
    assert warnings_in(caplog) == [
        "this plugin knows no model 'gpt-4' of Hydra; there are 'hydra-v1.1', 'hydra-v1.0', 'hydra'"
    ]


async def test_a_voice_of_another_vendor_costs_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is like none of Hydra's; where the server refuses it, calls speak with its default."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url, voice="shimmer")
        for number in (2, 3):
            wake(model.session())
            await configured(server, number)
        await model.aclose()
    asked = [event.session.voice for event in server.events_of(ev.SessionConfigure)]
    assert asked == ["shimmer", "sterling", "sterling"]
    (warned,) = warnings_in(caplog)
    assert "'shimmer' is in no roster" in warned
    assert "the default is 'aria'" in warned
    assert "calls speak with 'sterling'" in warned


def test_a_voice_in_no_roster_is_passed_on_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Rosters move: an unknown voice warns once, names the nearest, and goes to the server."""
    model = hydra.RealtimeModel(api_key=KEY, voice="Ariah")
    assert len(warnings_in(caplog)) == 1
    assert "'Ariah'" in caplog.text
    assert "'aria'" in caplog.text
    assert model.model == voices.DEFAULT_MODEL


# ------------------------------------------------------------------------ what it says


def test_the_capabilities_are_what_hydra_can_do() -> None:
    """Server turns, audio out, tools and context that change in mid-call; no more than it can."""
    model = hydra.RealtimeModel(api_key=KEY)
    capabilities = dataclasses.asdict(model.capabilities)
    true = {name for name, value in capabilities.items() if value}
    assert true == {
        "turn_detection",
        "audio_output",
        "mutable_chat_context",
        "mutable_tools",
        "message_truncation",
        "manual_function_calls",
    }


async def test_what_is_true_of_a_model_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """And not for each agent of a workflow: of its tag, of sizes, of what it does not have."""
    scenario = dataclasses.replace(SEEDS_WELCOME, tolerate=frozenset({"over_ceiling"}))
    async with Emulator(scenario) as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url, model="hydra")
        for number in range(3):
            session = model.session()
            session.commit_audio()
            await session._update_session(instructions="x" * (31_000 + number))
            await configured(server, number + 1)
            await session.aclose()
        await model.aclose()
    warned = warnings_in(caplog)
    for words in ("commit_audio() does nothing", "too large", "Hydra warns"):
        assert sum(words in sentence for sentence in warned) == 1


def test_model_and_provider_are_named_for_usage() -> None:
    """Usage and traces are booked under the tag and the vendor's own name."""
    model = hydra.RealtimeModel(api_key=KEY, model="hydra-v1.0")
    assert (model.model, model.provider) == ("hydra-v1.0", "SmallestAI")
    assert model.metrics_metadata == {"model_name": "hydra-v1.0", "model_provider": "SmallestAI"}


@pytest.mark.parametrize("auth", ["query", "header"])
async def test_no_repr_shows_the_key(auth: Any) -> None:
    """Neither the model nor its session, nor what they are made of, shows the key."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url, auth=auth)
        session = model.session()
        wake(session)
        await configured(server)
        shown = [repr(each) for each in (model, session, *vars(model).values())]
        shown += [repr(value) for value in vars(session).values()]
        await model.aclose()
    assert "hydra-v1.1" in repr(model)
    assert "aria" in repr(model)
    assert not [text for text in shown if KEY in text]


# ---------------------------------------------------------------------------- its calls


async def test_a_new_voice_is_for_later_calls() -> None:
    """`update_options(voice=)` changes the calls to come; those that run keep theirs."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url, voice="maya")
        first = model.session()
        model.update_options(voice="leo")
        wake(first)
        await configured(server)
        wake(model.session())
        await configured(server, 2)
        model.update_options()
        await model.aclose()
    assert [record.configuration.voice for record in server.connections] == ["maya", "leo"]


def test_an_unknown_new_voice_warns(caplog: pytest.LogCaptureFixture) -> None:
    """`update_options` checks a voice as the constructor does."""
    model = hydra.RealtimeModel(api_key=KEY)
    model.update_options(voice="leoo")
    assert "'leo'" in caplog.text
    with pytest.raises(ValueError, match="voice is empty"):
        model.update_options(voice=" ")


async def test_a_session_connects_at_once() -> None:
    """`session()` does not wait for anybody to need the connection: that saves a round trip."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        session = model.session()
        await server.wait_connections(1, timeout=PATIENCE_S)
        assert server.connection.configured_at_s is None
        assert session.realtime_model is model
        await model.aclose()


async def test_turn_detection_stays_on(caplog: pytest.LogCaptureFixture) -> None:
    """Hydra's turn detection can't be turned off; who asks is told."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        model.session(turn_detection_disabled=True)
        await model.aclose()
    assert "turn detection can't be turned off" in caplog.text


async def test_closing_the_model_ends_all_its_calls() -> None:
    """`aclose` ends every session: open ones, those that connect, and those that are closed."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        sessions = [model.session() for _ in range(3)]
        await server.wait_connections(3, timeout=PATIENCE_S)
        await sessions[0].aclose()
        sessions.append(model.session())

        await model.aclose()
        await model.aclose()
        await server.wait_for(lambda books: not books.open_connections, timeout=PATIENCE_S)
        for session in sessions:
            with pytest.raises(llm.RealtimeError, match="closed"):
                await session.generate_reply()


async def test_a_session_that_nobody_holds_goes_on() -> None:
    """The model's own list of sessions is weak, but a call never ends by garbage collection."""
    import gc

    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        wake(model.session())
        gc.collect()
        await configured(server)
        gc.collect()
        assert len(server.open_connections) == 1
        await model.aclose()
        await server.wait_for(lambda books: not books.open_connections, timeout=PATIENCE_S)


async def test_the_model_speaks_first_when_it_is_told_to() -> None:
    """`generate_initial_response` greets, on the first connection only."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(
            api_key=KEY, base_url=server.url, generate_initial_response=True
        )
        session = model.session()
        begun = asyncio.Event()
        session.on("generation_created", lambda event: begun.set())
        await session._update_session(instructions="You are kind.")
        await begun.wait()
        server.drop()
        await configured(server, 2)
        await model.aclose()
    asked = [record.configuration.generate_initial_response for record in server.connections]
    assert asked == [True, False]
    assert [response.trigger for response in server.responses] == ["greeting"]


async def test_connect_options_are_the_frameworks() -> None:
    """`conn_options` bounds the connections of a call that was never up."""
    async with Emulator(Scenario(http_refusals=9, http_retry_after_s=None)) as server:
        model = hydra.RealtimeModel(
            api_key=KEY, base_url=server.url, conn_options=APIConnectOptions(max_retry=1)
        )
        session = model.session()
        ended = asyncio.Event()

        @session.on("error")
        def _(error: llm.RealtimeModelError) -> None:
            if not error.recoverable:
                ended.set()

        await ended.wait()
        await model.aclose()
    assert len(server.dials) == 2


# ------------------------------------------------------------------------ odd arguments


async def connected(**options: Any) -> None:
    """Make a model with these options, and see that its call reaches the server."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(**{"base_url": server.url, "api_key": KEY} | options)
        model.session()
        await server.wait_connections(1, timeout=PATIENCE_S)
        await model.aclose()


@pytest.mark.parametrize("name", ["model", "voice"])
@pytest.mark.parametrize("value", [None, NOT_GIVEN])
def test_a_name_that_is_none_is_left_out(name: str, value: Any) -> None:
    """As in ``voice=os.environ.get("VOICE")``."""
    model = hydra.RealtimeModel(api_key=KEY, **{name: value})
    assert model.model == "hydra-v1.1"
    model.update_options(voice=value)
    assert "aria" in repr(model)


async def test_options_that_are_not_given_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other plugins take NOT_GIVEN for these, and so do wrappers that pass it on."""
    monkeypatch.setenv("SMALLEST_API_KEY", KEY)
    names = ("api_key", "input_stt", "output_stt", "conn_options", "wire_log")
    given: Any = dict.fromkeys(names, NOT_GIVEN)
    assert not hydra.RealtimeModel(**given).capabilities.user_transcription
    await connected(**given)


@pytest.mark.parametrize("name", ["input_stt", "output_stt"])
@pytest.mark.parametrize("engine", ["deepgram/nova-3", 7])
def test_an_stt_by_name_is_refused(name: str, engine: Any) -> None:
    """``AgentSession(stt="deepgram/nova-3")`` works; here it would be no text, silently."""
    given: Any = {name: engine}
    with pytest.raises(ConfigurationError, match=f"{name} must be an STT object"):
        hydra.RealtimeModel(api_key=KEY, **given)


@pytest.mark.parametrize("api_key", [123, b"sk-secret-key-of-bytes", object()])
def test_a_key_of_a_wrong_kind_is_refused_at_once(api_key: Any) -> None:
    """And not after four connections."""
    with pytest.raises(ConfigurationError, match="api_key must be text") as raised:
        hydra.RealtimeModel(api_key=api_key)
    assert "sk-secret" not in str(raised.value)


async def test_a_plain_function_may_return_the_key() -> None:
    """``api_key=lambda: vault.read("key")``."""
    await connected(api_key=lambda: KEY)


async def test_spaces_around_a_url_are_cut_off() -> None:
    """A line of a .env file may end in one."""
    async with Emulator() as server:
        model = hydra.RealtimeModel(api_key=KEY, base_url=f" {server.url} ")
        model.session()
        await server.wait_connections(1, timeout=PATIENCE_S)
        await model.aclose()


def test_a_model_outlives_an_event_loop() -> None:
    """A session that an ended loop has left behind harms no later one, as in a notebook."""
    left: list[hydra.RealtimeSession] = []

    async def first(model: hydra.RealtimeModel) -> None:
        left.append(model.session())
        await asyncio.sleep(0)

    async def second(model: hydra.RealtimeModel) -> None:
        await left[0].aclose()
        await model.aclose()

    model = hydra.RealtimeModel(api_key=KEY, base_url="ws://127.0.0.1:9/")
    asyncio.run(first(model))
    asyncio.run(second(model))
