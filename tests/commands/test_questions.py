"""The doctor's table of questions by itself, without a server."""

from __future__ import annotations

from dataclasses import replace

from livekit_plugins_hydra.commands.doctor.engine import findings_of
from livekit_plugins_hydra.commands.doctor.observed import (
    Authentication,
    BareCreate,
    Cancel,
    Ceiling,
    LiveKitTurn,
    Lost,
    NoConnection,
    Opening,
    OtherForm,
    Ping,
    TextItem,
    ToolTurn,
    Traffic,
)
from livekit_plugins_hydra.commands.doctor.questions import QUESTIONS
from livekit_plugins_hydra.protocol import events
from livekit_plugins_hydra.protocol.errors import (
    AuthenticationFailed,
    ConnectionLost,
    HandshakeRefused,
    ServerFull,
)

LOST = ConnectionLost(1008, "bad key")
ERROR = events.ErrorBody(code="invalid_request_error", message="no {braces}")
SILENT = Opening("hydra-v1.1", events.ClientSession(voice="aria"), 0.1, LOST)
CREATED = replace(SILENT, created_s=0.1)
UNHEARD = ToolTurn(
    ended=None, is_heard=False, stopped_s=None, is_stopped_late=False, response_id=""
)
QUIET = Traffic(
    agent_text=False,
    user_text=False,
    n_responses=1,
    tokens=[],
    unknown={},
    n_malformed=0,
)


def function_call(arguments: str) -> events.ResponseFunctionCallArgumentsDone:
    """Return a function call."""
    return events.ResponseFunctionCallArgumentsDone(call_id="c", arguments=arguments)


def ready(**fields: object) -> Opening:
    """Return an opening that came to its end, with such a session."""
    session = events.ServerSession(**fields)  # type: ignore[arg-type]
    return replace(CREATED, configured_s=0.1, echoed=session)


OBSERVED = (
    Authentication("query"),
    Authentication("query", AuthenticationFailed(401), "header", "accepted"),
    Authentication("header", LOST, "query", "HTTP 401"),
    NoConnection(ServerFull()),
    NoConnection(HandshakeRefused(503)),
    NoConnection(HandshakeRefused(404)),
    NoConnection(ConnectionLost()),
    SILENT,
    replace(SILENT, error=ERROR),
    CREATED,
    replace(CREATED, warning=events.Warning(code="model_deprecated")),
    replace(CREATED, error=ERROR),
    replace(CREATED, error=events.ErrorBody(code="x", param="session.configure.session.voice")),
    ready(output_audio_sample_rate=24_000),
    ready(output_audio_sample_rate=48_000),
    ready(voice="sterling"),
    ready(output_audio_format="mulaw"),
    Ping(0.1, 5.0),
    Ping(None, 5.0),
    UNHEARD,
    replace(UNHEARD, is_heard=True, response_id="r"),
    replace(
        UNHEARD,
        is_heard=True,
        stopped_s=0.1,
        call=function_call("{}"),
        calling_done="before",
        narrated_s=1.0,
    ),
    replace(UNHEARD, call=function_call("[]"), calling_done="after"),
    replace(UNHEARD, call=function_call("{"), has_audio=True),
    BareCreate(4.0),
    BareCreate(4.0, error=ERROR),
    BareCreate(4.0, has_audio=False, cancel=Cancel(was_over=True)),
    BareCreate(4.0, has_audio=True, cancel=Cancel()),
    BareCreate(
        4.0, has_audio=True, cancel=Cancel(done=events.Response(id="r", status="cancelled"))
    ),
    BareCreate(4.0, has_audio=True, cancel=Cancel(done=events.Response(id="r", status="failed"))),
    TextItem(ERROR, is_answered=False, words="", is_followed=False),
    TextItem(None, is_answered=False, words="", is_followed=False),
    TextItem(None, is_answered=True, words="", is_followed=False),
    TextItem(None, is_answered=True, words="Apple.", is_followed=False),
    TextItem(None, is_answered=True, words="Banana.", is_followed=True),
    QUIET,
    replace(QUIET, agent_text=True, tokens=[30], unknown={"odd": 2}),
    replace(QUIET, agent_text=True, user_text=True, n_malformed=1),
    Lost(LOST),
    OtherForm("header", "accepted"),
    OtherForm("query", "accepted"),
    OtherForm("query", "HTTP 401"),
    Ceiling(120_000, None, "speaks", {}),
    Ceiling(30_000, 48_000, "silent", {}),
    Ceiling(0, 30_000, "silent", {}),
    LiveKitTurn(waited_s=0.9, answer_s=2.0),
    LiveKitTurn(failure="No answer.", remedy="Run it again."),
)
"""Enough of what may be observed to get every answer."""


def test_every_answer_of_the_table_can_be_given() -> None:
    """Each answer is that to something that may be observed, and what its texts name is there."""
    given = set()
    for observed in OBSERVED:
        for question in QUESTIONS:
            if isinstance(observed, question.about) and (chosen := question.look(observed)):
                given.add((question.id, chosen.answer))
        for found in findings_of(observed):
            assert "{" not in (found.answer + found.remedy + found.known).replace("{braces}", "")

    assert given == {(each.id, answer) for each in QUESTIONS for answer in each.answers}


def test_the_table_can_be_read_by_itself() -> None:
    """Each row has an id of its own, one question, what is known, and what a bad answer means."""
    assert len({each.id for each in QUESTIONS}) == len(QUESTIONS)
    for each in QUESTIONS:
        assert each.asks.endswith("?")
        assert each.source
        for answer in each.answers.values():
            assert answer.remedy or answer.status in ("ok", "note", "skip")
