"""The framework's own surfaces, with a model that has text: runs, judges, reports, recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from livekit.agents import Agent, AgentTask, function_tool, llm
from livekit.agents.evals import JudgmentResult
from livekit.agents.evals.judge import Judge
from livekit.agents.voice.recorder_io import RecorderIO
from livekit.agents.voice.report import SessionReport
from livekit.agents.voice.run_result import RunResult

from livekit_plugins_hydra.testing import Call, Say, Scenario
from tests.calls import call, tone
from tests.recognisers import ToneSTT, Vocabulary

QUESTION = "When does the museum close tonight?"
OPEN = Say(duration_s=0.8, tone_hz=600, text="We are open until six today.")
NAME = Say(duration_s=0.6, tone_hz=700, text="What is your name, please?")
BYE = Say(duration_s=0.5, tone_hz=800, text="Thank you, goodbye.")


def stts() -> dict[str, Any]:
    """Return the options of a model that writes down both sides."""
    says = {each.tone_hz: (each.text or "", each.duration_s) for each in (OPEN, NAME, BYE)}
    return {
        "input_stt": ToneSTT(Vocabulary({300.0: (QUESTION, 0.8)})),
        "output_stt": ToneSTT(Vocabulary(says)),
    }


class Mentions(Judge):
    """Passes a conversation in which a word was said."""

    def __init__(self, word: str) -> None:
        super().__init__(name="mentions")
        self.word = word

    async def evaluate(self, *, chat_ctx: llm.ChatContext, **_: Any) -> JudgmentResult:
        """Look for the word."""
        said = any(self.word in (item.text_content or "") for item in chat_ctx.messages())
        return JudgmentResult(verdict="pass" if said else "fail", reasoning="")


async def test_typed_text_is_answered_and_the_run_can_be_judged() -> None:
    """`session.run(user_input=...)` has the answer as a message, and a judge finds its words."""
    async with call(Scenario(default_reply=OPEN), Agent(instructions=""), **stts()) as desk:
        result: RunResult[Any] = await desk.session.run(user_input=QUESTION)

        result.expect.next_event().is_message(role="assistant")
        result.expect.no_more_events()
        assert desk.told == [("user", QUESTION), ("assistant", OPEN.text)]
        judgement = await Mentions("until six").evaluate(chat_ctx=desk.session.history)
        assert judgement.passed


async def test_a_recording_has_the_whole_call_and_text_is_as_without_it(tmp_path: Path) -> None:
    """LiveKit's recorder sits between the model and the ears, and nothing changes."""
    path = tmp_path / "call.ogg"
    async with call(Scenario(default_reply=OPEN), Agent(instructions=""), **stts()) as desk:
        io = desk.session
        recorder = RecorderIO(agent_session=io)
        assert io.input.audio is not None
        assert io.output.audio is not None
        io.input.audio = recorder.record_input(io.input.audio)
        io.output.audio = recorder.record_output(io.output.audio)
        await recorder.start(output_path=path)
        await desk.say(tone(0.8))
        await desk.until_heard(1)
        await desk.until(lambda: len(desk.told) == 2)
        await recorder.aclose()

        assert desk.told == [("user", QUESTION), ("assistant", OPEN.text)]
        with av.open(str(path)) as file:
            frames = list(file.decode(audio=0))
        seconds = sum(frame.samples / frame.sample_rate for frame in frames)
        assert seconds > 0.8 + OPEN.duration_s


async def test_a_report_has_what_both_sides_said() -> None:
    """The session's report has the words, and counts the user's turns."""
    async with call(Scenario(default_reply=OPEN), Agent(instructions=""), **stts()) as desk:
        await desk.say(tone(0.8))
        await desk.until_heard(1)
        await desk.until(lambda: len(desk.told) == 2)
        report = SessionReport(
            job_id="job",
            room_id="room",
            room="room",
            options=desk.session.options,
            events=[],
            chat_history=desk.session.history.copy(),
            duration=3.0,
        )

        assert report.to_dict()["user_turns"] == 1
        texts = [item.get("content") for item in report.to_dict()["chat_history"]["items"]]
        assert [QUESTION] in texts
        assert [OPEN.text] in texts


async def test_a_user_who_says_nothing_is_away() -> None:
    """The away timer runs from the end of the answer, with turns that are transcribed."""
    options = {"user_away_timeout": 0.5}
    async with call(
        Scenario(default_reply=OPEN), Agent(instructions=""), session_options=options, **stts()
    ) as desk:
        await desk.say(tone(0.8))
        await desk.until_heard(1)
        await desk.until(lambda: desk.session.user_state == "away")
        assert desk.session.agent_state == "listening"
        await desk.say(tone(0.8))
        await desk.until(lambda: desk.session.user_state != "away")


class AskName(AgentTask[str]):
    """Asks for a name, inside of a function."""

    def __init__(self, chat_ctx: llm.ChatContext) -> None:
        super().__init__(instructions="Ask for the name.", chat_ctx=chat_ctx)

    async def on_enter(self) -> None:
        """Ask."""
        await self.session.generate_reply()
        self.complete("Ada")


class Host(Agent):
    """Asks for the name when it needs it."""

    @function_tool
    async def register(self) -> str:
        """Register the caller."""
        return f"registered {await AskName(self.chat_ctx)}"


async def test_a_task_inside_a_function_knows_what_was_said() -> None:
    """An AgentTask has a connection of its own, whose instructions hold the call so far."""
    scenario = Scenario(replies=[OPEN, Call("register"), NAME, BYE])
    async with call(scenario, Host(instructions="You are kind."), **stts()) as desk:
        await desk.say(tone(0.8))
        await desk.until_heard(1)
        await desk.until(lambda: len(desk.told) == 2)
        await desk.say(tone(0.8))
        await desk.until_heard(3)
        await desk.until_state("listening")

        for record in desk.server.connections[1:]:
            instructions = record.configuration.instructions or ""
            assert f'user: "{QUESTION}"' in instructions
            assert f'assistant: "{OPEN.text}"' in instructions
        assert "registered Ada" in (desk.server.connection.configuration.instructions or "")
        assert desk.heard_s == [OPEN.duration_s, NAME.duration_s, BYE.duration_s]
