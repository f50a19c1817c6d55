"""The documents of the checkout, and what tests read in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from .processes import TOP


def _paths() -> list[Path]:
    folders = [TOP / name for name in (".github", "examples", "livekit_plugins_hydra", "tests")]
    found = sorted(path for folder in folders for path in folder.rglob("*.md"))
    forms = sorted((TOP / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    pages = (path for path in found if "node_modules" not in path.parts)
    return [TOP / "README.md", *pages, *forms]


TEXTS: Final = {path: path.read_text(encoding="utf-8") for path in _paths()}
"""The text of every document, the README first, the forms for issues last."""

README: Final = TOP / "README.md"
EXAMPLES: Final = TOP / "examples" / "README.md"
TESTING: Final = TOP / "livekit_plugins_hydra" / "testing" / "README.md"
PROTOCOL: Final = TOP / "livekit_plugins_hydra" / "protocol" / "README.md"
SUPPORT: Final = TOP / ".github" / "SUPPORT.md"
CONTRIBUTING: Final = TOP / ".github" / "CONTRIBUTING.md"

_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE: Final = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_BLOCK: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Return a document's code in a language, block by block."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[page], re.DOTALL | re.MULTILINE)


def section(page: Path, title: str) -> str:
    """Return the text under a heading, with that under its own headings."""
    found = re.search(rf"^(#+) {re.escape(title)}\n", TEXTS[page], re.MULTILINE)
    assert found, f"{page} has no section {title!r}"
    rest = TEXTS[page][found.end() :]
    return re.split(rf"^#{{1,{len(found[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of each Markdown table's rows, without its head."""
    found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
        for lines in (each.splitlines() for each in found)
    ]


def found_in_all(pattern: str) -> set[str]:
    """Return what a pattern finds in all documents."""
    return {found for text in TEXTS.values() for found in re.findall(pattern, text)}


def links(page: Path) -> list[str]:
    """Return where a document's links and images lead."""
    return re.findall(r"(?:\]\(|(?:src|href)=\")([^)\s\"]+)", _CODE.sub("", TEXTS[page]))


def anchors(page: Path) -> set[str]:
    """Return the names by which links lead to headings, as they are made of the headings' words."""
    headings = _HEADING.findall(_BLOCK.sub("", TEXTS[page]))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {words.replace(" ", "-") for words in plain}
