"""How property tests are run: the same examples each time, so that a failure is nobody's bad luck.

`pytest --hypothesis-profile explore` looks further, with other examples each time.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile(
    "checks", deadline=None, derandomize=True, database=None, max_examples=200
)
settings.register_profile("explore", deadline=None, max_examples=5_000)
settings.load_profile("checks")
