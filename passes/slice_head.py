"""The language-model head only at rows whose distribution is used.

    select(reshape(linear(h, head)), rows)  ->  linear(select(reshape(h), rows), head)

Lowering asks for the logits of every row that was fed, and takes the rows that a statement reads; the selection moves
up through the head and through arithmetic between logits (guidance).
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
    flat = select.args[0]
    assert isinstance(flat, fx.Node)
    if flat.target is not aten.reshape.default or select.args[1] != 0:
        return False
    return _from_head(flat.args[0], {flat})  # type: ignore[arg-type]


def _from_head(node: fx.Node, through: set[fx.Node]) -> bool:
    """Whether a value is a head's output, or arithmetic on such, used only by what `through` holds or selections."""
    if not all(user in through or _is_rows(user) for user in node.users):
        return False
    if node.target is aten.linear.default:
        return node.args[0].meta["val"].shape[-1] < node.meta["val"].shape[-1]  # type: ignore[union-attr]
    if node.target not in ARITHMETIC:
        return False
    wide = [a for a in node.all_input_nodes if a.meta["val"].shape == node.meta["val"].shape]
    rest = [a for a in node.all_input_nodes if a not in wide]
    inner = through | {node, *_arithmetic_users(node)}
    return bool(wide) and all(r.meta["val"].numel() == 1 for r in rest) and all(_from_head(a, inner) for a in wide)


def _arithmetic_users(node: fx.Node) -> set[fx.Node]:
    """Neighbours in one formula: `u + g * (c - u)` uses `u` twice."""
    return {u for a in node.all_input_nodes for u in a.users if u.target in ARITHMETIC}


def _is_rows(node: fx.Node) -> bool:
    return node.target is aten.reshape.default and all(u.target is aten.index_select.default for u in node.users)


def _move(graph: fx.Graph, select: fx.Node) -> None:
    rows: dict[fx.Node, fx.Node] = {}
    index = select.args[2]

    def picked(node: fx.Node) -> fx.Node:
        if node in rows:
            return rows[node]
        if node.target is aten.linear.default:
            flat = emit(graph, aten.reshape.default, node.args[0], [-1, node.args[0].meta["val"].shape[-1]], like=node)  # type: ignore[union-attr]
            few = emit(graph, aten.index_select.default, flat, 0, index, like=node)
            rows[node] = emit(graph, aten.linear.default, few, *node.args[1:], like=node)
        else:
            shape = node.meta["val"].shape
            args = [_operand(a, shape, picked) for a in node.args]
            scalars = [emit(graph, aten.reshape.default, a, [1, 1]) if _small(a, shape) else a for a in args]
            rows[node] = emit(graph, node.target, *scalars, like=node)  # type: ignore[arg-type]
        return rows[node]

    with graph.inserting_before(select):
        result = picked(select.args[0].args[0])  # type: ignore[union-attr, arg-type]
    select.replace_all_uses_with(result)
    graph.erase_node(select)


def _operand(a: object, shape: torch.Size, picked: object) -> object:
    wide = isinstance(a, fx.Node) and a.meta["val"].shape == shape
    return picked(a) if wide else a  # type: ignore[operator]


def _small(a: object, shape: torch.Size) -> bool:
    return isinstance(a, fx.Node) and a.meta["val"].numel() == 1 and a.meta["val"].dim() == len(shape)
