"""Sums, extremes, softmax, running sums, orders: what folds or ranks an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch

from dcompile.backends.onnx import vocabulary
from dcompile.backends.onnx.scope import DTYPES, Scope, Typed, axis_of, size_of

aten = torch.ops.aten

Axes = int | Sequence[int] | None


def _reduce(at: Scope, kind: str, x: ir.Value, rank: int, axes: Axes, keep: bool) -> ir.Value:
    """Fold axes (all of them where none is named); rank 0 is its own result."""
    if rank == 0:
        return x
    listed = [axes] if isinstance(axes, int) else list(axes or range(rank))
    return at.op(kind, x, at.ints(*(axis_of(a, rank) for a in listed)), keepdims=int(keep))


def fold(kind: str) -> Callable[..., ir.Value]:
    """sum, mean, prod, amax, amin: computed in the result's dtype."""

    def emit(at: Scope, out: Typed, x: Typed, axes: Axes = None, keep: bool = False, *_: Any) -> ir.Value:
        return _reduce(at, kind, at.to(x, out.dtype), x.rank, axes, keep)

    return emit


def amax(at: Scope, out: Typed, x: Typed, axes: Axes = None, keep: bool = False) -> ir.Value:
    listed = [axes] if isinstance(axes, int) else list(axes or range(x.rank))
    if x.rank and [axis_of(a, x.rank) for a in listed] == [x.rank - 1]:
        return vocabulary.largest(at, x, keep)
    return _reduce(at, "ReduceMax", x.value, x.rank, axes, keep)


def fold_all(kind: str) -> Callable[..., ir.Value]:
    return lambda at, out, x, *_: _reduce(at, kind, at.to(x, out.dtype), x.rank, None, False)


def truth(kind: str) -> Callable[..., ir.Value]:
    """any, all: the largest or smallest truth value."""

    def emit(at: Scope, out: Typed, x: Typed, axes: Axes = None, keep: bool = False) -> ir.Value:
        test = Typed(at.to(x, torch.bool), torch.bool, x.shape)
        if size_of(x.shape) == size_of(out.shape):
            return at.reshape(test, out.shape)
        return _reduce(at, kind, test.value, x.rank, axes, keep)

    return emit


def extreme(kind: str, index: str) -> Callable[..., Sequence[ir.Value]]:
    """max(dim), min(dim): the value, and the lowest index that has it."""

    def emit(at: Scope, out: Sequence[Typed], x: Typed, axis: int, keep: bool = False) -> Sequence[ir.Value]:
        value = _reduce(at, kind, x.value, x.rank, axis, keep)
        return value, _first(at, index, x, axis, keep)

    return emit


def _first(at: Scope, kind: str, x: Typed, axis: int, keep: bool) -> ir.Value:
    if x.rank == 0:
        return at.constant(0, torch.int64)
    if (
        kind == "ArgMax"
        and axis_of(axis, x.rank) == x.rank - 1
        and (index := vocabulary.argmax(at, x, keep)) is not None
    ):
        return index
    number = at.to(x, torch.int32) if x.dtype == torch.bool else x.value
    return at.op(kind, number, axis=axis_of(axis, x.rank), keepdims=int(keep))


def argument(kind: str) -> Callable[..., ir.Value]:
    """argmax, argmin; without an axis over all elements in order."""

    def emit(at: Scope, out: Typed, x: Typed, axis: int | None = None, keep: bool = False) -> ir.Value:
        if axis is not None:
            return _first(at, kind, x, axis, keep)
        flat = Typed(at.reshape(x, (size_of(x.shape),)), x.dtype, (size_of(x.shape),))
        return at.reshape(_first(at, kind, flat, 0, False), out.shape)

    return emit


def softmax(kind: str) -> Callable[..., ir.Value]:
    def emit(at: Scope, out: Typed, x: Typed, axis: int, *_: Any) -> ir.Value:
        return at.op(kind, at.to(x, out.dtype), axis=axis_of(axis, x.rank))

    return emit


