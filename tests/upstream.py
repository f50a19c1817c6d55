"""Makes the folder that a pull request to livekit/agents would add, of this checkout.

``python -m tests.upstream FOLDER`` writes ``FOLDER/livekit-plugins/livekit-plugins-hydra`` in the
form of the plugins there: the package as ``livekit/plugins/hydra``, a ``pyproject.toml`` with the
version in ``version.py``, and a README. CONTRIBUTING says what is left to do by hand.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

TOP: Final = Path(__file__).parent.parent
PACKAGE: Final = "livekit_plugins_hydra"
THEIRS: Final = "livekit.plugins.hydra"

_PYPROJECT: Final = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "livekit-plugins-hydra"
dynamic = ["version"]
description = "{description}"
readme = "README.md"
license = "Apache-2.0"
requires-python = "{requires-python}"
authors = [{{ name = "LiveKit", email = "hello@livekit.io" }}]
keywords = [{keywords}]
dependencies = [
{dependencies}
]

[project.scripts]
livekit-hydra = "livekit.plugins.hydra.commands.cli:main"

[project.urls]
Documentation = "https://docs.livekit.io"
Website = "https://livekit.io/"
Source = "https://github.com/livekit/agents"

[tool.hatch.version]
path = "livekit/plugins/hydra/version.py"

[tool.hatch.build.targets.wheel]
packages = ["livekit"]

[tool.hatch.build.targets.sdist]
include = ["/livekit"]
"""


def write(folder: Path) -> Path:
    """Write the plugin's folder, and return it.

    Args:
        folder: the top of a checkout of livekit/agents, or any other.

    Raises:
        FileExistsError: the plugin is there already.
    """
    plugin = folder / "livekit-plugins" / "livekit-plugins-hydra"
    package = plugin / "livekit" / "plugins" / "hydra"
    unwanted = shutil.ignore_patterns("__pycache__", "_namespace", "README.md")
    shutil.copytree(TOP / PACKAGE, package, ignore=unwanted)
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(rf"\b{PACKAGE}\b", THEIRS, text), encoding="utf-8")
    shutil.copy(TOP / "README.md", plugin)
    (plugin / "pyproject.toml").write_text(_pyproject(), encoding="utf-8")
    return plugin


def _pyproject() -> str:
    ours: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    return _PYPROJECT.format(
        **{"description": ours["description"], "requires-python": ours["requires-python"]},
        keywords=", ".join(f'"{each}"' for each in ours["keywords"]),
        dependencies="\n".join(f'    "{each}",' for each in ours["dependencies"]),
    )


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
