"""Lets a document's links lead to the repository: a package index has no files beside it.

``python -m tests.absolute_links README.md https://github.com/OWNER/NAME/blob/v1.2.3`` changes the
file. Pictures are taken as they are (``raw``), and links inside the document stay.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

_LINK: Final = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def absolute(text: str, url: str) -> str:
    """Return a document whose relative links begin with `url`."""

    def link(found: re.Match[str]) -> str:
        mark, words, path = found.groups()
        query = "?raw=true" if mark else ""
        return f"{mark}[{words}]({url.rstrip('/')}/{path}{query})"

    return _LINK.sub(link, text)


if __name__ == "__main__":
    _, name, where = sys.argv
    file = Path(name)
    file.write_text(absolute(file.read_text(encoding="utf-8"), where), encoding="utf-8")
