"""Extern rules: a torch function, traced into the graph for each row, on positions counted from 0."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.foreign import called, function
from dcompile.lower.context import Context, Frame
from dcompile.lower.frames import canvas, look, rows
from dcompile.lower.regions import live
from dcompile.strategy import Expr, Foreign


def foreign(ctx: Context, expr: Foreign, frame: Frame | None) -> Tensor:
    """The function's answer on the slots of a frame [B, W] ([B, W, V]), or one value a row [B]."""
    extern = next(e for e in ctx.strategy.externs if e.name == expr.name)
    run, vocab = function(extern), ctx.model.facts.vocab
    around, there = canvas(ctx), live(ctx, canvas(ctx))
    pad = ctx.inputs["pad"].reshape(-1, 1)
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    index = torch.clamp(slots + pad, max=ctx.capacity - 1)
    at_zero = torch.gather(there, 1, index) & (slots + pad < ctx.capacity)
    given = [_aligned(ctx, arg, around, index, at_zero) for arg in expr.args]
    found = [
        called(extern, run, _row(at_zero, r), [_row(g, r) for g in given], vocab).unsqueeze(0) for r in range(ctx.batch)
    ]
    answer = torch.cat(found) if len(found) > 1 else found[0]
    if not expr.type.each:
        return answer
    assert frame is not None, "a value per position has a frame"
    return _placed(ctx, answer, frame, pad, there)


def _aligned(ctx: Context, arg: Expr, around: Frame, index: Tensor, there: Tensor) -> Tensor:
    """An argument whose position 0 is the row's first one; zeros where there is no position."""
    if not arg.type.each:
        return ctx.value(arg, None).expand(ctx.batch)
    value = ctx.value(arg, around)
    if arg.type.wide:
        value = value.expand(ctx.batch, around.width, ctx.model.facts.vocab)
        return torch.where(there.unsqueeze(-1), rows(value, index.expand(ctx.batch, -1)), 0.0)
    value = torch.gather(value.expand(ctx.batch, around.width), 1, index.expand(ctx.batch, -1))
    return torch.where(there, value, torch.zeros_like(value))


def _row(x: Tensor, r: int) -> Tensor:
    return x.reshape(x.shape[1:]) if x.shape[0] == 1 else x[r : r + 1].reshape(x.shape[1:])


def _placed(ctx: Context, answer: Tensor, frame: Frame, pad: Tensor, there: Tensor) -> Tensor:
    """Values by position [B, C] as values by slot, on the slots of a frame."""
    index = torch.clamp(torch.arange(ctx.capacity).reshape(1, -1) - pad, min=0).expand(ctx.batch, ctx.capacity)
    if answer.dim() == 3:
        return rows(rows(answer, index), _slots(ctx, frame))
    value = torch.gather(answer, 1, index)
    return look(ctx, value & there if value.dtype == torch.bool else value, frame)


def _slots(ctx: Context, frame: Frame) -> Tensor:
    every = torch.arange(ctx.capacity).reshape(1, -1).expand(ctx.batch, ctx.capacity)
    return look(ctx, every, frame)
