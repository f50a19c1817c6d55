"""What a connection is configured with: instructions, voice, tools, and history as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from livekit.agents import llm

from livekit_plugins_hydra.protocol import events, history, wire
from livekit_plugins_hydra.protocol.ceiling import CEILING_BYTES, size_of, tools_size
from livekit_plugins_hydra.protocol.history import Line

from .tools import to_hydra

_SAMPLE_EVENT_ID: Final = "cl_" + "x" * 12


class Configuration:
    """A session's instructions and tools, and the one-shot configuration made of them."""

    def __init__(self, voice: str) -> None:
        """Begin with a voice only."""
        self.voice = voice
        self.instructions = ""
        self._configured_with: str | None = None
        self.tool_choice: llm.ToolChoice | None = None
        self._tools: list[llm.Tool] = []
        self._offered: list[events.Tool] = []

    @property
    def tools(self) -> llm.ToolContext:
        """The tools as LiveKit gave them."""
        return llm.ToolContext(self._tools)

    @property
    def offered(self) -> list[events.Tool]:
        """The tools that the model may call now; none under the tool choice "none"."""
        return [] if self.tool_choice == "none" else self._offered

    def set_tools(self, tools: Sequence[llm.Tool]) -> list[str]:
        """Replace the tools; return the names of those that Hydra can't run."""
        self._offered, unsupported = to_hydra(tools)
        self._tools = list(tools)
        return unsupported

    def compose(
        self, lines: Sequence[Line], *, greet: bool, opening: str, budget_bytes: int
    ) -> events.ClientSession:
        """Return the body of `session.configure`, within the byte budget if possible.

        Args:
            lines: the conversation so far; the oldest are left out first.
            greet: the model speaks first on this connection.
            opening: what it speaks about; empty for nothing in particular.
            budget_bytes: the limit, tools included that the tool choice takes away for now.
        """
        hidden_tools = 0 if self.offered else tools_size(self._offered)

        def session(instructions: str) -> events.ClientSession:
            return events.ClientSession(
                instructions=instructions,
                voice=self.voice,
                tools=self.offered or None,
                generate_initial_response=greet,
            )

        instructions = history.fit(
            self.instructions,
            lines,
            opening=opening,
            budget_bytes=budget_bytes - hidden_tools,
            frame_bytes=lambda text: wire.escaped_size(
                events.SessionConfigure(event_id=_SAMPLE_EVENT_ID, session=session(text))
            ),
        )
        self._configured_with = self.instructions
        return session(instructions)

    @property
    def is_stale(self) -> bool:
        """Whether the server was configured with other instructions than these."""
        return self._configured_with not in (None, self.instructions)

    def excess(self, opening: str = "") -> str:
        """Return how far instructions and tools are over the ceiling; empty if they are not."""
        sizes = size_of(self.instructions), tools_size(self._offered), size_of(opening)
        if sum(sizes) <= CEILING_BYTES:
            return ""
        first = f", {sizes[2]} bytes for the first reply" if opening else ""
        return (
            "instructions and tools are too large for Hydra, which may fall silent without an"
            f" error: {len(self.instructions)} characters of instructions, {sizes[1]} bytes for"
            f" {len(self._offered)} tools{first}; keep them under {CEILING_BYTES} bytes together"
        )
