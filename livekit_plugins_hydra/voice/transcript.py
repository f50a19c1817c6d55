"""The text of a message, made of the pieces in which the server sends it."""

from __future__ import annotations

from typing import Final

SEAMS: Final = 3
"""After so many seams between several words without white space, pieces are joined by spaces.

Pieces that bring their own white space are cut inside a word now and then. Our choice.
"""


class Spacing:
    """Whether pieces bring the white space between them; learned in a call, for all of it.

    The vendor's quickstart prints pieces as they come, eva's client joins them by spaces.
    """

    def __init__(self) -> None:
        self.is_theirs: bool | None = None
        """None while it is not known."""
        self._n_seams = 0

    def learn(self, earlier: str, piece: str) -> None:
        """Learn from a piece, and from the one before it in its message; empty for none."""
        if piece[0].isspace() or piece[-1].isspace():
            self.is_theirs = True
        elif earlier and any(len(each.split()) > 1 for each in (earlier, piece)):
            self._n_seams += 1
            if self._n_seams >= SEAMS and self.is_theirs is None:
                self.is_theirs = False


class Transcript:
    """The text of one message."""

    def __init__(self, spacing: Spacing) -> None:
        """Begin without a word; `spacing` is the call's."""
        self._spacing = spacing
        self._settled = ""
        """What the server has sent as a whole."""
        self._joined = ""
        """What came in pieces since then."""
        self._open: list[str] = []
        """Pieces of which it is not known yet how they are joined."""
        self._newest = ""
        self._taken = ""

    @property
    def text(self) -> str:
        """All of the text so far."""
        return f"{self._settled} {self._join().strip()}".strip()

    def _join(self) -> str:
        text = self._joined
        for piece in self._open:
            text = text + piece if self._spacing.is_theirs else f"{text} {piece.strip()}"
        return text

    def push(self, piece: str) -> None:
        """Add a piece, which is not empty."""
        self._spacing.learn(self._newest, piece)
        self._newest = piece
        self._open.append(piece)
        if self._spacing.is_theirs is not None or not self._joined:
            self._joined, self._open = self._join(), []

    def go_on(self, text: str) -> None:
        """Begin with a text of ours, to which the first piece is joined as to a piece."""
        self._joined = text

    def settle(self, whole: str) -> None:
        """Take the server's whole text in place of the pieces that came before it."""
        if self._newest or not self._settled.endswith(whole):
            self._settled = f"{self._settled} {whole.strip()}".strip()
        self._joined, self._open, self._newest = "", [], ""
        if not self.text.startswith(self._taken):  # what was taken can't be changed
            self._taken = self.text

    def take(self) -> str:
        """Return what was not taken yet and is sure."""
        taken, self._taken = self._taken, f"{self._settled} {self._joined.strip()}".strip()
        return self._taken[len(taken) :]

    def close(self) -> None:
        """No piece comes any more: what is there is sure."""
        self._joined, self._open = self._join(), []
