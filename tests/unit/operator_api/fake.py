"""A node that is what a test says, served by the real operator API on a real socket."""

import contextlib
import socket
from collections.abc import AsyncIterator

import msgspec

from appliance.operator_api.server import operator_api
from appliance.operator_api.views import (
    CertificateView,
    ListedModel,
    MembersView,
    ModelView,
    NetworkView,
    NewMember,
    ReloadedView,
    Status,
    UpdateView,
    WaitingView,
)
from appliance.words.errors import OperatorError
from appliance.words.ids import Digest, NodeName, Version, digest_of
from appliance.words.models import GlobalModel
from appliance.words.settings import Member, Operator
from tests.unit.lineage.test_lineage import model

WEIGHTS = b"weights of the head"
DIGEST = digest_of(WEIGHTS)

STATUS = Status(
    node="node0",
    role="leader",
    term=3,
    leader="node0",
    participant="active",
    aggregator="active",
    round=7,
    model=ModelView(6, DIGEST, 0.97, 0.1),
    peers={"node1": "up", "node2": "down"},
    period_left_s=86_000.0,
    ready=True,
    version="0.1.0",
    summary="leader of term 3, round 7, 1/2 peers up",
    progress=0.5,
    update=UpdateView(6, 12_000, 0.94, 0.2),
    waiting=[
        WaitingView("aggregator", "waiting for updates of round 7: 2 of 3 (quorum 2); node2 down for 40 s", 40.0, 20.0),
        WaitingView("participant", "waiting for round 7 to close", 5.0, None),
    ],
    turns={"node0": 2, "node1": 1},
    reply_keys_ready=8,
    certificate=CertificateView(1.9e9, 700.5, 2.1e9),
    uptime_s=12.5,
    network=NetworkView({"node2": "Connection refused"}, {"node1": 0, "node2": 7}, {"node1": 2, "strangers": 1}),
    faults=[],
)
ALONE = msgspec.structs.replace(
    STATUS,
    role="candidate",
    leader=None,
    aggregator="inactive",
    model=None,
    period_left_s=None,
    ready=False,
    summary="candidate in term 3, no leader, round 0, 0/2 peers up",
    progress=None,
    update=None,
)


class FakeNode:
    """What the API asks of a node, answered from fields."""

    def __init__(self) -> None:
        self.state = STATUS
        self.entries: list[GlobalModel] = [model(0), model(1)]
        self.bytes: dict[Digest, bytes] = {}
        self.stored: tuple[Digest, bytes] | None = (DIGEST, WEIGHTS)
        self.resign_problem: str | None = None
        self.asked_to_resign = 0
        self.membership = MembersView({"node0": Member("10.0.0.1")}, {"node1": Member("10.0.0.2", 7010, 7011)})
        self.member_problem = ""
        self.given: list[bytes] = []

    def status(self) -> Status:
        return self.state

    def lineage(self) -> list[GlobalModel]:
        return self.entries

    def elections(self) -> bytes:
        return b'[{"at":1.0,"term":1,"node":"node0","from":"candidate","to":"leader"}]'

    async def model(self) -> tuple[Digest, bytes] | None:
        return self.stored

    def models(self) -> list[ListedModel]:
        return [ListedModel(**msgspec.structs.asdict(each), here=each.digest in self.bytes) for each in self.entries]

    async def model_of(self, which: str) -> tuple[Digest, bytes]:
        for entry in self.entries:
            if which in {str(entry.version), entry.digest} and entry.digest in self.bytes:
                return entry.digest, self.bytes[entry.digest]
        raise OperatorError(f"the bytes of {which} are not on this node")

    def roll_back(self, version: Version) -> None:
        if self.member_problem:
            raise OperatorError(self.member_problem)
        target = self.entries[version]
        head = self.entries[-1]
        self.entries.append(
            msgspec.structs.replace(
                target, version=head.version + 1, round=head.round + 1, base=head.digest, rolled_back_to=version
            )
        )

    def resign(self) -> str | None:
        self.asked_to_resign += 1
        if self.resign_problem is None:
            summary = "follower of node1 in term 4, round 7, 1/2 peers up"
            self.state = msgspec.structs.replace(self.state, role="follower", leader="node1", term=4, summary=summary)
        return self.resign_problem

    def reload(self) -> ReloadedView:
        if self.member_problem:
            raise OperatorError(self.member_problem)
        return ReloadedView(["rounds.interval_s: 60.0 -> 5.0"], ["state"])

    def members(self) -> MembersView:
        return self.membership

    def revoke(self, content: bytes) -> None:
        self.given.append(content)
        if self.member_problem:
            raise OperatorError(self.member_problem)

    async def add_member(self, new: NewMember) -> None:
        if self.member_problem:
            raise OperatorError(self.member_problem)
        place = Member(new.host, new.mesh_port, new.consensus_port)
        self.membership = MembersView({**self.membership.voters, new.node: place}, {})

    async def remove_member(self, node: NodeName) -> None:
        if self.member_problem:
            raise OperatorError(self.member_problem)
        self.membership = MembersView({k: v for k, v in self.membership.voters.items() if k != node}, {})


def free_port() -> int:
    """Return a TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def served(node: FakeNode, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve a fake node; yields the port."""
    port = free_port()
    async with operator_api(Operator(host=host, port=port), node):
        yield port
