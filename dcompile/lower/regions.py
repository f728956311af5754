"""Regions as truth values on the slots of a frame."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower.context import Context, Frame, Nodes
from dcompile.lower.frames import behind, canvas, look, places, store
from dcompile.strategy import Area, Dilate, Expr, Literal, Name, Near, Op, Take, Unreadable, Whole


def live(ctx: Context, frame: Frame) -> Tensor:
    """Slots that hold a position of the row: neither padding nor behind the canvas' present end; the live nodes."""
    if isinstance(frame, Nodes):
        return frame.live
    slots = places(ctx, frame)
    return (slots >= _col(ctx.inputs["pad"])) & (slots < _col(present_end(ctx)))


def present_end(ctx: Context, values: dict[str, Tensor] | None = None) -> Tensor:
    """The slot behind the canvas: of an empty canvas, behind what was appended; of one that may be truncated,
    where it was. Now, or by other `values`."""
    if ctx.strategy.canvas.init == "empty":
        return ctx.inputs["start"] + (values or ctx.values)["filled"]
    return (values or ctx.values).get("canvas_end", ctx.inputs["end"])


def last_slot(ctx: Context) -> Tensor:
    """The last slot of the longest committed run from the start."""
    if ctx.strategy.canvas.init == "empty":
        return present_end(ctx) - 1
    masked = ctx.values["masked"].to(torch.int64)
    open_ = masked.sum(1) > 0
    return torch.where(open_, torch.argmax(masked, 1), ctx.inputs["end"]) - 1


def inside(ctx: Context, region: Expr, frame: Frame) -> Tensor:
    """A region on the slots of a frame, bool [B, W], without the dead slots, whatever a condition says of them."""
    found = ctx.value(region, frame).expand(ctx.batch, frame.width)
    return found if _is_live(ctx, region) else found & live(ctx, frame)


def everywhere(ctx: Context, region: Expr) -> Tensor:
    """A region on all slots, bool [B, C]: computed where it can lie, so that scores are taken there alone."""
    frame = frame_of(ctx, region)
    none = torch.zeros(ctx.batch, ctx.capacity, dtype=torch.bool)
    return store(ctx, none, frame, inside(ctx, region, frame))


def _is_live(ctx: Context, region: Expr) -> bool:
    """Whether an expression holds on live slots only, by its form."""
    match region:
        case Name(name=name):
            return name in ctx.blocks
        case Op(op="and", args=args):
            return any(a.type.each and _is_live(ctx, a) for a in args)
        case Op(op="or", args=args):
            return all(_is_live(ctx, a) for a in args)
        case Op(op="select", args=(_, yes, no)):
            return _is_live(ctx, yes) and _is_live(ctx, no)
        case Op(op=op):
            return op == "not"
        case Take(region=inner):
            return _is_live(ctx, inner)
    return isinstance(region, (Area, Near, Whole, Dilate, Unreadable))


def area(ctx: Context, region: Area, frame: Frame) -> Tensor:
    """A region by its nature."""
    slots, start = places(ctx, frame), _col(ctx.inputs["start"])
    match region.name:
        case "everything":
            return live(ctx, frame)
        case "prompt":
            return live(ctx, frame) & (slots < start)
        case "answer":
            return live(ctx, frame) & (slots >= start)
        case "masked":
            masked = look(ctx, ctx.values["masked"], frame)
            return masked & live(ctx, frame) if "canvas_end" in ctx.values else masked
        case "last":
            return slots == _col(last_slot(ctx))


def block(ctx: Context, name: str, frame: Frame) -> Tensor:
    """A block's live slots."""
    slots, b = places(ctx, frame), ctx.blocks[name]
    return (slots >= _col(b.start)) & (slots < _col(b.end)) & live(ctx, frame)


def bounds(ctx: Context, region: Expr) -> tuple[Tensor, Tensor]:
    """First slot of a region and the slot behind its last, [B] each; an empty region gives an empty stretch."""
    if isinstance(region, Name) and region.name in ctx.blocks:
        start, end = ctx.blocks[region.name].start, ctx.blocks[region.name].end
        return start, torch.minimum(end, present_end(ctx)) if "canvas_end" in ctx.values else end
    marks = everywhere(ctx, region).to(torch.int64)
    first = torch.argmax(marks, 1)
    end = ctx.capacity - torch.argmax(torch.flip(marks, [1]), 1)
    return first, torch.where(marks.sum(1) > 0, end, first)


def near(ctx: Context, region: Near, frame: Frame) -> Tensor:
    """A region by another one's extent."""
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
    """Those whose predecessor is not in the region: of a block, its first."""
    if not ctx.model.facts.shift:
        return torch.zeros(ctx.batch, frame.width, dtype=torch.bool)
    if _is_block(ctx, region.region):
        first, end = bounds(ctx, region.region)
        return (places(ctx, frame) == _col(first)) & _col(end > first) & live(ctx, frame)
    marks = everywhere(ctx, region.region)
    return look(ctx, marks & ~behind(marks), frame)


