"""Run both sides of every branch and select: for runtimes that have no control flow inside a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from dcompile.passes.base import Pass
from dcompile.passes.replay import Replay, rerecord_all
from dcompile.program import COND, Program, modules, submodules

ATTEND = torch.ops.dcompile.attend.default


@dataclass(frozen=True)
class SelectBranches(Pass):
    """`attending`: only those branches that hold attention."""

    attending: bool = False
    name: ClassVar[str] = "select-branches"

    def run(self, program: Program) -> Program:
        if not self.attending:
            return rerecord_all(program, _Selecting)
        graphs = (module for graph in program.graphs for module in modules(graph.module))
        inner = (inside for module in graphs for node, _, inside in submodules(module) if node.target is COND)
        return rerecord_all(program, _Attending) if any(map(_attends, inner)) else program


def _attends(module: fx.GraphModule) -> bool:
    return any(n.target is ATTEND for inner in modules(module) for n in inner.graph.nodes)


class _Selecting(Replay):
    def branch(self, pred: Tensor, yes: fx.GraphModule, no: fx.GraphModule, operands: Sequence[Tensor]) -> list[Tensor]:
        sides = zip(self.inside(yes, operands), self.inside(no, operands), strict=True)
        return [torch.where(pred.reshape([1] * a.dim()), a, b) for a, b in sides]


class _Attending(_Selecting):
    def branch(self, pred: Tensor, yes: fx.GraphModule, no: fx.GraphModule, operands: Sequence[Tensor]) -> list[Tensor]:
        if _attends(yes) or _attends(no):
            return super().branch(pred, yes, no, operands)
        return Replay.branch(self, pred, yes, no, operands)
