"""How much the server holds of one connection, as it falls silent above a ceiling.

Above a ceiling that was seen at 18 KB, and a day later at 32 KB, the server sends no audio any
more, and no error (eva, July 2026). It counts instructions, tools and all that was sent since.
"""

from __future__ import annotations

from typing import Final

from . import events as ev
from . import wire

CEILING_BYTES: Final = 30_000
"""The most that a connection is let to hold, non-ASCII counted as escaped."""

SPARE_BYTES: Final = 4_000
"""What a configuration leaves free for what is sent later. Our choice."""

SUSPECT_BYTES: Final = 15_000
"""A response without audio is laid to the size from here on: the ceiling was never seen lower."""

MAX_ITEM_BYTES: Final = 8_000
"""The most of one output or text that is sent; the rest is cut. Our choice."""

MIN_ITEM_BYTES: Final = 500
"""So much of one is sent however much the server holds: it says what it is about. Our choice."""

_CUT: Final = " ... (cut: this is all that fits)"


class Load:
    """What the server holds, in bytes."""

    def __init__(self) -> None:
        self._configured = self._tools = self._items = 0
        self._more_tools = 0

    @property
    def bytes(self) -> int:
        """All of it."""
        return self._configured + self._more_tools + self._items

    @property
    def is_over(self) -> bool:
        """Whether a new connection would hold less, and has to be made."""
        has_grown = self._items + self._more_tools > 0
        can_shrink = self._configured <= CEILING_BYTES - SPARE_BYTES
        return has_grown and can_shrink and self.bytes > CEILING_BYTES

    def fit(self, text: str) -> str:
        """Return as much of a text as the server may still be sent, with a mark where it was cut.

        A configuration that is over the ceiling by itself was warned of, and can't be mended here.
        """
        if self._configured > CEILING_BYTES:
            return shorten(text)
        room = max(MIN_ITEM_BYTES, CEILING_BYTES - self.bytes)
        return shorten(text, min(room, MAX_ITEM_BYTES))

    def configure(self, configuration: ev.SessionConfigure) -> None:
        """The configuration is sent."""
        self._configured = wire.escaped_size(configuration)
        self._tools = tools_size(configuration.session.tools)

    def update_tools(self, tools: list[ev.Tool]) -> None:
        """Other tools are sent; fewer of them make no room that counts."""
        self._more_tools = max(0, tools_size(tools) - self._tools)

    def add(self, item: ev.ConversationItemCreate) -> None:
        """An item is sent."""
        self._items += wire.escaped_size(item)


def tools_size(tools: list[ev.Tool] | None) -> int:
    """Return how many bytes tools are."""
    if not tools:
        return 0
    return wire.escaped_size(ev.SessionUpdate(session=ev.ClientSession(tools=tools)))


def shorten(text: str, max_bytes: int = MAX_ITEM_BYTES) -> str:
    """Return as much of a text as may be sent, with a mark where it was cut."""
    if size_of(text) <= max_bytes:
        return text
    low, high = 0, min(len(text), max_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if size_of(text[:middle] + _CUT) <= max_bytes:
            low = middle
        else:
            high = middle - 1
    return text[:low] + _CUT


def size_of(text: str) -> int:
    """Return how many bytes a text is in a frame, with its quotes."""
    return wire.escaped_text_size(text)
