"""The doctor: each answer follows the server, and the table and the JSON say so."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import socket
import ssl
import sys
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import APIConnectOptions

from livekit_plugins_hydra.commands.doctor import machine, network
from livekit_plugins_hydra.commands.doctor.examination import (
    MAX_CONNECTIONS,
    Examination,
    examine,
    question,
)
from livekit_plugins_hydra.commands.doctor.experiments import Patience
from livekit_plugins_hydra.commands.doctor.findings import Finding
from livekit_plugins_hydra.options import Options, resolve_auth
from livekit_plugins_hydra.testing import Call, Context, Emulator, Reply, Say, Scenario, recordings
from livekit_plugins_hydra.transport.connecting import trust
from tests.calls import KEY, tone
from tests.command_line import ENVIRONMENT, SPEECH, here, hydra, without_voices

HURRY = Patience(
    handshake_s=4.0, ping_s=1.0, answer_s=6.0, settle_s=0.4, bare_s=1.2, audio_s=1.5, done_s=6.0
)

TONE = tone(0.7, rate_hz=16_000).tobytes()
"""What is asked: a tone, which the emulator hears as speech."""


def answer(context: Context) -> Reply:
    """Call the function when the user has spoken, and speak otherwise."""
    if context.trigger == "user_turn" and context.tools:
        return Call(context.tools[0].name, {"city": "Lisbon"})
    return Say(duration_s=1.5, text="Banana.")


def speak(_: Context) -> Reply:
    """Never call anything."""
    return Say(duration_s=0.3, text="It is sunny.")


def options(server: Emulator, **changes: Any) -> Options:
    """Return the options of a call to a server."""
    fields: dict[str, Any] = {
        "model": "hydra-v1.1",
        "voice": "aria",
        "api_key": KEY,
        "base_url": server.url,
        "auth": resolve_auth("query"),
        "generate_initial_response": False,
        "input_stt": None,
        "output_stt": None,
        "resume_false_interruption": False,
        "conn_options": APIConnectOptions(timeout=4.0),
    }
    return Options(**(fields | changes))


@dataclass(frozen=True)
class Case:
    """A server, and what the doctor must find there: an id, a status, words of the answer."""

    scenario: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    expect: dict[str, tuple[str, str]] = field(default_factory=dict)
    is_quick: bool = False
    n_connections: int = 4


CASES = {
    "as documented": Case(
        expect={
            "auth": ("ok", "in the URL"),
            "model": ("ok", "hydra-v1.1"),
            "voice": ("ok", "aria"),
            "handshake": ("ok", "session.configured"),
            "output_rate": ("ok", "24000 Hz"),
            "pings": ("ok", "yes, in"),
            "turn": ("ok", "before the response"),
            "tool_call": ("ok", "after the question"),
            "calling_response_done": ("ok", "before the outputs"),
            "tool_answer": ("ok", "voice to voice"),
            "bare_create": ("ok", "yes"),
            "cancel": ("ok", "cancelled (client_cancelled)"),
            "message_items": ("note", "an answer"),
            "transcripts": ("note", "no"),
            "usage": ("ok", "responses"),
            "unknown_events": ("ok", "yes"),
            "other_auth": ("ok", 'auth="header"'),
            "payload_ceiling": ("ok", "between 30,000 and 48,000 bytes"),
        }
    ),
    "pings unanswered": Case({"answers_pings": False}, expect={"pings": ("note", "no")}),
    "done after outputs": Case(
        {"calling_response_done": "after_outputs"},
        expect={"calling_response_done": ("note", "only after")},
    ),
    "done never": Case(
        {"calling_response_done": "never"}, expect={"calling_response_done": ("note", "no")}
    ),
    "bare create refused": Case(
        {"bare_response_create": "refused"},
        expect={"bare_create": ("note", "refused with invalid_request_error")},
    ),
    "bare create ignored": Case(
        {"bare_response_create": "ignored"}, expect={"bare_create": ("note", "ignored for")}
    ),
    "items refused": Case(
        {"message_items": "refused"}, expect={"message_items": ("note", "refused with")}
    ),
    "items dropped": Case(
        {"message_items": "dropped", "bare_response_create": "ignored"},
        expect={"message_items": ("note", "no error, and no answer")},
    ),
    "transcripts": Case(
        {"transcripts": True, "user_text": "hello"},
        expect={
            "transcripts": ("ok", "of the agent and the user"),
            "message_items": ("ok", "the model did what the text asked"),
        },
    ),
    "other words": Case(
        {"transcripts": True, "replies": speak},
        expect={
            "tool_call": ("warn", "without it"),
            "message_items": ("note", "does not follow"),
            "transcripts": ("note", "of the agent"),
        },
    ),
    "speaks before calls": Case(
        {"speaks_before_calls": True}, expect={"tool_call": ("ok", "in the same response")}
    ),
    "speech stopped late": Case(
        {"speech_stopped": "late"}, expect={"turn": ("ok", "after the response")}
    ),
    "no ceiling": Case(
        {"payload_ceiling_bytes": None},
        expect={"payload_ceiling": ("ok", "over 120,000 bytes")},
        n_connections=5,
    ),
    "a low ceiling": Case(
        {"payload_ceiling_bytes": 18_000},
        expect={"payload_ceiling": ("fail", "silent at 30,000 bytes already")},
        n_connections=3,
    ),
    "usage absent": Case({"usage": "absent"}, expect={"usage": ("note", "in 0 of")}),
    "rates not echoed": Case(
        {"echoes_rates": False}, expect={"output_rate": ("note", "not told")}, is_quick=True
    ),
    "another rate": Case(
        {"output_rate_hz": 48_000},
        expect={"output_rate": ("note", "48000 Hz, and not 24000 Hz")},
        is_quick=True,
    ),
    "a deprecated model": Case(
        options={"model": "hydra"},
        expect={"model": ("warn", "with a warning"), "output_rate": ("ok", "48000 Hz")},
        is_quick=True,
    ),
    "a deprecated model, nested": Case(
        {"warning": "nested"},
        {"model": "hydra"},
        expect={"model": ("warn", "with a warning")},
        is_quick=True,
    ),
    "a voice refused": Case(
        options={"voice": "wren"},
        expect={"voice": ("fail", "wren is refused"), "model": ("ok", "is served")},
        is_quick=True,
    ),
    "a voice refused, then another": Case(
        {"bare_response_create": "ignored"},
        {"voice": "wren"},
        expect={"voice": ("warn", "wren is refused"), "pings": ("ok", "yes")},
        n_connections=5,
    ),
    "a voice replaced": Case(
        {"unknown_voice": "replaced"},
        {"voice": "nobody"},
        expect={"voice": ("warn", "sterling speaks")},
        is_quick=True,
    ),
    "a key refused": Case(
        {"keys": {"another"}}, expect={"auth": ("fail", "HTTP 401")}, n_connections=0
    ),
    "a key refused with a close": Case(
        {"keys": {"another"}, "bad_key": "close_1008"},
        expect={"auth": ("fail", "close 1008 (bad key)")},
        n_connections=2,
    ),
    "server full": Case(
        {"server_full_connections": 9},
        expect={"connection": ("fail", "server_full")},
        n_connections=1,
    ),
    "server full, and no close": Case(
        {"server_full_connections": 9, "closes_after": ()},
        expect={"connection": ("fail", "server_full")},
        n_connections=1,
    ),
    "refused at the door": Case(
        {"http_refusals": 9, "http_refusal_status": 404},
        expect={"connection": ("fail", "HTTP 404")},
        n_connections=0,
    ),
    "never created": Case(
        {"handshake": "never_created"},
        expect={"handshake": ("fail", "no session.created")},
        n_connections=1,
    ),
    "never configured": Case(
        {"handshake": "never_configured"},
        expect={"handshake": ("fail", "no session.configured")},
        n_connections=1,
    ),
}


async def examine_case(case: Case) -> Examination:
    """Examine the server of a case; it must find no fault with what the doctor sends."""
    fields: dict[str, Any] = {"replies": answer, "think_s": 0.05, "tolerate": {"over_ceiling"}}
    async with Emulator(Scenario(**(fields | case.scenario))) as server:
        return await examine(
            options(server, **case.options), is_quick=case.is_quick, patience=HURRY, audio=TONE
        )


@functools.cache
def examinations() -> dict[str, Examination]:
    """Examine all servers at the same time: the doctor waits most of its time."""

    async def all_of_them() -> dict[str, Examination]:
        found = await asyncio.gather(*(examine_case(case) for case in CASES.values()))
        return dict(zip(CASES, found, strict=True))

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("name", CASES)
def test_answers_follow_the_server(name: str) -> None:
    """Each switch of the server flips the doctor's answer, and nothing else goes wrong."""
    case, found = CASES[name], examinations()[name]
    by_id = {each.id: each for each in found.findings}

    for finding, (status, words) in case.expect.items():
        assert (by_id[finding].status, words in by_id[finding].answer) == (status, True), by_id
    failed = {each.id for each in found.findings if each.status == "fail"}
    assert failed == {name for name, (status, _) in case.expect.items() if status == "fail"}
    n_connections = 1 if case.is_quick else case.n_connections
    assert found.ledger.n_connections == n_connections
    assert n_connections <= MAX_CONNECTIONS


