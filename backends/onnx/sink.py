"""The language-model head inside the branches that read its logits: where one asks only which is the largest, most of
the head can be left out (`screen.py`).

    cond(test, yes(linear(h, head)), no(linear(h, head)))  ->  cond(test, yes(h), no(h)), each with a product of its own
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from dcompile.backends.onnx.screen import head_behind, only_chosen
from dcompile.passes.base import Pass
from dcompile.passes.edit import emit, share_attribute, tidy
from dcompile.passes.facts import arguments, placeholders
from dcompile.program import COND, Program, modules, submodules


@dataclass(frozen=True)
class SinkHead(Pass):
    name: ClassVar[str] = "sink-head"

    def run(self, program: Program) -> Program:
        for graph in program.graphs:
            for module in modules(graph.module):
                for branch in module.graph.find_nodes(op="call_function", target=COND):
                    for at, logits in enumerate(arguments(branch)[3]):
                        head = head_behind(module, logits)
                        if head is not None and _read_here_only(logits, head, branch) and _pays(module, branch, at):
                            _sink(module, branch, at, head)
            tidy(graph.module)
        return program


def _read_here_only(logits: fx.Node, head: fx.Node, branch: fx.Node) -> bool:
    """Whether one branch alone reads some logits, once."""
    node, reader = logits, branch
    while set(node.users) == {reader}:
        if node is head:
            return list(arguments(branch)[3]).count(logits) == 1
        node, reader = arguments(node)[0], node
    return False


def _pays(module: fx.GraphModule, branch: fx.Node, at: int) -> bool:
    """Whether a side, or one inside it, asks for no more than the largest."""
    return any(
        only_chosen(place) or any(_pays(side, inner, i) for inner, i in _handed_on(place))
        for side in _sides(module, branch)
        if (place := placeholders(side)[at]).users
    )


def _handed_on(place: fx.Node) -> Iterator[tuple[fx.Node, int]]:
    for user in place.users:
        if user.target is COND:
            yield from ((user, i) for i, given in enumerate(arguments(user)[3]) if given is place)


def _sides(module: fx.GraphModule, branch: fx.Node) -> list[fx.GraphModule]:
    return [inner for node, _, inner in submodules(module) if node is branch]


def _sink(module: fx.GraphModule, branch: fx.Node, at: int, head: fx.Node) -> None:
    """Hand the head's input on, and make the logits in each side that reads them."""
    operands = list(arguments(branch)[3])
    shape = list(operands[at].meta["val"].shape)
    operands[at] = arguments(head)[0]
    branch.update_arg(3, tuple(operands))
    for side in _sides(module, branch):
        place = placeholders(side)[at]
        place.meta["val"] = operands[at].meta["val"]
        users = list(place.users)
        if users:
            logits = _again(module, side, head, place, shape)
            for user in users:
                user.replace_input_with(place, logits)


def _again(module: fx.GraphModule, side: fx.GraphModule, head: fx.Node, hidden: fx.Node, shape: list[int]) -> fx.Node:
    """The head's product inside a side, with the weights as attributes of it."""
    graph = side.graph

    def inside(argument: Any) -> Any:
        if not isinstance(argument, fx.Node):
            return argument
        share_attribute(module, side, str(argument.target))
        place = graph.create_node("get_attr", str(argument.target))
        place.meta |= argument.meta
        return place

    first = next(node for node in graph.nodes if node.op != "placeholder")
    with graph.inserting_before(first):
        _, *rest = arguments(head)
        assert callable(head.target)
        made = emit(graph, head.target, hidden, *map(inside, rest), like=head)
        return emit(graph, torch.ops.aten.reshape.default, made, shape, like=head)
