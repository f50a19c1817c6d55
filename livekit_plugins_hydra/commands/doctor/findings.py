"""What the doctor finds: one answer for each thing that it looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from livekit_plugins_hydra.report.counting import counted

Status = Literal["ok", "note", "warn", "fail", "skip"]
"""``note`` is an answer to an open question: neither good nor bad."""

Group = Literal["machine", "network", "session", "protocol", "call"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One answer."""

    id: str
    """A stable name, for programs and for issues."""
    group: Group
    title: str
    status: Status
    answer: str
    """What was seen, in a few words."""
    remedy: str = ""
    """What to do about it; empty where nothing is to be done."""
    known: str = ""
    """What this plugin's authors knew: what an answer is compared with."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The answer for programs: times in milliseconds, codes, counts."""


@dataclass
class Ledger:
    """What the examination costs: Hydra bills the minutes of sessions."""

    n_connections: int = 0
    connected_s: float = 0.0

    @property
    def sentence(self) -> str:
        """The cost in words."""
        connections = counted(self.n_connections, "connection")
        return (
            f"{connections}, open for {self.connected_s:.0f} s in all:"
            f" {self.connected_s / 60:.1f} session minutes"
        )


def in_ms(seconds: float) -> int:
    """Return milliseconds, for facts."""
    return round(seconds * 1000)
