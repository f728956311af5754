"""Accept rules: the lowered graph against the oracle's plain rules, on random drafts."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from dcompile.lower import accepts as lowered
from dcompile.reference import accepts as plain
from dcompile.strategy.drafts import Rule
from dcompile.trees import Tree, chain, expand, paths

TREES = {
    "chain": chain(4),
    "twins": expand(3, 2),
    "uneven": paths([[0], [1], [2], [0, 0], [0, 1], [2, 0], [0, 1, 0], [0, 1, 1], [0, 1, 2]]),
}
ROWS, VOCAB = 80, 5
PAIRS = [
    (rule, name) for rule in get_args(Rule) for name in TREES if name == "chain" or rule not in ("rejection", "block")
]


def drafts(tree: Tree, seed: int, warm: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Tokens, live, p, q, u of random rows: some drafts repeat a sibling's token, some have holes, some rows of p and q
    lack tokens; `warm` False: one-hot rows, as at temperature 0."""
    g = torch.Generator().manual_seed(seed)
    shape = (ROWS, tree.size, VOCAB)
    p, q = (torch.softmax(2 * torch.randn(shape, generator=g), -1) for _ in range(2))
    if warm:
        q = torch.where(torch.rand(shape, generator=g) < 0.2, 0.0, q + 1e-9)
        p = torch.where(torch.rand(shape, generator=g) < 0.2, 0.0, p + 1e-9)
    else:
        p, q = (torch.nn.functional.one_hot(x.argmax(-1), VOCAB).float() for x in (p, q))
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    tokens = torch.randint(VOCAB, (ROWS, tree.size), generator=g)
    tokens = torch.where(torch.rand(tokens.shape, generator=g) < 0.1, -1, tokens)
    tokens[:, 0] = 0
    return tokens, alive(tree, tokens), p, q, torch.rand(tokens.shape, generator=g)


def alive(tree: Tree, tokens: Tensor) -> Tensor:
    """What a draft says of its nodes: a token below 0 is none, and of equal siblings only the first lives."""
    live = tokens >= 0
    for node in range(1, tree.size):
        parent = tree.parents[node]
        live[:, node] &= live[:, parent]
        for other in tree.children[parent][: tree.ranks[node]]:
            live[:, node] &= ~(live[:, other] & (tokens[:, other] == tokens[:, node]))
    return live


@pytest.mark.parametrize("judge", [False, True])
@pytest.mark.parametrize(("rule", "name"), PAIRS)
def test_as_the_oracle(rule: Rule, name: str, judge: bool) -> None:
    tree = TREES[name]
    for distinct in (False, True)[: 1 + (rule == "traversal")]:
        tokens, live, p, q, u = drafts(tree, 5, warm=True)
        q = (q + 0.01) / 1.05 if rule == "kseq" else q  # it reads independent draws only, which q has
        allowed = torch.rand(live.shape, generator=torch.Generator().manual_seed(1)) < 0.2 if judge else None
        found = torch.stack(lowered.accept(rule, tree, tokens, live, p, q, u, distinct=distinct, allowed=allowed), 1)
        rows = [
            plain.accept(
                rule,
                tree,
                tokens[r].tolist(),
                live[r].tolist(),
                p[r],
                q[r],
                u[r].tolist(),
                distinct=distinct,
                allowed=None if allowed is None else allowed[r].tolist(),
            )
            for r in range(ROWS)
        ]
        assert found.tolist() == [list(row) for row in rows]
        assert len(set(found[:, 0].tolist())) > tree.size // 3  # the draws reach most of the tree


@pytest.mark.parametrize(("rule", "name"), PAIRS)
def test_at_temperature_0_every_rule_gives_the_greedy_tokens(rule: Rule, name: str) -> None:
    tree = TREES[name]
    tokens, live, p, q, u = drafts(tree, 7, warm=False)
    node, bonus = lowered.accept(rule, tree, tokens, live, p, q, u)
    for r in range(ROWS):
        at = 0
        while True:
            best = int(p[r, at].argmax())
            below = [c for c in tree.children[at] if live[r, c] and int(tokens[r, c]) == best]
            if not below:
                break
            (at,) = below
        assert (int(node[r]), int(bonus[r])) == (at, best)
        row = [tokens[r].tolist(), live[r].tolist(), p[r], q[r], u[r].tolist()]
        assert plain.accept(rule, tree, *row) == (at, best)  # type: ignore[arg-type]
