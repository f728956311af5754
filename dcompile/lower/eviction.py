"""Keys that are forgotten (Keyformer): each head adds up how much its keys are attended, and keeps the first of them.

Attention is spelled out here, since no fused kernel tells what its weights were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dcompile.lower.context import Context, Frame
from dcompile.lower.frames import canvas, look, places
from dcompile.lower.threefry import uniform
from dcompile.ops import FLOOR
from dcompile.strategy import KEYS, Call, walk

Part = tuple[Tensor, Tensor, Tensor]


def names(layer: int) -> tuple[str, str]:
    """The variables that say how much each key was attended [B, G, C], and which are forgotten."""
    return f"score{layer}", f"gone{layer}"


def variables(ctx: Context) -> list[str]:
    """Those of all layers, where a call forgets keys."""
    if evicting(ctx) is None:
        return []
    return [name for layer in range(ctx.model.facts.layers) for name in names(layer)]


def evicting(ctx: Context) -> Call | None:
    """The call that forgets keys."""
    return next((n for n in walk(ctx.strategy.body) if isinstance(n, Call) and n.eviction is not None), None)


def declare(ctx: Context) -> None:
    """Nothing is attended yet, and nothing forgotten."""
    facts = ctx.model.facts
    for name in variables(ctx):
        kind = torch.bool if name.startswith("gone") else torch.float32
        ctx.values[name] = torch.zeros(ctx.batch, facts.kv_heads, ctx.capacity, dtype=kind)


@dataclass
class Watch:
    """Attention that adds up its weights. `fed` [B, W]: the queries that count; `heat` [B] divides their scores. What
    each slot was given by the dice is the same in all layers and calls."""

    ctx: Context
    frame: Frame
    fed: Tensor
    heat: Tensor
    noise: Tensor

    def attend(self, layer: int, query: Tensor, parts: Sequence[Part], scale: float) -> Tensor:
        """What `ops.attend` gives, of the keys that are not forgotten; `parts`: the cache, then what is fed."""
        ctx, (_, gone) = self.ctx, names(layer)
        batch, heads, width, dim = query.shape
        groups = parts[0][0].shape[1]
        rows = (query * scale).reshape(batch, groups, heads // groups * width, dim)
        hidden = torch.where(ctx.values[gone], FLOOR, 0.0).reshape(batch, groups, 1, 1, -1)
        split = []
        for number, (key, _, bias) in enumerate(parts):
            scores = torch.matmul(rows, key.transpose(-1, -2)).reshape(batch, groups, heads // groups, width, -1)
            scores = scores + bias.unsqueeze(1)
            split.append(torch.maximum(scores + hidden, torch.full((1,), FLOOR)) if number == 0 else scores)
        joined = torch.cat(split, -1)
        self._note(layer, joined, split[0].shape[-1])
        weights = torch.softmax(joined, -1).reshape(batch, groups, heads // groups * width, -1)
        first = parts[0][0].shape[2]
        out = torch.matmul(weights[..., :first], parts[0][1]) + torch.matmul(weights[..., first:], parts[1][1])
        return out.reshape(batch, heads, width, dim)

    def _note(self, layer: int, scores: Tensor, cached: int) -> None:
        """Add what each key got of the queries [B, G, R, W, N] to its score."""
        ctx, (name, _) = self.ctx, names(layer)
        here = look(ctx, self.noise, self.frame)
        noise = torch.cat([self.noise, here], 1).reshape(ctx.batch, 1, 1, 1, -1)
        warm = torch.softmax((scores + noise) / self.heat.reshape(-1, 1, 1, 1, 1), -1)
        counted = torch.where(self.fed.reshape(ctx.batch, 1, 1, -1, 1), warm, 0.0)
        got = counted.sum(3).sum(2)
        total = ctx.values[name] + got[..., :cached]
        at = places(ctx, self.frame).reshape(ctx.batch, 1, -1).expand(ctx.batch, total.shape[1], self.frame.width)
        ctx.values[name] = torch.scatter(total, 2, at, torch.gather(total, 2, at) + got[..., cached:])


def watch(ctx: Context, frame: Frame, fed: Tensor, heat: Tensor) -> Watch:
    """For one forward."""
    call = evicting(ctx)
    assert call is not None
    position = places(ctx, canvas(ctx)) - ctx.inputs["pad"].reshape(-1, 1)
    seed = ctx.inputs["seed"].reshape(-1, 1)
    u = uniform(seed, KEYS + call.site, position, torch.zeros(1, 1, dtype=torch.int64))
    return Watch(ctx, frame, fed, heat, -torch.log(-torch.log(u)).expand(ctx.batch, ctx.capacity))


def forget(ctx: Context, stmt: Call, stored: Tensor) -> None:
    """Behind a call: of the keys before the last ones, which are `stored` [B, C], only those of most score stay."""
    assert stmt.eviction is not None
    keys, recent = (ctx.value(e, None).reshape(-1, 1) for e in (stmt.eviction.keys, stmt.eviction.recent))
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    last = torch.where(stored, slots, -1).amax(1, keepdim=True)
    old = (stored & (slots <= last - recent)).unsqueeze(1)
    for layer in range(ctx.model.facts.layers):
        score, gone = (ctx.values[name] for name in names(layer))
        may = old & ~gone
        batch, groups, size = score.shape
        order = torch.ops.dcompile.order(torch.where(may, score, FLOOR).reshape(batch * groups, size))
        first = slots < keys.expand(batch, 1).reshape(batch, 1, 1).expand(batch, groups, 1).reshape(-1, 1)
        kept = torch.scatter(torch.zeros(batch * groups, size, dtype=torch.bool), 1, order, first)
        ctx.put(names(layer)[1], gone | (may & ~kept.reshape(batch, groups, size)))
