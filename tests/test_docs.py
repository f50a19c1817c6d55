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
import typer
from livekit.plugins import openai

import livekit_plugins_hydra as hydra
from livekit_plugins_hydra import events
from livekit_plugins_hydra.commands.cli import app
from livekit_plugins_hydra.testing import Call, Emulator, Scenario
from livekit_plugins_hydra.testing.emulator.scenario_file import read_scenario

from . import draw_commands, draw_protocol
from .documents import (
    CONTRIBUTING,
    EXAMPLES,
    PROTOCOL,
    README,
    SUPPORT,
    TESTING,
    TEXTS,
    anchors,
    blocks,
    found_in_all,
    links,
    section,
    tables,
)
from .lk import CONSOLE, Console
from .processes import TOP, python, python_running

PATIENCE_S = 60.0


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
    _, _, text = section(SUPPORT, "Troubleshooting").partition(f"From {source}:\n\n")
    return [message.strip("`") for message, _ in tables(text)[0]]


def test_the_readme_is_short() -> None:
    """A first reader is not stopped by its length."""
    assert len(TEXTS[README].splitlines()) <= 200


def test_options_table_is_the_constructor() -> None:
    """The options table has each keyword of `RealtimeModel`, in order, with its default."""
    parameters = [
        (name, parameter.default)
        for name, parameter in inspect.signature(hydra.RealtimeModel).parameters.items()
    ]
    options, _ = tables(section(README, "Options"))
    told = [(name.strip("`"), default) for name, default, _ in options]

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
    options, _ = tables(section(README, "Options"))
    defaults = {name.strip("`"): default for name, default, _ in options}
    model, voice = (defaults[name].strip('`"') for name in ("model", "voice"))

    assert repr(hydra.RealtimeModel()) == f"hydra.RealtimeModel(model={model!r}, voice={voice!r})"


def test_voices_table_is_the_catalogue() -> None:
    """The voices table has each model, its voices with the default first, and its rate."""
    _, voices = tables(section(README, "Options"))
    told = {}
    for model, names, rate in voices:
        (tag,) = re.findall(r"`(\S+)`", model)
        told[tag] = (re.findall(r"\w+", names.partition(":")[0]), rate)

    assert told == {
        tag: (
            [info.default_voice, *(name for name in info.voices if name != info.default_voice)],
            f"{info.output_rate_hz // 1000} kHz",
        )
        for tag, info in hydra.MODELS.items()
    }


def test_openais_keywords_are_openais() -> None:
    """What is said to be left out for Hydra is a keyword of OpenAI's model, and none of ours."""
    theirs = inspect.signature(openai.realtime.RealtimeModel).parameters
    ours = inspect.signature(hydra.RealtimeModel).parameters
    told = [
        keyword
        for row in tables(section(EXAMPLES, "Coming from OpenAI Realtime"))[0]
        for keyword in re.findall(r"`(\w+)", row[0])
    ]

    assert len(told) > 5
    assert [keyword for keyword in told if keyword not in theirs] == []
    assert [keyword for keyword in told if keyword in ours] == ["voice"]


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


def test_the_commonest_errors_are_among_all() -> None:
    """The README's five are messages that Troubleshooting has, too."""
    (commonest,) = tables(section(README, "The five commonest errors"))
    known = {*quoted_messages("this plugin"), *quoted_messages("LiveKit")}

    assert len(commonest) == 5
    assert {message.strip("`") for message, _ in commonest} <= known


def leads_somewhere(page: Path, target: str) -> bool:
    """Return whether a link leads to a file or folder of the checkout, and to a heading there."""
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    return there.exists() and (not anchor or anchor in anchors(there))


def test_links_lead_to_files() -> None:
    """Each link that is not to the web leads to a file, a folder or a heading of the checkout."""
    ours = [
        (page, target)
        for page in TEXTS
        for target in links(page)
        if not target.startswith(("https://", "mailto:"))
    ]

    assert {README, PROTOCOL} <= {page for page, _ in ours}
    assert [(page, to) for page, to in ours if not leads_somewhere(page, to)] == []


def test_commands_name_files_that_exist() -> None:
    """Each script and module that a command runs is there, and the script knows its word."""
    pattern = r"(?:sh|python|console|dev|start) ((?:examples|tests)/[\w./]+)"
    scripts = found_in_all(pattern)
    modules = found_in_all(r"python -m ([\w.]+)")
    tested = {each for paths in found_in_all(r"-m pytest ([^`\n#]+)") for each in paths.split()}
    words = found_in_all(r"sh tests/run\.sh (\w+)")
    known_words = re.findall(r"^    (\w+)\)", (TOP / "tests/run.sh").read_text(), re.MULTILINE)

    assert {"examples/demo.sh", "tests/run.sh"} <= set(re.findall(pattern, TEXTS[README]))
    assert [script for script in scripts if not (TOP / script).is_file()] == []
    assert [path for path in tested if "/" in path and not (TOP / path).exists()] == []
    assert "tests.upstream" in modules
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []
    assert words <= set(known_words)


