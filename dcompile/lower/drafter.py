"""A model that drafts: one forward for each depth of the tree, from a cache that only ever holds what was committed.

What was drafted is never stored: the forwards of one draft hand their keys and values on to each other. So a drafter is
never ahead of its target, and nothing has to be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dcompile.lower import sampling, scores
from dcompile.lower.calls import catch_up, count, forward
from dcompile.lower.context import Context, Dist, Frame, Nodes, Used
from dcompile.lower.frames import bias_of, places, rows
from dcompile.lower.trees import alive, ancestors, chances
from dcompile.record import constant
from dcompile.strategy import DRAFT, Accept, Draft, lags, walk
from dcompile.trace import Slots, call_backbone, call_head

Pairs = dict[int, tuple[Tensor, Tensor]]


def propose(ctx: Context, stmt: Draft, nodes: Nodes) -> Nodes:
    """Tokens for all nodes, and what they were drawn from where an accept asks for it."""
    assert stmt.model is not None
    used, tree = ctx.models[stmt.model], stmt.tree
    u = chances(ctx, DRAFT + stmt.site, nodes)
    laws: dict[int, Tensor] = {}
    earlier: tuple[tuple[int, ...], Pairs] = (), {}
    for depth in range(tree.depth):
        level = tuple(i for i in range(tree.size) if tree.depths[i] == depth and tree.children[i])
        here = replace(nodes, rows=level, width=len(level))
        if depth == 0:
            hidden = root(ctx, used, nodes)
        else:
            hidden, earlier = _level(ctx, used, here, earlier)
        nodes, law = drawn(ctx, stmt, nodes, level, call_head(used.model.head, hidden), u)
        laws |= law
    return judged_by(ctx, stmt, nodes, laws)


def drawn(
    ctx: Context, stmt: Draft, nodes: Nodes, level: tuple[int, ...], logits: Tensor, u: Tensor
) -> tuple[Nodes, dict[int, Tensor]]:
    """The children of the nodes `level` of one depth, drawn from logits [B, m, V], and each one's law [B, 1, V]."""
    here = replace(nodes, rows=level, width=len(level))
    dist = Dist(0, logits, here, False, True, None, None, dict(ctx.values), nodes.live)
    law = scores.law(ctx, dist, here)
    nodes = _children(ctx, stmt, nodes, level, (sampling.processed_if(ctx, dist, dist.logits), law), u)
    return nodes, {node: law[:, n : n + 1] for n, node in enumerate(level)}


def judged_by(ctx: Context, stmt: Draft, nodes: Nodes, laws: Mapping[int, Tensor]) -> Nodes:
    """What each node's children were drawn from, where an accept asks for it."""
    if not any(isinstance(n, Accept) and n.draft == stmt.name and n.rule for n in walk(ctx.strategy.body)):
        return nodes
    none = torch.zeros(ctx.batch, 1, ctx.model.facts.vocab)
    return replace(nodes, q=torch.cat([laws.get(node, none) for node in range(stmt.tree.size)], 1))


def root(ctx: Context, used: Used, nodes: Nodes) -> Tensor:
    """Feed what was committed since the last draft; hidden states [B, 1, E] of the root."""
    assert nodes.start is not None
    if lags(ctx.strategy, used.use.name):
        catch_up(ctx, used)
    accepts = (n for n in walk(ctx.strategy.body) if isinstance(n, Accept))
    trees = {n.name: n.tree for n in walk(ctx.strategy.body) if isinstance(n, Draft)}
    width = min(max(trees[n.draft].depth for n in accepts) + 1, ctx.capacity)
    frame = Frame(nodes.start - (width - 1), width)
    slots = places(ctx, frame)
    stored = torch.gather(ctx.values[used.stored], 1, slots)
    fed = (slots <= nodes.start.reshape(-1, 1)) & (slots >= ctx.inputs["pad"].reshape(-1, 1)) & ~stored
    number = fed.to(torch.int64).sum(1)
    running = number > 0 if ctx.active is None else ctx.active
    count(ctx, running, number)
    with ctx.recorder.tagged(call="draft", store="rewrite"):
        hidden = forward(ctx, used, frame, fed, fed & running.reshape(-1, 1))
    return rows(hidden, nodes.start.reshape(-1, 1) - slots[:, :1])


