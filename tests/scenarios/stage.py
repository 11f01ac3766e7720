"""The stage: nodes of one cluster, each with the two cores of a round, and the commands that a script may give.

The names of a script stand for values: ``m4`` is the model of round 4 (``m4b`` another one), ``u1`` an update,
``k1`` a leader's key. Nothing is carried between the nodes: what one hears is what the script says that it hears.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import get_args

import msgspec

from appliance.rounds import actions as do
from appliance.rounds.aggregator import Aggregator
from appliance.rounds.collected import Judged, OpenedUpdate
from appliance.rounds.participant import FinishedUpdate, Participant
from appliance.rounds.training import Closed
from appliance.words.ids import Digest, Monotonic, NodeName, digest_of, short
from appliance.words.messages import Announcement, Candidate, Finished, Opening, Participation, Stored, TokenWanted
from appliance.words.models import Encoding, GlobalModel, Metrics
from appliance.words.settings import Rounds
from tests.scenarios.tell import tell, tell_wait

_CLUSTER = re.compile(
    r"a cluster of (\d+), deadline ([\d.]+) s, interval ([\d.]+) s(?:, quorum (\d+))?"
    r"(?:, window ([\d.]+) s)?(?:, a key for (\d+) rounds)?(?:, in (\w+))?(?:, most drop ([\d.]+))?"
    r"(?:, a model takes ([\d.]+) s)?"
)
SAMPLES = 100
FEW_TIMES = 8

Lines = Sequence[str]
Command = Callable[["Stage", "Node", re.Match[str]], Iterable[do.Action]]
_commands: list[tuple[re.Pattern[str], Command]] = []


def command(pattern: str) -> Callable[[Command], Command]:
    """Register what a sentence does."""

    def register(play: Command) -> Command:
        _commands.append((re.compile(pattern), play))
        return play

    return register


@dataclass
class Node:
    """One node's two cores, and what the script said last to it."""

    name: NodeName
    aggregator: Aggregator
    participant: Participant
    leader: NodeName = "node0"
    term: int = 0
    key: str = "k1"


