"""One call, as LiveKit's framework sees it: performs the core's effects.

Data flows one way through here and back: microphone -> `audio` -> `connection` -> `call` and
`conversation` -> this session -> the framework -> the room. All decisions are the core's; this
module has the sockets, tasks, timers and futures, and says things in LiveKit's words.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, get_args

from livekit import rtc
from livekit.agents import NotGivenOr, llm
from livekit.agents.types import NOT_GIVEN
from livekit.agents.utils import is_given, shortuuid

from .framework import reports
from .framework.configuration import Configuration
from .framework.quirks import DROPPED_AFTER_S, Results
from .log import logger, warn_once
from .options import Options
from .protocol import effects as fx
from .protocol import errors, events, voices, wire
from .protocol.backoff import Recovery
from .protocol.call import Call
from .protocol.demand import Learned
from .protocol.states import Handshake, Turn
from .protocol.voices import SERVER_DEFAULT_VOICE
from .timers import Timers
from .transport.connecting import connect
from .transport.connection import Connection
from .transport.spare import Spare
from .transport.wirelog import Trace
from .voice.chat import ChatLog, output_as_text
from .voice.listening import Listening
from .voice.speaking import Speaking
from .voice.transcription import Transcriber
from .voice.utterance import Utterance

CLOSE_BUDGET_S: Final = 2.0
"""`aclose` takes no longer: the framework waits for it without a bound."""

_OUTPUT_RATES_HZ: Final = range(8_000, 96_001)

_NOT_RUN: Final = (
    "Not run: it was still waiting when you were interrupted. Call it again if wanted."
)

_NOT_ALLOWED: Final = "Not run: no function may be called now."

SessionEvents = Literal["hydra_server_event", "hydra_client_event"]


class RealtimeSession(llm.RealtimeSession[SessionEvents]):
    """A spoken conversation with Hydra; made by `RealtimeModel.session`.

    Besides LiveKit's events it emits ``hydra_server_event`` and ``hydra_client_event`` with each
    typed event of the wire (`livekit_plugins_hydra.protocol.events`), audio left out.
    """

    def __init__(
        self,
        realtime_model: llm.RealtimeModel,
        *,
        options: Options,
        learned: Learned,
        told: set[str],
        closers: set[asyncio.Task[None]],
        spare: Spare | None = None,
    ) -> None:
        """Prepare a session; nothing happens before `start`.

        Args:
            realtime_model: the model that makes it.
            options: the model's options, as they are now.
            learned: what the model's calls have learned of the server.
            told: warnings of which one is enough for all calls of the model.
            closers: where connections are put that have said goodbye and wait for the server's.
            spare: a connection that was dialled before, for this session alone.
        """
        super().__init__(realtime_model)
        self._is_watched = False
        """Whether somebody has asked for the events of the wire."""
        self._options = options
        self._learned = learned
        self._call = Call(
            new_event_id=lambda: shortuuid("cl_"),
            learned=learned,
            greet=options.generate_initial_response,
            knows_user_text=options.input_stt is not None,
            knows_agent_text=options.output_stt is not None,
        )
        self._recovery = Recovery(options.conn_options.max_retry)
        self._spare = spare
        self._trace = spare.trace if spare is not None else Trace(options.wire_log)
        self._chat = ChatLog()
        self._transcribers = [
            Transcriber(engine, side=side, warned=told) if engine is not None else None
            for engine, side in ((options.input_stt, "user"), (options.output_stt, "agent"))
        ]
        host = _Host(self)
        self._listening = Listening(self._chat, transcriber=self._transcribers[0], host=host)
        self._speaking = Speaking(
            self._chat,
            transcriber=self._transcribers[1],
            resumes=options.resume_false_interruption,
            rate_hz=voices.output_rate_hz(options.model),
            host=host,
        )
        is_refused = options.voice in learned.voices_refused
        self._configuration = Configuration(SERVER_DEFAULT_VOICE if is_refused else options.voice)

        self._connection: Connection | None = None
        self._session_id: str | None = None
        self._was_ready = False
        self._is_configurable = False
        self._ended: str | None = None
        """Why nothing more happens here; None while the session lives."""

        self._effects: deque[fx.Effect] = deque()
        self._is_performing = False
        self._replies: dict[str, asyncio.Future[llm.GenerationCreatedEvent]] = {}

        self._timers = Timers(self._on_timer)
        self._results = Results(self._announce_output)
        self._announced: dict[str, llm.FunctionCallOutput] = {}
        """By call, the outputs that the framework may drop instead of handing them over."""
        self._main: asyncio.Task[None] | None = None
        self._closers = closers
        self._closing: asyncio.Task[None] | None = None
        self._told: set[str] = set()
        self._told_by_model = told

    def __repr__(self) -> str:
        return f"<hydra.RealtimeSession {self._session_id} {self._call!r}>"

    def emit(self, event: llm.realtime.EventTypes | SessionEvents, *args: Any) -> None:
        """Tell the listeners; what one of them raises is logged and does not end the call."""
        try:
            super().emit(event, *args)
        except (Exception, asyncio.CancelledError):  # nobody cancels what never waits
            logger.exception("a listener to %s failed", event)

    def on(
        self,
        event: llm.realtime.EventTypes | SessionEvents,
        callback: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        """Listen to an event, as LiveKit's emitters have it."""
        self._is_watched |= event in get_args(SessionEvents)
        return super().on(event, callback)

    def _show(self, name: SessionEvents, event: events.Event | events.UnknownEvent) -> None:
        """Show an event of the wire, if anybody watches: there are a hundred in a second."""
        if self._is_watched:
            self.emit(name, wire.elide(event))

    def start(self) -> None:
        """Begin to dial, in the background: it saves a round trip."""
        self._main = asyncio.get_running_loop().create_task(self._hold(), name="hydra.session")

    # ------------------------------------------------------------------ LiveKit: state

    @property
    def session_id(self) -> str | None:
        """The server's id of the present connection; None before there is one."""
        return self._session_id

    @property
    def chat_ctx(self) -> llm.ChatContext:
        """A copy of the conversation as far as its text is known."""
        return self._chat.copy()

    @property
    def tools(self) -> llm.ToolContext:
        """The tools of the last `update_tools`."""
        return self._configuration.tools

    async def _update_session(
        self,
        *,
        instructions: NotGivenOr[str] = NOT_GIVEN,
        chat_ctx: NotGivenOr[llm.ChatContext] = NOT_GIVEN,
        tools: NotGivenOr[list[llm.Tool]] = NOT_GIVEN,
    ) -> None:
        """Take instructions, history and tools in one go; never waits for the network.

        Hydra takes its configuration once, so the first call completes it; what is NOT_GIVEN
        then is empty. Later calls patch the session that is there.
        """
        if self._is_configurable:
            await super()._update_session(instructions=instructions, chat_ctx=chat_ctx, tools=tools)
            return
        if is_given(instructions):
            self._configuration.instructions = instructions
        if is_given(chat_ctx):
            self._chat.add_new(chat_ctx)
        if is_given(tools):
            await self.update_tools(tools)
        self._make_configurable()

    async def update_instructions(self, instructions: str) -> None:
        """Change the instructions: in mid-call, by a new connection at the next quiet moment."""
        if instructions == self._configuration.instructions:
            return
        self._configuration.instructions = instructions
        self._check_size()
        self._perform(self._call.instructions_changed(*self._moment()))

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        """Append what is new in `chat_ctx`; Hydra's history can't be edited.

        Outputs of functions go to the server at once, text with the next request. Never asks for
        a response: `generate_reply` does.
        """
        for item in self._chat.add_new(chat_ctx):
            match item:
                case llm.FunctionCallOutput():
                    self._post_output(item)
                case llm.ChatMessage(text_content=text) if text and item.role != "assistant":
                    self._call.add_text("user" if item.role == "user" else "system", text)

    async def update_tools(self, tools: list[llm.Tool]) -> None:
        """Replace the tools; in mid-call too, without a new connection."""
        if unsupported := self._configuration.set_tools(tools):
            self._warn_once(
                f"Hydra can't run provider tools, the model does not see: {', '.join(unsupported)}"
            )
        self._sync_tools()

    def update_options(self, *, tool_choice: NotGivenOr[llm.ToolChoice | None] = NOT_GIVEN) -> None:
        """Change the tool choice: "none" takes the tools away, until it is something else."""
        if not is_given(tool_choice):
            return
        if tool_choice not in (None, "auto", "none"):
            self._warn_once("Hydra has no forced tool choice; it is treated as 'auto'")
        self._configuration.tool_choice = tool_choice
        self._sync_tools()

    # ----------------------------------------------------------------- LiveKit: actions

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        """Send the user's sound: int16, any rate, any channel count; never raises or waits."""
        if self._ended is not None:
            return
        self._make_configurable()
        try:
            self._listening.push(frame)
        except Exception:
            logger.exception("a frame of the user's sound could not be sent")

    def push_video(self, frame: rtc.VideoFrame) -> None:
        """Do nothing: Hydra has no eyes."""
        self._warn_once("Hydra takes no video; frames are dropped")

    def generate_reply(
        self,
        *,
        instructions: NotGivenOr[str] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        tools: NotGivenOr[list[llm.Tool]] = NOT_GIVEN,
    ) -> asyncio.Future[llm.GenerationCreatedEvent]:
        """Ask for a response; see `call` for the ways it can go.

        Returns:
            A future of the generation. It fails with `RealtimeError` after 10 s at the latest;
            cancelling it cancels the response.
        """
        if is_given(tool_choice) or is_given(tools):
            self._warn_once("Hydra has no tools per response; use update_tools()")
        future: asyncio.Future[llm.GenerationCreatedEvent]
        future = asyncio.get_running_loop().create_future()
        if self._ended is not None:
            future.set_exception(llm.RealtimeError(self._ended))
            return future
        reply_id = shortuuid("reply_")
        self._replies[reply_id] = future
        future.add_done_callback(lambda done: self._forget_reply(reply_id, done))
        self._speaking.forget_cut()
        words = instructions if is_given(instructions) else ""
        self._perform(self._call.generate_reply(reply_id, words, time.monotonic()))
        self._make_configurable()
        return future

    def interrupt(self) -> None:
        """Cancel the response that is generating; do nothing when none is."""
        self._speaking.forget_cut()
        dropped = self._speaking.queued_calls()
        self._perform(self._call.interrupt())
        self._answer_dropped(dropped)

    def truncate(
        self,
        *,
        message_id: str,
        modalities: list[Literal["text", "audio"]],
        audio_end_ms: int,
        audio_transcript: NotGivenOr[str] = NOT_GIVEN,
    ) -> None:
        """Cut a message in this session's history to what was heard of it.

        The server has no such event: it goes on believing that everything was heard. But a new
        connection is told this history.
        """
        self._speaking.truncate(
            message_id,
            played_s=audio_end_ms / 1000,
            transcript=audio_transcript if is_given(audio_transcript) else "",
            now=time.monotonic(),
        )
        self._resume_speech()

    def commit_audio(self) -> None:
        """Do nothing: Hydra itself decides when a turn ends."""
        self._warn_once("Hydra ends turns by itself; commit_audio() does nothing")

    def clear_audio(self) -> None:
        """Do nothing: what was said has left already."""

    async def aclose(self) -> None:
        """End the call, within 2 s: all streams, futures and timers, and nothing more is sent.

        The server's part of the goodbye is not waited for; `RealtimeModel.aclose` does that. What
        an ended event loop has left behind ended with it.
        """
        loop = asyncio.get_running_loop()
        if self._main is not None and self._main.get_loop() is not loop:
            return
        if self._closing is None:
            self._closing = loop.create_task(self._close())
        await asyncio.shield(self._closing)

    # ------------------------------------------------------------------- connections

    async def _hold(self) -> None:
        """Keep the call connected until it is closed or can't go on."""
        try:
            while self._ended is None:
                try:
                    await self._connect_once()
                except errors.HydraError as error:
                    delay_s = self._recovery.failed(error, time.monotonic())
                    if delay_s is None:
                        self._give_up(error)
                        return
                    self._report(error, recoverable=True)
                    await asyncio.sleep(delay_s)
        except Exception as error:
            logger.exception("a bug in the plugin ends the call")
            self._give_up(error)

    async def _connect_once(self) -> None:
        """Hold one connection until it is left for another one.

        Raises:
            HydraError: it could not be made, or it ended.
        """
        began_at = time.monotonic()
        connection = await self._spare.take() if self._spare is not None else None
        self._spare = None
        is_spare = connection is not None
        connection = self._connection = connection or await connect(
            self._options, self._trace, is_reconnect=self._was_ready
        )
        # It takes its time, so only when the configuration has left, if it can already.
        loop = asyncio.get_running_loop()
        loop.call_soon(self._tell_acquired, time.monotonic() - began_at, is_spare)
        try:
            if self._ended is not None:  # whoever minted the key has swallowed the cancellation
                connection.leave()
            self._perform(self._call.open())
            await connection.run(self._receive)
        except errors.HydraError as error:
            was_dead = is_spare and not self._call.conversation.is_ready
            keeps_turn = self._listening.stop(connection.heard_at)
            self._perform(self._call.lose(time.monotonic(), keeps_turn=keeps_turn))
            if not (was_dead and isinstance(error, errors.ConnectionLost)):
                raise
            logger.info("the spare connection had died; dialling")
        else:
            is_suspect = connection.is_suspect
            heard_at = connection.heard_at if is_suspect else time.monotonic()
            if self._listening.stop(heard_at) and is_suspect:
                self._perform(self._call.lose(time.monotonic(), keeps_turn=True))
        finally:
            self._connection = self._session_id = None
            self._speaking.forget_cut()
            self._close_behind(connection.close())
            connected_s = time.monotonic() - connection.opened_at
            self.emit("metrics_collected", reports.of_connection(self._realtime_model, connected_s))

    def _tell_acquired(self, duration_s: float, is_spare: bool) -> None:
        metrics = reports.of_acquisition(self._realtime_model, duration_s, is_reused=is_spare)
        self.emit("metrics_collected", metrics)

    def _receive(self, event: events.ServerEvent | events.UnknownEvent) -> None:
        self._show("hydra_server_event", event)
        match event:
            case events.SessionCreated() if self._call.conversation.handshake is Handshake.DIALLED:
                self._session_id = event.session_id
            case events.Warning():
                body = event.warning
                message = event.message or (body and body.message) or event.code or ""
                self._warn_once(f"Hydra warns: {message}")
        if type(event) is events.ResponseOutputAudioDelta:  # fifty a second
            self._perform(self._call.receive(event, time.monotonic()))
        else:
            self._perform(self._call.receive(event, *self._moment()))

    def _give_up(self, error: Exception) -> None:
        """End the call: nothing that could be tried again is left."""
        self._ended = f"the call has ended: {error}"
        self._perform(self._call.end(self._ended, time.monotonic()))
        self._report(error, recoverable=False)

    async def _close(self) -> None:
        self._ended = self._ended or "the session was closed"
        if self._connection is not None:
            self._connection.leave()  # what still comes belongs to no conversation any more
        self._perform(self._call.end(self._ended, time.monotonic()))
        self._results.close()
        self._listening.close()
        self._speaking.close()
        self._timers.close()
        if self._main is not None:
            self._main.cancel()
            await asyncio.wait([self._main], timeout=CLOSE_BUDGET_S / 4)
        if self._spare is not None:
            self._close_behind(self._spare.aclose())
        for transcriber in self._transcribers:
            if transcriber is not None:
                await transcriber.aclose()

    def _close_behind(self, closing: Coroutine[Any, Any, None]) -> None:
        """Let a connection end by itself: a handoff would wait a round trip for it."""
        closer = asyncio.get_running_loop().create_task(closing)
        self._closers.add(closer)
        closer.add_done_callback(self._closers.discard)

    # ----------------------------------------------------------------------- effects

    def _perform(self, effects: list[fx.Effect]) -> None:
        """Perform effects in order; those that come up meanwhile follow."""
        self._effects.extend(effects)
        if self._is_performing:
            return
        self._is_performing = True
        try:
            while self._effects:
                effect = self._effects.popleft()
                try:
                    self._perform_one(effect)
                except Exception:
                    logger.exception("a bug: %s could not be performed", type(effect).__name__)
        finally:
            self._is_performing = False

    def _perform_one(self, effect: fx.Effect) -> None:
        match effect:
            case fx.OutputAudio(part_id=part_id, item_id=item_id, pcm=pcm):
                self._speaking.audio(part_id, item_id, pcm)
            case fx.LateAudio(response_id=response_id, pcm=pcm):
                self._speaking.late_audio(response_id, pcm)
            case fx.OutputText(part_id=part_id, item_id=item_id, text=text):
                self._speaking.text(part_id, item_id, text)
            case fx.LateText(response_id=response_id, text=text):
                self._speaking.late_text(response_id, text)
            case fx.Send(event=event):
                if self._connection is not None:
                    self._connection.send(event)
                    self._show("hydra_client_event", event)
            case fx.BeginResponse():
                self._begin_generation(effect)
            case fx.EndStreams(part_id=part_id, cut=cut):
                self._speaking.end(part_id, cut=cut)
            case fx.EndResponse():
                self._speaking.complete(effect.response_id)
                self._check_sound(effect)
                self.emit("metrics_collected", reports.of_response(self._realtime_model, effect))
            case fx.CallFunction():
                self._call_function(effect)
            case fx.UserStarted(item_id=item_id):
                dropped = self._speaking.queued_calls()
                self._speaking.hush()
                self._listening.turn_started(item_id)
                self.emit("input_speech_started", llm.InputSpeechStartedEvent())
                # Only now: the framework calls interrupt() while it takes this event.
                self._speaking.cut(item_id, time.monotonic())
                self._answer_dropped(dropped)
            case fx.UserStopped():
                self._listening.turn_stopped()
                is_written = self._realtime_model.capabilities.user_transcription
                self.emit("input_speech_stopped", llm.InputSpeechStoppedEvent(is_written))
            case fx.UserTurnKept():
                self._listening.turn_kept()
            case fx.UserAnswered():
                self._listening.turn_answered()
            case fx.UserText(item_id=item_id, text=text):
                self._listening.turn_transcribed(item_id, text)
            case fx.UserDiscarded(item_id=item_id):
                self._listening.turn_discarded(item_id)
                self._speaking.discard(item_id, time.monotonic())
                self._resume_speech()
            case fx.Compose(greet=greet, opening=opening):
                body = self._configuration.compose(self._chat.lines(), greet=greet, opening=opening)
                self._perform(self._call.configure(body, time.monotonic()))
            case fx.SessionReady(session=session):
                self._become_ready(session)
            case fx.ReplyFailed(reply_id=reply_id, reason=reason):
                future = self._replies.get(reply_id)
                if future is not None and not future.done():
                    future.set_exception(llm.RealtimeError(reason))
            case fx.OutputDropped(call_id=call_id):
                self._add_output(self._announced.pop(call_id))
            case fx.UseVoice(refused=refused, voice=voice):
                self._configuration.voice = voice
                logger.warning(
                    "Hydra refused the voice %r; calls of this model speak with %r instead",
                    refused,
                    voice,
                )
            case fx.Redial(reason=reason):
                logger.info("making a new connection to Hydra: %s", reason)
                self._trace.redial(reason)
                if self._connection is not None:
                    self._connection.leave()
            case fx.StartTimer(name=name, delay_s=delay_s):
                if self._closing is None:
                    self._timers.start(name, delay_s)
            case fx.CancelTimer(name=name):
                self._timers.cancel(name)
            case fx.Fault(error=error, fatal=True):
                self._meet_fatal(error)
            case fx.Fault(error=error):
                if isinstance(error, errors.ServerError):
                    self._report(error, recoverable=True)
                else:
                    logger.warning("%s", error)

    def _begin_generation(self, effect: fx.BeginResponse) -> None:
        self._results.watch()
        generation = self._speaking.begin(effect.part_id)
        future = self._replies.get(effect.reply_id or "")
        if effect.reply_id is not None and (future is None or future.done()):
            # Cancelled in this very moment: the response has begun, nobody wants it.
            self._perform(self._call.interrupt())
            return
        event = generation.created_event(user_initiated=future is not None)
        if future is not None:
            future.set_result(event)
        self.emit("generation_created", event)

    def _call_function(self, effect: fx.CallFunction) -> None:
        call = llm.FunctionCall(
            id=self._chat.unique_id(effect.item_id),
            call_id=effect.call_id,
            name=effect.name,
            arguments=effect.arguments,
        )
        self._speaking.call(effect.part_id, call)
        if self._configuration.tool_choice == "none":
            self._refuse(call, _NOT_ALLOWED)  # the framework ignores it, and never answers

    def _post_output(self, output: llm.FunctionCallOutput) -> None:
        name = self._chat.name_of(output.call_id) or output.name
        self._announced.pop(output.call_id, None)
        now, played_until = self._moment()
        self._perform(
            self._call.post_output(
                output.call_id,
                output.output,
                as_text=output_as_text(name, output.output),
                now=now,
                played_until=played_until,
            )
        )

    def _announce_output(self, output: llm.FunctionCallOutput) -> None:
        if self._ended is None:
            self._announced[output.call_id] = output
            announced = self._call.announce_output(output.call_id, within_s=DROPPED_AFTER_S)
            self._perform(announced)

    def _add_output(self, output: llm.FunctionCallOutput) -> None:
        """Take an output that the framework does not hand over."""
        self._chat.add(output)
        self._post_output(output)

    def _answer_dropped(self, calls: list[llm.FunctionCall]) -> None:
        """Answer calls that the framework will not run: else the server waits for them."""
        for call in calls:
            if call.call_id in self._call.conversation.open_calls:
                self._refuse(call, _NOT_RUN)

    def _refuse(self, call: llm.FunctionCall, why: str) -> None:
        """Answer a call that nobody will."""
        self._add_output(
            llm.FunctionCallOutput(call_id=call.call_id, name=call.name, output=why, is_error=True)
        )

    def _check_sound(self, end: fx.EndResponse) -> None:
        """Notice that the server has gone silent, which it does without an error."""
        is_silent = end.first_audio_at is None and not end.has_called
        if is_silent and end.status == "completed":
            self._warn_once(
                "a response of Hydra's came without any sound, so the user heard nothing; it does"
                " that when instructions, tools and conversation together are too large"
            )

    def _resume_speech(self) -> None:
        """Go on with what a false interruption has cut, if nothing else has come up."""
        if self._call.is_occupied:
            self._speaking.forget_cut()
        elif generation := self._speaking.resume():
            self.emit("generation_created", generation.created_event(user_initiated=False))

    def _tell_user_text(self, utterance: Utterance, text: str, is_final: bool) -> None:
        """Tell what the user said; the message stands where it was said."""
        if is_final:
            message = llm.ChatMessage(
                id=utterance.item_id, role="user", content=[text], created_at=utterance.began_at
            )
            self._chat.add(message, place=utterance.place)
        self.emit(
            "input_audio_transcription_completed",
            llm.InputTranscriptionCompleted(
                item_id=utterance.item_id,
                transcript=text,
                is_final=is_final,
                turn_started_at=utterance.began_at,
            ),
        )

    def _tell_missed_message(self, message: llm.ChatMessage) -> None:
        """Tell what was said before its text was known: the next agent shall know it, too.

        The framework puts it in the agent's chat context; its session's history has no way in.
        """
        self.emit(
            "remote_item_added", llm.RemoteItemAddedEvent(previous_item_id=None, item=message)
        )

    def _become_ready(self, session: events.ServerSession) -> None:
        now = time.monotonic()
        rate_hz = session.output_audio_sample_rate
        if rate_hz is not None and rate_hz in _OUTPUT_RATES_HZ:
            self._speaking.rate_hz = rate_hz
        self._recovery.ready(now)
        self._listening.start()
        logger.debug("Hydra session %s is ready at %d Hz", self._session_id, self._speaking.rate_hz)
        if self._was_ready:
            self.emit("session_reconnected", llm.RealtimeSessionReconnectedEvent())
        self._was_ready = True

    def _meet_fatal(self, error: errors.HydraError) -> None:
        """End this connection; `_hold` decides about the next one."""
        if self._connection is not None:
            self._connection.leave(error)

    # ------------------------------------------------------------------------ details

    def _moment(self) -> tuple[float, float]:
        """Return the time, and when what was said so far will have been played."""
        return time.monotonic(), self._speaking.played_until()

    def _sync_tools(self) -> None:
        self._perform(self._call.update_tools(self._configuration.offered))
        self._check_size()

    def _check_size(self) -> None:
        if excess := self._configuration.excess():
            self._warn_once(excess)

    def _make_configurable(self) -> None:
        """Nothing more is awaited before the configuration goes out."""
        if not self._is_configurable:
            self._is_configurable = True
            self._check_size()
            self._perform(self._call.configurable(time.monotonic()))

    def _forget_reply(
        self, reply_id: str, done: asyncio.Future[llm.GenerationCreatedEvent]
    ) -> None:
        self._replies.pop(reply_id, None)
        if done.cancelled():
            self._perform(self._call.cancel_reply(reply_id, *self._moment()))

    def _send_audio(self, appends: list[bytes]) -> None:
        if self._connection is not None:
            self._connection.send_audio(appends)
            if self._is_watched:
                for _ in appends:
                    self.emit("hydra_client_event", events.InputAudioBufferAppend(audio=b""))

    def _warn_of_lost_sound(self) -> None:
        self._warn_once("Hydra was away for too long: the oldest of the user's sound is lost")

    def _on_timer(self, name: str) -> None:
        self._perform(self._call.timer(name, *self._moment()))

    def _report(self, error: Exception, *, recoverable: bool) -> None:
        """Tell the framework of a failure, once."""
        logger.warning("%s", error)
        self.emit(
            "error",
            llm.RealtimeModelError(
                timestamp=time.time(),
                label=self._realtime_model.label,
                error=reports.to_api_error(error),
                recoverable=recoverable,
            ),
        )

    def _warn_of_missing_text(self) -> None:
        options = self._options
        missing = [("output_stt= (for the agent's side)", options.output_stt)]
        missing.append(("input_stt= (for the user's)", options.input_stt))
        remedies = " and ".join(what for what, engine in missing if engine is None)
        sentence = (
            "Hydra sends no text of what is said, so LiveKit's history and captions lack it, and"
            f" reconnects and handoffs forget it: give hydra.RealtimeModel an STT as {remedies}"
        )
        warn_once(self._told_by_model, sentence)

    def _warn_once(self, sentence: str) -> None:
        warn_once(self._told, sentence)


class _Host:
    """The session, as the two sides of the voice know it."""

    def __init__(self, session: RealtimeSession) -> None:
        self._session = session

    @property
    def is_user_speaking(self) -> bool:
        return self._session._call.conversation.turn is Turn.SPEAKING

    @property
    def server_alive_at(self) -> float:
        connection = self._session._connection
        return connection.heard_at if connection is not None else 0.0

    def send_audio(self, appends: list[bytes]) -> None:
        self._session._send_audio(appends)

    def user_transcribed(self, utterance: Utterance, text: str, *, is_final: bool) -> None:
        self._session._tell_user_text(utterance, text, is_final)

    def input_audio_lost(self) -> None:
        self._session._warn_of_lost_sound()

    def message_missed(self, message: llm.ChatMessage) -> None:
        self._session._tell_missed_message(message)

    def transcript_missing(self) -> None:
        self._session._warn_of_missing_text()
