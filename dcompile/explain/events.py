"""What a profiler tells of a run: the time of each kernel, what it reads and writes, where it comes from.

Backends begin the name of a kernel with where it comes from (`dcompile/backends/origin.py`); so a part is read off it.
"""

from __future__ import annotations

from dataclasses import dataclass

from dcompile.models.parts import PARTS

PREFILL, CACHE, RULE, LOOP = "prefill", "cache", "rule", "loop"


@dataclass(frozen=True)
class Event:
    """A kernel that ran, of this name: seconds, the bytes that it must fetch from or bring to memory, its operations;
    whether it multiplies bytes."""

    name: str
    seconds: float
    bytes: int
    operations: int
    rough: bool = False

    @property
    def part(self) -> str:
        return part(self.name)


@dataclass(frozen=True)
class Profile:
    """The kernels of a run, its seconds, and the bytes that loops copied, where the runtime copies what they carry."""

    events: list[Event]
    seconds: float
    copied: int | None = None


def part(name: str) -> str:
    """The part that a kernel belongs to, by its name: a part of the model, `prefill` (all that stores the prompt),
    `cache` (what a call does besides the model: masks, positions, storing), `rule` (lines of the strategy), `loop`."""
    place, *rest = name.split("/")
    if place == "prefill":
        return PREFILL
    if rest and rest[0] in (*PARTS, CACHE):
        return rest[0]
    return RULE if place[:1] == "L" and place[1:].isdecimal() and rest else LOOP
