"""Regions as truth values on the slots of a frame."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower.context import Context, Frame
from dcompile.lower.frames import canvas, look, places
from dcompile.strategy import Area, Dilate, Expr, Name, Near, Op, Take, Unreadable, Whole


def live(ctx: Context, frame: Frame) -> Tensor:
    """Slots that hold a position of the row: neither padding nor behind the canvas' present end."""
    slots = places(ctx, frame)
    return (slots >= _col(ctx.inputs["pad"])) & (slots < _col(present_end(ctx)))


def present_end(ctx: Context) -> Tensor:
    """The slot behind the canvas: of an empty canvas, behind what was appended."""
    if ctx.strategy.canvas.init == "empty":
        return ctx.inputs["start"] + ctx.values["filled"]
    return ctx.inputs["end"]


def last_slot(ctx: Context) -> Tensor:
    """The last slot of the longest committed run from the start."""
    if ctx.strategy.canvas.init == "empty":
        return present_end(ctx) - 1
    masked = ctx.values["masked"].to(torch.int64)
    open_ = masked.sum(1) > 0
    return torch.where(open_, torch.argmax(masked, 1), ctx.inputs["end"]) - 1


def area(ctx: Context, region: Area, frame: Frame) -> Tensor:
    slots, start = places(ctx, frame), _col(ctx.inputs["start"])
    match region.name:
        case "everything":
            return live(ctx, frame)
        case "prompt":
            return live(ctx, frame) & (slots < start)
        case "answer":
            return live(ctx, frame) & (slots >= start)
        case "masked":
            return look(ctx, ctx.values["masked"], frame)
        case "last":
            return slots == _col(last_slot(ctx))


def block(ctx: Context, name: str, frame: Frame) -> Tensor:
    """A block's live slots."""
    slots, b = places(ctx, frame), ctx.blocks[name]
    return (slots >= _col(b.start)) & (slots < _col(b.end)) & live(ctx, frame)


def bounds(ctx: Context, region: Expr) -> tuple[Tensor, Tensor]:
    """First slot of a region and the slot behind its last, [B] each; an empty region gives an empty stretch."""
    if isinstance(region, Name) and region.name in ctx.blocks:
        return ctx.blocks[region.name].start, ctx.blocks[region.name].end
    inside = ctx.value(region, canvas(ctx)).expand(ctx.batch, ctx.capacity).to(torch.int64)
    first = torch.argmax(inside, 1)
    end = ctx.capacity - torch.argmax(torch.flip(inside, [1]), 1)
    return first, torch.where(inside.sum(1) > 0, end, first)


def near(ctx: Context, region: Near, frame: Frame) -> Tensor:
    first, end = bounds(ctx, region.region)
    slots, some = places(ctx, frame), _col(end > first)
    first, end = _col(first), _col(end)
    where = {
        "before": slots == first - 1,
        "after": slots == end,
        "first": slots == first,
        "from": slots >= first,
        "upto": slots < first,
    }[region.kind]
    return where & some & live(ctx, frame)


def unreadable(ctx: Context, region: Unreadable, frame: Frame) -> Tensor:
    first, end = bounds(ctx, region.region)
    if not ctx.model.facts.shift:
        return torch.zeros(ctx.batch, frame.width, dtype=torch.bool)
    return (places(ctx, frame) == _col(first)) & _col(end > first) & live(ctx, frame)


def whole(ctx: Context, region: Whole, frame: Frame) -> Tensor:
    everywhere = canvas(ctx)
    inside = ctx.value(region.region, everywhere).expand(ctx.batch, ctx.capacity)
    size = ctx.value(region.size, None)
    gaps = (~inside & live(ctx, everywhere)).to(torch.int64).cumsum(1)
    leading = (inside & (gaps == 0)).to(torch.int64).sum(1)
    complete = leading // size * size
    position = places(ctx, frame) - _col(ctx.inputs["pad"])
    return (position >= 0) & (position < _col(complete))


def dilate(ctx: Context, region: Dilate, frame: Frame) -> Tensor:
    """Counts of the region on [i - r, i + r], by differences of running counts."""
    inside = ctx.value(region.region, canvas(ctx)).expand(ctx.batch, ctx.capacity)
    radius = _col(ctx.value(region.radius, None))
    counts = inside.to(torch.int64).cumsum(1)
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    upto = torch.gather(counts, 1, torch.clamp(slots + radius, max=ctx.capacity - 1))
    left = slots - radius - 1
    before = torch.where(left >= 0, torch.gather(counts, 1, torch.clamp(left, min=0)), 0)
    return look(ctx, upto - before > 0, frame) & live(ctx, frame)


def frame_of(ctx: Context, region: Expr) -> Frame:
    """The narrowest frame known to hold every position of a region."""
    match region:
        case Name(name=name) if name in ctx.blocks:
            return Frame(ctx.blocks[name].start, ctx.blocks[name].width)
        case Area(name="last"):
            return Frame(last_slot(ctx), 1)
        case Op(op="and", args=args):
            each = [frame_of(ctx, a) for a in args if a.type.each]
            return min(each, key=lambda f: f.width)
        case Op(op="or" | "select", args=args):
            each = [frame_of(ctx, a) for a in args if a.type.each]
            return each[0] if all(f.key == each[0].key for f in each) else canvas(ctx)
        case Take(region=inner):
            return frame_of(ctx, inner)
        case Near(kind=kind, region=inner) if kind in ("before", "after", "first"):
            first, end = bounds(ctx, inner)
            return Frame({"before": first - 1, "after": end, "first": first}[kind], 1)
        case Near(kind="from", region=inner):
            return canvas(ctx)
        case Unreadable(region=inner):
            return Frame(bounds(ctx, inner)[0], 1)
    return canvas(ctx)


def _col(rows: Tensor) -> Tensor:
    return rows.reshape(-1, 1)
