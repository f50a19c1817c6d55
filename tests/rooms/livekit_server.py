"""A LiveKit server for tests: one process, one private address, no STUN and no TURN."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from livekit import api

from .programs import Program

VERSION: Final = "1.13.5"
"""The release that the rooms are tested with; `prepare.sh` builds it."""

API_KEY: Final = "devkey"
API_SECRET: Final = "a-secret-of-thirty-two-characters"

PORT: Final = 7890
_TCP_PORT: Final = 7891
_UDP_PORT: Final = 7892


def find_program() -> str | None:
    """Return where the server's program is: on PATH, or where `prepare.sh` has built it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "livekit-plugins-hydra" / f"livekit-server-{VERSION}"
    return shutil.which("livekit-server") or (str(built) if built.is_file() else None)


@dataclass(frozen=True)
class LiveKit:
    """A running server."""

    address: str
    program: Program

    @property
    def url(self) -> str:
        """What clients and workers connect to."""
        return f"ws://{self.address}:{PORT}"

    @property
    def environment(self) -> dict[str, str]:
        """What a worker needs to know.

        Its load is the machine's, which others use as well: as if it had more cores, so that a
        busy moment doesn't make the server pass it over.
        """
        return {
            "NUM_CPUS": "16",
            "LIVEKIT_URL": self.url,
            "LIVEKIT_API_KEY": API_KEY,
            "LIVEKIT_API_SECRET": API_SECRET,
        }

    def client(self) -> api.LiveKitAPI:
        """Return a client of its API, to be closed."""
        return api.LiveKitAPI(self.url.replace("ws", "http", 1), API_KEY, API_SECRET)

    async def remove_agents(self) -> None:
        """Take the agents out of all rooms, as an operator can."""
        client = self.client()
        try:
            rooms = await client.room.list_rooms(api.ListRoomsRequest())
            for room in rooms.rooms:
                inside = await client.room.list_participants(
                    api.ListParticipantsRequest(room=room.name)
                )
                for who in inside.participants:
                    if who.identity.startswith("agent-"):
                        await client.room.remove_participant(
                            api.RoomParticipantIdentity(room=room.name, identity=who.identity)
                        )
        finally:
            await client.aclose()

    def token(
        self,
        room: str,
        identity: str,
        *,
        kind: api.AccessToken.ParticipantKind = "standard",
        attributes: dict[str, str] | None = None,
    ) -> str:
        """Return what lets somebody into a room."""
        token = (
            api.AccessToken(API_KEY, API_SECRET)
            .with_identity(identity)
            .with_kind(kind)
            .with_attributes(attributes or {})
            .with_grants(api.VideoGrants(room_join=True, room=room, can_update_own_metadata=True))
        )
        return token.to_jwt()


@contextmanager
def running(address: str) -> Iterator[LiveKit]:
    """Run a server while the block runs."""
    program = find_program()
    assert program is not None, "see find_program"
    configuration: dict[str, Any] = {
        "port": PORT,
        "bind_addresses": [address],
        "keys": {API_KEY: API_SECRET},
        "rtc": {
            "node_ip": address,
            "use_external_ip": False,
            "tcp_port": _TCP_PORT,
            "udp_port": _UDP_PORT,
            # Without a name here, clients are told to ask public STUN servers.
            "stun_servers": [f"{address}:3478"],
        },
        # Others use this machine as well; their load is no reason to pass a worker over.
        "agents": {"target_load": 1.0},
        "room": {"empty_timeout": 20, "departure_timeout": 5},
        "logging": {"level": "info", "json": False},
    }
    # YAML takes JSON.
    with Program(program, "--config-body", json.dumps(configuration)) as server:
        server.wait_for("starting LiveKit server")
        yield LiveKit(address, server)
