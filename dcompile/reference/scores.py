"""Scores: a number, a token or a stored distribution for each position that a call lets read.

A score of a position that cannot be read is NaN, its token -1: no comparison holds for it, and choosing it is an error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.diagnostic import error
from dcompile.ops import FLOOR
from dcompile.reference import dists
from dcompile.reference.row import Row, Value
from dcompile.strategy import Score


def value(row: Row, expr: Score, of: Value) -> Tensor:
    """A score of every readable position."""
    if expr.dist not in row.dists:
        raise error("unread-call", f"`{expr.dist}` is read before its call has run")
    dist = row.dists[expr.dist]
    if expr.kind == "dist":
        return dists.stored(row, dist.warped if expr.warped else dist.logits, dist.positions)
    if expr.kind in ("token", "sample"):
        out = torch.full((row.extent,), -1)
        out[dist.positions] = torch.tensor(dist.token, dtype=torch.int64)
        return out
    logits = dist.warped if expr.warped else dist.logits
    if expr.without:
        logits = logits.clone()
        logits[:, list(expr.without)] = FLOOR
    chosen = None if expr.of is None else of(row, expr.of).expand(row.extent)[dist.positions]
    if expr.kind == "top":
        out = torch.full((row.extent,), -1)
        out[dist.positions] = logits.argmax(-1)
        return out
    out = torch.full((row.extent,), torch.nan)
    out[dist.positions] = _number(logits, expr.kind, chosen, torch.nan if row.nodes is None else 0.0)
    return out


def _number(logits: Tensor, kind: str, of: Tensor | None, none: float) -> Tensor:
    """One number [R] for each row of logits [R, V]; `none` is the probability of no token."""
    probs = torch.softmax(logits, -1)
    if kind == "max":
        return probs.max(-1).values
    if kind == "entropy":
        return -(probs * torch.log(probs.clamp(min=1e-38))).sum(-1)
    if kind in ("margin", "gap"):
        best = torch.topk(probs if kind == "margin" else logits, 2).values
        return best[:, 0] - best[:, 1]
    assert kind == "prob" and of is not None
    chosen = probs.gather(-1, of.clamp(min=0)[:, None])[:, 0]
    return torch.where(of >= 0, chosen, none)
