"""Scores of a distribution on the slots of a frame, in float32, written plainly: `fuse-scores` makes them cheap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dcompile.lower import sampling
from dcompile.lower.context import Adjusted, Context, Dist, Frame, Nodes
from dcompile.lower.frames import look, places, rows
from dcompile.lower.trees import parents
from dcompile.ops import FLOOR
from dcompile.strategy import Chance, Entry, Field, Name, Score, walk


def score(ctx: Context, expr: Score, frame: Frame) -> Tensor:
    """A score on the slots of a frame [B, W]."""
    dist, base = ctx.dists[expr.dist], frame.unsorted
    if any(isinstance(n, (Name, Field, Entry)) for n in walk(expr.of or ())):  # these may have changed since
        result = _score(ctx, expr, dist, base)
    else:
        key = (*_which(ctx, dist), expr.kind, expr.of, expr.warped, expr.without, base.key)
        result = _once(ctx, key, lambda: _score(ctx, expr, dist, base))
    return result if frame.sorted_by is None else torch.gather(result, 1, frame.sorted_by)


def _score(ctx: Context, expr: Score, dist: Dist, frame: Frame) -> Tensor:
    if expr.kind in ("token", "sample"):
        return token(ctx, dist, frame)
    logits = _masked(ctx, expr, dist, logits_at(ctx, dist, frame))
    match expr.kind:
        case "top":
            return torch.argmax(logits, -1)
        case "max":
            return torch.softmax(logits, -1).amax(-1)
        case "entropy":
            probs = torch.softmax(logits, -1)
            return -(probs * torch.log(torch.clamp(probs, min=1e-38))).sum(-1)
        case "margin":
            return _lead(torch.softmax(logits, -1))
        case "gap":
            return _lead(logits)
        case "prob":
            assert expr.of is not None
            of = ctx.value(expr.of, frame).reshape(ctx.batch, -1).expand(ctx.batch, frame.width)
            probs = torch.softmax(logits, -1)
            return _of(probs, of) if isinstance(frame, Nodes) else torch.gather(probs, 2, of.unsqueeze(-1)).squeeze(-1)
    raise AssertionError(expr.kind)


def token(ctx: Context, dist: Dist, frame: Frame) -> Tensor:
    """The proposed token of each slot [B, W]."""
    logits = logits_at(ctx, dist, frame)
    slots = places(ctx, frame)
    position = slots - ctx.inputs["pad"].reshape(-1, 1) + (1 if dist.predicts_next else 0)
    if isinstance(frame, Nodes):  # a draw belongs to the position alone, whatever was drafted before
        visit: Tensor | None = torch.zeros_like(position)
    else:
        visit = None if dist.visits is None else look(ctx, dist.visits, frame)
    position = position.expand(ctx.batch, frame.width)
    return sampling.propose(ctx, dist, logits, temperature(ctx, dist), position, visit)


def chance(ctx: Context, expr: Chance, nodes: Nodes) -> Tensor:
    """The probability of a token of each node by what its parent predicts [B, n]."""
    dist = ctx.dists[expr.dist]
    logits = _masked(ctx, expr, dist, logits_at(ctx, dist, nodes))
    above = parents(nodes, torch.softmax(logits, -1))
    of = ctx.value(expr.of, nodes).reshape(ctx.batch, -1).expand(ctx.batch, nodes.width)
    return _of(above, of)


def _of(probs: Tensor, of: Tensor) -> Tensor:
    """The probabilities of tokens [B, n], 0 of none (below 0)."""
    return torch.where(of >= 0, torch.gather(probs, 2, torch.clamp(of, min=0).unsqueeze(-1)).squeeze(-1), 0.0)


def _masked(ctx: Context, expr: Score | Chance, dist: Dist, logits: Tensor) -> Tensor:
    """The logits that a score is of: warped, or without some tokens."""
    if expr.warped:
        logits = sampling.warped_if(ctx, dist, logits, temperature(ctx, dist))
    if expr.without:
        logits = torch.where(sum_onehot(expr.without, logits.shape[-1]), FLOOR, logits)
    return logits


def law(ctx: Context, dist: Dist, frame: Frame) -> Tensor:
    """What is drawn from at each slot [B, W, V]: at temperature 0 the likeliest token for certain."""
    logits, heat = logits_at(ctx, dist, frame), temperature(ctx, dist)
    warm = torch.softmax(sampling.warped_if(ctx, dist, logits, heat), -1)
    best = torch.argmax(sampling.processed_if(ctx, dist, logits), -1, keepdim=True)
    cold = (torch.arange(logits.shape[-1]) == best).to(torch.float32)
    return torch.where(heat.reshape(-1, 1, 1) > 0, warm, cold)


def temperature(ctx: Context, dist: Dist | None) -> Tensor:
    """That of a call [B]; without one, the run's."""
    if dist is not None and dist.temperature is not None:
        return dist.temperature
    return ctx.inputs["temperature"] if ctx.rng else torch.zeros(ctx.batch)


def logits_at(ctx: Context, dist: Dist, frame: Frame) -> Tensor:
    """The logits [B, W, V] that predict the slots of a frame, with what was added to them."""
    logits = _rows_at(ctx, dist, frame)
    for n, added in enumerate(dist.adjusted):
        logits = _adjusted(ctx, dist, logits, added, frame, n)
    return logits


def _adjusted(ctx: Context, dist: Dist, logits: Tensor, added: Adjusted, frame: Frame, n: int) -> Tensor:
    def sum_() -> Tensor:
        now = ctx.values, ctx.dists
        ctx.values, ctx.dists = added.values, added.dists
        plus = ctx.value(added.plus, frame)
        ctx.values, ctx.dists = now
        return logits + plus

    return _once(ctx, (*_which(ctx, dist), "adjusted", n, frame.key), sum_)


def _rows_at(ctx: Context, dist: Dist, frame: Frame) -> Tensor:
    if frame.key == dist.frame.key and not dist.shift:
        return dist.logits
    key = (*_which(ctx, replace(dist, adjusted=())), "logits", frame.key)

    def picked() -> Tensor:
        fed = places(ctx, dist.frame)
        index = places(ctx, frame) - fed[:, :1] - (1 if dist.shift else 0)
        return rows(dist.logits, torch.clamp(index, 0, dist.frame.width - 1).expand(ctx.batch, frame.width))

    return _once(ctx, key, picked)


def sum_onehot(ids: tuple[int, ...], vocab: int) -> Tensor:
    """Truth values [V]: which tokens are among `ids`."""
    every = torch.arange(vocab)
    hit = every == ids[0]
    for i in ids[1:]:
        hit = hit | (every == i)
    return hit


def _lead(values: Tensor) -> Tensor:
    """By how much the largest value exceeds the second."""
    two: Tensor = torch.ops.dcompile.best_two(values)
    return two[..., 0] - two[..., 1]


def _which(ctx: Context, dist: Dist) -> tuple[object, ...]:
    """A distribution within the graph that is being recorded."""
    return ctx.recorder.scope.serial, dist.site, id(dist.logits), dist.adjusted


def _once(ctx: Context, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
    """The same score is asked for many times in a line; a graph computes it once."""
    found: Tensor | None = ctx.memo.get(key)
    if found is None:
        found = ctx.memo[key] = make()
    return found