def test_what_fails_has_a_remedy() -> None:
    """Every failure and warning, of every server, says what to do, and never with the key."""
    for found in examinations().values():
        for each in found.findings:
            assert each.remedy or each.status in ("ok", "note", "skip"), each
            assert KEY not in repr(each)


def test_the_bill_is_small() -> None:
    """An examination of a server as documented costs less than a session minute."""
    ledger = examinations()["as documented"].ledger

    assert 1 < ledger.connected_s < 60
    assert "4 connections" in ledger.sentence
    assert "session minutes" in ledger.sentence


async def test_a_key_that_only_works_in_the_other_form() -> None:
    """Where the URL form of auth is refused and the header works, the remedy is that."""
    async with Emulator(Scenario(keys={KEY})) as server:
        wrong = options(server, api_key="another-key-of-nobody")
        found = await examine(wrong, is_quick=True, patience=HURRY)
        right = await examine(
            options(server, auth=resolve_auth("header")), is_quick=True, patience=HURRY
        )

    auth = next(each for each in found.findings if each.id == "auth")
    assert "Copy the key again" in auth.remedy
    assert next(each for each in right.findings if each.id == "auth").answer == "yes, in a header"
    assert [dial.auth for dial in server.dials] == ["query", "header", "header"]


def test_the_question_is_speech() -> None:
    """The doctor's own question is three seconds of speech, as in the examples."""
    spoken = recordings.read(SPEECH / "user-question.wav", rate_hz=16_000)

    assert len(question()) / 2 == pytest.approx(spoken.size, rel=0.02)


