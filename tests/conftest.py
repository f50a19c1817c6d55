"""How property tests are run: the same examples each time, so that a failure is nobody's bad luck.

`pytest --hypothesis-profile explore` looks further, with other examples each time.
"""

from __future__ import annotations

import signal

from hypothesis import settings

# What a shell script starts with `&` ignores Ctrl-C, and so do its children: some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "checks", deadline=None, derandomize=True, database=None, max_examples=200
)
settings.register_profile("explore", deadline=None, max_examples=5_000)
settings.load_profile("checks")
