"""The aggregator under events in any order and of any term: messages overtake each other, threads answer late.

Whatever comes, it never raises, and what it asks for keeps invariants 3 and 4 of design.md.
"""

import math
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from appliance.rounds import actions as do
from appliance.rounds.aggregator import Aggregator
from appliance.rounds.collected import Judged, OpenedUpdate, Phase
from appliance.words.ids import Digest, Monotonic, digest_of
from appliance.words.messages import Stored
from appliance.words.models import GlobalModel, Metrics
from appliance.words.settings import Rounds

MEMBERS = frozenset({"node0", "node1", "node2"})
MAJORITY = 2
ROUNDS = st.integers(4, 6)
TERMS = st.integers(1, 3)
NAMES = ["m2", "m4", "m5", "m5b", "m6"]


def _digest(name: str) -> Digest:
    return digest_of(name.encode())


def _model(round_: int, name: str) -> GlobalModel:
    return GlobalModel(round_, round_, 1, _digest(name), _digest("m4"), 2, 3, 200, 0.5, 1.0, 0.0)


HEAD = _model(4, "m4")
OLD = _model(2, "m2")
BASE = Metrics(0.5, 1.0, 10)

events = st.one_of(
    st.tuples(st.just("lead"), TERMS, st.sampled_from([None, HEAD]), st.booleans()),
    st.tuples(st.just("stop")),
    st.tuples(st.just("key"), TERMS),
    st.tuples(st.just("live"), st.sets(st.sampled_from(["node0", "node1", "node2", "node9"]))),
    st.tuples(st.just("update"), st.integers(0, 4), ROUNDS, st.sampled_from(NAMES), st.sampled_from(["", "bad"])),
    st.tuples(st.just("good update"), st.integers(0, 4)),
    st.tuples(st.just("made"), TERMS, ROUNDS, st.sampled_from(NAMES)),
    st.tuples(st.just("make"), st.sampled_from([0.2, 0.45, 0.6])),
    st.tuples(st.just("roll back")),
    st.tuples(st.just("stored"), st.sampled_from(["node1", "node2", "node9"]), TERMS, ROUNDS, st.sampled_from(NAMES)),
    st.tuples(st.just("failed"), TERMS, ROUNDS),
    st.tuples(st.just("committed")),
    st.tuples(st.just("refused")),
    st.tuples(st.just("hand over")),
    st.tuples(st.just("declined")),
    st.tuples(st.just("has"), st.sampled_from(NAMES)),
    st.tuples(st.just("lost"), st.sampled_from(NAMES)),
    st.tuples(st.just("later"), st.sampled_from([0.1, 1.0, 30.0])),
)


