"""What is released, and what does it: packages, workflows, the folder for LiveKit's repository."""

from __future__ import annotations

import os
import re
import tarfile
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement

from livekit_plugins_hydra import __version__

from .absolute_links import absolute
from .processes import TOP, finished, python
from .upstream import write

URL = "https://example.org/owner/name/blob/v1"
WORKFLOWS = sorted((TOP / ".github" / "workflows").glob("*.yml"))


async def build(folder: Path, *, checkout: Path = TOP) -> dict[str, bytes]:
    """Build wheel and sdist, and return both by name."""
    built = await python("-m", "hatchling", "build", "-d", str(folder), cwd=checkout)
    assert built.code == 0, built.text
    return files_in(folder)


def files_in(folder: Path) -> dict[str, bytes]:
    """Return what is in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_a_release_is_the_same_each_time_and_passes_the_index(tmp_path: Path) -> None:
    """Built from its own sdist, elsewhere, by somebody with other rights and at another time, wheel
    and sdist have the same bytes; the index would take both as they are.
    """
    first = await build(tmp_path / "first")
    (name,) = (name for name in first if name.endswith(".tar.gz"))
    with tarfile.open(tmp_path / "first" / name) as sdist:
        sdist.extractall(tmp_path, filter="data")
    checkout = tmp_path / name.removesuffix(".tar.gz")
    for path in checkout.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
        os.utime(path, (1e9, 1e9))
    assert first == await build(tmp_path / "second", checkout=checkout)

    paths = [str(tmp_path / "first" / name) for name in first]
    checked = await python("-m", "twine", "check", "--strict", *paths)
    assert checked.code == 0, checked.text


async def test_the_sdist_has_the_package_and_nothing_else(tmp_path: Path) -> None:
    """No test, no example and no dot-file travels along."""
    (name,) = [name for name in await build(tmp_path) if name.endswith(".tar.gz")]
    with tarfile.open(tmp_path / name) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames()}

    others = {name for name in names if not name.startswith("livekit_plugins_hydra/")}
    # hatchling adds .gitignore, which it obeys.
    assert others == {"README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert not any("__pycache__" in name for name in names)


def test_the_readme_of_a_release_leads_to_the_repository() -> None:
    """A package index has no files beside the README: no link in it is relative."""
    text = absolute((TOP / "README.md").read_text(encoding="utf-8"), URL)

    targets = re.findall(r"\]\(([^)\s]+)", text)
    assert f"{URL}/.github/SUPPORT.md" in targets
    assert f"{URL}/.github/commands.svg?raw=true" in targets
    assert [each for each in targets if not each.startswith(("https://", "#"))] == []


def steps(workflow: Path) -> list[dict[str, Any]]:
    """Return all steps of a workflow."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
async def test_the_steps_of_a_workflow_are_shell_and_name_what_exists(workflow: Path) -> None:
    """Each script is there, each word is one that run.sh knows, each tool is installed."""
    for step in steps(workflow):
        assert ("run" in step) != ("uses" in step)
        script = step.get("run", "")
        assert (await finished("sh", "-n", "-c", script, cwd=TOP)).code == 0, script
        for name, word in re.findall(r"\bsh (tests/\w+\.sh)[ ]?(\w*)", script):
            text = (TOP / name).read_text(encoding="utf-8")
            assert not word or f"\n    {word}) checks=" in text or name == "tests/release.sh"
        for module in re.findall(r"python -m ([\w.]+)", script):
            assert find_spec(module)


def test_ci_does_what_a_user_is_told_to_do() -> None:
    """The workflow runs exactly the scripts of .ci/run, on each Python that the package names."""
    workflow = TOP / ".github" / "workflows" / "ci.yml"
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    told = (TOP / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    all_steps = jobs["checks"]["steps"] + jobs["rooms"]["steps"]
    scripts = [step["run"] for step in all_steps if step.get("run", "").startswith("sh ")]
    assert scripts == [line for line in told if line.startswith("sh ")]
    pyproject = (TOP / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r"Python :: (3\.\d+)", pyproject)
    assert jobs["checks"]["strategy"]["matrix"]["python"] == named


@pytest.mark.parametrize("form", sorted((TOP / ".github").glob("**/*.y*ml")), ids=lambda p: p.name)
def test_forms_and_settings_are_yaml(form: Path) -> None:
    """A form that can't be read is not offered to anybody, and nobody is told."""
    assert yaml.safe_load(form.read_text(encoding="utf-8"))


@pytest.mark.skipif("CONSTRAINTS" in os.environ, reason="other versions are wanted")
def test_all_that_is_declared_is_pinned_to_a_version_that_is_allowed() -> None:
    """A release of somebody else breaks no change here; no line names where versions come from."""
    lines = (TOP / "tests" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins: dict[str, list[str]] = {}
    for line in lines:
        pin = re.fullmatch(r"([\w.-]+)==([^ ;]+)(?: ; .*)?", line)
        assert pin, line
        pins.setdefault(pin[1], []).append(pin[2])

    pyproject = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    declared = [*pyproject["project"]["dependencies"], *pyproject["dependency-groups"]["dev"]]
    for requirement in map(Requirement, [*declared, *pyproject["build-system"]["requires"]]):
        assert requirement.name in pins
        assert all(requirement.specifier.contains(each) for each in pins[requirement.name])


def test_the_hooks_before_a_commit_are_the_first_checks() -> None:
    """What a commit passes, `sh tests/run.sh` passes, too; nothing else is installed for it."""
    hooks = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = hooks["repos"]
    checks = re.findall(r"^    run (.*)$", (TOP / "tests" / "run.sh").read_text(), re.MULTILINE)

    entries = [hook["entry"].removeprefix(".venv/bin/python -m ") for hook in repository["hooks"]]
    assert [check.replace(" --check", "").removesuffix(" .") for check in checks[:3]] == entries


def test_the_version_is_told_as_it_is() -> None:
    """The README and the changelog speak of the version that is built."""
    readme, changelog = (
        (TOP / name).read_text(encoding="utf-8") for name in ("README.md", ".github/CHANGELOG.md")
    )

    assert f"**Status: beta, {__version__}.**" in readme
    assert f"\n## {__version__}" in changelog


async def test_the_folder_for_livekits_repository_is_the_same_plugin(tmp_path: Path) -> None:
    """Moved into LiveKit's namespace it imports by itself, registers, and runs its command."""
    plugin = write(tmp_path)
    look = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from livekit.plugins import hydra\n"
        "from livekit.agents import Plugin\n"
        "print(hydra.__file__, hydra.RealtimeModel(api_key='any-key'), hydra.__name__)\n"
        "import livekit.plugins.hydra.commands.cli, livekit.plugins.hydra.testing\n"
        "print([each.package for each in Plugin.registered_plugins])\n"
        "print(sorted(name for name in sys.modules if name.startswith('livekit_plugins_hydra')))\n"
    )

    looked = await python("-c", look, str(plugin))
    assert looked.code == 0, looked.text
    where, registered, others = looked.text.splitlines()
    model = "hydra.RealtimeModel(model='hydra-v1.1', voice='aria')"
    file = plugin / "livekit" / "plugins" / "hydra" / "__init__.py"
    assert where == f"{file} {model} livekit.plugins.hydra"
    assert "livekit.plugins.hydra" in registered
    assert others == "[]"
    built = await python("-m", "hatchling", "build", "-d", str(tmp_path / "dist"), cwd=plugin)
    assert built.code == 0, built.text