# Each of them is checked here, or is a user's own shell.
COMMANDS = (
    *("sh examples/", "sh tests/run.sh", ".venv/bin/python -m ", "livekit-hydra "),
    *("pip install .", "echo ", "set -a"),
)


def test_commands_are_of_a_kind_that_is_checked() -> None:
    """No line of a shell block is a command that no test looks at."""
    lines = [line for page in TEXTS for block in blocks(page, "sh") for line in block.splitlines()]

    assert len(lines) > 10
    assert [line for line in lines if not line.startswith(COMMANDS)] == []


def test_what_contributors_are_sent_to_is_there() -> None:
    """Each file, folder, class and table that CONTRIBUTING names in the code exists."""
    words = set()
    for title in ("The rooms of the house", "How to add ..."):
        words |= set(re.findall(r"`([^`\n ]+)`", section(CONTRIBUTING, title)))
    paths = {word for word in words if "/" in word or word.endswith(".py")}
    names = {word for word in words if word[0].isupper()}
    packages = (TOP / "livekit_plugins_hydra", TOP / "tests")
    files = (path for package in packages for path in package.rglob("*.py"))
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    defined = set(re.findall(r"^(?:class |    (?:async )?def )?(\w+)", code, re.MULTILINE))

    assert len(paths) > 15
    places = (TOP, *packages)
    assert [each for each in paths if not any((top / each).exists() for top in places)] == []
    assert len(names) > 5
    assert [name for name in names if not set(name.split(".")) <= defined] == []


def test_the_command_line_takes_what_is_written() -> None:
    """Each ``livekit-hydra`` in a document names a command, and options that it has."""
    commands = typer.main.get_command(app)
    assert isinstance(commands, typer.core.TyperGroup)
    written = found_in_all(r"livekit-hydra ([a-z]+[^`\n#]*)")

    assert {text.split()[0] for text in written} == set(commands.commands)
    for text in written:
        options = {
            option
            for parameter in commands.commands[text.split()[0]].params
            for option in parameter.opts
        }
        assert set(re.findall(r"--[\w-]+", text)) <= options, text


def test_the_picture_of_the_command_line_shows_each_command() -> None:
    """Whoever adds a command draws the picture anew."""
    shown = draw_commands.PICTURE.read_text(encoding="utf-8").replace("&#160;", " ")
    commands = typer.main.get_command(app)
    assert isinstance(commands, typer.core.TyperGroup)

    assert [name for name in commands.commands if f"$ livekit-hydra {name}" not in shown] == []


def test_names_of_the_plugin_exist() -> None:
    """What a document takes from `hydra`, and each variable that it sets, is there."""
    names = found_in_all(r"\bhydra\.([A-Za-z]\w*)")
    variables = found_in_all(r"\bHYDRA_[A-Z_]+\b")
    sentences = set(sentences_in(*(TOP / "livekit_plugins_hydra").rglob("*.py")))

    assert "RealtimeModel" in names
    assert [name for name in names if not hasattr(hydra, name)] == []
    assert variables <= sentences


def test_scenario_files_are_read(tmp_path: Path) -> None:
    """The scenarios that are shown can be used as they are."""
    shown = section(TESTING, "Scenario files")
    for language, suffix in (("toml", ".toml"), ("python", ".py")):
        (block,) = re.findall(rf"^```{language}\n(.*?)^```$", shown, re.DOTALL | re.MULTILINE)
        file = (tmp_path / "scenario").with_suffix(suffix)
        file.write_text(block, encoding="utf-8")

        assert read_scenario(file).replies


def test_sequences_and_tables_are_drawn_from_the_core() -> None:
    """What protocol/README.md shows is what the core does; draw_protocol.py --write renews it."""
    text = TEXTS[PROTOCOL]

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
    assert len(files) > 3
    assert f"no issues found in {len(files)} source files" in checked.text, checked.text


async def test_first_agent_works(tmp_path: Path) -> None:
    """The README's agent starts in LiveKit's console, greets and is of use, on one connection."""
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
        assert [response.trigger for response in server.responses] == ["greeting"]

        server.speak(Call("get_weather", {"city": "Pune"}))
        sent = await server.wait_for(events.ConversationItemCreate, timeout=PATIENCE_S)
        assert sent.item.output == "Sunny in Pune."

    assert len(server.dials) == 1
    assert "Greet the user" in (server.connection.configuration.instructions or "")


async def test_users_test_works(tmp_path: Path) -> None:
    """The test that is shown to users passes under pytest: no setting, plugin or warning."""
    test = blocks(TESTING, "python")[0]
    file = tmp_path / "test_weather.py"
    file.write_text(test, encoding="utf-8")

    tested = await python(
        *("-m", "pytest", "-p", "no:asyncio", "-W", "error", "--rootdir", str(tmp_path), str(file)),
        cwd=tmp_path,
    )
    assert tested.code == 0, tested.text
    assert "1 passed" in tested.text
    assert "warning" not in tested.text.lower()
