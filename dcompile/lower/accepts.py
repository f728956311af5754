"""Accept rules in a graph: which drafted tokens of each row stay, and the token behind them.

The meanings are those of the oracle (reference/accepts.py), the forms are others. A chain is decided at once, all its
nodes side by side, and only the row where it ends is looked at over the vocabulary. A tree is walked level by level:
the row's node is gathered, so the work is depth x children, not nodes. Traversal has to see every node.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower.frames import rows
from dcompile.lower.sampling import draw
from dcompile.record import constant
from dcompile.strategy.drafts import Rule
from dcompile.trees import Tree

ROUNDS, PARTS = 8, 8
"""The search for K-SEQ's gamma: its bracket shrinks by PARTS in each round."""


def accept(
    rule: Rule,
    tree: Tree,
    tokens: Tensor,
    live: Tensor,
    p: Tensor,
    q: Tensor,
    u: Tensor,
    *,
    distinct: bool = False,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The node [B] where each row's path ends, and the token [B] behind it.

    tokens (int), live (bool) and u in (0, 1) are [B, n]; p and q [B, n, V]: the target's distribution of what follows
    a node, and the one its children were drawn from. u[:, i] decides node i, u[:, 0] draws the last token. `distinct`:
    whether siblings were drawn without replacement (traversal asks). `allowed` [B, n]: nodes that stay
    although refused.
    """
    straight = tree.straight
    assert straight or rule not in ("rejection", "block"), f"{rule} is for chains"
    named = torch.clamp(tokens, min=0)  # where there is none, nothing is live
    may = None if allowed is None else allowed & live
    if rule == "block" or (rule == "traversal" and straight):
        node, row = _allow(tree, may, p, *_block(named, live, p, q, u))
    elif rule == "traversal":
        node, row = _allow(tree, may, p, *_traversal(tree, tokens, live, p, q, u, distinct))
    elif straight:
        node, row = _chain(named, live, p, q, u, may)
    else:
        node, row = _walk(rule, tree, tokens, live, p, q, u, may)
    return node, draw(row.unsqueeze(1), u[:, :1]).squeeze(1)


# ---------------------------------------------------------------- parts


def normal(row: Tensor, otherwise: Tensor) -> Tensor:
    """Rows [..., V] of sum 1; `otherwise` where rounding has left nothing."""
    total = row.sum(-1, keepdim=True)
    return torch.where(total > 0, row / torch.where(total > 0, total, 1.0), otherwise)


def remainder(row: Tensor, source: Tensor) -> Tensor:
    """What is left of rows [..., V] when a token drawn from `source` has been refused."""
    return normal(torch.clamp(row - source, min=0), row)


def without(source: Tensor, token: Tensor) -> Tensor:
    """Rows [..., V] of which a token [..., 1] is out; zeros where there is no other."""
    left = torch.where(_is(source, token), 0.0, source)
    return normal(left, left)


def given(source: Tensor, token: Tensor) -> Tensor:
    """What a token [..., 1] was drawn from: rows [..., V], or the token alone where they do not have it."""
    has = torch.gather(source, -1, token) > 0
    return torch.where(has, source, _is(source, token).to(source.dtype))


def share(over: Tensor, reach: Tensor) -> Tensor:
    """over / (over + 1 - reach), and 1 where reach is."""
    return torch.where(reach < 1, over / torch.where(reach < 1, over + 1 - reach, 1.0), 1.0)


def _is(row: Tensor, token: Tensor) -> Tensor:
    return torch.arange(row.shape[-1]) == token


def _at(row: Tensor, token: Tensor) -> Tensor:
    """The entry [B] of rows [B, V] at a token [B]."""
    return torch.gather(row, 1, token.unsqueeze(1)).squeeze(1)


def _row(x: Tensor, node: Tensor) -> Tensor:
    """Rows [B, V] of [B, n, V] at a node [B]."""
    return rows(x, node.unsqueeze(1)).squeeze(1)


# ---------------------------------------------------------------- chains


def _chain(
    tokens: Tensor, live: Tensor, p: Tensor, q: Tensor, u: Tensor, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Rejection: every rule that goes from the root downwards comes to this where nodes have one child."""
    token, there = tokens[:, 1:], live[:, 1:]
    target, drafter = _along(p, token), _along(q, token)
    stays = u[:, 1:] * torch.where(drafter > 0, drafter, 1.0) < target
    if allowed is not None:
        stays = stays | allowed[:, 1:]
    fails = (~(stays & there)).to(torch.int64).cumsum(1)
    node = (fails == 0).to(torch.int64).sum(1)
    token, refused = _below(tokens, node), _below(live.to(torch.int64), node) > 0
    row = _row(p, node)
    left = remainder(row, given(_row(q, node), token.unsqueeze(1)))
    return node, torch.where(refused.unsqueeze(1), left, row)


def _along(x: Tensor, token: Tensor) -> Tensor:
    """Of rows [B, n, V] of a chain the entries [B, n - 1] at each node's child."""
    return torch.gather(x[:, :-1], 2, token.unsqueeze(2)).squeeze(2)


def _below(x: Tensor, node: Tensor) -> Tensor:
    """Of ints [B, n] of a chain the one [B] at a node's child; 0 behind the end."""
    behind = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1)
    return _at(behind, node)


