"""One seed, one history: random faults, then peace, in which the cluster must recover.

Replay one with ``python -m tests.simulation.consensus.chaos --seed N``; many with ``--seeds N [--first N]``.
"""

import argparse
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields

from appliance.consensus.messages import Request
from appliance.words.settings import Consensus
from tests.simulation.consensus.invariants import require
from tests.simulation.consensus.world import Faults, World

PART = 200
"""Seeds that a process is given at a time."""

RECOVERY = 8.0
"""Virtual seconds after the last fault within which a proposal must be committed on every node."""


def run(seed: int) -> World:
    """Run one history. Raises AssertionError, with the command that replays it, if anything is wrong."""
    chance = random.Random(f"history {seed}")
    settings = chance.choice([Consensus(), Consensus(heartbeat_interval_s=0.03, election_timeout_s=0.1)])
    size = chance.choice([1, 2, 3, 3, 3, 4, 5, 5])
    # Small, so that snapshots, and the nodes that need one, are as frequent as everything else.
    compact_after = chance.choice([4, 8, 20, 10**6])
    world = World(seed, size, settings, spare=chance.choice([0, 1, 2]), compact_after=compact_after)
    try:
        _trouble(world, chance)
        _recover(world)
    except Exception as error:
        story = "\n".join(world.trace)
        replay = f"python -m tests.simulation.consensus.chaos --seed {seed}"
        raise AssertionError(f"{error}\n{story}\nreplay: {replay}") from error
    return world


def _trouble(world: World, chance: random.Random) -> None:
    """Some virtual seconds of faults, each history with its own mix."""
    timeout = world.settings.election_timeout_s
    world.faults = Faults(
        loss=chance.choice([0.0, 0.02, 0.1, 0.3]),
        duplication=chance.choice([0.0, 0.1, 0.5]),
        late=chance.choice([0.0, 0.02, 0.2]),
        # What takes longer than an election leaves no history to be told.
        delay=chance.choice([0.002, 0.1, 0.6]) * timeout,
        mesh=chance.choice([0.05, 1.0]),
        disk=chance.choice([0.002, 0.02, 0.2]) * timeout,
        ambush=chance.choice([0.0, 0.3, 0.8]),
    )
    if chance.random() < 0.3:
        # Leaders that die young and come back: the tails of many terms, in which figure 8 hides.
        world.faults.ambush, world.faults.revive = 0.95, chance.choice([0.2, 1.0])
    kinds = ["crash", "crash", "restart", "restart", "cut", "isolate", "split", "heal links", "pause", "depose"]
    # Without the last two, most histories would soon have no leader, and nothing more to show.
    kinds = [*chance.sample(kinds, chance.randint(3, len(kinds))), "restart", "heal links"]
    clients = Clients(world, chance)
    # So fast that nobody leads for long, or slower.
    pace = chance.choice([0.5, 1.0]) * timeout
    for _ in range(chance.randint(5, 40)):
        world.run_until(world.now + chance.expovariate(1 / pace))
        _fault(world, chance, chance.choice(kinds))
        for _ in range(chance.randint(0, 3)):
            clients.propose()
        if chance.random() < 0.2:
            world.read(world.leader() or chance.choice(world.names))
        if chance.random() < 0.15:
            for _ in range(chance.choice([1, 1, 2, 3])):  # the second is to be refused
                _change_members(world, chance)
        if (leader := world.leader()) is not None and chance.random() < 0.1:
            world.ask(leader, lambda raft, now: raft.transfer(now) if chance.random() < 0.5 else raft.resign(now))


