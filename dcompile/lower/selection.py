"""`take`: sort a region by a key and keep the longest initial run in which a predicate holds (dllm survey, 17.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower.context import Context, Frame
from dcompile.lower.frames import behind, places
from dcompile.lower.regions import inside
from dcompile.ops import FLOOR
from dcompile.strategy import Running, Take


def take(ctx: Context, expr: Take, frame: Frame) -> Tensor:
    base = frame.unsorted
    region = inside(ctx, expr.region, base)
    segment = _segments(ctx, expr, base, region)
    order = _order(ctx, expr, base, region, segment)
    member = torch.gather(region, 1, order)
    starts = None if segment is None else _starts(torch.gather(segment, 1, order))
    within = Frame(base.start, base.width, order)
    count = _since(member.to(torch.int64), starts)
    keep = member
    if expr.predicate is not None:
        outer, ctx.sorted = ctx.sorted, (member, starts)
        holds = ctx.value(expr.predicate, within).expand(ctx.batch, base.width)
        ctx.sorted = outer
        run = _since((member & ~holds).to(torch.int64), starts) == 0
        if expr.atleast is not None:
            run = run | (count <= ctx.value(expr.atleast, None).reshape(-1, 1))
        keep = keep & run
    if expr.atmost is not None:
        keep = keep & (count <= ctx.value(expr.atmost, None).reshape(-1, 1))
    chosen = torch.scatter(torch.zeros_like(keep), 1, order, keep)
    return chosen if frame.sorted_by is None else torch.gather(chosen, 1, frame.sorted_by)


def running(ctx: Context, expr: Running, frame: Frame) -> Tensor:
    """`count`, running `sum` and `max` over the sorted positions so far, this one included."""
    assert ctx.sorted is not None, "the checker lets `count`, `sum` and `max` stand in a predicate only"
    member, starts = ctx.sorted
    if expr.kind == "count":
        return _since(member.to(torch.int64), starts)
    assert expr.value is not None
    items = ctx.value(expr.value, frame).expand(ctx.batch, frame.width)
    if expr.kind == "sum":
        return _since(torch.where(member, items, 0), starts)
    at = torch.arange(frame.width)
    sofar = at.reshape(1, -1) <= at.reshape(-1, 1)
    if starts is not None:
        sofar = sofar & (starts.unsqueeze(2) <= at.reshape(1, 1, -1))
    items = torch.where(member, items.to(torch.float32), FLOOR)
    return torch.where(sofar, items.unsqueeze(1), FLOOR).amax(2)


def _order(ctx: Context, expr: Take, frame: Frame, region: Tensor, segment: Tensor | None) -> Tensor:
    """Places of the frame, the region's first: by segment, then by key, then from left to right."""
    key = places(ctx, frame) if expr.key is None else ctx.value(expr.key, frame)
    score = key.expand(ctx.batch, frame.width).to(torch.float32)
    score = score if expr.descending and expr.key is not None else -score
    order: Tensor = torch.ops.dcompile.order(torch.where(region, score, FLOOR))
    if segment is None:
        return order
    by_segment = torch.ops.dcompile.order(-torch.gather(segment, 1, order).to(torch.float32))
    return torch.gather(order, 1, by_segment)


def _segments(ctx: Context, expr: Take, frame: Frame, region: Tensor) -> Tensor | None:
    """A number for each place of the frame, the same within a run or block; places outside the region come last."""
    if expr.per == "":
        return None
    if expr.per == "runs":
        segment = (region & ~behind(region)).to(torch.int64).cumsum(1)
    else:
        assert expr.per_size is not None
        size = ctx.value(expr.per_size, None).reshape(-1, 1)
        whole = ctx.capacity * size  # blocks of the prompt count down from the answer's start
        segment = (places(ctx, frame) - ctx.inputs["start"].reshape(-1, 1) + whole) // size
    return torch.where(region, segment.expand(ctx.batch, frame.width), 3 * ctx.capacity)


def _starts(segment: Tensor) -> Tensor:
    """For each sorted place, the first place of its segment [B, W]."""
    return (segment.unsqueeze(1) < segment.unsqueeze(2)).to(torch.int64).sum(2)


def _since(items: Tensor, starts: Tensor | None) -> Tensor:
    """Running sums that begin anew with each segment."""
    sums = items.cumsum(1)
    if starts is None:
        return sums
    return sums - torch.gather(sums - items, 1, starts)
