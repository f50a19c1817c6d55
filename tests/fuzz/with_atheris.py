"""The same with coverage as the guide: ``python -m tests.fuzz.with_atheris -runs=20000``.

Takes libFuzzer's options. Lines of the input are frames.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["livekit_plugins_hydra"]):
    from .frames import CORPUS, Victim


def take(data: bytes) -> None:
    """Play one input."""
    victim = Victim()
    for frame in data.split(b"\n"):
        victim.take(frame)


def main() -> None:
    """Fuzz, beginning with good frames."""
    with TemporaryDirectory() as folder:
        for number, frame in enumerate(CORPUS):
            Path(folder, str(number)).write_bytes(frame)
        atheris.Setup([*sys.argv, folder], take)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
