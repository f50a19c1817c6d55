"""`livekit-hydra call` and `emulator` as processes, on real speech; and what they refuse."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import livekit.agents
import numpy as np
import pytest
from livekit.agents import Agent, llm

import livekit_plugins_hydra
from livekit_plugins_hydra.commands import calling
from livekit_plugins_hydra.commands.functions import load
from livekit_plugins_hydra.commands.offline import sample
from livekit_plugins_hydra.framework.tools import to_hydra
from livekit_plugins_hydra.report import calls_in, read
from livekit_plugins_hydra.testing import Call, Emulator, Samples, Say, Scenario
from livekit_plugins_hydra.testing.emulator.replies import End, Wait
from livekit_plugins_hydra.testing.emulator.scenario_file import ScenarioUnreadable, read_scenario
from tests.calls import KEY, silence, tone
from tests.command_line import ENVIRONMENT, SPEECH, Ran, here, hydra, without_voices
from tests.direct import hear, line
from tests.processes import python

SCENARIO = f"""
think_s = 0.2
switches = ["transcripts"]
user_text = "And today?"

[[replies]]
call = "get_weather"
arguments = {{ city = "Lisbon" }}

[[replies]]
wav = "{SPEECH.as_posix()}/agent-forecast.wav"
say = "Lisbon is sunny this morning, with twenty four degrees by the sea, and so on."

[[replies]]
wav = "{SPEECH.as_posix()}/agent-goodbye.wav"
"""

TOOLS = '''
async def get_weather(city: str) -> str:
    """Look up the weather.

    Args:
        city: where
    """
    return f"sunny in {city}"

number = 7
'''

DECORATED = """
from livekit.agents import function_tool

@function_tool
def look(city: str) -> str:
    return city
"""

UNFIT = """
from __future__ import annotations
from livekit.agents import function_tool

async def bare(city): ...
async def more(**more: str): ...
async def unknown(where: Where): ...
made = function_tool(unknown)
"""


def track(path: Path) -> tuple[Samples, int]:
    """Return a wav file's samples, a column a channel, and its rate."""
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
        return samples.reshape(-1, file.getnchannels()), file.getframerate()


def audible_s(side: Samples, rate_hz: int) -> float:
    """Return how much of a recording is no silence: where frames came late, it has gaps."""
    n = rate_hz // 100
    windows = side[: len(side) // n * n].reshape(-1, n)
    return float((abs(windows).max(axis=1) > 1_000).sum()) / 100


def heard_s(side: Samples, rate_hz: int) -> list[tuple[float, float]]:
    """Return where audio begins and ends, pauses under half a second left out."""
    (loud,) = np.nonzero(np.abs(side.astype(int)) > 200)
    breaks = np.nonzero(np.diff(loud) > rate_hz / 2)[0]
    begins = loud[np.concatenate([[0], breaks + 1])] / rate_hz
    ends = loud[np.concatenate([breaks, [loud.size - 1]])] / rate_hz
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


# ------------------------------------------------------------------------- call


async def test_a_call_with_real_speech(tmp_path: Path) -> None:
    """Two recordings, a tool and a barge-in: printed, measured, and written as three files.

    What both sides said is printed as far as it is known, and of the agent as far as it was played.
    """
    (tmp_path / "weather.py").write_text(TOOLS)
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    question, barge_in = SPEECH / "user-question.wav", SPEECH / "user-barge-in.wav"

    ran = await hydra(
        *("call", "--offline", question, barge_in, "--barge-in", "2"),
        *("--tools", "weather:get_weather", "--scenario", "scenario.toml", "--out", "out"),
        cwd=tmp_path,
    )

    assert ran.code == 0, ran
    for told in (
        "says user-question.wav (2.7 s)",
        'calls get_weather({"city": "Lisbon"})',
        "get_weather returns: sunny in Lisbon",
        "interrupts user-barge-in.wav",
        'user said: "And today?"',
        "agent falls silent after 2.",
        "Voice to voice",
    ):
        assert told in ran.words
    assert re.search(r"user, get_weather +[\d,]+ ms", ran.words)
    assert re.search(r'agent said: "Lisbon is sunny[^"]* -"', ran.words)
    assert "and so on" not in ran.words

    samples, rate_hz = track(tmp_path / "out" / "call.wav")
    user, agent = heard_s(samples[:, 0], rate_hz), heard_s(samples[:, 1], rate_hz)
    lengths = [end - begin for begin, end in user]
    assert lengths == [pytest.approx(2.69, abs=0.1), pytest.approx(2.65, abs=0.1)]
    assert user[1][0] - agent[0][0] == pytest.approx(2.0, abs=0.3)

    (lines,) = calls_in(read(tmp_path / "out" / "wire.jsonl")).values()
    configured = next(each for each in lines if each.type == "session.configured")
    assert configured.offset_s < user[0][0] < configured.offset_s + 1.5
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    turns = json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])["exchanges"]
    assert [turn["is_barge_in"] for turn in turns] == [False, True]
    assert turns[0]["end_s"] == pytest.approx(user[0][1], abs=0.1)
    assert turns[0]["answer_audio_s"] == pytest.approx(agent[0][0], abs=0.2)
    assert len(re.findall(r'id="recording">(.*?)</script>', page)[0]) > 20_000


