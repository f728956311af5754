"""Reading and writing by index. Indices are taken to be in range; negative ones count from the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from tvm import relax

from dcompile.backends.tvm.shapes import bounds
from dcompile.backends.tvm.values import Kind, Number, Scope, Value, axis_of

aten = torch.ops.aten
op = relax.op
Convert = Callable[..., Any]


def take(at: Scope, x: Any, indices: Any, axis: int) -> Any:
    """Rows by index; clipped, so that no index reads outside."""
    return at.emit(op.take(x, indices, axis, mode="clip"))


def gather(at: Scope, out: Kind, x: Value, axis: int, index: Value, **_: Any) -> Any:
    """`gather` reads only the front of the other axes where the index is shorter there."""
    along = axis_of(axis, x.rank)
    return op.gather_elements(_front(at, x, index.shape, along).expr, index.expr, along)


def _front(at: Scope, x: Value, shape: Sequence[int], but: int | None) -> Value:
    """The front of each axis of `x` as long as `shape`, except along `but`."""
    expr, kept = x.expr, list(x.shape)
    for i, size in enumerate(shape):
        if i != but and size < kept[i]:
            expr, kept[i] = at.slice(expr, i, 0, size), size
    return Value(x.dtype, tuple(kept), expr)


def scatter(reduction: str) -> Convert:
    def convert(at: Scope, out: Kind, x: Value, axis: int, index: Value, source: Value | Number) -> Any:
        if isinstance(source, Value):
            updates = _front(at, source, index.shape, None).expr
        else:
            updates = at.emit(op.full(list(index.shape), at.const(source, x.dtype), x.dtype))
        return op.scatter_elements(x.expr, index.expr, updates, axis_of(axis, x.rank), reduction)

    return convert


def index_select(at: Scope, out: Kind, x: Value, axis: int, index: Value) -> Any:
    return take(at, x.expr, index.expr, axis_of(axis, x.rank))


def embedding(at: Scope, out: Kind, weight: Value, index: Value, *_: Any) -> Any:
    return take(at, weight.expr, index.expr, 0)


def _rows(at: Scope, x: Value, indices: Sequence[Value | None]) -> tuple[list[int], list[int], Any, tuple[int, ...]]:
    """What an index reads: indexed axes, other axes, one flat row number for each element of the index, its shape."""
    axes = [i for i, index in enumerate(indices) if index is not None]
    rest = [i for i in range(x.rank) if i not in axes]
    given = [index for index in indices if index is not None]
    assert all(index.dtype in ("int64", "int32") for index in given), "indices are integers"
    shape = np.broadcast_shapes(*[index.shape for index in given])
    flat = None
    for axis, index in zip(axes, given, strict=True):
        size = at.const(x.shape[axis], index.dtype)
        behind = at.emit(op.less(index.expr, at.const(0, index.dtype)))
        place = at.emit(op.where(behind, at.emit(op.add(index.expr, size)), index.expr))
        flat = place if flat is None else at.emit(op.add(at.emit(op.multiply(flat, size)), place))
    return axes, rest, flat, tuple(shape)


def _front_rows(at: Scope, x: Value, axes: list[int], rest: list[int]) -> Any:
    """`x` as [rows, *rest]: the indexed axes joined and in front."""
    expr = x.expr if [*axes, *rest] == list(range(x.rank)) else at.emit(op.permute_dims(x.expr, [*axes, *rest]))
    return at.reshape(expr, [prod(x.shape[a] for a in axes), *[x.shape[r] for r in rest]])


def _back(axes: list[int], rest: list[int], width: int) -> list[int]:
    """The order that moves the index's axes from the front to where torch puts them."""
    together = axes == list(range(axes[0], axes[0] + len(axes)))
    before = len([r for r in rest if r < axes[0]]) if together else 0
    others = list(range(width, width + len(rest)))
    return [*others[:before], *range(width), *others[before:]]


def index(at: Scope, out: Kind, x: Value, indices: Sequence[Value | None]) -> Any:
    axes, rest, flat, shape = _rows(at, x, indices)
    found = take(at, _front_rows(at, x, axes, rest), at.reshape(flat, [prod(shape)]), 0)
    found = at.reshape(found, [*shape, *[x.shape[r] for r in rest]])
    order = _back(axes, rest, len(shape))
    return found if order == list(range(len(order))) else op.permute_dims(found, order)


def index_put(
    at: Scope, out: Kind, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Any:
    axes, rest, flat, shape = _rows(at, x, indices)
    front = [*shape, *[x.shape[r] for r in rest]]
    order = _back(axes, rest, len(shape))
    placed = at.emit(op.broadcast_to(at.cast(values, x.dtype), [front[i] for i in order]))
    updates = at.emit(op.permute_dims(placed, [order.index(i) for i in range(len(order))]))
    updates = at.reshape(updates, [prod(shape), *[x.shape[r] for r in rest]])
    rows = at.reshape(flat, [prod(shape), 1])
    data = _front_rows(at, x, axes, rest)
    done = at.emit(op.scatter_nd(data, rows, updates, "add" if accumulate else "update"))
    done = at.reshape(done, [x.shape[a] for a in [*axes, *rest]])
    return op.permute_dims(done, [[*axes, *rest].index(i) for i in range(x.rank)])


def index_copy(at: Scope, out: Kind, x: Value, axis: int, places: Value, source: Value) -> Any:
    along = axis_of(axis, x.rank)
    return index_put(at, out, x, [None] * along + [places], source)


def slice_scatter(
    at: Scope,
    out: Kind,
    x: Value,
    source: Value,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Any:
    along = axis_of(axis, x.rank)
    first, last = bounds(x.shape[along], start, end)
    places = at.const(range(first, last, step), "int64")
    return index_copy(at, out, x, along, Value("int64", (source.shape[along],), places), source)


def select_scatter(at: Scope, out: Kind, x: Value, source: Value, axis: int, index: int) -> Any:
    along = axis_of(axis, x.rank)
    shape = [1 if i == along else n for i, n in enumerate(x.shape)]
    row = Value(source.dtype, tuple(shape), at.reshape(source.expr, shape))
    first = index % x.shape[along]
    return slice_scatter(at, out, x, row, along, first, first + 1)


TABLE: dict[Any, Convert] = {
    aten.gather.default: gather,
    **{o: scatter("update") for o in (aten.scatter.src, aten.scatter.value)},
    aten.scatter_add.default: scatter("add"),
    aten.index_select.default: index_select,
    aten.embedding.default: embedding,
    aten.index.Tensor: index,
    **dict.fromkeys((aten.index_put.default, aten._unsafe_index_put.default), index_put),
    aten._unsafe_index.Tensor: index,
    aten.index_copy.default: index_copy,
    aten.slice_scatter.default: slice_scatter,
    aten.select_scatter.default: select_scatter,
}
