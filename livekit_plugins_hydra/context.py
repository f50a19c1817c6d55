"""The application's chat context: the history is what it says, and the server is told the news."""

from __future__ import annotations

import time
from typing import Any, Protocol

from livekit.agents import llm

from .framework import quirks
from .functions import Functions
from .protocol import effects as fx
from .protocol.call import Call
from .protocol.demand import CONFIGURED
from .protocol.states import About
from .voice.chat import ChatLog, has_no_text


class ContextHost(Protocol):
    """What the context asks of the performer."""

    def perform(self, effects: list[fx.Effect]) -> None:
        """Perform effects in order."""

    def warn_once(self, sentence: str) -> None:
        """Warn, once."""

    def warn_of_size(self, what: str, text: str) -> None:
        """Warn of a text that is too long to be sent whole."""


class Context:
    """What the application knows, as far as it has said so."""

    def __init__(
        self,
        session: llm.RealtimeSession[Any],
        call: Call,
        chat: ChatLog,
        functions: Functions,
        *,
        host: ContextHost,
    ) -> None:
        """Begin; what is older than this is history.

        Args:
            session: what LiveKit's framework listens to.
            call: tells the server.
            chat: the history.
            functions: posts what functions have returned.
            host: the performer.
        """
        self._session = session
        self._call = call
        self._chat = chat
        self._functions = functions
        self._host = host
        self._began_at = time.time()
        self._activity: object | None = None
        """That of the agent whose context was the last."""

    def update(self, ctx: llm.ChatContext) -> None:
        """Take the application's context as the truth.

        A server can't unhear. So where the session is handed on to an agent that does not know all
        of what its server knows, there is a new connection.
        """
        activity = quirks.activity_of(self._session)
        is_handed_on = self._activity is not None and activity not in (None, self._activity)
        self._activity = activity or self._activity
        change = self._chat.take(
            ctx, has=quirks.has_got(self._session), is_another_agents=is_handed_on
        )
        if is_handed_on and (change.removed or change.edited):
            self._host.perform(self._call.start_over(time.monotonic()))
        for item_id in change.removed:
            self._call.texts.forget(item_id)
        for item in change.edited:
            if self._call.texts.forget(item.id):
                self._tell(item)
        for item in change.new:
            self._tell(item)

    def _tell(self, item: llm.ChatItem) -> None:
        """Let the server know of an item, unless the configuration will.

        What is older than the call was neither typed in it nor returned in it: it is history.
        """
        for kind in has_no_text(item):
            self._host.warn_once(
                f"Hydra takes text only: the model gets no {kind} of a chat context"
            )
        is_new = item.created_at >= self._began_at
        if isinstance(item, llm.FunctionCallOutput) and is_new:
            self._functions.post(item)
            return
        role, text = self._chat.as_text(item)
        is_typed = role == "user" and is_new
        if text and (is_typed or self._call.conversation.handshake in CONFIGURED):
            self._host.warn_of_size("a message", text)
            about = About.TEXT if is_typed else About.NEXT
            self._call.texts.add(role, text, about, item_id=item.id)
