"""Rearrangement: reshapes, slices, joins, changes of dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch

from dcompile.backends.onnx.scope import Scope, Typed, axis_of, size_of

aten = torch.ops.aten


def same(at: Scope, out: Typed, x: Typed, *_: Any) -> ir.Value:
    """Copies and changes of dtype: without mutation a copy is the thing itself."""
    return at.to(x, out.dtype)


def view(at: Scope, out: Typed, x: Typed, *_: Any) -> ir.Value:
    return at.reshape(x, out.shape)


def expand(at: Scope, out: Typed, x: Typed, *_: Any) -> ir.Value:
    return at.expand(x, out.shape)


def permute(at: Scope, out: Typed, x: Typed, order: Sequence[int]) -> ir.Value:
    return transposed(at, x, [axis_of(a, x.rank) for a in order])


def transpose(at: Scope, out: Typed, x: Typed, a: int, b: int) -> ir.Value:
    order = list(range(x.rank))
    if order:
        a, b = axis_of(a, x.rank), axis_of(b, x.rank)
        order[a], order[b] = b, a
    return transposed(at, x, order)


def matrix_transpose(at: Scope, out: Typed, x: Typed) -> ir.Value:
    return transposed(at, x, list(range(x.rank))[::-1])


def transposed(at: Scope, x: Typed, order: Sequence[int]) -> ir.Value:
    """Axes in another order; a mere reshape where only axes of length one move; nothing where they come back."""
    moved = [a for a in order if x.shape[a] != 1]
    if moved == sorted(moved):
        return at.reshape(x, [x.shape[a] for a in order])
    before = x.value.producer()
    if before is not None and before.op_type == "Transpose" and before.inputs[0] is not None:
        given = before.attributes["perm"].as_ints()
        if [given[a] for a in order] == sorted(order):
            return before.inputs[0]
    return at.op("Transpose", x, perm=list(order))


def cat(at: Scope, out: Typed, tensors: Sequence[Typed], axis: int = 0) -> ir.Value:
    parts = [at.to(t, out.dtype) for t in tensors if t.shape != (0,) or len(out.shape) == 1]
    return parts[0] if len(parts) == 1 else at.op("Concat", *parts, axis=axis_of(axis, len(out.shape)))


def stack(at: Scope, out: Typed, tensors: Sequence[Typed], axis: int = 0) -> ir.Value:
    axis = axis_of(axis, len(out.shape))
    shape = [*out.shape[:axis], 1, *out.shape[axis + 1 :]]
    parts = [at.reshape(Typed(at.to(t, out.dtype), out.dtype, t.shape), shape) for t in tensors]
    return parts[0] if len(parts) == 1 else at.op("Concat", *parts, axis=axis)


def cut(at: Scope, x: Typed, axis: int, start: int, end: int, step: int = 1) -> ir.Value:
    """`x[start:end:step]` along an axis; all of it is x itself."""
    if start == 0 and end >= x.shape[axis] and step == 1:
        return x.value
    return at.op("Slice", x, at.ints(start), at.ints(end), at.ints(axis), at.ints(step))


def slice_(
    at: Scope, out: Typed, x: Typed, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> ir.Value:
    axis = axis_of(axis, x.rank)
    first, last, _ = slice(start, end).indices(x.shape[axis])
    return cut(at, x, axis, first, max(first, last), step)


def narrow(at: Scope, out: Typed, x: Typed, axis: int, start: int, length: int) -> ir.Value:
    axis = axis_of(axis, x.rank)
    start = start % x.shape[axis] if start < 0 else start
    return cut(at, x, axis, start, start + length)


def select(at: Scope, out: Typed, x: Typed, axis: int, index: int) -> ir.Value:
    axis = axis_of(axis, x.rank)
    if x.shape[axis] == 1:
        return at.reshape(x, out.shape)
    return at.op("Gather", x, at.constant(index % x.shape[axis], torch.int64), axis=axis)


def split(at: Scope, out: Sequence[Typed], x: Typed, sizes: Any, axis: int = 0) -> Sequence[ir.Value]:
    """split, split_with_sizes, chunk: the sizes are those of the results."""
    if len(out) == 1:
        return [x.value]
    axis = axis_of(axis, x.rank)
    return at.ops("Split", x, at.ints(*(part.shape[axis] for part in out)), outputs=len(out), axis=axis)


def unbind(at: Scope, out: Sequence[Typed], x: Typed, axis: int = 0) -> Sequence[ir.Value]:
    return [select(at, part, x, axis, i) for i, part in enumerate(out)]


def flip(at: Scope, out: Typed, x: Typed, axes: Sequence[int]) -> ir.Value:
    listed = [axis_of(a, x.rank) for a in axes]
    ends = [-(2**31)] * len(listed)
    return at.op(
        "Slice", x, at.ints(*[-1] * len(listed)), at.ints(*ends), at.ints(*listed), at.ints(*[-1] * len(listed))
    )


def roll(at: Scope, out: Typed, x: Typed, shifts: Sequence[int], axes: Sequence[int] = ()) -> ir.Value:
    if not axes:
        flat = (size_of(x.shape),)
        turned = roll(at, Typed(x.value, x.dtype, flat), Typed(at.reshape(x, flat), x.dtype, flat), shifts, [0])
        return at.reshape(turned, x.shape)
    for shift, axis in zip(shifts, axes, strict=True):
        axis = axis_of(axis, x.rank)
        at_end = shift % x.shape[axis] if x.shape[axis] else 0
        if at_end:
            split_at = x.shape[axis] - at_end
            parts = cut(at, x, axis, split_at, x.shape[axis]), cut(at, x, axis, 0, split_at)
            x = Typed(at.op("Concat", *parts, axis=axis), x.dtype, x.shape)
    return x.value


def pad(at: Scope, out: Typed, x: Typed, pads: Sequence[int], value: float = 0) -> ir.Value:
    """ATen lists (before, after) from the last axis on; ONNX all befores, then all afters."""
    before, after = [0] * x.rank, [0] * x.rank
    for i in range(len(pads) // 2):
        before[x.rank - 1 - i], after[x.rank - 1 - i] = pads[2 * i], pads[2 * i + 1]
    carrier = torch.int32 if x.dtype == torch.bool else x.dtype
    padded = at.op("Pad", at.to(x, carrier), at.ints(*before, *after), at.constant(value, carrier))
    return at.to(Typed(padded, carrier, out.shape), out.dtype)


def pad_mode(
    at: Scope, out: Typed, x: Typed, pads: Sequence[int], mode: str = "constant", value: Any = None
) -> ir.Value:
    assert mode == "constant", f"padding by `{mode}`"
    return pad(at, out, x, pads, value or 0)


def repeat(at: Scope, out: Typed, x: Typed, counts: Sequence[int]) -> ir.Value:
    shape = (1,) * (len(counts) - x.rank) + x.shape
    return at.op("Tile", at.reshape(x, shape), at.ints(*counts))


def repeat_interleave(at: Scope, out: Typed, x: Typed, count: int, axis: int | None = None, *_: Any) -> ir.Value:
    """Each element `count` times in a row."""
    shape = list(x.shape) if axis is not None else [size_of(x.shape)]
    place = axis_of(axis or 0, len(shape)) + 1
    spread = [*shape[:place], 1, *shape[place:]]
    wide = Typed(at.reshape(x, spread), x.dtype, tuple(spread))
    return at.reshape(at.expand(wide, [*shape[:place], count, *shape[place:]]), out.shape)


def triangle(upper: bool) -> Callable[..., ir.Value]:
    def emit(at: Scope, out: Typed, x: Typed, diagonal: int = 0) -> ir.Value:
        return at.op("Trilu", x, at.constant(diagonal, torch.int64), upper=int(upper))

    return emit


SAME = (
    aten.clone.default,
    aten.alias.default,
    aten.detach.default,
    aten.detach_.default,
    aten.contiguous.default,
    aten.lift_fresh_copy.default,
    aten.lift_fresh.default,
    aten._to_copy.default,
    aten.to.dtype,
    aten.to.device,
    aten.to.other,
    aten.to.dtype_layout,
    aten.type_as.default,
    aten.positive.default,
)

VIEWS = (
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.view_as.default,
)

OPS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(VIEWS, view),
    **dict.fromkeys((aten.expand.default, aten.expand_as.default, aten.broadcast_to.default), expand),
    **dict.fromkeys((aten.split.Tensor, aten.split.sizes, aten.split_with_sizes.default), split),
    aten.chunk.default: split,
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    aten.t.default: matrix_transpose,
    aten.numpy_T.default: matrix_transpose,
    aten.cat.default: cat,
    aten.stack.default: stack,
    aten.slice.Tensor: slice_,
    aten.narrow.default: narrow,
    aten.select.int: select,
    aten.unbind.int: unbind,
    aten.flip.default: flip,
    aten.roll.default: roll,
    aten.constant_pad_nd.default: pad,
    aten.pad.default: pad_mode,
    aten.repeat.default: repeat,
    aten.repeat_interleave.self_int: repeat_interleave,
    aten.tril.default: triangle(False),
    aten.triu.default: triangle(True),
}
