"""Attention that appends: one token's keys and values go into the cache and are attended there, in one kernel.

Where the host runs the steps, caches are its buffers, and GroupQueryAttention writes into them (`in_place.py`): nothing
is copied, and only slots up to the new one are read. For a batch of one row and one query of a causal model: what
`lm(last)` feeds.

    attend(q, [k, new k], [v, new v], [bias, 0]);  k' = scatter(k, slot, new k); v' = ...   ->   one operation
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir
import torch
from torch import Tensor, fx

from dcompile.backends.onnx.scope import CONTRIB, DTYPES, Scope, Typed
from dcompile.ops import attend_parts
from dcompile.passes.base import Pass
from dcompile.passes.edit import emit, tidy
from dcompile.passes.facts import Store, arguments, reads_cache, stores
from dcompile.program import Graph, Program

aten = torch.ops.aten


@torch.library.custom_op("dcompile::attend_appending", mutates_args=())
def attend_appending(
    q: Tensor, new: list[Tensor], cache: list[Tensor], bias: Tensor, slot: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values `new` [1, G, 1, D] put into `cache` [1, G, C, D] at `slot` int64 [1], then attention of q
    [1, H, 1, D] over all slots under `bias` [1, 1, 1, C], which hides those behind the new one. What was attended
    [1, H, 1, D], and the cache: keys, values."""
    index = slot.reshape(1, 1, 1, 1).expand(new[0].shape)
    k, v = (torch.scatter(old, 2, index, row) for old, row in zip(cache, new, strict=True))
    return attend_parts(q, [k], [v], [bias], scale), k, v


@attend_appending.register_fake
def _(q: Tensor, new: list[Tensor], cache: list[Tensor], bias: Tensor, slot: Tensor, scale: float) -> Any:
    return q.new_empty(q.shape), cache[0].new_empty(cache[0].shape), cache[1].new_empty(cache[1].shape)


ATTEND_APPENDING = torch.ops.dcompile.attend_appending.default


@dataclass(frozen=True)
class AppendInAttention(Pass):
    """Of graphs that a host runs step by step: in loops the caches would be copied."""

    name: ClassVar[str] = "append-in-attention"

    def run(self, program: Program) -> Program:
        if program.loop == "step" and program.batch == 1:
            for graph in program.graphs:
                _rewrite(graph)
                tidy(graph.module)
        return program


def _rewrite(graph: Graph) -> None:
    found = {
        store.cache: store
        for store in stores(graph.handed_on().values())
        if store.scatter.meta.get("store") == "append"
    }
    biases: dict[tuple[fx.Node, ...], fx.Node] = {}
    order = {node: at for at, node in enumerate(graph.module.graph.nodes)}
    for node in list(graph.module.graph.nodes):
        if not reads_cache(node):
            continue
        q, k, v, (cached, fresh), scale = arguments(node)
        pair = [found[cache] for cache in (k[0], v[0]) if cache in found]
        slot = _slot(pair[0]) if len(pair) == 2 else None
        if slot is None or order[slot] > order[node] or not _fits(pair, (k[1], v[1])):
            continue
        with graph.module.graph.inserting_before(node):
            if (cached, fresh, slot) not in biases:
                place = emit(graph.module.graph, aten.reshape.default, slot, [1, 1, 1, 1])
                biases[cached, fresh, slot] = emit(graph.module.graph, aten.scatter.src, cached, 3, place, fresh)
            made = emit(
                graph.module.graph, ATTEND_APPENDING, q, [k[1], v[1]], [k[0], v[0]], biases[cached, fresh, slot], slot,
                scale, like=node,
            )  # fmt: skip
            made.meta |= {key: node.meta[key] for key in ("call", "store") if key in node.meta}
            parts = [emit(graph.module.graph, operator.getitem, made, at, like=node) for at in range(3)]
        for old, new in zip((node, *(s.scatter for s in pair)), parts, strict=True):
            old.replace_all_uses_with(new)


def _slot(store: Store) -> fx.Node | None:
    """The one slot [1, 1] that a store writes, behind what spreads it over heads."""
    node = store.index
    while node.target in (aten.expand.default, aten.reshape.default, aten.unsqueeze.default):
        node = arguments(node)[0]
    return node if node.meta["val"].numel() == 1 else None


def _fits(pair: Iterable[Store], new: Iterable[fx.Node]) -> bool:
    """Whether stores keep just what this attention sees as new. Where a row's call does not run, they keep what was
    there; that the new row is then written makes no difference: nobody takes its slot for stored."""
    return all(arguments(store.source)[1] is row for store, row in zip(pair, new, strict=True))


def appending(
    at: Scope, out: Any, q: Typed, new: list[Typed], cache: list[Typed], bias: Typed, slot: Typed, scale: float
) -> list[ir.Value]:
    """GroupQueryAttention: its heads lie one behind the other in rows, its cache as ours does."""
    heads, groups = q.shape[1], cache[0].shape[1]
    rows = [at.reshape(x, (1, 1, x.shape[1] * x.shape[3])) for x in (q, *new)]

    def last() -> ir.Value:
        return at.op("Cast", at.reshape(slot, (1,)), to=DTYPES[torch.int32])

    def length() -> ir.Value:
        return at.op("Add", at.reshape(slot, (1,)), at.ints(1))

    def total() -> ir.Value:
        return at.op("Cast", at.reshape(at.once(("length", slot.value), length), ()), to=DTYPES[torch.int32])

    def seen() -> ir.Value:
        return at.op("Slice", bias, at.ints(0), at.once(("length", slot.value), length), at.ints(3))

    shared = [
        at.once((name, slot.value, bias.value), make)
        for name, make in (("last", last), ("total", total), ("seen", seen))
    ]
    made = at.ops(
        "GroupQueryAttention", *rows, *cache, *shared[:2], None, None, None, shared[2], outputs=3, domain=CONTRIB,
        name="attend", num_heads=heads, kv_num_heads=groups, scale=float(scale),
    )  # fmt: skip
    flat = (1, 1, heads * q.shape[3])
    return [at.reshape(Typed(at.shaped(made[0], flat), q.dtype, flat), q.shape), made[1], made[2]]


OPS: dict[Any, Any] = {ATTEND_APPENDING: appending}
