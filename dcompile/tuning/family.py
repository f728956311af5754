"""Trees that depend on what the last step left: the dynamic sparse trees of PPD (Chen et al. 2024).

Trained prompt tokens behind a node guess the tokens that follow it. A step's state is how many of them hung at the node
where its predecessor ended: so deep can its tree be. Prompt tokens cost positions as nodes do, so a family has a tree
for each state, and says how many prompt tokens each of its nodes carries.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcompile.trees import CARRIES, Tree, paths
from dcompile.tuning.search import Cost, Rates, best_tree, tokens

ALONE = Tree((0,), (0,))
SIZES = 16
"""How many sizes of a tree are tried."""


@dataclass(frozen=True)
class Family:
    """For each state 0 ... m a tree, and how many prompt tokens each of its nodes carries; `tokens`: what a step
    commits in the long run; `states`: how often it is in each state."""

    trees: tuple[Tree, ...]
    prompts: tuple[tuple[int, ...], ...]
    tokens: float
    states: tuple[float, ...]

    @property
    def positions(self) -> int:
        """What a call is fed at most."""
        return max(tree.size + sum(carried) for tree, carried in zip(self.trees, self.prompts, strict=True))


def family(rates: Rates, most: int, budget: int) -> Family | None:
    """The family of most tokens a step, of `most` prompt tokens at a node and `budget` positions a call: over the sizes
    of its trees, of a large budget some of them. None where there is no room for a root and a prompt token."""
    if budget < 2:
        return None
    found = []
    choices = np.unique(np.geomspace(2, budget, SIZES).round().astype(int)).tolist()
    for sizes in itertools.product(*[choices] * most):
        if all(a <= b for a, b in itertools.pairwise(sizes)):  # who sees farther has the larger tree
            found.append(_of(rates, [1, *sizes], budget))
    return max(found, key=lambda f: f.tokens)


def _of(rates: Rates, sizes: Sequence[int], budget: int) -> Family:
    trees = tuple(best_tree(rates[:state], size) if state else ALONE for state, size in enumerate(sizes))
    values = [tokens(tree, rates) for tree in trees]
    prompts = tuple(carried(tree, rates, values, budget) for tree in trees)
    moves = np.array([_moves(tree, rates, np_, len(trees)) for tree, np_ in zip(trees, prompts, strict=True)])
    states = steady(moves)
    return Family(trees, prompts, float(states @ values), tuple(states.tolist()))


def carried(tree: Tree, rates: Rates, values: Sequence[float], budget: int) -> tuple[int, ...]:
    """Prompt tokens for each node: all it can have, then less where the least is lost, until the call has room."""
    out = [len(values) - 1] * tree.size
    last = ends(tree, rates)
    while sum(out) > budget - tree.size and any(out):
        loss = {node: last[node] * (values[n] - values[n - 1]) for node, n in enumerate(out) if n > 0}
        out[min(loss, key=lambda node: (loss[node], -node))] -= 1
    return tuple(out)


def ends(tree: Tree, rates: Rates) -> list[float]:
    """How often the kept path ends at each node."""
    reached = [1.0]
    for node in range(1, tree.size):
        row = rates[tree.depths[node] - 1]
        reached.append(reached[tree.parents[node]] * (row[tree.ranks[node]] if tree.ranks[node] < len(row) else 0.0))
    return [reached[node] - sum(reached[kid] for kid in tree.children[node]) for node in range(tree.size)]


def joined(found: Family) -> Tree:
    """The trees of a family laid over each other, as one call of a fixed shape has them: each node carries the most
    that it carries in any of them. In state s the nodes to depth s have guesses."""
    carries: dict[tuple[int, ...], int] = {}
    for tree, carried in zip(found.trees, found.prompts, strict=True):
        for path, number in zip(tree.routes, carried, strict=True):
            carries[path] = max(number, carries.get(path, 0))
    whole = paths([path for path in carries if path])
    return Tree(whole.parents, whole.ranks, ((CARRIES, tuple(carries[path] for path in whole.routes)),))


def _moves(tree: Tree, rates: Rates, prompts: Sequence[int], states: int) -> NDArray[np.float64]:
    """From the state of a tree to each next one."""
    return np.bincount(prompts, weights=ends(tree, rates), minlength=states).astype(np.float64)


def steady(moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often a chain of these moves (rows sum to 1) is in each state, in the long run, from the last state on."""
    lazy = (moves + np.eye(len(moves))) / 2  # the same long run, without periods
    found: NDArray[np.float64] = np.linalg.matrix_power(lazy, 1 << 20)[-1]
    out: NDArray[np.float64] = found / found.sum()
    return out


def fastest(rates: Rates, most: int, budgets: Sequence[int], cost: Cost) -> Family | None:
    """Over the positions of a call: the family of most tokens a second; None where plain decoding is faster."""
    known = [f for budget in budgets if (f := family(rates, most, budget)) is not None]

    def speed(f: Family) -> float:
        return f.tokens * cost.plain / (cost.call(f.positions) + cost.host)

    best = max(known, key=speed, default=None)
    return best if best is not None and speed(best) > 1 else None
