"""Whole distributions: a table is a tensor [N, V] over the canvas, a stored distribution one of log-probabilities."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dcompile.reference.row import Row
from dcompile.strategy import NONE, Adjust, State, outer_blocks


def stored(row: Row, logits: Tensor, positions: list[int]) -> Tensor:
    """What a call returned for these positions (or nodes), to be kept: [N, V], none where it cannot be read."""
    out = torch.full((row.extent, row.model.facts.vocab), NONE)
    out[positions] = torch.log(torch.softmax(logits, -1).clamp(min=1e-38))
    return out


def divergence(left: Tensor, right: Tensor) -> Tensor:
    """KL(left || right) of each position [N]."""
    known = (left[:, 0] < NONE) & (right[:, 0] < NONE)
    return torch.where(known, (left.exp() * (left - right)).sum(-1), 3e38)


def probabilities(kept: Tensor) -> Tensor:
    """A stored distribution's probabilities [N, V], zeros where it is none."""
    return torch.where(kept[:, :1] < NONE, kept.exp(), 0.0)


def onehot(row: Row, tokens: Tensor) -> Tensor:
    """1 at each position's token [N, V]; a token of -1 has none."""
    every = torch.arange(row.model.facts.vocab)
    return (tokens.expand(row.size)[:, None] == every).float()


def column(item: Tensor) -> Tensor:
    """A value per position [N] shaped to meet a table."""
    return item[:, None] if item.dim() == 1 else item


def adjust(row: Row, stmt: Adjust, plus: Tensor) -> None:
    """`name = dist plus x`."""
    dist = row.dists[stmt.dist]
    added = plus.expand(row.size, row.model.facts.vocab)[dist.positions]
    row.dists[stmt.name] = replace(dist, logits=dist.logits + added)


def bounded(row: Row, state: State, item: Tensor, initial: Tensor) -> Tensor:
    """What a wide state holds of a value [N, V]: one that lives for a block, the outermost block's positions alone."""
    item = item.expand(row.size, row.model.facts.vocab)
    if state.lifetime != "block":
        return item.clone()
    around = [row.variables[loop.var] for loop in outer_blocks(row.strategy.body) if loop.var in row.blocks]
    inside = around[0] if around else torch.zeros(row.size, dtype=torch.bool)
    return torch.where(inside[:, None], item, initial)
