"""What was observed of a server, as values: the table of questions is answered from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from livekit_plugins_hydra.options import Auth
from livekit_plugins_hydra.protocol import events as ev
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConnectionLost,
    HydraError,
)


@dataclass(frozen=True)
class Authentication:
    """What became of the key."""

    form: Auth
    refusal: AuthenticationFailed | ConnectionLost | None = None
    """How it was refused; None where it is accepted."""
    other_form: Auth = "query"
    other_result: str = ""
    """After a refusal: ``accepted`` in the other form, or how that failed."""


@dataclass(frozen=True)
class NoConnection:
    """A connection that could not be made."""

    error: HydraError


@dataclass(frozen=True)
class Opening:
    """How a connection came up, and what the server says of itself. Times in seconds."""

    model: str
    asked: ev.ClientSession
    """What the session was configured with."""
    connected_s: float
    lost: HydraError
    """How the connection ended, where the handshake did not come to its end."""
    error: ev.ErrorBody | None = None
    created_s: float | None = None
    """From the open connection to `session.created`; None where none came."""
    session_id: str | None = None
    warning: ev.Warning | None = None
    configured_s: float | None = None
    echoed: ev.ServerSession | None = None
    """The session as the server configured it; None where it did not."""

    @property
    def is_ready(self) -> bool:
        """Whether the session is configured."""
        return self.echoed is not None

    @property
    def is_voice_refused(self) -> bool:
        """Whether the session is not configured because of its voice."""
        if self.created_s is None or self.is_ready or self.error is None:
            return False
        return (self.error.param or "").endswith("voice")


@dataclass(frozen=True)
class Ping:
    """A ping."""

    took_s: float | None
    """None where no pong came in time."""
    patience_s: float


@dataclass(frozen=True)
class ToolTurn:
    """A question that asks for a function call. Times are seconds after the question's end."""

    ended: HydraError | None
    """How the connection had ended by then."""
    is_heard: bool
    stopped_s: float | None
    """When the server said that the speech had ended."""
    is_stopped_late: bool
    """Whether it said so after the response had begun."""
    response_id: str
    """Empty where no response came."""
    call: ev.ResponseFunctionCallArgumentsDone | None = None
    called_s: float = 0.0
    n_calls: int = 0
    has_audio: bool = False
    """Whether the response with the function call speaks, too."""
    calling_done: Literal["before", "after", "never"] = "never"
    """When that response is done, as seen from the function's output."""
    narrated_s: float | None = None
    """When the output is narrated; None where it is not."""


@dataclass(frozen=True)
class Cancel:
    """A response that was cancelled."""

    was_over: bool = False
    """Whether it was done before."""
    done: ev.Response | None = None
    late_deltas: int = 0


@dataclass(frozen=True)
class BareCreate:
    """A `response.create` that follows nothing."""

    patience_s: float
    has_audio: bool | None = None
    """Whether its response speaks; None where there is no response."""
    error: ev.ErrorBody | None = None
    names_event: bool = False
    """Whether the error names the event that it is about."""
    cancel: Cancel | None = None


@dataclass(frozen=True)
class TextItem:
    """A text item that asks for a word."""

    error: ev.ErrorBody | None
    is_answered: bool
    words: str
    """What was answered, as far as there is a transcript."""
    is_followed: bool
    """Whether the word is among them."""


@dataclass(frozen=True)
class Traffic:
    """What came along with the turns."""

    agent_text: bool
    """Whether transcripts of the agent came."""
    user_text: bool
    n_responses: int
    tokens: list[int]
    """Of each response whose tokens were counted."""
    unknown: Mapping[str, int]
    """How often each type came that this plugin does not know."""
    n_malformed: int


@dataclass(frozen=True)
class Lost:
    """A connection that ended while it was used."""

    error: HydraError


@dataclass(frozen=True)
class OtherForm:
    """The form of authentication that calls don't use."""

    form: Auth
    result: str
    """``accepted``, or how it failed."""


@dataclass(frozen=True)
class Ceiling:
    """Configurations of growing size, up to one with which the server does not speak."""

    spoken: int
    """The bytes of the largest with which it spoke; 0 for none."""
    silent: int | None
    """The bytes of that with which it did not; None where it always spoke."""
    result: str
    """What came of the last one."""
    results: dict[str, dict[str, Any]]
    """What came of each, by its bytes."""


@dataclass(frozen=True)
class LiveKitTurn:
    """A call of one turn through the framework."""

    failure: str = ""
    """Why it could not be held; empty where it was."""
    remedy: str = ""
    waited_s: float = 0.0
    answer_s: float = 0.0
