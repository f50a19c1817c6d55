"""The emulator, seen by the vendor's own SDK: its speech-to-speech client holds every kind of call.

The SDK takes each event for the first class of its union, with the fields as they came; what is
read here are therefore types and fields, as its users have to.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from livekit_plugins_hydra.testing import (
    PATH,
    Call,
    Context,
    Emulator,
    Reply,
    Say,
)
from tests.raw_client import CHUNK_BYTES, KEY, TURN, tone
from tests.testing import scenarios

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK uses the old client of websockets
    from smallestai import AsyncSmallestAI
    from smallestai.core.api_error import ApiError
    from smallestai.core.events import EventType
    from smallestai.environment import SmallestAIEnvironment
    from smallestai.waves.speech_to_speech import types as sdk
    from smallestai.waves.speech_to_speech.client import AsyncSpeechToSpeechClient
    from smallestai.waves.types.conversation_item import ConversationItem
    from smallestai.waves.types.session_config import SessionConfig
    from smallestai.waves.types.tool import Tool

# The SDK names no model, whatever its user does.
FAST = dataclasses.replace(scenarios.FAST, tolerate={"missing_model"})
SLOW = dataclasses.replace(scenarios.SLOW, tolerate={"missing_model"})


class SdkCall:
    """A connection of the SDK, and all events that it has emitted."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.events: list[Any] = []
        self.closed = asyncio.Event()
        self._news = asyncio.Condition()
        socket.on(EventType.MESSAGE, self._note)
        socket.on(EventType.CLOSE, lambda _: self.closed.set())

    async def _note(self, event: Any) -> None:
        async with self._news:
            self.events.append(event)
            self._news.notify_all()

    def of(self, kind: str) -> list[Any]:
        """Return all events of a type so far."""
        return [event for event in self.events if event.type == kind]

    async def wait(self, kind: str, count: int = 1) -> Any:
        """Return the `count`-th event of a type, waiting for it."""
        async with asyncio.timeout(5), self._news:
            await self._news.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    def audio(self, response_id: str) -> bytes:
        """Return the audio of a response so far."""
        deltas = self.of("response.output_audio.delta")
        return b"".join(
            base64.b64decode(each.delta) for each in deltas if each.response_id == response_id
        )

    async def configure(self, **session: Any) -> Any:
        """Configure the session when it was created, and return `session.configured`."""
        await self.wait("session.created")
        config = SessionConfig(voice="aria", **session)
        message = sdk.SessionConfigure(type="session.configure", session=config)
        await self.socket.send_session_configure(message)
        return await self.wait("session.configured")

    async def append(self, pcm: bytes) -> None:
        """Send audio, as fast as it goes."""
        for start in range(0, len(pcm), CHUNK_BYTES):
            await self.socket.send_input_audio_buffer_append(
                sdk.InputAudioBufferAppend(
                    type="input_audio_buffer.append",
                    audio=base64.b64encode(pcm[start : start + CHUNK_BYTES]).decode(),
                )
            )

    async def output(self, call_id: str, output: str) -> None:
        """Send the output of a function call."""
        item = ConversationItem(type="function_call_output", call_id=call_id, output=output)
        message = sdk.ConversationItemCreate(type="conversation.item.create", item=item)
        await self.socket.send_conversation_item_create(message)


def client_of(server: Emulator, key: str = KEY) -> AsyncSpeechToSpeechClient:
    """Return the SDK's speech-to-speech client of a server."""
    url = server.url.removesuffix(PATH)
    environment = SmallestAIEnvironment(atoms=url, waves=url, waves_ws=url, payment=url)
    client: AsyncSpeechToSpeechClient
    client = AsyncSmallestAI(api_key=key, environment=environment).waves.speech_to_speech
    return client


@asynccontextmanager
async def calling(server: Emulator) -> AsyncIterator[SdkCall]:
    """Hold a call with the SDK."""
    connection: Any = client_of(server).connect()
    async with connection as socket:
        call = SdkCall(socket)
        listening = asyncio.create_task(socket.start_listening())
        yield call
    await listening


async def test_it_is_greeted() -> None:
    """With the key in its header it gets the greeting that it has asked for, whole."""
    scenario = dataclasses.replace(FAST, keys={KEY}, replies=[Say(duration_s=0.5)])
    async with Emulator(scenario) as server, calling(server) as call:
        configured = await call.configure(instructions="Be brief.", generate_initial_response=True)
        done = await call.wait("response.done")

        assert configured.session["instructions"] == "Be brief."
        assert done.response["status"] == "completed"
        assert call.audio(done.response["id"]) == server.responses[0].pcm
        assert (server.connection.auth, server.responses[0].trigger) == ("header", "greeting")


