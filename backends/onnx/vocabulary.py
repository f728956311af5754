"""What folds an axis as long as a vocabulary: never a second tensor of that length.

exp_sums  ->  a loop over tiles of the axis, which add up
largest   ->  the largest value of each run of places, then of those
argmax    ->  the first run that has the largest value of all, its first place
best, best_two  ->  TopK, which gives the lower of equal places first
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch

from dcompile import ops
from dcompile.backends.onnx.scope import Scope, Typed, size_of

TILE = 8192  # places; a shorter axis is folded at once
RUNS = (512, 256, 128)


def exp_sums(at: Scope, out: Typed, x: Typed, weighed: bool) -> ir.Value:
    best = largest(at, x, True)
    if x.shape[-1] <= TILE:
        return _sums(at, x.value, best, weighed)
    inner = Scope(at.model, f"{at.name}.tiles", at)
    turn = inner.input("turn", torch.int64, ())
    again = inner.input("again", torch.bool, ())
    before = inner.input("sums", torch.float32, out.shape)
    start = inner.op("Mul", turn, inner.ints(TILE))
    tile = inner.op("Slice", x, start, inner.op("Add", start, inner.ints(TILE)), inner.ints(-1))
    after = Typed(inner.op("Add", before, _sums(inner, tile, best, weighed)), torch.float32, out.shape)
    body = inner.finish([turn.value, again.value, before.value], [(again, "more"), (after, "next_sums")])
    zero = at.constant(0.0, torch.float32, out.shape)
    tiles = at.constant(-(-x.shape[-1] // TILE), torch.int64)
    return at.op("Loop", tiles, None, zero, name="tiles", body=body)


def _sums(at: Scope, x: ir.Value, best: ir.Value, weighed: bool) -> ir.Value:
    shifted = at.op("Sub", x, best)
    powers = at.op("Exp", shifted)
    total = at.op("ReduceSum", powers, at.ints(-1), keepdims=1)
    if not weighed:
        return total
    return at.op("Concat", total, at.op("ReduceSum", at.op("Mul", powers, shifted), at.ints(-1), keepdims=1), axis=-1)


def _peaks(at: Scope, x: Typed) -> Typed | None:
    """The largest value of each run of places [rows, runs]; None where the axis is short or has no even runs."""
    *shape, width = x.shape
    run = next((n for n in RUNS if width % n == 0), 0)
    if width <= TILE or run == 0:
        return None
    count, runs = size_of(shape), width // run
    home = at.home(x.value)  # one sweep for all branches that look

    def fold() -> ir.Value:
        return home.op("ReduceMax", home.reshape(x.value, (count, runs, run)), home.ints(-1), keepdims=0)

    return Typed(home.once(("peaks", x.value), fold), x.dtype, (count, runs))


def largest(at: Scope, x: Typed, keep: bool) -> ir.Value:
    """The largest value along the last axis; one sweep serves it and `argmax`."""
    peaks = _peaks(at, x)
    if peaks is None:
        return at.op("ReduceMax", x, at.ints(-1), keepdims=int(keep))
    home = at.home(x.value)
    best = home.once(("largest", x.value), lambda: home.op("ReduceMax", peaks, home.ints(-1), keepdims=0))
    return at.reshape(best, (*x.shape[:-1], 1) if keep else x.shape[:-1])


def argmax(at: Scope, x: Typed, keep: bool) -> ir.Value | None:
    """The lowest index of the largest value along the last axis; None where a plain one does as well."""
    peaks = _peaks(at, x)
    if peaks is None:
        return None
    (rows, runs), (*shape, width) = peaks.shape, x.shape
    run = width // runs
    first = at.op("ArgMax", peaks, axis=-1, keepdims=0)  # [rows]
    place = at.op("Add", first, at.constant([row * runs for row in range(rows)], torch.int64))
    taken = at.op("Gather", at.reshape(x.value, (rows * runs, run)), place, axis=0)
    inside = at.op("ArgMax", taken, axis=-1, keepdims=0)
    index = at.op("Add", at.op("Mul", first, at.ints(run)), inside)
    return at.reshape(index, (*shape, 1) if keep else tuple(shape))


def best_two(at: Scope, out: Typed, x: Typed) -> ir.Value:
    return at.ops("TopK", x, at.ints(2), outputs=2, axis=-1, largest=1, sorted=1)[0]


def best(at: Scope, out: Typed, x: Typed, count: int) -> ir.Value:
    return at.ops("TopK", x, at.ints(count), outputs=2, axis=-1, largest=1, sorted=1)[1]


OPS: dict[Any, Callable[..., ir.Value]] = {
    ops.EXP_SUMS: exp_sums,
    ops.BEST: best,
    ops.BEST_TWO: best_two,
}
