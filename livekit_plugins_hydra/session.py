"""One call, as LiveKit's framework asks for it: `RealtimeSession`.

What LiveKit wants goes to the core as wishes; what follows is performed by `performer`.
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
from .protocol.demand import Learned
from .transport.spare import Spare

CLOSE_BUDGET_S: Final = 2.0
"""`aclose` takes no longer: the framework waits for it without a bound."""


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
        warned: set[str],
        closers: set[asyncio.Task[None]],
        spare: Spare | None = None,
    ) -> None:
        """Prepare a session; nothing happens before `start`.

        Args:
            realtime_model: the model that makes it.
            options: the model's options, as they are now.
            learned: what the model's calls have learned of the server.
            warned: warnings of which one is enough for all calls of the model.
            closers: where connections are put that have said goodbye and wait for the server's.
            spare: a connection that was made before, for this session alone.
        """
        super().__init__(realtime_model)
        self._performer = Performer(
            realtime_model,
            options,
            learned=learned,
            warned=warned,
            closers=closers,
            spare=spare,
            emit=self.emit,
        )
        self._call = self._performer.call
        self._is_configurable = False
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<hydra.RealtimeSession {self.session_id} {self._call!r}>"

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
        self._performer.is_watched |= event in get_args(SessionEvents)
        return super().on(event, callback)

    def start(self) -> None:
        """Begin to connect, in the background: it saves a round trip."""
        self._performer.keeper.start()

    # ------------------------------------------------------------------ LiveKit: state

    @property
    def session_id(self) -> str | None:
        """The server's id of the present connection; None before there is one."""
        return self._performer.session_id

    @property
    def chat_ctx(self) -> llm.ChatContext:
        """A copy of the conversation as far as its text is known."""
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
        """Take instructions, history and tools in one go; never waits for the network.

        Hydra takes its configuration once, so the first call completes it; what is NOT_GIVEN
        then is empty. Later calls patch the session that is there.
        """
        if self._is_configurable:
            await super()._update_session(instructions=instructions, chat_ctx=chat_ctx, tools=tools)
            return
        if is_given(instructions):
            self._performer.configuration.instructions = instructions
        if is_given(chat_ctx):
            self._performer.chat.add_new(chat_ctx)
        if is_given(tools):
            await self.update_tools(tools)
        self._make_configurable()

    async def update_instructions(self, instructions: str) -> None:
        """Change the instructions: in mid-call, by a new connection at the next quiet moment."""
        if instructions == self._performer.configuration.instructions:
            return
        self._performer.configuration.instructions = instructions
        self._check_size()
        self._performer.perform(self._call.instructions_changed(*self._performer.moment()))

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        """Append what is new in `chat_ctx`; Hydra's history can't be edited.

        Outputs of functions go to the server at once, text with the next request. Never asks for
        a response: `generate_reply` does.
        """
        for item in self._performer.chat.add_new(chat_ctx):
            match item:
                case llm.FunctionCallOutput():
                    self._performer.post_output(item)
                case llm.ChatMessage(text_content=text) if text and item.role != "assistant":
                    self._call.add_text("user" if item.role == "user" else "system", text)

    async def update_tools(self, tools: list[llm.Tool]) -> None:
        """Replace the tools; in mid-call too, without a new connection."""
        if unsupported := self._performer.configuration.set_tools(tools):
            self._performer.warn_once(
                f"Hydra can't run provider tools, the model does not see: {', '.join(unsupported)}"
            )
        self._sync_tools()

    def update_options(self, *, tool_choice: NotGivenOr[llm.ToolChoice | None] = NOT_GIVEN) -> None:
        """Change the tool choice: "none" takes the tools away, until it is something else."""
        if not is_given(tool_choice):
            return
        if tool_choice not in (None, "auto", "none"):
            self._performer.warn_once("Hydra has no forced tool choice; it is treated as 'auto'")
        self._performer.configuration.tool_choice = tool_choice
        self._sync_tools()

    # ----------------------------------------------------------------- LiveKit: actions

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        """Send the user's sound: int16, any rate, any channel count; never raises or waits."""
        if self._performer.ended is not None:
            return
        self._make_configurable()
        try:
            self._performer.listening.push(frame)
        except Exception:
            logger.exception("a frame of the user's sound could not be sent")

    def push_video(self, frame: rtc.VideoFrame) -> None:
        """Do nothing: Hydra has no eyes."""
        self._performer.warn_once("Hydra takes no video; frames are dropped")

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
            self._performer.warn_once("Hydra has no tools per response; use update_tools()")
        future: asyncio.Future[llm.GenerationCreatedEvent]
        future = asyncio.get_running_loop().create_future()
        if self._performer.ended is not None:
            future.set_exception(llm.RealtimeError(self._performer.ended))
            return future
        reply_id = shortuuid("reply_")
        self._performer.replies[reply_id] = future
        future.add_done_callback(lambda done: self._forget_reply(reply_id, done))
        self._performer.speaking.forget_cut()
        words = instructions if is_given(instructions) else ""
        self._performer.perform(self._call.generate_reply(reply_id, words, time.monotonic()))
        self._make_configurable()
        return future

    def interrupt(self) -> None:
        """Cancel the response that is generating; do nothing when none is."""
        self._performer.speaking.forget_cut()
        dropped = self._performer.speaking.queued_calls()
        self._performer.perform(self._call.interrupt())
        self._performer.refuse_dropped(dropped)

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
        self._performer.speaking.truncate(
            message_id,
            played_s=audio_end_ms / 1000,
            transcript=audio_transcript if is_given(audio_transcript) else "",
            now=time.monotonic(),
        )
        self._performer.resume_speech()

    def commit_audio(self) -> None:
        """Do nothing: Hydra itself decides when a turn ends."""
        self._performer.warn_once("Hydra ends turns by itself; commit_audio() does nothing")

    def clear_audio(self) -> None:
        """Do nothing: what was said has left already."""

    async def aclose(self) -> None:
        """End the call, within 2 s: all streams, futures and timers, and nothing more is sent.

        The server's part of the goodbye is not waited for; `RealtimeModel.aclose` does that. What
        an ended event loop has left behind ended with it.
        """
        loop = asyncio.get_running_loop()
        if self._performer.keeper.loop not in (None, loop):
            return
        if self._closing is None:
            self._closing = loop.create_task(self._performer.aclose())
        await asyncio.shield(self._closing)

    # ------------------------------------------------------------------------ details

    def _sync_tools(self) -> None:
        self._performer.perform(self._call.update_tools(self._performer.configuration.offered))
        self._check_size()

    def _check_size(self) -> None:
        if excess := self._performer.configuration.excess():
            self._performer.warn_once(excess)

    def _make_configurable(self) -> None:
        """Nothing more is awaited before the configuration goes out."""
        if not self._is_configurable:
            self._is_configurable = True
            self._check_size()
            self._performer.perform(self._call.configurable(time.monotonic()))

    def _forget_reply(
        self, reply_id: str, done: asyncio.Future[llm.GenerationCreatedEvent]
    ) -> None:
        self._performer.replies.pop(reply_id, None)
        if done.cancelled():
            cancelled = self._call.cancel_reply(reply_id, *self._performer.moment())
            self._performer.perform(cancelled)