@dataclass
class Watched:
    """An aggregator, what it was told, and what it asked for since its round began."""

    aggregator: Aggregator = field(
        default_factory=lambda: Aggregator(
            "node0",
            "c",
            MEMBERS,
            Rounds(deadline_s=20.0, interval_s=1.0),
            window_s=0.0,
            key_rounds=100,
            most_drop=0.1,
        )
    )
    now: Monotonic = field(default_factory=lambda: Monotonic(100.0))
    term: int = 0
    head: GlobalModel | None = None
    opened: dict[int, OpenedUpdate] = field(default_factory=dict)
    counted: list[OpenedUpdate] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)
    told_stored: set[tuple[str, Stored]] = field(default_factory=set)
    collecting: int | None = None
    goes_back: bool = False
    proposed: GlobalModel | None = None

    def feed(self, event: tuple[object, ...]) -> None:
        """Pass one event in, and check what follows."""
        asked = self._pass(event)
        for action in asked:
            self._check(action)
        wait = self.aggregator.waiting
        assert wait.reason
        assert wait.until is None or math.isfinite(wait.until)

    def _pass(self, event: tuple[object, ...]) -> list[do.AggregatorAction]:
        aggregator, now = self.aggregator, self.now
        match event:
            case ("lead", int(term), head, bool(stored)) if head is None or isinstance(head, GlobalModel):
                if aggregator.phase is not Phase.INACTIVE:
                    return []
                self.term, self.head, self.proposed = self.term + term, head, None
                return aggregator.lead(self.term, head, now, head_is_stored=stored)
            case ("stop",):
                return aggregator.stop(now)
            case ("key", int(term)):
                return aggregator.key_ready(self.term - term + 1, bytes(32), bytes(256), now)
            case ("live", set(live)):
                return aggregator.live_changed(frozenset(live), now)
            case ("update", int(number), int(round_), str(base), str(refusal)):
                return self._update(number, round_, _digest(base), refusal)
            case ("good update", int(number)):
                return self._update(number, self.collecting or 0, self.head.digest if self.head else _digest("m4"), "")
            case ("made", int(term), int(round_), str(name)):
                # Whatever comes late, the thread makes what it was asked for.
                made = OLD.digest if self.goes_back else _digest(name)
                return aggregator.aggregated(self.term - term + 1, round_, Judged(made, BASE), now)
            case ("make", float(accuracy)):
                return self._make(accuracy)
            case ("roll back",) if aggregator.phase is not Phase.INACTIVE and aggregator.rollback is None:
                return aggregator.roll_back(OLD, now)
            case ("stored", str(peer), int(term), int(round_), str(name)):
                answer = Stored(self.term - term + 1, round_, _digest(name))
                self.told_stored.add((peer, answer))
                return aggregator.told(peer, answer, now)
            case ("failed", int(term), int(round_)):
                return aggregator.aggregation_failed(self.term - term + 1, round_, "no space", now)
            case ("committed",) if self.proposed is not None:
                self.head, self.proposed = self.proposed, None
                return aggregator.committed(self.head, now)
            case ("refused",):
                return aggregator.proposal_refused(now)
            case ("hand over",):
                return aggregator.hand_over(now)
            case ("declined",):
                return aggregator.hand_over_declined(now)
            case ("has", str(name)):
                return aggregator.model_stored(_digest(name), now)
            case ("lost", str(name)):
                aggregator.models_dropped(frozenset({_digest(name)}))
                return []
            case ("later", float(seconds)):
                self.now = Monotonic(now + seconds)
                return aggregator.tick(self.now)
        return []

    def _make(self, accuracy: float) -> list[do.AggregatorAction]:
        """Answer what was asked for, with a new model or the old one that is to come back."""
        digest = OLD.digest if self.goes_back else _digest("m5")
        metrics = Metrics(accuracy, 1.0, 10)
        return self.aggregator.aggregated(self.term, self.collecting or 0, Judged(digest, metrics, BASE), self.now)

    def _update(self, number: int, round_: int, base: Digest, refusal: str) -> list[do.AggregatorAction]:
        handle = len(self.opened)
        self.opened[handle] = OpenedUpdate(
            handle, bytes([number]) * 16, bytes([number % 3]) * 32, round_, base, 100, refusal
        )
        return self.aggregator.opened_update(self.opened[handle], self.now)

    def _check(self, action: do.AggregatorAction) -> None:
        match action:
            case do.StartCollecting(term, round_, base, _):
                assert term == self.term
                assert self.head is not None
                assert base == self.head.digest
                self.collecting, self.counted, self.goes_back = round_, [], False
            case do.CreateInitialModel(term):
                assert term == self.term
                self.collecting, self.counted, self.goes_back = 0, [], False
            case do.BringBack(term, round_, digest):
                assert (term, digest) == (self.term, OLD.digest)
                assert self.head is not None
                assert round_ == self.head.round + 1
                self.collecting, self.counted, self.goes_back = round_, [], True
            case do.Count(handle):
                update = self.opened[handle]
                assert self.head is not None
                assert (update.round, update.base, update.refusal) == (self.collecting, self.head.digest, "")
                assert update.update_id not in {other.update_id for other in self.counted}, "invariant 4"
                assert update.token not in {other.token for other in self.counted}, "two updates of one member"
                self.counted.append(update)
            case do.Answer(handle, accepted, reason):
                assert handle not in self.answered
                assert accepted == (reason == "")
                self.answered.add(handle)
            case do.Aggregate(term, round_):
                assert (term, round_) == (self.term, self.collecting)
                assert len(self.counted) >= MAJORITY
            case do.Propose(model):
                self._check_proposal(model)
                self.proposed = model

    def _check_proposal(self, model: GlobalModel) -> None:
        holders = {
            peer
            for peer, answer in self.told_stored
            if (answer.term, answer.round, answer.digest) == (self.term, model.round, model.digest)
        }
        assert len((holders & MEMBERS) | {"node0"}) >= MAJORITY, "invariant 3"
        assert (model.rolled_back_to == OLD.version) is self.goes_back
        if self.goes_back:
            assert model.digest == OLD.digest
        if model.withheld:
            assert model.digest == model.base
        assert (model.term, model.round) == (self.term, self.collecting)
        assert model.base == (None if self.head is None else self.head.digest)
        assert (model.updates, model.samples) == (len(self.counted), 100 * len(self.counted))


WHOLE_ROUND: list[tuple[object, ...]] = [
    *(("lead", 1, HEAD, True), ("key", 1), ("live", {"node1"}), ("good update", 0), ("good update", 1)),
    *(("make", 0.6), ("stored", "node1", 1, 5, "m5"), ("committed",), ("later", 1.0)),
]


@given(st.lists(events, max_size=60))
def test_nothing_that_comes_breaks_a_promise(script: list[tuple[object, ...]]) -> None:
    watched = Watched()
    for event in script:
        watched.feed(event)


@given(st.lists(st.lists(events, max_size=2), min_size=2 * len(WHOLE_ROUND), max_size=2 * len(WHOLE_ROUND)))
def test_nothing_that_comes_between_the_steps_of_rounds_breaks_a_promise(
    between: list[list[tuple[object, ...]]],
) -> None:
    watched = Watched()
    for step, others in zip(2 * WHOLE_ROUND, between, strict=True):
        for event in (step, *others):
            watched.feed(event)


def test_the_watcher_sees_whole_rounds() -> None:
    """The checks above must not pass because nothing ever happens."""
    watched = Watched()
    for event in WHOLE_ROUND[:-2]:
        watched.feed(event)
    assert watched.proposed is not None
    assert len(watched.counted) == 2
    for event in WHOLE_ROUND[-2:]:
        watched.feed(event)
    assert watched.collecting == 6
