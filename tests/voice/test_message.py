"""The audio of a response waits until somebody in the room can hear it."""

from __future__ import annotations

import asyncio
import math
import time
from types import SimpleNamespace
from typing import Any

import pytest

from livekit_plugins_hydra.framework.quirks import until_subscribed
from livekit_plugins_hydra.voice.message import Message
from livekit_plugins_hydra.voice.transcript import Spacing
from livekit_plugins_hydra.voice.transcription import Transcriber
from tests.recognisers import ToneSTT, Vocabulary

PCM = bytes(960)


class Session:
    """What a message looks for in its `AgentSession`: the room, and who hears it."""

    def __init__(self, *, output: object = None, has_room: bool = True) -> None:
        """Make a session that plays to its room, or to another output."""
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room = SimpleNamespace(
            audio_output=SimpleNamespace(next_in_chain=None), subscribed_fut=self.subscribed
        )
        recorder = SimpleNamespace(next_in_chain=self._room.audio_output)
        self.output = SimpleNamespace(audio=output or recorder)
        self._has_room = has_room

    @property
    def room_io(self) -> Any:
        """The room, if there is one."""
        if not self._has_room:
            raise RuntimeError("the AgentSession was not started with a room")
        return self._room


def message_of(session: Session | None, transcriber: Transcriber | None = None) -> Message:
    """Return a message of a call of this session, without audio."""
    return Message(
        "m1",
        rate_hz=24_000,
        spacing=Spacing(),
        transcriber=transcriber,
        on_text=lambda _: None,
        until_subscribed=lambda: until_subscribed(session),  # type: ignore[arg-type]  # as much of one as is looked at
    )


def audio_stream(session: Session | None) -> Any:
    """Return the stream of a message that has some audio."""
    message = message_of(session)
    message.push_audio(PCM)
    message.push_audio(PCM)
    return message.present().audio_stream


async def test_interruption_before_anyone_hears_leaves_the_room_its_ear() -> None:
    """No frame comes out before the track is subscribed to; who stops waiting cancels nothing."""
    session = Session()
    reader = asyncio.ensure_future(anext(audio_stream(session)))
    await asyncio.wait([reader], timeout=0.01)
    assert not reader.done()

    reader.cancel()
    await asyncio.wait([reader])
    assert not session.subscribed.done()

    later = asyncio.ensure_future(anext(audio_stream(session)))
    session.subscribed.set_result(None)
    assert (await later).sample_rate == 24_000


@pytest.mark.parametrize(
    "situation", ["no session", "no room", "another output", "cancelled by somebody else"]
)
async def test_audio_comes_at_once_where_no_room_is_to_play_it(situation: str) -> None:
    """In a console, in tests, with an avatar's output and so on, nothing is waited for."""
    avatar = SimpleNamespace(next_in_chain=None)
    session = Session(
        output=avatar if situation == "another output" else None,
        has_room=situation != "no room",
    )
    if situation == "cancelled by somebody else":
        session.subscribed.cancel()

    stream = audio_stream(None if situation == "no session" else session)
    async with asyncio.timeout(1.0):
        frames = [await anext(stream), await anext(stream)]

    assert [frame.samples_per_channel for frame in frames] == [480, 480]


async def test_what_was_not_taken_to_be_played_is_unplayed() -> None:
    """A room may take audio later than the clock has it, so nothing of it is forgotten."""
    message = message_of(None)
    audio = message.present().audio_stream
    message.push_audio(PCM)
    assert message.unplayed_s == math.inf

    await anext(aiter(audio))
    assert message.unplayed_s < math.inf
    message.push_audio(PCM)
    assert message.unplayed_s == math.inf


async def test_a_text_that_is_shown_without_the_audio_ends_with_it() -> None:
    """Where the output has no audio, nobody plays it; the text is given up all the same."""
    slow = ToneSTT(Vocabulary({}), delay_s=60.0)
    transcriber = Transcriber(slow, side="agent", warned=set(), on_metrics=lambda *_: None)
    message = message_of(Session(), transcriber)
    message.push_audio(bytes(48_000))
    message.finish()

    async with asyncio.timeout(5.0):
        assert [piece async for piece in message.present().text_stream] == []
    await transcriber.aclose()


@pytest.mark.parametrize("is_cut", [False, True])
async def test_nothing_is_played_before_somebody_can_hear_it(is_cut: bool) -> None:
    """A caller is subscribed seconds after the greeting: until then the clock stands still."""
    session = Session()
    message = message_of(session)
    message.push_text("Hello, how can I help you?")
    message.push_audio(bytes(48_000))  # a second
    reader = asyncio.ensure_future(anext(aiter(message.present().audio_stream)))
    await asyncio.sleep(3.0)
    assert message.is_playing
    assert message.played_until == pytest.approx(time.monotonic() + 1.0, abs=0.01)

    if is_cut:
        message.cut_short()
        assert message.played_text == ""
        reader.cancel()
        return
    session.subscribed.set_result(None)
    await reader
    await asyncio.sleep(0.75)
    message.cut_short()
    assert message.played_text == "Hello, how can I"
