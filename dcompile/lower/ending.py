"""Where a row ends: the first eos with everything before it committed."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower import regions
from dcompile.lower.context import Context


def ended(ctx: Context) -> Tensor:
    """Whether the committed run from the answer's start holds an eos, bool [B]."""
    if ctx.strategy.canvas.init == "empty":
        return ctx.values["ended"]
    return first_eos(ctx)[1]


def first_eos(ctx: Context) -> tuple[Tensor, Tensor]:
    """Slot of the first eos with everything before it committed [B], and whether there is one [B]."""
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    start, end = ctx.inputs["start"].reshape(-1, 1), regions.present_end(ctx).reshape(-1, 1)
    answer = (slots >= start) & (slots < end)
    open_ = ctx.values["masked"].to(torch.int64).cumsum(1) == 0
    hits = (answer & open_ & is_eos(ctx, ctx.values["tokens"])).to(torch.int64)
    return torch.argmax(hits, 1), hits.sum(1) > 0


def is_eos(ctx: Context, tokens: Tensor) -> Tensor:
    """Which tokens are one of the eos ids."""
    return (tokens.unsqueeze(-1) == ctx.inputs["eos"]).to(torch.int64).sum(-1) > 0
