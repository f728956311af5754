"""Attend to the live slots of a cache only.

A cache has room for the longest canvas; the bias hides the slots beyond what is stored. ORT works on whatever length
its tensors have when it runs, so the front of keys, values and bias is cut off and the rest left out: once in front of
a loop that captures the cache, or on the spot where many rows are fed, whose products cost more than the copy.

    loop(captured k)  { attend(q, [k, tail]) }   ->   loop(captured front(k, n)) { attend(q, [front k, tail]) }
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx

from dcompile.backends.onnx.front import FRONT
from dcompile.ops import FLOOR
from dcompile.passes.base import Pass
from dcompile.passes.edit import Loop, emit, loops, tidy
from dcompile.passes.facts import arguments
from dcompile.program import Program, modules

aten = torch.ops.aten
ATTEND = torch.ops.dcompile.attend.default

ROWS = 8  # queries of one call, from which on cutting pays though it copies


@dataclass(frozen=True)
class LiveSlots(Pass):
    name: ClassVar[str] = "live-slots"

    def run(self, program: Program) -> Program:
        for graph in program.graphs:
            done: set[fx.Node] = set()
            for module in list(modules(graph.module)):
                for loop in loops(module):
                    done |= _in_front_of(loop)
            for module in list(modules(graph.module)):
                cuts: dict[fx.Node, tuple[fx.Node, fx.Node]] = {}
                for node in _attends(module):
                    if node.meta["val"].shape[2] >= ROWS and node not in done:
                        _on_the_spot(module.graph, node, cuts)
            tidy(graph.module)
            for module in modules(graph.module):
                for loop in loops(module):
                    loop.drop_captures()
        return program


def _attends(module: fx.GraphModule) -> list[fx.Node]:
    """Attention over a cache and something fresh."""
    nodes = module.graph.find_nodes(op="call_function", target=ATTEND)
    return [n for n in nodes if len(arguments(n)[1]) > 1]


def _in_front_of(loop: Loop) -> set[fx.Node]:
    """Cut what the loop captures, outside; a bias that the loop makes is cut inside. The attends that read cuts."""
    done: set[fx.Node] = set()
    made: dict[tuple[fx.Node, ...], fx.Node] = {}
    outer = dict(zip(loop.places(loop.body)[len(loop.carried) :], loop.captured, strict=True))
    graph = loop.module.graph

    def outside(x: fx.Node, count: fx.Node, axis: int, fill: float) -> fx.Node:
        if (x, count) not in made:
            with graph.inserting_before(loop.node):
                cut = emit(graph, FRONT, outer[x], count, axis, fill)
            made[x, count] = loop.capture(cut)[1]
        return made[x, count]

    def inside(x: fx.Node, count: fx.Node) -> fx.Node:
        if (x, count) not in made:
            _, place = loop.capture(count)
            with loop.body.graph.inserting_after(x):
                made[x, count] = emit(loop.body.graph, FRONT, x, place, 3, FLOOR)
        return made[x, count]

    for node in _attends(loop.body):
        _, (k, *_), (v, *_), (bias, *_), _ = arguments(node)
        if k not in outer or v not in outer or (bias not in outer and "tail_row" not in loop.names):
            continue
        key = (outer[bias],) if bias in outer else ()
        if key not in made:
            with graph.inserting_before(loop.node):
                made[key] = _seen_by(graph, outer[bias]) if bias in outer else _stored(graph, loop)
        count = made[key]
        hidden = outside(bias, count, 3, FLOOR) if bias in outer else inside(bias, count)
        _replace_first(node, outside(k, count, 2, 0.0), outside(v, count, 2, 0.0), hidden)
        done.add(node)
    return done


def _on_the_spot(graph: fx.Graph, node: fx.Node, cuts: dict[fx.Node, tuple[fx.Node, fx.Node]]) -> None:
    """`cuts`: of each bias cut so far in this graph, the count and the result; all layers share one."""
    _, (k, *_), (v, *_), (bias, *_), _ = arguments(node)
    with graph.inserting_before(node):
        if bias not in cuts:
            count = _seen_by(graph, bias)
            cuts[bias] = count, emit(graph, FRONT, bias, count, 3, FLOOR)
        count, hidden = cuts[bias]
        _replace_first(node, emit(graph, FRONT, k, count, 2, 0.0), emit(graph, FRONT, v, count, 2, 0.0), hidden)


def _replace_first(node: fx.Node, k: fx.Node, v: fx.Node, bias: fx.Node) -> None:
    for at, new in ((1, k), (2, v), (3, bias)):
        node.update_arg(at, [new, *arguments(node)[at][1:]])


def _seen_by(graph: fx.Graph, bias: fx.Node) -> fx.Node:
    """One more than the last slot that any query of any row attends to, at least 1. bias [B, 1, W, C] -> int64 [1]."""
    return _last(graph, emit(graph, aten.any.dims, emit(graph, aten.gt.Scalar, bias, FLOOR / 2), [0, 1, 2]))


def _stored(graph: fx.Graph, loop: Loop) -> fx.Node:
    """The same of the slots that are stored when a loop starts that appends to a tail: later ones lie in the tail."""
    return _last(graph, emit(graph, aten.any.dim, loop.carried[loop.names.index("stored")], 0))


def _last(graph: fx.Graph, seen: fx.Node) -> fx.Node:
    live = emit(graph, aten.to.dtype, seen, torch.int64)
    places = emit(graph, aten.cumsum.default, emit(graph, aten.ones_like.default, live), 0)
    last = emit(graph, aten.amax.default, emit(graph, aten.mul.Tensor, places, live), [0], True)
    return emit(graph, aten.clamp.default, last, 1)
