"""What a server says, in a few words: `from . import server_says as server`."""

from __future__ import annotations

from livekit_plugins_hydra.protocol import events as ev


def speech_started(
    item_id: str | None = None, audio_ms: float | None = None
) -> ev.InputAudioBufferSpeechStarted:
    """The user begins to speak."""
    return ev.InputAudioBufferSpeechStarted(item_id=item_id, audio_start_ms=audio_ms)


def speech_stopped(
    item_id: str | None = None, audio_ms: float | None = None
) -> ev.InputAudioBufferSpeechStopped:
    """The user has stopped."""
    return ev.InputAudioBufferSpeechStopped(item_id=item_id, audio_end_ms=audio_ms)


def discarded(item_id: str | None = None) -> ev.ConversationItemDone:
    """The user's turn was no speech."""
    item = ev.Item(id=item_id, type="message", role="user", status="incomplete")
    return ev.ConversationItemDone(item=item)


def heard(item_id: str | None, text: str | None = None) -> ev.ConversationItemDone:
    """The user's turn was speech; with the server's own transcript, if it has one."""
    content = [ev.Content(type="input_audio", text=text)]
    item = ev.Item(id=item_id, type="message", role="user", status="completed", content=content)
    return ev.ConversationItemDone(item=item)


def created(response_id: str) -> ev.ResponseCreated:
    """A response begins."""
    return ev.ResponseCreated(response=ev.Response(id=response_id, status="in_progress"))


def audio(
    response_id: str | None, pcm: bytes = b"\1\0", item_id: str | None = "a1"
) -> ev.ResponseOutputAudioDelta:
    """Sound of a response."""
    return ev.ResponseOutputAudioDelta(response_id=response_id, item_id=item_id, delta=pcm)


def text(
    response_id: str | None, delta: str, item_id: str | None = "a1"
) -> ev.ResponseOutputAudioTranscriptDelta:
    """A phrase of a response."""
    return ev.ResponseOutputAudioTranscriptDelta(
        response_id=response_id, item_id=item_id, delta=delta
    )


def transcript(
    response_id: str | None, text: str | None, item_id: str | None = "a1"
) -> ev.ResponseOutputAudioTranscriptDone:
    """The whole text of an item of a response."""
    return ev.ResponseOutputAudioTranscriptDone(
        response_id=response_id, item_id=item_id, transcript=text
    )


def spoken(
    item_id: str | None, *phrases: str, status: str = "completed"
) -> ev.ConversationItemDone:
    """The item of a spoken answer ends, with its text."""
    content = [ev.Content(type="output_audio", text=phrase) for phrase in phrases]
    item = ev.Item(id=item_id, type="message", role="assistant", status=status, content=content)
    return ev.ConversationItemDone(item=item)


def arguments(
    response_id: str | None, call_id: str, delta: str, name: str | None = None
) -> ev.ResponseFunctionCallArgumentsDelta:
    """A piece of the arguments of a call."""
    return ev.ResponseFunctionCallArgumentsDelta(
        response_id=response_id, call_id=call_id, delta=delta, name=name
    )


def called(
    response_id: str | None,
    call_id: str,
    name: str | None = "look",
    arguments: str | None = "{}",
) -> ev.ResponseFunctionCallArgumentsDone:
    """A call is complete."""
    return ev.ResponseFunctionCallArgumentsDone(
        response_id=response_id, call_id=call_id, name=name, arguments=arguments
    )


def call_item(
    call_id: str | None, *, item_id: str | None = None, status: str | None = "completed"
) -> ev.Item:
    """A call, as an item."""
    return ev.Item(
        id=item_id,
        type="function_call",
        status=status,
        call_id=call_id,
        name="look",
        arguments="{}",
    )


def item_done(item: ev.Item) -> ev.ConversationItemDone:
    """An item ends."""
    return ev.ConversationItemDone(item=item)


def done(
    response_id: str,
    status: str | None = "completed",
    *,
    output: list[ev.Item] | None = None,
    usage: ev.Usage | None = None,
    details: ev.StatusDetails | None = None,
) -> ev.ResponseDone:
    """A response ends."""
    return ev.ResponseDone(
        response=ev.Response(
            id=response_id, status=status, output=output, usage=usage, status_details=details
        )
    )


def error(code: str | None, message: str | None = None, *, event_id: str | None = None) -> ev.Error:
    """Something was refused."""
    return ev.Error(error=ev.ErrorBody(code=code, message=message, event_id=event_id))