class Clients:
    """Two that repeat a request until they are tired of it, and one that names nothing."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world = world
        self._chance = chance
        self._numbers = {"patient": 1, "hasty": 1}
        self._count = 0

    def propose(self) -> None:
        """Give somebody, mostly the leader, something to commit."""
        chance, world = self._chance, self._world
        name = chance.choice(world.names) if chance.random() < 0.3 else world.leader() or world.names[0]
        self._count += 1
        client = chance.choice([None, "patient", "hasty"])
        data = b"%d" % self._count + bytes(chance.choice([0, 0, 400, 1000]))
        if client is None:
            world.ask(name, lambda raft, now: raft.propose(data, now))
            return
        if chance.random() < (0.3 if client == "patient" else 0.9):
            self._numbers[client] += 1
        late = client == "hasty" and chance.random() < 0.3
        request = Request(client, self._numbers[client] - late)
        world.ask(name, lambda raft, now: raft.propose(data, now, request))


def _change_members(world: World, chance: random.Random) -> None:
    """Let a node join, or one that left join again; or let any leave, the leader too."""
    outside = sorted(set(world.names) - world.witness.membership.names) + world.spare
    if outside and chance.random() < 0.6:
        world.join(chance.choice(outside))
    else:
        name = chance.choice(world.names)
        world.change(lambda raft, now: raft.remove(name, now))


def _fault(world: World, chance: random.Random, kind: str) -> None:
    down = [name for name in world.names if name not in world.running]
    up = [name for name in world.names if name in world.running]
    match kind:
        case "crash" if up:
            leader = world.leader()
            world.crash(leader if leader is not None and chance.random() < 0.5 else chance.choice(up))
        case "restart" if down:
            world.start(chance.choice(down))
        case "cut":
            world.cut(chance.choice(world.names), chance.choice(world.names))
        case "isolate":
            alone = world.leader() or chance.choice(world.names)
            for other in world.names:
                world.cut(alone, other)
                if chance.random() < 0.7:
                    world.cut(other, alone)
        case "split":
            side = {name for name in world.names if chance.random() < 0.5}
            for a in side:
                for b in set(world.names) - side:
                    world.cut(a, b)
                    world.cut(b, a)
        case "heal links":
            world.cuts.clear()
        case "pause" if up:
            world.pause(chance.choice(up), chance.uniform(0.1, 2.0))
        case "depose":
            _depose(world, chance)


def _depose(world: World, chance: random.Random) -> None:
    """Have a leader hand over and not learn of it, nor one other node; it goes on, and is asked for reads.

    Any other way it loses its majority long before somebody else can lead, and no read of it could be stale.
    """
    leader = world.leader()
    others = [name for name in world.names if name in world.running and name != leader]
    if leader is None or len(others) < 2:
        return
    target, *rest = chance.sample(others, len(others))
    friends = rest[1:2]
    for name in (target, *rest[:1], *rest[2:]):
        for deaf in (leader, *friends):
            world.cut(name, deaf)
    world.ask(leader, lambda raft, now: raft.transfer(now, target))
    for number in range(20):
        world.at(world.now + 0.03 * number, lambda: world.read(leader))


def _recover(world: World) -> None:
    """Peace: a leader emerges, learners get their vote, and what it is given comes out on every member."""
    world.witness.require_committed_kept()
    world.heal()
    start, number = world.now, 0

    def committed() -> bool:
        nonlocal number
        leader = world.leader()
        if leader is not None and world.raft(leader).settled and number == 0:
            number = 1
            world.ask(leader, lambda raft, now: raft.propose(b"peace", now))
        members = world.witness.membership
        settled = leader is not None and world.raft(leader).log.membership == members and not members.learners
        everywhere = settled and all(world.running[n].commit == len(world.witness.committed) for n in members.names)
        done = any(entry.data == b"peace" for entry in world.witness.committed) and everywhere
        if leader is not None and not done and world.raft(leader).settled:
            # A leader that is handing over, or that is being replaced, may lose one; a client asks again.
            number = (number + 1) % 100
        return done

    require(world.run_till(committed, RECOVERY), f"liveness: nothing committed {world.now - start:.1f} s after peace")
    world.witness.require_committed_kept()
    members = [world.running[name] for name in world.witness.membership.names]
    answered = world.run_till(lambda: not any(process.reads for process in members), RECOVERY)
    require(answered, "a read was left without an answer")


@dataclass
class Account:
    """What some histories amount to."""

    seeds: int = 0
    virtual_s: float = 0.0
    messages: int = 0
    committed: int = 0
    members: int = 0
    snapshots: int = 0
    reads: int = 0
    seconds: float = 0.0

    def add(self, other: "Account") -> None:
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def __str__(self) -> str:
        return (
            f"{self.seeds} seeds, {self.virtual_s:.0f} virtual s, {self.messages} messages, "
            f"{self.committed} committed entries ({self.members} of them memberships), "
            f"{self.snapshots} snapshots taken from a leader, {self.reads} reads answered"
        )


def run_many(seeds: range) -> Account:
    """Run histories one after another. Raises AssertionError at the first that is wrong."""
    account, start = Account(), time.perf_counter()
    for seed in seeds:
        world = run(seed)
        committed = world.witness.committed
        members = sum(1 for entry in committed if entry.kind == "members")
        account.add(Account(1, world.now, world.sent, len(committed), members, world.installed, world.answered))
    account.seconds = time.perf_counter() - start
    return account


def main() -> None:
    """Replay one seed with its story, or run many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, and tell its story")
    parser.add_argument("--seeds", type=int, default=1000, help="run so many (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="beginning with this one")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.seed is not None:
        print("\n".join(run(options.seed).trace))
        return
    end = options.first + options.seeds
    parts = [range(first, min(end, first + PART)) for first in range(options.first, end, PART)]
    total, start = Account(), time.perf_counter()
    with ProcessPoolExecutor(options.processes) as pool:
        try:
            for number, account in enumerate(pool.map(run_many, parts), 1):
                total.add(account)
                if number % 10 == 0:
                    print(f"{total.seeds} of {options.seeds} seeds hold", file=sys.stderr, flush=True)
        except AssertionError as error:
            pool.shutdown(cancel_futures=True)
            raise SystemExit(str(error)) from None
    elapsed = time.perf_counter() - start
    print(f"all held: {total}; {total.seeds / elapsed:.1f} seeds/s, {total.seeds / total.seconds:.1f} a process")


if __name__ == "__main__":
    main()