def _block(tokens: Tensor, live: Tensor, p: Tensor, q: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Block verification: the deepest node whose own draw says so."""
    n = tokens.shape[1]
    token = tokens[:, 1:]
    drafter = _along(q, token)
    ratio = _along(p, token) / torch.where(drafter > 0, drafter, 1.0)
    reach = [torch.ones_like(ratio[:, 0])]
    for i in range(n - 1):
        reach.append(torch.where(live[:, i + 1], torch.clamp(reach[i] * ratio[:, i], max=1), 0.0))
    joint = torch.stack(reach, 1)
    refused = torch.cat([live[:, 1:], torch.zeros_like(live[:, :1])], 1)
    over = torch.clamp(joint[:, :-1].unsqueeze(2) * p[:, :-1] - given(q[:, :-1], token.unsqueeze(2)), min=0).sum(2)
    over = torch.cat([over, torch.zeros_like(over[:, :1])], 1)
    height = torch.where(refused, share(over, joint), joint)
    stays = (u < height) & live
    node = torch.where(stays, torch.arange(n), 0).amax(1)
    row, source = _row(p, node), given(_row(q, node), _below(tokens, node).unsqueeze(1))
    left = normal(torch.clamp(_at(joint, node).unsqueeze(1) * row - source, min=0), row)
    return node, torch.where(_below(live.to(torch.int64), node).unsqueeze(1) > 0, left, row)


# ---------------------------------------------------------------- trees, from the root downwards


def _walk(
    rule: Rule, tree: Tree, tokens: Tensor, live: Tensor, p: Tensor, q: Tensor, u: Tensor, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Level by level: decide among the children of the node where each row is."""
    table = _table(tree, last_first=rule == "greedy")
    node = torch.zeros_like(tokens[:, 0])
    going = node == 0
    row = p[:, 0]
    for level in range(tree.depth):
        width = max(len(tree.children[i]) for i in range(tree.size) if tree.depths[i] == level)
        kids = torch.index_select(table, 0, node)[:, :width]
        token = torch.gather(tokens, 1, kids)
        alive = torch.gather(live, 1, kids) & (kids > 0) & going.unsqueeze(1)
        twin, drawn = _twins(kids, token, alive)
        token = torch.clamp(token, min=0)
        tries = torch.gather(u, 1, kids)
        passes = torch.zeros_like(alive) if allowed is None else torch.gather(allowed, 1, kids) & alive
        source = _row(q, node)
        if rule == "kseq":
            pick, row = _kseq(row, source, token, drawn, tries, passes)
        else:
            pick, row = _one_by_one(rule, row, source, token, drawn, tries, passes)
        going = pick < width
        node = torch.where(going, _at(twin, torch.clamp(pick, max=width - 1)), node)
        row = torch.where(going.unsqueeze(1), _row(p, node), row)
    return node, row


def _table(tree: Tree, last_first: bool) -> Tensor:
    """The children of each node in the order of their tries [n, most children], padded with 0."""
    width = max(map(len, tree.children))
    lines = [[*k[-1:], *k[:-1]] if last_first else list(k) for k in tree.children]
    return constant([line + [0] * (width - len(line)) for line in lines])


def _twins(kids: Tensor, token: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """For children [B, k]: the live one of the same token, and whether there is one."""
    same = (token.unsqueeze(2) == token.unsqueeze(1)) & alive.unsqueeze(1)
    first = torch.argmax(same.to(torch.int64), -1)
    return torch.gather(kids, 1, first), (same.to(torch.int64).sum(2) > 0) & (kids > 0)


def _one_by_one(
    rule: Rule, row: Tensor, source: Tensor, token: Tensor, drawn: Tensor, u: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor]:
    """Recursive rejection. The place [B] of the child that stays, or their number, and what is left [B, V] of p."""
    width = token.shape[1]
    pick = torch.full_like(token[:, 0], width)
    if rule == "greedy":  # the first in line was drawn from what the others leave
        for k in range(1, width):
            source = torch.where(drawn[:, k : k + 1], without(source, token[:, k : k + 1]), source)
    for k in range(width):
        x, here = token[:, k : k + 1], drawn[:, k] & (pick == width)
        used = given(source, x)
        stays = u[:, k : k + 1] * torch.gather(used, 1, x) < torch.gather(row, 1, x)
        stays = here & (stays.squeeze(1) | allowed[:, k])
        pick = torch.where(stays, k, pick)
        row = torch.where((here & ~stays).unsqueeze(1), remainder(row, used), row)
        if rule == "recursive_distinct":
            source = torch.where(here.unsqueeze(1), without(source, x), source)
        elif rule == "greedy":
            source = torch.zeros_like(source)
    return pick, row


def _kseq(p: Tensor, q: Tensor, token: Tensor, drawn: Tensor, u: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """K-SEQ: each child has a try of its own; the first that holds stays."""
    width = token.shape[1]
    gamma = _gamma(p, q, drawn)
    stays = (u * gamma * torch.gather(q, 1, token) < torch.gather(p, 1, token)) | allowed
    places = torch.where(stays & drawn, torch.arange(width), width)
    both = torch.minimum(p / gamma, q)
    beta = both.sum(1, keepdim=True)
    hit = 1 - _misses(beta, drawn)
    scale = hit / torch.where(beta > 0, beta, 1.0)
    return places.amin(1), normal(torch.clamp(p - both * scale, min=0), p)


def _misses(beta: Tensor, drawn: Tensor) -> Tensor:
    """(1 - beta) to the power of the number of drawn children, for beta [B, m] and drawn [B, k]."""
    out = torch.ones_like(beta)
    for k in range(drawn.shape[1]):
        out = torch.where(drawn[:, k : k + 1], out * (1 - beta), out)
    return out


def _gamma(p: Tensor, q: Tensor, drawn: Tensor) -> Tensor:
    """The least g [B, 1] in [1, k] with 1 - (1 - beta)^k <= g beta: each round takes the first of PARTS that has it."""
    low = torch.ones_like(p[:, :1])
    high = torch.clamp(drawn.to(torch.int64).sum(1, keepdim=True).to(p.dtype), min=1)
    steps = torch.arange(PARTS + 1).to(p.dtype).reshape(1, -1) / PARTS
    for _ in range(ROUNDS):
        ends = low + (high - low) * steps
        beta = torch.minimum(p.unsqueeze(1) / ends.unsqueeze(2), q.unsqueeze(1)).sum(2)
        enough = (1 - _misses(beta, drawn) <= ends * beta) | (steps == 1)
        first = torch.argmax(enough.to(torch.int64), 1)
        high = torch.gather(ends, 1, first.unsqueeze(1))
        low = torch.gather(ends, 1, torch.clamp(first - 1, min=0).unsqueeze(1))
    return high


# ---------------------------------------------------------------- trees, from the leaves upwards


def _traversal(
    tree: Tree, tokens: Tensor, live: Tensor, p: Tensor, q: Tensor, u: Tensor, distinct: bool
) -> tuple[Tensor, Tensor]:
    """Leaves first, from left to right; a leaf that is refused falls off and its parent's row pays for it."""
    end, last = torch.full_like(tokens[:, 0], -1), p[:, 0]

    def visit(node: int, reach: Tensor) -> None:
        nonlocal end, last
        row, source = p[:, node], q[:, node]
        for place, child in enumerate(tree.children[node]):
            x = torch.clamp(tokens[:, child : child + 1], min=0)
            used = given(source, x)
            ratio = (torch.gather(row, 1, x) / torch.gather(used, 1, x)).squeeze(1)
            visit(child, torch.where(live[:, child], torch.clamp(reach * ratio, max=1), 0.0))
            drawn = live[:, child]
            for other in tree.children[node][:place]:
                drawn = drawn | (live[:, other] & (tokens[:, other] == tokens[:, child]))
            over = torch.clamp(reach.unsqueeze(1) * row - used, min=0)
            row = torch.where(drawn.unsqueeze(1), normal(over, row), row)
            reach = torch.where(drawn, share(over.sum(1), reach), reach)
            if distinct:
                source = torch.where(drawn.unsqueeze(1), without(source, x), source)
        stays = (end < 0) & live[:, node] & (u[:, node] < reach) if node > 0 else end < 0
        end = torch.where(stays, node, end)
        last = torch.where(stays.unsqueeze(1), row, last)

    visit(0, torch.ones_like(last[:, 0]))
    return end, last


def _allow(tree: Tree, allowed: Tensor | None, p: Tensor, node: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Go on from where the rule ended over nodes that stay all the same."""
    if allowed is None:
        return node, row
    table = _table(tree, last_first=False)
    for _ in range(tree.depth):
        kids = torch.index_select(table, 0, node)
        stays = torch.gather(allowed, 1, kids) & (kids > 0)
        goes = stays.to(torch.int64).sum(1) > 0
        node = torch.where(goes, _at(kids, torch.argmax(stays.to(torch.int64), 1)), node)
        row = torch.where(goes.unsqueeze(1), _row(p, node), row)
    return node, row
