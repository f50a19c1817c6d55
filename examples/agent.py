"""A voice agent with Hydra: the lines to begin with.

SMALLEST_API_KEY=... python examples/agent.py console

`dev` and `start` connect it to a LiveKit server, with LIVEKIT_URL, LIVEKIT_API_KEY and
LIVEKIT_API_SECRET set.
"""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, room_io
from livekit.plugins import hydra

server = AgentServer()


class Assistant(Agent):
    """Whom the user talks to."""

    def __init__(self) -> None:
        super().__init__(instructions="You are a friendly voice assistant. Keep it short.")

    async def on_enter(self) -> None:
        """Speak first."""
        self.session.generate_reply(instructions="Greet the user and offer your help.")


@server.rtc_session()
async def talk(ctx: JobContext) -> None:
    """Hold one call; LiveKit runs this for each room."""
    session: AgentSession[None] = AgentSession(llm=hydra.RealtimeModel(voice="maya"))
    # Hydra hears at 16 kHz: a microphone at that rate saves a resampler and its delay.
    microphone = room_io.AudioInputOptions(sample_rate=16_000, frame_size_ms=20)
    await session.start(
        Assistant(), room=ctx.room, room_options=room_io.RoomOptions(audio_input=microphone)
    )


if __name__ == "__main__":
    cli.run_app(server)