def test_without_a_scenario_the_emulated_agent_says_a_sentence(tmp_path: Path) -> None:
    """`call --offline` calls a function once, and is then answered in words."""
    (tmp_path / "weather.py").write_text(TOOLS)
    code, words = here(tmp_path, "call", "--offline", GOODBYE, "--tools", "weather.py:get_weather")

    assert code == 0
    assert words.count("hydra calls get_weather({") == 1
    assert 'agent said: "This is the emulated Hydra."' in words


def test_a_call_that_is_not_answered(tmp_path: Path) -> None:
    """An agent that stays silent: exit code 1, the reason, and the files to look into."""
    (tmp_path / "scenario.py").write_text(
        "from livekit_plugins_hydra.testing import *\nscenario = Scenario(default_reply=[])\n"
    )
    code, words = here(
        tmp_path,
        *("call", "--offline", SPEECH / "user-goodbye.wav", "--patience", "1.5"),
        *("--scenario", "scenario.py"),
    )

    assert code == 1
    assert "No answer to user-goodbye.wav within 1.5 s." in words
    assert "Hydra heard it, and did not answer" in words
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "call.wav").is_file()


def test_what_is_said_in_a_call_is_no_markup(tmp_path: Path) -> None:
    """Names and arguments of functions are printed as they are, brackets and colons too."""
    (tmp_path / "scenario.toml").write_text(
        '[[replies]]\ncall = "[/x]"\narguments = { at = "10:100:20" }\n'
    )
    code, words = here(tmp_path, "call", "--offline", GOODBYE, "--scenario", "scenario.toml")

    assert code == 0
    assert 'calls [/x]({"at": "10:100:20"})' in words
    assert re.search(r"user, \[/x\] [\d,]+ ms", words)


async def until_printed(process: asyncio.subprocess.Process, mark: bytes) -> bytes:
    """Return what a command prints up to the line with a mark."""
    assert process.stdout is not None
    begin = b""
    while mark not in begin:
        text = await process.stdout.readline()
        assert text, "the command has ended"
        begin += text
    return begin


@pytest.mark.skipif(os.name != "posix", reason="ended with SIGINT")
async def test_a_call_that_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends a call as a program ends by it, and what there is of the call is written."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "livekit_plugins_hydra"),
        *("call", "--offline", GOODBYE, "--turns", "9"),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await until_printed(process, b"begins to speak")
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()

    assert process.returncode == 130
    assert b"Voice to voice" in out
    assert b"Written: call.wav, wire.jsonl, report.html" in out
    assert b"Traceback" not in err
    assert (tmp_path / "call.wav").is_file()
    assert (tmp_path / "report.html").is_file()


def test_a_call_to_nobody(tmp_path: Path) -> None:
    """Where nobody listens: exit code 4, once the plugin has given up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"ws://127.0.0.1:{port}"
    code, words = here(tmp_path, "call", SPEECH / "user-goodbye.wav", "--base-url", url)

    assert code == 4
    assert f"The call has failed: Could not connect to 127.0.0.1:{port}: " in words


async def test_a_key_that_is_refused(tmp_path: Path) -> None:
    """A server that refuses the key: exit code 3, and the key is nowhere."""
    async with Emulator(Scenario(keys={"another"})) as server:
        ran = await hydra("call", SPEECH / "user-goodbye.wav", cwd=tmp_path, base_url=server.url)

    assert ran.code == 3
    assert "refused the API key (HTTP 401)" in ran.words
    assert KEY not in (tmp_path / "wire.jsonl").read_text()


async def test_a_voice_that_is_refused(tmp_path: Path) -> None:
    """A voice that the server refuses is an option that can't be used: exit code 2."""
    async with without_voices() as url:
        ran = await hydra("call", GOODBYE, "--voice", "maya", cwd=tmp_path, base_url=url)

    assert ran.code == 2
    assert "The call has failed: Hydra reports invalid_request_error" in ran.words
    assert "no such voice" in ran.words


