"""The documents say what is true: their code runs; their names, sentences and links exist."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra.testing import Emulator, Scenario

from . import draw_protocol
from .lk import CONSOLE, Console
from .processes import TOP, python, python_running

PATIENCE_S = 60.0


def documents() -> list[Path]:
    """Return every document of the checkout, the README first."""
    folders = [TOP / name for name in (".github", "examples", "livekit_plugins_hydra", "tests")]
    found = sorted(path for folder in folders for path in folder.rglob("*.md"))
    return [TOP / "README.md", *(path for path in found if "node_modules" not in path.parts)]


TEXTS = {path: path.read_text(encoding="utf-8") for path in documents()}
README = TOP / "README.md"
SUPPORT = TOP / ".github" / "SUPPORT.md"
OF_TESTING = TOP / "livekit_plugins_hydra" / "testing" / "README.md"


def blocks(page: Path, language: str) -> list[str]:
    """Return a document's code in a language, block by block."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[page], re.DOTALL | re.MULTILINE)


def section(page: Path, title: str) -> str:
    """Return the text under a heading."""
    _, _, rest = TEXTS[page].partition(f"\n## {title}\n")
    assert rest, f"{page} has no section {title!r}"
    return rest.partition("\n## ")[0]


def found_in_all(pattern: str) -> list[tuple[Path, str]]:
    """Return what a pattern finds in each document."""
    return [(page, found) for page, text in TEXTS.items() for found in re.findall(pattern, text)]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells[2:] if not set(row[0]) <= set("|-")]


def sentences_in(*sources: Path) -> Iterator[str]:
    """Yield every text in the code, with … where a value is put in."""
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            match node:
                case ast.Constant(value=str(text)):
                    yield re.sub(r"%[sdr]", "…", text)
                case ast.JoinedStr(values=parts):
                    yield "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts
                    )


def folder_of(module: str) -> Path:
    """Return where a package, or the file of a module, is."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{module} is installed"
    assert spec.origin is not None, f"{module} is no namespace"
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def quoted_messages(source: str) -> list[str]:
    """Return what the troubleshooting table of the plugin, or of LiveKit, quotes."""
    _, _, table = section(SUPPORT, "Troubleshooting").partition(f"From {source}:\n\n")
    table = table.partition("\n\n")[0]
    return [message.strip("`") for message, _ in rows(table)]


def test_options_table_is_the_constructor() -> None:
    """The options table has each keyword of `RealtimeModel`, in order, with its default."""
    parameters = [
        (name, parameter.default)
        for name, parameter in inspect.signature(hydra.RealtimeModel).parameters.items()
    ]
    told = [(name.strip("`"), default) for name, default, _ in rows(section(README, "Options"))]

    assert [name for name, _ in told] == [name for name, _ in parameters]
    for (name, default), (_, cell) in zip(parameters, told, strict=True):
        if isinstance(default, bool | str):
            literal = f'"{default}"' if isinstance(default, str) else str(default)
            assert cell == f"`{literal}`", name


def test_defaults_in_the_options_table_are_those_of_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Model and voice of a `RealtimeModel()` are what the table says."""
    monkeypatch.setenv("SMALLEST_API_KEY", "any-key")
    defaults = {name.strip("`"): default for name, default, _ in rows(section(README, "Options"))}
    model, voice = (defaults[name].strip('`"') for name in ("model", "voice"))

    assert repr(hydra.RealtimeModel()) == f"hydra.RealtimeModel(model={model!r}, voice={voice!r})"
    for tag, info in hydra.MODELS.items():
        assert f'"{tag}"' in section(README, "Options")
        assert f'"{info.default_voice}"' in section(README, "Options")


def test_messages_of_the_plugin_exist() -> None:
    """Each message in Troubleshooting is a sentence of this package."""
    sentences = list(sentences_in(*(TOP / "livekit_plugins_hydra").rglob("*.py")))
    messages = quoted_messages("this plugin")

    assert len(messages) > 15
    assert [words for words in messages if not any(words in each for each in sentences)] == []


def test_messages_of_livekit_exist() -> None:
    """Each message said to be LiveKit's is a sentence of LiveKit, or of what it plays sound by."""
    sources = [*folder_of("livekit.agents").rglob("*.py"), folder_of("sounddevice")]
    sentences = list(sentences_in(*sources))
    messages = quoted_messages("LiveKit")

    assert messages
    assert [words for words in messages if not any(words in each for each in sentences)] == []


def test_links_lead_to_files() -> None:
    """Each link that is not to the web leads to a file or folder of the checkout."""
    targets = found_in_all(r"\]\(([^)]+)\)")
    ours = [(page, target) for page, target in targets if not target.startswith("https://")]

    assert {README, draw_protocol.README} <= {page for page, _ in ours}
    assert [target for page, target in ours if not (page.parent / target).exists()] == []


def test_commands_name_files_that_exist() -> None:
    """Each script that a command runs is there."""
    scripts = {found for _, found in found_in_all(r"(?:sh|python) ((?:examples|tests)/[\w./]+)")}

    assert {"examples/demo.sh", "tests/run.sh"} <= scripts
    assert [script for script in scripts if not (TOP / script).is_file()] == []


def test_sequences_and_tables_are_drawn_from_the_core() -> None:
    """What protocol/README.md shows is what the core does; draw_protocol.py --write renews it."""
    text = TEXTS[draw_protocol.README]

    assert draw_protocol.redrawn(text) == text


async def test_code_type_checks(tmp_path: Path) -> None:
    """The documents' Python is correct for a strict mypy."""
    files = []
    for number, block in enumerate(itertools.chain(*(blocks(page, "python") for page in TEXTS))):
        file = tmp_path / f"block_{number}.py"
        file.write_text(block, encoding="utf-8")
        files.append(str(file))

    # With the project's own options, so that its cache serves.
    checked = await python("-m", "mypy", *files)
    assert "no issues found in 3 source files" in checked.text, checked.text


async def test_first_agent_works(tmp_path: Path) -> None:
    """The README's agent starts as a worker in LiveKit's console, and greets, on one connection."""
    agent, *_ = blocks(README, "python")
    assert 10 < len(agent.strip().splitlines()) <= 20
    file = tmp_path / "agent.py"
    file.write_text(agent, encoding="utf-8")

    async with (
        Emulator(Scenario()) as server,
        Console() as console,
        python_running(
            *("-c", CONSOLE, "console", str(file)),
            *("--connect-addr", console.address),
            HYDRA_BASE_URL=server.url,
            SMALLEST_API_KEY="any-key",
        ),
    ):
        await server.wait_for(lambda _: console.heard_s == [2.0], timeout=PATIENCE_S)

    assert len(server.dials) == 1
    assert [response.trigger for response in server.responses] == ["greeting"]
    assert "Greet the user" in (server.connection.configuration.instructions or "")


async def test_users_test_works(tmp_path: Path) -> None:
    """The test that is shown to users passes under pytest: no setting, plugin or warning."""
    test = blocks(OF_TESTING, "python")[-1]
    file = tmp_path / "test_weather.py"
    file.write_text(test, encoding="utf-8")

    tested = await python(
        *("-m", "pytest", "-p", "no:asyncio", "-W", "error", "--rootdir", str(tmp_path), str(file)),
        cwd=tmp_path,
    )
    assert tested.code == 0, tested.text
    assert "1 passed" in tested.text
    assert "warning" not in tested.text.lower()