# ------------------------------------------------------------------------- the way there


async def looked_at(url: str) -> dict[str, Finding]:
    """Return what is found on the way to a URL."""
    return {each.id: each async for each in network.look_at(network.Address.of(url))}


async def test_a_port_where_nobody_listens() -> None:
    """A refused connection is a failure of TCP, and TLS is not tried."""
    async with Emulator() as server:
        url = server.url
    found = await looked_at(url)

    assert found["tcp"].status == "fail"
    assert "can't be reached" in found["tcp"].answer
    assert found["tls"].status == "skip"


async def test_a_port_that_speaks_no_tls() -> None:
    """wss:// where only ws:// is spoken is a failure of TLS, with its remedy."""
    async with Emulator() as server:
        found = await looked_at(server.url.replace("ws://", "wss://"))

    assert found["tcp"].status == "ok"
    assert found["tls"].status == "fail"
    assert "does not speak TLS" in found["tls"].remedy


async def test_certificates_that_can_not_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The network is all right, and the file is named: there, and where the connection failed."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "company.pem"))
    trust.cache_clear()
    async with Emulator() as server:
        url = server.url.replace("ws://", "wss://")
        examined = await examine(options(server, base_url=url), patience=HURRY)
        found = {each.id: each for each in examined.findings}

    assert found["tcp"].status == "ok"
    for name in ("tls", "connection"):
        assert found[name].status == "fail"
        assert f"SSL_CERT_FILE can't be used: {tmp_path / 'company.pem'}" in found[name].answer
    trust.cache_clear()


