"""Where a thing was written: a text with a name, and spans in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A strategy text, the name that messages call it by, and the folder that paths in it start from."""

    name: str
    text: str
    folder: Path | None = field(default=None, compare=False, repr=False)

    @classmethod
    def read(cls, path: Path) -> Source:
        """Read a UTF-8 file; raises OSError or UnicodeDecodeError."""
        return cls(str(path), path.read_text(encoding="utf-8"), path.parent)

    def line(self, number: int) -> str:
        """The text of a line, counted from 1, without its end."""
        lines = self.text.splitlines()
        return lines[number - 1] if 1 <= number <= len(lines) else ""

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of a character offset, both counted from 1."""
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


@dataclass(frozen=True)
class Span:
    """A stretch `[start, end)` of a source's text, in characters.

    Spans never take part in comparisons: two trees that say the same are equal wherever they stand.
    """

    start: int = field(compare=False)
    end: int = field(compare=False)
    source: Source | None = field(default=None, compare=False, repr=False)

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of the other."""
        return Span(self.start, other.end, self.source)


NOWHERE = Span(0, 0)
