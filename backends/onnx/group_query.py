"""ONNX Runtime's GroupQueryAttention: how attention that appends (`appending.py`) is said to it."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from dcompile.backends.onnx import rotary
from dcompile.backends.onnx.appending import ATTEND_APPENDING
from dcompile.backends.onnx.scope import CONTRIB, DTYPES, Scope, Typed
from dcompile.backends.onnx.shapes import transposed

SWAP = (0, 2, 1, 3)  # heads and tokens


def appending(
    at: Scope, out: Any, q: Typed, new: list[Typed], cache: list[Typed], bias: Typed, slot: Typed, scale: float,
    tables: list[Typed], position: Typed | None,
) -> list[ir.Value]:  # fmt: skip
    """GroupQueryAttention: its heads lie one behind the other in rows, its cache as ours does."""
    heads, groups, width = q.shape[1], cache[0].shape[1], q.shape[2]
    rows = _packed([_in_rows(at, x) for x in (q, *new)])
    angles = [] if position is None else [*(rotary.half(at, x) for x in tables), at.reshape(position, (1, width))]
    last, total, seen = _lengths(at, bias, slot, width)
    made = at.ops(
        "GroupQueryAttention", *rows, *cache, last, total, *(angles or (None, None, None)), seen, outputs=3,
        domain=CONTRIB, name="attend", num_heads=heads, kv_num_heads=groups, scale=float(scale),
        do_rotary=int(position is not None),
    )  # fmt: skip
    return [_in_heads(at, Typed(made[0], q.dtype, (1, width, heads * q.shape[3])), heads), made[1], made[2]]


def _in_rows(at: Scope, x: Typed) -> ir.Value:
    """Heads [1, H, W, D] as rows [1, W, H D]."""
    _, heads, width, dim = x.shape
    swapped = Typed(transposed(at, x, SWAP), x.dtype, (1, width, heads, dim))
    return at.reshape(swapped, (1, width, heads * dim))


def _in_heads(at: Scope, x: Typed, heads: int) -> ir.Value:
    """Rows [1, W, H D] as heads [1, H, W, D]."""
    apart = (1, x.shape[1], heads, x.shape[2] // heads)
    rows = Typed(at.shaped(x.value, x.shape), x.dtype, x.shape)
    return transposed(at, Typed(at.reshape(rows, apart), x.dtype, apart), SWAP)


def _packed(rows: list[ir.Value]) -> list[ir.Value | None]:
    """What was one row before it was split into query, key and value, if that is all it was split into."""
    split = rows[0].producer()
    if split is not None and split.op_type == "Split" and list(split.outputs) == rows:
        return [split.inputs[0], None, None]
    return [*rows]


def _lengths(at: Scope, bias: Typed, slot: Typed, width: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    """As the kernel asks for them, once for all layers: the last slot int32 [1], the number of slots int32 [], and the
    bias of these."""

    def last() -> ir.Value:
        return at.op("Cast", at.op("Sub", count, at.ints(1)) if width > 1 else first, to=DTYPES[torch.int32])

    def total() -> ir.Value:
        return at.op("Cast", at.reshape(count, ()), to=DTYPES[torch.int32])

    def seen() -> ir.Value:
        return at.op("Slice", bias, at.ints(0), count, at.ints(3))

    first = at.reshape(slot, (1,))
    count = at.once(("length", slot.value), lambda: at.op("Add", first, at.ints(width)))
    return (
        at.once(("last", slot.value), last),
        at.once(("total", slot.value), total),
        at.once(("seen", slot.value, bias.value), seen),
    )


OPS: dict[Any, Any] = {ATTEND_APPENDING: appending}
