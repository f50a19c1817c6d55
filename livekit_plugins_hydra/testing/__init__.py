"""What the tests of an agent need: a local Hydra, and a microphone and a loudspeaker in memory.

::

    async with Emulator(Scenario(replies=[Say(text="Hello."), Call("weather")])) as server:
        model = hydra.RealtimeModel(base_url=server.url, api_key="anything")

`emulator` says how the server can be made to behave, `desk` how a call is held without a room.
"""

from .desk import Loudspeaker, Microphone, Playout, Samples, write_call
from .emulator.books import Observed, Observer, describe
from .emulator.door import PATH
from .emulator.records import (
    RULES,
    ConnectionRecord,
    Dial,
    ProtocolViolation,
    Received,
    ResponseRecord,
    Rule,
    Sent,
    Violation,
)
from .emulator.replies import (
    Call,
    Context,
    End,
    Piece,
    Reply,
    Say,
    Script,
    ToolOutput,
    Trigger,
    UserTurn,
    Wait,
)
from .emulator.scenario import Scenario, random_switches
from .emulator.server import Emulator
from .emulator.switches import FAULTS, SWITCHES

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
