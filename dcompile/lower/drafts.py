"""Draft trees: tokens for the nodes, one call that feeds them all, the accepted path into the canvas and the cache.

The nodes' keys and values are never stored where the tree stands: the call returns them, and those of the accepted path
are written behind the prefix. So a tree costs no slot, and what was rejected leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dcompile.lower import accepts, ending, scores
from dcompile.lower.appended import adapted, embedded
from dcompile.lower.calls import catch_up, count, keep
from dcompile.lower.context import Context, Dist, Frame, Nodes, Used
from dcompile.lower.drafter import propose
from dcompile.lower.entering import entered, present
from dcompile.lower.frames import bias_of, look, places, store
from dcompile.lower.growing import grow
from dcompile.lower.heads import from_scores
from dcompile.lower.joining import join
from dcompile.lower.marginals import grow_by_scores
from dcompile.lower.regions import last_slot
from dcompile.lower.trees import alive, ancestors, chances, column, path_to, unbroken
from dcompile.lower.vectors import on_few
from dcompile.record import constant
from dcompile.strategy import ACCEPT, Accept, Call, Draft, Parent, lags, walk
from dcompile.strategy import Nodes as Feed
from dcompile.trace import Slots, call_backbone, call_head


def draft(ctx: Context, stmt: Draft) -> None:
    """Lower `draft name = tree from last ...`."""
    last = last_slot(ctx) + 0  # a tensor of its own: frames are told apart by their start
    root = look(ctx, ctx.values["tokens"], Frame(last, 1))
    size = stmt.tree.size
    nodes = Nodes(
        last, size, tree=stmt.tree, tokens=torch.cat([root, torch.full((ctx.batch, size - 1), -1)], 1),
        live=torch.arange(size).reshape(1, -1).expand(ctx.batch, size) == 0, behind=stmt.rows,
    )  # fmt: skip
    ctx.drafts[stmt.name] = _maker(stmt)(ctx, stmt, nodes)


def _maker(stmt: Draft) -> Callable[[Context, Draft, Nodes], Nodes]:
    if stmt.of:
        return join
    if stmt.scores is not None:
        return from_scores if stmt.tree.growth is None else grow_by_scores
    if stmt.model is None:
        return _filled
    return propose if stmt.tree.growth is None else grow


def _filled(ctx: Context, stmt: Draft, nodes: Nodes) -> Nodes:
    """Tokens by the draft's expression: one depth after the other where a node's may depend on its parent's."""
    assert stmt.tokens is not None
    tree = stmt.tree
    chained = any(isinstance(n, Parent) for n in walk((stmt.tokens, stmt.own)))
    levels = [tuple(i for i in range(tree.proper) if tree.depths[i] == d) for d in range(1, tree.depth + 1)]
    tokens = nodes.tokens[:, :1]
    own = {name: ctx.values[name].unsqueeze(1) for name, _ in stmt.own}
    for level in levels if chained else [tuple(range(1, tree.proper))]:
        here = replace(nodes, rows=level, width=len(level), tokens=tokens, own=own, given=stmt.own)
        for name, expr in stmt.own:
            own = {**own, name: torch.cat([own[name], on_few(ctx, expr, replace(here, own=own))], 1)}
        found = ctx.value(stmt.tokens, replace(here, own=own)).reshape(ctx.batch, -1).expand(ctx.batch, len(level))
        tokens = torch.cat([tokens, found], 1)
    tokens = torch.cat([tokens, nodes.tokens[:, tree.proper :]], 1) if tree.proper < tree.size else tokens
    nodes = replace(nodes, tokens=tokens, live=alive(ctx, tree, tokens), own=own)
    if stmt.law is None:
        return nodes
    law = ctx.value(stmt.law, nodes)  # a chain: what a node was drawn from is what its parent's children were
    return replace(nodes, q=torch.cat([law[:, 1:], torch.zeros_like(law[:, :1])], 1))


# ---------------------------------------------------------------- the target's call


def call(ctx: Context, stmt: Call) -> None:
    """Lower `p = lm(t)`: the nodes see what is stored, their ancestors, and themselves."""
    assert isinstance(stmt.feed, Feed) and stmt.name is not None
    used, nodes = ctx.models[stmt.model], ctx.drafts[stmt.feed.draft]
    number = nodes.live.to(torch.int64).sum(1)
    count(ctx, number > 0 if ctx.active is None else ctx.active, number)
    if lags(ctx.strategy, stmt.model):
        catch_up(ctx, used)
    with ctx.recorder.tagged(call="tree", store="path"):
        sees = ancestors(nodes.tree).unsqueeze(0) if nodes.grown is None else nodes.grown.above
        hidden, fresh = forward(ctx, used, nodes, sees)
        nodes = replace(nodes, fresh=fresh, tags=dict(ctx.recorder.tags))
    ctx.drafts[stmt.feed.draft] = nodes
    logits = call_head(used.model.head, hidden)
    heat = None if stmt.temperature is None else ctx.value(stmt.temperature, None)
    now = dict(ctx.values)
    ctx.dists[stmt.name] = Dist(stmt.site, logits, nodes, False, True, heat, None, now, nodes.live, hidden=hidden)


