"""The session's own copy of what was said, as LiveKit's chat context.

It is what `RealtimeSession.chat_ctx` returns, what a reconnect replays, and what tells new items
from known ones: by id, since the framework hands over a copy of ours, or the agent's own context.
The application's context is the truth: what it lacks, or has otherwise, is so here as well.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
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

Place = tuple[float, int]
"""Where something stands in the conversation: when it began, by the wall clock; and which of two
comes first that began at the same time."""


@dataclass(slots=True)
class _Entry:
    item: llm.ChatItem
    place: Place
    is_own: bool
    """Whether it is of this call, so that the application may not have it yet."""
    shown: str = ""
    """What the application has of it, where that is another text: it was corrected since."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is otherwise in a context of the application's."""

    new: list[llm.ChatItem] = field(default_factory=list)
    """What a server that knew all before does not know, in order."""
    edited: list[llm.ChatItem] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    """By id."""


class ChatLog:
    """What was said and called, in the order in which it began; texts may come late."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._latest = 0.0
        self._numbers = count()
        self._own_ids: dict[str, None] = {}
        """Ids that were given out, the newest: what has one is nothing that a server lacks."""
        self._forgotten: set[str] = set()
        """Ids of items that were known once: they are not new when they come back."""

    def copy(self) -> llm.ChatContext:
        """Return a copy for the framework.

        (`ChatContext.copy` leaves a closure behind that only the garbage collector finds.)
        """
        return llm.ChatContext([entry.item for entry in self._in_order()])

    def _in_order(self) -> list[_Entry]:
        return sorted(self._entries.values(), key=lambda entry: entry.place)

    def take_place(self) -> Place:
        """Return a place behind all that is there, for something whose text comes later."""
        self._latest = max(self._latest, time.time())
        return self._latest, next(self._numbers)

    def add(self, item: llm.ChatItem, *, place: Place | None = None, shown: str = "") -> None:
        """Add an item of this call, at the end or in its place, or in place of that with its id.

        Args:
            item: what was said or called.
            place: from `take_place`; None for the end.
            shown: the text that the application has of it, if it has another.
        """
        if item.id in self._forgotten:
            return
        if item.id not in self._entries:
            self._insert(item, place or self.take_place(), is_own=True)
        entry = self._entries[item.id]
        entry.item, entry.shown = item, shown
        self._trim()

    def _insert(self, item: llm.ChatItem, place: Place, *, is_own: bool) -> None:
        self._entries[item.id] = _Entry(item, place, is_own)

    def _trim(self) -> None:
        n_too_many = len(self._entries) - MAX_ITEMS
        for entry in self._in_order()[:n_too_many] if n_too_many > 0 else ():
            self.remove(entry.item.id)
            self._forgotten.add(entry.item.id)

    def remove(self, item_id: str) -> None:
        """Forget what was not said after all."""
        self._entries.pop(item_id, None)

    # ------------------------------------------------------------ the application's context

    def take(
        self, ctx: llm.ChatContext, *, has: Callable[[str], bool], is_another_agents: bool = False
    ) -> Change:
        """Make this what `ctx` says, and return what is otherwise now.

        Instructions, handoffs and configuration changes are the framework's own notes. What the
        application can't have yet, because it is still being said, stays.

        Args:
            ctx: what the application has.
            has: tells by id whether the framework has got something of this call; asked only where
                something is missing, or in another order.
            is_another_agents: it never was a copy of this: what it lacks is not wanted.
        """
        theirs = llm.ChatContext([item for item in ctx.items if item.type not in _NOTES])
        remove_instructions(theirs)
        given = {item.id: item for item in theirs.items}
        removed = [
            item_id
            for item_id, entry in self._entries.items()
            if item_id not in given and (is_another_agents or not entry.is_own or has(item_id))
        ]
        for item_id in removed:
            self.remove(item_id)
        edited = [item for item in given.values() if self._edit(item)]
        self._reorder([item_id for item_id in given if item_id in self._entries], has)
        return Change(self._add_new(list(given.values())), edited, removed)

    def _edit(self, item: llm.ChatItem) -> bool:
        """Take another content of a known item; return whether there is one."""
        entry = self._entries.get(item.id)
        if entry is None or entry.item is item or _content(entry.item) == _content(item):
            return False
        if entry.is_own and _is_whole(item, entry.item):
            return False
        if entry.shown and _content(item)[1:] == tuple(entry.shown.split()):
            return False
        entry.item, entry.shown = item, ""
        return True

    def _reorder(self, given: list[str], has: Callable[[str], bool]) -> None:
        """Let the items stand in the order in which they are given.

        What the framework got too late for its history, it has appended to the agent's context:
        that says nothing of where it stands.
        """
        places = [self._entries[item_id].place for item_id in given]
        if places == sorted(places):
            return
        moved = [
            self._entries[each] for each in given if not self._entries[each].is_own or has(each)
        ]
        for entry, place in zip(moved, sorted(entry.place for entry in moved), strict=True):
            entry.place = place

    def _add_new(self, given: list[llm.ChatItem]) -> list[llm.ChatItem]:
        """Add what is not known, where its `created_at` puts it; return what servers lack."""
        new: list[tuple[float, llm.ChatItem]] = []
        before = math.inf  # nothing stands behind what it is given before
        for item in reversed(given):
            entry = self._entries.get(item.id)
            if entry is not None:
                before = math.nextafter(entry.place[0], 0.0)
            elif item.id not in self._forgotten and not self._was_not_said(item):
                new.insert(0, (min(item.created_at, before), item))
        new.sort(key=lambda each: each[0])
        for at, item in new:
            self._insert(item, (at, next(self._numbers)), is_own=False)
        self._trim()
        return [
            item for _, item in new if item.id in self._entries and item.id not in self._own_ids
        ]

    def _was_not_said(self, item: llm.ChatItem) -> bool:
        """Whether it is a message of this call's of which nothing was played."""
        is_cut = isinstance(item, llm.ChatMessage) and item.interrupted
        return is_cut and item.id in self._own_ids

    # ---------------------------------------------------------------------- ids and texts

    def unique_id(self, item_id: str) -> str:
        """Return `item_id`, or something like it that no item has yet."""
        is_known = item_id in self._entries or item_id in self._own_ids
        if is_known or item_id in self._forgotten:
            item_id = f"{item_id}-{shortuuid()}"
        self._own_ids[item_id] = None
        if len(self._own_ids) > MAX_ITEMS:
            del self._own_ids[next(iter(self._own_ids))]
        return item_id

    def name_of(self, output: llm.FunctionCallOutput) -> str:
        """Return the name of the function that has returned this; empty where it is unknown."""
        calls = (entry.item for entry in self._entries.values())
        names = (
            item.name
            for item in calls
            if isinstance(item, llm.FunctionCall) and item.call_id == output.call_id
        )
        return output.name or next(names, "")

    def as_text(self, item: llm.ChatItem) -> tuple[str, str]:
        """Return the role and the text in which a live server is told of an item."""
        match item:
            case llm.ChatMessage(role="assistant") if text := text_of(item):
                return (
                    "system",
                    f"You have said to the user: {json.dumps(text, ensure_ascii=False)}",
                )
            case llm.ChatMessage(role=role):
                return "user" if role == "user" else "system", text_of(item)
            case llm.FunctionCallOutput() if item.output:
                return "system", output_as_text(self.name_of(item), item.output)
            case _:
                return "system", ""

    def lines(self) -> list[Line]:
        """Return the conversation as text, oldest first."""
        return [line for entry in self._in_order() for line in self._lines_of(entry.item)]

    def _lines_of(self, item: llm.ChatItem) -> Sequence[Line]:
        match item:
            case llm.ChatMessage() if text := text_of(item):
                return [Line(_SPEAKERS.get(item.role, item.role), text)]
            case llm.FunctionCall():
                return [Line(f"call of {item.name}", item.arguments)]
            case llm.FunctionCallOutput() if item.output:
                return [Line(f"result of {self.name_of(item)}", item.output)]
            case _:
                return []


