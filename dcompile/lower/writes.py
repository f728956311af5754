"""Straight statements: they set variables and the canvas, each row for itself."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower import dists, ending
from dcompile.lower.context import Context, Frame
from dcompile.lower.frames import canvas, look, places, store
from dcompile.lower.regions import bounds, frame_of, present_end
from dcompile.lower.variables import chance, mask_id, noise
from dcompile.strategy import NOISE, RANDOM, Assign, Expr, Name, Op, Random, Write


def assign(ctx: Context, stmt: Assign) -> None:
    """Set a variable, for the whole canvas where it has one value per position."""
    if stmt.value.type.wide:
        dists.assign(ctx, stmt)
        return
    match stmt.value:
        case Random(site=site):
            ctx.put(stmt.name, chance(ctx, RANDOM + site))
            return
        case Op(op="select", args=(region, value, Name(name=name))) if region.type.each and name == stmt.name:
            _renew(ctx, name, region, value)
            return
    each = stmt.value.type.each
    if each and stmt.value.type.base == "bool" and (frame := frame_of(ctx, stmt.value)).start is not None:
        none = torch.zeros(ctx.batch, ctx.capacity, dtype=torch.bool)
        ctx.put(stmt.name, store(ctx, none, frame, ctx.value(stmt.value, frame).expand(ctx.batch, frame.width)))
        return
    new = ctx.value(stmt.value, canvas(ctx) if each else None)
    shape = (ctx.batch, ctx.capacity) if each else (ctx.batch,)
    ctx.put(stmt.name, new if stmt.value.type.base == "vector" else new.expand(shape))


def _renew(ctx: Context, name: str, region: Expr, value: Expr) -> None:
    """`x = value if region else x`: what a call says of its block needs no computing elsewhere."""
    frame = frame_of(ctx, region)
    old = look(ctx, ctx.values[name], frame)
    given = ctx.value(value, frame if value.type.each else None)
    new = torch.where(ctx.value(region, frame), given if value.type.each else given.reshape(-1, 1), old)
    ctx.put(name, store(ctx, ctx.values[name], frame, new.expand(ctx.batch, frame.width)))


def write(ctx: Context, stmt: Write) -> None:
    """`commit`, `overwrite`, `mask` and `noise` at a region."""
    assert stmt.region is not None
    frame = frame_of(ctx, stmt.region)
    from_ = ctx.inputs["pad" if stmt.action == "overwrite" else "start"]
    slots, start, end = places(ctx, frame), from_.reshape(-1, 1), present_end(ctx).reshape(-1, 1)
    masked = look(ctx, ctx.values["masked"], frame)
    at = ctx.value(stmt.region, frame) & (slots >= start) & (slots < end)
    at = at & (masked if stmt.action == "commit" else ~look(ctx, ctx.inputs["fixed"], frame))
    if ctx.active is not None:
        at = at & ctx.active.reshape(-1, 1)
    if stmt.action == "mask":
        ctx.values["masked"] = store(ctx, ctx.values["masked"], frame, masked | at)
        new = torch.full((1, 1), mask_id(ctx), dtype=torch.int64)
    elif stmt.action == "noise":
        new = _noise(ctx, stmt, frame, at)
    else:
        assert stmt.tokens is not None
        new = _tokens(ctx, stmt.tokens, frame)
        if stmt.action == "commit":
            ctx.values["masked"] = store(ctx, ctx.values["masked"], frame, masked & ~at)
    _set(ctx, frame, at, "tokens", new)
    _set(ctx, frame, at, "order", ctx.values["calls"].reshape(-1, 1))


def _noise(ctx: Context, stmt: Write, frame: Frame, at: Tensor) -> Tensor:
    """Random tokens [B, W], and one visit more where they are written."""
    stream = NOISE + 1 + stmt.site
    visits = look(ctx, ctx.values[f"visits{stream}"], frame)
    ctx.values[f"visits{stream}"] = store(ctx, ctx.values[f"visits{stream}"], frame, visits + at.to(torch.int64))
    return noise(ctx, stream, frame, visits)


def truncate(ctx: Context, stmt: Write) -> None:
    """The canvas ends before the first slot of a region. What is behind is dead: it counts as masked from then on, so
    that the committed run ends there, and as written by no call."""
    assert stmt.region is not None
    first, end = bounds(ctx, stmt.region)
    cut = torch.where(end > first, torch.maximum(first, ctx.inputs["start"]), ctx.values["canvas_end"])
    ctx.put("canvas_end", cut)
    slots = places(ctx, canvas(ctx))
    dead = (slots >= ctx.values["canvas_end"].reshape(-1, 1)) & (slots < ctx.inputs["end"].reshape(-1, 1))
    ctx.values["masked"] = ctx.values["masked"] | dead
    ctx.values["order"] = torch.where(dead, 0, ctx.values["order"])


def append(ctx: Context, stmt: Write) -> None:
    """The slot behind the last takes the token read at the last."""
    assert stmt.tokens is not None
    last = present_end(ctx) - 1
    new = _tokens(ctx, stmt.tokens, Frame(last, 1))
    frame = Frame(last + 1, 1)
    room = ctx.values["filled"] < ctx.inputs["length"]
    room = room if ctx.active is None else room & ctx.active
    at = room.reshape(-1, 1)
    _set(ctx, frame, at, "tokens", new)
    _set(ctx, frame, at, "order", ctx.values["calls"].reshape(-1, 1))
    ctx.values["filled"] = ctx.values["filled"] + room.to(torch.int64)
    ctx.values["ended"] = ctx.values["ended"] | (room & ending.is_eos(ctx, new.reshape(-1)))
    ctx.values["done"] = ctx.values["done"] | (ctx.values["filled"] >= ctx.inputs["length"])


def _tokens(ctx: Context, expr: Expr, frame: Frame) -> Tensor:
    """What to write on a frame: [B, W], or [B, 1] where it is one token a row."""
    return ctx.value(expr, frame) if expr.type.each else ctx.value(expr, None).reshape(-1, 1)


def _set(ctx: Context, frame: Frame, at: Tensor, name: str, new: Tensor) -> None:
    new = torch.where(at, new, look(ctx, ctx.values[name], frame)).expand(ctx.batch, frame.width)
    ctx.values[name] = store(ctx, ctx.values[name], frame, new)
