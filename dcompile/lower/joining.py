"""The union of drafts, `draft t = a union b`: nodes that hold the same text are one.

The nodes of both stand one behind the other, so the shape is known at the build. One of the second whose text the first
has too is dead, and its children hang below the first's.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dcompile.lower.context import Context, Grown, Nodes
from dcompile.lower.growing import stands_above
from dcompile.lower.trees import ancestors
from dcompile.record import constant
from dcompile.strategy import Draft


def join(ctx: Context, stmt: Draft, nodes: Nodes) -> Nodes:
    """The live texts of all drafts as one tree; of the root, `nodes` has it already."""
    first, *others = (ctx.drafts[name] for name in stmt.of)
    whole = replace(nodes, width=first.width, tokens=first.tokens, live=first.live, grown=_placed(ctx, first))
    for other in others:
        whole = _joined(ctx, whole, replace(other, grown=_placed(ctx, other)))
    return whole


def _placed(ctx: Context, nodes: Nodes) -> Grown:
    """Where a draft's nodes stand, each row of the batch for itself."""
    if nodes.grown is not None:
        return nodes.grown
    tree, size = nodes.tree, nodes.width
    parents, ranks, depths = (
        constant([list(x)]).expand(ctx.batch, size) for x in (tree.parents, tree.ranks, tree.depths)
    )
    return Grown(parents, ranks, depths, ancestors(tree).unsqueeze(0).expand(ctx.batch, size, size))


def _joined(ctx: Context, one: Nodes, two: Nodes) -> Nodes:
    """Both, the root once."""
    assert one.grown is not None and two.grown is not None
    same = _same(one, two)
    merged = same.to(torch.int64).sum(2) > 0
    here = torch.arange(two.width).reshape(1, -1) + (one.width - 1)
    number = torch.where(merged, torch.argmax(same.to(torch.float32), 2), here)
    above = torch.gather(number, 1, two.grown.parents)
    parents = torch.cat([one.grown.parents, above[:, 1:]], 1)
    live = torch.cat([one.live, (two.live & torch.logical_not(merged))[:, 1:]], 1)
    tokens, ranks, depths = (
        torch.cat([a.expand(ctx.batch, one.width), b.expand(ctx.batch, two.width)[:, 1:]], 1)
        for a, b in (
            (one.tokens, two.tokens),
            (one.grown.ranks, two.grown.ranks),
            (one.grown.depths, two.grown.depths),
        )
    )
    grown = Grown(parents, ranks, depths, stands_above(parents, one.tree.depth))
    return replace(one, width=tokens.shape[1], tokens=tokens, live=live, grown=grown)


def _same(one: Nodes, two: Nodes) -> Tensor:
    """Which live nodes hold the same text [B, n of two, n of one]: of the nodes above both, one pair of each depth has
    the same token."""
    assert one.grown is not None and two.grown is not None
    at, other = one.grown.depths.unsqueeze(1), two.grown.depths.unsqueeze(2)
    token = (two.tokens.unsqueeze(2) == one.tokens.unsqueeze(1)) & (at == other)
    below = torch.matmul(two.grown.above.to(torch.float32), token.to(torch.float32))
    pairs = torch.matmul(below, one.grown.above.to(torch.float32).transpose(1, 2))
    whole = (pairs == (other + 1).to(torch.float32)) & token
    return whole & two.live.unsqueeze(2) & one.live.unsqueeze(1)
