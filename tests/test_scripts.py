"""The two commands of the README, as scripts: what they install, and what they say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .processes import TOP, finished

UV = """#!/bin/sh
echo "uv $*" >>"$UV_LOG"
if [ "$1" = venv ]; then
    mkdir -p .venv/bin
    printf '#!/bin/sh\\nexit 0\\n' >.venv/bin/python
    chmod +x .venv/bin/python
fi
"""
"""Stands in for uv: writes down what it is asked for, and makes a Python that does nothing."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout as far as the scripts look at it, without a .venv."""
    for name in (
        *("pyproject.toml", "examples", "tests/run.sh", "tests/constraints.txt"),
        "livekit_plugins_hydra/_namespace",
    ):
        source, target = TOP / name, tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.wav", "__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path / "checkout"


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """Return a PATH with a shell's everyday tools, and neither Python nor uv."""
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("sh", "cat", "cksum", "chmod", "dirname", "mkdir", "rm"):
        found = shutil.which(tool)
        assert found is not None, f"every system has {tool}"
        (path / tool).symlink_to(found)
    return path


async def test_set_up_installs_once_and_again_when_something_changes(
    checkout: Path, bare_path: Path, tmp_path: Path
) -> None:
    """The second run installs nothing; the tests' tools serve the demo too; a change is seen."""
    log = tmp_path / "uv.log"
    uv = bare_path / "uv"
    uv.write_text(UV)
    uv.chmod(0o755)

    async def installs(script: str) -> list[str]:
        log.write_text("")
        done = await finished(
            *("sh", script), cwd=checkout, PATH=str(bare_path), PYTHON="", UV_LOG=str(log)
        )
        assert done.code == 0, done.text
        return log.read_text().splitlines()

    install = "uv pip install --quiet --python .venv/bin/python --editable ."
    assert await installs("examples/demo.sh") == [
        "uv venv --quiet --no-project --python >=3.11 .venv",
        install,
    ]
    assert await installs("examples/demo.sh") == []
    pinned = f"{install} --group dev --constraint tests/constraints.txt"
    assert await installs("tests/run.sh") == [pinned]
    assert await installs("tests/run.sh") == []

    with (checkout / "pyproject.toml").open("a") as file:
        file.write("\n# another dependency\n")
    assert await installs("tests/run.sh") == [pinned]
    assert await installs("examples/demo.sh") == []


async def test_without_a_python_the_scripts_say_what_is_needed(
    checkout: Path, bare_path: Path
) -> None:
    """On a machine without Python 3.11 both commands fail with one sentence."""
    for script in ("examples/demo.sh", "tests/run.sh"):
        done = await finished("sh", script, cwd=checkout, PATH=str(bare_path), PYTHON="")

        assert done.code == 1
        assert "Python 3.11 or newer is needed" in done.text
        assert not (checkout / ".venv").exists()


async def test_an_unknown_word_is_refused_before_anything_is_installed(checkout: Path) -> None:
    """``sh tests/run.sh bogus`` says that it knows no such word."""
    done = await finished("sh", "tests/run.sh", "bogus", cwd=checkout)

    assert done.code == 2
    assert "doesn't know 'bogus'" in done.text
    assert not (checkout / ".venv").exists()
