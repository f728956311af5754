"""Reductions, running sums, softmax, and orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from tvm import relax

from dcompile.backends.tvm import ranks
from dcompile.backends.tvm.values import Kind, Scope, Value, axis_of

aten = torch.ops.aten
op = relax.op
Convert = Callable[..., Any]
Axes = int | Sequence[int] | None


def axes_of(axes: Axes, rank: int) -> list[int]:
    """The axes as a list counted from the front; None or an empty list means all."""
    listed = [axes] if isinstance(axes, int) else list(axes or range(rank))
    return [axis_of(a, rank) for a in listed] if rank else []


def fold(relax_op: Any) -> Convert:
    def convert(at: Scope, out: Kind, x: Value, axes: Axes = None, keep: bool = False, **_: Any) -> Any:
        expr = at.cast(x, out.dtype)
        return relax_op(expr, axes_of(axes, x.rank), keep) if x.rank else expr

    return convert


def truth(relax_op: Any) -> Convert:
    """`any` and `all`, as the largest or smallest of zeros and ones."""

    def convert(at: Scope, out: Kind, x: Value, axes: Axes = None, keep: bool = False) -> Any:
        flags = at.emit(op.astype(at.cast(x, "bool"), "int8"))
        folded = at.emit(relax_op(flags, axes_of(axes, x.rank), keep)) if x.rank else flags
        return op.astype(folded, "bool")

    return convert


def extreme_at(relax_fold: Any, relax_arg: Any) -> Convert:
    """`max(dim)` and `min(dim)`: values, and the lowest index of each."""

    def convert(at: Scope, out: Sequence[Kind], x: Value, axis: int, keep: bool = False) -> list[Any]:
        if not x.rank:
            return [x.expr, at.const(0, "int64")]
        at_axis = axis_of(axis, x.rank)
        indices = at.emit(op.astype(at.emit(relax_arg(x.expr, at_axis, keep)), "int64"))
        return [at.emit(relax_fold(x.expr, [at_axis], keep)), indices]

    return convert


def arg(relax_arg: Any) -> Convert:
    def convert(at: Scope, out: Kind, x: Value, axis: int | None = None, keep: bool = False) -> Any:
        if not x.rank:
            return at.const(0, "int64")
        expr = x.expr if axis is not None else at.reshape(x.expr, [-1])
        found = at.emit(relax_arg(expr, axis_of(axis, x.rank) if axis is not None else 0, keep and axis is not None))
        found = at.emit(op.astype(found, "int64"))
        return at.reshape(found, out.shape) if axis is None else found

    return convert


def cumsum(at: Scope, out: Kind, x: Value, axis: int, **_: Any) -> Any:
    return op.cumsum(at.cast(x, out.dtype), axis_of(axis, x.rank), out.dtype) if x.rank else at.cast(x, out.dtype)


def softmax(relax_op: Any) -> Convert:
    return lambda at, out, x, axis, *_, **__: relax_op(at.cast(x, out.dtype), axis_of(axis, x.rank))


def logsumexp(at: Scope, out: Kind, x: Value, axes: Axes, keep: bool = False) -> Any:
    along, expr = axes_of(axes, x.rank), at.cast(x, out.dtype)
    top = at.emit(op.max(expr, along, True))
    total = at.emit(op.sum(at.emit(op.exp(at.emit(op.subtract(expr, top)))), along, True))
    return at.reshape(at.emit(op.add(at.emit(op.log(total)), top)), out.shape)


def order(at: Scope, out: Kind, key: Value) -> Any:
    return argsort(at, key, key.rank - 1, True)


def argsort(at: Scope, x: Value, axis: int, descending: bool) -> Any:
    """TVM sorts on the CPU with std::stable_sort: ties keep their order, and -0 equals 0. In C by counting."""
    if at.vectors:
        return op.argsort(x.expr, axis=axis, descending=descending, dtype="int64")
    axes = [*(a for a in range(x.rank) if a != axis), axis]
    moved = axes != list(range(x.rank))
    rows = at.emit(op.permute_dims(x.expr, axes)) if moved else x.expr
    flat = Kind("int64", (prod(x.shape) // x.shape[axis], x.shape[axis]))
    found = at.call(ranks.order(*flat.shape, x.dtype, descending), [at.reshape(rows, flat.shape)], flat)
    found = at.reshape(found, [x.shape[a] for a in axes])
    return op.permute_dims(found, [axes.index(a) for a in range(x.rank)]) if moved else found


def sort(at: Scope, out: Sequence[Kind], x: Value, axis: int = -1, descending: bool = False, **_: Any) -> list[Any]:
    along = axis_of(axis, x.rank)
    indices = at.emit(argsort(at, x, along, descending))
    return [at.emit(op.gather_elements(x.expr, indices, along)), indices]


def stable_sort(
    at: Scope, out: Sequence[Kind], x: Value, *, stable: bool | None = True, dim: int = -1, descending: bool = False
) -> list[Any]:
    return sort(at, out, x, dim, descending)


def topk(at: Scope, out: Sequence[Kind], x: Value, k: int, axis: int = -1, largest: bool = True, *_: Any) -> list[Any]:
    along = axis_of(axis, x.rank)
    return [at.emit(at.slice(e, along, 0, k)) for e in sort(at, out, x, along, largest)]


def product(at: Scope, out: Kind, x: Value, axis: int | None = None, keep: bool = False, **_: Any) -> Any:
    return fold(op.prod)(at, out, x, axis, keep)


TABLE: dict[Any, Convert] = {
    **{o: fold(op.sum) for o in (aten.sum.default, aten.sum.dim_IntList)},
    **{o: fold(op.mean) for o in (aten.mean.default, aten.mean.dim)},
    **{o: fold(op.max) for o in (aten.amax.default, aten.max.default)},
    **{o: fold(op.min) for o in (aten.amin.default, aten.min.default)},
    **dict.fromkeys((aten.prod.default, aten.prod.dim_int), product),
    **{o: truth(op.max) for o in (aten.any.default, aten.any.dim, aten.any.dims)},
    **{o: truth(op.min) for o in (aten.all.default, aten.all.dim, aten.all.dims)},
    aten.max.dim: extreme_at(op.max, op.argmax),
    aten.min.dim: extreme_at(op.min, op.argmin),
    aten.argmax.default: arg(op.argmax),
    aten.argmin.default: arg(op.argmin),
    aten.cumsum.default: cumsum,
    **{o: softmax(op.nn.softmax) for o in (aten.softmax.int, aten._softmax.default)},
    **{o: softmax(op.nn.log_softmax) for o in (aten.log_softmax.int, aten._log_softmax.default)},
    aten.logsumexp.default: logsumexp,
    torch.ops.dcompile.order.default: order,
    aten.sort.default: sort,
    aten.sort.stable: stable_sort,
    aten.topk.default: topk,
}
