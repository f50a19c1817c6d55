"""What the user says in one turn: its text, and whether a server owes it an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import Enum
from typing import Final

from livekit import rtc
from livekit.agents import llm

from .chat import Place
from .transcription import Recognition


class State(Enum):
    """What has become of an utterance, as long as the server does not say that it was nothing."""

    OPEN = "the user speaks"
    STOPPED = "the user has stopped"
    KEPT = "it counts; the server has not answered it"
    ANSWERED = "the server has answered; nothing has said yet that it counts"
    SETTLED = "it counts, and no server owes it an answer"
    AGAIN = "its audio goes to the next server, which makes an utterance of its own of it"


class Cause(Enum):
    """What moves an utterance from one state to another."""

    STOPPED = "the server says that the user has stopped"
    KEPT = "the server can't take it back any more, or has told its text"
    ANSWERED = "the server has said something, or called a function"
    LOST = "the connection ended"
    REPEATED = "the next server has heard the user speak"


STATES: Final[dict[tuple[State, Cause], State]] = {
    (State.OPEN, Cause.STOPPED): State.STOPPED,
    (State.OPEN, Cause.KEPT): State.KEPT,
    (State.OPEN, Cause.ANSWERED): State.ANSWERED,
    (State.OPEN, Cause.LOST): State.AGAIN,
    (State.STOPPED, Cause.KEPT): State.KEPT,
    (State.STOPPED, Cause.ANSWERED): State.ANSWERED,
    (State.STOPPED, Cause.LOST): State.AGAIN,
    (State.KEPT, Cause.ANSWERED): State.SETTLED,
    (State.KEPT, Cause.LOST): State.SETTLED,
    (State.ANSWERED, Cause.KEPT): State.SETTLED,
    (State.AGAIN, Cause.KEPT): State.SETTLED,
    (State.AGAIN, Cause.REPEATED): State.SETTLED,
}
"""A pair that is not there means nothing in that state: the utterance stays what it is."""


@dataclass(slots=True)
class Utterance:
    """Something that the user says, as the server hears it begin."""

    item_id: str
    """The server's, or our own where the server gives none."""
    wire_id: str
    """The server's; empty where it gives none."""
    began_at: float
    """Wall clock."""
    place: Place
    """In the chat log."""
    resent_since: float = math.inf
    """Since when audio is sent again, should no answer come of this connection; monotonic clock."""
    state: State = State.OPEN
    recognition: Recognition | None = None
    text: str = ""
    """What was said, as long as nobody was told."""
    confidence: float | None = None
    """How sure an STT is of that, from 0 to 1; None where nobody says."""
    known: str = ""
    """What is in the history already of what is heard in it."""
    was_told: bool = False
    beginning: list[rtc.AudioFrame] = field(default_factory=list)
    """What of its audio is not sent again."""

    def message(self, text: str) -> llm.ChatMessage:
        """Return it as a message, in LiveKit's terms."""
        return llm.ChatMessage(
            id=self.item_id,
            role="user",
            content=[text],
            transcript_confidence=self.confidence,
            created_at=self.began_at,
        )

    def move(self, cause: Cause) -> None:
        """Take note of what has happened."""
        self.state = STATES.get((self.state, cause), self.state)

    @property
    def counts(self) -> bool:
        """Whether its text may be told, as the server can't take it back any more."""
        return self.state in (State.KEPT, State.SETTLED)

    @property
    def is_owed(self) -> bool:
        """Whether the server owes it an answer: the next one would have to hear it, too."""
        return self.state in (State.OPEN, State.STOPPED, State.KEPT)

    def drop(self) -> None:
        """Its words are not wanted, or known better."""
        if self.recognition is not None:
            self.recognition.drop()
            self.recognition = None


def said_since(known: str, text: str) -> str:
    """Return the words of `text` behind those that are known: the same speech, heard again.

    It may be heard a little differently, or from a later word on. Where most of it is not in
    `known`, it is taken for other speech.
    """
    words = text.split()
    heard, before = [_bare(word) for word in words], [_bare(word) for word in known.split()]
    *blocks, _ = SequenceMatcher(None, before, heard, autojunk=False).get_matching_blocks()
    if not blocks:
        return text
    ends_at = blocks[-1].b + blocks[-1].size
    if 2 * sum(block.size for block in blocks) < ends_at:
        return text
    n_misheard = len(before) - (blocks[-1].a + blocks[-1].size)
    return " ".join(words[ends_at + n_misheard :])


def _bare(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())
