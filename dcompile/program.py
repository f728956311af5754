"""The Program: what will run. One FX graph over ATen ops that holds the whole decoding loop.

Loops are `torch.ops.higher_order.while_loop(cond, body, carried, captured)` and branches
`cond(pred, yes, no, operands)`; their graphs are GraphModules of their own, weights are `get_attr` nodes of whichever
graph uses them (the same Parameter under the same name everywhere). Every node has a fake tensor in `meta["val"]` and,
where a line of the strategy caused it, its span in `meta["span"]`. A `while_loop` node names what it carries in
`meta["carried"]`.
Shapes are static: B rows, C slots (prompt and answer), V tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from dcompile.model import Facts
from dcompile.strategy import Strategy

WHILE = torch.ops.higher_order.while_loop
COND = torch.ops.higher_order.cond


@dataclass(frozen=True)
class Port:
    """A named input or output: dtype by its NumPy name (`int64`, `float32`, `bool`), static shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A graph module that can be run alone; placeholders and results stand in the order of the ports."""

    name: str
    module: fx.GraphModule
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def handed_on(self) -> dict[str, tuple[fx.Node, fx.Node]]:
        """What goes in and comes out under one name: its placeholder and its result."""
        places = dict(zip((p.name for p in self.inputs), self.module.graph.find_nodes(op="placeholder"), strict=True))
        (output,) = self.module.graph.find_nodes(op="output")
        results: Any = output.args[0]
        return {p.name: (places[p.name], r) for p, r in zip(self.outputs, results, strict=True) if p.name in places}


@dataclass(frozen=True)
class Program:
    """A strategy lowered with a model.

    `graphs` holds one graph while the loop is inside; after `cut` it holds one for each turn or step, the first being
    the entry, and each has an int64[1] output `next`: the index of the graph to run next, or -1 when all rows are done.
    `others`: the facts of the models behind the first one, by name. `overhang`: how many of the `capacity` slots, the
    last ones, only drafts come to.
    The driver: `state.update(graphs[next](state))`. `state` lists every value that crosses graphs.
    """

    strategy: Strategy
    facts: Facts
    batch: int
    capacity: int
    graphs: tuple[Graph, ...]
    loop: str = "inside"
    state: tuple[Port, ...] = ()
    notes: dict[str, object] = field(default_factory=dict)
    others: Mapping[str, Facts] = field(default_factory=dict)
    overhang: int = 0

    def with_graphs(self, graphs: tuple[Graph, ...]) -> Program:
        return replace(self, graphs=graphs)


def submodules(module: fx.GraphModule) -> Iterator[tuple[fx.Node, str, fx.GraphModule]]:
    """The graphs directly inside a graph: (the node that runs it, `cond|body|yes|no`, graph)."""
    for node in module.graph.nodes:
        if node.op == "call_function" and node.target in (WHILE, COND):
            names = ("cond", "body") if node.target is WHILE else ("yes", "no")
            places = node.args[:2] if node.target is WHILE else node.args[1:3]
            for name, place in zip(names, places, strict=True):
                yield node, name, getattr(module, place.target)


def modules(module: fx.GraphModule) -> Iterator[fx.GraphModule]:
    """A graph and every graph inside it, outermost first."""
    yield module
    for _, _, inner in submodules(module):
        yield from modules(inner)


def attribute(module: fx.GraphModule, path: str) -> object:
    """The value of a dotted `get_attr` target."""
    found: object = module
    for part in path.split("."):
        found = getattr(found, part)
    return found


def count_nodes(program: Program) -> int:
    """Number of operations in all graphs of a program."""
    return sum(1 for g in program.graphs for m in modules(g.module) for n in m.graph.nodes if n.op == "call_function")
