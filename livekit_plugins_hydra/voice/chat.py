"""The session's own copy of what was said, as LiveKit's chat context.

It is what `RealtimeSession.chat_ctx` returns, what a reconnect replays, and what tells new items
from known ones: by id, since the framework hands over a copy of ours, or the agent's own context.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from typing import Final

from livekit.agents import llm
from livekit.agents.utils import shortuuid
from livekit.agents.voice.generation import remove_instructions

from livekit_plugins_hydra.protocol.history import Line

MAX_ITEMS: Final = 400
"""How many items are kept, the newest: more than fit into a new connection's configuration. So a
call of many hours does not grow; the framework's own history is whole."""

_NOTES: Final = ("agent_handoff", "agent_config_update")
"""Items that are the framework's own."""


class ChatLog:
    """What was said and called, in the order in which it began; texts may come late."""

    def __init__(self) -> None:
        self._ctx = llm.ChatContext.empty()
        self._places: list[int] = []
        """Of the context's items, in order."""
        self._next_place = 0
        self._by_id: dict[str, llm.ChatItem] = {}
        self._calls: dict[str, llm.FunctionCall] = {}
        self._forgotten: set[str] = set()
        """Ids of items that were known once: they are not new when they come back."""

    def copy(self) -> llm.ChatContext:
        """Return a copy for the framework.

        (`ChatContext.copy` leaves a closure behind that only the garbage collector finds.)
        """
        return llm.ChatContext(list(self._ctx.items))

    def take_place(self) -> int:
        """Return a place behind all that is there, for something whose text comes later."""
        self._next_place += 1
        return self._next_place

    def add(self, item: llm.ChatItem, *, place: int | None = None) -> None:
        """Add an item, at the end or in its place; one of a known id takes the place of that.

        Args:
            item: what was said or called.
            place: from `take_place`; None for the end.
        """
        if item.id in self._forgotten:
            return
        if item.id in self._by_id:
            self._ctx.items[self._index(item.id)] = item
        else:
            place = self.take_place() if place is None else place
            index = bisect(self._places, place)
            self._places.insert(index, place)
            self._ctx.items.insert(index, item)
        self._by_id[item.id] = item
        if item.type == "function_call":
            self._calls[item.call_id] = item
        while len(self._ctx.items) > MAX_ITEMS:
            self._forget(self._ctx.items[0])

    def _forget(self, item: llm.ChatItem) -> None:
        self.remove(item.id)
        self._forgotten.add(item.id)
        if item.type == "function_call":
            self._calls.pop(item.call_id, None)

    def _knows(self, item_id: str) -> bool:
        return item_id in self._by_id or item_id in self._forgotten

    def remove(self, item_id: str) -> None:
        """Forget what was not said after all."""
        if item_id in self._by_id:
            index = self._index(item_id)
            del self._by_id[item_id], self._ctx.items[index], self._places[index]

    def add_new(self, ctx: llm.ChatContext) -> list[llm.ChatItem]:
        """Append the items of `ctx` that are new, and return them.

        Instructions, handoffs and configuration changes are the framework's own notes. Removed
        or edited items stay as they are: the server can't take back what it heard.
        """
        unknown = llm.ChatContext(
            [item for item in ctx.items if not (item.type in _NOTES or self._knows(item.id))]
        )
        remove_instructions(unknown)
        new = unknown.items
        new.sort(key=lambda item: item.created_at)  # what was told late stands at the end
        for item in new:
            self.add(item)
        return new

    def unique_id(self, item_id: str) -> str:
        """Return `item_id`, or something like it that no item has yet."""
        return f"{item_id}-{shortuuid()}" if self._knows(item_id) else item_id

    def _index(self, item_id: str) -> int:
        return next(i for i, item in enumerate(self._ctx.items) if item.id == item_id)

    def name_of(self, call_id: str) -> str:
        """Return the name of the function of a call; empty where it is unknown."""
        call = self._calls.get(call_id)
        return call.name if call else ""

    def as_text(self, item: llm.ChatItem) -> tuple[str, str]:
        """Return the role and the text in which a live server is told of an item."""
        match item:
            case llm.ChatMessage(role="assistant"):
                return "system", ""
            case llm.ChatMessage(role="user"):
                return "user", item.text_content or ""
            case llm.ChatMessage():
                return "system", item.text_content or ""
            case llm.FunctionCallOutput() if item.output:
                name = self.name_of(item.call_id) or item.name
                return "system", output_as_text(name, item.output)
            case _:
                return "system", ""

    def lines(self) -> list[Line]:
        """Return the conversation as text, oldest first."""
        return [line for item in self._ctx.items for line in self._lines_of(item)]

    def _lines_of(self, item: llm.ChatItem) -> Sequence[Line]:
        match item:
            case llm.ChatMessage(text_content=text) if text:
                return [Line(_SPEAKERS.get(item.role, item.role), text)]
            case llm.FunctionCall():
                return [Line(f"call of {item.name}", item.arguments)]
            case llm.FunctionCallOutput() if item.output:
                name = self.name_of(item.call_id) or item.name
                return [Line(f"result of {name}", item.output)]
            case _:
                return []


_SPEAKERS = {"developer": "system"}


def output_as_text(name: str, output: str) -> str:
    """Say what a function returned, where its call can't be answered by id."""
    return f"Result of the function {name or 'that was called'}: {output}"


def cut_to_played(text: str, *, played_s: float, duration_s: float) -> str:
    """Return the words of `text` that fit into the part that was played.

    Speech is taken as even; a word that was cut off does not count as played.
    """
    if played_s >= duration_s:
        return text
    n_chars = int(len(text) * max(0.0, played_s) / duration_s)
    played, rest = text[:n_chars], text[n_chars:]
    if played[-1:].isspace() or rest[:1].isspace() or not rest:
        return played.rstrip()
    return played.rsplit(maxsplit=1)[0] if len(played.split()) > 1 else ""
