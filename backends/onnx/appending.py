"""Attention that appends: keys and values go into the cache and are attended there, in one kernel.

Where the host runs the steps, caches are its buffers, and GroupQueryAttention writes into them (`in_place.py`): nothing
is copied, and only slots up to the new ones are read. For a batch of one row of a causal model, and one token or a
chain of them: what `lm(last)` feeds, or `lm(t)` of drafts one behind the other.

    attend(q, [k, new k], [v, new v], [bias, sees]);  k' = scatter(k, slots, new k); v' = ...   ->   one operation
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from dcompile.backends.onnx import rotary
from dcompile.ops import attend_parts
from dcompile.passes.base import Pass
from dcompile.passes.edit import emit, tidy
from dcompile.passes.facts import Store, arguments, reads_cache, stores
from dcompile.program import Graph, Program

aten = torch.ops.aten


@torch.library.custom_op("dcompile::attend_appending", mutates_args=())
def attend_appending(
    q: Tensor, new: list[Tensor], cache: list[Tensor], bias: Tensor, slot: Tensor, scale: float,
    tables: list[Tensor], position: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Keys and values `new` [1, G, W, D] put into `cache` [1, G, C, D] from `slot` int64 [1, 1] on, then attention of q
    [1, H, W, D] over all slots under `bias` [1, 1, W, C], which hides those behind each one's own. With `tables` of cos
    and sin [1, 1, C, D] query and key are first turned as at `position` int64 [1, W]. What was attended [1, H, W, D],
    and the cache: keys, values."""
    if position is not None:
        q, new = rotary.turned(q, tables, position), [rotary.turned(new[0], tables, position), new[1]]
    index = (slot.reshape(1, 1, 1, 1) + torch.arange(q.shape[2]).reshape(1, 1, -1, 1)).expand(new[0].shape)
    k, v = (torch.scatter(old, 2, index, row) for old, row in zip(cache, new, strict=True))
    return attend_parts(q, [k], [v], [bias], scale), k, v


@attend_appending.register_fake
def _(
    q: Tensor, new: list[Tensor], cache: list[Tensor], bias: Tensor, slot: Tensor, scale: float,
    tables: list[Tensor], position: Tensor | None,
) -> Any:  # fmt: skip
    return q.new_empty(q.shape), cache[0].new_empty(cache[0].shape), cache[1].new_empty(cache[1].shape)


HEAD, TURNS = 8, 16  # what the kernel wants the width of a head to be a multiple of; the same where it turns heads

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
    found = {store.cache: store for store in stores(graph.handed_on().values()) if _appends(store)}
    order = {node: at for at, node in enumerate(graph.module.graph.nodes)}
    biases: dict[tuple[fx.Node, ...], fx.Node] = {}
    firsts: dict[fx.Node, fx.Node] = {}
    angles: rotary.Tables | None = None
    for node in list(graph.module.graph.nodes):
        if not reads_cache(node):
            continue
        q, k, v, bias, scale = arguments(node)
        pair = [found[cache] for cache in (k[0], v[0]) if cache in found]
        slots = _slots(pair[0]) if len(pair) == 2 else None
        if slots is None or order[slots] > order[node] or not _fits(pair, q, k[1], v[1]):
            continue
        with graph.module.graph.inserting_before(node):
            angles = angles or rotary.Tables(graph.module.graph, k[0].meta["val"].shape[2], q.meta["val"].shape[2])
            (q, new), turning = _before_turning(angles, q, k[1])
            whole, slot = _whole_bias(biases, bias, slots), _first(firsts, slots)
            made = emit(
                node.graph, ATTEND_APPENDING, q, [new, v[1]], [k[0], v[0]], whole, slot, scale, *turning, like=node
            )
            made.meta |= {key: node.meta[key] for key in ("call", "store") if key in node.meta}
            parts = [emit(node.graph, operator.getitem, made, at, like=node) for at in range(3)]
        for old, part in zip((node, *(s.scatter for s in pair)), parts, strict=True):
            old.replace_all_uses_with(part)


def _appends(store: Store) -> bool:
    return store.scatter.meta.get("store") in ("append", "chain")


def _before_turning(angles: rotary.Tables, q: fx.Node, k: fx.Node) -> tuple[tuple[fx.Node, fx.Node], tuple[Any, Any]]:
    """Query and key as they are before their rotary embedding, with its tables and the position; or as they are."""
    pair = [rotary.recognised(q), rotary.recognised(k)]
    if q.meta["val"].shape[3] % TURNS or pair[0] is None or pair[1] is None or pair[0][1:] != pair[1][1:]:
        return (q, k), ([], None)
    tables = [angles.of(angle) for angle in pair[0][1:]]
    if None in tables:
        return (q, k), ([], None)
    return (pair[0][0], pair[1][0]), (tables, angles.position)


def _whole_bias(made: dict[tuple[fx.Node, ...], fx.Node], bias: list[fx.Node], slots: fx.Node) -> fx.Node:
    """The bias of all slots, the new ones' own in their place; all layers share it."""
    if (*bias, slots) not in made:
        graph, width = slots.graph, slots.meta["val"].numel()
        place = emit(graph, aten.reshape.default, slots, [1, 1, 1, width])
        old = bias[0]
        if width > 1:
            place = emit(graph, aten.expand.default, place, [1, 1, width, width])
            old = emit(graph, aten.expand.default, old, [1, 1, width, old.meta["val"].shape[3]])
        made[*bias, slots] = emit(graph, aten.scatter.src, old, 3, place, bias[1])
    return made[*bias, slots]


def _first(made: dict[fx.Node, fx.Node], slots: fx.Node) -> fx.Node:
    """The first of slots that lie one behind the other."""
    if slots.meta["val"].numel() > 1 and slots not in made:
        made[slots] = emit(slots.graph, aten.slice.Tensor, slots, 1, 0, 1)
    return made.get(slots, slots)


def _slots(store: Store) -> fx.Node | None:
    """The slots [1, W] that a store writes, behind what spreads them over heads."""
    node = store.index
    while node.target in (aten.expand.default, aten.reshape.default, aten.unsqueeze.default):
        node = arguments(node)[0]
    width = store.index.meta["val"].shape[2]
    return node if tuple(node.meta["val"].shape) in ((1, width), (width,)) else None


def _fits(pair: Iterable[Store], q: fx.Node, *new: fx.Node) -> bool:
    """Whether stores keep just what this attention sees as new. Where a row's call does not run, and of drafts that are
    not accepted, they keep what was there; that the new rows are then written makes no difference: nobody takes their
    slots for stored."""
    whole = all(arguments(store.source)[1] is rows for store, rows in zip(pair, new, strict=True))
    return whole and q.meta["val"].shape[3] % HEAD == 0
