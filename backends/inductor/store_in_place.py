"""Rows that a loop stores into a cache are written into the memory of the cache, which the loop has for itself.

before   while c = cache: … attend(q, [c, k]) …; c = scatter(c, 2, index, k)
after    while c = own(cache, 7): … a = attend(q, [c, k]) …; c = store(c, index, k, after [a])

What an operation of PyTorch gives may not share memory with what it takes, so a scatter copies all that it keeps. The
kernel of `store` gives back its cache, changed: `after` are those who must have read it before, `own` is a copy that
nobody else sees, each with a number of its own so that no two are one. A cache that begins empty, and that the graph
does not give away, is `room`: zeros in memory that the run before had.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import torch
from torch import fx

from dcompile.ops import OWN, ROOM, STORE
from dcompile.passes.base import Pass
from dcompile.passes.edit import Loop, emit, loops, tidy
from dcompile.passes.facts import ATTEND, ancestors, arguments, results
from dcompile.program import WHILE, Program, modules

aten = torch.ops.aten

Around = dict[fx.GraphModule, Loop]
"""The loop that a graph is the body of."""


@dataclass(frozen=True)
class StoreInPlace(Pass):
    name: ClassVar[str] = "store-in-place"

    def run(self, program: Program) -> Program:
        numbers = count()
        for graph in program.graphs:
            roomy = _keeps(graph.module)
            around: Around = {loop.body: loop for module in modules(graph.module) for loop in loops(module)}
            for module in modules(graph.module):
                owned: set[tuple[fx.Node, int]] = set()
                for loop in loops(module):
                    owned |= {(loop.node, at) for at in _rewrite(loop, around, owned, numbers, roomy)}
            tidy(graph.module)
        return program

    def __str__(self) -> str:
        return self.name


def _rewrite(
    loop: Loop, around: Around, owned: set[tuple[fx.Node, int]], numbers: Iterator[int], roomy: bool
) -> list[int]:
    """Store in place what can be; which of the carried values now lie in memory that only the loop has. `roomy`: that
    may be memory which the next run has again."""
    graph, carried, done = loop.body.graph, loop.carried, []
    for at, (cache, scatter) in enumerate(zip(loop.places(loop.body), results(loop.body), strict=False)):
        if not _stores(cache, scatter) or (after := _readers(cache, scatter)) is None:
            continue
        _, _, index, rows = arguments(scatter)
        if (slots := _slots(loop.body, index, around)) is None:
            continue
        with graph.inserting_before(scatter):
            made = emit(graph, STORE, cache, slots, rows, after, like=scatter)
        scatter.replace_all_uses_with(made)
        graph.erase_node(scatter)
        if not _is_owned(carried[at], loop, owned):
            with loop.module.graph.inserting_before(loop.node):
                carried[at] = _own(loop.module.graph, carried[at], next(numbers), roomy)
        done.append(at)
    loop.node.update_arg(2, tuple(carried))
    return done


def _own(graph: fx.Graph, value: fx.Node, number: int, roomy: bool) -> fx.Node:
    """The value in memory that nobody else sees."""
    if roomy and value.target is aten.zeros.default:
        return emit(graph, ROOM, list(value.meta["val"].shape), number, like=value)
    return emit(graph, OWN, value, number)


def _keeps(module: fx.GraphModule) -> bool:
    """Whether a graph gives no cache away, so that memory of its own ends with a run."""
    given = [node.meta["val"] for node in results(module)]
    return not any(value.dtype is torch.float32 and value.dim() > 2 for value in given)


def _slots(module: fx.GraphModule, index: fx.Node, around: Around) -> fx.Node | None:
    """What an index is spread out of: the slots [B or 1, 1, W, 1] of whole rows, as the graph sees them. It may stand
    outside of any number of loops."""
    if index.target is aten.expand.default:
        slots: fx.Node = arguments(index)[0]
        shape = slots.meta["val"].shape
        return slots if len(shape) == 4 and shape[1] == shape[3] == 1 else None
    if (loop := around.get(module)) is None:
        return None
    captured = dict(zip(loop.places(module)[len(loop.carried) :], loop.captured, strict=True))
    found = _slots(loop.module, captured[index], around) if index in captured else None
    return loop.capture(found)[1] if found is not None else None


def _is_owned(value: fx.Node, loop: Loop, owned: set[tuple[fx.Node, int]]) -> bool:
    """Whether a value is what a loop with memory of its own left there, and nobody reads it but this loop, once."""
    if value.target is not operator.getitem or arguments(value) not in owned:
        return False
    twins = [user for user in arguments(value)[0].users if user.args[1:] == value.args[1:]]
    return len(twins) == len(value.users) == [*loop.carried, *loop.captured].count(value) == 1


def _stores(cache: fx.Node, scatter: fx.Node) -> bool:
    """Whether a value that a loop carries becomes itself with whole rows in some of its slots."""
    if scatter.target is not aten.scatter.src or cache.meta["val"].dim() != 4:
        return False
    if cache.meta["val"].dtype is not torch.float32 or cache.meta["val"].device.type != "cpu":
        return False
    base, axis, index, rows = arguments(scatter)
    return base is cache and axis in (2, -2) and index.meta["val"].shape == rows.meta["val"].shape


def _readers(cache: fx.Node, scatter: fx.Node) -> list[fx.Node] | None:
    """The operations that read a cache and must come before it changes; nothing, where that is not known."""
    before = ancestors([scatter])
    found = []
    order = {node: i for i, node in enumerate(cache.graph.nodes)}
    for reader in cache.users:
        if reader is scatter:
            continue
        if reader.target is ATTEND and order[reader] < order[scatter]:
            found.append(reader)
        elif not (reader in before and (reader.target is WHILE or _only_for(reader, scatter))):
            return None
    return found


def _only_for(reader: fx.Node, scatter: fx.Node) -> bool:
    """Whether rows are gathered for what is stored alone: else they might be read anew for another, and later."""
    node = reader
    while node.target in (aten.gather.default, aten.where.self) and len(node.users) == 1:
        (node,) = node.users
        if node is scatter:
            return True
    return False