@dataclass
class Stage:
    """All nodes of a script, one clock, and the names of things."""

    now: Monotonic = field(default_factory=lambda: Monotonic(1000.0))
    names: dict[object, str] = field(default_factory=dict)
    nodes: dict[NodeName, Node] = field(default_factory=dict)
    size: int = 5
    settings: Rounds = field(default_factory=lambda: Rounds(deadline_s=60.0, interval_s=10.0))
    window_s: float = 0.0
    transfer_s: float = 0.0
    key_rounds: int = 100
    encoding: Encoding = "float32"
    most_drop: float = 1.0
    tokens_are_slow: bool = False

    def play(self, line: str) -> Lines:
        """Do what one line says; return what follows from it."""
        if found := _CLUSTER.fullmatch(line):
            quorum = None if found[4] is None else int(found[4])
            self.size = int(found[1])
            self.settings = Rounds(quorum=quorum, deadline_s=float(found[2]), interval_s=float(found[3]))
            self.window_s, self.key_rounds = float(found[5] or 0), int(found[6] or 100)
            self.encoding = encoding_of(found[7])
            self.most_drop = float(found[8] or 1)
            self.transfer_s = float(found[9] or 0)
            return []
        if line == "tokens take a moment":
            self.tokens_are_slow = True
            return []
        if found := re.fullmatch(r"after ([\d.]+) s", line):
            return self._after(float(found[1]))
        if found := re.fullmatch(r"status of (node\d)", line):
            return self._status(self._node(found[1]))
        if found := re.fullmatch(r"(node\d): (.*)", line):
            node = self._node(found[1])
            for pattern, play in _commands:
                if sentence := pattern.fullmatch(found[2]):
                    return self._told(node, play(self, node, sentence))
        raise LookupError(f"no such command: {line}")

    # --- time and state ----------------------------------------------------------------------------------------------

    def _after(self, seconds: float) -> Lines:
        """Tick all nodes each second. The same words again and again are one line, with their times."""
        begin, times = self.now, dict[str, list[float]]()
        while self.now < begin + seconds:
            self.now = Monotonic(min(self.now + 1.0, begin + seconds))
            for node in self.nodes.values():
                for line in self._told(node, [*node.aggregator.tick(self.now), *node.participant.tick(self.now)]):
                    times.setdefault(line, []).append(self.now - begin)
        return [f"{_when(at)} {line}" for line, at in times.items()]

    def _status(self, node: Node) -> Lines:
        both = (("aggregator", node.aggregator.waiting), ("participant", node.participant.waiting))
        return [f"{node.name} {who}: {self._named(tell_wait(wait, self.now))}" for who, wait in both]

    def _told(self, node: Node, actions: Iterable[do.Action]) -> Lines:
        lines: list[str] = []
        for action in actions:
            answer = self._token_work(node, action)
            if not isinstance(action, do.AskToken) or answer is None:
                lines.append(f"{node.name}: {self._named(tell(action, self._name))}")
            lines += self._told(node, answer or [])
        return lines

    def _token_work(self, node: Node, action: do.Action) -> Iterable[do.Action] | None:
        """Do at once what takes the shells a moment, unless the script is about that moment."""
        if self.tokens_are_slow:
            return None
        if isinstance(action, do.StartCollecting):
            return node.aggregator.round_begun(action.term, action.round, self.token_key(f"t{action.round}"), self.now)
        if isinstance(action, do.AskToken):
            return node.participant.token_received(action.token_key, self.now)
        return None

    def _named(self, text: str) -> str:
        """Put the script's names where a sentence for people shows the beginning of a digest."""
        for digest, name in self.names.items():
            if isinstance(digest, str):
                text = text.replace(short(digest), name)
        return text

    # --- names -------------------------------------------------------------------------------------------------------

    def _node(self, name: NodeName) -> Node:
        if name not in self.nodes:
            members = frozenset(f"node{number}" for number in range(self.size))
            aggregator = Aggregator(
                name,
                "scenario",
                members,
                self.settings,
                window_s=self.window_s,
                transfer_s=self.transfer_s,
                key_rounds=self.key_rounds,
                encoding=self.encoding,
                most_drop=self.most_drop,
            )
            participant = Participant(None, frozenset(), self.now, window_s=self.window_s, transfer_s=self.transfer_s)
            self.nodes[name] = Node(name, aggregator, participant)
        return self.nodes[name]

    def _name(self, value: object) -> str:
        return self.names[value]

    def digest(self, name: str) -> Digest:
        """Return the digest that a model's name stands for."""
        digest = digest_of(name.encode())
        self.names[digest] = name
        return digest

    def update_id(self, name: str) -> bytes:
        """Return the id that an update's name stands for."""
        return self._identifier(name, 16)

    def key_id(self, name: str) -> bytes:
        """Return the id that a key's name stands for."""
        return self._identifier(name, 32)

    def token_key(self, name: str) -> bytes:
        """Return the key that a token key's name stands for."""
        key = hashlib.shake_256(name.encode()).digest(256)
        self.names[key] = name
        return key

    def token(self, name: str) -> bytes:
        """Return what identifies a token; ``nothing`` is none."""
        return b"" if name == "nothing" else self._identifier(name, 32)

    def _identifier(self, name: str, size: int) -> bytes:
        identifier = hashlib.sha256(name.encode()).digest()[:size]
        self.names[identifier] = name
        return identifier

    def kept(self, name: str, round_: str, base: str) -> FinishedUpdate:
        """Return a finished update."""
        return FinishedUpdate(self.update_id(name), int(round_), self.digest(base))

    def model(self, name: str, term: int = 1) -> GlobalModel:
        """Return the lineage's entry for a model: ``m4`` is of round 4, on ``m3``."""
        round_ = round_of(name)
        base = self.digest(f"m{round_ - 1}") if round_ else None
        return GlobalModel(round_, round_, term, self.digest(name), base, 3, 5, 300, 0.5, 1.0, 0.0)

    def handle(self, update: str) -> int:
        """Return a new handle for an opened update."""
        handle = len(self.names) + 1
        self.names[handle] = update
        return handle


def round_of(model: str) -> int:
    """Return the round of a model's name."""
    found = re.match(r"m(\d+)", model)
    if found is None:
        raise LookupError(f"{model} is no model's name, such as m4")
    return int(found[1])


def encoding_of(word: str | None) -> Encoding:
    """Return the encoding that a script names; the exact one if it names none."""
    found = next((each for each in get_args(Encoding) if each == (word or "float32")), None)
    if found is None:
        raise LookupError(f"{word} is no encoding")
    return found  # type: ignore[no-any-return]


def _when(times: list[float]) -> str:
    if len(times) > FEW_TIMES:
        return f"+{times[0]:g} to +{times[-1]:g} s, {len(times)} times,"
    return f"{' '.join(f'+{at:g}' for at in times)} s"


# --- what the aggregator is told -------------------------------------------------------------------------------------


