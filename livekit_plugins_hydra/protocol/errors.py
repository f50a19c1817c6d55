"""What can go wrong, and whose fault it is.

::

    HydraError
    ├── ConfigurationError       the arguments; raised by the constructor, before any I/O
    ├── ConnectionFailed         the connection
    │   ├── AuthenticationFailed     401 or 403 at the handshake
    │   ├── HandshakeRefused         any other HTTP answer than 101
    │   ├── CouldNotConnect          no server was reached, or none that speaks WebSocket
    │   ├── HandshakeTimeout         no `session.created`, or no `session.configured`
    │   ├── ServerFull               close 1013, or an `error` frame `server_full`
    │   └── ConnectionLost           every other end of a connection that was
    ├── ProtocolError            a rule of the protocol
    │   ├── LocalProtocolError       we broke it: a bug in this plugin
    │   └── RemoteProtocolError      they broke it: dropped and counted
    └── ServerError              an `error` frame

Exceptions carry data and build their sentence in ``__str__``. None holds a URL, a header or a
key. Branch on types and codes, never on the words.
"""

from __future__ import annotations

from typing import Final

CODES_THAT_END_A_SESSION: Final = frozenset({"server_full", "session_ended"})
"""`error` codes after which the server closes. Source: docs of 2026-08-21; probe of 2026-05-23."""

CODES_OF_BAD_CONFIGURATION: Final = frozenset({"invalid_request_error", "invalid_frame"})
"""`error` codes that the same configuration would get again. Source: docs of 2026-08-21."""

RETRYABLE_STATUSES: Final = frozenset({408, 425, 429})
"""HTTP statuses below 500 that may pass: timeout, too early, too many requests."""

RETRYABLE_CLOSE_CODES: Final = frozenset({1000, 1001, 1005, 1006, 1011, 1012, 1013})
"""Close codes after which a new connection may work; the others would come again."""


_NO_PATH: Final = " base_url has no path; that of Smallest AI's server is /waves/v1/s2s."


class HydraError(Exception):
    """Anything that this package raises."""

    retryable: bool = False
    """Whether trying again, unchanged, may work."""


class ConfigurationError(HydraError, ValueError):
    """The arguments can't work; the text says what to change."""


class ConnectionFailed(HydraError):
    """A connection could not be made, or ended."""

    retryable = True


class AuthenticationFailed(ConnectionFailed):
    """The server refused the key."""

    retryable = False

    def __init__(self, status: int, *, has_path: bool = True) -> None:
        super().__init__(status)
        self.status = status
        self._has_path = has_path

    def __str__(self) -> str:
        return (
            f"Hydra refused the API key (HTTP {self.status}). Check SMALLEST_API_KEY or api_key=,"
            f" and that the key may use speech-to-speech.{'' if self._has_path else _NO_PATH}"
        )


class HandshakeRefused(ConnectionFailed):
    """The server answered the upgrade with another HTTP status than 101."""

    def __init__(
        self, status: int, *, retry_after_s: float | None = None, has_path: bool = True
    ) -> None:
        super().__init__(status)
        self.status = status
        self._has_path = has_path
        self.retry_after_s = retry_after_s
        """What the server's `Retry-After` header asks for, in seconds."""

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        """Whether it is 5xx, or a 4xx that may pass."""
        return self.status >= 500 or self.status in RETRYABLE_STATUSES

    def __str__(self) -> str:
        if self.retryable:
            remedy = "the server may be busy or down"
        elif 300 <= self.status < 400:
            remedy = (
                "it sends to another address, where the key must not follow: "
                "give the right one as base_url="
            )
        else:
            remedy = "check base_url= and model=, and the plan of the account"
        hint = "" if self._has_path else _NO_PATH
        return f"Hydra refused the connection (HTTP {self.status}); {remedy}.{hint}"


class CouldNotConnect(ConnectionFailed):
    """No connection could be made."""

    def __init__(self, address: str, reason: str, *, retryable: bool = True) -> None:
        super().__init__(address, reason)
        self.address = address
        """``host:port/path``, of the server."""
        self.reason = reason
        self.retryable = retryable

    def __str__(self) -> str:
        remedy = "" if self.retryable else " It would happen again, so the call ends here."
        return f"Could not connect to {self.address}: {self.reason}.{remedy}"


class HandshakeTimeout(ConnectionFailed):
    """The server did not take the session in time."""

    def __init__(self, waiting_for: str, timeout_s: float) -> None:
        super().__init__(waiting_for, timeout_s)
        self.waiting_for = waiting_for
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return (
            f"Hydra sent no {self.waiting_for} within {self.timeout_s:g} s; "
            "the network or the server may be slow."
        )


class ServerFull(ConnectionFailed):
    """The server, or the account's plan, has no room for one more session."""

    def __str__(self) -> str:
        return (
            "Hydra has no room for one more session (server_full, close 1013); the server is "
            "at capacity, or the account at its concurrency limit."
        )


class ConnectionLost(ConnectionFailed):
    """An established connection ended."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        """The WebSocket close code, if a close frame came."""
        self.reason = reason
        """The server's words, or what the transport said."""
        self.retryable = code is None or code in RETRYABLE_CLOSE_CODES

    def __str__(self) -> str:
        what = f"closed by the server with code {self.code}" if self.code else "lost"
        reason = f" ({self.reason})" if self.reason else ""
        remedy = "" if self.retryable else " It would happen again, so the call ends here."
        return f"The connection to Hydra was {what}{reason}.{remedy}"


class ProtocolError(HydraError):
    """A rule of the protocol was broken."""


class LocalProtocolError(ProtocolError):
    """This side asked for what the state does not allow; nothing changed, nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The server sent what the protocol does not allow; the frame was dropped."""


class ServerError(HydraError):
    """An `error` frame. Not fatal unless a close follows."""

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        param: str | None = None,
        event_id: str | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.param = param
        """The field at fault, for example `session.configure.session.voice`."""
        self.event_id = event_id
        """The `event_id` of the client event at fault, where the server names it."""

    def is_about(self, field: str) -> bool:
        """Return whether the server names this field as the one at fault."""
        return (self.param or "").rsplit(".", 1)[-1] == field

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        """Whether the same request may work later."""
        return self.code not in CODES_OF_BAD_CONFIGURATION

    def __str__(self) -> str:
        where = f" at {self.param}" if self.param else ""
        hint = _HINTS.get(self.code, "")
        return f"Hydra reports {self.code}{where}: {self.message or 'no message'}{hint}"


_HINTS: Final = {
    "tool_response_timeout": (
        " (a tool took longer than the server waits, and its turn was given up; answer at once"
        " with a placeholder and deliver the result later, for example with ctx.update())"
    ),
    "invalid_audio": " (a bug in the plugin or its audio source; the call goes on)",
}


def is_retryable(error: BaseException) -> bool:
    """Return whether trying again, unchanged, may work after `error`."""
    return isinstance(error, HydraError) and error.retryable