async def test_a_name_on_this_machine() -> None:
    """A name is looked up and timed; ws:// needs no TLS."""
    async with Emulator() as server:
        found = await looked_at(server.url.replace("127.0.0.1", "localhost"))

    assert found["dns"].status == "ok"
    assert found["dns"].facts["addresses"] >= 1
    assert found["tls"].answer == "not used: the URL begins with ws://"


async def test_a_name_whose_first_address_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls get past it, so it is no failure."""
    async with Emulator() as server:

        async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*kind, (host, server.port)) for host in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        found = await looked_at(server.url.replace("127.0.0.1", "hydra.test"))

    assert found["dns"].facts["addresses"] == 2
    assert found["tcp"].status == "ok"


async def test_a_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is said, and what fails on the direct way is no failure then."""
    async with Emulator() as server:
        url = server.url.replace("ws://", "wss://")
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    found = await looked_at(url)

    assert "proxy.example:3128" in found["proxy"].answer
    assert "secret" not in repr(found)
    assert found["tcp"].status == "warn"


def test_encryption_is_as_websockets_does_it() -> None:
    """The certificates that the doctor trusts are the system's, as for calls."""
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED


def test_the_machine() -> None:
    """Python and the packages of this environment are good; unknown names are warned of."""
    assert machine.python().status == "ok"
    assert machine.packages().status == "ok"
    assert machine.packages().facts["livekit-agents"]
    server = Emulator()
    unknown = machine.settings(options(server, model="hydra-v9"))
    assert (unknown.status, "hydra-v1.1" in unknown.remedy) == ("warn", True)
    mixed = machine.settings(options(server, voice="sterling"))
    assert (mixed.status, "aria" in mixed.remedy) == ("warn", True)


# ------------------------------------------------------------------------- as a process


