"""Frames: which slots an expression is computed on, and moving values between them."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower.context import Context, Frame, Nodes
from dcompile.ops import FLOOR


def canvas(ctx: Context) -> Frame:
    """All slots."""
    return Frame(None, ctx.capacity)


def places(ctx: Context, frame: Frame) -> Tensor:
    """The slots of a frame, int64 [B, W] ([1, C] for the canvas), each slot once; of nodes, where they would stand."""
    if isinstance(frame, Nodes):
        assert frame.start is not None
        return frame.start.reshape(-1, 1) + frame.depths
    if frame.start is None:
        slots = torch.arange(ctx.capacity).reshape(1, -1)
    else:
        base = torch.clamp(frame.start, 0, ctx.capacity - frame.width)
        slots = base.reshape(-1, 1) + torch.arange(frame.width).reshape(1, -1)
    if frame.sorted_by is not None:
        slots = torch.gather(slots.expand(ctx.batch, frame.width), 1, frame.sorted_by)
    return slots


def look(ctx: Context, values: Tensor, frame: Frame) -> Tensor:
    """Values of the whole canvas [B, C] as a frame sees them [B, W]."""
    if frame.start is None and frame.sorted_by is None:
        return values
    return torch.gather(values, 1, places(ctx, frame).expand(ctx.batch, frame.width))


def store(ctx: Context, values: Tensor, frame: Frame, new: Tensor) -> Tensor:
    """The canvas' values [B, C] with those of a frame [B, W] written in."""
    if frame.start is None:
        return new
    return torch.scatter(values, 1, places(ctx, frame).expand(ctx.batch, frame.width), new)


def behind(marks: Tensor) -> Tensor:
    """Marks [B, W] moved one place to the right."""
    return torch.cat([torch.zeros_like(marks[:, :1]), marks[:, :-1]], dim=1)


def bias_of(attended: Tensor) -> Tensor:
    """What attention adds to scores [B, 1, W, N]: 0 where a row attends to a key (bool [B, W, N]), FLOOR where not."""
    return torch.where(attended.unsqueeze(1), 0.0, FLOOR)


def rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of [B, W, ...] by index [B, n]: [B, n, ...]."""
    batch, width = x.shape[:2]
    flat = index if batch == 1 else index + (torch.arange(batch) * width).reshape(-1, 1)
    picked = torch.index_select(x.reshape(batch * width, *x.shape[2:]), 0, flat.reshape(-1))
    return picked.reshape(batch, index.shape[1], *x.shape[2:])