def whole(ctx: Context, region: Whole, frame: Frame) -> Tensor:
    """Complete blocks, the longest run of them."""
    marks, size = everywhere(ctx, region.region), ctx.value(region.size, None)
    if isinstance(region.region, Area) and region.region.name in ("prompt", "everything"):  # a run from position 0
        complete = marks.to(torch.int64).sum(1) // size * size
        position = places(ctx, frame) - _col(ctx.inputs["pad"])
        return (position >= 0) & (position < _col(complete))
    return look(ctx, _longest_run(_complete(ctx, marks, _col(size))), frame)


def _complete(ctx: Context, marks: Tensor, size: Tensor) -> Tensor:
    """Which slots [B, C] lie in a block of `size`, counted from position 0, that is marked as a whole."""
    pad = _col(ctx.inputs["pad"])
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    begin = pad + torch.clamp(slots - pad, min=0) // size * size
    sums = marks.to(torch.int64).cumsum(1)
    upto = torch.gather(sums, 1, torch.clamp(begin + size - 1, max=ctx.capacity - 1))
    before = torch.where(begin > 0, torch.gather(sums, 1, torch.clamp(begin - 1, min=0)), 0)
    return marks & (upto - before == size)


def _longest_run(marks: Tensor) -> Tensor:
    """The longest run of marks of a row, the first of equals; [B, C], by comparing every pair of slots."""
    gaps = (~marks).to(torch.int64).cumsum(1)  # equal within a run
    same = (gaps.unsqueeze(2) == gaps.unsqueeze(1)) & marks.unsqueeze(1)
    length = torch.where(marks, same.to(torch.int64).sum(2), 0)
    best = torch.gather(gaps, 1, torch.argmax(length, 1, keepdim=True))
    return marks & (gaps == best)


def dilate(ctx: Context, region: Dilate, frame: Frame) -> Tensor:
    """Counts of the region on [i - r, i + r], by differences of running counts."""
    marks = everywhere(ctx, region.region)
    radius = _col(ctx.value(region.radius, None))
    counts = marks.to(torch.int64).cumsum(1)
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
        case Dilate() | Op(op="or") if (around := _around(ctx, region)) is not None:
            name, left, right = around
            width, start = ctx.blocks[name].width + left + right, ctx.blocks[name].start
            return Frame(start - left if left else start, width) if width < ctx.capacity else canvas(ctx)
        case Op(op="or" | "select", args=args):
            each = [frame_of(ctx, a) for a in args if a.type.each]
            return each[0] if all(f.key == each[0].key for f in each) else canvas(ctx)
        case Take(region=inner):
            return frame_of(ctx, inner)
        case Near(kind=kind, region=inner) if kind in ("before", "after", "first"):
            first, end = bounds(ctx, inner)
            return Frame({"before": first - 1, "after": end, "first": first}[kind], 1)
        case Unreadable(region=inner) if _is_block(ctx, inner):
            return Frame(bounds(ctx, inner)[0], 1)
        case Unreadable(region=inner):
            return frame_of(ctx, inner)
    return canvas(ctx)


def _around(ctx: Context, region: Expr) -> tuple[str, int, int] | None:
    """A block, and how many slots before and behind it are enough to hold the region too."""
    match region:
        case Name(name=name) if name in ctx.blocks:
            return name, 0, 0
        case Dilate(region=inner, radius=Literal(value=radius)) if (found := _around(ctx, inner)) is not None:
            name, left, right = found
            return name, left + int(radius), right + int(radius)
        case Near(kind="before" | "after" as kind, region=inner) if (found := _around(ctx, inner)) is not None:
            name, left, right = found
            return (name, left + 1, 0) if kind == "before" else (name, 0, right + 1)
        case Unreadable(region=inner) | Take(region=inner):
            return _around(ctx, inner)
        case Op(op="and", args=args):
            found_ = [found for a in args if a.type.each and (found := _around(ctx, a)) is not None]
            return min(found_, key=lambda f: ctx.blocks[f[0]].width + f[1] + f[2], default=None)
        case Op(op="or", args=args):
            parts = [found for a in args if (found := _around(ctx, a)) is not None]
            if len(parts) == len(args) and len({name for name, _, _ in parts}) == 1:
                return parts[0][0], max(left for _, left, _ in parts), max(right for _, _, right in parts)
    return None


def _is_block(ctx: Context, region: Expr) -> bool:
    return isinstance(region, Name) and region.name in ctx.blocks


def _col(rows: Tensor) -> Tensor:
    return rows.reshape(-1, 1)
