"""Tools of every kind: plain, with a schema of your own, failing, and slow.

SMALLEST_API_KEY=... python examples/tools.py console

Try "turn the kitchen light off", "when does the next train leave for Porto?", "...for Atlantis?"
and "book me a seat to Porto".
"""

import asyncio

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    RunContext,
    ToolError,
    cli,
    function_tool,
)
from livekit.plugins import hydra

server = AgentServer()

TRAINS = {"Porto": "14:05", "Faro": "15:30"}

LIGHT_SCHEMA = {
    "name": "set_light",
    "description": "Turn the light of a room on or off.",
    "parameters": {
        "type": "object",
        "properties": {
            "room": {"type": "string", "enum": ["kitchen", "hall"]},
            "is_on": {"type": "boolean"},
        },
        "required": ["room", "is_on"],
    },
}


class Concierge(Agent):
    """Whom the user talks to."""

    def __init__(self) -> None:
        super().__init__(
            instructions="You are the voice of a house in Lisbon. Use your tools; keep it short."
        )
        self.lights: dict[str, bool] = {}

    async def on_enter(self) -> None:
        """Speak first."""
        self.session.generate_reply(instructions="Say hello and what you can do.")

    @function_tool
    async def next_train(self, city: str) -> str:
        """Look up when the next train leaves for a city.

        Args:
            city: where the train goes
        """
        if city not in TRAINS:
            # The model reads this sentence, and can ask the user.
            raise ToolError(f"No train goes to {city}; there are trains to {', '.join(TRAINS)}.")
        return f"The next train to {city} leaves at {TRAINS[city]}."

    @function_tool(raw_schema=LIGHT_SCHEMA)
    async def set_light(self, raw_arguments: dict[str, object]) -> str:
        """Turn a light on or off; the schema comes from elsewhere, say an MCP server."""
        self.lights[str(raw_arguments["room"])] = bool(raw_arguments["is_on"])
        return "done"

    @function_tool
    async def book_seat(self, ctx: RunContext[None], city: str) -> str:
        """Book a seat on the next train to a city.

        Args:
            ctx: this call, for what the user should know before it is done
            city: where the train goes
        """
        # Hydra gives a turn up when a tool takes too long. The update answers the call at once,
        # so the user can go on talking; the result is told when it is there.
        await ctx.update(f"The booking office for {city} is being asked; that takes a moment.")
        await asyncio.sleep(3)
        return f"Seat 21 on the next train to {city} is booked."


@server.rtc_session()
async def talk(ctx: JobContext) -> None:
    """Hold one call; LiveKit runs this for each room."""
    session: AgentSession[None] = AgentSession(llm=hydra.RealtimeModel())
    await session.start(Concierge(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
