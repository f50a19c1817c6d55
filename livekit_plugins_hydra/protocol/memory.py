"""Whether the text of all that was said is known, so that a new connection can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Side:
    """What is known of one side of a call."""

    is_transcribed: bool
    has_spoken: bool = False


@dataclass(slots=True)
class Memory:
    """Both sides; a side that never spoke has nothing that could be missing."""

    user: Side
    agent: Side

    @property
    def is_complete(self) -> bool:
        """Whether a new connection can be told all that was said."""
        return all(side.is_transcribed or not side.has_spoken for side in (self.user, self.agent))

    def forget(self) -> None:
        """What was said so far need not be told."""
        self.user.has_spoken = self.agent.has_spoken = False