async def test_a_turn_is_answered() -> None:
    """What it streams is a turn, with every event around the answer."""
    async with Emulator(FAST) as server, calling(server) as call:
        await call.configure()
        await call.append(TURN)
        done = await call.wait("response.done")

        kinds = [event.type for event in call.events]
        assert list(dict.fromkeys(kinds)) == [
            "session.created",
            "session.configured",
            "input_audio_buffer.speech_started",
            "conversation.item.added",
            "input_audio_buffer.speech_stopped",
            "conversation.item.done",
            "response.created",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.done",
        ]
        assert server.connection.received_audio == TURN
        assert call.audio(done.response["id"]) == server.responses[0].pcm


async def test_two_tools_are_answered_together() -> None:
    """It calls both functions, sends two outputs and one `response.create`."""
    outputs: dict[str, str] = {}

    def reply(context: Context) -> Reply:
        outputs.update({each.name: each.output for each in context.outputs})
        if context.trigger == "greeting":
            return [Call("weather", {"city": "Pune"}), Call("time")]
        return Say(duration_s=0.1)

    tools = [Tool(type="function", name=name) for name in ("weather", "time")]
    scenario = dataclasses.replace(FAST, replies=reply)
    async with Emulator(scenario) as server, calling(server) as call:
        await call.configure(tools=tools, generate_initial_response=True)
        await call.wait("response.done")
        for each in call.of("response.function_call_arguments.done"):
            await call.output(each.call_id, f"{each.name} of {each.arguments}")
        message = sdk.ResponseCreate(type="response.create")
        await call.socket.send_response_create(message)
        await call.wait("response.done", 2)

        assert outputs == {"weather": 'weather of {"city": "Pune"}', "time": "time of {}"}
        assert [each.trigger for each in server.responses] == ["greeting", "tool_outputs"]


async def test_a_barge_in_cancels_the_response() -> None:
    """Words over a response end it as interrupted, and are answered."""
    async with Emulator(SLOW) as server, calling(server) as call:
        await call.configure(generate_initial_response=True)
        await call.wait("response.output_audio.delta")
        await call.append(tone(0.6))
        done = await call.wait("response.done")
        assert done.response["status_details"]["reason"] == "interrupted"
        await call.append(TURN)
        second = await call.wait("response.created", 2)

        assert second.response["id"] == server.responses[1].id


async def test_it_cancels_a_response() -> None:
    """`response.cancel` ends the response in flight."""
    async with Emulator(SLOW) as server, calling(server) as call:
        await call.configure(generate_initial_response=True)
        await call.wait("response.output_audio.delta")
        await call.socket.send_response_cancel(sdk.ResponseCancel(type="response.cancel"))
        done = await call.wait("response.done")

        assert done.response["status_details"]["reason"] == "client_cancelled"


async def test_tools_are_replaced() -> None:
    """`session.update` with tools is confirmed, and the model has them."""
    tool = Tool(type="function", name="f", parameters={"type": "object"})
    async with Emulator(FAST) as server, calling(server) as call:
        await call.configure()
        session = sdk.SessionUpdateSession(tools=[tool])
        message = sdk.SessionUpdate(type="session.update", session=session)
        await call.socket.send_session_update(message)
        updated = await call.wait("session.updated")

        assert [each["name"] for each in updated.session["tools"]] == ["f"]
        assert [each.name for each in server.connection.configuration.tools or ()] == ["f"]


async def test_a_bad_key_is_its_401() -> None:
    """It takes the refusal for its own error of a bad key."""
    async with Emulator(dataclasses.replace(FAST, keys={KEY})) as server:
        with pytest.raises(ApiError) as refused:
            async with client_of(server, "another key").connect():
                pass

        assert refused.value.status_code == 401
        assert [dial.status for dial in server.dials] == [401]


async def test_a_full_server_is_an_error_and_a_close() -> None:
    """It gets `server_full` and the close after it; the next connection finds room."""
    async with Emulator(dataclasses.replace(FAST, server_full_connections=1)) as server:
        async with calling(server) as call:
            error = await call.wait("error")
            await asyncio.wait_for(call.closed.wait(), 5)
            assert error.error["code"] == "server_full"
        async with calling(server) as call:
            await call.configure()

        assert server.connections[0].close_code == 1013
