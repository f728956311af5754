"""Scores without a softmax over the vocabulary: one sweep over the logits serves them all.

With `total` = sum(exp(x - max)) and `weighed` = sum((x - max) exp(x - max)), which are one `dcompile::exp_sums`:

amax(softmax(x))        ->  1 / total
gather(softmax(x), t)   ->  exp(gather(x, t) - max) / total
best_two(softmax(x))    ->  exp(best_two(x) - max) / total
-sum(p log p)           ->  log(total) - weighed / total
sum(exp(x - max))       ->  total, as log-probabilities that are stored have it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from dcompile.ops import BEST_TWO, EXP_SUMS
from dcompile.passes.base import Pass
from dcompile.passes.edit import emit, tidy
from dcompile.passes.facts import arguments
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
                    elif (x := _totalled(node)) is not None:
                        _total(module.graph, node, x)
            tidy(graph.module)
        return program


def _fuse(graph: fx.Graph, softmax: fx.Node) -> None:
    uses = [(user, _kind(user)) for user in softmax.users]
    kinds = {kind for _, kind in uses}
    if kinds - {"max", "prob", "two", "entropy"}:
        return
    x = arguments(softmax)[0]
    with graph.inserting_before(softmax):
        sums = emit(graph, EXP_SUMS, x, "entropy" in kinds, like=softmax)
        total = emit(graph, aten.slice.Tensor, sums, -1, 0, 1, like=softmax)
    for user, kind in uses:
        if kind == "entropy" and user.target is aten.mul.Tensor:
            _entropy(graph, user, sums, total)
        elif kind == "max":
            with graph.inserting_before(user):
                best = emit(graph, aten.squeeze.dim, emit(graph, aten.reciprocal.default, total), -1, like=user)
                user.replace_all_uses_with(best)
        elif kind in ("prob", "two"):
            _probabilities(graph, user, x, total)


def _totalled(node: fx.Node) -> fx.Node | None:
    """x of sum(exp(x - amax(x))) along the last axis, which stays, where nothing else reads the exponentials."""
    powers = _operand(node, aten.sum.dim_IntList, [-1], True)
    shifted = None if powers is None or len(powers.users) > 1 else _operand(powers, aten.exp.default)
    if shifted is None or shifted.target is not aten.sub.Tensor or not isinstance(shifted.args[1], fx.Node):
        return None
    x = arguments(shifted)[0]
    return x if _operand(shifted.args[1], aten.amax.default, [-1], True) is x else None


def _operand(node: fx.Node, target: Any, *rest: Any) -> fx.Node | None:
    """What an operation with these further arguments is on; None of another."""
    fits = node.target is target and list(node.args[1:]) == list(rest) and not node.kwargs
    return arguments(node)[0] if fits else None


def _total(graph: fx.Graph, total: fx.Node, x: fx.Node) -> None:
    with graph.inserting_before(total):
        total.replace_all_uses_with(emit(graph, EXP_SUMS, x, False, like=total))


def _kind(user: fx.Node) -> str:
    if user.target is aten.amax.default and user.args[1] == [-1] and len(user.args) == 2:
        return "max"
    if user.target is aten.gather.default and user.args[1] in (2, -1):
        return "prob"
    if user.target is BEST_TWO:
        return "two"
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


def _entropy(graph: fx.Graph, product: fx.Node, sums: fx.Node, total: fx.Node) -> None:
    summed = _entropy_sum(product)
    assert summed is not None
    with graph.inserting_before(summed):
        weighed = emit(graph, aten.slice.Tensor, sums, -1, 1, 2, like=summed)
        mean = emit(graph, aten.div.Tensor, weighed, total, like=summed)
        negative = emit(graph, aten.sub.Tensor, mean, emit(graph, aten.log.default, total), like=summed)
        summed.replace_all_uses_with(emit(graph, aten.squeeze.dim, negative, -1, like=summed))


def _probabilities(graph: fx.Graph, chosen: fx.Node, x: fx.Node, total: fx.Node) -> None:
    """The probabilities of chosen tokens, [..., n]."""
    with graph.inserting_before(chosen):
        assert callable(chosen.target)
        logits = emit(graph, chosen.target, x, *chosen.args[1:], like=chosen)
        best = emit(graph, aten.amax.default, x, [-1], True, like=chosen)
        powers = emit(graph, aten.exp.default, emit(graph, aten.sub.Tensor, logits, best), like=chosen)
        chosen.replace_all_uses_with(emit(graph, aten.div.Tensor, powers, total, like=chosen))
