"""How tests are run: the same each time, so that a failure is nobody's bad luck.

Property tests get the same examples; `pytest --hypothesis-profile explore` looks further, with
others each time. Calls are held in virtual time, and keep a processor busy; where a test has to
wait for another process, it is `real_time`. The two kinds are run apart: see run.sh.
"""

from __future__ import annotations

import inspect
import signal
from typing import Any, Final

import pytest
from hypothesis import settings

from tests.clock import in_virtual_time

IN_VIRTUAL_TIME: Final = {"framework", "protocol", "session", "testing", "transport", "voice"}
"""The folders whose tests are in virtual time, or in none; all the others are `real_time`."""

# What a shell script starts with `&` ignores Ctrl-C, and so do its children: some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "checks", deadline=None, derandomize=True, database=None, max_examples=200
)
settings.register_profile("explore", deadline=None, max_examples=5_000)
settings.load_profile("checks")


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: Any) -> None:
    """Run a test of a call in virtual time: it is found in its module as one that is not async."""
    if collector.path.parent.name not in IN_VIRTUAL_TIME or not inspect.iscoroutinefunction(obj):
        return
    marks = {mark.name for mark in getattr(obj, "pytestmark", [])}
    if name.startswith("test") and "real_time" not in marks:
        setattr(collector.obj, name, in_virtual_time(obj))  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the other folders."""
    for item in items:
        if item.path.parent.name not in IN_VIRTUAL_TIME:
            item.add_marker("real_time")
