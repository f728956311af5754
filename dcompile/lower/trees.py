"""What a draft tree is to tensors: who stands above whom, which nodes are alive, the numbers that decide them."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower.context import Context, Frame, Nodes
from dcompile.lower.frames import look, places, rows, store
from dcompile.lower.threefry import uniform
from dcompile.record import constant
from dcompile.trees import Tree


def alive(ctx: Context, tree: Tree, tokens: Tensor) -> Tensor:
    """Which nodes [B, n] have a token of their own that no earlier child of the same parent has, down from the root;
    appended rows need none."""
    good = (tokens >= 0) & (tokens < ctx.model.facts.vocab)
    if tree.proper < tree.size:
        good = good | (constant(tree.ahead) > 0)
    if any(tree.twins):
        twins = [[a in tree.twins[b] for a in range(tree.size)] for b in range(tree.size)]
        same = (tokens.unsqueeze(2) == tokens.unsqueeze(1)) & constant(twins)
        good = good & (same.to(torch.int64).sum(2) == 0)
    return _unbroken(tree, good)


def unbroken(nodes: Nodes, good: Tensor) -> Tensor:
    """Which nodes [B, n] are good with all between them and the root; the root is."""
    if nodes.grown is None:
        return _unbroken(nodes.tree, good)
    bad = torch.logical_not(good) & (torch.arange(nodes.width) > 0)
    return (bad.unsqueeze(1) & nodes.grown.above).to(torch.int64).sum(2) == 0


def _unbroken(tree: Tree, good: Tensor) -> Tensor:
    bad = torch.logical_not(good) & (torch.arange(tree.size) > 0)
    if tree.straight:
        return bad.to(torch.int64).cumsum(1) == 0
    return (bad.unsqueeze(1) & ancestors(tree)).to(torch.int64).sum(2) == 0


def ancestors(tree: Tree) -> Tensor:
    """Which nodes stand above each one or are it: bool [n, n]."""
    return constant([[a in above for a in range(tree.size)] for above in map(set, tree.ancestors)])


def path_to(nodes: Nodes, node: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes [B, D + 1] from the root down to a node [B], itself again behind; and its depth [B, 1]."""
    if nodes.grown is None:
        depth = torch.index_select(constant(nodes.tree.depths), 0, node).reshape(-1, 1)
        return torch.index_select(paths(nodes.tree), 0, node), depth
    at = node.reshape(-1, 1)
    depth = torch.gather(nodes.grown.depths, 1, at)
    found = []
    for level in range(nodes.tree.depth, -1, -1):
        found.append(at)
        at = torch.where(depth < level, at, torch.gather(nodes.grown.parents, 1, at))
    return torch.cat(found[::-1], 1), depth


def parents(nodes: Nodes, values: Tensor) -> Tensor:
    """Values [B, n] or [B, n, V] of the nodes as they are at each one's parent."""
    if nodes.grown is None:
        return torch.index_select(values, 1, constant(nodes.tree.parents))
    return rows(values, nodes.grown.parents)


def paths(tree: Tree) -> Tensor:
    """The nodes from the root down to each one that holds a token [n, D + 1], itself again behind."""
    above = tree.ancestors[: tree.proper]
    return constant([[*path, *[path[-1]] * (tree.depth + 1 - len(path))] for path in above])


def chances(ctx: Context, stream: int, nodes: Nodes) -> Tensor:
    """A number in (0, 1) for each node [B, n]: the nodes of one depth are draws of one position."""
    if not ctx.rng:  # at temperature 0 nothing depends on it
        return torch.full((ctx.batch, nodes.width), 0.5)
    depths = nodes.tree.depths
    among = constant([[depths[:node].count(depth) for node, depth in enumerate(depths)]])
    slots = places(ctx, nodes)
    inside = torch.clamp(slots, 0, ctx.capacity - 1)
    visits = ctx.values[f"visits{stream}"]
    earlier = torch.gather(visits, 1, inside)
    position, seed = slots - ctx.inputs["pad"].reshape(-1, 1), ctx.inputs["seed"].reshape(-1, 1)
    window = Frame(nodes.start, min(nodes.tree.depth + 1, ctx.capacity))
    at = places(ctx, window) - column(nodes.start)
    widths = constant([depths.count(d) for d in range(nodes.tree.depth + 1)])
    more = torch.where(at >= 0, torch.index_select(widths, 0, torch.clamp(at, min=0).reshape(-1)).reshape(at.shape), 0)
    ctx.put(f"visits{stream}", store(ctx, visits, window, look(ctx, visits, window) + more))
    return uniform(seed, stream, position, earlier + among)


def column(x: Tensor | None) -> Tensor:
    assert x is not None
    return x.reshape(-1, 1)
