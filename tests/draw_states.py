"""Draws the README's picture of the state machines from their tables.

python tests/draw_states.py            prints it
python tests/draw_states.py --write    puts it into the README
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from livekit_plugins_hydra.protocol import states

README: Final = Path(__file__).parents[1] / "README.md"
BEGIN: Final = "<!-- drawn by tests/draw_states.py: begin -->"
END: Final = "<!-- drawn by tests/draw_states.py: end -->"

MACHINES: Final[dict[str, Mapping[tuple[Any, states.Input], Any]]] = {
    "The handshake": states.HANDSHAKE,
    "The user's turn": states.TURN,
    "A response": states.RESPONSE,
    "What is awaited": states.AWAITED,
    "The first configuration": states.SETUP,
    "A running function's result": states.FATE,
}


def draw() -> str:
    """Return the picture as Markdown, with the markers around it."""
    parts = [_draw_machine(title, table) for title, table in MACHINES.items()]
    return "\n\n".join([BEGIN, *parts, END])


def _draw_machine(title: str, table: Mapping[tuple[Any, states.Input], Any]) -> str:
    labels: dict[tuple[Enum, Enum], list[str]] = {}
    for (state, why), target in table.items():
        labels.setdefault((state, target), []).append(_label(why))
    (first, _), *_ = table
    meanings = []
    for state in type(first):
        # Arrows that lead back would cross the others' labels.
        stays = [f"(also after {why})" for why in labels.pop((state, state), [])]
        meanings.append(f"    {state.name}: {'<br>'.join([state.name, state.value, *stays])}")
    arrows = [
        f"    {state.name} --> {target.name}: {'<br>'.join(why)}"
        for (state, target), why in labels.items()
    ]
    lines = [
        "```mermaid",
        "stateDiagram-v2",
        "    direction LR",
        f"    [*] --> {first.name}",
        *meanings,
        *arrows,
    ]
    return "\n".join([f"**{title}**", "", *lines, "```"]).replace(";", ",")


def _label(why: states.Input) -> str:
    """Name what moves a machine: an event by its type on the wire, a signal by its meaning."""
    if isinstance(why, states.Signal):
        return why.value
    return str(why.__struct_config__.tag).removeprefix("input_audio_buffer.")


def drawn_in(text: str) -> str:
    """Return the picture in a README, with its markers."""
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def main() -> None:
    """Print the picture, or write it."""
    if sys.argv[1:] == ["--write"]:
        text = README.read_text(encoding="utf-8")
        README.write_text(text.replace(drawn_in(text), draw()), encoding="utf-8")
    else:
        print(draw())


if __name__ == "__main__":
    main()
