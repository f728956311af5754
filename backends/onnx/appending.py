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

from dcompile.backends.onnx import rotary
from dcompile.backends.onnx.scope import CONTRIB, DTYPES, Scope, Typed
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
    """Keys and values `new` [1, G, 1, D] put into `cache` [1, G, C, D] at `slot` int64 [1, 1], then attention of q
    [1, H, 1, D] over all slots under `bias` [1, 1, 1, C], which hides those behind the new one. With `tables` of cos
    and sin [1, 1, C, D] query and key are first turned as at `position` int64 [1, 1]. What was attended [1, H, 1, D],
    and the cache: keys, values."""
    if position is not None:
        q, new = rotary.turned(q, tables, position), [rotary.turned(new[0], tables, position), new[1]]
    index = slot.reshape(1, 1, 1, 1).expand(new[0].shape)
    k, v = (torch.scatter(old, 2, index, row) for old, row in zip(cache, new, strict=True))
    return attend_parts(q, [k], [v], [bias], scale), k, v


@attend_appending.register_fake
def _(
    q: Tensor, new: list[Tensor], cache: list[Tensor], bias: Tensor, slot: Tensor, scale: float,
    tables: list[Tensor], position: Tensor | None,
) -> Any:  # fmt: skip
    return q.new_empty(q.shape), cache[0].new_empty(cache[0].shape), cache[1].new_empty(cache[1].shape)


HEAD, TURNS = (
    8,
    16,
)  # what the kernel wants the width of a head to be a multiple of, and where it turns queries and keys

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
    angles: rotary.Tables | None = None
    for node in list(graph.module.graph.nodes):
        if not reads_cache(node):
            continue
        q, k, v, bias, scale = arguments(node)
        pair = [found[cache] for cache in (k[0], v[0]) if cache in found]
        slot = _slot(pair[0]) if len(pair) == 2 else None
        if slot is None or order[slot] > order[node] or not _fits(pair, (k[1], v[1])) or q.meta["val"].shape[3] % HEAD:
            continue
        with graph.module.graph.inserting_before(node):
            angles = angles or rotary.Tables(graph.module.graph, k[0].meta["val"].shape[2])
            (q, new), turning = _before_turning(angles, q, k[1])
            whole = _whole_bias(biases, bias, slot)
            made = emit(
                node.graph, ATTEND_APPENDING, q, [new, v[1]], [k[0], v[0]], whole, slot, scale, *turning, like=node
            )
            made.meta |= {key: node.meta[key] for key in ("call", "store") if key in node.meta}
            parts = [emit(node.graph, operator.getitem, made, at, like=node) for at in range(3)]
        for old, part in zip((node, *(s.scatter for s in pair)), parts, strict=True):
            old.replace_all_uses_with(part)


def _appends(store: Store) -> bool:
    return bool(store.scatter.meta.get("store") == "append")


def _before_turning(angles: rotary.Tables, q: fx.Node, k: fx.Node) -> tuple[tuple[fx.Node, fx.Node], tuple[Any, Any]]:
    """Query and key as they are before their rotary embedding, with its tables and the position; or as they are."""
    pair = [rotary.recognised(q), rotary.recognised(k)]
    if q.meta["val"].shape[3] % TURNS or pair[0] is None or pair[1] is None or pair[0][1:] != pair[1][1:]:
        return (q, k), ([], None)
    tables = [angles.of(angle) for angle in pair[0][1:]]
    if None in tables:
        return (q, k), ([], None)
    return (pair[0][0], pair[1][0]), (tables, angles.position)


def _whole_bias(made: dict[tuple[fx.Node, ...], fx.Node], bias: list[fx.Node], slot: fx.Node) -> fx.Node:
    """The bias of all slots, the new one's own in its place; all layers share it."""
    if (*bias, slot) not in made:
        place = emit(slot.graph, aten.reshape.default, slot, [1, 1, 1, 1])
        made[*bias, slot] = emit(slot.graph, aten.scatter.src, bias[0], 3, place, bias[1])
    return made[*bias, slot]


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
    at: Scope, out: Any, q: Typed, new: list[Typed], cache: list[Typed], bias: Typed, slot: Typed, scale: float,
    tables: list[Typed], position: Typed | None,
) -> list[ir.Value]:  # fmt: skip
    """GroupQueryAttention: its heads lie one behind the other in rows, its cache as ours does."""
    heads, groups = q.shape[1], cache[0].shape[1]
    rows = _packed([at.reshape(x, (1, 1, x.shape[1] * x.shape[3])) for x in (q, *new)])
    angles = [] if position is None else [*(rotary.half(at, table) for table in tables), at.reshape(position, (1, 1))]
    last, total, seen = _lengths(at, bias, slot)
    made = at.ops(
        "GroupQueryAttention", *rows, *cache, last, total, *(angles or (None, None, None)), seen, outputs=3,
        domain=CONTRIB, name="attend", num_heads=heads, kv_num_heads=groups, scale=float(scale),
        do_rotary=int(position is not None),
    )  # fmt: skip
    flat = (1, 1, heads * q.shape[3])
    return [at.reshape(Typed(at.shaped(made[0], flat), q.dtype, flat), q.shape), made[1], made[2]]


def _packed(rows: list[ir.Value]) -> list[ir.Value | None]:
    """What was one row before it was split into query, key and value, if that is all it was split into."""
    split = rows[0].producer()
    if split is not None and split.op_type == "Split" and list(split.outputs) == rows:
        return [split.inputs[0], None, None]
    return [*rows]


def _lengths(at: Scope, bias: Typed, slot: Typed) -> tuple[ir.Value, ir.Value, ir.Value]:
    """As the kernel asks for them, once for all layers: the last slot int32 [1], the number of slots int32 [], and the
    bias of these."""

    def last() -> ir.Value:
        return at.op("Cast", at.reshape(slot, (1,)), to=DTYPES[torch.int32])

    def length() -> ir.Value:
        return at.op("Add", at.reshape(slot, (1,)), at.ints(1))

    count = at.once(("length", slot.value), length)

    def total() -> ir.Value:
        return at.op("Cast", at.reshape(count, ()), to=DTYPES[torch.int32])

    def seen() -> ir.Value:
        return at.op("Slice", bias, at.ints(0), count, at.ints(3))

    return (
        at.once(("last", slot.value), last),
        at.once(("total", slot.value), total),
        at.once(("seen", slot.value, bias.value), seen),
    )


OPS: dict[Any, Any] = {ATTEND_APPENDING: appending}
