"""The bad network is as bad as it is told to be, and no worse."""

import contextlib
import itertools
import socket
from collections.abc import Iterator

import pytest

from appliance.words.settings import Cluster, Member
from tests.process.udp_proxy import HOST, Quality, UdpProxy

WITHIN_S = 10.0
SILENCE_S = 0.2


@pytest.fixture
def ends() -> Iterator[dict[str, socket.socket]]:
    """Three sockets in the place of nodes."""
    with contextlib.ExitStack() as stack:
        sockets = {}
        for name in ("a", "b", "c"):
            end = sockets[name] = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            end.bind((HOST, 0))
            end.settimeout(WITHIN_S)
        yield sockets


def proxy(ends: dict[str, socket.socket], seed: int = 1, quality: Quality | None = None) -> UdpProxy:
    ports = {name: end.getsockname()[1] for name, end in ends.items()}
    return UdpProxy(ports, seed=seed, quality=quality or Quality())


def received(end: socket.socket, count: int | None = None) -> list[int]:
    """Return the numbers that came: so many, or all until it is silent."""
    numbers: list[int] = []
    end.settimeout(WITHIN_S if count is not None else SILENCE_S)
    with contextlib.suppress(TimeoutError):
        while count is None or len(numbers) < count:
            numbers.append(int(end.recv(100)))
    return numbers


def send(ends: dict[str, socket.socket], network: UdpProxy, sender: str, receiver: str, count: int) -> None:
    for number in range(count):
        ends[sender].sendto(b"%d" % number, (HOST, network.port(sender, receiver)))


def test_a_perfect_network_carries_all_in_order(ends: dict[str, socket.socket]) -> None:
    with proxy(ends) as network:
        for sender, receiver in itertools.permutations("abc", 2):
            send(ends, network, sender, receiver, 20)
            assert received(ends[receiver], 20) == list(range(20))
        assert network.counts == {"arrived": 120, "doubled": 0}


def test_loss_is_seeded(ends: dict[str, socket.socket]) -> None:
    def survivors(seed: int) -> list[int]:
        with proxy(ends, seed, Quality(loss=0.5)) as network:
            send(ends, network, "a", "b", 40)
            return received(ends["b"])

    first = survivors(1)
    assert 5 < len(first) < 35
    assert survivors(1) == first
    assert survivors(2) != first


def test_duplication_and_jitter(ends: dict[str, socket.socket]) -> None:
    with proxy(ends, quality=Quality(duplication=1.0, jitter_s=0.05)) as network:
        send(ends, network, "a", "b", 40)
        numbers = received(ends["b"], 80)
    assert sorted(numbers) == sorted([*range(40), *range(40)])
    assert numbers != sorted(numbers)


def test_cuts_have_a_direction(ends: dict[str, socket.socket]) -> None:
    with proxy(ends) as network:
        network.cut({"a"}, {"b"})
        send(ends, network, "a", "b", 3)
        send(ends, network, "b", "a", 3)
        assert received(ends["a"], 3) == [0, 1, 2]
        assert received(ends["b"]) == []
        network.isolate({"c"})
        send(ends, network, "a", "c", 1)
        send(ends, network, "c", "b", 1)
        assert received(ends["c"]) == received(ends["b"]) == []
        network.heal()
        send(ends, network, "a", "b", 3)
        assert received(ends["b"], 3) == [0, 1, 2]


def test_what_travels_when_the_way_is_cut_is_lost(ends: dict[str, socket.socket]) -> None:
    with proxy(ends, quality=Quality(delay_s=0.1)) as network:
        send(ends, network, "a", "b", 1)
        network.cut({"a"}, {"b"})
        assert received(ends["b"]) == []


def test_each_node_is_told_the_proxy_in_the_place_of_its_peers(ends: dict[str, socket.socket]) -> None:
    cluster = Cluster("c", {name: Member(HOST, 1, end.getsockname()[1]) for name, end in ends.items()})
    with proxy(ends) as network:
        seen = network.seen_by("a", cluster)
        assert seen.members["a"] == cluster.members["a"]
        assert seen.members["b"] == Member(HOST, 1, network.port("a", "b"))
        assert network.port("a", "b") != network.port("c", "b")
