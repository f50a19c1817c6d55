"""Calls in rooms: a guest with a microphone, an agent whose model is an emulated Hydra."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from livekit import rtc

from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.testing import Call, Context, Emulator, Reply, Say, Scenario

from .conftest import Rooms, new_room
from .guests import joined
from .livekit_server import LiveKit
from .programs import TOP
from .sound import RATE_HZ, Utterance, recording, tone

SPEECH = TOP / "examples" / "speech"
FORECAST = Say(wav=SPEECH / "agent-forecast.wav", text="Lisbon is sunny this morning.")

TOLERANCE_S = 0.3
"""How much longer or shorter something may be heard while others use this machine: WebRTC hides
what comes late by stretching. On an idle one it is 0.02 s."""

SILENCED_S = 0.5
"""Within this a barge-in must silence the agent at the listener, on a machine that others use too.

On an idle one it takes a fifth; `load.py` measures it and holds it to 150 ms.
"""


def last_speech_started_at(server: Emulator) -> float:
    """Return when the server last said that the user speaks."""
    return max(
        sent.at_s
        for sent in server.connection.server_events
        if isinstance(sent.event, events.InputAudioBufferSpeechStarted)
    )


def heard_by_hydra(server: Emulator) -> Utterance:
    """Return what came out of the wire, as an utterance at the rate of an ear."""
    import soxr

    samples = np.frombuffer(bytes(server.connection.received_audio), dtype=np.int16)
    return Utterance(0.0, 0.0, np.asarray(soxr.resample(samples, 16_000, RATE_HZ)))


# ---------------------------------------------------------------------------- sound


async def test_reply_is_heard_with_the_right_pitch_and_length(rooms: Rooms) -> None:
    """Spoken to, the agent answers; through Opus its tone keeps its pitch and its length."""
    scenario = Scenario(replies=[Say(tone_hz=523.0, duration_s=2.0)])
    async with Emulator(scenario) as server, rooms.call(server) as guest:
        await guest.say(recording("user-question", 48_000))
        reply = await guest.until_heard(1)

    assert abs(reply.pitch_hz - 523.0) < 3.0
    assert abs(reply.duration_s - 2.0) < TOLERANCE_S


async def test_agents_words_arrive_as_they_were_spoken(rooms: Rooms) -> None:
    """Recorded speech of the agent is heard as the same words, at the same pace."""
    async with Emulator(Scenario(replies=[FORECAST])) as server, rooms.call(server) as guest:
        await guest.say(recording("user-question", 48_000))
        await guest.until_agent_sounds()
        await guest.until_state("listening")
        forecast = recording("agent-forecast", RATE_HZ)
        (reply,) = guest.agent_ear.utterances(pause_s=2.0)

    assert abs(reply.duration_s - forecast.size / RATE_HZ) < 0.5
    assert reply.likeness(forecast) > 0.6


@pytest.mark.parametrize(
    "microphone",
    [{}, {"sample_rate": 16_000, "frame_size_ms": 20}],
    ids=["livekit's defaults", "16 kHz, 20 ms"],
)
async def test_user_is_heard_by_hydra_as_spoken(rooms: Rooms, microphone: dict[str, Any]) -> None:
    """A tone in the guest's microphone reaches Hydra at its pitch and length, and real speech a
    turn: with the frames that LiveKit gives by default, and with those that the documents name.
    """
    async with Emulator(Scenario()) as server, rooms.call(server, microphone=microphone) as guest:
        await guest.say(tone(2.0, hz=440.0, rate_hz=48_000))
        await guest.until_heard(1)
        await guest.say(recording("user-question", 48_000))
        await guest.until_heard(2)
        a_tone, words = server.connection.turns

    assert abs(heard_by_hydra(server).pitch_hz - 440.0) < 2.0
    assert abs(a_tone.duration_s - 2.0) < 0.5
    assert abs(words.duration_s - recording("user-question", 48_000).size / 48_000) < 0.6


# ---------------------------------------------------------------------------- turns


@pytest.mark.parametrize("speed", [10.0, 1.0], ids=["all generated", "still generating"])
async def test_barge_in_silences_the_agents_track(rooms: Rooms, speed: float) -> None:
    """When the user speaks over the agent, the listener hears it fall silent at once, whether
    Hydra has sent all of its reply already or not; then the user is answered.
    """
    scenario = Scenario(replies=[FORECAST, Say(tone_hz=300.0, duration_s=1.0)], audio_speed=speed)
    async with Emulator(scenario) as server, rooms.call(server) as guest:
        await guest.say(recording("user-question", 48_000))
        await guest.until_agent_sounds()
        await guest.until(lambda: guest.agent_ear.heard_s > 1.5)
        await guest.say(recording("user-barge-in", 48_000))
        started_at = last_speech_started_at(server)
        await guest.until(lambda: abs(guest.agent_ear.utterances()[-1].pitch_hz - 300.0) < 3.0)
        await guest.until_state("listening")
        *before, answer = guest.agent_ear.utterances()

    assert before[-1].ends_at - started_at < SILENCED_S
    assert abs(answer.duration_s - 1.0) < TOLERANCE_S


async def test_tool_round(rooms: Rooms) -> None:
    """A question that needs a tool is answered with what the tool has returned."""
    told: list[str] = []

    def reply(context: Context) -> Reply:
        told.extend(output.output for output in context.outputs)
        return Say(tone_hz=400.0) if told else Call("get_weather", {"city": "Lisbon"})

    async with Emulator(Scenario(replies=reply)) as server, rooms.call(server) as guest:
        await guest.say(recording("user-question", 48_000))
        answer = await guest.until_heard(1)
        tools = await guest.until_told("tools")

    assert tools["calls"] == ["get_weather"]
    assert told == ["Lisbon: sunny"]
    assert abs(answer.pitch_hz - 400.0) < 3.0


async def test_muted_track_ends_the_turn_and_an_unmuted_one_begins_a_new_one(rooms: Rooms) -> None:
    """Who mutes the microphone right after the last word is answered, and again when it is back."""
    scenario = Scenario(default_reply=Say(duration_s=1.0))
    async with Emulator(scenario) as server, rooms.call(server) as guest:
        assert guest.publication is not None, "the microphone is open"
        track = guest.publication.track
        assert isinstance(track, rtc.LocalAudioTrack)
        await guest.say(recording("user-question", 48_000))
        track.mute()
        await guest.until_heard(1)
        await guest.until_state("listening")
        track.unmute()
        await guest.say(recording("user-goodbye", 48_000))
        await guest.until_heard(2)

    assert [response.trigger for response in server.responses] == ["user_turn", "user_turn"]


async def test_silent_user_is_away_until_the_next_word(rooms: Rooms) -> None:
    """LiveKit's away timer runs in a room, and a word brings the user back."""
    async with (
        Emulator(Scenario()) as server,
        rooms.call(server, greeting="Say hello.", session={"user_away_timeout": 1.0}) as guest,
    ):
        await guest.until(lambda: "away" in guest.user_states)
        await guest.say(recording("user-question", 48_000))
        await guest.until(lambda: guest.user_states[-3:] == ["away", "speaking", "listening"])


