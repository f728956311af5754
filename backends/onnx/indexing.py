"""Reading and writing by index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from dcompile.backends.onnx.constants import filled
from dcompile.backends.onnx.scope import Scope, Typed, axis_of, size_of
from dcompile.backends.onnx.shapes import cut, transposed

aten = torch.ops.aten

ROW = 8  # elements behind an index, from which on copying whole rows pays

Index = Sequence[Typed | None]


def _whole_rows(at: Scope, x: Typed, axis: int, index: Typed) -> ir.Value | None:
    """Where an index names whole rows x[.., i, :], being the same along all axes behind its own: the coordinates of
    those rows, for GatherND and ScatterND. They copy a row at once, the element-wise forms number by number."""
    source = at.model.expanded.get(index.value)
    behind = x.shape[axis + 1 :]
    if source is None or index.shape[axis + 1 :] != behind or size_of(behind) < ROW:
        return None
    shape = (1,) * (index.rank - source.rank) + source.shape
    if any(n != 1 for n in shape[axis + 1 :]):
        return None

    def make() -> ir.Value:
        spread = index.shape[: axis + 1]
        narrow = Typed(at.reshape(source, shape[: axis + 1]), source.dtype, shape[: axis + 1])
        column = Typed(at.expand(narrow, spread), source.dtype, spread)
        grid = np.indices(spread)[:axis]
        parts = [at.constant(np.stack([*grid], axis=-1), torch.int64)] * (axis > 0)
        return at.join([*parts, at.reshape(column, (*spread, 1))], axis=axis + 1)

    return at.once(("rows", index.value, axis), make)


def gather(at: Scope, out: Typed, x: Typed, axis: int, index: Typed, *_: Any) -> ir.Value:
    rows = _whole_rows(at, x, axis_of(axis, x.rank), index)
    if rows is not None:
        return at.op("GatherND", x, rows)
    return at.op("GatherElements", x, index, axis=axis_of(axis, x.rank))


def index_select(at: Scope, out: Typed, x: Typed, axis: int, index: Typed) -> ir.Value:
    return at.op("Gather", x, index, axis=axis_of(axis, x.rank))


def embedding(at: Scope, out: Typed, weight: Typed, index: Typed, *_: Any) -> ir.Value:
    return at.op("Gather", weight, index, axis=0)


def take_along(at: Scope, out: Typed, x: Typed, index: Typed, axis: int | None = None) -> ir.Value:
    assert axis is not None, "take_along_dim without an axis"
    shape = [n if a == axis_of(axis, x.rank) else m for a, (n, m) in enumerate(zip(index.shape, x.shape, strict=True))]
    return at.op("GatherElements", x, at.expand(index, shape), axis=axis_of(axis, x.rank))


def scatter(reduction: str = "none") -> Callable[..., ir.Value]:
    """Write `source` (a tensor, of which only the part that the index spans counts, or a number) at the index."""

    def emit(at: Scope, out: Typed, x: Typed, axis: int, index: Typed, source: Typed | float, *_: Any) -> ir.Value:
        if isinstance(source, Typed):
            updates = source.value
            for a, (have, want) in enumerate(zip(source.shape, index.shape, strict=True)):
                if have != want:
                    updates = cut(at, Typed(updates, source.dtype, source.shape), a, 0, want)
        else:
            updates = filled(at, x.dtype, index.shape, source)
        rows = _whole_rows(at, x, axis_of(axis, x.rank), index)
        if rows is not None:
            return at.op("ScatterND", x, rows, updates, reduction=reduction)
        return at.op("ScatterElements", x, index, updates, axis=axis_of(axis, x.rank), reduction=reduction)

    return emit


def scatter_reduce(
    at: Scope, out: Typed, x: Typed, axis: int, index: Typed, source: Typed, reduce: str, include_self: bool = True
) -> ir.Value:
    assert include_self, "scatter_reduce that forgets what was there"
    reduction = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}[reduce]
    return scatter(reduction)(at, out, x, axis, index, source)


def index_copy(at: Scope, out: Typed, x: Typed, axis: int, index: Typed, source: Typed) -> ir.Value:
    """Write whole slices; the index is the same for every other axis."""
    axis = axis_of(axis, x.rank)
    column = [-1 if a == axis else 1 for a in range(x.rank)]
    spread = at.op("Expand", at.reshape(index, column), at.ints(*source.shape))
    return at.op("ScatterElements", x, spread, source, axis=axis)


def slice_scatter(
    at: Scope,
    out: Typed,
    x: Typed,
    source: Typed,
    axis: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> ir.Value:
    axis = axis_of(axis, x.rank)
    length = x.shape[axis]
    places = np.arange(length)[start:end:step]
    if len(places) == 0:
        return x.value
    if step == 1:
        first, last = int(places[0]), int(places[-1]) + 1
        parts = [cut(at, x, axis, 0, first)] * (first > 0) + [source.value]
        parts += [cut(at, x, axis, last, length)] * (last < length)
        return parts[0] if len(parts) == 1 else at.op("Concat", *parts, axis=axis)
    index = Typed(at.constant(places, torch.int64), torch.int64, (len(places),))
    return index_copy(at, out, x, axis, index, source)


def select_scatter(at: Scope, out: Typed, x: Typed, source: Typed, axis: int, index: int) -> ir.Value:
    axis = axis_of(axis, x.rank)
    place = index % x.shape[axis]
    shape = [1 if a == axis else n for a, n in enumerate(x.shape)]
    layer = Typed(at.reshape(source, shape), source.dtype, tuple(shape))
    return slice_scatter(at, out, x, layer, axis, place, place + 1)


# ------------------------------------------------------------ x[i, j], with tensors as indices


def index(at: Scope, out: Typed, x: Typed, indices: Index) -> ir.Value:
    """`x[:, i]`, `x[i, j]`, `x[:, i, j]`: adjacent index tensors, broadcast together."""
    axes = [a for a, i in enumerate(indices) if i is not None]
    if len(axes) == 1:
        return at.op("Gather", x, indices[axes[0]], axis=axes[0])
    front, places, width = _front(at, x, indices, axes)
    found = at.op("GatherND", front, places)
    if axes[0] == 0:
        return found
    # the indexed axes stand in front: put the axes that were before them there again
    before = axes[0]
    shape = [*(out.shape[before : before + width]), *out.shape[:before], *out.shape[before + width :]]
    order = [*range(width, width + before), *range(width), *range(width + before, len(shape))]
    return transposed(at, Typed(found, x.dtype, tuple(shape)), order)


def index_put(
    at: Scope, out: Typed, x: Typed, indices: Index, values: Typed, accumulate: bool = False, *_: Any
) -> ir.Value:
    axes = [a for a, i in enumerate(indices) if i is not None]
    front, places, width = _front(at, x, indices, axes)
    before, after = axes[0], axes[-1] + 1
    spread = _broadcast([indices[a] for a in axes])
    full = (*x.shape[:before], *spread, *x.shape[after:])
    updates = Typed(at.expand(values, full), values.dtype, full)
    if before:
        order = [*range(before, before + width), *range(before), *range(before + width, len(full))]
        updates = Typed(transposed(at, updates, order), updates.dtype, tuple(full[a] for a in order))
    written = at.op("ScatterND", front, places, updates, reduction="add" if accumulate else "none")
    if not before:
        return written
    moved = (*x.shape[before:after], *x.shape[:before], *x.shape[after:])
    k = len(axes)
    back = [*range(k, k + before), *range(k), *range(k + before, x.rank)]
    return transposed(at, Typed(written, x.dtype, moved), back)


def _broadcast(indices: Sequence[Typed | None]) -> tuple[int, ...]:
    return np.broadcast_shapes(*(i.shape for i in indices if i is not None))


def _front(at: Scope, x: Typed, indices: Index, axes: Sequence[int]) -> tuple[ir.Value, ir.Value, int]:
    """x with its indexed axes in front; the indices stacked on a last axis, never negative; their own rank."""
    assert list(axes) == list(range(axes[0], axes[-1] + 1)), "index tensors that are not adjacent"
    spread = _broadcast([indices[a] for a in axes])
    columns = []
    for a in axes:
        place = indices[a]
        assert place is not None
        wide = Typed(at.expand(Typed(at.to(place, torch.int64), torch.int64, place.shape), spread), torch.int64, spread)
        columns.append(at.reshape(wide, (*spread, 1)))
    places = columns[0] if len(columns) == 1 else at.op("Concat", *columns, axis=len(spread))
    others = [a for a in range(x.rank) if a not in axes]
    return transposed(at, x, [*axes, *others]), places, len(spread)


def one_hot(at: Scope, out: Typed, x: Typed, classes: int = -1) -> ir.Value:
    counts = at.constant(np.arange(out.shape[-1]), torch.int64)
    equal = at.op("Equal", at.reshape(x, (*x.shape, 1)), counts)
    return at.to(Typed(equal, torch.bool, out.shape), out.dtype)


OPS: dict[Any, Callable[..., Any]] = {
    aten.gather.default: gather,
    aten.index_select.default: index_select,
    aten.embedding.default: embedding,
    aten.take_along_dim.default: take_along,
    aten.scatter.src: scatter(),
    aten.scatter.value: scatter(),
    aten.scatter_add.default: scatter("add"),
    aten.scatter_reduce.two: scatter_reduce,
    aten.index_copy.default: index_copy,
    aten.slice_scatter.default: slice_scatter,
    aten.select_scatter.default: select_scatter,
    aten.index.Tensor: index,
    aten.index_put.default: index_put,
    aten.one_hot.default: one_hot,
}
