"""Metrics, transcripts and errors, as LiveKit's types."""

from __future__ import annotations

import time

from livekit.agents import APIConnectionError, APIError, APIStatusError, llm
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.agents.metrics.base import Metadata

from livekit_plugins_hydra.protocol import effects as fx
from livekit_plugins_hydra.protocol import errors


def of_response(model: llm.RealtimeModel, end: fx.EndResponse) -> RealtimeModelMetrics:
    """Return the metrics of one response.

    `timestamp`, `ttft` and `duration` share an origin: the end of the user's speech, or the
    sending of the request. So `ttft` is the latency that the user hears.
    """
    usage = end.usage
    input_tokens = (usage and usage.input_tokens) or 0
    output_tokens = (usage and usage.output_tokens) or 0
    duration_s = max(0.0, end.ended_at - end.requested_at)
    return RealtimeModelMetrics(
        request_id=end.response_id,
        timestamp=time.time() - (time.monotonic() - end.requested_at),
        duration=duration_s,
        ttft=-1 if end.first_audio_at is None else end.first_audio_at - end.requested_at,
        cancelled=end.status in ("cancelled", "lost"),
        label=model.label,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=(usage and usage.total_tokens) or input_tokens + output_tokens,
        tokens_per_second=output_tokens / duration_s if duration_s else 0.0,
        input_token_details=RealtimeModelMetrics.InputTokenDetails(),
        output_token_details=RealtimeModelMetrics.OutputTokenDetails(),
        metadata=_metadata(model),
    )


def of_acquisition(
    model: llm.RealtimeModel, acquire_s: float, *, is_reused: bool
) -> RealtimeModelMetrics:
    """Return the metrics of getting a connection: a new one, or one opened ahead."""
    return RealtimeModelMetrics(
        request_id="",
        timestamp=time.time(),
        label=model.label,
        acquire_time=acquire_s,
        connection_reused=is_reused,
        input_token_details=RealtimeModelMetrics.InputTokenDetails(),
        output_token_details=RealtimeModelMetrics.OutputTokenDetails(),
        metadata=_metadata(model),
    )


def of_connection(model: llm.RealtimeModel, connected_s: float) -> RealtimeModelMetrics:
    """Return the metrics of one connection: Hydra bills by its minutes."""
    return RealtimeModelMetrics(
        request_id="",
        timestamp=time.time(),
        label=model.label,
        session_duration=connected_s,
        input_token_details=RealtimeModelMetrics.InputTokenDetails(),
        output_token_details=RealtimeModelMetrics.OutputTokenDetails(),
        metadata=_metadata(model),
    )


def of_user(message: llm.ChatMessage, *, is_final: bool) -> llm.InputTranscriptionCompleted:
    """Return what the user said, as a transcript."""
    return llm.InputTranscriptionCompleted(
        item_id=message.id,
        transcript=message.text_content or "",
        is_final=is_final,
        confidence=message.transcript_confidence,
        turn_started_at=message.created_at,
    )


def to_api_error(error: Exception) -> APIError:
    """Return `error` as LiveKit's type, without a cause: its text is complete."""
    match error:
        case errors.AuthenticationFailed(status=status) | errors.HandshakeRefused(status=status):
            return APIStatusError(str(error), status_code=status, retryable=error.retryable)
        case errors.ConnectionFailed():
            return APIConnectionError(str(error), retryable=error.retryable)
        case errors.ServerError(code=code, param=param):
            body = {"code": code, "param": param}
            return APIError(str(error), body=body, retryable=error.retryable)
        case _:
            return APIError(str(error) or type(error).__name__, retryable=False)


def _metadata(model: llm.RealtimeModel) -> Metadata:
    return Metadata(model_name=model.model, model_provider=model.provider)