@pytest.mark.parametrize("warmup_s", [None, 3.0], ids=["no warm-up", "livekit's default"])
async def test_user_who_speaks_while_the_agent_comes_is_answered(
    rooms: Rooms, livekit: LiveKit, warmup_s: float | None
) -> None:
    """Whoever talks before and while the agent joins and wants to greet is heard, and answered."""
    room = new_room()
    token = livekit.token(room, "user")
    scenario = Scenario(default_reply=Say(duration_s=1.0))
    async with Emulator(scenario) as server, joined(livekit.url, token) as guest:
        guest.microphone.say(np.tile(recording("user-question", 48_000), 2))
        session = {"aec_warmup_duration": warmup_s}
        await rooms.dispatch(
            room, "tests", base_url=server.url, greeting="Say hello.", session=session
        )
        await guest.until_told("started")
        await guest.microphone.wait_quiet()
        await guest.until_heard(1)
        await guest.say(recording("user-goodbye", 48_000))
        ended_at = guest.microphone.ended_at
        await guest.until(lambda: guest.agent_ear.last_began_at > ended_at)


async def test_greeting_that_is_cut_before_anyone_could_hear_it_leaves_the_agent_a_voice(
    rooms: Rooms, livekit: LiveKit
) -> None:
    """A barge-in before the agent's track is subscribed to takes the greeting, and no more."""
    room = new_room()
    token = livekit.token(room, "user")
    scenario = Scenario(replies=[Say(duration_s=4.0), Say(duration_s=1.0, tone_hz=500.0)])
    async with Emulator(scenario) as server, joined(livekit.url, token, listens=False) as guest:
        await rooms.dispatch(room, "tests", base_url=server.url, greeting="Say hello.")
        await guest.until_told("started")
        await server.wait_for(events.ResponseDone)
        await guest.say(recording("user-barge-in", 48_000))
        await guest.listen()
        answer = await guest.until_heard(1)

    assert [response.trigger for response in server.responses] == ["greeting", "user_turn"]
    assert abs(answer.pitch_hz - 500.0) < 3.0


# ---------------------------------------------------------------------------- text


async def test_captions_and_states_are_shown_to_the_room(rooms: Rooms) -> None:
    """What both sides say is on `lk.transcription` where Hydra sends text, and the agent's state
    is in its attributes.
    """
    scenario = Scenario(
        replies=[Say(duration_s=2.0, text="Lisbon is sunny this morning.")],
        transcripts=True,
        user_text="What is the weather like?",
    )
    async with Emulator(scenario) as server, rooms.call(server) as guest:
        await guest.say(recording("user-question", 48_000))
        await guest.until(lambda: guest.words_of("agent-") and guest.words_of("user"))
        await guest.until_state("listening")

    assert guest.words_of("agent-") == ["Lisbon is sunny this morning."]
    assert guest.words_of("user") == ["What is the weather like?"]
    states = [state for _, state in guest.states]
    assert states[-2:] == ["speaking", "listening"]


