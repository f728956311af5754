"""Run both sides of every branch and select: for runtimes that have no control flow inside a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from dcompile.passes.base import Pass
from dcompile.passes.replay import Replay, rerecord_all
from dcompile.program import Program


@dataclass(frozen=True)
class SelectBranches(Pass):
    name: ClassVar[str] = "select-branches"

    def run(self, program: Program) -> Program:
        return rerecord_all(program, _Selecting)


class _Selecting(Replay):
    def branch(self, pred: Tensor, yes: fx.GraphModule, no: fx.GraphModule, operands: Sequence[Tensor]) -> list[Tensor]:
        sides = zip(self.inside(yes, operands), self.inside(no, operands), strict=True)
        return [torch.where(pred.reshape([1] * a.dim()), a, b) for a, b in sides]