# ------------------------------------------------------------------------- what is refused


GOODBYE = SPEECH / "user-goodbye.wav"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.wav"], "nowhere.wav is no file"),
        (["weather.py"], "weather.py can't be read as audio"),
        ([GOODBYE, "--tools", "weather"], "write module:function"),
        ([GOODBYE, "--tools", "wether:get_weather"], "there is no module 'wether' here"),
        ([GOODBYE, "--tools", "at:100:[/x]:look"], "there is no module 'at:100:[/x]' here"),
        ([GOODBYE, "--tools", "weather.py:get_wether"], "did you mean 'get_weather'?"),
        ([GOODBYE, "--tools", "weather.py:number"], "'number' is no function"),
        ([GOODBYE, "--tools", "decorated.py:look"], "LiveKit awaits tools; write async def look"),
        ([GOODBYE, "--tools", "unfit.py:bare"], "its parameter city has no type"),
        ([GOODBYE, "--tools", "unfit.py:more"], "has no type, or no name for the model"),
        ([GOODBYE, "--tools", "unfit.py:unknown"], "can't be a tool: NameError: name 'Where'"),
        ([GOODBYE, "--tools", "unfit.py:made"], "can't be a tool: NameError: name 'Where'"),
        ([GOODBYE, *2 * ["--tools", "weather.py:get_weather"]], "tool 'get_weather' already"),
        ([GOODBYE, "--tools", "broken.py:x"], "broken.py can't be run: NameError"),
        ([GOODBYE, "--offline", "--scenario", "nowhere.toml"], "nowhere.toml is no file"),
        ([GOODBYE, "--scenario", "scenario.toml"], "it needs --offline"),
        ([GOODBYE, "--base-url", "https://x"], "must look like wss://"),
        ([GOODBYE, "--out", "weather.py"], "weather.py can't be made"),
        ([GOODBYE, "--turns", "0"], "Invalid value"),
        ([], "Missing argument"),
    ],
)
def test_what_a_call_can_not_use(
    arguments: list[str | Path], sentence: str, tmp_path: Path
) -> None:
    """Files, functions and options that can't work: exit code 2, before any connection is made."""
    (tmp_path / "weather.py").write_text(TOOLS)
    (tmp_path / "broken.py").write_text("nonsense\n")
    (tmp_path / "decorated.py").write_text(DECORATED)
    (tmp_path / "unfit.py").write_text(UNFIT)
    code, words = here(tmp_path, "call", *arguments)

    assert code == 2
    assert sentence in words


async def test_a_function_that_is_not_async_becomes_a_tool(tmp_path: Path) -> None:
    """LiveKit awaits tools: it is run in a thread, and described to the model as it was written."""
    path = tmp_path / "plain.py"
    path.write_text(TOOLS.replace("async def", "def"))
    (tmp_path / "weather.py").write_text(TOOLS)
    tool, other = load(f"{path}:get_weather"), load(f"{tmp_path / 'weather.py'}:get_weather")

    assert isinstance(tool, llm.FunctionTool)
    assert await tool("Lisbon") == "sunny in Lisbon"
    assert to_hydra([tool]) == to_hydra([other])


