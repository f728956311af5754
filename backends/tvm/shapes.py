"""Views, joins, cuts, and tensors made of nothing. All shapes are static."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tvm import relax

from dcompile.backends.tvm.values import Kind, Number, Scope, Value, axis_of

aten = torch.ops.aten
op = relax.op
Convert = Callable[..., Any]


def same(at: Scope, out: Kind, x: Value, *_: Any, **__: Any) -> Any:
    return x.expr


def reshape(at: Scope, out: Kind, x: Value, *_: Any) -> Any:
    return x.expr if x.shape == out.shape else op.reshape(x.expr, list(out.shape))


def expand(at: Scope, out: Kind, x: Value, *_: Any, **__: Any) -> Any:
    return x.expr if x.shape == out.shape else op.broadcast_to(x.expr, list(out.shape))


def permute(at: Scope, out: Kind, x: Value, axes: Sequence[int]) -> Any:
    return op.permute_dims(x.expr, [axis_of(a, x.rank) for a in axes])


def transpose(at: Scope, out: Kind, x: Value, a: int = 0, b: int = 1) -> Any:
    if x.rank < 2:
        return x.expr
    axes = list(range(x.rank))
    axes[a], axes[b] = axes[b], axes[a]
    return op.permute_dims(x.expr, axes)


def cat(at: Scope, out: Kind, xs: Sequence[Value], axis: int = 0) -> Any:
    kept = [at.cast(x, out.dtype) for x in xs if 0 not in x.shape]
    return op.concat(kept, axis_of(axis, out.rank)) if len(kept) > 1 else kept[0]


def stack(at: Scope, out: Kind, xs: Sequence[Value], axis: int = 0) -> Any:
    along = axis_of(axis, out.rank)
    return op.concat([at.emit(op.expand_dims(at.cast(x, out.dtype), along)) for x in xs], along)


def bounds(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    """The start and end of a slice as Python has them: counted from the front, and inside."""
    first, last, _ = slice(start, end).indices(size)
    return first, max(first, last)


def cut(
    at: Scope, out: Kind, x: Value, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    along = axis_of(axis, x.rank)
    first, last = bounds(x.shape[along], start, end)
    if (first, last, step) == (0, x.shape[along], 1):
        return x.expr
    if 0 in out.shape:
        return at.const(np.zeros(out.shape), out.dtype)
    return at.slice(x.expr, along, first, last, step)


def select(at: Scope, out: Kind, x: Value, axis: int, index: int) -> Any:
    along = axis_of(axis, x.rank)
    first = index % x.shape[along]
    return op.reshape(at.slice(x.expr, along, first, first + 1), list(out.shape))


def split(at: Scope, out: Sequence[Kind], x: Value, sizes: Any = None, axis: int = 0) -> list[Any]:
    """`split`, `split_with_sizes` and `chunk`: the sizes are those of the results."""
    along, start, parts = axis_of(axis, x.rank), 0, []
    for kind in out:
        parts.append(at.emit(at.slice(x.expr, along, start, start + kind.shape[along])))
        start += kind.shape[along]
    return parts


def unbind(at: Scope, out: Sequence[Kind], x: Value, axis: int = 0) -> list[Any]:
    return [at.emit(select(at, kind, x, axis, i)) for i, kind in enumerate(out)]


def flip(at: Scope, out: Kind, x: Value, axes: Sequence[int]) -> Any:
    expr = x.expr
    for axis in axes:
        expr = at.emit(op.flip(expr, axis_of(axis, x.rank)))
    return expr


def roll(at: Scope, out: Kind, x: Value, shifts: Any, axes: Any = ()) -> Any:
    shifts, axes = ([v] if isinstance(v, int) else list(v) for v in (shifts, axes))
    flat = not axes
    expr, shape = (at.reshape(x.expr, [-1]), [int(np.prod(x.shape))]) if flat else (x.expr, list(x.shape))
    for shift, axis in zip(shifts, axes or [0], strict=True):
        along = axis_of(axis, len(shape))
        size = shape[along]
        if size and (by := shift % size):
            ends = at.slice(expr, along, size - by, size), at.slice(expr, along, 0, size - by)
            expr = at.emit(op.concat(list(ends), along))
    return at.reshape(expr, x.shape) if flat else expr


def pad(at: Scope, out: Kind, x: Value, widths: Sequence[int], *rest: Any, value: Number | None = None) -> Any:
    """Constant padding, from the last axis on; negative widths cut. Done by joining, for any dtype."""
    fill = value if value is not None else next((v for v in rest if isinstance(v, bool | int | float)), 0)
    expr, shape = x.expr, list(x.shape)
    for i, (before, after) in enumerate(zip(widths[::2], widths[1::2], strict=True)):
        along = x.rank - 1 - i
        if before < 0 or after < 0:
            expr = at.slice(expr, along, max(-before, 0), shape[along] - max(-after, 0))
            shape[along] -= max(-before, 0) + max(-after, 0)
        sides = [
            fill_of(at, [*shape[:along], w, *shape[along + 1 :]], fill, x.dtype) if w > 0 else None
            for w in (before, after)
        ]
        parts = [p for p in (sides[0], expr, sides[1]) if p is not None]
        expr = at.emit(op.concat(parts, along)) if len(parts) > 1 else expr
        shape[along] += max(before, 0) + max(after, 0)
    return expr


def fill_of(at: Scope, shape: Sequence[int], value: Number, dtype: str) -> Any:
    """A tensor full of one number."""
    return at.emit(op.full(list(shape), at.const(value, dtype), dtype))


def repeat(at: Scope, out: Kind, x: Value, times: Sequence[int]) -> Any:
    return op.tile(at.reshape(x.expr, [1] * (len(times) - x.rank) + list(x.shape)), list(times))


def repeat_interleave(at: Scope, out: Kind, x: Value, times: int, axis: int | None = None, **_: Any) -> Any:
    return op.repeat(x.expr, times, axis_of(axis, x.rank) if axis is not None else None)


def triangle(lower: bool) -> Convert:
    def convert(at: Scope, out: Kind, x: Value, diagonal: int = 0) -> Any:
        rows, columns = x.shape[-2:]
        below = np.tri(rows, columns, diagonal if lower else diagonal - 1, dtype=bool)
        mask = below if lower else ~below
        return op.where(at.const(mask, "bool"), x.expr, at.const(0, x.dtype))

    return convert


def full(at: Scope, out: Kind, size: Any, value: Number, **_: Any) -> Any:
    return at.const(value, out.dtype) if not out.shape else fill_of(at, out.shape, value, out.dtype)


def filled(value: Number) -> Convert:
    return lambda at, out, *_, **__: full(at, out, None, value)


def scalar(at: Scope, out: Kind, value: Number, **_: Any) -> Any:
    return at.const(value, out.dtype)


def arange(at: Scope, out: Kind, *limits: Number, **_: Any) -> Any:
    start = limits[0] if len(limits) > 1 else 0
    step = limits[2] if len(limits) > 2 else 1
    return at.const(start + step * np.arange(out.shape[0]), out.dtype)


TABLE: dict[Any, Convert] = {
    **dict.fromkeys((aten.clone.default, aten.alias.default, aten.detach.default, aten.contiguous.default), same),
    **dict.fromkeys((aten.lift_fresh_copy.default, aten.dropout.default), same),
    **dict.fromkeys(
        (aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten.flatten.using_ints), reshape
    ),
    **dict.fromkeys((aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims), reshape),
    aten.unflatten.int: reshape,
    **dict.fromkeys((aten.expand.default, aten.expand_as.default, aten.broadcast_to.default), expand),
    aten.permute.default: permute,
    **dict.fromkeys((aten.transpose.int, aten.t.default), transpose),
    **dict.fromkeys((aten.cat.default, aten.concat.default), cat),
    aten.stack.default: stack,
    aten.slice.Tensor: cut,
    aten.narrow.default: lambda at, out, x, axis, start, length: cut(
        at, out, x, axis, start, start % x.shape[axis] + length
    ),
    aten.select.int: select,
    **dict.fromkeys((aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.split.sizes), split),
    aten.unbind.int: unbind,
    aten.flip.default: flip,
    aten.roll.default: roll,
    **dict.fromkeys((aten.constant_pad_nd.default, aten.pad.default), pad),
    aten.repeat.default: repeat,
    aten.repeat_interleave.self_int: repeat_interleave,
    aten.tril.default: triangle(True),
    aten.triu.default: triangle(False),
    **dict.fromkeys((aten.full.default, aten.full_like.default, aten.new_full.default), full),
    **{o: filled(0) for o in (aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default)},
    **{o: filled(1) for o in (aten.ones.default, aten.ones_like.default, aten.new_ones.default)},
    **{o: filled(0) for o in (aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default)},
    aten.scalar_tensor.default: scalar,
    **dict.fromkeys((aten.arange.default, aten.arange.start, aten.arange.start_step), arange),
}
