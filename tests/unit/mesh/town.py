"""A cluster's authority, members and meshes on loopback, for tests of the mesh."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from appliance.envelopes.format import SALT_BYTES, Header, Kind, format_header
from appliance.mesh.body import Spool
from appliance.mesh.mesh import Mesh
from appliance.mesh.server import Wants
from appliance.pki.authority import Authority
from appliance.pki.identity import NodeIdentity
from appliance.words.errors import RemoteError
from appliance.words.messages import MeshMessage, ResignWanted
from appliance.words.settings import Member
from tests.unit.pki.identities import write_identity

LIMIT = 4 * 1024 * 1024
BOUND_S = 20.0


class Inbox:
    """Collects what a mesh hands over; waits for a count with a bound."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, MeshMessage]] = []
        self._changed = asyncio.Event()

    def __call__(self, peer: str, message: MeshMessage) -> None:
        if message == ResignWanted(999):
            raise RemoteError("the test refuses this one")
        self.messages.append((peer, message))
        self._changed.set()

    async def holds(self, count: int) -> list[tuple[str, MeshMessage]]:
        async with asyncio.timeout(BOUND_S):
            while len(self.messages) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.messages


class Town:
    """An authority, members with free ports, and identities."""

    def __init__(self, folder: Path, names: tuple[str, ...] = ("node0", "node1", "node2")) -> None:
        self.folder = folder
        self.authority = Authority.create("test")
        self.members = {name: Member(host="127.0.0.1", mesh_port=free_port()) for name in names}
        self.inboxes = {name: Inbox() for name in names}

    def identity(self, name: str, authority: Authority | None = None) -> NodeIdentity:
        return NodeIdentity.load(write_identity(self.folder, authority or self.authority, name), name)

    def mesh(
        self,
        name: str,
        identity: NodeIdentity | None = None,
        wants: Wants | None = None,
        spool: Spool | None = None,
    ) -> Mesh:
        return Mesh(
            name,
            self.members,
            identity or self.identity(name),
            max_message_bytes=LIMIT,
            on_message=self.inboxes[name],
            wants=wants,
            spool=spool,
        )

    @staticmethod
    def envelope(content: bytes, term: int = 1) -> bytes:
        """Return what begins like an envelope for a leader."""
        return format_header(Header(Kind.TO_LEADER, term, 0, bytes(32), bytes(SALT_BYTES), bytes(256))) + content

    def url(self, name: str, path: str = "/v1/messages") -> str:
        return f"https://127.0.0.1:{self.members[name].mesh_port}{path}"


def free_port() -> int:
    """Return a port that is free on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a bound."""
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event, and the wait has a bound
            await asyncio.sleep(0.005)