@pytest.mark.parametrize(
    ("name", "command", "remedy"),
    [
        *(
            (name, ("call", "--offline", GOODBYE, "--out=."), "Name another folder with --out.")
            for name in ("wire.jsonl", "call.wav", "report.html")
        ),
        (
            "wire.jsonl",
            ("doctor", "--offline", "--wire-log=wire.jsonl"),
            "Name another file with --wire-log.",
        ),
        ("wire.jsonl", ("emulator", "--record=."), "Name another folder with --record."),
    ],
)
def test_a_file_that_can_not_be_written(
    name: str, command: tuple[str, ...], remedy: str, tmp_path: Path
) -> None:
    """Where a file of a command can't be written, no connection is made: exit code 2."""
    (tmp_path / name).mkdir()
    code, words = here(tmp_path, *command)

    assert code == 2
    assert f"{name} can't be written: " in words
    assert remedy in words
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_call_never_overwrites_what_the_user_says(tmp_path: Path) -> None:
    """A file that the call's own recording would replace: exit code 2, and it is as it was."""
    said = tmp_path / "call.wav"
    said.write_bytes(GOODBYE.read_bytes())
    code, words = here(tmp_path, "call", "--offline", GOODBYE, "call.wav")

    assert code == 2
    assert "call.wav would be overwritten by the recording of the call. Name" in words
    assert "--out" in words
    assert said.read_bytes() == GOODBYE.read_bytes()


@pytest.mark.parametrize("key", [None, "  ", "with a space"])
def test_a_call_without_a_key(key: str | None, tmp_path: Path) -> None:
    """No key, or none that can be one: exit code 3, and what to do."""
    code, words = here(tmp_path, "call", GOODBYE, SMALLEST_API_KEY=key)

    assert code == 3
    assert "SMALLEST_API_KEY" in words
    assert "--offline" in words


def test_help_says_what_the_exit_codes_mean(tmp_path: Path) -> None:
    """Every command's help ends with the exit codes; without a command, there is help."""
    for command in ("call", "report", "doctor", "emulator"):
        code, words = here(tmp_path, command, "--help")
        assert code == 0
        assert "Exit codes: 0 all is well" in words
        assert "3 no key, or one that was refused" in words
    assert "[[replies]]" in words, "the emulator's, which brackets around a word could hide"
    _, words = here(tmp_path)
    assert "call" in words
    assert "doctor" in words


LOADED = """
import sys
from livekit_plugins_hydra.commands import cli

try:
    cli.main()
except SystemExit as end:
    print("ended with", end.code, "and", *sys.modules)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([name, "--help"] for name in ("call", "report", "doctor", "emulator")),
    ],
)
async def test_help_imports_no_framework(arguments: list[str]) -> None:
    """Help and versions come at once: what commands work with is imported when they run."""
    ran = await python("-c", LOADED, *arguments)

    assert "ended with 0 and " in ran.text
    loaded = set(ran.text.rpartition("ended with 0 and ")[2].split())
    assert "livekit_plugins_hydra.commands.call" in loaded
    assert not {"livekit.agents", "numpy", "livekit_plugins_hydra.testing"} & loaded


def test_the_version_is_one_line(tmp_path: Path) -> None:
    """`--version` prints this package's version and LiveKit's."""
    code, words = here(tmp_path, "--version")

    assert code == 0
    assert words == (
        f"livekit-plugins-hydra {livekit_plugins_hydra.__version__},"
        f" livekit-agents {livekit.agents.__version__}"
    )


def test_samples_fit_their_schema() -> None:
    """What the emulator calls a function with fits its schema, however deep that is."""
    schema = {
        "$defs": {"Place": {"type": "object", "properties": {"city": {}}, "required": ["city"]}},
        "type": "object",
        "properties": {
            "place": {"$ref": "#/$defs/Place"},
            "unit": {"enum": ["C", "F"]},
            "days": {"type": "integer", "minimum": 3},
            "maybe": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "list": {"type": ["array", "null"]},
            "left_out": {"type": "string"},
            "given": {"default": "x"},
        },
        "required": ["place", "unit", "days", "maybe", "list", "given"],
    }

    assert sample(schema) == {
        "place": {"city": "example"},
        "unit": "C",
        "days": 3,
        "maybe": True,
        "list": [],
        "given": "x",
    }
    assert sample({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}) == {}


# ------------------------------------------------------------------------- emulator


@asynccontextmanager
async def emulator(folder: Path, *arguments: str) -> AsyncIterator[tuple[str, asyncio.Task[Ran]]]:
    """Run the emulator; give its URL, and what it printed once the block was left by SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "livekit_plugins_hydra", "emulator", "--port", "0", *arguments),
        cwd=folder,
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    begin = await until_printed(process, b"Ctrl-C")

    async def end() -> Ran:
        out, err = await process.communicate()
        return Ran(process.returncode or 0, out.decode(), err.decode())

    ended = asyncio.create_task(end())
    try:
        yield re.findall(r"HYDRA_BASE_URL=(\S+)", begin.decode())[0], ended
    finally:
        process.send_signal(signal.SIGTERM)
        await ended


