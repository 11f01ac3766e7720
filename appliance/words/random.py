"""Randomness as an argument."""

from typing import Protocol


class RandomBytes(Protocol):
    """A source of random bytes that nobody can guess; ``secrets.token_bytes`` in a real node."""

    def __call__(self, count: int, /) -> bytes:
        """Return ``count`` random bytes."""
