"""Trees that grow by scores which each depth has for itself, whatever stands above (DDTree).

Paths that go on meet the same chances, so they stand in a grid: the ends of paths in the order of their chances, the
tokens in the order of theirs. A cell has all those above and left of it before it. So of a grid only a staircase of
cells can stay, which is known at the build: about n log n of n * n. The nodes that were seen keep the order that they
have in the whole grid, so ties fall as they do there.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dcompile.lower.context import Context, Nodes
from dcompile.lower.growing import Seen, joined, kept, total
from dcompile.lower.vectors import on_few
from dcompile.ops import FLOOR
from dcompile.record import constant
from dcompile.strategy import Draft
from dcompile.trees import chain


def grow_by_scores(ctx: Context, stmt: Draft, nodes: Nodes) -> Nodes:
    """Tokens, parents and depths for all nodes."""
    growth, room = stmt.tree.growth, nodes.width - 1
    assert growth is not None and stmt.scores is not None
    tokens, worth = _likeliest(ctx, stmt, nodes, growth.width)
    numbers, scores = torch.zeros(ctx.batch, 1, dtype=torch.int64), torch.zeros(ctx.batch, 1)
    going, most, seen = torch.ones(ctx.batch, 1, dtype=torch.bool), torch.zeros(ctx.batch), None
    for depth in range(1, growth.depth + 1):
        hosts, fan = numbers.shape[1], tokens.shape[2]
        cells = [(host, rank) for host in range(hosts) for rank in range(fan) if (host + 1) * (rank + 1) <= room]
        host, rank = (constant([c[n] for c in cells]) for n in (0, 1))
        at = depth - 1
        here = torch.index_select(scores, 1, host) + torch.index_select(worth[:, at], 1, rank)
        here = here if growth.gain is None else torch.where(going, here, FLOOR)
        ranks = rank.reshape(1, -1).expand(ctx.batch, len(cells))
        above = torch.index_select(numbers, 1, host)
        new = Seen(torch.index_select(tokens[:, at], 1, rank), above, ranks, here, (depth,) * len(cells))
        order: Tensor = torch.ops.dcompile.order(here)
        ends = order[:, : min(growth.width, room)]
        numbers = ends + 1 + (0 if seen is None else len(seen.depths))
        scores = torch.gather(here, 1, ends)
        seen = new if seen is None else joined(seen, new)
        if growth.gain is not None:
            now = total(seen, room)
            going, most = going & (now - most > growth.gain).reshape(-1, 1), now
    assert seen is not None
    return kept(nodes, seen)


def _likeliest(ctx: Context, stmt: Draft, nodes: Nodes, width: int) -> tuple[Tensor, Tensor]:
    """Of each depth the likeliest tokens [B, D, w] and the logarithms of their chances."""
    assert stmt.scores is not None
    depth = stmt.tree.depth
    line = replace(nodes, tree=chain(depth), rows=tuple(range(1, depth + 1)), width=depth)
    scores = on_few(ctx, stmt.scores, line)
    tokens: Tensor = torch.ops.dcompile.best(scores, min(width, ctx.model.facts.vocab))
    shifted = scores - torch.amax(scores, -1, keepdim=True)
    logs = shifted - torch.log(torch.exp(shifted).sum(-1, keepdim=True))
    return tokens, torch.gather(logs, 2, tokens)
