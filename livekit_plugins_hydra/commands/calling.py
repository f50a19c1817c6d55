"""A call with recorded speech as the user: a real `AgentSession`, without a room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from livekit.agents import (
    Agent,
    AgentSession,
    APIError,
    APIStatusError,
    CloseEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    llm,
)
from livekit.agents.llm import ChatMessage
from livekit.agents.voice import TranscriptSynchronizer
from livekit.agents.voice.io import PlaybackFinishedEvent, PlaybackStartedEvent

from livekit_plugins_hydra import RealtimeModel, RealtimeSession
from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.protocol.errors import CODES_OF_BAD_CONFIGURATION
from livekit_plugins_hydra.testing import Loudspeaker, Microphone
from livekit_plugins_hydra.testing.recordings import Samples

from .flags import PATIENCE_S

RATE_HZ: Final = 16_000
"""Of the user's audio: what Hydra takes, so that nothing is resampled twice."""

ENDLESS_S: Final = 300.0
"""How long one answer may be played. Our choice."""

_PAUSE_S: Final = 0.8
"""How long the agent is silent before the user takes it for done. Our choice."""

_LEAD_S: Final = 0.5
"""Silence before the first word, as when somebody picks up a phone. Our choice."""

_REFUSALS: Final = (401, 403)


@dataclass(frozen=True)
class Recording:
    """Something that the user says."""

    path: Path
    samples: Samples
    """int16 (n_samples,) at `RATE_HZ`."""

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.samples.size / RATE_HZ


Failing = Literal["key", "option", "connection", "call"]


class CallFailed(Exception):
    """The call did not go as it should; the text says where."""

    def __init__(self, what: str, remedy: str = "", *, kind: Failing = "call") -> None:
        super().__init__(what)
        self.remedy = remedy
        self.kind = kind
        """What has failed; an option, where the server refuses what it is configured with."""


Note = Callable[[float, str, str], None]
"""Takes what happens: seconds since the begin, who, what."""


