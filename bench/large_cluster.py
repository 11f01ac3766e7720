"""Rounds of a large model on real nodes: seconds of each phase, and memory of each node.

    python -m bench.large_cluster [--millions 100] [--nodes 5] [--rounds 3] [--election-timeout 0.5] [--out FILE]

Real node processes in namespaces of their own (``bench.alone``), with a network of so many parameters
(``bench.networks``) on the embedded digits, one epoch a round, back to back, delivered as is the default: along stems,
within 2 s of when all have finished. All nodes share the machine's cores: a phase takes longer than on machines of
their own, and a node may hear its leader too late. Each node's status is looked at ten times a second; a phase is what
it says that it does or waits for. Figures are medians over the rounds but the first, and over the nodes; silence is the
longest that a status took to come, the worst of all nodes and rounds.

Memory is what the kernel saw at most (VmHWM, set back when a node begins or ends its training), in two parts: while a
node trains and keeps its update, and all the other time, when it sends its update, hands on others' or, as the leader,
collects all of them and makes the next model. Files that are mapped count, though the system could take that back.

A Markdown table on standard output, JSON in FILE, progress on standard error.
"""

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from appliance.local.ports import free_base_port
from appliance.local.processes import Cluster, NodeProcess
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.operator_api.views import Status
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName, Round
from appliance.words.settings import Consensus, Envelopes, Rounds
from bench import alone, networks

POLL_S = 0.1
ROUND_WITHIN_S = 600.0
BYTES_A_PARAMETER = 4
PHASES = {
    "training": "each node trains, and keeps its update on disk",
    "waiting for the leader's receipt": "seals it and sends it, until its receipt is there",
    "waiting for updates": "the leader collects, once nobody trains any more",
    "aggregating": "the leader aggregates and judges",
    "waiting for a majority": "the candidate goes to all, until a majority has it on disk",
    "committing": "consensus commits it",
}


