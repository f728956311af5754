"""Calls that compute in each layer only the rows whose values drifted most (dLLM-Cache)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dcompile.diagnostic import CompileError, Diagnostic, Label
from dcompile.lower.context import Context, Frame
from dcompile.lower.frames import bias_of, canvas, look, places, rows, store
from dcompile.lower.regions import live
from dcompile.lower.variables import feature_names
from dcompile.models.kept import real
from dcompile.models.layers import KNOWN, is_plain
from dcompile.ops import FLOOR
from dcompile.strategy import Call
from dcompile.trace import Slots, attention_name

STEPS = 1024.0  # drifts are told apart in steps of 1 / STEPS of a cosine: below is rounding


def forward(ctx: Context, stmt: Call, frame: Frame, fed: Tensor, running: Tensor) -> Tensor:
    """Hidden states [B, W, E] of a frame's slots; stores what it computes of the rows that are `fed` [B, W] and run."""
    backbone: Any = real(ctx.model.backbone)
    if not is_plain(backbone):
        title = f"the layers of `{ctx.model.facts.family}` cannot be computed for some rows alone"
        help = f"known are the layers of {', '.join(KNOWN)}"
        raise CompileError([Diagnostic("no-layer-features", title, Label(stmt.span), help=help)])
    slots = places(ctx, frame).expand(ctx.batch, frame.width)
    positions = torch.clamp(slots - ctx.inputs["pad"].reshape(-1, 1), min=0)
    x: Tensor = backbone.embed_tokens(look(ctx, ctx.values["tokens"], frame))
    rotary = backbone.rotary_emb(x, position_ids=positions)
    before, backbone.config._attn_implementation = backbone.config._attn_implementation, attention_name()
    try:
        for layer in range(len(backbone.layers)):
            x = _layer(ctx, stmt, x, layer, slots, rotary, fed, fed & running.reshape(-1, 1))
    finally:
        backbone.config._attn_implementation = before
    if stmt.share == 1:
        old = look(ctx, ctx.values["stored"], frame)
        ctx.values["stored"] = store(ctx, ctx.values["stored"], frame, old | (fed & running.reshape(-1, 1)))
    out: Tensor = backbone.norm(x)
    return out


def _layer(
    ctx: Context, stmt: Call, x: Tensor, number: int, slots: Tensor, rotary: tuple[Tensor, Tensor], fed: Tensor,
    written: Tensor,
) -> Tensor:  # fmt: skip
    """One layer: attention and feed-forward of the chosen rows; all others take what was last computed of them."""
    module: Any = real(ctx.model.backbone).layers[number]
    normed = module.input_layernorm(x)
    index, chosen = _chosen(ctx, stmt, module, normed, number, slots, fed)
    taken, here = rows(normed, index), torch.gather(slots, 1, index)
    joined = _slots(ctx, here, chosen)
    angles = (rows(rotary[0].expand(x.shape[0], -1, -1), index), rows(rotary[1].expand(x.shape[0], -1, -1), index))
    seen, _ = module.self_attn(
        hidden_states=taken, position_embeddings=angles, attention_mask=None, past_key_values=joined, slots=joined
    )
    kept = torch.gather(written, 1, index) & chosen
    attended, forwarded = feature_names(number)
    x = x + _merged(ctx, attended, seen, slots, index, chosen, kept)
    made = module.mlp(module.post_attention_layernorm(rows(x, index)))
    x = x + _merged(ctx, forwarded, made, slots, index, chosen, kept)
    for kind, new in zip("kv", joined.fresh[number], strict=True):
        cache = ctx.values[f"{kind}{number}"]
        place = here.reshape(ctx.batch, 1, -1, 1).expand(new.shape)
        value = torch.where(kept.reshape(ctx.batch, 1, -1, 1), new, torch.gather(cache, 2, place))
        ctx.values[f"{kind}{number}"] = torch.scatter(cache, 2, place, value)
    return x


def _chosen(
    ctx: Context, stmt: Call, module: Any, normed: Tensor, number: int, slots: Tensor, fed: Tensor
) -> tuple[Tensor, Tensor]:
    """The rows of the frame that are computed, int64 [B, K], and which of those are meant, bool [B, K]."""
    width = normed.shape[1]
    assert stmt.share is not None
    if stmt.share == 1:
        return torch.arange(width).reshape(1, -1).expand(ctx.batch, width), fed
    new, cache = module.self_attn.v_proj(normed), ctx.values[f"v{number}"]
    place = slots.reshape(ctx.batch, 1, -1, 1).expand(ctx.batch, cache.shape[1], width, cache.shape[3])
    old = torch.gather(cache, 2, place).transpose(1, 2).reshape(new.shape)
    lengths = torch.sqrt((new * new).sum(2)) * torch.sqrt((old * old).sum(2))
    cosine = (new * old).sum(2) / torch.clamp(lengths, min=1e-12)
    drift = torch.where(fed, torch.floor(STEPS * (1.0 - cosine) + 0.5), FLOOR)
    most = math.ceil(stmt.share * width)
    index = torch.ops.dcompile.order(drift)[:, :most]
    number_fed = fed.to(torch.int64).sum(1, keepdim=True).to(torch.float32)
    return index, torch.arange(most).reshape(1, -1) < torch.ceil(number_fed * stmt.share)


def _slots(ctx: Context, here: Tensor, chosen: Tensor) -> Slots:
    """What the chosen rows attend: each other, and what is stored of all other positions."""
    empty = torch.zeros(ctx.batch, ctx.capacity, dtype=torch.bool)
    stored = ctx.values["stored"] & ~torch.scatter(empty, 1, here, chosen)
    if "canvas_end" in ctx.values:
        stored = stored & live(ctx, canvas(ctx))
    bias, fresh = (bias_of(m.unsqueeze(1)) for m in (stored, chosen))
    layers = range(ctx.model.facts.layers)
    caches = [(ctx.values[f"k{i}"], ctx.values[f"v{i}"]) for i in layers]
    width = here.shape[1]
    return Slots(
        caches,
        bias.expand(ctx.batch, 1, width, ctx.capacity),
        fresh.expand(ctx.batch, 1, width, width),
    )


def _merged(ctx: Context, name: str, new: Tensor, slots: Tensor, index: Tensor, chosen: Tensor, kept: Tensor) -> Tensor:
    """Features [B, W, E] with the chosen rows' new ones [B, K, E], which are stored where `kept`."""
    features = ctx.values[name]
    old = rows(features, slots)
    place = index.unsqueeze(-1).expand(new.shape)
    merged = torch.scatter(old, 1, place, torch.where(chosen.unsqueeze(-1), new, torch.gather(old, 1, place)))
    at = torch.gather(slots, 1, index)
    where = at.unsqueeze(-1).expand(new.shape)
    value = torch.where(kept.unsqueeze(-1), new, rows(features, at))
    ctx.values[name] = torch.scatter(features, 1, where, value)
    return merged