_SPEAKERS = {"developer": "system"}


def text_of(message: llm.ChatMessage) -> str:
    """Return the text of a message; empty where it has none."""
    heard = [part.transcript for part in message.content if isinstance(part, llm.AudioContent)]
    return "\n".join(filter(None, [message.text_content, *heard]))


def has_no_text(item: llm.ChatItem) -> list[str]:
    """Return what an item has that can't be told in words, by kind."""
    kinds: list[str] = []
    for part in item.content if isinstance(item, llm.ChatMessage) else ():
        match part:
            case llm.ImageContent():
                kinds.append("images")
            case llm.AudioContent(transcript=None | ""):
                kinds.append("audio without a transcript")
    return kinds


def _content(item: llm.ChatItem) -> tuple[str, ...]:
    """Return what an item says; spaces are nothing that it says."""
    match item:
        case llm.ChatMessage(role=role):
            return role, *text_of(item).split()
        case llm.FunctionCall(name=name, arguments=arguments):
            return name, arguments
        case llm.FunctionCallOutput(output=output):
            return ("output", output)
        case _:
            return ()


def _is_whole(theirs: llm.ChatItem, ours: llm.ChatItem) -> bool:
    """Whether it is all of a message that was cut.

    The framework has all of the text where nothing keeps the text to the pace of speech.
    """
    match theirs, ours:
        case llm.ChatMessage(interrupted=True), llm.ChatMessage(interrupted=True):
            said = _content(ours)
            return _content(theirs)[: len(said)] == said
        case _:
            return False


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
