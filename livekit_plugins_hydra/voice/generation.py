"""The streams of one response, as LiveKit's framework plays them."""

from __future__ import annotations

from collections.abc import Callable

from livekit.agents import llm

from livekit_plugins_hydra.framework.quirks import HandedCall

from .message import Message
from .streams import Stream


class Generation:
    """A response that is presented to the framework, or a late part of one.

    The framework plays the messages one after another, runs functions as they come, and holds
    both back until the streams are closed. The streams are unbounded on purpose: for a response
    that nobody plays, nobody reads them.
    """

    def __init__(self, generation_id: str, open_message: Callable[[str], Message]) -> None:
        """Open the streams.

        Args:
            generation_id: the response's id, or that of a part; unique in the session.
            open_message: makes the message of an item's id.
        """
        self.id = generation_id
        self._open_message = open_message
        self._messages: Stream[llm.MessageGeneration] = Stream()
        self._functions: Stream[llm.FunctionCall] = Stream()
        self._calls: list[HandedCall] = []
        self._opened: dict[str, Message] = {}
        """By item, in order."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said or called yet."""
        return not self._opened and not self._calls

    @property
    def is_speechless(self) -> bool:
        """Whether some of its audio has no text, and none is to come."""
        return any(message.is_speechless for message in self._opened.values())

    @property
    def is_playing(self) -> bool:
        """Whether something of it is being played, by the clock."""
        return any(message.is_playing for message in self._opened.values())

    @property
    def waiting_calls(self) -> list[llm.FunctionCall]:
        """The function calls that do not run yet."""
        return [handed.call for handed in self._calls if handed.waits]

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is still to be played or to run, or is being played."""
        was_played = all(it.has_begun and not it.is_playing for it in self._opened.values())
        return was_played and not self.waiting_calls

    def created_event(self, *, user_initiated: bool) -> llm.GenerationCreatedEvent:
        """Return the event that hands it to the framework."""
        return llm.GenerationCreatedEvent(
            message_stream=self._messages,
            function_stream=self._functions,
            user_initiated=user_initiated,
            response_id=self.id,
        )

    def message(self, item_id: str) -> Message:
        """Return the message of an item, which is opened if there is none.

        What has no id belongs to the newest message, and the first may get its id later: no
        document has text, so it may lack ids, and it comes before its audio. In all clients seen,
        audio has ids.
        """
        if not item_id and self._opened:
            return next(reversed(self._opened.values()))
        if "" in self._opened:
            self._opened[item_id] = self._opened.pop("")
        elif item_id not in self._opened:
            message = self._opened[item_id] = self._open_message(item_id)
            self._messages.send(message.present())
        return self._opened[item_id]

    def audio_message(self, item_id: str) -> Message:
        """Return the message that plays an item's audio; it ends the audio of those before it."""
        message = self.message(item_id)
        for earlier in self._opened.values():
            if earlier is message:
                break
            earlier.finish(text_may_lag=False)
        return message

    def push_call(self, call: llm.FunctionCall) -> None:
        """Run a function."""
        self._calls.append(HandedCall(call))
        self._functions.send(call)

    def answered(self, call_id: str) -> None:
        """A function call has its output, if it is one of these."""
        for handed in self._calls:
            if handed.call.call_id == call_id:
                handed.is_answered = True

    def finish(self, *, cut: bool) -> None:
        """Nothing more comes; texts may still be awaited."""
        for message in self._opened.values():
            # The outputs of functions go out after the messages.
            message.finish(cut=cut, text_may_lag=not self._calls)
        self._messages.close()
        self._functions.close()
