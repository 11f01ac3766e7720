"""Rooms: bounds hold whatever happens, and who leaves is who came first."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.mesh.room import Room


def test_the_oldest_of_a_full_group_gives_way() -> None:
    room: Room[str] = Room(per_group=2)
    assert room.enter("a1", "a") == room.enter("b1", "b") == room.enter("a2", "a") == []
    assert room.enter("a3", "a") == ["a1"]
    assert list(room) == ["b1", "a2", "a3"]


def test_the_oldest_of_all_gives_way_when_the_room_is_full() -> None:
    room: Room[str] = Room(per_group=2, total=3)
    for name in ("a1", "b1", "a2"):
        room.enter(name, name[0])
    assert room.enter("c1", "c") == ["a1"]
    assert list(room) == ["b1", "a2", "c1"]


def test_a_full_group_costs_no_other_group_a_place() -> None:
    room: Room[str] = Room(per_group=2, total=3)
    for name in ("b1", "a1", "a2"):
        room.enter(name, name[0])
    assert room.enter("a3", "a") == ["a1"]
    assert list(room) == ["b1", "a2", "a3"]


def test_sizes_count_and_a_guest_as_large_as_the_room_has_it_to_itself() -> None:
    room: Room[str] = Room(per_group=10)
    room.enter("first", "a", 4)
    room.enter("second", "a", 4)
    assert room.enter("third", "a", 5) == ["first"]
    assert room.enter("greatest", "a", 99) == ["second", "third"]
    assert list(room) == ["greatest"]


def test_who_leaves_twice_or_enters_again_counts_once() -> None:
    room: Room[str] = Room(per_group=2)
    room.enter("a1", "a")
    room.enter("a1", "a")
    room.enter("a2", "a")
    assert len(room) == 2
    room.leave("a1")
    room.leave("a1")
    assert room.enter("a3", "a") == []


@given(
    visits=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(1, 5), st.booleans())),
    per_group=st.none() | st.integers(5, 12),
    total=st.none() | st.integers(5, 25),
)
def test_bounds_hold_and_nobody_is_shown_out_before_an_older_one(
    visits: list[tuple[int, int, int, bool]], per_group: int | None, total: int | None
) -> None:
    room: Room[int] = Room(per_group=per_group, total=total)
    inside: dict[int, tuple[int, int]] = {}
    for guest, group, size, goes in visits:
        if goes:
            room.leave(guest)
            inside.pop(guest, None)
            continue
        inside.pop(guest, None)
        before = dict(inside)
        shown_out = room.enter(guest, group, size)
        for gone in shown_out:
            del inside[gone]
        inside[guest] = group, size
        assert list(room) == list(inside)
        sizes = [held for _, held in inside.values()]
        of_group = [held for other, held in inside.values() if other == group]
        assert per_group is None or sum(of_group) <= per_group
        assert total is None or sum(sizes) <= total
        # Only as many left as had to: with the last of them still there, a bound would be broken.
        if shown_out:
            last_group, last_size = before[shown_out[-1]]
            breaks_group = per_group is not None and last_group == group and sum(of_group) + last_size > per_group
            breaks_total = total is not None and sum(sizes) + last_size > total
            assert breaks_group or breaks_total
