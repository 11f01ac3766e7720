"""The state of a node, in words and numbers for operators: every wait has a reason, a since and a bound."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Literal

from appliance import __version__
from appliance.consensus.ready import Role
from appliance.node.core import NodeCore
from appliance.operator_api.views import CertificateView, ModelView, NetworkView, Status, UpdateView, WaitingView
from appliance.rounds.actions import Waiting
from appliance.rounds.collected import Phase
from appliance.rounds.step import Step
from appliance.words.ids import Monotonic, NodeName
from appliance.words.models import GlobalModel

SECONDS_A_DAY = 86_400.0

Who = Literal["node", "participant", "aggregator"]


class PeerWatch:
    """Since when each peer is up or down, as this node sees it."""

    def __init__(self, peers: tuple[NodeName, ...], now: Monotonic) -> None:
        """All peers begin as down."""
        self._since = dict.fromkeys(peers, now)
        self._live: frozenset[NodeName] = frozenset()

    @property
    def live(self) -> frozenset[NodeName]:
        """The peers that are up."""
        return self._live

    def set_peers(self, peers: Collection[NodeName], now: Monotonic) -> None:
        """Watch these from now on; a new one begins as down."""
        self._since = {peer: self._since.get(peer, now) for peer in peers}
        self._live &= self._since.keys()

    def observe(self, live: frozenset[NodeName], now: Monotonic) -> tuple[frozenset[NodeName], frozenset[NodeName]]:
        """Take in which peers are live now; return those that came up and those that went down.

        One that is not watched is left out: consensus hears a node that is being removed for a moment longer.
        """
        live &= self._since.keys()
        came, went = live - self._live, self._live - live
        for peer in came | went:
            self._since[peer] = now
        self._live = live
        return came, went

    def down_text(self, now: Monotonic) -> str:
        """Return such as "node3 and node4 down for 40 s", or nothing if all are up."""
        down = [peer for peer in sorted(self._since) if peer not in self._live]
        if not down:
            return ""
        longest = max(now - self._since[peer] for peer in down)
        names = down[0] if len(down) == 1 else f"{', '.join(down[:-1])} and {down[-1]}"
        return f"{names} down for {longest:.0f} s"

    def states(self) -> dict[NodeName, Literal["up", "down"]]:
        """Return each peer's state."""
        return {peer: "up" if peer in self._live else "down" for peer in sorted(self._since)}


def waits(core: NodeCore, peers: PeerWatch, now: Monotonic) -> list[tuple[Who, Waiting]]:
    """Return everything that this node waits for now, and who does."""
    members = len(peers.states()) + 1
    down = peers.down_text(now)
    found: list[tuple[Who, Waiting]] = []
    if not core.is_member:
        how = f": p2pfl-node member add {core.node} --host HOST, on the leader" if core.joins else ""
        found.append(("node", Waiting(f"{_outside(core)}{how}", core.member_since, None)))
    elif core.leader is None:
        reason = f"waiting for a leader: {len(peers.live) + 1} of {members} nodes up, {members // 2 + 1} needed"
        found.append(("node", Waiting(_with(reason, down), core.leader_since, None)))
    if core.is_leading and core.aggregator.phase is not Phase.AGGREGATING:
        wait = core.aggregator.waiting
        missing = down if core.aggregator.phase in (Phase.COLLECTING, Phase.REPLICATING) else ""
        found.append(("aggregator", Waiting(_with(wait.reason, missing), wait.since, wait.until)))
    found.append(("participant", core.participant.waiting))
    return found


def _outside(core: NodeCore) -> str:
    return "waiting to be let into the cluster" if core.joins else "removed from the cluster"


def _with(reason: str, addition: str) -> str:
    return f"{reason}; {addition}" if addition else reason


def view(who: Who, wait: Waiting, now: Monotonic) -> WaitingView:
    """Return a wait as the operator API shows it: in seconds from now."""
    until = None if wait.until is None or wait.until == float("-inf") else max(0.0, wait.until - now)
    return WaitingView(who, wait.reason, max(0.0, now - wait.since), until)


def status_of(
    core: NodeCore,
    peers: PeerWatch,
    *,
    now: Monotonic,
    started: Monotonic,
    expires_at: datetime,
    authority_expires_at: datetime,
    turns: Mapping[NodeName, int],
    reply_keys_ready: int,
    progress: float,
    update: UpdateView | None,
    network: NetworkView,
    faults: Mapping[str, str],
) -> Status:
    """Return the whole state of a node."""
    head = core.lineage.head
    return Status(
        node=core.node,
        role=core.role.value,
        term=core.term,
        leader=core.leader if core.is_member else None,  # a removed node is told of no later one
        participant="active",
        aggregator="active" if core.is_leading else "inactive",
        round=round_of(core),
        model=None if head is None else _model(head),
        peers=peers.states(),
        period_left_s=core.period_left_s(now),
        ready=core.leader is not None and core.is_member,
        version=__version__,
        summary=summary(core, peers),
        progress=progress if core.participant.step is Step.TRAINING else None,
        update=update,
        waiting=[view(who, wait, now) for who, wait in waits(core, peers, now)],
        turns=dict(turns),
        reply_keys_ready=reply_keys_ready,
        certificate=_certificate(expires_at, authority_expires_at),
        uptime_s=now - started,
        network=network,
        faults=[f"{area}: {text}" for area, text in sorted(faults.items())],
    )


def _model(head: GlobalModel) -> ModelView:
    return ModelView(head.version, head.digest, head.accuracy, head.loss, head.rolled_back_to, head.withheld)


def _certificate(expires_at: datetime, authority_expires_at: datetime) -> CertificateView:
    left = (expires_at - datetime.now(UTC)).total_seconds() / SECONDS_A_DAY
    return CertificateView(expires_at.timestamp(), round(left, 1), authority_expires_at.timestamp())


def round_of(core: NodeCore) -> int:
    """Return the round that is open, or the one to come."""
    opening = core.participant.opening
    return core.lineage.next_round if opening is None else max(opening.round, core.lineage.next_round)


def summary(core: NodeCore, peers: PeerWatch) -> str:
    """Return one line, such as "leader of term 5, round 12, 4/4 peers up"."""
    if not core.is_member:
        return _outside(core)
    count = f"round {round_of(core)}, {len(peers.live)}/{len(peers.states())} peers up"
    if core.role is Role.LEADER:
        return f"leader of term {core.term}, {count}"
    if core.leader is not None:
        return f"follower of {core.leader} in term {core.term}, {count}"
    return f"{core.role.value} in term {core.term}, no leader, {count}"
