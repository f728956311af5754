"""Move what does not change in a loop in front of it; inside it is captured, which costs nothing.

Constants made from nothing (`arange`, `full`) stay where they are used: runtimes fold them.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from dcompile.passes.base import Pass
from dcompile.passes.edit import Loop, loops, share_attribute, tidy
from dcompile.passes.facts import is_control
from dcompile.program import Program, modules


@dataclass(frozen=True)
class Hoist(Pass):
    name: ClassVar[str] = "hoist"

    def run(self, program: Program) -> Program:
        for graph in program.graphs:
            for module in reversed(list(modules(graph.module))):
                for loop in loops(module):
                    hoist(loop)
            tidy(graph.module)
            for module in modules(graph.module):
                for loop in loops(module):
                    loop.drop_captures()
            tidy(graph.module)
        return program


def hoist(loop: Loop) -> None:
    """Copy the invariant nodes of a loop's two graphs to the outside, as far as something variable uses them."""
    outside: dict[fx.Node, fx.Node] = {}
    for graph in (loop.cond, loop.body):
        captured = loop.places(graph)[len(loop.carried) :]
        outside |= dict(zip(captured, loop.captured, strict=True))
        fixed = _invariant(graph, set(captured))
        for node in [n for n in graph.graph.nodes if n in fixed and _needed(n, fixed) and not _constant(n)]:
            outer = _copy(loop, graph, node, outside)
            pair = loop.capture(outer)
            outside[pair[0]] = outside[pair[1]] = outer
            node.replace_all_uses_with(pair[graph is loop.body])


def _invariant(graph: fx.GraphModule, captured: set[fx.Node]) -> set[fx.Node]:
    fixed: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op != "call_function" or is_control(node) or node.target is operator.getitem:
            continue
        if all(i in fixed or i in captured or _small_attribute(i) for i in node.all_input_nodes):
            fixed.add(node)
    return fixed


def _small_attribute(node: fx.Node) -> bool:
    """A constant that may be read outside; large weights stay initializers of the graph that uses them."""
    return node.op == "get_attr" and "val" in node.meta and node.meta["val"].numel() <= 4096


def _needed(node: fx.Node, fixed: set[fx.Node]) -> bool:
    return any(user not in fixed for user in node.users)


def _constant(node: fx.Node) -> bool:
    """Whether a value is made from nothing but numbers."""
    stack = [node]
    while stack:
        item = stack.pop()
        if item.op != "call_function":
            return False
        stack.extend(item.all_input_nodes)
    return True


def _copy(loop: Loop, graph: fx.GraphModule, node: fx.Node, outside: dict[fx.Node, fx.Node]) -> fx.Node:
    """The node outside the loop, with everything that it needs."""
    if node in outside:
        return outside[node]
    for before in node.all_input_nodes:
        _copy(loop, graph, before, outside)
    if node.op == "get_attr":
        share_attribute(graph, loop.module, str(node.target))
    with loop.module.graph.inserting_before(loop.node):
        outside[node] = loop.module.graph.node_copy(node, outside.__getitem__)
    return outside[node]