@pytest.mark.skipif(os.name != "posix", reason="ended with SIGTERM")
async def test_the_emulator_plays_and_records(tmp_path: Path) -> None:
    """A scenario from a file is played and printed; the record is a wire log and a recording.

    An earlier recording in the same folder stays.
    """
    (tmp_path / "tape").mkdir()
    (tmp_path / "tape" / "connection-2.wav").write_bytes(b"an earlier one")
    (tmp_path / "x.toml").write_text('think_s = 0.1\n[[replies]]\nsay = "Hi."\nduration_s = 0.5\n')
    record = ("--scenario", "x.toml", "--record", "tape")
    async with emulator(tmp_path, *record) as (url, ended), line(base_url=url) as call:
        await call.speak(tone(0.6), silence(0.3))  # a microphone goes on after the words
        await hear(await call.generation())
        await call.until(lambda: call.responses_measured)
    ran = await ended

    assert (ran.code, ran.err) == (0, "")
    assert "> session.configure" in ran.out
    assert "< audio, 0.50 s" in ran.out
    assert "connection-3.wav has connection 1" in ran.words
    (lines,) = calls_in(read(tmp_path / "tape" / "wire.jsonl")).values()
    kinds = [each.type for each in lines]
    assert kinds[0] == "connection.opening"
    assert kinds[-1] == "connection.closed"
    assert "response.done" in kinds
    peaks = [each.child("audio")["peak"] for each in lines if each.type.endswith("append")]
    assert max(peaks) == pytest.approx(6_000 / 32_768, abs=0.02)
    samples, rate_hz = track(tmp_path / "tape" / "connection-3.wav")
    assert (tmp_path / "tape" / "connection-2.wav").read_bytes() == b"an earlier one"
    user, agent = heard_s(samples[:, 0], rate_hz), heard_s(samples[:, 1], rate_hz)
    assert audible_s(samples[:, 0], rate_hz) == pytest.approx(0.6, abs=0.05)
    assert audible_s(samples[:, 1], rate_hz) == pytest.approx(0.5, abs=0.05)
    assert agent[0][0] > user[-1][1]


@pytest.mark.parametrize("port", ["-1", "99999"])
def test_a_port_that_is_none(port: str, tmp_path: Path) -> None:
    """A number that is no port is refused: exit code 2."""
    code, words = here(tmp_path, "emulator", f"--port={port}")

    assert code == 2
    assert "--port" in words


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A port that another program has: exit code 1, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, words = here(tmp_path, "emulator", "--port", str(port))

    assert code == 1
    assert f"Can't listen on 127.0.0.1:{port}" in words
    assert "--port 0" in words


# ------------------------------------------------------------------------- scenarios


