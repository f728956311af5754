"""Tokens drawn from scores: trained heads say how likely each is below a node, and its children are drawn from that.

Children of one node share their scores, so a head runs once for each parent, and not at all where all share a vector.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dcompile.lower.context import Context, Nodes
from dcompile.lower.drafter import drawn, judged_by
from dcompile.lower.trees import alive, chances
from dcompile.lower.vectors import on_few
from dcompile.strategy import DRAFT, Draft


def from_scores(ctx: Context, stmt: Draft, nodes: Nodes) -> Nodes:
    """Tokens for all nodes, depth by depth, and what they were drawn from where an accept asks for it."""
    whole, tree = nodes, stmt.tree.bare
    bare = replace(stmt, tree=tree)
    nodes = replace(
        nodes, tree=tree, width=tree.size, tokens=nodes.tokens[:, : tree.size], live=nodes.live[:, : tree.size]
    )
    u = chances(ctx, DRAFT + stmt.site, nodes)
    laws: dict[int, Tensor] = {}
    own = {name: ctx.values[name].unsqueeze(1) for name, _ in stmt.own}
    for depth in range(tree.depth):
        level = tuple(i for i in range(tree.size) if tree.depths[i] == depth and tree.children[i])
        below = tuple(i for i in range(tree.size) if tree.depths[i] == depth + 1)
        here = replace(nodes, rows=below, width=len(below), own=own, given=stmt.own)
        for name, expr in stmt.own:
            own = {**own, name: torch.cat([own[name], on_few(ctx, expr, replace(here, own=own))], 1)}
        nodes, law = drawn(ctx, bare, nodes, level, said(ctx, stmt, replace(here, own=own), level), u)
        laws |= law
    nodes = judged_by(ctx, bare, replace(nodes, own=own), laws)
    rows = whole.tokens[:, tree.size :]
    if rows.shape[1] == 0:
        return nodes
    tokens = torch.cat([nodes.tokens, rows], 1)
    return replace(nodes, tree=stmt.tree, width=whole.width, tokens=tokens, live=alive(ctx, stmt.tree, tokens))


def said(ctx: Context, stmt: Draft, here: Nodes, level: tuple[int, ...]) -> Tensor:
    """What the scores say of the children of the nodes `level`: [B, m, V]."""
    assert stmt.scores is not None
    first = tuple(here.tree.children[node][0] for node in level)
    return on_few(ctx, stmt.scores, replace(here, rows=first, width=len(first)))
