"""A whole call at real time: greeting, a question that calls a tool, a barge-in, goodbye.

A real `AgentSession` talks to a Hydra that is emulated in this process, so neither a key nor a
room is needed. The user is recorded speech. It prints what happens and how long that took, and
writes the call as a stereo wav file, user left and agent right.

    sh examples/demo.sh                 # the emulated Hydra
    sh examples/demo.sh --live          # the real one; needs SMALLEST_API_KEY
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
import time
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from livekit.agents import (
    Agent,
    AgentSession,
    CloseEvent,
    ConversationItemAddedEvent,
    FunctionToolsExecutedEvent,
    function_tool,
)
from livekit.agents.llm import ChatMessage
from livekit.agents.voice import TranscriptSynchronizer
from livekit.agents.voice.io import PlaybackFinishedEvent, PlaybackStartedEvent
from livekit.plugins import hydra

from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.testing import (
    Call,
    Emulator,
    Loudspeaker,
    Microphone,
    Say,
    Scenario,
    write_call,
)

SPEECH: Final = Path(__file__).parent / "speech"
USER_RATE_HZ: Final = 16_000

BARGE_IN_AFTER_S: Final = 4.0
"""How much of the forecast the user listens to."""

PAUSE_S: Final = 0.5
"""How long the agent is silent before the user takes it for done."""

PATIENCE_S: Final = 20.0
"""How long the user waits for anything."""


class WeatherLine(Agent):
    """The agent, as it would be with any other realtime model."""

    def __init__(self) -> None:
        super().__init__(
            instructions=(
                "You are the voice of a weather line. Call get_weather before you speak of the"
                " weather. Describe the whole day in three or four long sentences. When you are"
                " interrupted, answer only what was asked, in one short sentence."
            )
        )

    async def on_enter(self) -> None:
        """Speak first."""
        self.session.generate_reply(
            instructions="Say hello, say that this is the weather line, and ask for the city."
        )

    @function_tool
    async def get_weather(self, city: str) -> str:
        """Look up today's weather.

        Args:
            city: the city's name
        """
        await asyncio.sleep(0.3)  # about what a weather service takes
        return f"{city}: sunny, 24 degrees; clouds later; a light shower in the hills, dry in town"


def words(name: str) -> str:
    """Return what is said in a recording."""
    return (SPEECH / f"{name}.txt").read_text(encoding="utf-8").strip()


def spoken(name: str) -> Say:
    """Return a recording, as something that the emulated Hydra says."""
    return Say(wav=SPEECH / f"{name}.wav", text=words(name))


SCENARIO: Final = Scenario(
    replies=[
        spoken("agent-greeting"),
        Call("get_weather", {"city": "Lisbon"}),
        spoken("agent-forecast"),
        spoken("agent-reaction"),
        spoken("agent-goodbye"),
    ],
    think_s=0.25,
    transcripts=True,  # Hydra isn't documented to send them; without, nobody could read along
)


class CallFailed(Exception):
    """The call did not go as it should; the text says where."""


class Timeline:
    """Prints what happens and keeps what was measured; the clock is `time.monotonic`."""

    def __init__(self) -> None:
        self.began_at = time.monotonic()
        self._measured: dict[str, float] = {}

    def note(self, who: str, what: str) -> None:
        """Print one line."""
        print(f"{time.monotonic() - self.began_at:6.2f}  {who:<6} {what}", flush=True)

    def measure(self, what: str, since: float, until: float | None = None) -> str:
        """Keep a latency that ends now, or at `until`; return it in words."""
        seconds = (time.monotonic() if until is None else until) - since
        self._measured.setdefault(what, seconds)
        return f"{seconds:.2f} s"

    def print_measured(self) -> None:
        """Print everything that was measured."""
        width = max((len(what) for what in self._measured), default=0)
        for what, seconds in self._measured.items():
            print(f"  {what:<{width}}  {seconds * 1000:7.1f} ms")


class Caller:
    """The user: speaks from recordings, listens, and notes what happens."""

    def __init__(self, session: AgentSession[None], timeline: Timeline) -> None:
        self.microphone = Microphone(rate_hz=USER_RATE_HZ, frame_ms=20)
        self.loudspeaker = Loudspeaker()
        # As in a room: text keeps the pace of the voice, so that a message that is cut ends with
        # the word that was heard last.
        self.subtitles = TranscriptSynchronizer(
            next_in_chain_audio=self.loudspeaker, next_in_chain_text=None
        )
        session.input.audio = self.microphone
        session.output.audio = self.subtitles.audio_output
        session.output.transcription = self.subtitles.text_output

        self._session = session
        self._timeline = timeline
        self._changed = asyncio.Event()
        self._failure: str | None = None
        self._awaits_answer = True
        self._asked = "greeting: start"
        self._asked_at = timeline.began_at
        self._tool_returned_at: float | None = None
        self._n_pieces_before = 0
        self._speech_started_at = 0.0

        self.loudspeaker.on("playback_started", self._on_playback_started)
        self.loudspeaker.on("playback_finished", self._on_playback_finished)
        session.on("agent_state_changed", lambda _: self._changed.set())
        session.on("conversation_item_added", self._on_item)
        session.on("function_tools_executed", self._on_tools)
        session.on("close", self._on_close)

    # -------------------------------------------------------------------- what the user does

    async def say(self, name: str) -> None:
        """Say a recording, over the agent's voice if it speaks."""
        with wave.open(str(SPEECH / f"user-{name}.wav"), "rb") as file:
            pcm = file.readframes(file.getnframes())
        verb = "interrupts" if self._session.agent_state == "speaking" else "says"
        self._timeline.note("user", f'{verb}: "{words(f"user-{name}")}"')
        self._n_pieces_before = len(self.microphone.heard)
        self.microphone.say(pcm)
        await self.microphone.wait_quiet()
        self._asked, self._asked_at = f"{name}: end", self.microphone.ended_at
        self._awaits_answer = True

    async def hear_out(self, what: str) -> None:
        """Wait until the agent has answered and is silent again."""
        await self._until(what, lambda: not self._awaits_answer)
        is_done = False
        while not is_done:
            await self._until(f"the end of {what}", self._is_silent)
            await asyncio.sleep(PAUSE_S)
            is_done = self._is_silent()

    async def hear_forecast(self) -> None:
        """Wait until the agent speaks of what the tool has returned."""
        await self._until("a tool call", lambda: self._tool_returned_at is not None)
        await self._until("the forecast", lambda: not self._awaits_answer)

    async def _until(self, what: str, is_so: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not is_so():
                    if self._failure is not None:
                        raise CallFailed(self._failure)
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise CallFailed(f"waited {PATIENCE_S:g} s for {what}, in vain") from None

    def _is_silent(self) -> bool:
        return self._session.agent_state == "listening"

    # --------------------------------------------------------------------- what the user hears

    def watch(self, agent: Agent) -> None:
        """Note what the server says, too."""
        session = agent.realtime_llm_session
        assert isinstance(session, hydra.RealtimeSession), "the session's model is Hydra"
        session.on("hydra_server_event", self._on_server_event)

    def _on_server_event(self, event: events.ServerEvent | events.UnknownEvent) -> None:
        match event:
            case events.SessionConfigured(session=session):
                rate_hz = session.output_audio_sample_rate
                self._timeline.note("hydra", f"is ready: voice {session.voice}, {rate_hz} Hz")
            case events.InputAudioBufferSpeechStarted():
                self._speech_started_at = time.monotonic()
            case events.ResponseFunctionCallArgumentsDone(name=name, arguments=arguments):
                after = self._timeline.measure(f"{self._asked} to tool call", self._asked_at)
                self._timeline.note("hydra", f"calls {name}({arguments}) after {after}")

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            returned = output.output if output else "nothing"
            self._timeline.note("tool", f'{call.name} returns "{returned}"')
        self._tool_returned_at = time.monotonic()
        self._awaits_answer = True
        self._changed.set()

    def _on_playback_started(self, _: PlaybackStartedEvent) -> None:
        self._timeline.note("agent", f"begins to speak{self._measure_answer()}")
        self._awaits_answer = False
        self._changed.set()

    def _measure_answer(self) -> str:
        if not self._awaits_answer:
            return ""
        if self._tool_returned_at is not None:
            self._timeline.measure("tool: result to first sound", self._tool_returned_at)
        after = self._timeline.measure(f"{self._asked} to first sound", self._asked_at)
        return f" after {after}"

    def _on_playback_finished(self, event: PlaybackFinishedEvent) -> None:
        heard_s = event.playback_position
        if not event.interrupted:
            self._timeline.note("agent", f"has spoken for {heard_s:.2f} s")
            return
        silent_at = self.loudspeaker.cleared_at[-1]
        began_at, _ = self.microphone.heard[self._n_pieces_before]
        after = self._timeline.measure("barge-in: begin to silence", began_at, silent_at)
        self._timeline.measure(
            "barge-in: speech_started to silence", self._speech_started_at, silent_at
        )
        self._timeline.note("agent", f"falls silent, {after} into the barge-in")

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        match event.item:
            case ChatMessage(role="assistant", text_content=str(text)) as message:
                end = " -" if message.interrupted else ""
                self._timeline.note("agent", f'said: "{text}{end}"')

    def _on_close(self, event: CloseEvent) -> None:
        error = getattr(event.error, "error", None) or event.error
        self._failure = f"the call has ended: {error or event.reason.value}"
        self._changed.set()


async def hold_call(model: hydra.RealtimeModel, path: Path) -> None:
    """Hold the call, print it and write it to `path`.

    Raises:
        CallFailed: something did not come.
    """
    timeline = Timeline()
    agent = WeatherLine()
    # The desk has no echo, so barge-ins count from the first second on.
    session: AgentSession[None] = AgentSession(llm=model, aec_warmup_duration=None)
    caller = Caller(session, timeline)
    try:
        await session.start(agent)
        caller.watch(agent)
        await caller.hear_out("the greeting")
        await caller.say("question")
        await caller.hear_forecast()
        await asyncio.sleep(BARGE_IN_AFTER_S)
        await caller.say("barge-in")
        await caller.hear_out("an answer")
        await caller.say("goodbye")
        await caller.hear_out("a goodbye")
    finally:
        await session.aclose()
        await caller.subtitles.aclose()
        await model.aclose()
        if caller.loudspeaker.heard or caller.microphone.heard:
            seconds = write_call(path, caller.microphone, caller.loudspeaker)
            timeline.note("", f"{path} has the call: {seconds:.1f} s, user left, agent right")
    print()
    timeline.print_measured()


@contextlib.asynccontextmanager
async def emulated_model() -> AsyncIterator[hydra.RealtimeModel]:
    """Give a model whose server is emulated in this process."""
    async with Emulator(SCENARIO) as server:
        print("Hydra is emulated here: its wits and its latencies say nothing about the real one.")
        yield hydra.RealtimeModel(base_url=server.url, api_key="any-key-will-do")


@contextlib.asynccontextmanager
async def live_model() -> AsyncIterator[hydra.RealtimeModel]:
    """Give a model of the real service, with the key in SMALLEST_API_KEY."""
    model = hydra.RealtimeModel()
    print(f"This is the real service, {model.model}; it bills the minutes of this call.")
    yield model


async def run(*, is_live: bool, path: Path) -> None:
    """Hold the call with one model or the other."""
    async with live_model() if is_live else emulated_model() as model:
        await hold_call(model, path)


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="examples/demo.sh", description="A whole call with Hydra, at real time."
    )
    parser.add_argument(
        "--live", action="store_true", help="call the real service; needs SMALLEST_API_KEY"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("call.wav"), help="where to write the call (call.wav)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(format="        log    %(message)s", level=logging.WARNING)
    # LiveKit warns that this loudspeaker can't pause, and of each message without a text.
    logging.getLogger("livekit.agents").setLevel(logging.ERROR)
    try:
        asyncio.run(run(is_live=arguments.live, path=arguments.out))
    except (CallFailed, hydra.ConfigurationError) as problem:
        print(f"The demo has failed: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
