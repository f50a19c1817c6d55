"""A call as a page: reads a wire log, works out what happened, and draws it.

`lines` reads the file, `reading` and `spans` make a `timeline` of its lines, `rows` makes the log
that people read, `page` puts all of it into one HTML file that needs no network.
"""

from .lines import LogUnreadable, calls_in, read
from .page import render
from .reading import timeline_of
from .timeline import Exchange, Timeline

__all__ = [
    "Exchange",
    "LogUnreadable",
    "Timeline",
    "calls_in",
    "read",
    "render",
    "timeline_of",
]
