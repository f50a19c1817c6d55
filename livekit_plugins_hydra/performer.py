"""Performs the core's effects: with the sockets, the voice and LiveKit's listeners.

The way of a call: microphone -> `voice` -> `transport` -> `protocol` -> this performer -> the
framework -> the room. The core decides; `session` takes LiveKit's requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any, Final, Literal, assert_never
from urllib.parse import urlsplit

from livekit.agents import llm, stt
from livekit.agents.metrics import STTMetrics
from livekit.agents.utils import shortuuid

from .context import Context
from .framework import quirks, reports
from .framework.configuration import Configuration
from .functions import Functions
from .journal import Journal
from .log import logger, warn_once
from .options import Options
from .protocol import effects as fx
from .protocol import errors, events, voices, wire
from .protocol.call import Call
from .protocol.ceiling import MAX_ITEM_BYTES, size_of
from .protocol.learned import Learned
from .protocol.states import Handshake, Turn
from .timers import Timers
from .transport.keeper import Keeper
from .transport.spare import Spare
from .voice.chat import ChatLog
from .voice.listening import Listening
from .voice.speaking import Speaking
from .voice.transcription import Transcriber
from .voice.utterance import Utterance

SessionEvents = Literal["hydra_server_event", "hydra_client_event"]

_OUTPUT_RATES_HZ: Final = range(8_000, 96_001)


class Performer:
    """One call at work; its connections and the two sides of its voice report here."""

    def __init__(
        self,
        session: llm.RealtimeSession[SessionEvents],
        options: Options,
        *,
        learned: Learned,
        warned: set[str],
        closers: set[asyncio.Task[None]],
        spare: Spare | None,
    ) -> None:
        """Prepare a call; nothing happens before `start`.

        Args:
            session: what LiveKit's framework listens to.
            options: the model's options, as they are now.
            learned: what the model's calls have learned of the server.
            warned: warnings that the model's calls have given and do not repeat.
            closers: tasks that close connections; ended by `RealtimeModel.aclose`.
            spare: a connection that was opened ahead for this call.
        """
        self._session = session
        self._model = session.realtime_model
        self._emit = session.emit
        self._options = options
        self.is_watched = False
        """Whether anybody listens to the events of the wire."""
        self.ended: str | None = None
        """Why nothing more happens here; None while the call lives."""
        self.session_id: str | None = None
        """The server's id of the present connection; None before there is one."""
        self.call = Call(
            new_event_id=lambda: shortuuid("cl_"),
            learned=learned,
            greet=options.generate_initial_response,
            knows_user_text=options.input_stt is not None,
            knows_agent_text=options.output_stt is not None,
        )
        self.chat = ChatLog()
        self.configuration = Configuration(learned.voice_for(options.voice))
        self.replies: dict[str, asyncio.Future[llm.GenerationCreatedEvent]] = {}
        """The futures of replies that were asked for, by reply id."""
        self._transcribers = [
            Transcriber(engine, side=side, warned=warned, on_metrics=self._stt_measured)
            if engine is not None
            else None
            for engine, side in ((options.input_stt, "user"), (options.output_stt, "agent"))
        ]
        self.listening = Listening(self.chat, transcriber=self._transcribers[0], host=self)
        self.speaking = Speaking(
            self.chat,
            transcriber=self._transcribers[1],
            resumes=options.resume_false_interruption,
            rate_hz=voices.output_rate_hz(options.model),
            host=self,
        )
        self.keeper = Keeper(options, self, closers=closers, spare=spare)
        self._timers = Timers(self._on_timer)
        self._journal = Journal(urlsplit(options.base_url).hostname or "")
        self.functions = Functions(
            self.call, self.chat, self.configuration, self.speaking, host=self
        )
        self.context = Context(session, self.call, self.chat, self.functions, host=self)
        self._effects: deque[fx.Effect] = deque()
        self._is_performing = False
        self._is_closing = False
        self._warned: set[str] = set()
        """What is true of this call alone."""
        self._warned_by_model = warned

    async def aclose(self) -> None:
        """End all of it."""
        self._is_closing = True
        self.ended = self.ended or "the session was closed"
        self.keeper.stop()
        self.perform(self.call.end(self.ended, time.monotonic()))
        self.functions.results.close()
        self.listening.close()
        self.speaking.close()
        self._timers.close()
        await self.keeper.aclose()
        self._journal.end()
        for transcriber in filter(None, self._transcribers):
            await transcriber.aclose()

    def moment(self) -> tuple[float, float]:
        """Return the time, and when playback of all audio so far ends."""
        return time.monotonic(), self.speaking.played_until()

    def warn_of_size(self, what: str, text: str) -> None:
        """Warn of a text that is too long to be sent whole."""
        if (n_bytes := size_of(text)) > MAX_ITEM_BYTES:
            self.warn_once(
                f"{what} is {n_bytes} bytes, and Hydra falls silent when it holds too much: the"
                f" first {MAX_ITEM_BYTES} are sent, with a mark; return less",
                about=what,
            )

    def warn_once(self, sentence: str, *, about: str = "") -> None:
        """Warn of what is true of the model: once, and not for each agent of a workflow.

        Args:
            sentence: what is to be known.
            about: what it is about, where agents are warned of the same in other words.
        """
        warn_once(self._warned_by_model, sentence, about=about)

    # ----------------------------------------------------------------------- effects

    def perform(self, effects: list[fx.Effect]) -> None:
        """Perform effects in order; those that arise meanwhile come after them."""
        self._effects.extend(effects)
        if self._is_performing:
            return
        self._is_performing = True
        try:
            while self._effects:
                effect = self._effects.popleft()
                if type(effect) is not fx.OutputAudio:  # fifty a second
                    self._journal.note(effect, self.speaking.played_until())
                try:
                    self._perform_one(effect)
                except Exception:
                    logger.exception("a bug: %s could not be performed", type(effect).__name__)
        finally:
            self._is_performing = False

    def _perform_one(self, effect: fx.Effect) -> None:
        match effect:
            case fx.OutputAudio(part_id=part_id, item_id=item_id, pcm=pcm):
                self.speaking.audio(part_id, item_id, pcm)
            case fx.LateAudio(response_id=response_id, pcm=pcm):
                self.speaking.late_audio(response_id, pcm)
            case fx.OutputText(part_id=part_id, item_id=item_id, text=text):
                self.speaking.text(part_id, item_id, text)
            case fx.OutputTranscript(part_id=part_id, item_id=item_id, text=text):
                self.speaking.whole_text(part_id, item_id, text)
            case fx.LateText(response_id=response_id, text=text):
                self.speaking.late_text(response_id, text)
            case fx.Send(event=event):
                self._send(event)
            case fx.BeginResponse():
                self._begin_response(effect)
            case fx.EndStreams(part_id=part_id, cut=cut):
                self.speaking.end(part_id, cut=cut)
            case fx.EndResponse():
                self._end_response(effect)
            case fx.FellSilent(held_bytes=n_bytes):
                warn_once(
                    self._warned,
                    "a response of Hydra's came without any audio, so the user heard nothing; it"
                    " does that when instructions, tools and conversation together are too large:"
                    f" they were {n_bytes} bytes",
                    about="silence",
                )
            case fx.CallFunction():
                self.functions.begin(effect)
            case fx.UserStarted(item_id=item_id, audio_ms=audio_ms):
                self._begin_turn(item_id, audio_ms)
            case fx.UserStopped(audio_ms=audio_ms):
                self.listening.turn_stopped(audio_ms)
                is_transcribed = self._model.capabilities.user_transcription
                self._emit("input_speech_stopped", llm.InputSpeechStoppedEvent(is_transcribed))
            case fx.UserTurnKept():
                self.listening.turn_kept()
            case fx.UserAnswered():
                self.listening.turn_answered()
            case fx.UserText(item_id=item_id, text=text):
                self.listening.turn_transcribed(item_id, text)
            case fx.UserDiscarded(item_id=item_id, is_earlier=is_earlier):
                if not is_earlier:
                    self.listening.turn_discarded()
                self.speaking.discard(item_id, time.monotonic(), is_earlier=is_earlier)
                self.resume_speech()
            case fx.Compose():
                self._compose(effect)
            case fx.SessionReady(session=session):
                self._become_ready(session)
            case fx.ReplyFailed(reply_id=reply_id, reason=reason):
                future = self.replies.get(reply_id)
                if future is not None and not future.done():
                    future.set_exception(llm.RealtimeError(reason))
            case fx.OutputDropped(call_id=call_id):
                self.functions.post_dropped(call_id)
            case fx.UseVoice(refused=refused, voice=voice):
                self.configuration.voice = voice
                # Of a voice that it does not know, the plugin has warned before.
                logger.log(
                    logging.WARNING if voices.is_known_voice(refused) else logging.INFO,
                    "Hydra refused the voice %r; calls of this model speak with %r instead",
                    *(refused, voice),
                )
            case fx.Reconnect(reason=reason):
                logger.info("making a new connection to Hydra: %s", reason)
                self.keeper.trace.reconnect(reason)
                self.keeper.leave()
            case fx.StartTimer(name=name, delay_s=delay_s):
                if not self._is_closing:
                    self._timers.start(name, delay_s)
            case fx.CancelTimer(name=name):
                self._timers.cancel(name)
            case fx.Fault(error=error, fatal=True):
                self.keeper.leave(error)
            case fx.Fault(error=errors.ServerError() as error):
                self._report(error, recoverable=True)
            case fx.Fault(error=error):
                logger.warning("%s", error)
            case _:
                assert_never(effect)

    def _send(self, event: events.ClientEvent) -> None:
        if self.keeper.connection is not None:
            self.keeper.connection.send(event)
            self._show("hydra_client_event", event)

    def _compose(self, effect: fx.Compose) -> None:
        if excess := self.configuration.excess(effect.opening):
            self.warn_once(excess, about="size")
        body = self.configuration.compose(
            self.chat.lines(),
            greet=effect.greet,
            opening=effect.opening,
            budget_bytes=effect.budget_bytes,
        )
        self.perform(self.call.configure(body, time.monotonic()))

    def _begin_response(self, effect: fx.BeginResponse) -> None:
        self.functions.results.watch(quirks.agent_session(self._session))
        generation = self.speaking.begin(effect.part_id)
        future = self.replies.get(effect.reply_id or "")
        if effect.reply_id is not None and (future is None or future.done()):
            # Its future was cancelled while the response began.
            self.perform(self.call.interrupt())
            return
        event = generation.created_event(user_initiated=future is not None)
        if future is not None:
            future.set_result(event)
        self._emit("generation_created", event)

    def _end_response(self, effect: fx.EndResponse) -> None:
        self.speaking.complete(effect.response_id)
        self._emit("metrics_collected", reports.of_response(self._model, effect))

    def _begin_turn(self, item_id: str | None, audio_ms: float | None) -> None:
        dropped = self.speaking.queued_calls()
        self.speaking.hush()
        self.listening.turn_started(item_id, audio_ms)
        self._emit("input_speech_started", llm.InputSpeechStartedEvent())
        # Only now: the framework calls interrupt() inside the emit.
        self.speaking.cut(item_id, time.monotonic())
        self.functions.refuse_dropped(dropped)

    def _become_ready(self, session: events.ServerSession) -> None:
        rate_hz = session.output_audio_sample_rate
        if rate_hz is not None and rate_hz in _OUTPUT_RATES_HZ:
            self.speaking.rate_hz = rate_hz
        is_reconnect = self.keeper.was_ready
        self.keeper.ready(time.monotonic())
        self.listening.start()
        self._journal.ready(self.session_id)
        if is_reconnect:
            self._emit("session_reconnected", llm.RealtimeSessionReconnectedEvent())

    def _on_timer(self, name: str) -> None:
        self.perform(self.call.timer(name, *self.moment()))

    def resume_speech(self) -> None:
        """Go on with what a false interruption has cut, unless something else will be said."""
        if self.call.is_occupied:
            self.speaking.forget_cut()
        elif generation := self.speaking.resume():
            self._emit("generation_created", generation.created_event(user_initiated=False))

    # ------------------------------------------------- what the connections report

    @property
    def is_ready(self) -> bool:
        """Whether audio flows on the present connection."""
        return self.call.conversation.is_ready

    def connection_opened(self, took_s: float, *, is_spare: bool) -> None:
        """Begin a conversation; it took so long to get its connection."""
        self._journal.opened(took_s)
        self.perform(self.call.open())
        metrics = reports.of_acquisition(self._model, took_s, is_reused=is_spare)
        # Listeners take time: first the configuration is sent, if it can be.
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: self._emit("metrics_collected", metrics))

    def receive(self, event: events.ServerEvent | events.UnknownEvent) -> None:
        """Take an event of the server."""
        self._show("hydra_server_event", event)
        if type(event) is events.ResponseOutputAudioDelta:  # fifty a second
            self.perform(self.call.receive(event, time.monotonic()))
            return
        match event:
            case events.SessionCreated() if self.call.conversation.handshake is Handshake.OPENED:
                self.session_id = event.session_id
            case events.Warning():
                body = event.warning
                message = event.message or (body and body.message) or event.code or ""
                self.warn_once(f"Hydra warns: {message}")
        self.perform(self.call.receive(event, *self.moment()))

    def connection_lost(self, alive_at: float) -> None:
        """End the conversation; the server may not have received audio sent after `alive_at`."""
        self._journal.lost()
        keeps_turn = self.listening.stop(alive_at)
        self.perform(self.call.lose(time.monotonic(), keeps_turn=keeps_turn))

    def connection_left(self, alive_at: float, *, is_suspect: bool) -> None:
        """Keep audio that the server may not have received, if the connection may be dead."""
        self._journal.lost()
        if self.listening.stop(alive_at) and is_suspect:
            self.perform(self.call.lose(time.monotonic(), keeps_turn=True))

    def connection_closed(self, connected_s: float) -> None:
        """Report how long a connection lasted."""
        self.session_id = None
        self.speaking.forget_cut()
        self._emit("metrics_collected", reports.of_connection(self._model, connected_s))

    def connection_failed(self, error: errors.HydraError) -> None:
        """Report a failure; another connection is tried."""
        self._journal.failed()
        self._report(error, recoverable=True)

    def gave_up(self, error: Exception) -> None:
        """End the call: no other connection is tried."""
        self.ended = f"the call has ended: {error}"
        self.perform(self.call.end(self.ended, time.monotonic()))
        self._report(error, recoverable=False)

    def _report(self, error: Exception, *, recoverable: bool) -> None:
        """Log a failure and report it to the framework."""
        logger.warning("%s", error)
        self._emit(
            "error",
            llm.RealtimeModelError(
                timestamp=time.time(),
                label=self._model.label,
                error=reports.to_api_error(error),
                recoverable=recoverable,
            ),
        )

    def _show(self, name: SessionEvents, event: events.Event | events.UnknownEvent) -> None:
        """Show an event of the wire, if anybody listens: there are a hundred a second."""
        if self.is_watched:
            self._emit(name, wire.elide(event))

    # ------------------------------------------------------ what the two sides report

    @property
    def is_user_speaking(self) -> bool:
        """Whether the server believes that the user speaks."""
        return self.call.conversation.turn is Turn.SPEAKING

    @property
    def server_alive_at(self) -> float:
        """When the server last gave a sign of life; monotonic clock."""
        connection = self.keeper.connection
        return connection.alive_at if connection is not None else 0.0

    def send_audio(self, appends: list[bytes]) -> None:
        """Send the user's audio."""
        if self.keeper.connection is not None:
            self.keeper.connection.send_audio(appends)
            if self.is_watched:
                for _ in appends:
                    self._emit("hydra_client_event", events.InputAudioBufferAppend(audio=b""))

    def user_transcribed(self, utterance: Utterance, text: str, *, is_final: bool) -> None:
        """Report what the user said; its place in the history is where it was said."""
        message = utterance.message(text)
        if is_final:
            self.chat.add(message, place=utterance.place)
        if not quirks.is_transcribed(self._session):
            transcript = reports.of_user(message, is_final=is_final)
            self._emit("input_audio_transcription_completed", transcript)
        elif is_final:
            quirks.add_message(self._session, message)

    def _stt_measured(self, engine: stt.STT[Any], metrics: STTMetrics) -> None:
        if not quirks.collects_from(self._session, engine):
            self._emit("metrics_collected", metrics)

    def input_audio_lost(self) -> None:
        """Warn that audio of the user was dropped."""
        lost = "Hydra was away for too long: the oldest of the user's audio is lost"
        warn_once(self._warned, lost)

    async def until_subscribed(self) -> None:
        """Wait until somebody in the room can hear the agent."""
        await quirks.until_subscribed(quirks.agent_session(self._session))

    def message_missed(self, message: llm.ChatMessage) -> None:
        """Report a message whose text came late, so that the next agent knows it.

        The framework adds it to the agent's chat context; the session's history takes no late one.
        """
        self._emit(
            "remote_item_added", llm.RemoteItemAddedEvent(previous_item_id=None, item=message)
        )

    def transcript_missing(self) -> None:
        """Warn that there is no text of what is said."""
        options = self._options
        missing = [("output_stt= (for the agent's side)", options.output_stt)]
        missing.append(("input_stt= (for the user's)", options.input_stt))
        remedies = " and ".join(what for what, engine in missing if engine is None)
        sentence = (
            "Hydra sends no text of what is said, so LiveKit's history and captions lack it, and"
            f" reconnects and handoffs forget it: give hydra.RealtimeModel an STT as {remedies}"
        )
        self.warn_once(sentence)
