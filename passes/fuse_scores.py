"""Scores without a softmax over the vocabulary: one maximum and one sum of exponentials serve them all.

amax(softmax(x))        ->  1 / sum(exp(x - max))
gather(softmax(x), t)   ->  exp(gather(x, t) - max) / sum(exp(x - max))
-sum(p log p)           ->  log(sum(exp(x - max))) - sum(exp(x - max) (x - max)) / sum(exp(x - max))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx

from dcompile.passes.base import Pass
from dcompile.passes.edit import emit, tidy
from dcompile.program import Program, modules

aten = torch.ops.aten


@dataclass(frozen=True)
class FuseScores(Pass):
    name: ClassVar[str] = "fuse-scores"

    def run(self, program: Program) -> Program:
        for graph in program.graphs:
            for module in modules(graph.module):
                for node in list(module.graph.nodes):
                    if node.target is aten.softmax.int and node.args[1] == -1:
                        _fuse(module.graph, node)
            tidy(graph.module)
        return program


def _fuse(graph: fx.Graph, softmax: fx.Node) -> None:
    uses = [(user, _kind(user)) for user in softmax.users]
    kinds = {kind for _, kind in uses}
    if kinds - {"max", "prob", "entropy"}:
        return
    x = softmax.args[0]
    with graph.inserting_before(softmax):
        best = emit(graph, aten.amax.default, x, [-1], True, like=softmax)
        shifted = emit(graph, aten.sub.Tensor, x, best, like=softmax)
        powers = emit(graph, aten.exp.default, shifted, like=softmax)
        total = emit(graph, aten.sum.dim_IntList, powers, [-1], like=softmax)
    for user, kind in uses:
        if kind == "entropy" and user.target is aten.mul.Tensor:
            _entropy(graph, user, shifted, powers, total)
        elif kind == "max":
            with graph.inserting_before(user):
                user.replace_all_uses_with(emit(graph, aten.reciprocal.default, total, like=user))
        elif kind == "prob":
            _prob(graph, user, shifted, total)


def _kind(user: fx.Node) -> str:
    if user.target is aten.amax.default and user.args[1] == [-1] and len(user.args) == 2:
        return "max"
    if user.target is aten.gather.default and user.args[1] in (2, -1):
        return "prob"
    if _entropy_sum(user) is not None:
        return "entropy"
    if user.target is aten.clamp.default and all(map(_is_log, user.users)):
        return "entropy"
    return "other"


def _is_log(node: fx.Node) -> bool:
    return node.target is aten.log.default and all(_entropy_sum(u) is not None for u in node.users)


def _entropy_sum(product: fx.Node) -> fx.Node | None:
    """The sum over the vocabulary behind `p * log(clamp(p))`."""
    if product.target is not aten.mul.Tensor or len(product.users) != 1:
        return None
    (total,) = product.users
    return total if total.target is aten.sum.dim_IntList and total.args[1] == [-1] else None


def _entropy(graph: fx.Graph, product: fx.Node, shifted: fx.Node, powers: fx.Node, total: fx.Node) -> None:
    summed = _entropy_sum(product)
    assert summed is not None
    with graph.inserting_before(summed):
        weighed = emit(graph, aten.mul.Tensor, powers, shifted, like=summed)
        mean = emit(graph, aten.div.Tensor, emit(graph, aten.sum.dim_IntList, weighed, [-1]), total, like=summed)
        log = emit(graph, aten.log.default, total, like=summed)
        summed.replace_all_uses_with(emit(graph, aten.sub.Tensor, mean, log, like=summed))


def _prob(graph: fx.Graph, gather: fx.Node, shifted: fx.Node, total: fx.Node) -> None:
    with graph.inserting_before(gather):
        picked = emit(graph, aten.gather.default, shifted, gather.args[1], gather.args[2], like=gather)
        power = emit(graph, aten.exp.default, picked, like=gather)
        whole = emit(graph, aten.unsqueeze.default, total, -1, like=gather)
        gather.replace_all_uses_with(emit(graph, aten.div.Tensor, power, whole, like=gather))
