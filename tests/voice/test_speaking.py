"""What the agent's side keeps of responses that are over."""

from __future__ import annotations

import pytest
from livekit.agents import llm

from livekit_plugins_hydra.voice.chat import ChatLog
from livekit_plugins_hydra.voice.speaking import Speaking


class Host:
    """A session that everybody can hear at once."""

    async def until_subscribed(self) -> None:
        """Wait for nobody."""

    def message_missed(self, message: llm.ChatMessage) -> None:
        """Take no note."""

    def transcript_missing(self) -> None:
        """Take no note."""


def call_of(number: int) -> llm.FunctionCall:
    """Return a call of a function that the framework does not know: it never marks it as begun."""
    return llm.FunctionCall(call_id=f"call{number}", name="nobody", arguments="{}")


@pytest.mark.parametrize("n_others", [0, 3])
async def test_a_function_call_that_was_answered_waits_for_nothing(n_others: int) -> None:
    """Whether its function has run, or LiveKit has none of that name; those that wait still do."""
    speaking = Speaking(ChatLog(), transcriber=None, resumes=False, rate_hz=24_000, host=Host())
    for number in range(1 + n_others):
        part = f"r{number}"
        speaking.begin(part)
        speaking.call(part, call_of(number))
        speaking.end(part, cut=False)
    generation = speaking.begin("spoken")
    speaking.audio("spoken", "a1", bytes(48_000))
    stream = generation.created_event(user_initiated=False).message_stream
    message = await anext(aiter(stream))
    await anext(aiter(message.audio_stream))
    assert len(speaking.queued_calls()) == 1 + n_others

    speaking.answered("call0")
    assert [call.call_id for call in speaking.queued_calls()] == [
        f"call{number}" for number in range(1, 1 + n_others)
    ]
    speaking.close()
