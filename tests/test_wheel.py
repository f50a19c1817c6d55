"""What users install: the wheel, and an editable checkout, each in an environment of its own."""

from __future__ import annotations

import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from livekit_plugins_hydra import __version__

from .processes import TOP, Finished, finished, python

LOOK = """
import importlib.metadata, pathlib, livekit.plugins
from livekit.plugins import hydra
import livekit_plugins_hydra

print(pathlib.Path(hydra.__file__).parent)
print(pathlib.Path(livekit_plugins_hydra.__file__).parent)
print(hydra.RealtimeModel is livekit_plugins_hydra.RealtimeModel)
print(hydra.__all__ == livekit_plugins_hydra.__all__)
print(hydra.__version__ == importlib.metadata.version("livekit-plugins-hydra"))
print(hydra.RealtimeModel(api_key="any-key-will-do"))
"""

NOT_PYTHON = {
    "py.typed",
    "report/page.html",
    "commands/doctor/question.ogg",
    "testing/emulator/sentence.ogg",
}
"""Files that a wheel forgets most easily."""

EDITABLE = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"


def only_wheel(folder: Path) -> Path:
    """Return the one wheel in a folder."""
    (path,) = folder.glob("*.whl")
    return path


@dataclass(frozen=True)
class Environment:
    """A virtual environment with our package, and with the dependencies of this one."""

    folder: Path

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        (path,) = self.folder.glob("lib/python*/site-packages")
        return path

    async def run(self, program: str, *arguments: str) -> Finished:
        """Run one of its programs, away from the checkout."""
        return await finished(str(self.folder / "bin" / program), *arguments, cwd=self.folder)


async def install(wheel: Path, folder: Path) -> Environment:
    """Make an environment and install a wheel there, without a network."""
    made = await python("-m", "venv", "--without-pip", str(folder))
    assert made.code == 0, made.text
    environment = Environment(folder)
    # Dependencies, and the installer, come from the environment of the tests. What is installed
    # editable there does not: .pth files work only where a site begins.
    (environment.site_packages / "outer.pth").write_text(sysconfig.get_path("purelib"))
    installed = await environment.run("python", "-m", "installer", str(wheel))
    assert installed.code == 0, installed.text
    return environment


@pytest.fixture
async def wheel(tmp_path: Path) -> Path:
    """Build the wheel."""
    built = await python("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist"))
    assert built.code == 0, built.text
    return only_wheel(tmp_path / "dist")


async def test_wheel_has_the_package_twice_under_its_names_and_nothing_else(wheel: Path) -> None:
    """The package and its entry in LiveKit's namespace are there, typed; the template is not."""
    names = set(zipfile.ZipFile(wheel).namelist())

    package = TOP / "livekit_plugins_hydra"
    files = {path.relative_to(TOP) for path in package.rglob("*") if path.is_file()}
    shipped = {
        path.as_posix()
        for path in files
        if "__pycache__" not in path.parts
        and "_namespace" not in path.parts
        and path.name != "README.md"  # for those who read the code
    }
    assert {f"{package.name}/{each}" for each in NOT_PYTHON} <= shipped <= names
    assert {"livekit/plugins/hydra/__init__.py", "livekit/plugins/hydra/py.typed"} <= names
    # LiveKit's own packages live in these namespaces: an __init__.py here would hide them.
    assert not {"livekit/__init__.py", "livekit/plugins/__init__.py"} & names
    assert not any(name.startswith("livekit_plugins_hydra/_namespace") for name in names)
    assert not any(name.endswith(".md") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "livekit",
        "livekit_plugins_hydra",
        f"livekit_plugins_hydra-{__version__}.dist-info",
    }


async def test_wheel_works_as_a_plugin_of_livekit(wheel: Path, tmp_path: Path) -> None:
    """Installed, `livekit.plugins.hydra` has the public names, and the command line runs."""
    environment = await install(wheel, tmp_path / "environment")

    looked = await environment.run("python", "-c", LOOK)
    assert looked.code == 0, looked.text
    site_packages = environment.site_packages
    assert looked.text.splitlines() == [
        str(site_packages / "livekit" / "plugins" / "hydra"),
        str(site_packages / "livekit_plugins_hydra"),
        *["True"] * 3,
        "hydra.RealtimeModel(model='hydra-v1.1', voice='aria')",
    ]

    helped = await environment.run("livekit-hydra", "--help")
    assert helped.code == 0, helped.text
    assert "emulator" in helped.text


async def test_editable_checkout_works_as_a_plugin_of_livekit(tmp_path: Path) -> None:
    """Installed editable, the same names lead to the files of the checkout."""
    built = await python("-c", EDITABLE, str(tmp_path))
    assert built.code == 0, built.text
    environment = await install(only_wheel(tmp_path), tmp_path / "environment")

    looked = await environment.run("python", "-c", LOOK)
    assert looked.code == 0, looked.text
    assert looked.text.splitlines() == [
        str(environment.site_packages / "livekit" / "plugins" / "hydra"),
        str(TOP / "livekit_plugins_hydra"),
        *["True"] * 3,
        "hydra.RealtimeModel(model='hydra-v1.1', voice='aria')",
    ]
