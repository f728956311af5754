"""Compute the same thing once: equal operations on equal operands in one graph become one node."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from dcompile.passes.base import Pass
from dcompile.passes.edit import tidy
from dcompile.passes.facts import arguments, is_control
from dcompile.program import Program, modules

KEPT = {torch.ops.aten.clone.default}  # a copy is there to be another tensor


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    name: ClassVar[str] = "common-subexpressions"

    def run(self, program: Program) -> Program:
        for graph in program.graphs:
            for module in modules(graph.module):
                merge(module.graph)
            tidy(graph.module)
        return program


def merge(graph: fx.Graph) -> None:
    """Replace each node that says what an earlier one says."""
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op == "get_attr":
            key: Any = (node.target,)
        elif node.op == "call_function" and not is_control(node) and node.target not in KEPT:
            key = (node.target, _freeze(node.args), _freeze(node.kwargs))
        else:
            continue
        if node.target is operator.getitem and is_control(arguments(node)[0]):
            key = (node.target, node.args)
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _freeze(value: Any) -> Any:
    """A hashable form that tells 1 from 1.0 and True."""
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _freeze(v)) for k, v in sorted(value.items()))
    return type(value), value
