"""What the server is asked for: replies, and texts that go with a request."""

from __future__ import annotations

from dataclasses import dataclass, field

from .states import About, Asked


@dataclass(slots=True)
class Reply:
    """A reply that is owed."""

    id: str | None
    """None if the call asks for it by itself."""
    instructions: str = ""
    about: About = About.START
    tells_outputs: bool = False
    """Whether it was asked for because functions have returned."""
    asked: Asked = Asked.NOT_YET
    was_refused: bool = False
    event_ids: set[str] = field(default_factory=set)
    waited_s: float = 0.0
    """How long it could have begun so far."""
    could_begin_at: float | None = None
    """Since when it could begin; None while the link is down or the user speaks."""

    @property
    def is_asked(self) -> bool:
        """Whether the server was asked for it."""
        return self.asked is not Asked.NOT_YET

    @property
    def opening(self) -> str:
        """What a new connection is told about it."""
        return self.instructions or self.about.value

    def anew(self) -> Reply:
        """Return the same reply, owed again; nobody waits for its future any more."""
        return Reply(None, self.instructions, self.about, self.tells_outputs)

    def hold(self) -> None:
        """Start over: the server was not asked yet."""
        self.asked = Asked.NOT_YET
        self.was_refused = False
        self.event_ids.clear()


@dataclass(frozen=True, slots=True)
class Text:
    """A text item that waits for the next request."""

    role: str
    text: str
    about: About
    was_refused: bool = False
    """Whether a server has refused it: only a new connection can be told."""
