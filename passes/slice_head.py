"""The language-model head only at rows whose distribution is used.

    select(reshape(linear(h, head)), rows)  ->  linear(select(reshape(h), rows), head)

Lowering asks for the logits of every row that was fed, and takes the rows that a statement reads; the selection moves
up through the head and through arithmetic between logits (guidance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from dcompile.passes.base import Pass
from dcompile.passes.edit import emit, tidy
from dcompile.passes.facts import arguments
from dcompile.program import Program, modules

aten = torch.ops.aten
ARITHMETIC = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.tanh.default}


@dataclass(frozen=True)
class SliceHead(Pass):
    name: ClassVar[str] = "slice-head"

    def run(self, program: Program) -> Program:
        for graph in program.graphs:
            for module in modules(graph.module):
                for node in list(module.graph.nodes):
                    if node.target is aten.index_select.default and _movable(node):
                        _move(module.graph, node)
            tidy(graph.module)
        return program


def _movable(select: fx.Node) -> bool:
    """Whether `select` picks rows of logits whose every use is such a selection."""
    flat, dim, _ = arguments(select)
    if flat.target is not aten.reshape.default or dim != 0:
        return False
    return _from_head(arguments(flat)[0], {flat})


def _from_head(node: fx.Node, through: set[fx.Node]) -> bool:
    """Whether a value is a head's output, or arithmetic on such, used only by what `through` holds or selections."""
    if not all(user in through or _is_rows(user) for user in node.users):
        return False
    if node.target is aten.linear.default:
        return bool(_shape(arguments(node)[0])[-1] < _shape(node)[-1])
    if node.target not in ARITHMETIC:
        return False
    wide = [a for a in node.all_input_nodes if _shape(a) == _shape(node)]
    rest = [a for a in node.all_input_nodes if a not in wide]
    inner = through | {node, *_arithmetic_users(node)}
    return bool(wide) and all(r.meta["val"].numel() == 1 for r in rest) and all(_from_head(a, inner) for a in wide)


def _arithmetic_users(node: fx.Node) -> set[fx.Node]:
    """Neighbours in one formula: `u + g * (c - u)` uses `u` twice."""
    return {u for a in node.all_input_nodes for u in a.users if u.target in ARITHMETIC}


def _is_rows(node: fx.Node) -> bool:
    return node.target is aten.reshape.default and all(u.target is aten.index_select.default for u in node.users)


def _move(graph: fx.Graph, select: fx.Node) -> None:
    """Replace a selection of logits by the same arithmetic on selected rows of hidden states."""
    rows: dict[fx.Node, fx.Node] = {}
    flat, _, index = arguments(select)

    def picked(node: fx.Node) -> fx.Node:
        if node not in rows:
            rows[node] = linear(node) if node.target is aten.linear.default else arithmetic(node)
        return rows[node]

    def linear(node: fx.Node) -> fx.Node:
        hidden, *weights = arguments(node)
        every = emit(graph, aten.reshape.default, hidden, [-1, _shape(hidden)[-1]], like=node)
        few = emit(graph, aten.index_select.default, every, 0, index, like=node)
        return emit(graph, aten.linear.default, few, *weights, like=node)

    def arithmetic(node: fx.Node) -> fx.Node:
        assert callable(node.target)
        return emit(graph, node.target, *[operand(a, _shape(node)) for a in arguments(node)], like=node)

    def operand(a: Any, shape: torch.Size) -> Any:
        if not isinstance(a, fx.Node):
            return a
        if _shape(a) == shape:
            return picked(a)
        return emit(graph, aten.reshape.default, a, [1, 1]) if len(_shape(a)) == len(shape) else a

    with graph.inserting_before(select):
        result = picked(arguments(flat)[0])
    select.replace_all_uses_with(result)
    graph.erase_node(select)


def _shape(node: fx.Node) -> torch.Size:
    shape: torch.Size = node.meta["val"].shape
    return shape
