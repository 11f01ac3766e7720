"""One way to break the code."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mutation:
    """A text in the place of another.

    Attributes:
        name: a few words for the table.
        file: from the root of the repository.
        old: occurs once in the file.
        why: what is wrong now, in one line.
    """

    name: str
    file: str
    old: str
    new: str
    why: str

    def apply(self, root: Path) -> str:
        """Break the copy of the code under ``root``; return the file's new text. Raises ValueError if that can't be."""
        path = root / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: the old text occurs {text.count(self.old)} times in {self.file}")
        broken = text.replace(self.old, self.new)
        path.write_text(broken)
        return broken