@dataclass
class Watched:
    """What was seen of one node.

    Attributes:
        seconds: by round and phase.
        training_mb, after_mb: the most that the process held, by round, until its update was kept and from then on.
        silence_s: the longest that a status took to come.
    """

    name: NodeName
    seconds: dict[Round, dict[str, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    training_mb: dict[Round, float] = field(default_factory=lambda: defaultdict(float))
    after_mb: dict[Round, float] = field(default_factory=lambda: defaultdict(float))
    leads_in: set[Round] = field(default_factory=set)
    silence_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What the run gave; memory is the most of all nodes and rounds but the first.

    Attributes:
        beyond_mb: by how much a leader's peak after its training exceeds that of its training, in the same round.
    """

    round_s: float
    phases: dict[str, float]
    training_mb: float
    leader_mb: float
    beyond_mb: float
    others_mb: float
    bytes_mb: float
    silence_s: float
    term: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=100, help="parameters, in millions")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="at least 2")
    parser.add_argument("--election-timeout", type=float, default=0.5, help="seconds")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    alone.exit_when_terminated()
    try:
        if not alone.is_inside():
            sys.exit(alone.run_again("bench.large_cluster"))
        alone.end_with_the_outside()
        before = alone.load()
        measured = measure(arguments.millions, arguments.nodes, arguments.rounds, arguments.election_timeout)
    except OperatorError as error:
        sys.exit(str(error))
    megabytes = arguments.millions * BYTES_A_PARAMETER
    print(
        f"{arguments.millions} M parameters ({megabytes:,} MB), {arguments.nodes} nodes, load {before:.1f} to "
        f"{alone.load():.1f}, last term {measured.term}\n\n{table(measured, megabytes)}"
    )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(dataclasses.asdict(measured), indent=2) + "\n")


def measure(millions: int, nodes: int, rounds: int, election_timeout_s: float) -> Measured:
    """Run a cluster for the rounds. Raises OperatorError if they don't come."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, alone.nothing_left():
        plan = ClusterPlan(
            nodes=nodes,
            base_port=free_base_port(nodes),
            consensus=Consensus(heartbeat_interval_s=election_timeout_s / 20, election_timeout_s=election_timeout_s),
            rounds=Rounds(interval_s=0.0, deadline_s=ROUND_WITHIN_S, quorum=nodes),
            task=networks.setting("wide", millions=millions),
            # A member's bytes on their way are held to one message of the largest size: room for two of its envelopes.
            envelopes=Envelopes(max_message_mib=16 + 2 * millions * BYTES_A_PARAMETER),
        )
        with Cluster.running(create_cluster(Path(folder) / "cluster", plan)) as cluster:
            watched, megabytes = _watch(cluster, rounds)
            lineage = cluster.nodes[0].lineage()
    seen = range(2, rounds + 1)
    leaders = [(one, number) for one in watched for number in seen if number in one.leads_in]
    return Measured(
        round_s=statistics.median(model.duration_s for model in lineage if model.round in seen),
        phases={phase: _typical(one.seconds[number][phase] for one in watched for number in seen) for phase in PHASES},
        training_mb=max(one.training_mb[number] for one in watched for number in seen),
        leader_mb=max(one.after_mb[number] for one, number in leaders),
        beyond_mb=max(0.0, *(one.after_mb[number] - one.training_mb[number] for one, number in leaders)),
        others_mb=max(one.after_mb[number] for one in watched for number in seen if number not in one.leads_in),
        bytes_mb=megabytes,
        silence_s=max(one.silence_s for one in watched),
        term=lineage[-1].term,
    )


def _typical(seconds: Iterable[float]) -> float:
    """Return the median of those who were in the phase at all."""
    return statistics.median([second for second in seconds if second > 0] or [0.0])


def _watch(cluster: Cluster, rounds: int) -> tuple[list[Watched], float]:
    """Follow all nodes until the rounds are over; return what was seen, and MB on the wire a round but the first."""
    ended = threading.Event()
    with ThreadPoolExecutor(len(cluster.nodes), "watch") as threads:
        try:
            following = [threads.submit(_follow, node, ended) for node in cluster.nodes]
            _until_committed(cluster, 1)
            sent = alone.loopback_bytes()
            _until_committed(cluster, rounds)
            sent = alone.loopback_bytes() - sent
        finally:
            ended.set()
        return [future.result() for future in following], sent / 1e6 / (rounds - 1)


def _until_committed(cluster: Cluster, round_: Round) -> None:
    end, seen = time.monotonic() + ROUND_WITHIN_S * (round_ + 1), None
    while time.monotonic() < end:
        time.sleep(POLL_S)
        if gone := [node for node in cluster.nodes if not node.is_running]:
            raise OperatorError(f"{gone[0].name} ended:\n{gone[0].last_lines(10)}")
        status = cluster.nodes[0].status()
        if status is None or status.model is None:
            continue
        if status.model.version != seen:
            seen = status.model.version
            print(f"version {seen} of {round_} (load {alone.load():.1f})", file=sys.stderr, flush=True)
        if status.model.version >= round_:
            return
    raise OperatorError(f"round {round_} was not committed:\n{cluster.nodes[0].last_lines(10)}")


def _follow(node: NodeProcess, ended: threading.Event) -> Watched:
    """Look at a node's status again and again."""
    watched = Watched(node.name)
    before, number, trains = time.monotonic(), 0, False
    while not ended.wait(POLL_S):
        asked = time.monotonic()
        status = node.status()
        now = time.monotonic()
        if number or status is not None:  # it has begun to answer
            watched.silence_s = max(watched.silence_s, now - asked)
        if status is None:
            continue
        phases = _phases(status)
        if status.round != number or ("training" in phases) != trains:
            _note_peak(watched, number, trains=trains, megabytes=_take_peak_mb(node))
            number, trains = status.round, "training" in phases
        for phase in phases:
            watched.seconds[number][phase] += now - before
        if status.role == "leader":
            watched.leads_in.add(number)
        before = now
    _note_peak(watched, number, trains=trains, megabytes=_take_peak_mb(node))
    return watched


def _note_peak(watched: Watched, number: Round, *, trains: bool, megabytes: float) -> None:
    peaks = watched.training_mb if trains else watched.after_mb
    peaks[number] = max(peaks[number], megabytes)


def _phases(status: Status) -> list[str]:
    """Return what the node does, in the words of ``PHASES``. An aggregator that works and does not wait is silent."""
    found = [phase for phase in PHASES for wait in status.waiting if wait.reason.startswith(phase)]
    waits = any(wait.who == "aggregator" for wait in status.waiting)
    return found if status.role != "leader" or waits else [*found, "aggregating"]


def _take_peak_mb(node: NodeProcess) -> float:
    """Return what a process held at most since the last time."""
    assert node.process is not None
    folder = Path(f"/proc/{node.process.pid}")
    with contextlib.suppress(OSError):  # it has ended
        lines = (folder / "status").read_text().splitlines()
        (folder / "clear_refs").write_text("5")  # sets VmHWM back to what is held now (proc(5))
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    return 0.0


def table(measured: Measured, model_mb: float) -> str:
    """Return a round's phases and its memory as a Markdown table."""
    rows: Sequence[tuple[str, str]] = [
        *((what, f"{measured.phases[phase]:.1f} s") for phase, what in PHASES.items()),
        ("a round", f"{measured.round_s:.1f} s"),
        ("on the wire, a round", f"{measured.bytes_mb:,.0f} MB"),
        ("a status took at most", f"{measured.silence_s:.2f} s"),
        *(
            (f"{what}, the most", f"{megabytes:,.0f} MB, {megabytes / model_mb:.1f} models")
            for what, megabytes in (
                ("a node's peak while it trains", measured.training_mb),
                ("a follower's after that", measured.others_mb),
                ("the leader's after that", measured.leader_mb),
                ("the leader's after that, beyond its own while it trained", measured.beyond_mb),
            )
        ),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)])


if __name__ == "__main__":
    main()
