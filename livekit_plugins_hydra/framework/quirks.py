"""What LiveKit's framework does that a session has to work around."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from livekit.agents import FunctionToolsExecutedEvent, SpeechCreatedEvent, get_job_context, llm

if TYPE_CHECKING:
    from livekit.agents import AgentSession
    from livekit.agents.voice import SpeechHandle

DROPPED_AFTER_S: Final = 6.0
"""When an interrupted speech is surely over: the framework gives it 5 s, and drops what it still
holds. Source: livekit-agents 1.8.9, `voice/speech_handle.py`, `INTERRUPTION_TIMEOUT`."""


def agent_session() -> AgentSession[Any] | None:
    """Return the job's first session; None outside of a job, and before it has one."""
    job = get_job_context(required=False)
    if job is None:
        return None
    try:
        return job.primary_session
    except RuntimeError:
        return None


class Results:
    """Results of functions that the framework may drop, as it tells of them before.

    It hands them over when nothing is said any more. Where the user has interrupted the speech that
    called, it waits for no longer than its interruption may take, and then hands over nothing; but
    a function may keep its speech from being interrupted. Source: livekit-agents 1.8.9,
    `voice/agent_activity.py`, `_realtime_generation_task_impl`.
    """

    def __init__(self, on_result: Callable[[llm.FunctionCallOutput], None]) -> None:
        """Know of none.

        Args:
            on_result: called with each.
        """
        self._on_result = on_result
        self._session: AgentSession[Any] | None = None
        self._speeches: WeakSet[SpeechHandle] = WeakSet()
        """Those that the framework still works on."""

    def watch(self) -> None:
        """Listen, where there is a session to listen to."""
        session = agent_session()
        if session is not None and session is not self._session:
            self.close()
            self._session = session
            session.on("speech_created", self._note)
            session.on("function_tools_executed", self._tell)

    def close(self) -> None:
        """Listen no more."""
        if self._session is not None:
            self._session.off("speech_created", self._note)
            self._session.off("function_tools_executed", self._tell)
            self._session = None

    def _note(self, event: SpeechCreatedEvent) -> None:
        self._speeches.add(event.speech_handle)

    def _tell(self, event: FunctionToolsExecutedEvent) -> None:
        for output in event.function_call_outputs:
            if output is not None and self._may_be_dropped(output.call_id):
                self._on_result(output)

    def _may_be_dropped(self, call_id: str) -> bool:
        """Whether the speech that called was interrupted, or is not known."""
        return all(
            speech.interrupted
            for speech in self._speeches
            if any(
                isinstance(item, llm.FunctionCall) and item.call_id == call_id
                for item in speech.chat_items
            )
        )


@dataclass(slots=True)
class HandedCall:
    """A function call that the framework was given: it writes into it when the function begins.

    Source: livekit-agents 1.8.9, `voice/agent_activity.py`, `_tool_execution_started_cb`.
    """

    call: llm.FunctionCall
    _created_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._created_at = self.call.created_at

    @property
    def has_begun(self) -> bool:
        """Whether the function runs, or has run."""
        return self.call.created_at != self._created_at


async def until_subscribed() -> None:
    """Wait until somebody in the room can hear what is played.

    LiveKit's room output waits for that as well, but an interruption meanwhile cancels the very
    future it waits for, and nothing is heard of the agent for the rest of the call. Source:
    livekit-agents 1.8.9, `voice/room_io/_output.py`, `capture_frame`.
    """
    audience = _awaited_audience()
    if audience is not None and not audience.done():
        await asyncio.wait([audience])  # which never cancels it


def _awaited_audience() -> asyncio.Future[None] | None:
    """Return what is done when the job's room hears the agent; None where no room is to hear it."""
    session = agent_session()
    if session is None:
        return None
    try:
        room = session.room_io
    except RuntimeError:  # there is none
        return None
    output = session.output.audio
    while output is not None and output is not room.audio_output:
        output = output.next_in_chain
    return None if output is None else room.subscribed_fut
