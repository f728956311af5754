"""Where time and memory go: parts of a piece of work, one inside another, while somebody wants to know.

Any module may say `with part("what is done"):`. That costs nothing unless a `profiling()` block is open.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Part:
    """A piece of work: seconds on the clock and of all processors, the most bytes that the process had in memory while
    it ran (None where the system does not tell), and the pieces inside it in order."""

    name: str
    seconds: float = 0.0
    cpu: float = 0.0
    peak: int | None = None
    parts: list[Part] = field(default_factory=list)

    @property
    def own(self) -> float:
        """Seconds that no part inside it accounts for."""
        return self.seconds - sum(p.seconds for p in self.parts)

    def as_json(self) -> dict[str, Any]:
        found = {"name": self.name, "seconds": round(self.seconds, 4), "cpu": round(self.cpu, 4), "peak": self.peak}
        return found | ({"parts": [p.as_json() for p in self.parts]} if self.parts else {})


_OPEN: ContextVar[tuple[Part, ...]] = ContextVar("open parts", default=())


@contextmanager
def profiling(name: str = "total") -> Iterator[Part]:
    """Collect the parts of what is done inside; they are complete when the block ends."""
    with _running(Part(name), ()) as whole:
        yield whole


@contextmanager
def part(name: str) -> Iterator[None]:
    """A part of whatever is being profiled, if anything is. Parts of one name in one place are one part."""
    outer = _OPEN.get()
    if not outer:
        yield
        return
    found = next((p for p in outer[-1].parts if p.name == name), None)
    if found is None:
        outer[-1].parts.append(found := Part(name))
    with _running(found, outer):
        yield


@contextmanager
def _running(what: Part, outer: tuple[Part, ...]) -> Iterator[Part]:
    _mark(outer)
    token = _OPEN.set((*outer, what))
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield what
    finally:
        what.seconds += time.perf_counter() - wall
        what.cpu += time.process_time() - cpu
        _mark((*outer, what))
        _OPEN.reset(token)


def _mark(running: tuple[Part, ...]) -> None:
    """Note the most memory since the last mark for all that runs, and count anew."""
    high = _peak()
    for each in running:
        if high is not None:
            each.peak = max(each.peak or 0, high)
    with contextlib.suppress(OSError):
        RESET.write_text("5")


def _peak() -> int | None:
    """The most bytes in memory since they were last counted anew."""
    with contextlib.suppress(OSError, ValueError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def lines(whole: Part) -> Iterator[tuple[str, Part | None, float]]:
    """A profile as rows: an indented name, the part (None for what stands between parts), its seconds."""
    yield from _lines(whole, 0)


def _lines(at: Part, depth: int) -> Iterator[tuple[str, Part | None, float]]:
    yield "  " * depth + at.name, at, at.seconds
    for each in at.parts:
        yield from _lines(each, depth + 1)
    if at.parts and at.own > 0.005 * at.seconds:
        yield "  " * (depth + 1) + "(between)", None, at.own
