"""Function calls on their way to LiveKit, and their outputs on the way to the server."""

from __future__ import annotations

from typing import Final, Protocol

from livekit.agents import llm

from .framework import quirks
from .framework.configuration import Configuration
from .framework.tools import readable
from .protocol import effects as fx
from .protocol.call import Call
from .voice.chat import ChatLog, output_as_text
from .voice.speaking import Speaking

_NOT_RUN: Final = (
    "Not run: it was still waiting when you were interrupted. Call it again if wanted."
)
_NOT_ALLOWED: Final = "Not run: no function may be called now."


class FunctionHost(Protocol):
    """What function calls ask of the performer."""

    ended: str | None
    """Why nothing more happens; None while the call lives."""

    def perform(self, effects: list[fx.Effect]) -> None:
        """Perform effects in order."""

    def moment(self) -> tuple[float, float]:
        """Return the time, and when playback of all audio so far ends."""

    def warn_of_size(self, what: str, text: str) -> None:
        """Warn of a text that is too long to be sent whole."""


class Functions:
    """The function calls of one call."""

    def __init__(
        self,
        call: Call,
        chat: ChatLog,
        configuration: Configuration,
        speaking: Speaking,
        *,
        host: FunctionHost,
    ) -> None:
        """Begin without any.

        Args:
            call: has the server's side of them.
            chat: takes calls, and outputs that the framework does not pass on.
            configuration: tells whether functions may be called.
            speaking: hands them to the framework.
            host: the performer.
        """
        self._call = call
        self._chat = chat
        self._configuration = configuration
        self._speaking = speaking
        self._host = host
        self.results = quirks.Results(self._announce)
        """The framework's, which it may drop."""
        self._announced: dict[str, llm.FunctionCallOutput] = {}
        """By call id, the outputs that the framework may drop."""

    def begin(self, effect: fx.CallFunction) -> None:
        """Let the framework run a function."""
        call = llm.FunctionCall(
            id=self._chat.unique_id(effect.item_id),
            call_id=effect.call_id,
            name=effect.name,
            arguments=readable(effect.arguments),
        )
        self._speaking.call(effect.part_id, call)
        if self._configuration.tool_choice == "none":
            self._refuse(call, _NOT_ALLOWED)  # the framework never answers it

    def post(self, output: llm.FunctionCallOutput) -> None:
        """Send a function's output to the server; it is in the history already."""
        name = self._chat.name_of(output)
        self._host.warn_of_size(f"the result of {name}", output.output)
        self._announced.pop(output.call_id, None)
        self._speaking.answered(output.call_id)
        now, played_until = self._host.moment()
        self._host.perform(
            self._call.post_output(
                output.call_id,
                output.output,
                as_text=output_as_text(name, output.output),
                now=now,
                played_until=played_until,
            )
        )

    def post_dropped(self, call_id: str) -> None:
        """Send an output that was announced, and that the framework has dropped."""
        self._add(self._announced.pop(call_id))

    def refuse_dropped(self, calls: list[llm.FunctionCall]) -> None:
        """Answer function calls that the framework will not run: the server waits for them."""
        for call in calls:
            if call.call_id in self._call.conversation.open_calls:
                self._refuse(call, _NOT_RUN)

    def _announce(self, output: llm.FunctionCallOutput) -> None:
        if self._host.ended is None:
            self._announced[output.call_id] = output
            announced = self._call.announce_output(output.call_id, within_s=quirks.DROPPED_AFTER_S)
            self._host.perform(announced)

    def _add(self, output: llm.FunctionCallOutput) -> None:
        """Take an output that the framework does not pass on."""
        self._chat.add(output)
        self.post(output)

    def _refuse(self, call: llm.FunctionCall, why: str) -> None:
        """Answer a function call that is not run."""
        self._add(
            llm.FunctionCallOutput(call_id=call.call_id, name=call.name, output=why, is_error=True)
        )