def forward(ctx: Context, used: Used, nodes: Nodes, sees: Tensor) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
    """Hidden states [B, n, E] of the nodes, and their keys and values; `sees` [1 or B, n, n]: which nodes each
    attends to."""
    slots = places(ctx, Frame(nodes.start, nodes.width) if _in_place(ctx, nodes) else nodes)
    stored = ctx.values[used.stored].unsqueeze(1).expand(ctx.batch, nodes.width, ctx.capacity)
    caches = [(ctx.values[f"k{i}"], ctx.values[f"v{i}"]) for i in used.layers]
    passed = Slots(caches, bias_of(stored), bias_of(sees))
    ids = torch.clamp(nodes.tokens, 0, used.model.facts.vocab - 1)
    positions, backbone = slots - ctx.inputs["pad"].reshape(-1, 1), used.model.backbone
    if nodes.behind is None:
        return call_backbone(backbone, ids, positions, passed), passed.fresh
    rows = ctx.appended[nodes.behind]
    passed.present = present(nodes.tree, rows, used.model.facts.layers)
    with adapted(backbone, nodes.tree, rows), entered(backbone, nodes.tree, rows):
        fed = embedded(backbone, nodes.tree, ids, rows)
        return call_backbone(backbone, ids, positions, passed, embeds=fed), passed.fresh


def _in_place(ctx: Context, nodes: Nodes) -> bool:
    """Whether the nodes stand in slots of their own, one behind the other, as they would if all of them were kept."""
    return nodes.tree.straight and nodes.grown is None and nodes.behind is None and ctx.overhang >= nodes.tree.depth


# ---------------------------------------------------------------- what is kept


def accept(ctx: Context, stmt: Accept) -> None:
    """Append the accepted path and one token more, cut behind an eos and at the canvas' end; store what it fed."""
    nodes, dist = ctx.drafts[stmt.draft], ctx.dists[stmt.dist]
    node, bonus = _by_rule(ctx, stmt, nodes, dist) if stmt.rule else _deepest(ctx, stmt, nodes, dist)
    tree = nodes.tree
    path, depth = path_to(nodes, node)
    at = torch.arange(tree.depth + 1).reshape(1, -1)
    behind = torch.cat([path[:, 1:], path[:, -1:]], 1)
    new = torch.where(at == depth, bonus.reshape(-1, 1), torch.gather(nodes.tokens, 1, behind))
    eos = ending.is_eos(ctx, new) & (at <= depth)
    before = eos.to(torch.int64).cumsum(1) - eos.to(torch.int64) == 0
    room = ctx.inputs["length"] - ctx.values["filled"]
    kept = (at <= depth) & before & (at < room.reshape(-1, 1))
    if ctx.active is not None:
        kept = kept & ctx.active.reshape(-1, 1)
    number = kept.to(torch.int64).sum(1)
    ctx.put(f"accepted_{stmt.draft}", torch.minimum(depth.reshape(-1), number))
    taken = torch.where((at > 0) & (at <= number.reshape(-1, 1)) & (at <= depth), path, -1)
    mine = taken.unsqueeze(1) == torch.arange(nodes.width).reshape(1, -1, 1)
    last = torch.gather(path, 1, torch.clamp(number - 1, 0, tree.depth).reshape(-1, 1))
    ends = torch.gather(path, 1, torch.minimum(depth, number.reshape(-1, 1))).reshape(-1)
    kept_ = (mine.to(torch.int64).sum(2) > 0) | _behind(nodes, last, number)
    ctx.drafts[stmt.draft] = replace(nodes, kept=kept_, last=ends)
    _append(ctx, nodes, new, number)
    with ctx.recorder.tagged(**nodes.tags):
        _store(ctx, _used(ctx, stmt), nodes, path, number)
    ended = (eos & kept).to(torch.int64).sum(1) > 0
    ctx.values["filled"] = ctx.values["filled"] + number
    ctx.values["ended"] = ctx.values["ended"] | ended
    ctx.values["done"] = ctx.values["done"] | (ctx.values["filled"] >= ctx.inputs["length"])


