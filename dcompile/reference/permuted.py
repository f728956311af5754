"""Models that predict in any order, one row: a position sees those before it, tokens are judged one after another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dcompile.reference import sampling
from dcompile.reference.expressions import region, value
from dcompile.reference.row import Dist, Row
from dcompile.reference.writes import chance, follow, put
from dcompile.strategy import VERIFY, Call, Expr, Verify, walk


@torch.no_grad()
def forward(row: Row, stmt: Call, tokens: list[int]) -> Tensor:
    """Logits [N, V] for each position of the row, which holds `tokens`."""
    assert stmt.order is not None
    size, rank = row.end, _ranks(row, stmt.order)
    known = [stmt.tokens is not None or not row.masked[i] for i in range(size)]
    sees = [[known[j] and rank[j] < rank[i] for j in range(size)] for i in range(size)]
    backbone: Any = row.model.backbone
    ids = torch.tensor([tokens[:size]]).clamp(min=0)
    found: Tensor = backbone(ids, torch.tensor([sees])).last_hidden_state[0]
    return found


def _ranks(row: Row, order: Expr) -> list[tuple[float, int]]:
    """What positions are ordered by: the number given, then the position."""
    given = value(row, order).expand(row.size).tolist()
    return [(number, i) for i, number in enumerate(given)]


def verify(row: Row, stmt: Verify) -> None:
    """Commit tokens in the order of the call that judges, up to the first that it refuses, which is drawn anew."""
    assert stmt.region is not None and stmt.tokens is not None
    call = next(n for n in walk(row.strategy.body) if isinstance(n, Call) and n.name == stmt.target)
    assert call.order is not None
    rank = _ranks(row, call.order)
    at = [i for i in region(row, stmt.region) if row.start <= i < row.end and row.masked[i]]
    if not at:
        return
    tokens = value(row, stmt.tokens).expand(row.size).tolist()
    chosen: dict[int, int] = {}
    refused = False
    for i in sorted(at, key=lambda i: rank[i]):
        u, again = (chance(row, VERIFY + 2 * stmt.site + n, i) for n in range(2))
        if refused:
            continue
        p, q = (_law(row, row.dists[name], i) for name in (stmt.draft, stmt.target))
        for name in (stmt.draft, stmt.target):
            row.note(row.dists[name].token_gap(i))
        chosen[i] = tokens[i]
        if not u * p[tokens[i]] < q[tokens[i]]:
            refused = True
            more = (q - p).clamp(min=0)
            chosen[i] = sampling.draw(torch.log(more if more.sum() > 0 else q), again)
    put(row, follow(row, chosen))


def _law(row: Row, dist: Dist, position: int) -> Tensor:
    at = dist.positions.index(position)
    return sampling.distribution(dist.processed[at], dist.warped[at], dist.temperature <= 0)
