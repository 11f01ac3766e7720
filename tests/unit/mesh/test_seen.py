"""Ids that came already: each is first once, memory is bounded, and a flood flushes only what its sender delivered."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.mesh.seen import Seen


def identifier(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_an_id_is_first_once_whoever_delivers_it() -> None:
    seen = Seen(10)
    assert seen.first("node1", identifier(1))
    assert not seen.first("node1", identifier(1))
    assert not seen.first("node2", identifier(1))
    assert seen.first("node2", identifier(2))


def test_the_oldest_is_forgotten() -> None:
    seen = Seen(10)
    for number in range(11):
        assert seen.first("node1", identifier(number))
    assert len(seen) == 10
    assert not seen.first("node1", identifier(10))
    assert seen.first("node1", identifier(0))


def test_a_flood_flushes_only_the_ids_of_who_floods() -> None:
    seen = Seen(100)
    for number in range(20):
        seen.first("node1", identifier(number))
    for number in range(1000, 11_000):
        seen.first("hostile", identifier(number))
    assert len(seen) == 100
    assert not any(seen.first("node1", identifier(number)) for number in range(20))


def test_who_delivers_others_ids_first_cannot_have_them_forgotten() -> None:
    seen = Seen(100)
    assert seen.first("hostile", identifier(7))
    assert not seen.first("node1", identifier(7))
    for number in range(1000, 2000):
        seen.first("hostile", identifier(number))
    assert not seen.first("node2", identifier(7))


@given(deliveries=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40))), capacity=st.integers(1, 20))
def test_memory_is_bounded_and_nothing_new_is_taken_for_old(deliveries: list[tuple[str, int]], capacity: int) -> None:
    seen = Seen(capacity)
    delivered = set()
    for peer, number in deliveries:
        is_first = seen.first(peer, identifier(number))
        assert is_first or number in delivered
        delivered.add(number)
        assert len(seen) <= capacity
        assert not seen.first(peer, identifier(number)) or capacity < 3
