"""Whole distributions: what a call returned, kept as log-probabilities; tables, a number for each slot and token.

A wide variable is [B, R, V]: R the capacity, or, where it lives for a block, the slots of that block (`held`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from dcompile.lower.context import Adjusted, Context, Frame
from dcompile.lower.frames import behind, canvas, look, places, rows, store
from dcompile.lower.regions import block
from dcompile.lower.sampling import warped_if
from dcompile.lower.scores import logits_at, temperature
from dcompile.strategy import NONE, Adjust, Assign, Divergence, Expr, Name, OneHot, Score, State, held

LEAST = math.log(1e-38)  # as in the entropy


def size(ctx: Context, state: State) -> int:
    """How many slots a wide state holds."""
    found = held(state, ctx.strategy)
    return ctx.capacity if found is None else min(found, ctx.capacity)


def initial(ctx: Context, state: State) -> Tensor:
    """A wide state's first value."""
    return torch.full((ctx.batch, size(ctx, state), ctx.model.facts.vocab), _start(state))


def look_wide(ctx: Context, name: str, frame: Frame) -> Tensor:
    """A wide state on the slots of a frame [B, W, V]; beyond what it holds, its start."""
    state = _state(ctx, name)
    around = _around(ctx, state)
    values = ctx.values[name]
    if frame.key == around.key and frame.sorted_by is None:
        return values
    slots = places(ctx, frame).expand(ctx.batch, frame.width)
    if around.start is None:
        return rows(values, slots)
    index = slots - places(ctx, around)[:, :1]
    inside = (index >= 0) & (index < around.width)
    picked = rows(values, torch.clamp(index, 0, around.width - 1))
    return torch.where(inside.unsqueeze(-1), picked, _start(state))


def assign(ctx: Context, stmt: Assign) -> None:
    """Set a wide state, for all slots that it holds."""
    state = _state(ctx, stmt.name)
    frame = _around(ctx, state)
    if _start(state) == NONE:
        ctx.put(stmt.name, _in_block(ctx, stmt.value, frame).expand(ctx.batch, frame.width, ctx.model.facts.vocab))
        return
    new = ctx.value(stmt.value, frame).expand(ctx.batch, frame.width, ctx.model.facts.vocab)
    if frame.start is not None:
        inside = block(ctx, next(iter(ctx.blocks)), frame)
        new = torch.where(inside.unsqueeze(-1), new, _start(state))
    ctx.put(stmt.name, new)


def _in_block(ctx: Context, expr: Expr, frame: Frame) -> Tensor:
    """A distribution on the slots that a state holds [B, W, V]; where these are a block's, none outside of it."""
    if frame.start is None:
        return ctx.value(expr, frame)
    inside = block(ctx, next(iter(ctx.blocks)), frame)
    if isinstance(expr, Score):
        return whole(ctx, expr, frame, inside)
    return torch.where(inside.unsqueeze(-1), ctx.value(expr, frame), NONE)


def adjust(ctx: Context, stmt: Adjust) -> None:
    """`name = dist plus x`: x is put in where logits are read, with the variables as they are now."""
    dist = ctx.dists[stmt.dist]
    added = Adjusted(stmt.plus, dict(ctx.values), dict(ctx.dists))
    ctx.dists[stmt.name] = replace(dist, adjusted=(*dist.adjusted, added))


def whole(ctx: Context, expr: Score, frame: Frame, within: Tensor | None = None) -> Tensor:
    """A call's distribution on the slots of a frame [B, W, V], none where it cannot be read, nor outside of `within`
    [B, W], which is of the frame unsorted."""
    dist, base = ctx.dists[expr.dist], frame.unsorted
    logits = logits_at(ctx, dist, base)
    if expr.warped:
        logits = warped_if(ctx, dist, logits, temperature(ctx, dist))
    shifted = logits - torch.amax(logits, -1, keepdim=True)
    total = torch.log(torch.exp(shifted).sum(-1, keepdim=True))
    fed = dist.fed
    if dist.shift or base.key != dist.frame.key:
        everywhere = store(ctx, torch.zeros(ctx.batch, ctx.capacity, dtype=torch.bool), dist.frame, fed)
        fed = look(ctx, behind(everywhere) if dist.shift else everywhere, base)
    known = fed if within is None else fed & within
    # A number a row tells none: all is above NONE with it. To choose would be one more sweep over the vocabulary.
    less = torch.where(known.unsqueeze(-1), total, total + (LEAST - 1.5 * NONE))
    return resorted(torch.maximum(shifted, total + LEAST) - less, frame)


def divergence(ctx: Context, expr: Divergence, frame: Frame) -> Tensor:
    """KL(left || right) on the slots of a frame [B, W]; computed where both can be known."""
    around, base = _known_on(ctx, expr), frame.unsorted
    if around is not None and around.width < frame.width:
        nowhere = torch.full((ctx.batch, ctx.capacity), 3.0e38)
        return look(ctx, store(ctx, nowhere, around, divergence(ctx, expr, around)), frame)
    within = around is not None and around.key == base.key  # outside of the block one side is none, so the other may be
    sides = expr.left, expr.right
    left, right = (_in_block(ctx, e, base) if within and isinstance(e, Score) else ctx.value(e, base) for e in sides)
    known = (left[:, :, 0] < NONE) & (right[:, :, 0] < NONE)
    result = torch.where(known, (torch.exp(left) * (left - right)).sum(-1), 3.0e38)
    return result if frame.sorted_by is None else torch.gather(result, 1, frame.sorted_by)


def _known_on(ctx: Context, expr: Divergence) -> Frame | None:
    """The slots beyond which one side is none, where a side is kept for a block alone."""
    names = [e.name for e in (expr.left, expr.right) if isinstance(e, Name)]
    kept = [_state(ctx, name) for name in names if _start(_state(ctx, name)) == NONE]
    return min((_around(ctx, state) for state in kept), key=lambda f: f.width, default=None)


def probabilities(ctx: Context, expr: Expr, frame: Frame) -> Tensor:
    """The probabilities of a distribution [B, W, V], zeros where it is none."""
    kept = ctx.value(expr, frame)
    return torch.where(kept[:, :, :1] < NONE, torch.exp(kept), 0.0)


def onehot(ctx: Context, expr: OneHot, frame: Frame) -> Tensor:
    """1 at each slot's token [B, W, V], 0 at all others."""
    tokens = ctx.value(expr.of, frame).reshape(ctx.batch, -1, 1)
    every = torch.arange(ctx.model.facts.vocab)
    return (tokens == every).to(torch.float32)


def resorted(values: Tensor, frame: Frame) -> Tensor:
    """Values [B, W, V] of an unsorted frame in a frame's order."""
    return values if frame.sorted_by is None else rows(values, frame.sorted_by)


def _around(ctx: Context, state: State) -> Frame:
    """The slots that a wide state holds."""
    if held(state, ctx.strategy) is None:
        return canvas(ctx)
    outermost = next(iter(ctx.blocks.values()))
    return Frame(outermost.start, size(ctx, state))


def _state(ctx: Context, name: str) -> State:
    return next(s for s in ctx.strategy.states if s.name == name)


def _start(state: State) -> float:
    value = getattr(state.init, "value", None)
    assert isinstance(value, (int, float)), "a wide state starts from a number"
    return float(value)
