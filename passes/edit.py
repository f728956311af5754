"""Editing FX graphs: new nodes that know their value, and loops with their operands kept in step."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor

from dcompile.passes.facts import arguments, inner_graph, placeholders, results
from dcompile.program import WHILE, modules


def emit(
    graph: fx.Graph, target: Callable[..., Any], *args: Any, like: fx.Node | None = None, **kwargs: Any
) -> fx.Node:
    """A new operation at the graph's insertion point, its fake value computed, its span and part those of `like`."""
    node = graph.call_function(target, args, kwargs)
    values = fx.node.map_arg((args, kwargs), lambda n: n.meta["val"])
    with torch.inference_mode(), _mode((values, None if like is None else like.meta["val"])):
        node.meta["val"] = target(*values[0], **values[1])
    if like is not None:
        node.meta |= {key: like.meta[key] for key in ("span", "part") if key in like.meta}
    return node


def constant(module: fx.GraphModule, name: str, tensor: Tensor, like: fx.Node) -> fx.Node:
    """A tensor as an attribute of the graph, at its insertion point; the same name is the same tensor."""
    name = name.replace(".", "_")
    if not hasattr(module, name):
        module.register_buffer(name, tensor)
    node = module.graph.create_node("get_attr", name)
    node.meta["val"] = like.meta["val"].fake_mode.from_tensor(tensor)
    return node


def _mode(values: Any) -> Any:
    for leaf in torch.utils._pytree.tree_leaves(values):
        if isinstance(leaf, FakeTensor):
            return leaf.fake_mode
    raise AssertionError("an operation on no tensors")


def tidy(module: fx.GraphModule) -> fx.GraphModule:
    """Drop what nothing uses, here and inside. (The Python text of a graph is made by whoever runs it as Python.)"""
    for inner in modules(module):
        prune(inner.graph)
    return module


def prune(graph: fx.Graph) -> None:
    """Erase nodes without users: nothing in a Program acts but by its value. FX's own elimination makes the Python
    text of the whole tree each time, two thirds of the passes' time."""
    for node in reversed(list(graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users:
            graph.erase_node(node)


class Loop:
    """A `while_loop` node and its two graphs, with their operands kept in step."""

    def __init__(self, module: fx.GraphModule, node: fx.Node) -> None:
        self.module, self.node = module, node
        self.cond, self.body = (inner_graph(module, place) for place in arguments(node)[:2])

    @property
    def names(self) -> list[str]:
        return list(self.node.meta["carried"])

    @property
    def carried(self) -> list[fx.Node]:
        """The outer values that the loop starts from."""
        return list(arguments(self.node)[2])

    @property
    def captured(self) -> list[fx.Node]:
        return list(arguments(self.node)[3])

    def places(self, graph: fx.GraphModule) -> list[fx.Node]:
        """Placeholders of `cond` or `body`: carried ones, then captured ones."""
        return placeholders(graph)

    def result(self, index: int) -> fx.Node | None:
        """The outer node that stands for a carried value behind the loop, if anything asks for it."""
        for user in self.node.users:
            if user.target is operator.getitem and user.args[1] == index:
                return user
        return None

    def capture(self, outer: fx.Node) -> tuple[fx.Node, fx.Node]:
        """Make an outer value visible inside; its placeholders in cond and body."""
        operands = self.captured
        if outer in operands:
            at = len(self.carried) + operands.index(outer)
            return self.places(self.cond)[at], self.places(self.body)[at]
        pair = []
        for graph in (self.cond, self.body):
            with graph.graph.inserting_after(self.places(graph)[-1]):
                place = graph.graph.placeholder(f"captured_{len(operands)}_{outer.name}")
            place.meta["val"] = outer.meta["val"]
            pair.append(place)
        self.node.update_arg(3, (*operands, outer))
        return pair[0], pair[1]

    def drop_captures(self) -> None:
        """Forget captured values that neither graph uses."""
        offset = len(self.carried)
        conds, bodies = self.places(self.cond), self.places(self.body)
        keep = []
        for at, outer in enumerate(self.captured):
            pair = conds[offset + at], bodies[offset + at]
            if pair[0].users or pair[1].users:
                keep.append(outer)
                continue
            self.cond.graph.erase_node(pair[0])
            self.body.graph.erase_node(pair[1])
        self.node.update_arg(3, tuple(keep))

    def remove(self, indices: Iterable[int]) -> None:
        """Carry these values no longer; nothing inside or behind the loop may use them."""
        gone = sorted(set(indices), reverse=True)
        outs, names, carried = results(self.body), self.names, self.carried
        for graph in (self.cond, self.body):
            places = self.places(graph)
            if graph is self.body:
                for at in gone:
                    del outs[at]
                output = next(n for n in graph.graph.nodes if n.op == "output")
                output.update_arg(0, tuple(outs))
                prune(graph.graph)
            for at in gone:
                graph.graph.erase_node(places[at])
        for at in gone:
            if (result := self.result(at)) is not None:
                self.module.graph.erase_node(result)
            del names[at], carried[at]
        for user in list(self.node.users):
            index: int = arguments(user)[1]
            user.update_arg(1, index - sum(at < index for at in gone))
        self.node.update_arg(2, tuple(carried))
        self.node.meta["carried"] = tuple(names)
        self.node.meta["val"] = tuple(v for i, v in enumerate(self.node.meta["val"]) if i not in gone)


def loops(module: fx.GraphModule) -> list[Loop]:
    """The loops directly in a graph, in order."""
    return [Loop(module, n) for n in module.graph.nodes if n.op == "call_function" and n.target is WHILE]


def share_attribute(source: fx.GraphModule, target: fx.GraphModule, name: str) -> None:
    """Let another graph use an attribute under the same name."""
    *path, leaf = name.split(".")
    value, place = source, target
    for part in path:
        value = getattr(value, part)
        if not hasattr(place, part):
            setattr(place, part, nn.Module())
        place = getattr(place, part)
    setattr(place, leaf, getattr(value, leaf))
