"""The standard library's own words about itself: the comment at the head of each file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dcompile.dsl import STANDARD, checker, load

HEAD = """# The standard library

Each strategy is one file of the language, to read and to change: `dcompile build NAME ...`, `dcompile show NAME`.
*Training* is what a model needs for it beside its own; *cache* and *lossless* are what `dcompile check` proves;
*checked against* says whose tokens it reproduces. `dcompile strategies --markdown` prints this page.

"""
NOTE = re.compile(r"(Training|Checked): (.*)")


@dataclass(frozen=True)
class Entry:
    """A file of the library. `words`: the first sentence of its head; `training`: what the model needs beside its own
    training; `checked`: what its tokens were compared with."""

    name: str
    words: str
    training: str
    checked: str


def entry(path: Path) -> Entry:
    """What the head of a file says."""
    lines, notes = [], {"Training": "", "Checked": ""}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words = line.lstrip("# ").rstrip()
        if note := NOTE.fullmatch(words):
            notes[note[1]] = note[2]
        else:
            lines.append(words)
    first = re.split(r"\.\s+(?=[A-Z`])", " ".join(lines))[0].rstrip(".")
    return Entry(path.stem, first, notes["Training"], notes["Checked"])


def entries() -> list[Entry]:
    """The library, by name."""
    return [entry(path) for path in sorted(STANDARD.glob("*.dcs"))]


def page() -> str:
    """The library as docs/strategies.md; the verdicts are the checker's, for the parameters' defaults."""
    rows = ["| strategy | what it is | training | cache | lossless | checked against |", "|---|---|---|---|---|---|"]
    for e in entries():
        found = checker.report(load(e.name))
        link = f"[{e.name}](../dsl/std/{e.name}.dcs)"
        rows.append(
            f"| {link} | {e.words} | {e.training} | {found.cache.verdict} | {found.lossless.verdict} | {e.checked} |"
        )
    return HEAD + "\n".join(rows) + "\n"
