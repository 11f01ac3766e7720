"""What is reported of upstream's elections and log: one story each, told to both sides alike."""

import os
from collections.abc import Awaitable, Callable
from unittest.mock import patch

from bench.upstream.sides import Side, among, pump

Story = Callable[[Side], Awaitable[str]]

BEATS = 20


def _leaders(side: Side, term: int = 1) -> str:
    names = sorted(side.leaders[term])
    return f"leaders of term {term}: {', '.join(names) or 'none'}"


async def _elect(side: Side, name: str) -> None:
    await side.stand(name)
    await pump(side)
    assert side.leads(name), f"{name} was not elected"


async def _beats(side: Side, leader: str, *followers: str, count: int = 3) -> None:
    for _ in range(count):
        await side.beat(leader)
        await pump(side, among(leader, *followers))


async def _take_over(side: Side) -> int:
    """Without a, let b's and c's timeouts pass until b leads; return how many it took, 0 if b does not come to lead."""
    for timeout, name in enumerate(("b", "c", "c", "b") * 3, 1):
        await side.stand(name)
        await pump(side, among("b", "c"))
        if side.leads("b"):
            return timeout
    return 0


async def vote_forgotten_on_restart(side: Side) -> str:
    """c votes for a and restarts; b, which has heard of nothing, asks c for its vote of the same term."""
    await side.stand("a")
    await pump(side, among("a", "c"))
    await side.restart("c")
    await side.stand("b")
    await pump(side, among("b", "c"))
    return _leaders(side)


async def vote_forgotten_on_change_of_role(side: Side) -> str:
    """a leads by the votes of a and c, steps down, and is asked by b for its vote of the same term."""
    await side.stand("a")
    await pump(side, among("a", "c"))
    await side.lose_quorum("a")
    side.sent.clear()
    await side.stand("b")
    await pump(side, among("a", "b"))
    return _leaders(side)


async def duplicated_vote(side: Side) -> str:
    """Of five only b answers a, and each of its datagrams comes twice. Pre-votes pass, so that they hide nothing."""
    await side.stand("a")
    await pump(side, lambda sent: side.is_trial(sent[2]) or among("a", "b")(sent), copies=2)
    return _leaders(side) + " (votes of 2 of 5)"


async def half_is_a_majority(side: Side) -> str:
    """Four nodes, cut into two pairs."""
    await side.stand("a")
    await pump(side, among("a", "b"))
    await side.stand("c")
    await pump(side, among("c", "d"))
    return _leaders(side)


async def late_heartbeat(side: Side) -> str:
    """A heartbeat from before two writes arrives at b and c after these were committed; then a dies."""
    await _elect(side, "a")
    await side.beat("a")
    held, side.sent = side.sent, []
    for value in ("x", "y"):
        await side.propose("a", value)
        await pump(side)
    await _beats(side, "a", "b", "c")
    committed, _ = side.standing("b")
    for sent in held:
        await side.deliver(sent)
    side.sent.clear()
    left = " and ".join(str(side.standing(name)[1]) for name in ("b", "c"))
    await _take_over(side)
    new = f"{min(committed, side.standing('b')[1])} of them" if side.leads("b") else "no new leader"
    return f"{committed} entries committed; then in the logs of b and c: {left}; with b, the next leader: {new}"


async def commit_after_failover(side: Side) -> str:
    """a dies when its write has reached b, uncommitted; b takes over with c, and writes."""
    await _elect(side, "a")
    await _beats(side, "a", "b", "c")
    await side.propose("a", "x")
    await pump(side, lambda sent: sent[:2] == ("a", "b"))
    await _take_over(side)
    assert side.leads("b"), "b was not elected"
    await side.propose("b", "y")
    await _beats(side, "b", "c", count=BEATS)
    commit, last = side.standing("b")
    _, on_follower = side.standing("c")
    return f"commit index {commit} of {last} after {BEATS} heartbeats, with {on_follower} entries on the follower"


async def fsyncs(side: Side) -> str:
    """One write, from the client to its commit on all of three nodes."""
    await _elect(side, "a")
    await _beats(side, "a", "b", "c")
    before, _ = side.standing("a")
    with patch("os.fsync", wraps=os.fsync) as fsync, patch("os.fdatasync", wraps=os.fdatasync) as fdatasync:
        await side.propose("a", "x")
        await pump(side)
        await _beats(side, "a", "b", "c")
    after, _ = side.standing("a")
    return (
        f"{fsync.call_count + fdatasync.call_count} calls of fsync and fdatasync for {after - before} committed entry"
    )


async def pending_writer(side: Side) -> str:
    """A client writes at a, which is cut off; b takes over and writes; the cut heals, and a follows b."""
    await _elect(side, "a")
    await _beats(side, "a", "b", "c")
    proposal = await side.propose("a", "x")
    side.sent.clear()
    await _take_over(side)
    assert side.leads("b"), "b was not elected"
    await side.propose("b", "y")
    await _beats(side, "b", "a", "c", count=BEATS)
    return await side.outcome("a", proposal)


async def single_node(side: Side) -> str:
    """The election timeouts of the only node pass."""
    for timeout in range(1, BEATS + 1):
        await side.stand("a")
        await pump(side)
        if side.leads("a"):
            return f"leads after election timeout {timeout}"
    return f"leads after none of {BEATS} election timeouts"


async def vote_kept_into_a_later_term(side: Side) -> str:
    """a, elected by all, dies; b's timeout passes first."""
    await _elect(side, "a")
    await _beats(side, "a", "b", "c")
    timeouts = await _take_over(side)
    return f"b leads after {timeouts} election timeouts of b and c" if timeouts else "b does not come to lead"


STORIES: list[tuple[str, int, Story]] = [
    ("1. the voter restarts in the middle of an election", 3, vote_forgotten_on_restart),
    ("2. the voter changes its role in the middle of an election", 3, vote_forgotten_on_change_of_role),
    ("3. a vote's datagram comes twice", 5, duplicated_vote),
    ("4. four nodes, cut into two halves", 4, half_is_a_majority),
    ("5. a heartbeat comes late, out of order", 3, late_heartbeat),
    ("6. the leader dies with an entry not yet committed", 3, commit_after_failover),
    ("8. what a commit makes durable, three nodes", 3, fsyncs),
    ("9. a client waits for its write when leadership is lost", 3, pending_writer),
    ("10. a cluster of one", 1, single_node),
    ("14. three nodes, the leader dies, the others' timeouts pass (found here)", 3, vote_kept_into_a_later_term),
]
"""What happens, in how many nodes, and the story. The numbers are those of the report."""
