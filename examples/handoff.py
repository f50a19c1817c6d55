"""Two agents, one call: the first finds out what it is about, the second takes over.

SMALLEST_API_KEY=... python examples/handoff.py console

Hydra takes instructions and a voice only when a connection begins. So an agent with other
instructions gets a connection of its own; the conversation, as far as there is text of it, goes
along in its instructions.
"""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, function_tool
from livekit.plugins import hydra

server = AgentServer()


class Reception(Agent):
    """Answers first."""

    def __init__(self) -> None:
        super().__init__(
            instructions=(
                "You are the reception of a bicycle shop. When the caller needs a repair, learn"
                " what is broken and call hand_to_workshop."
            )
        )

    async def on_enter(self) -> None:
        """Speak first."""
        self.session.generate_reply(instructions="Greet the caller and ask what is the matter.")

    @function_tool
    async def hand_to_workshop(self, problem: str) -> Agent:
        """Hand the caller over to the workshop.

        Args:
            problem: what is broken, in the caller's words
        """
        return Workshop(problem)


class Workshop(Agent):
    """Takes over, with another voice and what the first agent has found out."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            instructions=f"You are a bicycle mechanic. The caller's problem: {problem}. Solve it.",
            llm=hydra.RealtimeModel(voice="leo"),
        )

    async def on_enter(self) -> None:
        """Speak first."""
        self.session.generate_reply(instructions="Say who you are and what you have heard.")


@server.rtc_session()
async def talk(ctx: JobContext) -> None:
    """Hold one call; LiveKit runs this for each room."""
    session: AgentSession[None] = AgentSession(llm=hydra.RealtimeModel(voice="maya"))
    await session.start(Reception(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
