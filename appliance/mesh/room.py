"""Who holds a place of which there are few: the oldest gives way to the newest."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Guest = TypeVar("Guest", bound=Hashable)


class Room(Generic[Guest]):
    """Guests with a size, each of a group; their sizes are bounded for each group, and over all.

    An honest guest is done soon and an attacker's stays for ever, so a full room makes place by showing out who is in
    it longest: of the newcomer's own group if that is what is full.

    Attributes:
        per_group: bound of the sum of sizes in one group; None for no bound. A guest that alone is larger has it to
            itself.
        total: the same over all groups.
    """

    def __init__(self, *, per_group: int | None = None, total: int | None = None) -> None:
        self.per_group = per_group
        self.total = total
        self._size = 0
        self._guests: dict[Guest, tuple[Hashable, int]] = {}
        self._groups: dict[Hashable, dict[Guest, int]] = {}

    def __len__(self) -> int:
        return len(self._guests)

    def __iter__(self) -> Iterator[Guest]:
        """The guests that are in, oldest first; a copy, so that they may leave meanwhile."""
        return iter(tuple(self._guests))

    def enter(self, guest: Guest, group: Hashable, size: int = 1) -> list[Guest]:
        """Let a guest in, as the newest; return who had to leave for it."""
        self.leave(guest)
        shown_out = []
        members = self._groups.get(group, {})
        while members and self.per_group is not None and sum(members.values()) + size > self.per_group:
            shown_out.append(self._leave_first(members))
        while self._guests and self.total is not None and self._size + size > self.total:
            shown_out.append(self._leave_first(self._guests))
        self._guests[guest] = group, size
        self._groups.setdefault(group, {})[guest] = size
        self._size += size
        return shown_out

    def leave(self, guest: Guest) -> None:
        """Let a guest go; one that is not in changes nothing."""
        if guest not in self._guests:
            return
        group, size = self._guests.pop(guest)
        self._size -= size
        members = self._groups[group]
        del members[guest]
        if not members:
            del self._groups[group]

    def _leave_first(self, guests: dict[Guest, tuple[Hashable, int]] | dict[Guest, int]) -> Guest:
        oldest = next(iter(guests))
        self.leave(oldest)
        return oldest
