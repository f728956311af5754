"""Shadows: positions that a call feeds a second time, as masks, behind the rows of its frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dcompile.lower.context import Context, Dist, Frame
from dcompile.lower.frames import bias_of, canvas, places
from dcompile.lower.regions import frame_of, live
from dcompile.lower.variables import mask_id
from dcompile.ops import FLOOR
from dcompile.strategy import Call
from dcompile.trace import Slots, call_backbone, call_head


@dataclass(frozen=True)
class Rows:
    """The shadows of a call: the S slots of `frame`, those that mean something in `fed` [B, S]."""

    frame: Frame
    fed: Tensor


def rows(ctx: Context, stmt: Call) -> Rows | None:
    """The shadows that a call asks for."""
    if stmt.shadow is None:
        return None
    frame = frame_of(ctx, stmt.shadow.region)
    marks = ctx.value(stmt.shadow.region, frame).expand(ctx.batch, frame.width)
    return Rows(frame, marks & live(ctx, frame))


def backbone(
    ctx: Context, shadow: Rows, frame: Frame, ids: Tensor, positions: Tensor, slots: Slots, fed: Tensor
) -> Tensor:
    """Hidden states [B, W + S, E] of a frame's rows and of the shadows behind them. A shadow sees the other shadows and
    all that is fed or stored but its own slot; keys and values of the frame's rows alone are left in `slots`."""
    own = places(ctx, shadow.frame).expand(ctx.batch, shadow.frame.width)
    width, extra = ids.shape[1], own.shape[1]
    masks = torch.full((ctx.batch, extra), mask_id(ctx), dtype=torch.int64)
    theirs = torch.clamp(own - ctx.inputs["pad"].reshape(-1, 1), min=0)
    here = places(ctx, frame).expand(ctx.batch, width)
    others = bias_of(fed.unsqueeze(1) & (here.unsqueeze(1) != own.unsqueeze(2)))
    among = bias_of(shadow.fed.unsqueeze(1).expand(ctx.batch, extra, extra))
    bias = slots.fresh_bias.expand(ctx.batch, 1, width, width)
    unseen = torch.full((ctx.batch, 1, width, extra), FLOOR)
    fresh = torch.cat([torch.cat([bias, unseen], 3), torch.cat([others, among], 3)], 2)
    stored = None
    if slots.bias is not None:
        count = slots.bias.shape[3]
        every = places(ctx, canvas(ctx)).reshape(1, 1, count)
        hidden = torch.where((every == own.unsqueeze(2)).unsqueeze(1), FLOOR, slots.bias[:, :, :1])
        stored = torch.cat([slots.bias.expand(ctx.batch, 1, width, count), hidden.expand(-1, 1, extra, count)], 2)
    joined = Slots(slots.caches, stored, fresh)
    tokens, places_ = torch.cat([ids, masks], 1), torch.cat([positions, theirs], 1)
    out = call_backbone(ctx.model.backbone, tokens, places_, joined)
    for layer, (k, v) in joined.fresh.items():
        slots.fresh[layer] = (k[:, :, :width], v[:, :, :width])
    return out


def read(ctx: Context, stmt: Call, shadow: Rows, hidden: Tensor) -> None:
    """What `p.shadow` is: nothing is drawn from it."""
    assert stmt.shadow is not None
    logits = call_head(ctx.model.head, hidden)
    temperature = None if stmt.temperature is None else ctx.value(stmt.temperature, None)
    now = dict(ctx.values)
    made = Dist(stmt.site, logits, shadow.frame, False, False, temperature, None, now, shadow.fed)
    ctx.dists[stmt.shadow.name] = made
