"""What the core asks of the shell: what `performer` has to do.

`Conversation` and `Call` return lists of these and have no socket, task, clock or log.
`performer.Performer` performs them, in order. Times are seconds of the monotonic clock that the
shell passes in as ``now``.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import events
from .ceiling import CEILING_BYTES, SPARE_BYTES
from .errors import HydraError


@dataclass(frozen=True, slots=True)
class Send:
    """Send a client event, after all earlier ones."""

    event: events.ClientEvent


@dataclass(frozen=True, slots=True)
class Compose:
    """Make `session.configure` of instructions, history and tools; pass it to `configure`."""

    greet: bool
    """Whether the model speaks first on this connection."""
    opening: str
    """What the first response is about; empty for nothing."""
    budget_bytes: int = CEILING_BYTES - SPARE_BYTES
    """The most that the configuration may be, with all tools that there are."""


@dataclass(frozen=True, slots=True)
class SessionReady:
    """The handshake is complete: audio may flow."""

    session: events.ServerSession


@dataclass(frozen=True, slots=True)
class BeginResponse:
    """Open the streams of a response, or of a late part of one."""

    part_id: str
    """The response's id; ``<response id>+n`` for what came after its streams were closed."""
    reply_id: str | None = None
    """The reply on demand that this is; None where the server began by itself."""
    is_late: bool = False
    """Whether it is a further part of a response whose streams were closed."""


@dataclass(frozen=True, slots=True)
class OutputAudio:
    """Play audio."""

    part_id: str
    item_id: str
    pcm: bytes
    """int16 little-endian mono at the session's output rate; the length may be odd."""


@dataclass(frozen=True, slots=True)
class LateAudio:
    """Keep audio of a response that the user's speech has cut: it is played only if the server
    decides that it was no speech.
    """

    response_id: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class OutputText:
    """Show a piece of what a response says, as the server has cut it."""

    part_id: str
    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class OutputTranscript:
    """Show what an item says in all, in place of its pieces."""

    part_id: str
    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class LateText:
    """Keep a piece of text of a response that the user's speech has cut; see `LateAudio`."""

    response_id: str
    text: str


@dataclass(frozen=True, slots=True)
class CallFunction:
    """Run a function; its output is awaited under `call_id`."""

    part_id: str
    item_id: str
    call_id: str
    """The server's, or our own where an earlier function call of this phone call had that."""
    name: str
    arguments: str
    """A JSON document, as text."""


@dataclass(frozen=True, slots=True)
class EndStreams:
    """Close the streams of a response; nothing more of this part will come."""

    part_id: str
    cut: bool
    """Whether it was interrupted: the rest must not be played."""


@dataclass(frozen=True, slots=True)
class EndResponse:
    """Report the end of a response; once for each, after its streams were closed."""

    response_id: str
    status: str
    """``completed``, ``cancelled``, ``incomplete``, ``failed``; ``lost`` with its connection."""
    usage: events.Usage | None
    requested_at: float
    """When the user stopped speaking, or the request was sent: the latency begins there."""
    first_audio_at: float | None
    ended_at: float
    has_called: bool = False
    """Whether it has called a function."""


@dataclass(frozen=True, slots=True)
class FellSilent:
    """Warn: a response came without audio, on a connection that holds so many bytes."""

    held_bytes: int


@dataclass(frozen=True, slots=True)
class UserStarted:
    """The user begins to speak; the streams of a cut response are closed already."""

    item_id: str | None
    audio_ms: float | None = None
    """Where, in the audio that was sent on this connection; None where the server does not say."""


@dataclass(frozen=True, slots=True)
class UserStopped:
    """The user has stopped: exactly once for each `UserStarted`."""

    item_id: str | None
    audio_ms: float | None = None
    """Where, as in `UserStarted`."""


@dataclass(frozen=True, slots=True)
class UserDiscarded:
    """The server has decided that the turn was no speech; after `UserStopped`."""

    item_id: str | None
    is_earlier: bool = False
    """Whether it is not the present turn, but one before it, or was over already."""


@dataclass(frozen=True, slots=True)
class UserTurnKept:
    """The turn counts: it is answered, or can no longer be discarded."""


@dataclass(frozen=True, slots=True)
class UserAnswered:
    """The server has answered what the user said so far: it need not be sent again."""


@dataclass(frozen=True, slots=True)
class UserText:
    """The server's own transcript of a user turn."""

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class OutputDropped:
    """Post an announced output: the framework has dropped it."""

    call_id: str


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """A reply on demand will not come."""

    reply_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class UseVoice:
    """Configure the next connections with another voice: the server refused this one."""

    refused: str
    voice: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Leave this connection and make a new one at once."""

    reason: str


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Call `timer(name)` after a delay; replaces an earlier timer of that name."""

    name: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget a timer; nothing happens if it isn't set."""

    name: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something went wrong."""

    error: HydraError
    fatal: bool
    """Whether this connection can't be used any more."""


Effect = (
    Send
    | Compose
    | SessionReady
    | BeginResponse
    | OutputAudio
    | LateAudio
    | OutputText
    | OutputTranscript
    | LateText
    | CallFunction
    | EndStreams
    | EndResponse
    | FellSilent
    | UserStarted
    | UserStopped
    | UserDiscarded
    | UserTurnKept
    | UserAnswered
    | UserText
    | OutputDropped
    | ReplyFailed
    | UseVoice
    | Reconnect
    | StartTimer
    | CancelTimer
    | Fault
)
