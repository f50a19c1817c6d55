"""What LiveKit's framework does that a session has to work around.

Sources are files and names in `livekit/agents` of livekit-agents 1.8.9: check them with each new
version. Some workarounds are code below. The others are an order of statements, or a rule, in
another module: this table says where, and what would happen to a caller without it.

Beginning and end
-----------------
The configuration comes in three parts, and Hydra takes one.
    Here: `session`, `_make_configurable`. Source: `llm/realtime.py`, `_update_session`.
    Without: it is sent with the first part, and the agent has neither tools nor memory.
The greeting is asked for after that.
    Here: `protocol/call`, `GREETING_WINDOW_S`. Source: `voice/agent_activity.py`, `_start_session`.
    Without: the configuration is sent by then, and the greeting needs a new connection.
A reply is awaited without a bound.
    Here: `protocol/demand`, `REPLY_DEADLINE_S`.
    Source: `voice/agent_activity.py`, `_realtime_reply_task`.
    Without: after one request that the server ignores, the agent is mute for the rest of the call:
    all that it says is played in order.
The first unrecoverable error of a realtime model ends the call; an STT or TTS may have three.
    Here: `transport/keeper`, `_keep`. Source: `voice/agent_session.py`, `_on_error`.
    Without: a lost connection ends the call, though a new one could be made.
An exception of a listener may come back to the emitter.
    Here: `session`, `emit`. Source: `event_emitter.py` of the package `livekit.rtc`, `emit`.
    Without: a bug in the application's listener stops the session in the middle of its work.
The end of a session is awaited without a bound.
    Here: `session`, `CLOSE_BUDGET_S`. Source: `voice/agent_activity.py`, `_close_session`.
    Without: a server that does not close holds up the job, and a caller in a handoff waits.

Speech
------
`interrupt()` is called inside the emit of `input_speech_started`.
    Here: `performer`, `_begin_turn`. Source: `voice/agent_activity.py`, `_on_input_speech_started`.
    Without: it counts as the application's, so an agent that was cut by a cough never goes on with
    its sentence. So the cut is noted after the emit.
`interrupt()` is called with nothing to cancel, for example before the reply to a result.
    Here: `protocol/conversation`, `cancel_response`.
    Source: `voice/agent_activity.py`, `_realtime_generation_task_impl`.
    Without: it cancels an answer that the server has just begun.
The user counts as speaking until the session reports the end of the turn.
    Here: `protocol/turns`, `UserStopped`.
    Source: `voice/agent_activity.py`, `_on_input_speech_stopped`.
    Without: replies that the application asks for are not played.
A message counts as playing until its text has ended, too.
    Here: `voice/message`, `TEXT_AFTER_PLAYOUT_S`.
    Source: `voice/generation.py`, `forward_generation`.
    Without: a slow STT keeps the agent "speaking", and nothing else is played.
A message's modalities are awaited, even if it is interrupted meanwhile.
    Here: `voice/message`, `present`. Source: `voice/agent_activity.py`, `_process_one_message`.
    Without: the agent is mute for 5 s after that.
An interruption is reported for a message that was partly played, not for one that was not.
    Here: `voice/message`, `cut_short`.
    Source: `voice/agent_activity.py`, `_realtime_generation_task_impl`.
    Without: the next connection's server believes that all of it was said.
That report has the whole text if nothing keeps the text to the pace of speech.
    Here: `voice/message`, `report`. Source: `voice/generation.py`, `forwarded_text`.
    Without: the next connection's server believes that all of it was said.

Function calls
--------------
Results are passed on when the response's streams have ended, and Hydra may wait for results.
    Here: `protocol/response`, `GRACE_S`.
    Source: `voice/agent_activity.py`, `_realtime_generation_task_impl`.
    Without: each waits for the other, and the caller hears nothing more.
A message that waits for playback is dropped at an interruption; its function calls never run.
    Here: `voice/speaking`, `queued_calls`.
    Source: `voice/agent_activity.py`, `_realtime_generation_task_impl`.
    Without: the server waits for their results, and is silent.
Function calls under the tool choice "none" are never answered.
    Here: `functions`, `_NOT_ALLOWED`. Source: `voice/generation.py`, `_execute_tools_task`.
    Without: the server waits for their results, and is silent.
The reply to results is not asked for if the speech that called the function was interrupted.
    Here: `protocol/results`, `NARRATE_AFTER_S`.
    Source: `voice/agent_activity.py`, `_realtime_generation_task_impl`.
    Without: a caller who coughs while a function runs never hears its result.
The tool choice is set before and after each reply, mostly to the same value.
    Here: `protocol/conversation`, `update_tools`.
    Source: `voice/agent_activity.py`, `_realtime_reply_task`.
    Without: the server gets the same tools twice for each reply.

Arguments that are nested too deeply end the task of the speech that calls the function.
    Here: `framework/tools`, `readable`. Source: `llm/utils.py`, `parse_function_arguments`.
    Without: nobody answers the function call, and the server is silent.

Text and history
----------------
A late text can't be added to the session's history, only to the agent's.
    Here: `performer`, `message_missed`.
    Source: `voice/agent_activity.py`, `_on_remote_item_added`.
    Without: the next agent does not know what was said.
`update_chat_ctx` is called with all of our history and more, or with the agent's.
    Here: `voice/chat`, `take`. Source: `voice/agent_activity.py`, `update_chat_ctx`.
    Without: the server gets again, as something new, what it knows.
`ChatContext.copy` leaves a reference cycle behind.
    Here: `voice/chat`, `copy`. Source: `llm/chat_context.py`, `copy`.
    Without: only the garbage collector frees the copies, and its pauses stop all calls.
An STT stream that LiveKit opens again has missed what was said before.
    Here: `voice/transcription`, `_ONE_TRY`. Source: `stt/stt.py`, `_main_task`.
    Without: the beginning of a turn is missing in the history.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from livekit.agents import FunctionToolsExecutedEvent, SpeechCreatedEvent, llm, stt
from livekit.agents.voice.agent_activity import AgentActivity

if TYPE_CHECKING:
    from livekit.agents import AgentSession
    from livekit.agents.voice import SpeechHandle

DROPPED_AFTER_S: Final = 6.0
"""After this an interrupted speech is over: the framework gives it 5 s, then drops its results.
Source: `voice/speech_handle.py`, `INTERRUPTION_TIMEOUT`."""


def agent_session(session: llm.RealtimeSession[Any]) -> AgentSession[Any] | None:
    """Return the `AgentSession` that a realtime session serves; None where it serves none.

    A realtime session is not told: `Results` listens to it, and `until_subscribed` needs its room.
    But its `AgentActivity` listens here, or to the fallback adapter's session that listens here.
    The first session of the job is another one, where a job has several: a second caller would
    wait for the first one's audience, and hear nothing.
    Source: `voice/agent_activity.py`, `_start_session`.
    """
    present = activity_of(session)
    return present.session if present is not None else None


def activity_of(session: llm.RealtimeSession[Any]) -> AgentActivity | None:
    """Return the agent's activity that listens to a realtime session; None if none does.

    In a handoff it becomes another one, if the framework goes on with the same realtime session.
    Source: `voice/agent_activity.py`, `_detach_reusable_resources`.
    """
    for listener in session._events.get("error", ()):
        match getattr(listener, "__self__", None):
            case AgentActivity() as present:
                return present
            case llm.RealtimeSession() as adapter:
                return activity_of(adapter)
    return None


def has_got(session: llm.RealtimeSession[Any]) -> Callable[[str], bool]:
    """Return what tells whether the framework's history has an item of this id.

    It adds what is said when it was played. Until then the application can't have it, so it did
    not remove it. Who drives a session directly has all of it.
    Source: `voice/agent_session.py`, `_conversation_item_added`.
    """
    served = agent_session(session)
    if served is None:
        return lambda _: True

    @functools.cache
    def ids() -> set[str]:
        return {item.id for item in served.history.items}

    return lambda item_id: item_id in ids()


def collects_from(session: llm.RealtimeSession[Any], engine: stt.STT[Any]) -> bool:
    """Return whether the framework collects the metrics of an STT without a realtime session.

    It does from the STT of its agent or its `AgentSession`. Without this, seconds count twice where
    that transcribes for the realtime session, too.
    Source: `voice/agent_activity.py`, `_on_metrics_collected`.
    """
    activity = activity_of(session)
    return activity is not None and activity.stt is engine


def is_transcribed(session: llm.RealtimeSession[Any]) -> bool:
    """Return whether the framework itself transcribes the user for a realtime session.

    It does where its agent or its `AgentSession` has an STT, unless the model says that it has
    transcripts of its own. Without this, each turn has two final transcripts where the server sends
    the user's text all the same.
    Source: `voice/agent_activity.py`, `on_final_transcript`.
    """
    activity = activity_of(session)
    if activity is None or activity.stt is None:
        return False
    model = activity.llm
    return not (isinstance(model, llm.RealtimeModel) and model.capabilities.user_transcription)


def add_message(session: llm.RealtimeSession[Any], message: llm.ChatMessage) -> None:
    """Add what the user said to the framework's histories, without a transcript.

    A realtime session has no event for that, and the transcripts of the framework's own STT make no
    message where the model detects turns. Without this, the history lacks what the user said.
    The framework takes what has no confidence for typed text.
    Source: `voice/agent_activity.py`, `_on_input_audio_transcription_completed`.
    """
    if (activity := activity_of(session)) is not None:
        confidence = message.transcript_confidence
        spoken = message.model_copy(
            update={
                "transcript_confidence": 1.0 if confidence is None else confidence,
                "metrics": {"started_speaking_at": message.created_at},
            }
        )
        activity.agent._chat_ctx._upsert_item(spoken)
        activity.session._conversation_item_added(spoken)


class Results:
    """Reports results of functions that the framework may drop.

    The framework passes a result on when the agent is silent. But if the user has interrupted the
    speech that called the function, it waits no longer than `DROPPED_AFTER_S`. Without this, a
    caller who talks while the function runs, and gets a long answer, never hears the result. A
    function that forbids interruptions of its speech has no such limit.
    Source: `voice/agent_activity.py`, `_realtime_generation_task_impl`.
    """

    def __init__(self, on_result: Callable[[llm.FunctionCallOutput], None]) -> None:
        """Begin without a session.

        Args:
            on_result: called with each result that may be dropped.
        """
        self._on_result = on_result
        self._session: AgentSession[Any] | None = None
        self._speeches: WeakSet[SpeechHandle] = WeakSet()
        """Those that the framework still works on."""

    def watch(self, session: AgentSession[Any] | None) -> None:
        """Listen to a session, if there is one."""
        if session is not None and session is not self._session:
            self.close()
            self._session = session
            session.on("speech_created", self._note)
            session.on("function_tools_executed", self._report)

    def close(self) -> None:
        """Stop listening."""
        if self._session is not None:
            self._session.off("speech_created", self._note)
            self._session.off("function_tools_executed", self._report)
            self._session = None

    def _note(self, event: SpeechCreatedEvent) -> None:
        self._speeches.add(event.speech_handle)

    def _report(self, event: FunctionToolsExecutedEvent) -> None:
        for output in event.function_call_outputs:
            if output is not None and self._may_be_dropped(output.call_id):
                self._on_result(output)

    def _may_be_dropped(self, call_id: str) -> bool:
        """Whether the speech that called the function was interrupted, or is not known."""
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
    """A function call that the framework has, and whether it still waits there.

    The framework does not report that, but then sets `created_at` to the time. Without this, it is
    not known which function calls an interruption drops: a function that runs would be answered
    twice, or one that never runs not at all, and the server waits. What can't be run, such as a
    function that nobody knows, never begins: it is answered.
    Source: `voice/agent_activity.py`, `_tool_execution_started_cb`.
    """

    call: llm.FunctionCall
    is_answered: bool = False
    """Whether its output is there."""
    _created_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._created_at = self.call.created_at

    @property
    def waits(self) -> bool:
        """Whether the function does not run yet, and may still."""
        return self.call.created_at == self._created_at and not self.is_answered


async def until_subscribed(session: AgentSession[Any] | None) -> None:
    """Wait until somebody in the session's room has subscribed to the agent's audio.

    LiveKit's room output waits for that, too, but an interruption cancels the future that it waits
    for. Without this, a caller who speaks before they are subscribed never hears the agent.
    Source: `voice/room_io/_output.py`, `capture_frame`.
    """
    subscribed = _subscribed(session) if session is not None else None
    if subscribed is not None and not subscribed.done():
        await asyncio.wait([subscribed])  # does not cancel it


def _subscribed(session: AgentSession[Any]) -> asyncio.Future[None] | None:
    """Return the future of the room's subscription; None where no room plays the agent."""
    try:
        room = session.room_io
    except RuntimeError:  # there is none
        return None
    output = session.output.audio
    while output is not None and output is not room.audio_output:
        output = output.next_in_chain
    return None if output is None else room.subscribed_fut
