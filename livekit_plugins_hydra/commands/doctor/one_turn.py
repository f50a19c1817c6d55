"""Holds the doctor's call of one turn, through a real `AgentSession`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from livekit.agents import Agent

from livekit_plugins_hydra.commands.calling import Caller, CallFailed, Recording
from livekit_plugins_hydra.commands.target import Target
from livekit_plugins_hydra.testing import Emulator

from .observed import LiveKitTurn


async def hold_one_turn(
    target: Target, emulator: Emulator | None, audio: bytes, wire_log: Path | None
) -> LiveKitTurn:
    """Ask, and have the answer played.

    Args:
        target: whom.
        emulator: the server, where it is emulated.
        audio: the question, int16 mono 16 kHz.
        wire_log: a file for the frames.
    """
    agent = Agent(instructions="You are friendly. Answer in one short sentence.")
    caller = Caller(target.realtime_model(emulator, wire_log), agent, lambda at_s, who, what: None)
    recording = Recording(Path("question"), np.frombuffer(audio, dtype=np.int16))
    try:
        await caller.hold([recording], barge_in_s=None)
    except (CallFailed, TimeoutError) as problem:
        what = str(problem) or "Hydra was not ready in time."
        remedy = getattr(problem, "remedy", "") or "Run it again with --wire-log wire.jsonl."
        return LiveKitTurn(failure=what, remedy=remedy)
    played = caller.loudspeaker.heard
    return LiveKitTurn(
        waited_s=played[0].started_at - caller.microphone.ended_at,
        answer_s=sum(playout.duration_s for playout in played),
    )
