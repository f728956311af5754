"""Run both sides of every branch and select: for runtimes that have no control flow inside a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from dcompile.passes.base import Pass
from dcompile.passes.facts import attends, sides
from dcompile.passes.replay import Replay, rerecord_all
from dcompile.program import Program, modules


@dataclass(frozen=True)
class SelectBranches(Pass):
    """`attending`: only those branches that hold attention."""

    attending: bool = False
    name: ClassVar[str] = "select-branches"

    def run(self, program: Program) -> Program:
        if not self.attending:
            return rerecord_all(program, _Selecting)
        graphs = (module for graph in program.graphs for module in modules(graph.module))
        found = any(attends(side) for module in graphs for side in sides(module))
        return rerecord_all(program, _Attending) if found else program


class _Selecting(Replay):
    def branch(self, pred: Tensor, yes: fx.GraphModule, no: fx.GraphModule, operands: Sequence[Tensor]) -> list[Tensor]:
        sides = zip(self.inside(yes, operands), self.inside(no, operands), strict=True)
        return [torch.where(pred.reshape([1] * a.dim()), a, b) for a, b in sides]


class _Attending(_Selecting):
    def branch(self, pred: Tensor, yes: fx.GraphModule, no: fx.GraphModule, operands: Sequence[Tensor]) -> list[Tensor]:
        if attends(yes) or attends(no):
            return super().branch(pred, yes, no, operands)
        return Replay.branch(self, pred, yes, no, operands)
