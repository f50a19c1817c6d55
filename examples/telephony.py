"""A voice agent on the telephone, through LiveKit's SIP service.

SMALLEST_API_KEY=... python examples/telephony.py dev

LiveKit brings a call into a room as a participant; a dispatch rule with the agent name "telephone"
sends this agent there. It answers, puts the caller on hold while it asks the workshop, transfers
the call, and hangs up.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from livekit import api, rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    BackgroundAudioPlayer,
    BuiltinAudioClip,
    JobContext,
    RunContext,
    ToolError,
    UserStateChangedEvent,
    cli,
    function_tool,
    room_io,
)
from livekit.agents.beta.tools import EndCallTool
from livekit.agents.voice.room_io.types import NoiseCancellationParams
from livekit.plugins import hydra
from livekit.protocol.sip import SIPTransferStatus

server = AgentServer()

NUMBERS = {
    "sales": os.environ.get("SALES_NUMBER", "tel:+15550100"),
    "workshop": os.environ.get("WORKSHOP_NUMBER", "tel:+15550101"),
}

Department = Literal["sales", "workshop"]

SILENCE_S = 10.0
"""A caller who is silent for so long is asked once, and then the call is ended."""


class Receptionist(Agent):
    """Whom the caller talks to."""

    def __init__(self, ctx: JobContext, caller: str, music: BackgroundAudioPlayer) -> None:
        super().__init__(
            instructions=(
                "You answer the phone of a bicycle shop. Speak in short sentences. Before you ask"
                " the workshop or transfer the call, say that it takes a moment."
            ),
            tools=[EndCallTool(end_instructions="Say goodbye.")],
        )
        self._ctx = ctx
        self._caller = caller
        self._music = music

    async def on_enter(self) -> None:
        """Answer the phone."""
        self.session.generate_reply(instructions="Say the shop's name and ask how you can help.")

    @asynccontextmanager
    async def _on_hold(self, ctx: RunContext[None]) -> AsyncIterator[None]:
        """Play music to the caller, and hear nothing, while the block runs."""
        await ctx.wait_for_playout()
        self.session.input.set_audio_enabled(False)
        playing = self._music.play(BuiltinAudioClip.HOLD_MUSIC, loop=True)
        try:
            yield
        finally:
            playing.stop()
            self.session.input.set_audio_enabled(True)

    @function_tool
    async def ask_workshop(self, ctx: RunContext[None], question: str) -> str:
        """Put the caller on hold and ask the workshop something.

        Args:
            ctx: this call
            question: what the caller wants to know
        """
        # Hydra gives a turn up when its tools take too long: keep it short, or answer with
        # `ctx.update` first, as examples/tools.py does.
        async with self._on_hold(ctx):
            await asyncio.sleep(3)
        return "The bicycle is ready and can be picked up until six."

    @function_tool
    async def transfer(self, ctx: RunContext[None], department: Department) -> str:
        """Transfer the caller to a department.

        Args:
            ctx: this call
            department: where to
        """
        request = api.TransferSIPParticipantRequest(
            room_name=self._ctx.room.name,
            participant_identity=self._caller,
            transfer_to=NUMBERS[department],
        )
        # Where it fails the caller is still here: the model reads why, and can offer another way.
        async with self._on_hold(ctx):
            try:
                transfer = await self._ctx.api.sip.transfer_sip_participant(request)
            except api.ServerError as problem:
                raise ToolError(f"The {department} can't be reached: {problem}") from None
        if transfer.status == SIPTransferStatus.STS_TRANSFER_FAILED:
            raise ToolError(f"The {department} can't be reached.")
        return "The caller has been transferred."


def cancel_noise(
    params: NoiseCancellationParams,
) -> rtc.NoiseCancellationOptions | rtc.FrameProcessor[rtc.AudioFrame] | None:
    """Return what cleans a participant's sound, or None: LiveKit asks this for each track.

    BVCTelephony is trained on phone calls, and works in LiveKit Cloud with the package
    livekit-plugins-noise-cancellation installed.
    """
    if params.participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_SIP:
        return None
    try:
        noise_cancellation = importlib.import_module("livekit.plugins.noise_cancellation")
    except ImportError:
        return None
    options: rtc.NoiseCancellationOptions = noise_cancellation.BVCTelephony()
    return options


@server.rtc_session(agent_name="telephone")
async def talk(ctx: JobContext) -> None:
    """Hold one call; LiveKit runs this for each room."""
    await ctx.connect()
    caller = await ctx.wait_for_participant(kind=rtc.ParticipantKind.PARTICIPANT_KIND_SIP)
    music = BackgroundAudioPlayer()
    session: AgentSession[None] = AgentSession(
        llm=hydra.RealtimeModel(),
        # A phone cancels its own echo, and a caller who interrupts in the first seconds is heard.
        aec_warmup_duration=None,
        user_away_timeout=SILENCE_S,
    )

    async def end_silence() -> None:
        await session.generate_reply(instructions="Ask whether the caller is still there.")
        await asyncio.sleep(SILENCE_S)
        session.shutdown()

    silence: asyncio.Task[None] | None = None

    @session.on("user_state_changed")
    def _(event: UserStateChangedEvent) -> None:
        nonlocal silence
        if event.new_state == "away":
            silence = asyncio.create_task(end_silence())
        elif silence is not None:
            silence.cancel()

    await session.start(
        Receptionist(ctx, caller.identity, music),
        room=ctx.room,
        room_options=room_io.RoomOptions(
            participant_identity=caller.identity,
            audio_input=room_io.AudioInputOptions(
                sample_rate=16_000,
                frame_size_ms=20,
                noise_cancellation=cancel_noise,
                pre_connect_audio=False,  # phones send none
            ),
            text_input=False,
            text_output=False,
            delete_room_on_close=True,  # which hangs up
        ),
    )
    await music.start(room=ctx.room, agent_session=session)


if __name__ == "__main__":
    cli.run_app(server)
