"""What of LiveKit's job a realtime session can see, which is handed none of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from livekit.agents import FunctionToolsExecutedEvent, get_job_context, llm

if TYPE_CHECKING:
    from livekit.agents import AgentSession

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
    """Results of functions, as the framework tells of them before it hands them over.

    It waits until nothing is said any more; if the user spoke while the function ran, for no longer
    than its interruption may take, and then it hands over nothing. Source: livekit-agents 1.8.9,
    `voice/agent_activity.py`, `_realtime_generation_task_impl`.
    """

    def __init__(self, on_result: Callable[[llm.FunctionCallOutput], None]) -> None:
        """Know of none.

        Args:
            on_result: called with each.
        """
        self._on_result = on_result
        self._session: AgentSession[Any] | None = None

    def watch(self) -> None:
        """Listen, where there is a session to listen to."""
        session = agent_session()
        if session is not None and session is not self._session:
            self.close()
            self._session = session
            session.on("function_tools_executed", self._tell)

    def close(self) -> None:
        """Listen no more."""
        if self._session is not None:
            self._session.off("function_tools_executed", self._tell)
            self._session = None

    def _tell(self, event: FunctionToolsExecutedEvent) -> None:
        for output in event.function_call_outputs:
            if output is not None:
                self._on_result(output)
