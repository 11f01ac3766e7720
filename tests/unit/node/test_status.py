"""What a node says of itself: peers, waits, one line, and the whole status."""

from datetime import UTC, datetime, timedelta

import msgspec

from appliance.consensus.ready import Role
from appliance.node.core import NodeCore
from appliance.node.status import PeerWatch, status_of, summary, view, waits
from appliance.operator_api.views import NetworkView, Status, WaitingView
from appliance.rounds.actions import Waiting
from appliance.words.ids import Monotonic
from tests.unit.lineage.test_lineage import model
from tests.unit.node.test_core import START, commit, follow, lead, new_core, no_op


def _at(seconds: float) -> Monotonic:
    return Monotonic(START + seconds)


def _watch(*live: str) -> PeerWatch:
    peers = PeerWatch(("node1", "node2"), START)
    peers.observe(frozenset(live), START)
    return peers


def _status(core: NodeCore, peers: PeerWatch, **changes: object) -> Status:
    status = status_of(
        core,
        peers,
        now=_at(10.0),
        started=START,
        expires_at=datetime.now(UTC) + timedelta(days=30),
        authority_expires_at=datetime.now(UTC) + timedelta(days=300),
        turns={"node1": 2},
        reply_keys_ready=8,
        progress=0.5,
        update=None,
        network=NetworkView({}, {}, {}),
        faults={"training": "no data", "state": "disk full"},
    )
    return msgspec.structs.replace(status, **changes)


# --- peers ------------------------------------------------------------------------------------------------------------


def test_peers_begin_as_down_and_are_seen_to_come_and_go() -> None:
    peers = PeerWatch(("node1", "node2"), START)
    assert peers.states() == {"node1": "down", "node2": "down"}
    assert peers.observe(frozenset({"node1"}), _at(1.0)) == (frozenset({"node1"}), frozenset())
    assert peers.observe(frozenset({"node1"}), _at(2.0)) == (frozenset(), frozenset())
    assert peers.observe(frozenset({"node2"}), _at(3.0)) == (frozenset({"node2"}), frozenset({"node1"}))
    assert peers.states() == {"node1": "down", "node2": "up"}
    assert peers.live == {"node2"}


def test_who_is_down_for_how_long() -> None:
    peers = PeerWatch(("node1", "node2", "node3", "node4"), START)
    peers.observe(frozenset({"node1", "node2", "node3", "node4"}), START)
    assert peers.down_text(_at(40.0)) == ""
    peers.observe(frozenset({"node1", "node2", "node4"}), _at(10.0))
    assert peers.down_text(_at(40.0)) == "node3 down for 30 s"
    peers.observe(frozenset({"node1", "node2"}), _at(20.0))
    assert peers.down_text(_at(40.0)) == "node3 and node4 down for 30 s"
    peers.observe(frozenset(), _at(30.0))
    assert peers.down_text(_at(40.0)) == "node1, node2, node3 and node4 down for 30 s"


# --- waits ------------------------------------------------------------------------------------------------------------


def test_without_a_leader_the_node_says_how_many_are_up_and_needed() -> None:
    found = waits(new_core(), _watch("node1"), _at(7.0))
    assert found[0] == (
        "node",
        Waiting("waiting for a leader: 2 of 3 nodes up, 2 needed; node2 down for 7 s", START, None),
    )
    assert [who for who, _ in found] == ["node", "participant"]


def test_a_follower_waits_for_its_leader_only() -> None:
    core = new_core()
    follow(core)
    assert [who for who, _ in waits(core, _watch("node1"), START)] == ["participant"]


def test_a_leader_that_collects_says_who_is_missing() -> None:
    core = new_core(stored=frozenset({model(0).digest}))
    core.role_changed(Role.LEADER, 1, "node0", START)
    core.entries_committed([commit(model(0)), no_op(1)], START)
    core.aggregator.live_changed(frozenset({"node1"}), START)
    core.aggregator.key_ready(1, bytes(32), bytes(256), START)
    [(who, wait), _] = waits(core, _watch("node1"), _at(2.0))
    assert who == "aggregator"
    assert wait.reason == "waiting for updates of round 1: 0 of 2 (quorum 2); node2 down for 2 s"
    assert (wait.since, wait.until) == (START, _at(8.0))


def test_a_leader_that_prepares_does_not_blame_peers() -> None:
    core = new_core()
    lead(core)
    [(_, wait), _] = waits(core, _watch(), START)
    assert "down" not in wait.reason