@command(r"leads term (\d+) from (m\w+|nothing)(, whose bytes are missing)?")
def _lead(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    node.term = int(said[1])
    head = None if said[2] == "nothing" else stage.model(said[2])
    return node.aggregator.lead(node.term, head, stage.now, head_is_stored=head is not None and said[3] is None)


@command(r"leads no more")
def _stop(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.aggregator.stop(stage.now)


@command(r"its key (k\w+)(?: of term (\d+))? is made")
def _key_made(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    term = int(said[2] or node.term)
    return node.aggregator.key_ready(term, stage.key_id(said[1]), b"k" * 300, stage.now)


@command(r"live peers are (nobody|node.*)")
def _live(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    live = frozenset[str]() if said[1] == "nobody" else frozenset(said[1].split())
    return node.aggregator.live_changed(live, stage.now)


@command(r"opens (u\w+)(?: with (\w+))? for round (\d+) on (m\w+)(?:, which (.*))?")
def _opens_update(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    token = stage.token(said[2] or f"token of {said[1]}")
    update = OpenedUpdate(
        stage.handle(said[1]),
        stage.update_id(said[1]),
        token,
        int(said[3]),
        stage.digest(said[4]),
        SAMPLES,
        said[5] or "",
    )
    return node.aggregator.opened_update(update, stage.now)


@command(r"has made (m\w+)(?: in term (\d+))?(?:: accuracy ([\d.]+), (m\w+) has ([\d.]+))?")
def _made(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    term = int(said[2] or node.term)
    metrics = Metrics(float(said[3] or 0.9), 0.3, 1000)
    base = None if said[5] is None else Metrics(float(said[5]), 0.2, 1000)
    return node.aggregator.aggregated(term, round_of(said[1]), Judged(stage.digest(said[1]), metrics, base), stage.now)


@command(r"is asked to go back to (m\w+)")
def _roll_back(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.aggregator.roll_back(stage.model(said[1]), stage.now)


@command(r"has brought back (m\w+) for round (\d+)(?: in term (\d+))?")
def _brought_back(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    term, metrics = int(said[3] or node.term), Metrics(0.5, 0.9, 1000)
    base = Metrics(0.9, 0.3, 1000)
    return node.aggregator.aggregated(term, int(said[2]), Judged(stage.digest(said[1]), metrics, base), stage.now)


@command(r"can't aggregate round (\d+): (.*)")
def _failed(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.aggregator.aggregation_failed(node.term, int(said[1]), said[2], stage.now)


@command(r"hears that (\w+) stored (m\w+)(?: of round (\d+))?(?: in term (\d+))?")
def _peer_stored(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    answer = Stored(int(said[4] or node.term), int(said[3] or round_of(said[2])), stage.digest(said[2]))
    return node.aggregator.told(said[1], answer, stage.now)


@command(r"its token key of round (\d+) is made")
def _begun(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.aggregator.round_begun(node.term, int(said[1]), stage.token_key(f"t{said[1]}"), stage.now)


@command(r"hears that (node\d) wants its token of round (\d+)")
def _token_wanted(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.aggregator.told(said[1], TokenWanted(node.term, int(said[2]), bytes(256)), stage.now)


@command(r"gets its token of round (\d+)")
def _token(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.participant.token_received(stage.token_key(f"t{said[1]}"), stage.now)


@command(r"its proposal is refused")
def _proposal_refused(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.aggregator.proposal_refused(stage.now)


@command(r"is to hand over")
def _hand_over(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.aggregator.hand_over(stage.now)


@command(r"has nobody to hand over to")
def _declined(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.aggregator.hand_over_declined(stage.now)


# --- what both are told ----------------------------------------------------------------------------------------------


@command(r"has stored (m\w+)")
def _stored(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    digest = stage.digest(said[1])
    return [*node.aggregator.model_stored(digest, stage.now), *node.participant.model_stored(digest, stage.now)]


@command(r"(m\w+) is committed")
def _committed(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    model = stage.model(said[1], node.term)
    return [*node.aggregator.committed(model, stage.now), *node.participant.committed(model, stage.now)]


@command(r"(m\w+) is committed again in round (\d+)")
def _committed_again(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    version, old = int(said[2]), stage.model(said[1], node.term)
    base = stage.digest(f"m{version - 1}")
    model = msgspec.structs.replace(old, version=version, round=version, base=base, rolled_back_to=old.version)
    return [*node.aggregator.committed(model, stage.now), *node.participant.committed(model, stage.now)]


@command(r"round (\d+) is committed without a new model")
def _withheld(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    version = int(said[1])
    base = stage.digest(f"m{version - 1}")
    model = msgspec.structs.replace(
        stage.model(f"m{version}", node.term), digest=base, withheld="it is worse than its base"
    )
    return [*node.aggregator.committed(model, stage.now), *node.participant.committed(model, stage.now)]


# --- what the participant is told ------------------------------------------------------------------------------------


@command(r"starts with (m\w+|no model)(?: and (u\w+) for round (\d+) on (m\w+))?")
def _starts(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    kept = None if said[2] is None else stage.kept(said[2], said[3], said[4])
    stored = frozenset[Digest]() if said[1] == "no model" else frozenset({stage.digest(said[1])})
    node.participant = Participant(kept, stored, stage.now, window_s=stage.window_s, transfer_s=stage.transfer_s)
    if said[1] == "no model":
        return []
    return node.participant.committed(stage.model(said[1]), stage.now)


@command(r"follows (node\d|nobody)(?: in term (\d+))?")
def _follows(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    node.leader, node.term = said[1], int(said[2] or node.term)
    return node.participant.leader_changed(stage.now)


@command(r"hears the key (k\w+)")
def _hears_key(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    node.key = said[1]
    announcement = Announcement("scenario", node.leader, node.term, stage.key_id(said[1]), b"k" * 300)
    return node.participant.announced(announcement, stage.now)


@command(
    r"hears that round (\d+) is open on (m\w+)(?: under (k\w+))?(?:, (\d+) of (\d+) updates)?(?:, in (\w+))?"
    r"(, to be delivered later)?"
)
def _hears_opening(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    opening = Opening(
        cluster="scenario",
        leader=node.leader,
        term=node.term,
        round=int(said[1]),
        base_version=round_of(said[2]),
        base=stage.digest(said[2]),
        key_id=stage.key_id(said[3] or node.key),
        accepted=int(said[4] or 0),
        expected=int(said[5] or stage.size),
        quorum=stage.settings.quorum or stage.size // 2 + 1,
        deadline_s=stage.settings.deadline_s,
        token_key=stage.token_key(f"t{said[1]}"),
        deliver=said[7] is None,
        encoding=encoding_of(said[6]),
    )
    return node.participant.opened(opening, stage.now)


@command(r"is asked to store (m\w+)(?: for round (\d+))?(, with its body)?")
def _candidate(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    round_ = int(said[2] or round_of(said[1]))
    candidate = Candidate("scenario", node.leader, node.term, round_, round_, stage.digest(said[1]))
    return node.participant.candidate(candidate, stage.now, with_body=said[3] is not None)


@command(r"can't open the body of (m\w+)")
def _unreadable(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.participant.candidate_unreadable(stage.digest(said[1]), stage.now)


@command(r"finds (m\w+) damaged")
def _damaged(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    digests = frozenset({stage.digest(said[1])})
    node.participant.models_dropped(digests)
    node.aggregator.models_dropped(digests)
    return []


@command(r"has trained (u\w+) for round (\d+) on (m\w+)")
def _trained(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.participant.trained(stage.kept(said[1], said[2], said[3]), stage.now)


@command(r"can't train: (.*)")
def _training_failed(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.participant.training_failed(said[1], stage.now)


@command(r"hears that (node\d) (can|can't) take part in round (\d+)(?:, term (\d+))?")
def _participation(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    message = Participation(int(said[4] or node.term), int(said[3]), said[2] == "can")
    return node.aggregator.told(said[1], message, stage.now)


@command(r"hears that (node\d) has finished round (\d+)")
def _finished(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.aggregator.told(said[1], Finished(node.term, int(said[2])), stage.now)


@command(r"can't store a model")
def _storing_failed(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.participant.storing_failed(stage.now)


@command(r"is outside its training hours, until (\d\d:\d\d), in (\d+) s")
def _closed(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.participant.hours_changed(Closed(said[1], Monotonic(stage.now + float(said[2]))), stage.now)


@command(r"is within its training hours")
def _open(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.participant.hours_changed(None, stage.now)


@command(r"has stopped training")
def _training_stopped(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    return node.participant.training_stopped(stage.now)


@command(r"gets a receipt for (u\w+)(?: under (k\w+))?(?:: refused, (.*))?")
def _receipt(stage: Stage, node: Node, said: re.Match[str]) -> Iterable[do.Action]:
    update_id, key_id = stage.update_id(said[1]), stage.key_id(said[2] or node.key)
    return node.participant.received(update_id, key_id, stage.now, accepted=said[3] is None, reason=said[3] or "")
