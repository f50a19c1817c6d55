"""``livekit-hydra call``: recorded speech through a real `AgentSession`, and what came of it."""

from .command import call

__all__ = ["call"]