def test_a_wait_is_shown_in_seconds_from_now() -> None:
    wait = Waiting("x", _at(1.0), _at(9.0))
    shown = view("node", wait, _at(4.0))
    assert (shown.who, shown.reason, shown.since_s, shown.until_s) == ("node", "x", 3.0, 5.0)
    assert view("node", wait, _at(20.0)).until_s == 0.0
    assert view("node", Waiting("x", _at(1.0), None), START).until_s is None
    assert view("node", wait, START).since_s == 0.0


# --- the whole --------------------------------------------------------------------------------------------------------


def test_one_line_for_each_role() -> None:
    core, peers = new_core(), _watch("node1")
    assert summary(core, peers) == "follower in term 0, no leader, round 0, 1/2 peers up"
    core.role_changed(Role.CANDIDATE, 1, None, START)
    assert summary(core, peers) == "candidate in term 1, no leader, round 0, 1/2 peers up"
    follow(core, "node1", 2)
    core.entries_committed([commit(model(0))], START)
    assert summary(core, peers) == "follower of node1 in term 2, round 1, 1/2 peers up"
    core.role_changed(Role.LEADER, 3, "node0", START)
    assert summary(core, peers) == "leader of term 3, round 1, 1/2 peers up"


def test_status_of_a_new_node() -> None:
    status = _status(new_core(), _watch())
    assert (status.role, status.term, status.leader, status.ready) == ("follower", 0, None, False)
    assert (status.participant, status.aggregator, status.model) == ("active", "inactive", None)
    assert (status.round, status.period_left_s, status.progress) == (0, None, None)
    assert status.faults == ["state: disk full", "training: no data"]
    assert 29.9 <= status.certificate.expires_in_days <= 30.0
    assert status.uptime_s == 10.0


def test_status_of_a_leader() -> None:
    core = new_core(stored=frozenset({model(0).digest}))
    core.role_changed(Role.LEADER, 1, "node0", START)
    core.entries_committed([commit(model(0)), no_op(1)], START)
    status = _status(core, _watch("node1"))
    assert (status.role, status.leader, status.ready, status.aggregator) == ("leader", "node0", True, "active")
    assert status.model is not None
    assert (status.model.version, status.model.digest) == (0, model(0).digest)
    assert (status.round, status.period_left_s) == (1, 30.0)
    assert status.peers == {"node1": "up", "node2": "down"}


def test_every_number_of_a_status_is_one_in_json() -> None:
    """JSON has no infinity: msgspec writes null for it, and a reader would take that for "no bound"."""
    for core in (new_core(), new_core()):
        lead(core)
        core.resign(START)
        for wait in _status(core, _watch()).waiting:
            assert wait.until_s is None or wait.until_s < 1e9


def test_who_is_no_member_says_so_and_is_not_ready() -> None:
    core = new_core(joins=True)
    core.members_changed(frozenset({"node1", "node2"}), _at(2.0), is_member=False)
    [(who, wait), _] = waits(core, _watch("node1"), START)
    told = "waiting to be let into the cluster: p2pfl-node member add node0 --host HOST, on the leader"
    assert (who, wait.reason, wait.since) == ("node", told, START)
    assert summary(core, _watch("node1")) == "waiting to be let into the cluster"
    follow(core)
    assert not _status(core, _watch("node1")).ready

    core.members_changed(frozenset({"node1", "node2"}), _at(4.0), is_member=True)
    status = _status(core, _watch("node1"))
    assert (status.ready, status.leader, [wait.who for wait in status.waiting]) == (True, "node1", ["participant"])

    core.members_changed(frozenset({"node1", "node2"}), _at(7.0), is_member=False)
    status = _status(core, _watch("node1"))
    assert (status.ready, status.leader, status.summary) == (False, None, "removed from the cluster")
    assert status.waiting[0] == WaitingView("node", "removed from the cluster", 3.0, None)


def test_a_peer_that_is_heard_and_watched_no_more_does_not_come_again_and_again() -> None:
    peers = _watch("node1", "node2")
    for second in (1.0, 2.0):
        peers.set_peers(("node1",), _at(second))
        assert peers.observe(frozenset({"node1", "node2"}), _at(second)) == (frozenset(), frozenset())
        assert peers.states() == {"node1": "up"}


def test_peers_that_come_and_go_are_watched() -> None:
    peers = _watch("node1")
    peers.set_peers(("node2", "node3"), _at(5.0))
    assert peers.states() == {"node2": "down", "node3": "down"}
    assert peers.live == frozenset()
    assert peers.down_text(_at(6.0)) == "node2 and node3 down for 6 s"