def _behind(nodes: Nodes, last: Tensor, number: Tensor) -> Tensor:
    """Which nodes [B, n] are rows behind the one before the last token appended: `last` [B, 1], if any was."""
    tree = nodes.tree
    if nodes.behind is None:
        return torch.zeros_like(nodes.live)
    rows = (constant(tree.hosts) == last) & (constant(tree.ahead) > 0)
    return rows & nodes.live & (number > 0).reshape(-1, 1)


def _used(ctx: Context, stmt: Accept) -> Used:
    calls = (n for n in walk(ctx.strategy.body) if isinstance(n, Call) and n.name == stmt.dist)
    return ctx.models[next(calls).model]


def _deepest(ctx: Context, stmt: Accept, nodes: Nodes, dist: Dist) -> tuple[Tensor, Tensor]:
    """The deepest node whose whole path holds, of equal depth the lowest, and the token proposed there."""
    assert stmt.where is not None
    holds = ctx.value(stmt.where, nodes).reshape(ctx.batch, -1).expand(ctx.batch, nodes.width)
    good = unbroken(nodes, holds & nodes.live)
    size = nodes.width
    if nodes.behind is not None:
        good = good & (constant(nodes.tree.ahead) == 0)
    if nodes.grown is not None:
        rank = nodes.grown.depths * size + size - 1 - torch.arange(size)
    else:
        rank = constant([depth * size + size - 1 - node for node, depth in enumerate(nodes.tree.depths)])
    node = torch.argmax(torch.where(good, rank, -1).to(torch.float32), 1)
    token = scores.token(ctx, dist, nodes)
    return node, torch.gather(token, 1, node.reshape(-1, 1)).reshape(-1)


def _by_rule(ctx: Context, stmt: Accept, nodes: Nodes, dist: Dist) -> tuple[Tensor, Tensor]:
    assert stmt.rule is not None and nodes.q is not None
    n = nodes.tree.proper  # appended rows are no part of what is judged
    bare = replace(nodes, tree=nodes.tree.bare, width=n, tokens=nodes.tokens[:, :n], live=nodes.live[:, :n])
    p = scores.law(ctx, dist, nodes)[:, :n]
    u = chances(ctx, ACCEPT + stmt.site, bare)
    distinct = any(
        isinstance(n, Draft) and n.name == stmt.draft and n.drawn == "distinct" for n in walk(ctx.strategy.body)
    )
    allowed = None if stmt.where is None else ctx.value(stmt.where, nodes)[:, :n]
    return accepts.accept(
        stmt.rule, bare.tree, bare.tokens, bare.live, p, nodes.q, u, distinct=distinct, allowed=allowed
    )


def _append(ctx: Context, nodes: Nodes, new: Tensor, number: Tensor) -> None:
    """Write the first `number` [B] of the tokens [B, D + 1] behind the root."""
    first = column(nodes.start) + 1
    frame = Frame(first.reshape(-1), min(new.shape[1], ctx.capacity))
    at = places(ctx, frame) - first
    inside = (at >= 0) & (at < number.reshape(-1, 1))
    chosen = torch.gather(new, 1, torch.clamp(at, 0, new.shape[1] - 1))
    for name, value in (("tokens", chosen), ("order", ctx.values["calls"].reshape(-1, 1))):
        kept = torch.where(inside, value, look(ctx, ctx.values[name], frame))
        ctx.values[name] = store(ctx, ctx.values[name], frame, kept)


def _store(ctx: Context, used: Used, nodes: Nodes, path: Tensor, number: Tensor) -> None:
    """Store the keys and values of the root and of the path below it, but for the last token, which no call was fed."""
    frame = Frame(nodes.start, min(path.shape[1], ctx.capacity))
    at = places(ctx, frame) - column(nodes.start)
    kept = (at >= 0) & (at < number.reshape(-1, 1))
    if _in_place(ctx, nodes):
        with ctx.recorder.tagged(store="chain"):
            keep(ctx, used, frame, kept, Slots(None, None, kept, nodes.fresh))
        return
    row = torch.gather(path, 1, torch.clamp(at, 0, path.shape[1] - 1))
    fresh = {layer: (_rows(k, row), _rows(v, row)) for layer, (k, v) in nodes.fresh.items()}
    keep(ctx, used, frame, kept, Slots(None, None, kept, fresh))


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Of keys or values [B, G, n, D] the rows `index` [B, W]: [B, G, W, D]."""
    if x.shape[0] == 1:
        return torch.index_select(x, 2, index.reshape(-1))
    batch, groups, _, dim = x.shape
    return torch.gather(x, 2, index.reshape(batch, 1, -1, 1).expand(batch, groups, index.shape[1], dim))
