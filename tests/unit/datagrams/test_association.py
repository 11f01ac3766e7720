"""Two nodes that meet, restart, and are lied to by somebody who recorded everything."""

import random
from collections import Counter
from itertools import count

import pytest

from appliance.datagrams.association import HELLO_EVERY, WINDOW, Association, ReplayWindow
from appliance.datagrams.sealing import Header, Kind, Refusal, RefusedError, parse, tag_of
from appliance.words.ids import Monotonic, NodeName

SECRET = bytes(range(32))
OTHER = {"a": "b", "b": "a"}


class Pair:
    """Two associations, the link between them, and all that ever went over it."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.now = Monotonic(0.0)
        self.recorded: list[tuple[NodeName, bytes]] = []
        self.on_their_way: list[tuple[NodeName, bytes]] = []
        self.delivered: Counter[bytes] = Counter()
        self.refused: Counter[Refusal] = Counter()
        self.numbers = count()
        self.sides: dict[NodeName, Association] = {}
        for name in OTHER:
            self.start(name)

    def start(self, name: NodeName) -> None:
        self.sides[name] = Association(
            cluster="test", me=name, peer=OTHER[name], secret=SECRET, random=self.chance.randbytes
        )

    def say(self, name: NodeName) -> bytes:
        """Have a side send a content that was never sent before."""
        content = b"%d from %s" % (next(self.numbers), name.encode())
        datagram = self.sides[name].seal(content, self.now)
        self._take_outbox(name)
        if datagram is not None:
            self._throw(OTHER[name], datagram)
        return content

    def _take_outbox(self, name: NodeName) -> None:
        for datagram in self.sides[name].outbox:
            self._throw(OTHER[name], datagram)
        self.sides[name].outbox = []

    def _throw(self, to: NodeName, datagram: bytes) -> None:
        self.recorded.append((to, datagram))
        self.on_their_way.append((to, datagram))

    def arrive(self, to: NodeName, datagram: bytes) -> None:
        try:
            content = self.sides[to].open(*parse(datagram), self.now)
        except RefusedError as refused:
            self.refused[refused.refusal] += 1
        else:
            if content is not None:
                self.delivered[content] += 1
        self._take_outbox(to)

    def settle(self) -> int:
        """Deliver in order until nothing is on its way; return how many datagrams that took."""
        taken = 0
        while self.on_their_way:
            self.arrive(*self.on_their_way.pop(0))
            taken += 1
            assert taken < 100, "they greet each other for ever"
        return taken

    def wait(self) -> None:
        self.now = Monotonic(self.now + HELLO_EVERY)

    def talks(self) -> bool:
        """Say whether what each side says next reaches the other."""
        said = [self.say("a"), self.say("b")]
        self.settle()
        return all(self.delivered[content] == 1 for content in said)

    def meet(self) -> None:
        self.say("a")
        self.settle()
        assert self.talks()


def test_two_nodes_meet_in_four_datagrams() -> None:
    pair = Pair()
    pair.say("a")
    assert pair.settle() == 4
    assert [parse(datagram)[0].kind for _, datagram in pair.recorded] == [
        Kind.HELLO,
        Kind.HELLO,
        Kind.BOUND_HELLO,
        Kind.BOUND_HELLO,
    ]
    assert pair.talks()
    assert not pair.refused


def test_both_may_start_at_once() -> None:
    pair = Pair()
    pair.say("a")
    pair.say("b")
    pair.settle()
    assert pair.talks()


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_restart_is_noticed_by_whoever_speaks_first(name: NodeName) -> None:
    for speaker in "ab":
        pair = Pair()
        pair.meet()
        pair.start(name)
        pair.wait()
        pair.say(speaker)
        pair.settle()
        assert pair.talks()


def test_what_was_recorded_changes_nothing_after_either_side_restarted() -> None:
    """Nor before: each content comes once."""
    pair = Pair()
    pair.meet()
    for name in ("a", "b", "a", "b"):
        pair.start(name)
        for to, datagram in list(pair.recorded):
            pair.arrive(to, datagram)
            pair.wait()
        pair.on_their_way.clear()
        pair.wait()
        pair.say("a")
        pair.settle()
        assert pair.talks()
    assert set(pair.delivered.values()) == {1}
    assert pair.refused[Refusal.STALE] > 0
    assert pair.refused[Refusal.REPLAY] > 0


@pytest.mark.parametrize("seed", range(300))
def test_nothing_comes_twice_and_the_two_find_each_other_again(seed: int) -> None:
    """A link that loses, doubles and reorders; restarts; and an attacker who sends again what there ever was."""
    pair = Pair(seed)
    chance = random.Random(f"attack {seed}")
    for _ in range(150):
        what = chance.random()
        if what < 0.4:
            pair.say(chance.choice("ab"))
        elif what < 0.75 and pair.on_their_way:
            place = chance.randrange(len(pair.on_their_way))
            to, datagram = pair.on_their_way[place]
            if chance.random() < 0.8:
                del pair.on_their_way[place]
            if chance.random() < 0.9:
                pair.arrive(to, datagram)
        elif what < 0.9 and pair.recorded:
            for to, datagram in chance.choices(pair.recorded, k=chance.randint(1, 10)):
                pair.arrive(chance.choice([to, OTHER[to]]), datagram)
        elif what < 0.93:
            pair.start(chance.choice("ab"))
        else:
            pair.now = Monotonic(pair.now + chance.uniform(0, 2 * HELLO_EVERY))
        assert not pair.delivered or max(pair.delivered.values()) == 1
    pair.on_their_way.clear()
    for _ in range(3):  # at most: one side has to notice that the other's token is gone, and ask
        pair.wait()
        pair.say("a")
        pair.say("b")
        pair.settle()
    assert pair.talks()
    assert max(pair.delivered.values()) == 1


def test_a_flood_of_old_datagrams_is_not_answered_by_another() -> None:
    pair = Pair()
    pair.meet()
    pair.start("b")
    old = [datagram for to, datagram in pair.recorded if to == "b"]
    before = len(pair.recorded)
    for _ in range(1000):
        for datagram in old:
            pair.arrive("b", datagram)
    assert len(pair.recorded) - before <= 4


@pytest.mark.parametrize("flood", ["forged", "replayed"])
def test_a_flood_does_not_keep_two_from_meeting_again(flood: str) -> None:
    """A hundred rubbish datagrams to each side before each honest one; those that are recorded, of many restarts."""
    pair = Pair()
    for name in "abababab":
        pair.start(name)
        pair.wait()
        pair.meet()
    recorded, chance = list(pair.recorded), random.Random(flood)
    pair.start("b")
    pair.on_their_way.clear()
    met_after = 0
    while not pair.talks():
        met_after += 1
        assert met_after <= 3
        pair.wait()
        for to, datagram in chance.choices(recorded, k=200):
            forged = parse(datagram)[0].encode() + chance.randbytes(40)
            pair.arrive(to, forged if flood == "forged" else datagram)


def test_a_forger_without_the_secret_moves_nothing() -> None:
    pair = Pair()
    pair.meet()
    a = pair.sides["a"]
    state = (a._proven, a._token, a._challenge, a._session)
    for kind in Kind:
        for session in (bytes(8), pair.sides["b"]._session):
            for token in (bytes(8), pair.sides["b"]._token or b""):
                header = Header(kind, tag_of("b"), session, token, 2**32 - 1)
                with pytest.raises(RefusedError):
                    a.open(header, bytes(40), pair.now)
    assert (a._proven, a._token, a._challenge, a._session) == state


def test_a_state_that_was_restored_or_emptied_does_no_harm() -> None:
    """No counter has to survive: a node that begins again with nothing is let in at once."""
    pair = Pair()
    for _ in range(5):
        pair.start("a")
        pair.wait()
        pair.meet()


def test_a_session_that_has_used_its_counter_up_begins_anew() -> None:
    pair = Pair()
    pair.meet()
    pair.sides["a"]._counter = 2**32 - 1
    session = pair.sides["a"]._session
    pair.wait()
    pair.say("a")
    pair.settle()
    assert pair.sides["a"]._session != session
    assert pair.talks()


@pytest.mark.parametrize("seed", range(20))
def test_the_window_equals_a_slow_reference(seed: int) -> None:
    chance = random.Random(seed)
    window, seen, newest = ReplayWindow(), set[int](), 0
    for _ in range(2000):
        counter = max(1, newest + chance.randint(-WINDOW - 20, chance.choice([3, 3, 3, WINDOW + 100])))
        expected = counter not in seen and counter > newest - WINDOW
        assert window.accept(counter) is expected
        if expected:
            seen.add(counter)
            newest = max(newest, counter)
