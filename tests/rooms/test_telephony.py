"""`examples/telephony.py`: calls as LiveKit's SIP service brings them into rooms.

No trunk is dialled: the caller is a participant of kind SIP with an 8 kHz voice, and LiveKit's SIP
API is stood in for by `sip.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from livekit import rtc

from livekit_plugins_hydra.testing import Call, Context, Emulator, Reply, Say, Scenario, Script

from .conftest import Rooms, complaints, new_room
from .guests import Guest, joined
from .livekit_server import LiveKit
from .programs import Program
from .sip import SipService
from .sound import Samples, recording, tone

PHONE_RATE_HZ = 8_000
CALLER = "sip_+15550199"

pytestmark = pytest.mark.asyncio(loop_scope="module")


def on_the_phone(samples: Samples) -> Samples:
    """Return what is left of 8 kHz samples after G.711: eight bits each, by mu-law."""
    mu = 255.0
    compressed = np.sign(samples) * np.log1p(mu * np.abs(samples / 32768.0)) / np.log1p(mu)
    coded = np.round(compressed * 127.0) / 127.0
    expanded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(mu)) / mu
    return np.asarray(expanded * 32767.0).astype(np.int16)


def spoken(name: str) -> Samples:
    """Return a recording as it comes over a phone line."""
    return on_the_phone(recording(name, PHONE_RATE_HZ))


@dataclass(frozen=True)
class Phone:
    """The example, ready to be called."""

    rooms: Rooms
    hydra: Emulator
    sip: SipService

    @asynccontextmanager
    async def call(self, replies: Script) -> AsyncIterator[Guest]:
        """Be on the phone, from the ringing to the end; Hydra answers by a script of its own."""
        self.hydra.scenario = Scenario(replies=replies)
        self.sip.transfers.clear()
        room = new_room()
        await self.rooms.dispatch(room, "telephone")
        token = self.rooms.livekit.token(
            room, CALLER, kind="sip", attributes={"sip.callStatus": "active"}
        )
        async with joined(self.rooms.livekit.url, token, rate_hz=PHONE_RATE_HZ) as caller:
            yield caller
        await self.hydra.wait_for(lambda books: not books.open_connections, timeout=30.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def phone(livekit: LiveKit) -> AsyncIterator[Phone]:
    """The example's worker, LiveKit's SIP API and a Hydra, for all tests here."""
    async with Emulator() as hydra, SipService(livekit) as sip:
        program = Program.python(
            *("examples/telephony.py", "dev"),
            **sip.environment,
            HYDRA_BASE_URL=hydra.url,
            SMALLEST_API_KEY="any-key-will-do",
        )
        with program:
            await program.has_said("registered worker")
            yield Phone(Rooms(livekit), hydra, sip)
            await asyncio.to_thread(program.stop)
        assert complaints(program) == []


async def test_caller_is_greeted_and_may_interrupt_at_once(phone: Phone) -> None:
    """The phone is answered; words of an 8 kHz voice in the first second of the greeting silence
    it, and are answered.
    """

    def reply(context: Context) -> Reply:
        is_greeting = context.trigger == "greeting"
        return Say(duration_s=4.0) if is_greeting else Say(duration_s=1.0, tone_hz=500.0)

    async with phone.call(reply) as caller:
        await caller.until_agent_sounds()
        await caller.say(spoken("user-barge-in"))
        await caller.until(lambda: caller.agent_ear.n_utterances == 2)
        await caller.until(lambda: caller.agent_ear.is_silent)
        greeting, answer = caller.agent_ear.utterances()

    triggers = [response.trigger for response in phone.hydra.connection.responses]
    assert triggers == ["greeting", "user_turn"]
    assert greeting.duration_s < 3.0
    assert abs(answer.duration_s - 1.0) < 0.15
    assert abs(answer.pitch_hz - 500.0) < 3.0


async def test_caller_on_hold_hears_music_and_is_not_heard(phone: Phone) -> None:
    """While the workshop is asked, the caller hears music, and may say anything; then the answer
    comes.
    """
    told: list[str] = []

    def reply(context: Context) -> Reply:
        told.extend(output.output for output in context.outputs)
        if context.trigger == "user_turn":
            return Call("ask_workshop", {"question": "Is my bicycle ready?"})
        return Say(duration_s=1.0, tone_hz=600.0 if told else 400.0)

    async with phone.call(reply) as caller:
        await caller.until_heard(1)
        await caller.say(spoken("user-question"))
        await caller.until(lambda: caller.background_ear.heard_s > 0.5)
        await caller.say(on_the_phone(tone(1.0, rate_hz=PHONE_RATE_HZ)))
        answer = await caller.until_heard(2)
        await caller.until(lambda: caller.background_ear.is_silent)

    assert abs(answer.pitch_hz - 600.0) < 3.0
    assert told == ["The bicycle is ready and can be picked up until six."]
    assert len(phone.hydra.connection.turns) == 1


@pytest.mark.parametrize("busy", [set(), {"tel:+15550101"}], ids=["free", "busy"])
async def test_call_is_transferred_or_goes_on(phone: Phone, busy: set[str]) -> None:
    """A transfer is asked of LiveKit's SIP API; where nobody answers, the model is told why."""
    told: list[str] = []

    def reply(context: Context) -> Reply:
        told.extend(output.output for output in context.outputs)
        if context.trigger == "user_turn":
            return [Say(duration_s=0.5), Call("transfer", {"department": "workshop"})]
        return Say(duration_s=1.0)

    phone.sip.busy = busy
    async with phone.call(reply) as caller:
        await caller.until_heard(1)
        await caller.say(spoken("user-question"))
        await phone.hydra.wait_for(lambda _: told, timeout=30.0)
        (transfer,) = phone.sip.transfers

    assert transfer.participant_identity == CALLER
    assert transfer.transfer_to == "tel:+15550101"
    assert told == [
        "The workshop can't be reached: SIP call failed: 486 Busy Here (failed_precondition)"
        if busy
        else "The caller has been transferred."
    ]


async def test_call_ends_with_a_goodbye(phone: Phone) -> None:
    """When the model ends the call, its goodbye is heard out, and then the line is dead."""
    lost: list[Any] = []

    def reply(context: Context) -> Reply:
        if context.trigger == "user_turn":
            return Call("end_call")
        return Say(duration_s=1.5, tone_hz=700.0 if context.outputs else 400.0)

    async with phone.call(reply) as caller:
        caller.room.on("disconnected", lost.append)
        await caller.until_heard(1)
        await caller.say(spoken("user-goodbye"))
        await caller.until(lambda: lost)
        _, goodbye = caller.agent_ear.utterances()

    assert abs(goodbye.duration_s - 1.5) < 0.2
    assert abs(goodbye.pitch_hz - 700.0) < 3.0
    assert lost == [rtc.DisconnectReason.ROOM_DELETED]


async def test_silent_caller_is_asked_once_and_then_hung_up_on(phone: Phone) -> None:
    """A line on which nobody speaks does not stay open."""
    lost: list[Any] = []
    async with phone.call(lambda _: Say(duration_s=0.5)) as caller:
        caller.room.on("disconnected", lost.append)
        await caller.until(lambda: lost, timeout=60.0)

    assert len(caller.agent_ear.utterances()) == 2
    assert lost == [rtc.DisconnectReason.ROOM_DELETED]
