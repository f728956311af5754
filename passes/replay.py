"""Rewriting by running again: replay a graph into a recorder, and do something else at chosen nodes.

Where a pass changes the shape of loops, this is simpler than moving nodes: what is replayed is recorded afresh, with
captures, values and spans in order. Programs are pure, so nodes may be evaluated on demand and in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from dcompile.passes.facts import placeholders, results
from dcompile.program import COND, WHILE, Graph, Program, attribute, modules
from dcompile.record import Recorder

TAGS = ("call", "store", "rows", "part")


class Replay:
    """Evaluates the nodes of one graph on demand. `inputs` gives its placeholders their tensors, in order."""

    def __init__(self, recorder: Recorder, module: fx.GraphModule, inputs: Sequence[Tensor]) -> None:
        self.recorder, self.module = recorder, module
        self.env: dict[fx.Node, Any] = dict(zip(placeholders(module), inputs, strict=True))

    def visit(self, node: fx.Node) -> Any:
        """What a node becomes; passes override this and fall back on it."""
        args: Any = fx.node.map_arg(node.args, self.value)
        kwargs: Any = fx.node.map_arg(node.kwargs, self.value)
        if node.target is WHILE:
            return self.loop(node, args)
        if node.target is COND:
            return self.branch(*args)
        assert callable(node.target)
        if isinstance(node.target, torch._ops.OpOverload) and self._alike(node):
            return self.recorder.again(node, args, kwargs)
        return node.target(*args, **kwargs)

    def _alike(self, node: fx.Node) -> bool:
        """Whether operands have the shapes that they had: then so has the value, which is not computed again."""
        return all(same_shape(self.env.get(n), n.meta.get("val")) for n in node.all_input_nodes)

    def branch(self, pred: Tensor, yes: fx.GraphModule, no: fx.GraphModule, operands: Sequence[Tensor]) -> list[Tensor]:
        return self.recorder.branch(pred, lambda: self.inside(yes, operands), lambda: self.inside(no, operands))

    def loop(self, node: fx.Node, args: Sequence[Any]) -> list[Tensor]:
        cond, body, carried, captured = args
        names = node.meta["carried"]
        result = self.recorder.loop(
            dict(zip(names, carried, strict=True)),
            lambda v: self.inside(cond, [*v.values(), *captured])[0],
            lambda v: dict(zip(names, self.inside(body, [*v.values(), *captured]), strict=True)),
        )
        return list(result.values())

    def inside(self, module: fx.GraphModule, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Replay an inner graph with the same rules."""
        return type(self)(self.recorder, module, inputs).run()

    def value(self, node: fx.Node) -> Any:
        """The replayed value of a node, evaluated now if it was not yet."""
        if node not in self.env:
            if node.op == "get_attr":
                found: Any = attribute(self.module, str(node.target))
                self.env[node] = found if isinstance(found, fx.GraphModule) else self.recorder._fake_of(found)
            else:
                for before in _missing(node, self.env):
                    self.env[before] = self._leaf_or_visit(before)
        return self.env[node]

    def _leaf_or_visit(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return self.value(node)
        tags = {k: node.meta[k] for k in TAGS if k in node.meta}
        with self.recorder.at(node.meta.get("span", self.recorder.span)), self.recorder.tagged(**tags):
            return self.visit(node)

    def run(self) -> list[Tensor]:
        """The results, everything evaluated in the written order."""
        for node in self.module.graph.nodes:
            if node.op == "call_function":
                self.value(node)
        return [self.value(n) for n in results(self.module)]


def same_shape(a: Any, b: Any) -> bool:
    """Two tensors of one dtype, shape and layout."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride()
    return False


def _missing(node: fx.Node, env: Mapping[fx.Node, Any]) -> list[fx.Node]:
    """Nodes to evaluate for `node`, inputs first (no recursion: chains are thousands of nodes long)."""
    order: list[fx.Node] = []
    stack, seen = [(node, False)], set()
    while stack:
        item, ready = stack.pop()
        if ready:
            order.append(item)
        elif item not in env and item not in seen:
            seen.add(item)
            stack.append((item, True))
            stack.extend((i, False) for i in item.all_input_nodes)
    return order


def weights_of(module: fx.GraphModule) -> dict[str, Tensor]:
    """Every tensor that a graph, or one inside it, has as an attribute, by the name that it has there."""
    found: dict[str, Tensor] = {}
    for inner in modules(module):
        for node in inner.graph.nodes:
            if node.op == "get_attr":
                value = attribute(inner, node.target)
                if isinstance(value, Tensor):
                    found[node.target] = value
    return found


Kind = Callable[[Recorder, fx.GraphModule, Sequence[Tensor]], Replay]


def rerecord(graph: Graph, kind: Kind = Replay) -> Graph:
    """A graph replayed whole by a kind of Replay."""
    recorder = Recorder(weights_of(graph.module))
    with recorder.recording():
        inputs = [recorder.input(p.name, p.shape, getattr(torch, p.dtype)) for p in graph.inputs]
        module = recorder.finish(kind(recorder, graph.module, inputs).run())
    return replace(graph, module=module)


def rerecord_all(program: Program, kind: Kind) -> Program:
    """Every graph of a program replayed by a kind of Replay."""
    return program.with_graphs(tuple(rerecord(g, kind) for g in program.graphs))
