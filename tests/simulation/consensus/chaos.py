"""One seed, one history: random faults, then peace, in which the cluster must recover.

Replay one with ``python -m tests.simulation.consensus.chaos --seed N``; many with ``--seeds N [--first N]``.
"""

import argparse
import random
import time

from appliance.consensus.messages import Request
from appliance.words.settings import Consensus
from tests.simulation.consensus.invariants import require
from tests.simulation.consensus.world import Faults, World

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
    world.faults = Faults(
        loss=chance.choice([0.0, 0.02, 0.1, 0.3]),
        duplication=chance.choice([0.0, 0.1, 0.5]),
        late=chance.choice([0.0, 0.02, 0.2]),
        delay=chance.choice([0.001, 0.05, 0.3]),
        mesh=chance.choice([0.05, 1.0]),
        disk=chance.choice([0.001, 0.01, 0.1]),
        ambush=chance.choice([0.0, 0.3, 0.8]),
    )
    if chance.random() < 0.3:
        # Leaders that die young and come back: the tails of many terms, in which figure 8 hides.
        world.faults.ambush, world.faults.revive = 0.95, chance.choice([0.2, 1.0])
    kinds = ["crash", "crash", "restart", "restart", "cut", "isolate", "split", "heal links", "pause"]
    kinds = chance.sample(kinds, chance.randint(3, len(kinds)))
    clients = Clients(world, chance)
    for _ in range(chance.randint(5, 40)):
        world.run_until(world.now + chance.expovariate(1 / 0.25))
        _fault(world, chance, chance.choice(kinds))
        for _ in range(chance.randint(0, 3)):
            clients.propose()
        if chance.random() < 0.2:
            world.read(world.leader() or chance.choice(world.names))
        if chance.random() < 0.15:
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


def main() -> None:
    """Replay one seed with its story, or run many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    if options.seed is not None:
        print("\n".join(run(options.seed).trace))
        return
    start = time.monotonic()
    virtual, messages, entries = 0.0, 0, 0
    for seed in range(options.first, options.first + options.seeds):
        world = run(seed)
        virtual, messages = virtual + world.now, messages + world.sent
        entries += len(world.witness.committed)
    elapsed = time.monotonic() - start
    print(f"{options.seeds} seeds held: {options.seeds / elapsed:.1f} seeds/s, {virtual:.0f} virtual s, ", end="")
    print(f"{messages} messages, {entries} committed entries")


if __name__ == "__main__":
    main()
