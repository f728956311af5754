"""Which draft tree is worth its cost on this machine: a cost model, and the search for the best tree under it.

A step drafts the nodes below the root, has the target verify all of them in one call, and commits 1 token and as many
more as the accepted path is long. Which tree commits most for its size follows from how often each child is the one
that stays; which size is best, from what a call on so many positions costs. Times are in seconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dcompile.trees import Tree, chain, paths

Rates = Sequence[Sequence[float]]
"""rates[d][r]: how often the child of rank r, at depth d + 1, is the one that stays where its parent did. A line sums
to 1 at most; below the last line nothing stays."""


@dataclass(frozen=True)
class Cost:
    """What was measured: `verify[n]`, one call of the target on n positions; `draft`, one call of the drafter (0 where
    there is none), which is called once for each level of a tree; `host`, all else that a step costs."""

    verify: Mapping[int, float]
    draft: float = 0.0
    host: float = 0.0

    def call(self, positions: int) -> float:
        """A call on so many positions: between two measured numbers on a line, beyond the last on the last line."""
        known = sorted(self.verify)
        if positions > known[-1] and len(known) > 1:
            a, b = known[-2:]
            return self.verify[b] + (positions - b) * (self.verify[b] - self.verify[a]) / (b - a)
        return float(np.interp(positions, known, [self.verify[n] for n in known]))

    def step(self, tree: Tree) -> float:
        return tree.depth * self.draft + self.call(tree.size) + self.host

    @property
    def plain(self) -> float:
        """A token without speculation."""
        return self.verify[1]


@dataclass(frozen=True)
class Choice:
    """A tree, the tokens that a step is expected to commit, and what a step costs."""

    tree: Tree
    tokens: float
    seconds: float
    plain: float

    @property
    def speedup(self) -> float:
        """Tokens in a time, over those of plain decoding; below 1 it is better not to speculate."""
        return self.tokens * self.plain / self.seconds


def rates(hits: Sequence[Sequence[int]], tries: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
    """Rates from counts: of `tries[d][r]` parents that stayed and had a child of rank r, it did in `hits[d][r]`. What
    is seen of a later child is taken for chance where it is more than of an earlier one."""
    seen = [[hit / max(n, 1) for hit, n in zip(*rows, strict=True)] for rows in zip(hits, tries, strict=True)]
    return [tuple(itertools.accumulate(row, min)) for row in seen]


def count(stayed: Sequence[int], tree: Tree) -> tuple[list[list[int]], list[list[int]]]:
    """Hits and tries by depth and rank of drafts on one tree, from how often each of its nodes stayed; the root always
    does."""
    wide = max(map(len, tree.children))
    hits, tries = ([[0] * wide for _ in range(tree.depth)] for _ in "ht")
    for child in range(1, tree.size):
        parent = tree.parents[child]
        tries[tree.depths[parent]][tree.ranks[child]] += stayed[parent]
        hits[tree.depths[parent]][tree.ranks[child]] += stayed[child]
    return hits, tries


def tokens(tree: Tree, rates: Rates) -> float:
    """The tokens that a step is expected to commit: each node adds the chance that it is reached."""
    reached = [1.0]
    for node in range(1, tree.size):
        depth, rank = tree.depths[node], tree.ranks[node]
        row = rates[depth - 1] if depth <= len(rates) else ()
        reached.append(reached[tree.parents[node]] * (row[rank] if rank < len(row) else 0.0))
    return sum(reached)


def choose(trees: Sequence[Tree], rates: Rates, cost: Cost) -> Choice | None:
    """The fastest of the trees; None where plain decoding is faster than each of them."""
    known = [Choice(tree, tokens(tree, rates), cost.step(tree), cost.plain) for tree in trees if tree.size > 1]
    best = max(known, key=lambda c: c.speedup, default=None)
    return best if best is not None and best.speedup > 1 else None


def chains(longest: int) -> list[Tree]:
    return [chain(n) for n in range(1, longest + 1)]


def bushes(rates: Rates, most: int, deepest: int) -> list[Tree]:
    """For every depth and number of nodes up to these the tree of most tokens."""
    return [best_tree(rates[:depth], size) for depth in range(1, deepest + 1) for size in range(depth + 1, most + 1)]


def best_tree(rates: Rates, size: int) -> Tree:
    """The tree of at most `size` nodes of most tokens, where of each node's children an earlier one stays more often:
    its nodes are those that are reached most often, taken one by one (OPT-Tree, PPD)."""
    found: list[tuple[int, ...]] = []
    open_: list[tuple[float, tuple[int, ...]]] = [(-rates[0][0], (0,))] if rates and len(rates[0]) else []
    while open_ and len(found) < size - 1:
        chance, path = heapq.heappop(open_)
        found.append(path)
        row = rates[len(path) - 1]
        assert all(a >= b for a, b in itertools.pairwise(row)), "ranks stand in order of their rates"
        if path[-1] + 1 < len(row) and row[path[-1]] > 0:
            heapq.heappush(open_, (chance / row[path[-1]] * row[path[-1] + 1], (*path[:-1], path[-1] + 1)))
        if len(path) < len(rates) and len(rates[len(path)]):
            heapq.heappush(open_, (chance * rates[len(path)][0], (*path, 0)))
    return paths(found)


@dataclass(frozen=True)
class Sequoia:
    """The dynamic programme of Sequoia (Chen et al. 2024), for rates that are the same at every depth, in any order.

    `table[m, l, b]`: the most tokens of a tree of m nodes, no deeper than l, whose root has b children.
    """

    rates: tuple[float, ...]
    table: NDArray[np.float64]

    def tokens(self, size: int, depth: int) -> float:
        return float(self.table[size, depth].max())

    def tree(self, size: int, depth: int) -> Tree:
        """A tree of that value."""
        found: list[list[int]] = []
        self._unroll(size, depth, [], found)
        return paths(found)

    def _unroll(self, size: int, depth: int, path: list[int], found: list[list[int]]) -> None:
        b = int(self.table[size, depth].argmax())
        while b > 0:
            below = self._splits(size, depth, b)
            part = int(below.argmax()) + 1
            found.append([*path, b - 1])
            self._unroll(part, depth - 1, found[-1], found)
            size, b = size - part, b - 1

    def _splits(self, size: int, depth: int, b: int) -> NDArray[np.float64]:
        """By the nodes 1, 2 ... that the last of b children has below it, itself included."""
        return _splits(self.table, self.rates, size, depth, b)


def sequoia(rates: Sequence[float], most: int, deepest: int) -> Sequoia:
    """Fill the table for up to `most` nodes and `deepest` levels below the root."""
    table = np.full((most + 1, deepest + 1, len(rates) + 1), -np.inf)
    table[1, :, 0] = 1
    for depth in range(1, deepest + 1):
        for b in range(1, len(rates) + 1):
            for size in range(b + 1, most + 1):
                table[size, depth, b] = _splits(table, rates, size, depth, b).max()
    return Sequoia(tuple(rates), table)


def _splits(table: NDArray[np.float64], rates: Sequence[float], size: int, depth: int, b: int) -> NDArray[np.float64]:
    part = np.arange(1, size)
    value: NDArray[np.float64] = table[size - part, depth, b - 1] + rates[b - 1] * table[part, depth - 1].max(-1)
    return value
