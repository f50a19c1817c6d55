"""People in rooms: they join, speak from recordings, and keep what they hear and read.

Nothing here sleeps to synchronise: `Guest.until` looks again whenever something has come.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from livekit import rtc

from livekit_plugins_hydra.testing import Microphone

from .sound import RATE_HZ, Ear, Samples, Utterance

PATIENCE_S: Final = 30.0
"""How long a guest waits for what must come; far more than it takes on a slow machine."""

BACKGROUND: Final = "background_audio"
"""The name of the track that LiveKit's `BackgroundAudioPlayer` publishes."""

TELLS: Final = "tests.tells"
"""The topic on which the tests' worker tells what its session emits."""

ENDS: Final = "tests.ends"
"""The topic on which the tests' worker is asked to close its session."""

_MICROPHONE_QUEUE_MS: Final = 60
"""What may wait in WebRTC's source: little, so that `Microphone` keeps the time."""

_T = TypeVar("_T")


@dataclass
class Caption:
    """One text stream of `lk.transcription`."""

    identity: str
    """Whose words they are."""

    attributes: dict[str, str]
    text: str = ""
    is_final: bool = False


@dataclass
class Guest:
    """Somebody in a room."""

    room: rtc.Room
    microphone: Microphone
    ears: dict[str, Ear] = field(default_factory=dict)
    """What is heard of each other participant, by identity; background audio by itself."""

    states: list[tuple[float, str]] = field(default_factory=list)
    """The agent's states and when they were seen, oldest first."""

    captions: list[Caption] = field(default_factory=list)
    tells: list[dict[str, Any]] = field(default_factory=list)
    """What the tests' worker has told."""

    left: list[str] = field(default_factory=list)
    """Who has left, by identity."""

    publication: rtc.LocalTrackPublication | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    # ---------------------------------------------------------------------- speaking

    async def open_microphone(self, *, said_before: Samples | None = None) -> None:
        """Publish a track; it carries silence until `say`.

        Args:
            said_before: what was said before the track was there, sent as LiveKit's clients send
                pre-connect audio.
        """
        rate_hz = self.microphone.rate_hz
        source = rtc.AudioSource(rate_hz, 1, queue_size_ms=_MICROPHONE_QUEUE_MS)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        options = rtc.TrackPublishOptions(
            source=rtc.TrackSource.SOURCE_MICROPHONE, preconnect_buffer=said_before is not None
        )
        self.publication = await self.room.local_participant.publish_track(track, options)
        if said_before is not None:
            await self._send_before(said_before, self.publication.sid)
        self._spawn(self._speak(source))

    async def _send_before(self, samples: Samples, track_id: str) -> None:
        agent = await self.until(lambda: self.agent)
        assert agent is not None, "else it would be waited for"
        writer = await self.room.local_participant.stream_bytes(
            "pre-connect-audio",
            topic="lk.agent.pre-connect-audio-buffer",
            mime_type="audio/raw",
            attributes={
                "trackId": track_id,
                "sampleRate": str(self.microphone.rate_hz),
                "channels": "1",
            },
            destination_identities=[agent.identity],
        )
        await writer.write(samples.tobytes())
        await writer.aclose()

    async def _speak(self, source: rtc.AudioSource) -> None:
        try:
            async for frame in self.microphone:
                await source.capture_frame(frame)
        finally:
            await source.aclose()

    async def say(self, samples: Samples) -> float:
        """Speak; return when the last word ended."""
        self.microphone.say(samples)
        await self.microphone.wait_quiet()
        return self.microphone.ended_at

    async def listen(self) -> None:
        """Subscribe to the agent's track, where that does not happen by itself."""
        agent = await self.until(lambda: self.agent)
        assert agent is not None, "else it would be waited for"
        (publication,) = await self.until(lambda: list(agent.track_publications.values()))
        publication.set_subscribed(True)

    async def ask_to_end(self) -> None:
        """Ask the tests' worker to close its session and to stay in the room."""
        await self.room.local_participant.publish_data(b"", topic=ENDS)

    # ---------------------------------------------------------------------- waiting

    async def until(self, look: Callable[[], _T], timeout: float = PATIENCE_S) -> _T:
        """Wait until `look` returns something true, and return it."""
        try:
            async with asyncio.timeout(timeout):
                while not (seen := look()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            heard = {
                identity: [round(each.duration_s, 2) for each in ear.utterances()]
                for identity, ear in self.ears.items()
            }
            error.add_note(
                f"states {[state for _, state in self.states]}, heard {heard},"
                f" tells {self.tells[-8:]}, captions {self.captions[-4:]}"
            )
            raise
        return seen

    async def until_state(self, state: str, *, timeout: float = PATIENCE_S) -> None:
        """Wait until the agent is in a state."""
        await self.until(lambda: self.states and self.states[-1][1] == state, timeout)

    async def until_told(self, what: str, *, count: int = 1) -> dict[str, Any]:
        """Wait until the tests' worker has told something so often; return the last of it."""
        await self.until(lambda: len(self.told(what)) >= count)
        return self.told(what)[count - 1]

    async def until_heard(self, count: int, *, timeout: float = PATIENCE_S) -> Utterance:
        """Wait until the agent has said so many things, and is silent; return the last of them."""
        await self.until(
            lambda: self.agent_ear.is_silent and self.agent_ear.n_utterances >= count, timeout
        )
        return self.agent_ear.utterances()[count - 1]

    async def until_agent_sounds(self, count: int = 1) -> float:
        """Wait until the agent's so many-th utterance has begun; return when that was."""
        await self.until(lambda: self.agent_ear.n_utterances >= count)
        return self.agent_ear.utterances()[count - 1].begins_at

    # ---------------------------------------------------------------------- what came

    @property
    def agent(self) -> rtc.RemoteParticipant | None:
        """The agent in this room, if it is there."""
        for participant in self.room.remote_participants.values():
            if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
                return participant
        return None

    @property
    def agent_ear(self) -> Ear:
        """What is heard of the agent."""
        return self._ear(lambda key: "/" not in key)

    @property
    def background_ear(self) -> Ear:
        """What is heard of the agent's background audio."""
        return self._ear(lambda key: key.endswith(BACKGROUND))

    def _ear(self, fits: Callable[[str], bool]) -> Ear:
        for key, ear in self.ears.items():
            if key.startswith("agent-") and fits(key):
                return ear
        return Ear()

    def told(self, what: str) -> list[dict[str, Any]]:
        """Return what the worker has told under one name."""
        return [tell for tell in self.tells if tell["what"] == what]

    def words_of(self, prefix: str) -> list[str]:
        """Return the final captions of those whose identity begins so."""
        return [
            caption.text
            for caption in self.captions
            if caption.is_final and caption.identity.startswith(prefix)
        ]

    @property
    def user_states(self) -> list[str]:
        """The user's states, as the worker has told them."""
        return [tell["state"] for tell in self.told("user")]

    # ---------------------------------------------------------------------- inside

    def _listen(self) -> None:
        room = self.room

        @room.on("track_subscribed")
        def _(track: rtc.Track, _: rtc.RemoteTrackPublication, who: rtc.RemoteParticipant) -> None:
            if track.kind == rtc.TrackKind.KIND_AUDIO:
                is_background = track.name == BACKGROUND
                key = f"{who.identity}/{BACKGROUND}" if is_background else who.identity
                self._spawn(self._hear(track, self.ears.setdefault(key, Ear())))

        @room.on("track_published")
        def _(_: rtc.RemoteTrackPublication, __: rtc.RemoteParticipant) -> None:
            self._changed.set()

        @room.on("participant_attributes_changed")
        def _(changed: dict[str, str], who: rtc.Participant) -> None:
            self._note_state(who)

        @room.on("participant_connected")
        def _(who: rtc.RemoteParticipant) -> None:
            self._note_state(who)

        @room.on("participant_disconnected")
        def _(who: rtc.RemoteParticipant) -> None:
            self.left.append(who.identity)
            self._changed.set()

        @room.on("data_received")
        def _(packet: rtc.DataPacket) -> None:
            if packet.topic == TELLS:
                self.tells.append(json.loads(packet.data))
                self._changed.set()

        @room.on("disconnected")
        def _(_: object) -> None:
            self._changed.set()

        room.register_text_stream_handler(
            "lk.transcription", lambda reader, identity: self._spawn(self._read(reader, identity))
        )

    def _note_state(self, who: rtc.Participant) -> None:
        state = who.attributes.get("lk.agent.state")
        if state and (not self.states or self.states[-1][1] != state):
            self.states.append((time.monotonic(), state))
        self._changed.set()

    async def _hear(self, track: rtc.Track, ear: Ear) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE_HZ, num_channels=1, frame_size_ms=10)
        try:
            async for event in stream:
                ear.hear(time.monotonic(), np.frombuffer(bytes(event.frame.data), dtype=np.int16))
                self._changed.set()
        finally:
            await stream.aclose()

    async def _read(self, reader: rtc.TextStreamReader, identity: str) -> None:
        caption = Caption(identity, dict(reader.info.attributes or {}))
        self.captions.append(caption)
        async for chunk in reader:
            caption.text += chunk
            self._changed.set()
        # The last attributes of a stream come with its end.
        caption.attributes = dict(reader.info.attributes or {})
        caption.is_final = caption.attributes.get("lk.transcription_final") == "true"
        self._changed.set()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def leave(self) -> None:
        """Leave the room. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.room.isconnected():
            await self.room.disconnect()


@asynccontextmanager
async def joined(
    url: str,
    token: str,
    *,
    rate_hz: int = 48_000,
    has_microphone: bool = True,
    listens: bool = True,
) -> AsyncIterator[Guest]:
    """Be in a room while the block runs.

    Args:
        url: the server's.
        token: what lets the guest in.
        rate_hz: of the microphone; what `say` takes.
        has_microphone: whether a track is published at once.
        listens: whether what others publish is subscribed to at once; else `listen` does it.
    """
    guest = Guest(rtc.Room(), Microphone(rate_hz=rate_hz, frame_ms=20))
    guest._listen()
    await guest.room.connect(url, token, rtc.RoomOptions(auto_subscribe=listens))
    for participant in guest.room.remote_participants.values():
        guest._note_state(participant)
    try:
        if has_microphone:
            await guest.open_microphone()
        yield guest
    finally:
        await guest.leave()
