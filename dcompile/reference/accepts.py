"""Published rules that decide which drafted tokens stay, on one row, as written in their papers.

In all of them p[i] is the target's distribution of what follows node i and q[i] the one that i's children were drawn
from. A child whose token q cannot give was not drawn from it (at temperature 0 a drafter gives ranks): it counts as
given, as if q were all on it. A child that repeats the token of a live sibling has been drawn all the same: the rules
for independent draws count it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dcompile.strategy.drafts import Rule
from dcompile.trees import Tree


def accept(
    rule: Rule,
    tree: Tree,
    tokens: Sequence[int],
    live: Sequence[bool],
    p: Tensor,
    q: Tensor,
    u: Sequence[float],
    *,
    distinct: bool = False,
    allowed: Sequence[bool] | None = None,
) -> tuple[int, int]:
    """The node where the kept path ends, and the token behind it. p, q [n, V]; u [n] in (0, 1): u[i] decides node i,
    u[0] draws the last token. `distinct`: whether siblings were drawn without replacement (traversal asks). `allowed`:
    nodes that stay although the rule refuses them."""
    twin = [_twin(tree, node, tokens, live) for node in range(tree.size)]
    may = [a and b for a, b in zip(allowed or [False] * tree.size, live, strict=True)]
    drawn = _Drawn(tree, tokens, twin, p, q, u)
    if rule == "block":
        node, row = _allow(drawn, may, *_block(drawn))
    elif rule == "traversal":
        node, row = _allow(drawn, may, *_traversal(drawn, distinct))
    else:
        node, row = _descend(drawn, may, RULES[rule])
    return node, _inverse(row, u[0])


class _Drawn:
    """A draft and both models' word on it. `twin`: the node that stands for each one's token, itself or a sibling;
    None where nothing was drawn."""

    def __init__(
        self,
        tree: Tree,
        tokens: Sequence[int],
        twin: Sequence[int | None],
        p: Tensor,
        q: Tensor,
        u: Sequence[float],
    ) -> None:
        self.tree, self.tokens, self.twin, self.p, self.q, self.u = tree, tokens, twin, p, q, u

    def children(self, node: int) -> list[int]:
        """The children that were drawn."""
        return [c for c in self.tree.children[node] if self.twin[c] is not None]


def _twin(tree: Tree, node: int, tokens: Sequence[int], live: Sequence[bool]) -> int | None:
    if live[node]:
        return node
    for other in tree.children[tree.parents[node]]:
        if live[other] and tokens[other] == tokens[node]:
            return other
    return None


def _inverse(row: Tensor, u: float) -> int:
    """The first token whose cumulative probability exceeds u, and never one of probability zero."""
    passed = int((torch.cumsum(row, -1) <= u).sum())
    return min(passed, int(row.nonzero().max()))


def _normal(row: Tensor, otherwise: Tensor) -> Tensor:
    """A row of sum 1; `otherwise` where rounding has left nothing of it."""
    total = row.sum()
    return row / total if total > 0 else otherwise


def _given(q: Tensor, token: int) -> Tensor:
    """What a token was drawn from: q, or itself alone where q does not have it."""
    if q[token] > 0:
        return q
    alone = torch.zeros_like(q)
    alone[token] = 1
    return alone


def _without(q: Tensor, tokens: Sequence[int]) -> Tensor:
    """q when these tokens are out; nothing at all where it has no other."""
    rest = q.clone()
    rest[list(tokens)] = 0
    return _normal(rest, rest)


# ---------------------------------------------------------------- from the root downwards

Node = Callable[[_Drawn, int, Sequence[bool]], tuple[int | None, Tensor]]


def _descend(drawn: _Drawn, allowed: Sequence[bool], rule: Node) -> tuple[int, Tensor]:
    """Decide among a node's children, go on from the one that stays."""
    node = 0
    while True:
        kept, row = rule(drawn, node, allowed)
        if kept is None:
            return node, row
        node = kept


def _one_by_one(
    drawn: _Drawn, node: int, allowed: Sequence[bool], sources: Sequence[tuple[int, Tensor]]
) -> tuple[int | None, Tensor]:
    """Recursive rejection: each child with what it was drawn from. The child that stays, or what is left of p."""
    row = drawn.p[node]
    for child, source in sources:
        token = drawn.tokens[child]
        source = _given(source, token)
        if drawn.u[child] * source[token] < row[token] or allowed[child]:
            return drawn.twin[child], row
        row = _normal((row - source).clamp(min=0), row)
    return None, row


def _recursive(drawn: _Drawn, node: int, allowed: Sequence[bool]) -> tuple[int | None, Tensor]:
    """Rejection (Leviathan et al. 2023), and for siblings drawn independently SpecInfer (Miao et al. 2024)."""
    return _one_by_one(drawn, node, allowed, [(c, drawn.q[node]) for c in drawn.children(node)])


