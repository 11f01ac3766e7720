"""Requests with ids: a retry is applied once (thesis, 6.3)."""

from appliance.consensus.ledger import CLIENTS, Ledger
from appliance.consensus.messages import AppendEntries, Entry, HardState, Request
from appliance.words.ids import Monotonic
from tests.unit.consensus.bench import core, led

ONCE = Request("client", 1)


def test_a_request_that_is_asked_again_is_appended_once() -> None:
    bench = led(3)
    a = bench.nodes["a"]
    first = a.propose(b"x", bench.now, ONCE)
    assert a.propose(b"x", bench.now, ONCE) == first, "while it is on its way"
    bench.settle()
    assert a.propose(b"x", bench.now, ONCE) == first, "when it is done"
    bench.nodes["a"].transfer(bench.now, "b")
    bench.settle()
    assert bench.nodes["b"].propose(b"x", bench.now, ONCE) == first, "by the next leader"
    bench.settle()
    assert [e.data for e in bench.applied["c"] if e.kind == "data"] == [b"x"]


def test_a_repetition_in_the_log_is_not_applied() -> None:
    """Whoever appended it: every node leaves out the same entries."""
    raft = core("b", 3, state=HardState(1, None, 0))
    log = (
        Entry(1, 1, "data", b"first", ONCE),
        Entry(2, 1, "data", b"again", ONCE),
        Entry(3, 1, "data", b"other", Request("other", 1)),
        Entry(4, 1, "data", b"older", Request("client", 0)),
        Entry(5, 1, "data", b"next", Request("client", 2)),
        Entry(6, 1, "data", b"anonymous"),
        Entry(7, 1, "data", b"anonymous"),
    )
    raft.step("a", AppendEntries(1, 0, 0, 7, log), Monotonic(0.0))
    assert [entry.index for entry in raft.ready().committed] == [1, 3, 5, 6, 7]
    assert raft.log.ledger.done_at(ONCE) == 5
    assert raft.log.ledger.done_at(Request("client", 3)) is None
    assert raft.log.ledger.done_at(Request("nobody", 0)) is None


def test_clients_that_are_long_unheard_are_forgotten() -> None:
    ledger = Ledger()
    for number in range(CLIENTS + 1):
        ledger.count(Entry(number + 1, 1, "data", b"", Request("first" if number == 5 else f"c{number}", number)))
    assert len(ledger.done) == CLIENTS
    assert ledger.done_at(Request("c0", 0)) is None
    assert ledger.done_at(Request("c1", 1)) == 2
    ledger.count(Entry(5000, 1, "data", b"", Request("c1", 2)))
    ledger.count(Entry(5001, 1, "data", b"", Request("new", 0)))
    assert ledger.done_at(Request("c1", 2)) == 5000, "the one that was heard again stays"
    assert ledger.done_at(Request("c2", 2)) is None
