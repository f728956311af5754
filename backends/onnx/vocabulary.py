"""What folds an axis as long as a vocabulary: never a second tensor of that length.

exp_sums  ->  a scan over slabs, each some tiles of the axis, one softmax a tile; tiles add up
largest   ->  the largest value of each run of places, then of those
argmax    ->  the first run that has the largest value of all, its first place
best, best_two  ->  TopK, which gives the lower of equal places first
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from dcompile import ops
from dcompile.backends.onnx.scope import Scope, Typed, size_of

TILE = 8192  # places; a shorter axis is folded at once
SLAB = 16  # tiles that are in hand at a time: half a megabyte, so that they stay in a core's cache
RUN = 512  # places, about: what argmax looks through in the end


@dataclass(frozen=True)
class Division:
    """How a long axis divides evenly: into tiles, and these into runs. Places."""

    tile: int
    run: int


def division(width: int) -> Division | None:
    """None where the axis is short, or has no even tiles of a good size."""
    tile = next((n for n in range(TILE, TILE // 8, -1) if width % n == 0), 0)
    if width <= TILE or tile == 0:
        return None
    runs = (n for n in range(1, tile + 1) if tile % n == 0)
    return Division(tile, min(runs, key=lambda n: abs(math.log(n / RUN))))


def exp_sums(at: Scope, out: Typed, x: Typed, weighed: bool) -> ir.Value:
    cut = division(x.shape[-1])
    if x.shape[-1] <= TILE:
        return _sums(at, x.value, largest(at, x, True), weighed)
    if cut is None or _may_be_fewer(at, x):
        return _by_slices(at, out, x, weighed)
    return at.reshape(_by_slabs(at, x, cut, weighed), out.shape)


def _sums(at: Scope, x: ir.Value, best: ir.Value, weighed: bool) -> ir.Value:
    shifted = at.op("Sub", x, best)
    powers = at.op("Exp", shifted)
    total = at.op("ReduceSum", powers, at.ints(-1), keepdims=1)
    if not weighed:
        return total
    return at.op("Concat", total, at.op("ReduceSum", at.op("Mul", powers, shifted), at.ints(-1), keepdims=1), axis=-1)


def _may_be_fewer(at: Scope, x: Typed) -> bool:
    """Whether dead rows of x are left out at the run."""
    return at.live is not None and any(n and n % at.live.width == 0 for n in x.shape)


def _by_slabs(at: Scope, x: Typed, cut: Division, weighed: bool) -> ir.Value:
    """The sums [rows, 1 or 2]. With m the largest of a tile and b of its row, a tile's softmax has 1 / sum(exp(x - m))
    at m; exp(m - b) makes that a part of the row's sum. (One kernel, where to subtract, raise and add are three.)"""
    rows, width = size_of(x.shape[:-1]), x.shape[-1]
    per = width // cut.tile
    peaks = _peaks(at, x)
    assert peaks is not None
    tops = at.op("ReduceMax", at.reshape(peaks, (rows, per, cut.tile // cut.run)), at.ints(-1), keepdims=0)
    lead = at.op("Sub", tops, at.reshape(largest(at, x, True), (rows, 1)))
    totals, *means = (at.reshape(v, (rows, per)) for v in _slabs(at, x, tops, cut.tile, weighed))
    shares = at.op("Mul", at.op("Exp", lead), totals)
    total = at.op("ReduceSum", shares, at.ints(-1), keepdims=1)
    if not weighed:
        return total
    parts = at.op("Mul", shares, at.op("Add", means[0], lead))  # first the shares: a lead may be -3e38
    return at.op("Concat", total, at.op("ReduceSum", parts, at.ints(-1), keepdims=1), axis=-1)


def _slabs(at: Scope, x: Typed, tops: ir.Value, tile: int, weighed: bool) -> list[ir.Value]:
    """Of each tile, with d = x - its largest value: sum(exp(d)), and if `weighed` the mean of d by its softmax. A scan
    reads the slabs where they lie."""
    count = size_of(x.shape) // tile
    many = max(n for n in range(1, SLAB * TILE // tile + 1) if count % n == 0 and n <= max(count // 2, 1))
    inner = Scope(at.model, f"{at.name}.slabs", at)
    given = [at.reshape(x, (count // many, many, tile))]
    slab = inner.input("slab", torch.float32, (many, tile))
    powers = inner.op("Softmax", slab, axis=-1)
    found = [inner.op("Reciprocal", inner.op("ReduceMax", powers, inner.ints(-1), keepdims=0))]
    inputs = [slab.value]
    if weighed:
        given.append(at.reshape(tops, (count // many, many, 1)))
        top = inner.input("top", torch.float32, (many, 1))
        inputs.append(top.value)
        parts = inner.op("Mul", powers, inner.op("Sub", slab, top))
        found.append(inner.op("ReduceSum", parts, inner.ints(-1), keepdims=0))
    results = [(Typed(v, torch.float32, (many,)), name) for v, name in zip(found, ("total", "mean"), strict=False)]
    body = inner.finish(inputs, results)
    return list(at.ops("Scan", *given, outputs=len(found), name="slabs", body=body, num_scan_inputs=len(given)))


def _by_slices(at: Scope, out: Typed, x: Typed, weighed: bool) -> ir.Value:
    """The same where nothing divides evenly: a loop that cuts tiles out, the last one shorter."""
    best = largest(at, x, True)
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


def _peaks(at: Scope, x: Typed) -> Typed | None:
    """The largest value of each run of places [rows, runs]; None where the axis has none."""
    *shape, width = x.shape
    cut = division(width)
    if cut is None:
        return None
    run, count = cut.run, size_of(shape)
    home = at.home(x.value)  # one sweep for all branches that look

    def fold() -> ir.Value:
        return home.op("ReduceMax", home.reshape(x.value, (count, width // run, run)), home.ints(-1), keepdims=0)

    return Typed(home.once(("peaks", x.value), fold), x.dtype, (count, width // run))


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