def _recursive_distinct(drawn: _Drawn, node: int, allowed: Sequence[bool]) -> tuple[int | None, Tensor]:
    """Siblings drawn without replacement: Sequoia (Chen et al. 2024)."""
    children = drawn.children(node)
    before = [[drawn.tokens[c] for c in children[:i]] for i in range(len(children))]
    sources = [(c, _without(drawn.q[node], b)) for c, b in zip(children, before, strict=True)]
    return _one_by_one(drawn, node, allowed, sources)


def _greedy(drawn: _Drawn, node: int, allowed: Sequence[bool]) -> tuple[int | None, Tensor]:
    """All children but the last are q's likeliest, the last is drawn from the rest: Hu et al. 2025."""
    children = drawn.children(node)
    last = [c for c in children if c == drawn.tree.children[node][-1]]
    given = [c for c in children if c not in last]
    rest = _without(drawn.q[node], [drawn.tokens[c] for c in given])
    nothing = torch.zeros_like(rest)
    return _one_by_one(drawn, node, allowed, [(c, rest) for c in last] + [(c, nothing) for c in given])


def _kseq(drawn: _Drawn, node: int, allowed: Sequence[bool]) -> tuple[int | None, Tensor]:
    """K-SEQ of SpecTr (Sun et al. 2023): siblings drawn independently, each with a try of its own."""
    children = drawn.children(node)
    p, q, k = drawn.p[node], drawn.q[node], len(children)
    if k < 2:
        return _recursive(drawn, node, allowed)
    gamma = _gamma(p, q, k)
    for child in children:
        token = drawn.tokens[child]
        if drawn.u[child] * gamma * q[token] < p[token] or allowed[child]:
            return drawn.twin[child], p
    both = torch.minimum(p / gamma, q)
    beta = both.sum()
    scale = (1 - (1 - beta) ** k) / beta if beta > 0 else torch.zeros_like(beta)
    return None, _normal((p - both * scale).clamp(min=0), p)


def _gamma(p: Tensor, q: Tensor, k: int) -> Tensor:
    """The least g in [1, k] with 1 - (1 - beta)^k <= g beta, where beta = sum of min(p / g, q). Any such g keeps the
    law; the least accepts most."""

    def enough(g: Tensor) -> bool:
        beta = torch.minimum(p / g, q).sum()
        return bool(1 - (1 - beta) ** k <= g * beta)

    low, high = torch.ones_like(p[0]), torch.ones_like(p[0]) * k
    if enough(low):
        return low
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


RULES: dict[str, Node] = {
    "rejection": _recursive,
    "recursive": _recursive,
    "recursive_distinct": _recursive_distinct,
    "greedy": _greedy,
    "kseq": _kseq,
}


# ---------------------------------------------------------------- from the leaves upwards


def _block(drawn: _Drawn) -> tuple[int, Tensor]:
    """Block verification of a chain (Sun et al. 2024)."""
    chain = [0]
    while below := drawn.children(chain[-1]):
        chain.append(below[0])
    reach = [torch.ones_like(drawn.p[0, 0])]
    rows, sums = [], []
    for node, child in itertools.pairwise(chain):
        token = drawn.tokens[child]
        source = _given(drawn.q[node], token)
        rows.append((reach[-1] * drawn.p[node] - source).clamp(min=0))
        sums.append(rows[-1].sum())
        reach.append((reach[-1] * drawn.p[node, token] / source[token]).clamp(max=1))
    for i in range(len(chain) - 1, 0, -1):
        share = reach[i]
        if i < len(chain) - 1:
            share = _share(sums[i], reach[i])
        if drawn.u[chain[i]] < share:
            break
    else:
        i = 0
    node = chain[i]
    return node, drawn.p[node] if i == len(chain) - 1 else _normal(rows[i], drawn.p[node])


def _share(over: Tensor, reach: Tensor) -> Tensor:
    """over / (over + 1 - reach), and 1 where reach is: nothing is lost there."""
    return over / (over + 1 - reach) if reach < 1 else torch.ones_like(reach)


def _traversal(drawn: _Drawn, distinct: bool) -> tuple[int, Tensor]:
    """Traversal verification (Weng et al. 2025): leaves first, from left to right; a leaf that is refused falls off."""

    def visit(node: int, reach: Tensor) -> tuple[int, Tensor] | None:
        row, source = drawn.p[node], drawn.q[node]
        for child in drawn.children(node):
            token = drawn.tokens[child]
            used = _given(source, token)
            if drawn.twin[child] == child:
                found = visit(child, (reach * row[token] / used[token]).clamp(max=1))
                if found is not None:
                    return found
            over = (reach * row - used).clamp(min=0)
            row, reach = _normal(over, row), _share(over.sum(), reach)
            if distinct:
                source = _without(source, [token])
        return (node, row) if node == 0 or drawn.u[node] < reach else None

    found = visit(0, torch.ones_like(drawn.p[0, 0]))
    assert found is not None
    return found


def _allow(drawn: _Drawn, allowed: Sequence[bool], node: int, row: Tensor) -> tuple[int, Tensor]:
    """Go on from where the rule ended over nodes that stay all the same."""
    while below := [c for c in drawn.tree.children[node] if allowed[c]]:
        node = below[0]
        row = drawn.p[node]
    return node, row