def test_a_scenario_in_toml(tmp_path: Path) -> None:
    """Fields, switches and replies of every kind; recordings are found beside the file."""
    with wave.open(str(tmp_path / "hello.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(tone(0.1).tobytes())
    path = tmp_path / "x.toml"
    path.write_text("""
think_s = 1
deprecated_models = ["hydra"]
unknown_voice = "replaced"
tool_response_timeout_s = 3.5
switches = ["transcripts", "pings_unanswered"]
default_reply = { say = "Pardon?" }

[[replies]]
say = "Hello."
duration_s = 0.5
tone_hz = 600
[[replies]]
wav = "hello.wav"
[[replies]]
call = "look"
arguments = { where = ["here"] }
[[replies]]
pieces = [{ say = "One moment." }, { wait = 0.5 }, { call = "look" }, { end = "incomplete" }]
[[replies]]
end = "completed"
""")

    scenario = read_scenario(path)
    assert scenario == Scenario(
        think_s=1,
        deprecated_models=["hydra"],
        unknown_voice="replaced",
        tool_response_timeout_s=3.5,
        transcripts=True,
        answers_pings=False,
        default_reply=Say(text="Pardon?"),
        replies=(
            Say(text="Hello.", duration_s=0.5, tone_hz=600),
            Say(wav=tmp_path / "hello.wav"),
            Call("look", {"where": ["here"]}),
            (Say(text="One moment."), Wait(0.5), Call("look"), End("incomplete")),
            End("completed", reason=None),
        ),
    )


def test_a_scenario_in_python(tmp_path: Path) -> None:
    """A file with code can answer with code."""
    path = tmp_path / "x.py"
    path.write_text(
        "from livekit_plugins_hydra.testing import Say, Scenario\n"
        "scenario = Scenario(replies=lambda context: Say(text=context.trigger))\n"
    )

    assert callable(read_scenario(path).replies)


def test_a_scenario_in_python_may_have_dataclasses(tmp_path: Path) -> None:
    """With annotations as text, they are looked up in the file's own module."""
    path = tmp_path / "json.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from livekit_plugins_hydra.testing import Say, Scenario\n"
        "@dataclass\n"
        "class Persona:\n"
        "    words: str\n"
        "scenario = Scenario(replies=[Say(text=Persona('Hi.').words)])\n"
    )

    assert read_scenario(path).replies == [Say(text="Hi.")]
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.toml", "thinks_s = 1", "no field 'thinks_s'; did you mean 'think_s'?"),
        ("x.toml", "think_s = '1'", "it takes a number"),
        ("x.toml", "answers_pings = 1", "it takes true or false"),
        ("x.toml", "usage = 'most'", 'it takes "present" or "zero"'),
        ("x.toml", "keys = 7", "it takes"),
        ("x.toml", "switches = ['late']", "no switch 'late'"),
        ("x.toml", "switches = 7", "switches is a list of names"),
        ("x.toml", "replies = 7", "[[replies]]"),
        ("x.toml", "replies = [7]", "a reply is a table"),
        ("x.toml", "[[replies]]\nsays = 'x'", "a piece has one of say, wav, call"),
        ("x.toml", "[[replies]]\nsay = 'x'\ntune_hz = 3", "did you mean 'tone_hz'?"),
        ("x.toml", "[[replies]]\nsay = 7", "say = 7 does not fit"),
        ("x.toml", "[[replies]]\nend = 'soon'", "end = 'soon' does not fit"),
        ("x.toml", "[[replies]]\nwav = 'nowhere.wav'", "can't be read as a 16-bit wav"),
        ("x.toml", "[[replies]]\npieces = 7", "either pieces, a list of tables"),
        ("x.toml", "think_s = ", "x.toml: "),
        ("x.toml", "think_s = nan", "think_s = nan can't be: it takes 0 or more"),
        ("x.toml", "output_rate_hz = -8000", "output_rate_hz = -8000 can't be"),
        ("x.toml", "delta_ms = 0", "delta_ms = 0 can't be: it takes more than 0"),
        ("x.toml", "tolerate = ['floods']", "no rule 'floods'; there are: audio_before"),
        ("x.toml", "[[replies]]\nsay = 'x'\nduration_s = -1", "duration_s = -1.0 can't be"),
        ("x.toml", "[[replies]]\nwait = inf", "wait = inf can't be"),
        ("x.toml", "[[replies]]\ncall = 'x'\narguments = 7", "it takes a table or text"),
        ("x.toml", "[[replies]]\ncall = 'x'\ndelta_s = -1", "delta_s = -1 can't be"),
        (
            "x.toml",
            "[[replies]]\nend = 'failed'\nreason = 7",
            "reason = 7 does not fit: it takes text",
        ),
        ("x.py", "1 / 0", "ZeroDivisionError"),
        ("x.py", "scenario = 7", "needs a line like: scenario = Scenario"),
        ("x.json", "{}", "neither .toml nor .py"),
    ],
)
def test_what_is_no_scenario(name: str, text: str, sentence: str, tmp_path: Path) -> None:
    """A file that has none is refused with the place, and what would be right there."""
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(ScenarioUnreadable) as raised:
        read_scenario(path)
    assert sentence in str(raised.value)
    assert str(path) in str(raised.value)


async def test_an_agent_without_an_end_is_not_one_that_was_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call that went well until then says so."""
    monkeypatch.setattr(calling, "ENDLESS_S", 0.5)
    question = calling.Recording(Path("question.wav"), tone(0.6, rate_hz=calling.RATE_HZ))
    async with Emulator(Scenario(default_reply=Say(duration_s=20.0))) as server:
        model = livekit_plugins_hydra.RealtimeModel(api_key=KEY, base_url=server.url)
        caller = calling.Caller(model, Agent(instructions="Be kind."), lambda *_: None)
        with pytest.raises(calling.CallFailed, match="did not come to an end"):
            await caller.hold([question], barge_in_s=None)