async def test_doctor_as_a_process(tmp_path: Path) -> None:
    """`doctor --offline --json`: exit code 0, all answers as JSON, a wire log beside it."""
    short = tmp_path / "short.wav"
    with wave.open(str(short), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(TONE)
    ran = await hydra(
        *("doctor", "--offline", "--json", "--question", short, "--wire-log", "wire.jsonl"),
        cwd=tmp_path,
    )

    assert (ran.code, ran.err) == (0, "")
    document = json.loads(ran.out)
    statuses = {each["id"]: each["status"] for each in document["findings"]}
    assert statuses["one_turn"] == "ok"
    assert statuses["tool_answer"] == "ok"
    assert "fail" not in statuses.values()
    assert document["server"] == "emulated"
    assert document["connections"] == 5
    assert document["exit_code"] == 0
    assert (tmp_path / "wire.jsonl").stat().st_size > 10_000


async def test_doctor_prints_a_table_with_remedies(tmp_path: Path) -> None:
    """A refused key: exit code 3, marks and remedies in a table, and no key in it."""
    async with Emulator(Scenario(keys={"another"})) as server:
        ran = await hydra("doctor", cwd=tmp_path, base_url=server.url)

    assert ran.code == 3
    for told in (
        "✓ Python",
        "✓ TCP",
        "✗ Key is accepted",
        "no: HTTP 401",
        "→ Copy the key again",
        "1 failure.",
    ):
        assert told in ran.words


@pytest.mark.parametrize(
    ("voice", "sentence"),
    [
        ("wren", "Calls go on with 'sterling', as here."),
        ("nobody", "Calls go on with 'sterling', as here."),
    ],
)
async def test_a_refused_voice_tells_what_calls_do(voice: str, sentence: str) -> None:
    """A voice, listed or not, has another one in its place."""
    scenario = Scenario(replies=speak, bare_response_create="ignored", tolerate={"over_ceiling"})
    async with Emulator(scenario) as server:
        found = await examine(options(server, voice=voice), patience=HURRY, audio=TONE)

    (refused,) = [each for each in found.findings if each.id == "voice"]
    assert refused.remedy.endswith(sentence)


async def test_a_voice_whose_substitute_is_refused_too(tmp_path: Path) -> None:
    """Where the server's default is refused as well, calls don't go on: exit code 2."""
    async with without_voices() as url:
        ran = await hydra("doctor", "--voice", "maya", cwd=tmp_path, base_url=url)

    assert ran.code == 2
    assert "✗ Voice" in ran.words
    assert "Calls with it fail: 'sterling', its substitute, is refused, too." in ran.words
    assert "Calls go on" not in ran.words
    assert "This took 2 connections" in ran.words


def test_a_voice_with_which_calls_fail(tmp_path: Path) -> None:
    """A voice that is refused and not replaced is a failure, whatever else goes well: code 2."""
    code, words = here(tmp_path, "doctor", "--offline", "--quick", "--voice", "wren")

    assert code == 2
    assert "✗ Voice" in words


def test_doctor_logs_to_the_file_of_the_environment(tmp_path: Path) -> None:
    """HYDRA_WIRE_LOG holds for every connection of the doctor, and is looked at before them."""
    code, _ = here(tmp_path, "doctor", "--offline", "--quick", HYDRA_WIRE_LOG="wire.jsonl")
    assert code == 0
    assert "session.configured" in (tmp_path / "wire.jsonl").read_text()

    code, words = here(tmp_path, "doctor", "--offline", "--quick", HYDRA_WIRE_LOG="no/wire.jsonl")
    assert code == 2
    assert "no/wire.jsonl can't be written" in words


async def test_doctor_prints_where_there_is_no_check_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code page without the marks gets others, and the answers."""
    monkeypatch.setitem(ENVIRONMENT, "PYTHONIOENCODING", "cp1252")
    ran = await hydra("doctor", "--offline", "--quick", cwd=tmp_path)

    assert ran.code == 0
    assert "? Python" in ran.words


@pytest.mark.skipif(os.name != "posix", reason="ended with SIGINT")
@pytest.mark.parametrize("form", ["table", "json"])
async def test_doctor_that_is_interrupted(form: str, tmp_path: Path) -> None:
    """Ctrl-C ends it as a program ends by it, and what was found by then is printed."""
    n_connections = 0
    is_shaking_hands = asyncio.Event()

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        if n_connections == 2:  # the first one is the look at TCP
            is_shaking_hands.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "livekit_plugins_hydra", "doctor"),
            *(["--json"] if form == "json" else []),
            cwd=tmp_path,
            env=ENVIRONMENT | {"SMALLEST_API_KEY": KEY, "HYDRA_BASE_URL": f"ws://localhost:{port}"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await is_shaking_hands.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()

    assert process.returncode == 130
    assert b"Traceback" not in err
    if form == "json":
        document = json.loads(out)
        statuses = {each["id"]: each["status"] for each in document["findings"]}
        assert (statuses["python"], statuses["dns"], statuses["tcp"]) == ("ok", "ok", "ok")
        assert statuses["interrupted"] == "skip"
        assert document["exit_code"] == 130
    else:
        words = " ".join(out.decode().split())
        for told in ("✓ Python", "✓ TCP", "- Interrupted what is not here was not looked at"):
            assert told in words


def test_doctor_without_a_key(tmp_path: Path) -> None:
    """Without a key the network is looked at all the same: exit code 3, no connection is made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"ws://127.0.0.1:{server.getsockname()[1]}"
        code, words = here(tmp_path, "doctor", SMALLEST_API_KEY=None, HYDRA_BASE_URL=url)

    assert code == 3
    assert "✗ API key" in words
    assert "→ Set SMALLEST_API_KEY" in words
    assert "✓ TCP" in words
    assert "connections, open" not in words


def test_doctor_without_a_server(tmp_path: Path) -> None:
    """Where nobody listens: exit code 4."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"ws://127.0.0.1:{server.getsockname()[1]}"
    code, words = here(tmp_path, "doctor", "--quick", HYDRA_BASE_URL=url)

    assert code == 4
    assert "✗ TCP" in words
    assert "✗ Connection" in words
