"""A model that drafts: call by call the children of one depth's nodes, of a shape that is fixed or grows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dcompile.ops import FLOOR
from dcompile.reference import paths, sampling
from dcompile.reference.forward import forward, logits_of
from dcompile.reference.row import Dist, Drafted, Row
from dcompile.strategy import DRAFT, Draft
from dcompile.trees import Tree, chain


def by_model(row: Row, stmt: Draft, drafted: Drafted) -> None:
    """Depth by depth: each forward predicts the children of one depth's nodes."""
    drafted.q = torch.zeros(stmt.tree.size, row.model.facts.vocab)
    for depth in range(stmt.tree.depth):
        nodes = [i for i in paths.level(drafted, depth) if drafted.live[i] and stmt.tree.children[i]]
        if not nodes:
            break
        dist = _ahead(row, stmt, drafted, nodes)
        for node, processed, warped in zip(nodes, dist.processed, dist.warped, strict=True):
            _children(row, stmt, drafted, node, (processed, warped))
    paths.visited(row, DRAFT + stmt.site, drafted)


def by_scores(row: Row, stmt: Draft, drafted: Drafted, depth: int) -> None:
    """The nodes of one depth, drawn from what the scores say there; those of siblings are equal."""
    assert stmt.scores is not None
    tree = drafted.tree.bare
    if drafted.q is None:
        drafted.q = torch.zeros(tree.size, row.model.facts.vocab)
    scores = paths.over(row, drafted, stmt.scores)
    for node in paths.level(drafted, depth - 1):
        if kids := tree.children[node]:
            dist = paths.said(row, drafted, [node], scores[kids[0]][None], site=0)
            _children(row, stmt, drafted, node, (dist.processed[0], dist.warped[0]))


def grown(row: Row, stmt: Draft, root: int) -> Drafted:
    """Depth by depth, the likeliest paths go on; of all nodes that were seen the likeliest stay."""
    growth = stmt.tree.growth
    assert growth is not None
    seen = Drafted(Tree((0,), (0,)), root, [row.tokens[root]], [True])
    scores, ends, most = torch.zeros(1), [0], 0.0
    for depth in range(1, growth.depth + 1):
        first, worth = seen.tree.size, [scores]
        found: list[tuple[int, int, int]] = []
        for node, logits in zip(ends, _follows(row, stmt, seen, ends, depth), strict=True):
            chances = torch.log_softmax(logits, -1)
            best = torch.sort(logits, descending=True, stable=True).indices[: growth.width]
            worth.append(scores[node] + chances[best])
            found += [(node, rank, token) for rank, token in enumerate(best.tolist())]
        scores = torch.cat(worth)
        parents, ranks, tokens = zip(*found, strict=True)
        tree = Tree((*seen.tree.parents, *parents), (*seen.tree.ranks, *ranks))
        seen = Drafted(tree, root, [*seen.tokens, *tokens], [True] * tree.size)
        ends = [first + i for i in _likeliest(scores[first:], growth.width)]
        total = float(scores[1:][_likeliest(scores[1:], stmt.tree.size - 1)].exp().sum())
        if growth.gain is not None and total - most <= growth.gain:
            break
        most = total
    kept = [0, *sorted(1 + i for i in _likeliest(scores[1:], stmt.tree.size - 1))]
    parents = tuple(kept.index(seen.tree.parents[i]) for i in kept)
    tree = Tree(parents, tuple(seen.tree.ranks[i] for i in kept))
    return Drafted(tree, root, [seen.tokens[i] for i in kept], [float(scores[i]) > FLOOR / 2 for i in kept])


def _follows(row: Row, stmt: Draft, seen: Drafted, ends: list[int], depth: int) -> Sequence[Tensor]:
    """What follows each end of a path, at a depth: as the model says, or the scores of that depth."""
    if stmt.scores is None:
        return list(_ahead(row, stmt, seen, ends).processed)
    line = chain(depth)
    along = Drafted(line, seen.root, [row.tokens[seen.root], *[-1] * depth], [True] * line.size)
    return [paths.over(row, along, stmt.scores)[depth]] * len(ends)


def _likeliest(scores: Tensor, count: int) -> list[int]:
    found: list[int] = torch.sort(scores, descending=True, stable=True).indices[:count].tolist()
    return found


def _ahead(row: Row, stmt: Draft, drafted: Drafted, nodes: list[int]) -> Dist:
    """What the drafter says to follow these nodes, all of one depth: one call, that of the root with the text that the
    drafter has not seen."""
    assert stmt.model is not None
    model = row.models[stmt.model]
    row.calls += 1
    row.gaps.append(math.inf)
    if nodes == [0]:
        fed = paths.behind(row, stmt.model, drafted)
        row.fed += len(fed)
        logits = forward(model, row.use(stmt.model), row.memories[stmt.model], row.tokens, fed, fed)[-1:]
    else:
        row.fed += len(nodes)
        logits = logits_of(model, torch.stack([paths.chain(row, stmt.model, drafted, node)[-1] for node in nodes]))
    return paths.said(row, drafted, nodes, logits, site=0)


def _children(row: Row, stmt: Draft, drafted: Drafted, node: int, logits: tuple[Tensor, Tensor]) -> None:
    """Draw the children of a node from the drafter's distribution there."""
    processed, warped = logits
    cold = row.controls.temperature <= 0
    ranked = torch.sort(processed, descending=True, stable=True).indices.tolist()
    assert drafted.q is not None
    drafted.q[node] = sampling.distribution(processed, warped, cold)
    left = warped.clone()
    kids = drafted.tree.bare.children[node]
    for child in kids:
        rank = drafted.tree.ranks[child]
        by_rank = (
            stmt.drawn == "top"
            or (stmt.drawn == "greedy" and rank < len(kids) - 1)
            or (cold and stmt.drawn != "sample")
        )
        if by_rank or cold:
            token = ranked[rank if by_rank else 0]
        else:
            token = sampling.draw(
                warped if stmt.drawn == "sample" else left, paths.number(row, DRAFT + stmt.site, drafted, child)
            )
        left[token] = -math.inf
        drafted.tokens[child] = token
        paths.prune(row, drafted, child)