def _level(
    ctx: Context, used: Used, here: Nodes, earlier: tuple[tuple[int, ...], Pairs]
) -> tuple[Tensor, tuple[tuple[int, ...], Pairs]]:
    """Hidden states [B, m, E] of the nodes of one depth, which see those of `earlier` depths that stand above them."""
    before, pairs = earlier
    level = list(here.rows)
    live = torch.index_select(here.live, 1, constant(level))
    running = live.to(torch.int64).sum(1) > 0
    running = running if ctx.active is None else running & ctx.active
    count(ctx, running, live.to(torch.int64).sum(1))
    slots = places(ctx, here)
    stored = ctx.values[used.stored].unsqueeze(1).expand(ctx.batch, len(level), ctx.capacity)
    caches = [(ctx.values[f"k{i}"], ctx.values[f"v{i}"]) for i in used.layers]
    sees = torch.index_select(ancestors(here.tree), 0, constant(level))
    own = bias_of(torch.index_select(sees, 1, constant(level)).unsqueeze(0))
    above = [(pairs, bias_of(torch.index_select(sees, 1, constant(list(before))).unsqueeze(0)))] if before else []
    passed = Slots(caches, bias_of(stored), own, earlier=above)
    ids = torch.clamp(torch.index_select(here.tokens, 1, constant(level)), 0, used.model.facts.vocab - 1)
    with ctx.recorder.tagged(call="draft", store="none"):
        hidden = call_backbone(used.model.backbone, ids, slots - ctx.inputs["pad"].reshape(-1, 1), passed)
    joined = {
        layer: (torch.cat([pairs[layer][0], k], 2), torch.cat([pairs[layer][1], v], 2)) if pairs else (k, v)
        for layer, (k, v) in passed.fresh.items()
    }
    return hidden, ((*before, *here.rows), joined)


def _children(
    ctx: Context, stmt: Draft, nodes: Nodes, level: tuple[int, ...], found: tuple[Tensor, Tensor], u: Tensor
) -> Nodes:
    """The children of a depth's nodes, rank by rank; `found`: the processed logits and the law [B, m, V] there."""
    logits, law = found
    tree, most = stmt.tree, max(len(stmt.tree.children[i]) for i in level)
    ranked: Tensor = torch.ops.dcompile.best(logits, most)
    warm = (scores.temperature(ctx, None) > 0).reshape(-1, 1)
    tokens, left = nodes.tokens, law
    for rank in range(most):
        kids = [(tree.children[i][rank], n) for n, i in enumerate(level) if rank < len(tree.children[i])]
        at, parents = constant([k for k, _ in kids]), constant([n for _, n in kids])
        liked = torch.index_select(ranked[:, :, rank], 1, parents)
        source = law if stmt.drawn == "sample" else left / torch.clamp(left.sum(-1, keepdim=True), min=1e-38)
        drawn = sampling.draw(torch.index_select(source, 1, parents), torch.index_select(u, 1, at))
        if stmt.drawn == "greedy":
            last = constant([rank == len(tree.children[level[n]]) - 1 for _, n in kids])
            drawn = torch.where(last & warm, drawn, liked)
        elif stmt.drawn == "top":
            drawn = liked
        elif stmt.drawn == "distinct":
            drawn = torch.where(warm, drawn, liked)
        spread = at.reshape(1, -1).expand(ctx.batch, len(kids))
        tokens = torch.scatter(tokens, 1, spread, drawn)
        whose = parents.reshape(1, -1).expand(ctx.batch, len(kids))
        taken = torch.scatter(torch.full((ctx.batch, len(level)), -1), 1, whose, drawn).unsqueeze(-1)
        left = torch.where(torch.arange(law.shape[-1]) == taken, 0.0, left)
    return replace(nodes, tokens=tokens, live=alive(ctx, tree, tokens))
