"""`RealtimeSession`: one call, with the interface that LiveKit's framework asks for.

LiveKit's requests go to the core; `performer` performs the effects.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Literal, get_args

from livekit import rtc
from livekit.agents import NotGivenOr, llm
from livekit.agents.types import NOT_GIVEN
from livekit.agents.utils import is_given, shortuuid

from .log import logger
from .options import Options
from .performer import Performer, SessionEvents
from .protocol.demand import CONFIGURED
from .protocol.errors import ConfigurationError
from .protocol.learned import Learned
from .protocol.wire import plain_text
from .transport.spare import Spare

CLOSE_BUDGET_S: Final = 2.0
"""`aclose` takes no longer: the framework waits for it without a bound."""


class RealtimeSession(llm.RealtimeSession[SessionEvents]):
    """A call with Hydra; made by `RealtimeModel.session`.

    Besides LiveKit's events it emits ``hydra_server_event`` and ``hydra_client_event`` with each
    typed event of the wire (`livekit_plugins_hydra.protocol.events`), without audio.
    """

    def __init__(
        self,
        realtime_model: llm.RealtimeModel,
        *,
        options: Options,
        learned: Learned,
        warned: set[str],
        closers: set[asyncio.Task[None]],
        spare: Spare | None = None,
    ) -> None:
        """Prepare a session; nothing happens before `start`.

        Args:
            realtime_model: the model that makes it.
            options: the model's options, as they are now.
            learned: what the model's calls have learned of the server.
            warned: warnings that the model's calls have given and do not repeat.
            closers: tasks that close connections; ended by `RealtimeModel.aclose`.
            spare: a connection that was opened ahead for this session.
        """
        super().__init__(realtime_model)
        self._performer = Performer(
            self,
            options,
            learned=learned,
            warned=warned,
            closers=closers,
            spare=spare,
        )
        self._call = self._performer.call
        self._is_configurable = False
        self._has_tools = False
        """Whether there is a list of tools, be it empty."""
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<hydra.RealtimeSession {self.session_id} {self._call!r}>"

    def emit(self, event: llm.realtime.EventTypes | SessionEvents, *args: Any) -> None:
        """Tell the listeners; an exception of one is logged and does not end the call."""
        try:
            super().emit(event, *args)
        except (Exception, asyncio.CancelledError):  # not our cancellation: nothing here waits
            logger.exception("a listener to %s failed", event)

    def on(
        self,
        event: llm.realtime.EventTypes | SessionEvents,
        callback: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        """Listen to an event, as with any LiveKit emitter."""
        self._performer.is_watched |= event in get_args(SessionEvents)
        return super().on(event, callback)

    def start(self) -> None:
        """Begin to connect in the background, before the configuration is known."""
        self._performer.keeper.start()

    # ------------------------------------------------------------------ LiveKit: state

    @property
    def session_id(self) -> str | None:
        """The server's id of the present connection; None before there is one."""
        return self._performer.session_id

    @property
    def chat_ctx(self) -> llm.ChatContext:
        """A copy of the conversation, where its text is known."""
        return self._performer.chat.copy()

    @property
    def tools(self) -> llm.ToolContext:
        """The tools of the last `update_tools`."""
        return self._performer.configuration.tools

    async def _update_session(
        self,
        *,
        instructions: NotGivenOr[str] = NOT_GIVEN,
        chat_ctx: NotGivenOr[llm.ChatContext] = NOT_GIVEN,
        tools: NotGivenOr[list[llm.Tool]] = NOT_GIVEN,
    ) -> None:
        """Take instructions, history and tools; never waits for the network.

        Hydra is configured once per connection: the first configuration goes out a moment after
        the last change, so that all three are in it, and a greeting. NOT_GIVEN changes nothing.
        """
        await super()._update_session(instructions=instructions, chat_ctx=chat_ctx, tools=tools)
        self._make_configurable()

    async def update_instructions(self, instructions: str) -> None:
        """Change the instructions; in mid-call by a new connection, made when it is quiet.

        Raises:
            ValueError: they are no text. At the start of a call they end it so, as tools do.
        """
        try:
            instructions = _text(instructions)
        except ValueError:
            await self._end_failed_start()
            raise
        if instructions != self._performer.configuration.instructions:
            self._performer.configuration.instructions = instructions
            self._performer.perform(
                self._call.instructions_changed(
                    *self._performer.moment(), is_stale=self._performer.configuration.is_stale
                )
            )
        self._make_configurable()

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        """Take `chat_ctx` as what was said: each later connection is told that, and no more.

        The present server can only be told what is new: outputs of functions at once, text of any
        role with the next request. It can't unhear what was removed or edited. Only
        `generate_reply` asks for a response.
        """
        self._performer.context.update(chat_ctx)
        self._make_configurable()

    async def update_tools(self, tools: list[llm.Tool]) -> None:
        """Replace the tools; needs no new connection.

        Raises:
            ValueError: a schema has what can't be JSON. The first tools of a call end it so:
                LiveKit does not close a session that could not be started.
        """
        try:
            unsupported = self._performer.configuration.set_tools(tools)
        except ValueError:
            await self._end_failed_start()
            raise
        self._has_tools = True
        if unsupported:
            self._performer.warn_once(
                f"Hydra can't run provider tools, the model does not see: {', '.join(unsupported)}"
            )
        self._sync_tools()
        self._make_configurable()

    async def _end_failed_start(self) -> None:
        if not self._has_tools:  # they are the last part of the first configuration
            await self.aclose()

    def update_options(self, *, tool_choice: NotGivenOr[llm.ToolChoice | None] = NOT_GIVEN) -> None:
        """Change the tool choice: "none" takes the tools away until the next change."""
        if not is_given(tool_choice):
            return
        if tool_choice not in (None, "auto", "none"):
            self._performer.warn_once("Hydra has no forced tool choice; it is treated as 'auto'")
        self._performer.configuration.tool_choice = tool_choice
        self._sync_tools()

    # ----------------------------------------------------------------- LiveKit: actions

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        """Send the user's audio: int16, any rate, any channel count; never raises or waits."""
        if self._performer.ended is not None:
            return
        if not self._is_configurable:
            self._make_configurable()
        try:
            self._performer.listening.push(frame)
        except Exception:
            logger.exception("a frame of the user's audio could not be sent")

    def push_video(self, frame: rtc.VideoFrame) -> None:
        """Do nothing: Hydra takes no video."""
        self._performer.warn_once("Hydra takes no video; frames are dropped")

    def generate_reply(
        self,
        *,
        instructions: NotGivenOr[str] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        tools: NotGivenOr[list[llm.Tool]] = NOT_GIVEN,
    ) -> asyncio.Future[llm.GenerationCreatedEvent]:
        """Ask for a response; see `protocol/demand` for the ways.

        Returns:
            A future of the generation. It fails with `RealtimeError` if none begins within 10 s;
            cancelling it cancels the response.
        """
        if is_given(tool_choice) or is_given(tools):
            self._performer.warn_once("Hydra has no tools per response; use update_tools()")
        future: asyncio.Future[llm.GenerationCreatedEvent]
        future = asyncio.get_running_loop().create_future()
        if self._performer.ended is not None:
            future.set_exception(llm.RealtimeError(self._performer.ended))
            return future
        try:
            words = _text(instructions) if is_given(instructions) else ""
        except ValueError as error:
            future.set_exception(llm.RealtimeError(str(error)))
            return future
        reply_id = shortuuid("reply_")
        self._performer.replies[reply_id] = future
        future.add_done_callback(lambda done: self._forget_reply(reply_id, done))
        self._performer.speaking.forget_cut()
        self._performer.perform(self._call.generate_reply(reply_id, words, time.monotonic()))
        self._make_configurable()
        return future

    def interrupt(self) -> None:
        """Cancel the response that is generating, if there is one."""
        self._performer.speaking.forget_cut()
        dropped = self._performer.speaking.queued_calls()
        self._performer.perform(self._call.interrupt())
        self._performer.functions.refuse_dropped(dropped)

    def truncate(
        self,
        *,
        message_id: str,
        modalities: list[Literal["text", "audio"]],
        audio_end_ms: int,
        audio_transcript: NotGivenOr[str] = NOT_GIVEN,
    ) -> None:
        """Cut a message in this session's history to what was played of it.

        The server can't be told: it believes that all was played. A new connection gets the cut
        history.
        """
        self._performer.speaking.truncate(
            message_id,
            played_s=audio_end_ms / 1000,
            transcript=audio_transcript if is_given(audio_transcript) else "",
            now=time.monotonic(),
        )
        self._performer.resume_speech()

    def commit_audio(self) -> None:
        """Do nothing: Hydra decides when a turn ends."""
        self._performer.warn_once("Hydra ends turns by itself; commit_audio() does nothing")

    def clear_audio(self) -> None:
        """Do nothing: the audio was sent already."""

    async def aclose(self) -> None:
        """End the call within 2 s, with all streams, futures and timers; nothing more is sent.

        It does not wait for the server's close; `RealtimeModel.aclose` does. In another event loop
        than the call's it does nothing: the call has ended with its loop.
        """
        loop = asyncio.get_running_loop()
        if self._performer.keeper.loop not in (None, loop):
            return
        if self._closing is None:
            self._closing = loop.create_task(self._performer.aclose())
        await asyncio.shield(self._closing)

    # ------------------------------------------------------------------------ details

    def _sync_tools(self) -> None:
        configuration = self._performer.configuration
        self._performer.perform(self._call.update_tools(configuration.offered))
        is_configured = self._call.conversation.handshake in CONFIGURED
        if is_configured and (excess := configuration.excess()):
            self._performer.warn_once(excess, about="size")

    def _make_configurable(self) -> None:
        """Let the first configuration be sent, in a moment."""
        self._is_configurable = True
        self._performer.perform(self._call.configurable(time.monotonic()))

    def _forget_reply(
        self, reply_id: str, done: asyncio.Future[llm.GenerationCreatedEvent]
    ) -> None:
        self._performer.replies.pop(reply_id, None)
        if done.cancelled():
            cancelled = self._call.cancel_reply(reply_id, *self._performer.moment())
            self._performer.perform(cancelled)


def _text(instructions: str | None) -> str:
    """Return instructions as a plain text; none are an empty one.

    Raises:
        ConfigurationError: they are no text.
    """
    try:
        return plain_text(instructions or "")
    except TypeError:
        kind = type(instructions).__name__
    raise ConfigurationError(f"instructions must be text, not {kind}")