def logsumexp(at: Scope, out: Typed, x: Typed, axes: Axes, keep: bool = False) -> ir.Value:
    return _reduce(at, "ReduceLogSumExp", at.to(x, out.dtype), x.rank, axes, keep)


def cumsum(at: Scope, out: Typed, x: Typed, axis: int, *_: Any) -> ir.Value:
    if x.rank == 0:
        return at.to(x, out.dtype)
    return at.op("CumSum", at.to(x, out.dtype), at.constant(axis_of(axis, x.rank), torch.int64))


def order(at: Scope, out: Typed, key: Typed) -> ir.Value:
    """ORT's TopK breaks ties towards the lowest index, whatever k."""
    return _topk(at, key, key.shape[-1], -1, True)[1]


def sort(at: Scope, out: Sequence[Typed], x: Typed, axis: int = -1, descending: bool = False) -> Sequence[ir.Value]:
    if x.rank == 0:
        return x.value, at.constant(0, torch.int64)
    return _topk(at, x, x.shape[axis], axis, descending)


def stable_sort(
    at: Scope, out: Sequence[Typed], x: Typed, stable: bool | None, axis: int = -1, descending: bool = False
) -> Sequence[ir.Value]:
    return sort(at, out, x, axis, descending)


def argsort(at: Scope, out: Typed, x: Typed, axis: int = -1, descending: bool = False) -> ir.Value:
    return sort(at, (), x, axis, descending)[1]


def topk(at: Scope, out: Sequence[Typed], x: Typed, k: int, axis: int = -1, largest: bool = True, *_: Any) -> Any:
    return _topk(at, x, k, axis, largest)


def _topk(at: Scope, x: Typed, k: int, axis: int, largest: bool) -> Sequence[ir.Value]:
    number = at.to(x, torch.int32) if x.dtype == torch.bool else x.value
    axis = axis_of(axis, x.rank)
    values, indices = at.ops("TopK", number, at.ints(k), outputs=2, axis=axis, largest=int(largest), sorted=1)
    return (at.op("Cast", values, to=DTYPES[x.dtype]) if x.dtype == torch.bool else values), indices


OPS: dict[Any, Callable[..., Any]] = {
    **{target: fold("ReduceSum") for target in (aten.sum.dim_IntList,)},
    **{target: fold("ReduceMean") for target in (aten.mean.dim,)},
    **{target: fold("ReduceProd") for target in (aten.prod.dim_int,)},
    **{target: truth("ReduceMax") for target in (aten.any.default, aten.any.dim, aten.any.dims)},
    **{target: truth("ReduceMin") for target in (aten.all.default, aten.all.dim, aten.all.dims)},
    **{target: softmax("Softmax") for target in (aten.softmax.int, aten._softmax.default)},
    **{target: softmax("LogSoftmax") for target in (aten.log_softmax.int, aten._log_softmax.default)},
    **{target: fold_all("ReduceSum") for target in (aten.sum.default,)},
    **{target: fold_all("ReduceMean") for target in (aten.mean.default,)},
    **{target: fold_all("ReduceProd") for target in (aten.prod.default,)},
    aten.max.default: fold_all("ReduceMax"),
    aten.min.default: fold_all("ReduceMin"),
    aten.amax.default: amax,
    aten.amin.default: fold("ReduceMin"),
    aten.max.dim: extreme("ReduceMax", "ArgMax"),
    aten.min.dim: extreme("ReduceMin", "ArgMin"),
    aten.argmax.default: argument("ArgMax"),
    aten.argmin.default: argument("ArgMin"),
    aten.logsumexp.default: logsumexp,
    aten.cumsum.default: cumsum,
    aten.sort.default: sort,
    aten.sort.stable: stable_sort,
    aten.argsort.default: argsort,
    aten.topk.default: topk,
    torch.ops.dcompile.order.default: order,
}
