"""Modules: a trained network over the values of a block, inlined into the graph."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower.context import Context, Frame
from dcompile.lower.frames import places
from dcompile.lower.regions import frame_of, inside
from dcompile.strategy import Learned, Module


def learned(ctx: Context, expr: Learned, frame: Frame) -> Tensor:
    """The module's answer on the slots of a frame [B, W], 0 outside of the block."""
    module = next(m for m in ctx.strategy.modules if m.name == expr.module)
    around = frame_of(ctx, expr.region)
    assert around.start is not None and around.width <= module.size, "the checker lets only blocks through"
    start = around.start.reshape(-1, 1)
    answer = _network(ctx, module, _values(ctx, expr, around, start))
    at = places(ctx, frame) - start
    row = torch.clamp(at, 0, module.size - 1).expand(ctx.batch, frame.width)
    return torch.where(inside(ctx, expr.region, frame), torch.gather(answer, 1, row), 0.0)


def _values(ctx: Context, expr: Learned, around: Frame, start: Tensor) -> Tensor:
    """The block's values [B, W] from its first position on, zeros behind. A frame that would stick out of the canvas
    stands further left than its block."""
    value = ctx.value(expr.value, around)
    value = value if expr.value.type.each else value.reshape(-1, 1)
    value = torch.where(inside(ctx, expr.region, around), value, 0.0).expand(ctx.batch, around.width)
    at = start - places(ctx, around)[:, :1] + torch.arange(around.width).reshape(1, -1)
    rows = torch.clamp(at, 0, around.width - 1)
    return torch.where((at >= 0) & (at < around.width), torch.gather(value, 1, rows), 0.0)


def _network(ctx: Context, module: Module, x: Tensor) -> Tensor:
    """[B, W] to [B, size]."""
    if x.shape[1] < module.size:
        x = torch.cat([x, torch.zeros(ctx.batch, module.size - x.shape[1])], dim=1)
    return ctx.modules[module.name].run(x)
