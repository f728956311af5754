"""Read-only questions that several passes ask of a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from dcompile.ops import AFTER, STORE
from dcompile.program import COND, WHILE, Program, modules, submodules

aten = torch.ops.aten
ATTEND = torch.ops.dcompile.attend.default


def well_formed(program: Program) -> str | None:
    """What is wrong with a program, or None: graphs lint, every value has a fake tensor, loops fit their operands."""
    for graph in program.graphs:
        for module in modules(graph.module):
            try:
                module.graph.lint()
            except RuntimeError as problem:
                return f"{graph.name}: {problem}"
            for node in module.graph.nodes:
                if node.op in ("placeholder", "call_function") and "val" not in node.meta:
                    return f"{graph.name}: node {node.name} has no value"
            if misfit := _calls_fit(module):
                return f"{graph.name}: {misfit}"
        if len(placeholders(graph.module)) != len(graph.inputs) or len(results(graph.module)) != len(graph.outputs):
            return f"{graph.name}: ports do not fit the graph"
    return None


def _calls_fit(module: fx.GraphModule) -> str | None:
    for node, name, inner in submodules(module):
        args = arguments(node)
        operands = [*args[2], *args[3]] if node.target is WHILE else list(args[3])
        if [_shape(n) for n in operands] != [_shape(n) for n in placeholders(inner)]:
            return f"{node.name} {name}: operands and placeholders differ"
        if name == "body" and [_shape(n) for n in results(inner)] != [_shape(n) for n in args[2]]:
            return f"{node.name}: the body does not give back what it carries"
    return None


def _shape(node: fx.Node) -> tuple[object, ...]:
    value = node.meta["val"]
    return tuple(value.shape), value.dtype


def results(module: fx.GraphModule) -> list[fx.Node]:
    """The nodes that a graph returns."""
    (output,) = [n for n in module.graph.nodes if n.op == "output"]
    return list(arguments(output)[0])


def placeholders(module: fx.GraphModule) -> list[fx.Node]:
    """The nodes that stand for a graph's inputs; of a loop's graphs, what it carries and then what it captures."""
    return [n for n in module.graph.nodes if n.op == "placeholder"]


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """A node's arguments. FX says only that each is one of twenty kinds; whoever asks knows the operation."""
    return node.args


def inner_graph(module: fx.GraphModule, place: fx.Node) -> fx.GraphModule:
    """The graph that an operand of a loop or branch names."""
    found = getattr(module, str(place.target))
    assert isinstance(found, fx.GraphModule)
    return found


def depends(node: fx.Node, places: set[fx.Node]) -> set[fx.Node]:
    """Which of these nodes a node's value depends on."""
    return ancestors([node]) & places


def ancestors(nodes: list[fx.Node]) -> set[fx.Node]:
    """Everything that these values depend on, themselves included."""
    seen: set[fx.Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(node.all_input_nodes)
    return seen


def attends(module: fx.GraphModule) -> bool:
    """Whether attention stands in a graph or in one inside it."""
    return any(n.target is ATTEND for inner in modules(module) for n in inner.graph.nodes)


def sides(module: fx.GraphModule) -> Iterator[fx.GraphModule]:
    """The graphs of the branches that stand directly in a graph."""
    return (inner for node, _, inner in submodules(module) if node.target is COND)


def is_control(node: fx.Node) -> bool:
    """A loop or a branch."""
    return node.op == "call_function" and node.target in (WHILE, COND)


@dataclass(frozen=True)
class Store:
    """One write into a cache: which of the pairs it is of, and the nodes of the scatter."""

    at: int
    cache: fx.Node
    scatter: fx.Node
    index: fx.Node
    source: fx.Node
    kept: fx.Node
    old: fx.Node


def stores(handed_on: Iterable[tuple[fx.Node, fx.Node]]) -> list[Store]:
    """Of what a graph is given and hands on, the caches that it rewrites by one scatter."""
    found = []
    for at, (place, out) in enumerate(handed_on):
        if out.target is not aten.scatter.src or out.meta["val"].dim() != 4:
            continue
        cache, _, index, source = arguments(out)
        if cache is place and source.target is aten.where.self:
            kept, _, old = arguments(source)
            if old.target is aten.gather.default:
                found.append(Store(at, place, out, index, source, kept, old))
    return found


def reads_cache(node: fx.Node) -> bool:
    """Whether a node is attention over a cached part and a fresh one."""
    return node.target is ATTEND and len(arguments(node)[1]) == 2


def cache_traffic(program: Program) -> tuple[int, int]:
    """Bytes of keys and values copied each step: what the innermost loop carries that calls the model, and does
    not store in place; and the bytes of all caches. Cut loops hand whole arrays to the host and are not counted."""
    facts = program.facts
    whole = 2 * 4 * facts.layers * program.batch * facts.kv_heads * program.capacity * facts.head_dim
    carried = 0
    for graph in program.graphs:
        for module in modules(graph.module):
            for node in module.graph.nodes:
                if node.target is WHILE and _appends_or_rewrites(module, node):
                    kept = results(inner_graph(module, arguments(node)[1]))
                    carried = max(carried, sum(_cache_bytes(v) for v in kept if v.target not in (STORE, AFTER)))
    return carried, whole


def _appends_or_rewrites(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a loop calls the model itself, for tokens (the prompt's chunks are stored by a loop of their own)."""
    body = inner_graph(module, arguments(node)[1])
    here = any(n.target is ATTEND for n in body.graph.nodes)
    inner = any(n.target is WHILE and "tokens" in n.meta["carried"] for n in body.graph.nodes)
    return here and not inner and "tokens" in node.meta["carried"]


def _cache_bytes(value: fx.Node) -> int:
    tensor = value.meta["val"]
    return int(tensor.numel() * tensor.element_size()) if tensor.dim() == 4 else 0