async def test_typed_text_is_answered_aloud(rooms: Rooms) -> None:
    """A line on `lk.chat` becomes text for Hydra, which is asked for an answer to it."""
    asked: list[str] = []

    def reply(context: Context) -> Say:
        asked.append(context.text)
        return Say(duration_s=1.0)

    async with Emulator(Scenario(replies=reply)) as server, rooms.call(server) as guest:
        await guest.say(recording("user-question", 48_000))
        await guest.until_heard(1)
        await guest.room.local_participant.send_text("And tomorrow?", topic="lk.chat")
        await guest.until_heard(2)

    assert [response.trigger for response in server.responses] == ["user_turn", "text"]
    assert "And tomorrow?" in asked[-1]


# ---------------------------------------------------------------------------- coming and going


async def test_what_is_said_before_the_track_is_there_is_answered(rooms: Rooms) -> None:
    """Pre-connect audio reaches Hydra before the microphone's own, and is answered."""
    async with Emulator(Scenario()) as server:
        async with rooms.call(server, has_microphone=False) as guest:
            await guest.open_microphone(said_before=recording("user-question", 48_000))
            await guest.until_heard(1)
        (turn,) = server.connections[0].turns

    assert abs(turn.duration_s - recording("user-question", 48_000).size / 48_000) < 0.6
    assert server.violations == []


async def test_call_ends_when_the_user_leaves_in_the_middle_of_a_reply(
    rooms: Rooms, livekit: LiveKit
) -> None:
    """Who hangs up while the agent speaks leaves no session and no connection behind."""
    scenario = Scenario(replies=[FORECAST], audio_speed=1.0)
    room = new_room()
    async with (
        Emulator(scenario) as server,
        rooms.call(server, room=room) as guest,
        joined(livekit.url, livekit.token(room, "observer"), has_microphone=False) as observer,
    ):
        await guest.say(recording("user-question", 48_000))
        await guest.until_agent_sounds()
        await guest.leave()
        closed = await observer.until_told("close")
        await server.wait_for(lambda books: not books.open_connections, timeout=30.0)

    assert closed["reason"] == "participant_disconnected"
    assert server.connection.close_code == 1000


async def test_lost_connection_to_hydra_is_made_again_in_the_middle_of_a_call(
    rooms: Rooms,
) -> None:
    """When Hydra drops, the room stays, and the user's next words are answered."""
    scenario = Scenario(default_reply=Say(duration_s=1.0))
    async with Emulator(scenario) as server, rooms.call(server) as guest:
        await guest.say(recording("user-question", 48_000))
        await guest.until_heard(1)
        server.drop()
        await server.wait_connections(2, timeout=30.0)
        await guest.say(recording("user-goodbye", 48_000))
        await guest.until_heard(2)

    assert [len(record.turns) for record in server.connections] == [1, 1]
    assert guest.told("close") == []


async def test_second_guest_hears_the_agent_and_is_not_heard_by_it(
    rooms: Rooms, livekit: LiveKit
) -> None:
    """In a room of three both guests hear the agent, and it listens to the first alone."""
    room = new_room()
    async with (
        Emulator(Scenario(default_reply=Say(duration_s=2.0))) as server,
        rooms.call(server, room=room) as first,
        joined(livekit.url, livekit.token(room, "second")) as second,
    ):
        await second.until(lambda: second.agent)
        await first.until(lambda: "second" in first.ears)
        await second.say(recording("user-question", 48_000))
        await first.until(lambda: first.ears["second"].is_silent)
        n_turns_by_second = len(server.connection.turns)
        await first.say(recording("user-question", 48_000))
        replies = await asyncio.gather(first.until_heard(1), second.until_heard(1))

    assert n_turns_by_second == 0
    assert all(abs(reply.duration_s - 2.0) < 0.15 for reply in replies)


async def test_call_can_be_recorded(rooms: Rooms) -> None:
    """With LiveKit's recording on, the file has both voices and the call goes as without."""
    record = {"audio": True, "traces": False, "logs": False, "transcript": False}
    scenario = Scenario(default_reply=Say(duration_s=2.0))
    async with Emulator(scenario) as server, rooms.call(server, record=record) as guest:
        await guest.say(recording("user-question", 48_000))
        reply = await guest.until_heard(1)
        await guest.until_state("listening")
        await guest.ask_to_end()
        recorded = await guest.until_told("recorded")

    assert abs(reply.duration_s - 2.0) < TOLERANCE_S
    left, right = recorded["seconds_of_sound"]
    assert left > 1.0
    assert abs(right - 2.0) < 0.5
