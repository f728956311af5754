"""Models that predict in any order: who sees whom in a call, and tokens of one call that another one judges."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dcompile.lower import sampling, scores
from dcompile.lower.context import Context, Frame
from dcompile.lower.frames import canvas, places
from dcompile.lower.regions import live, present_end
from dcompile.lower.threefry import uniform
from dcompile.ops import FLOOR
from dcompile.strategy import VERIFY, Call, Verify, walk


def forward(ctx: Context, stmt: Call, frame: Frame, ids: Tensor) -> Tensor:
    """Hidden states [B, C, E] of what is asked at each slot; `ids` [B, C]: what the slots hold."""
    assert stmt.order is not None
    order = ctx.value(stmt.order, frame).to(torch.float32).expand(ctx.batch, ctx.capacity)
    known = live(ctx, frame).expand(ctx.batch, ctx.capacity)
    if stmt.tokens is None:
        known = known & ~ctx.values["masked"]
    slots = torch.arange(ctx.capacity)
    before = (order.unsqueeze(1) < order.unsqueeze(2)) | (
        (order.unsqueeze(1) == order.unsqueeze(2)) & (slots.reshape(1, -1) < slots.reshape(-1, 1))
    )
    backbone: Any = ctx.model.backbone
    out: Tensor = backbone.traced(torch.clamp(ids, min=0), before & known.unsqueeze(1))
    return out


def verify(ctx: Context, stmt: Verify) -> None:
    """Lower `commit tokens at region by rejection(target, draft)`."""
    assert stmt.region is not None and stmt.tokens is not None
    frame = canvas(ctx)
    call = next(n for n in walk(ctx.strategy.body) if isinstance(n, Call) and n.name == stmt.target)
    assert call.order is not None
    slots = places(ctx, frame)
    at = ctx.value(stmt.region, frame) & ctx.values["masked"] & (slots >= ctx.inputs["start"].reshape(-1, 1))
    at = at & (slots < present_end(ctx).reshape(-1, 1))
    if ctx.active is not None:
        at = at & ctx.active.reshape(-1, 1)
    tokens = torch.clamp(ctx.value(stmt.tokens, frame).expand(ctx.batch, ctx.capacity), min=0)
    target, draft = (scores.law(ctx, ctx.dists[name], frame) for name in (stmt.target, stmt.draft))
    chosen = tokens.unsqueeze(-1)
    u, again = _uniforms(ctx, stmt, at)
    good = u * torch.gather(draft, 2, chosen).squeeze(-1) < torch.gather(target, 2, chosen).squeeze(-1)
    rank = ctx.value(call.order, frame).to(torch.float32).expand(ctx.batch, ctx.capacity)
    by: Tensor = torch.ops.dcompile.order(torch.where(at, -rank, FLOOR))
    refused = torch.gather(at & ~good, 1, by)
    earlier = refused.to(torch.int64).cumsum(1) - refused.to(torch.int64)
    first = torch.scatter(torch.zeros_like(at), 1, by, earlier == 0) & at
    more = torch.clamp(target - draft, min=0)
    total = more.sum(-1, keepdim=True)
    law = torch.where(total > 0, more / torch.clamp(total, min=1e-38), target)
    new = torch.where(good, tokens, sampling.draw(law, again))
    ctx.values["masked"] = ctx.values["masked"] & ~first
    ctx.values["tokens"] = torch.where(first, new, ctx.values["tokens"])
    ctx.values["order"] = torch.where(first, ctx.values["calls"].reshape(-1, 1), ctx.values["order"])


def _uniforms(ctx: Context, stmt: Verify, at: Tensor) -> tuple[Tensor, Tensor]:
    """Two numbers for each slot [B, C]: to judge by, and to draw another token by; one visit more where judged."""
    if not ctx.rng:  # at temperature 0 nothing depends on it
        half = torch.full((ctx.batch, ctx.capacity), 0.5)
        return half, half
    name = f"visits{VERIFY + 2 * stmt.site}"
    visits = ctx.values[name]
    ctx.values[name] = visits + at.to(torch.int64)
    position = places(ctx, canvas(ctx)) - ctx.inputs["pad"].reshape(-1, 1)
    seed = ctx.inputs["seed"].reshape(-1, 1)
    return tuple(uniform(seed, VERIFY + 2 * stmt.site + n, position, visits) for n in range(2))  # type: ignore[return-value]
