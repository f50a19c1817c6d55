"""The payload ceiling: over it, the server goes on without audio and without an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livekit_plugins_hydra.protocol import events, wire

if TYPE_CHECKING:
    from .link import Link


class Ceiling:
    """Weighs what one client has sent: its configuration, and on request all that came since.

    Every frame counts as if its non-ASCII characters were escaped: the larger form, whichever a
    server counts.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._scenario = link.scenario
        self._n_configuration_bytes = 0
        self._n_item_bytes = 0

    @property
    def is_exceeded(self) -> bool:
        """Whether the server is silent now."""
        ceiling = self._scenario.payload_ceiling_bytes
        return ceiling is not None and self._n_bytes > ceiling

    def weigh_configuration(self, configuration: events.ClientSession, *, n_bytes: int = 0) -> None:
        """Weigh the configuration that holds now.

        Args:
            configuration: the client's, with the newest tools.
            n_bytes: length of the frame, where it was one.
        """
        configure = events.SessionConfigure(session=configuration)
        self._n_configuration_bytes = max(n_bytes, wire.escaped_size(configure))
        self._check()

    def weigh_item(self, event: events.ConversationItemCreate, *, n_bytes: int) -> None:
        """Weigh an item of the client, where these count.

        Args:
            event: what brought it.
            n_bytes: length of the frame.
        """
        if self._scenario.payload_ceiling_of == "context":
            self._n_item_bytes += max(n_bytes, wire.escaped_size(event))
            self._check()

    @property
    def _n_bytes(self) -> int:
        return self._n_configuration_bytes + self._n_item_bytes

    def _check(self) -> None:
        if self.is_exceeded:
            self._link.violate("over_ceiling", f"{self._n_bytes} bytes")
