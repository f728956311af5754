"""Carry no value that nothing but itself depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dcompile.passes.base import Pass
from dcompile.passes.edit import Loop, loops, tidy
from dcompile.passes.facts import ancestors, results
from dcompile.program import Program, modules


@dataclass(frozen=True)
class DeadState(Pass):
    name: ClassVar[str] = "dead-state"

    def run(self, program: Program) -> Program:
        for graph in program.graphs:
            tidy(graph.module)
            for module in modules(graph.module):
                for loop in loops(module):
                    if gone := dead(loop):
                        loop.remove(gone)
                tidy(module)
        return program


def dead(loop: Loop) -> list[int]:
    """Places of carried values that neither the condition, the results in use nor another live value need."""
    outs, bodies, conds = results(loop.body), loop.places(loop.body), loop.places(loop.cond)
    number = len(loop.carried)
    live = {i for i in range(number) if conds[i].users or ((r := loop.result(i)) is not None and r.users)}
    fresh = set(live)
    while fresh:
        reached = ancestors([outs[i] for i in fresh])
        fresh = {i for i in range(number) if bodies[i] in reached} - live
        live |= fresh
    return [i for i in range(number) if i not in live]