class Caller:
    """The user of one call."""

    def __init__(
        self, model: RealtimeModel, agent: Agent, note: Note, *, patience_s: float = PATIENCE_S
    ) -> None:
        """Prepare a call; `hold` makes it.

        Args:
            model: whom the agent speaks with.
            agent: instructions and tools.
            note: takes what happens.
            patience_s: how long the user waits for an answer.
        """
        self._patience_s = patience_s
        self.microphone = Microphone(rate_hz=RATE_HZ, frame_ms=20)
        self.loudspeaker = Loudspeaker()
        self._model = model
        self._agent = agent
        # There is no echo, so barge-ins count from the first second on.
        self._session: AgentSession[Any] = AgentSession(llm=model, aec_warmup_duration=None)
        self._session.input.audio = self.microphone
        # As in a room: text keeps the pace of the voice, so that a message that is cut ends with
        # the word that was played last.
        self._subtitles = TranscriptSynchronizer(
            next_in_chain_audio=self.loudspeaker, next_in_chain_text=None
        )
        self._session.output.audio = self._subtitles.audio_output
        self._session.output.transcription = self._subtitles.text_output
        self._note_at = note
        self.began_at = time.monotonic()
        """When the call began."""
        self._changed = asyncio.Event()
        self._failure: CallFailed | None = None
        self._is_ready = False
        self._was_heard = False
        self._n_playouts = 0
        """How many playouts had begun when the user stopped to speak."""
        self._spoken_at = 0.0
        self._playing_since: float | None = None
        self._listen()

    def _listen(self) -> None:
        self.loudspeaker.on("playback_started", self._on_playback_started)
        self.loudspeaker.on("playback_finished", self._on_playback_finished)
        self._session.on("agent_state_changed", lambda _: self._changed.set())
        self._session.on("conversation_item_added", self._on_item)
        self._session.on("function_tools_executed", self._on_tools)
        self._session.on("error", self._on_error)
        self._session.on("close", self._on_close)

    async def hold(self, turns: Sequence[Recording], *, barge_in_s: float | None) -> None:
        """Say one recording after another, and wait for each answer.

        Args:
            turns: what the user says.
            barge_in_s: how much of an answer is played before the next recording; None
                waits until it is over.

        Raises:
            CallFailed: something did not come.
        """
        self.began_at = time.monotonic()
        try:
            await self._session.start(self._agent)
            self._watch()
            await self._until(lambda: self._is_ready, PATIENCE_S)
            await asyncio.sleep(_LEAD_S)
            for number, turn in enumerate(turns, 1):
                await self._say(turn)
                await self._wait_for_answer(turn)
                if barge_in_s is None or number == len(turns):
                    await self._wait_for_end()
                else:
                    await self._play_for(barge_in_s)
        finally:
            await self._session.aclose()
            await self._subtitles.aclose()
            await self._model.aclose()

    # ---------------------------------------------------------------- what the user does

    async def _say(self, turn: Recording) -> None:
        is_over = self._playing_since is not None
        verb = "interrupts" if is_over else "says"
        self._note("user", f"{verb} {turn.path.name} ({turn.duration_s:.1f} s)")
        self._was_heard = False
        self.microphone.say(turn.samples)
        await self.microphone.wait_quiet()
        self._spoken_at = self.microphone.ended_at
        self._n_playouts = len(self.loudspeaker.heard)
        self._changed.set()

    async def _wait_for_answer(self, turn: Recording) -> None:
        def is_answered() -> bool:
            return len(self.loudspeaker.heard) > self._n_playouts

        try:
            await self._until(is_answered, self._patience_s)
        except TimeoutError:
            why = (
                "Hydra heard it, and did not answer; the wire log shows what it sent instead."
                if self._was_heard
                else "Hydra heard no speech in it: is it loud enough, and longer than a cough?"
            )
            raise CallFailed(
                f"No answer to {turn.path.name} within {self._patience_s:g} s.", why
            ) from None

    async def _wait_for_end(self) -> None:
        is_over = False
        while not is_over:
            try:
                await self._until(self._is_silent, ENDLESS_S)
            except TimeoutError:
                raise CallFailed(f"The agent did not come to an end in {ENDLESS_S:g} s.") from None
            await asyncio.sleep(_PAUSE_S)
            is_over = self._is_silent()

    async def _play_for(self, seconds: float) -> None:
        began_at = self._playing_since
        if began_at is not None:
            await asyncio.sleep(max(0.0, began_at + seconds - time.monotonic()))

    async def _until(self, is_so: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while not is_so():
                if self._failure is not None:
                    raise self._failure
                self._changed.clear()
                await self._changed.wait()

    def _is_silent(self) -> bool:
        return self._session.agent_state == "listening" and self._playing_since is None

    # ---------------------------------------------------------------- what happens

    def _watch(self) -> None:
        session = self._agent.realtime_llm_session
        if isinstance(session, RealtimeSession):
            session.on("hydra_server_event", self._on_server_event)

    def _note(self, who: str, what: str) -> None:
        self._note_at(time.monotonic() - self.began_at, who, what)

    def _on_server_event(self, event: events.ServerEvent | events.UnknownEvent) -> None:
        match event:
            case events.SessionConfigured(session=session):
                rate_hz = session.output_audio_sample_rate
                speaks_at = f"{rate_hz:,} Hz" if rate_hz else "a rate that it does not say"
                self._note("hydra", f"is ready: voice {session.voice}, {speaks_at}")
                self._is_ready = True
            case events.InputAudioBufferSpeechStarted():
                self._was_heard = True
            case events.ResponseFunctionCallArgumentsDone(name=name, arguments=arguments):
                self._note("hydra", f"calls {name}({arguments})")
            case _:
                return
        self._changed.set()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        match event.item:
            case ChatMessage(role="user", text_content=str(text)) if text:
                self._note("user", f'said: "{text}"')
            case ChatMessage(role="assistant", text_content=str(text)) as message if text:
                end = " -" if message.interrupted else ""
                self._note("agent", f'said: "{text}{end}"')

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            verb = "fails" if output.is_error else "returns"
            self._note("tool", f"{call.name} {verb}: {output.output}")
        self._changed.set()

    def _on_playback_started(self, _: PlaybackStartedEvent) -> None:
        self._playing_since = time.monotonic()
        waited = ""
        if self._spoken_at and len(self.loudspeaker.heard) == self._n_playouts + 1:
            waited = f", {time.monotonic() - self._spoken_at:.2f} s after the user's last audio"
        self._note("agent", f"begins to speak{waited}")
        self._changed.set()

    def _on_playback_finished(self, event: PlaybackFinishedEvent) -> None:
        self._playing_since = None
        verb = "falls silent after" if event.interrupted else "has spoken for"
        self._note("agent", f"{verb} {event.playback_position:.2f} s")
        self._changed.set()

    def _on_error(self, event: ErrorEvent) -> None:
        error = event.error
        if isinstance(error, llm.RealtimeModelError) and error.recoverable:
            self._note("hydra", f"error: {error.error}")

    def _on_close(self, event: CloseEvent) -> None:
        cause = getattr(event.error, "error", None) or event.error
        what = str(getattr(cause, "message", None) or cause or f"ended: {event.reason.value}")
        kind: Failing
        if isinstance(cause, APIStatusError) and cause.status_code in _REFUSALS:
            kind = "key"
        elif self._is_ready:
            kind = "call"
        else:
            kind = "option" if _is_about_options(cause) else "connection"
        self._failure = CallFailed(what, kind=kind)
        self._changed.set()


def _is_about_options(cause: object) -> bool:
    """Return whether the server refuses what it was configured with: a voice, for example."""
    body = cause.body if isinstance(cause, APIError) else None
    return isinstance(body, dict) and body.get("code") in CODES_OF_BAD_CONFIGURATION
