"""What a pass is, and the one door that runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from dcompile.passes.facts import well_formed
from dcompile.program import Program
from dcompile.stopwatch import part


class PassError(AssertionError):
    """A pass broke the program: our bug. Says which pass, and what is wrong with its result."""


@dataclass(frozen=True)
class Pass:
    """One rewrite. Its fields are its options; `name` is what the command line, dumps and errors call it.

    The graphs of the program that it gets are its own to change; it must leave every node with a fake value.
    """

    name: ClassVar[str]

    def run(self, program: Program) -> Program:
        """The rewritten program; it may be the same object."""
        raise NotImplementedError

    def __str__(self) -> str:
        options = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))
        return f"{self.name}{{{options}}}" if options else self.name


@dataclass(frozen=True)
class Stage:
    """Passes in order; the comments beside them in pipeline.py say why they stand where they stand."""

    name: str
    passes: tuple[Pass, ...]


Observer = Callable[[str, Pass, Program, float], None]
"""Called behind each pass: stage, pass, result, seconds."""


def run_passes(
    program: Program,
    stages: Sequence[Stage],
    *,
    without: Collection[str] = (),
    limit: int | None = None,
    observers: Sequence[Observer] = (),
) -> Program:
    """The one door: runs, checks and times each pass. `without` names passes to leave out, `limit` stops after n."""
    done = 0
    for stage in stages:
        for item in stage.passes:
            if item.name in without or (limit is not None and done >= limit):
                continue
            start = time.perf_counter()
            try:
                with part(f"{stage.name}/{item}"):
                    program = item.run(program)
            except Exception as problem:
                raise PassError(f"in {stage.name}/{item}: {problem}") from problem
            seconds = time.perf_counter() - start
            done += 1
            with part("checks"):
                wrong = well_formed(program)
            if wrong:
                raise PassError(f"after {stage.name}/{item}: {wrong}")
            for observe in observers:
                observe(stage.name, item, program, seconds)
    return program
