"""What the server is asked for: replies, and texts that go with a request."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from .states import About, Asked

MAX_WAITING: Final = 100
"""How many texts wait at most. Our choice."""


@dataclass(slots=True)
class Reply:
    """A reply that is owed."""

    id: str | None
    """None if the call asks for it by itself."""
    instructions: str = ""
    about: About = About.START
    tells_outputs: bool = False
    """Whether it was asked for because functions have returned."""
    takes_over: bool = False
    """Whether it was asked for when the call itself was about to tell what they have returned."""
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
    item_id: str = ""
    """Of the item in the session's history."""


class Texts:
    """The texts that wait for the next request; the history has them, too.

    They are the newest, so that a call does not grow whose server takes none.
    """

    def __init__(self) -> None:
        self._waiting: deque[Text] = deque(maxlen=MAX_WAITING)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __iter__(self) -> Iterator[Text]:
        return iter(self._waiting)

    @property
    def last_about(self) -> About | None:
        """What the last one is about; None if none waits."""
        return self._waiting[-1].about if self._waiting else None

    def add(self, role: str, text: str, about: About, *, item_id: str = "") -> None:
        """Let a text wait."""
        self._waiting.append(Text(role, text, about, item_id=item_id))

    def add_again(self, refused: Text) -> None:
        """Let a text wait for a new connection, as the present one has refused it."""
        self._waiting.append(replace(refused, was_refused=True))

    def take(self) -> list[Text]:
        """Return those that can be sent; they do not wait any more."""
        sent = [text for text in self._waiting if not text.was_refused]
        self._keep(text for text in self._waiting if text.was_refused)
        return sent

    def forget(self, item_id: str) -> bool:
        """Let a text not wait any more; return whether it did."""
        n_waiting = len(self._waiting)
        self._keep(text for text in self._waiting if text.item_id != item_id)
        return len(self._waiting) < n_waiting

    def clear(self) -> None:
        """A new connection is told them all."""
        self._waiting.clear()

    def _keep(self, texts: Iterable[Text]) -> None:
        self._waiting = deque(texts, maxlen=MAX_WAITING)
