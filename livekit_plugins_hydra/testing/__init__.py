"""What the tests of an agent need: a local Hydra, and a microphone and a loudspeaker in memory.

::

    async with Emulator(Scenario(replies=[Say(text="Hello."), Call("weather")])) as server:
        model = hydra.RealtimeModel(base_url=server.url, api_key="anything")

`emulator` says how the server can be made to behave, `desk` how a call is held without a room.
"""

from .desk import Loudspeaker, Microphone, Playout, Samples, write_call
from .emulator import (
    FAULTS,
    PATH,
    RULES,
    SWITCHES,
    Call,
    ConnectionRecord,
    Context,
    Dial,
    Emulator,
    End,
    Observed,
    Observer,
    Piece,
    ProtocolViolation,
    Received,
    Reply,
    ResponseRecord,
    Rule,
    Say,
    Scenario,
    Script,
    Sent,
    ToolOutput,
    Trigger,
    UserTurn,
    Violation,
    Wait,
    describe,
    random_switches,
)

__all__ = [
    "FAULTS",
    "PATH",
    "RULES",
    "SWITCHES",
    "Call",
    "ConnectionRecord",
    "Context",
    "Dial",
    "Emulator",
    "End",
    "Loudspeaker",
    "Microphone",
    "Observed",
    "Observer",
    "Piece",
    "Playout",
    "ProtocolViolation",
    "Received",
    "Reply",
    "ResponseRecord",
    "Rule",
    "Samples",
    "Say",
    "Scenario",
    "Script",
    "Sent",
    "ToolOutput",
    "Trigger",
    "UserTurn",
    "Violation",
    "Wait",
    "describe",
    "random_switches",
    "write_call",
]
