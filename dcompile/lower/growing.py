"""Trees that a drafting model shapes at the run: a beam of paths goes on depth by depth, the likeliest nodes stay.

All nodes that are seen stand in one list, depth by depth; the number of each is known at the build, its parent is not.
What goes on, and what stays in the end, is gathered, so every shape is static.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dcompile.lower import sampling
from dcompile.lower.calls import count
from dcompile.lower.context import Context, Dist, Grown, Nodes, Used
from dcompile.lower.drafter import Pairs, root
from dcompile.lower.frames import bias_of, places, rows
from dcompile.ops import FLOOR
from dcompile.record import constant
from dcompile.strategy import Draft
from dcompile.trace import Slots, call_backbone, call_head


@dataclass(frozen=True)
class Seen:
    """Nodes that were seen [B, m], but for the root: token, the number of the parent in this list (from 1; the root is
    0), rank, logarithm of the chance; and depth [m]."""

    tokens: Tensor
    parents: Tensor
    ranks: Tensor
    scores: Tensor
    depths: tuple[int, ...]


@dataclass(frozen=True)
class Ends:
    """Where paths end: the number in `Seen` [B, w], the score [B, w], and of which of the nodes that were fed before
    each is the child [B, w]."""

    numbers: Tensor
    scores: Tensor
    hosts: Tensor


def grow(ctx: Context, stmt: Draft, nodes: Nodes) -> Nodes:
    """Tokens, parents and depths for all nodes."""
    growth, none = stmt.tree.growth, torch.zeros(ctx.batch, 1, dtype=torch.int64)
    assert growth is not None and stmt.model is not None
    used, pairs, width, most = ctx.models[stmt.model], Pairs(), growth.width, torch.zeros(ctx.batch)
    fed = replace(nodes, width=1, tokens=nodes.tokens[:, :1], grown=_placed(none, 0, (none == 0).unsqueeze(2)))
    chances = _chances(ctx, used, fed, root(ctx, used, nodes))
    seen, ends = _level(None, Ends(none, torch.zeros(ctx.batch, 1), none), chances, width, 1)
    going = torch.ones(ctx.batch, dtype=torch.bool)
    for depth in range(2, growth.depth + 1):
        if growth.gain is not None:
            now = total(seen, nodes.width - 1)
            going, most = going & (now - most > growth.gain), now
        fed, hidden, pairs = _feed(ctx, used, fed, seen, ends, going, pairs, depth - 1)
        seen, ends = _level(seen, ends, _chances(ctx, used, fed, hidden), width, depth, going)
    return kept(nodes, seen)


def _placed(like: Tensor, depth: int, above: Tensor) -> Grown:
    """Nodes of one depth that are fed: nobody asks for their parents."""
    return Grown(like, like, torch.full((1, like.shape[1]), depth), above)


def _chances(ctx: Context, used: Used, fed: Nodes, hidden: Tensor) -> Tensor:
    """Logarithms of the chances [B, w, V] of what follows the nodes that were fed last."""
    dist = Dist(0, call_head(used.model.head, hidden), fed, False, True, None, None, dict(ctx.values), fed.live)
    logits = sampling.processed_if(ctx, dist, dist.logits)
    shifted = logits - torch.amax(logits, -1, keepdim=True)
    return shifted - torch.log(torch.exp(shifted).sum(-1, keepdim=True))


def _level(
    seen: Seen | None, ends: Ends, chances: Tensor, width: int, depth: int, going: Tensor | None = None
) -> tuple[Seen, Ends]:
    """The children of the paths' ends are seen; the likeliest of them are the next ends."""
    batch, hosts = ends.numbers.shape
    fan = min(width, chances.shape[-1])
    best: Tensor = torch.ops.dcompile.best(chances, fan)
    scores = (ends.scores.unsqueeze(2) + torch.gather(chances, 2, best)).reshape(batch, -1)
    if going is not None:
        scores = torch.where(going.reshape(-1, 1), scores, FLOOR)
    parents = ends.numbers.unsqueeze(2).expand(batch, hosts, fan).reshape(batch, -1)
    ranks = torch.arange(fan).reshape(1, 1, -1).expand(batch, hosts, fan).reshape(batch, -1)
    new = Seen(best.reshape(batch, -1), parents, ranks, scores, (depth,) * (hosts * fan))
    before = 0 if seen is None else len(seen.depths)
    chosen: Tensor = torch.ops.dcompile.best(scores, min(width, hosts * fan))
    of = constant([n // fan for n in range(hosts * fan)])
    hosted = torch.index_select(of, 0, chosen.reshape(-1)).reshape(chosen.shape)
    after = Ends(chosen + before + 1, torch.gather(scores, 1, chosen), hosted)
    if seen is None:
        return new, after
    return joined(seen, new), after


def joined(seen: Seen, new: Seen) -> Seen:
    """One list behind the other."""
    return Seen(
        torch.cat([seen.tokens, new.tokens], 1), torch.cat([seen.parents, new.parents], 1),
        torch.cat([seen.ranks, new.ranks], 1), torch.cat([seen.scores, new.scores], 1), (*seen.depths, *new.depths),
    )  # fmt: skip


def total(seen: Seen, nodes: int) -> Tensor:
    """The sum of the chances [B] of the nodes that would stay: how many of them are expected to be accepted."""
    best: Tensor = torch.ops.dcompile.best(seen.scores, min(nodes, len(seen.depths)))
    return torch.exp(torch.gather(seen.scores, 1, best)).sum(1)


def _feed(
    ctx: Context, used: Used, fed: Nodes, seen: Seen, ends: Ends, going: Tensor, pairs: Pairs, depth: int
) -> tuple[Nodes, Tensor, Pairs]:
    """Feed the paths' ends; they see what is stored and, of the nodes fed before, those above them."""
    batch, width = ends.numbers.shape
    tokens = torch.gather(seen.tokens, 1, ends.numbers - 1)
    assert fed.grown is not None
    earlier, own = rows(fed.grown.above, ends.hosts), _same(width)
    above = torch.cat([earlier, own.expand(batch, width, width)], 2)
    here = replace(
        fed, width=width, tokens=torch.cat([fed.tokens, tokens], 1), grown=_placed(ends.numbers, depth, above)
    )
    running = going if ctx.active is None else going & ctx.active
    count(ctx, running, torch.full((ctx.batch,), width))
    stored = ctx.values[used.stored].unsqueeze(1).expand(ctx.batch, width, ctx.capacity)
    caches = [(ctx.values[f"k{i}"], ctx.values[f"v{i}"]) for i in used.layers]
    before = [(pairs, bias_of(earlier[:, :, 1:]))] if pairs else []  # the root is stored
    passed = Slots(caches, bias_of(stored), bias_of(own), earlier=before)
    ids = torch.clamp(tokens, 0, used.model.facts.vocab - 1)
    positions = places(ctx, here) - ctx.inputs["pad"].reshape(-1, 1)
    with ctx.recorder.tagged(call="draft", store="none"):
        hidden = call_backbone(used.model.backbone, ids, positions, passed)
    joined = {
        layer: (torch.cat([pairs[layer][0], k], 2), torch.cat([pairs[layer][1], v], 2)) if pairs else (k, v)
        for layer, (k, v) in passed.fresh.items()
    }
    return here, hidden, joined


def kept(nodes: Nodes, seen: Seen) -> Nodes:
    """The likeliest of the nodes that were seen, in the order in which they were; a parent is likelier than a child."""
    batch, room = nodes.tokens.shape[0], nodes.width - 1
    best: Tensor = torch.ops.dcompile.best(seen.scores, min(room, len(seen.depths)))
    order: Tensor = torch.ops.dcompile.order(-best.to(torch.float32))
    kept = torch.gather(best, 1, order)
    short = room - kept.shape[1]
    live = torch.gather(seen.scores, 1, kept) > FLOOR / 2
    above = torch.gather(seen.parents, 1, kept)
    parents = (kept.unsqueeze(1) + 1 <= above.unsqueeze(2)).to(torch.int64).sum(2)
    depths = torch.index_select(constant(seen.depths), 0, kept.reshape(-1)).reshape(kept.shape)
    found = (torch.gather(seen.tokens, 1, kept), parents, torch.gather(seen.ranks, 1, kept), depths)
    first = torch.zeros(batch, 1, dtype=torch.int64)
    tokens, parents, ranks, depths = (
        _headed(first if n else nodes.tokens[:, :1], x, short) for n, x in enumerate(found)
    )
    live = _headed(torch.ones(batch, 1, dtype=torch.bool), live, short)
    grown = Grown(parents, ranks, depths, stands_above(parents, nodes.tree.depth))
    return replace(nodes, tokens=tokens, live=live, grown=grown)


def _headed(first: Tensor, behind: Tensor, short: int) -> Tensor:
    """What the root has, what the other nodes have, and zeros where a small vocabulary has shown too few."""
    parts = [first, behind, *([torch.zeros(first.shape[0], short, dtype=first.dtype)] if short else [])]
    return torch.cat(parts, 1)


def stands_above(parents: Tensor, depth: int) -> Tensor:
    """Which nodes stand above each one or are it [B, n, n]: a step up, doubled as often as the depth asks for."""
    size = parents.shape[1]
    up = (torch.arange(size).reshape(1, 1, -1) == parents.unsqueeze(2)) | _same(size)
    steps = 1
    reach = up.to(torch.float32)
    while steps < depth:
        reach = (torch.matmul(reach, reach) > 0).to(torch.float32)
        steps *= 2
    return reach > 0


def _same(size: int) -> Tensor:
    """Each node is itself [1, n, n]."""
    return torch.arange(size).reshape(1, -1, 1) == torch.arange(size).reshape(1, 1, -1)
