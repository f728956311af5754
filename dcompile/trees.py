"""Shapes of draft trees that are known at the build."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Tree:
    """Nodes 0 (the root) to n - 1; `parents[i]` < i (the root's is 0) and `ranks[i]` says which child of its parent
    node i is, from 0. Nodes stand in order of depth. `facts`: further numbers of the nodes by name."""

    parents: tuple[int, ...]
    ranks: tuple[int, ...]
    facts: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def size(self) -> int:
        return len(self.parents)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """How far each node is from the root."""
        found = [0]
        for parent in self.parents[1:]:
            found.append(found[parent] + 1)
        return tuple(found)

    @property
    def depth(self) -> int:
        return max(self.depths)

    @cached_property
    def ancestors(self) -> tuple[tuple[int, ...], ...]:
        """The nodes from the root down to each one, itself included."""
        found: list[tuple[int, ...]] = [(0,)]
        for node, parent in enumerate(self.parents[1:], 1):
            found.append((*found[parent], node))
        return tuple(found)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The children of each node, by rank."""
        kids: list[list[int]] = [[] for _ in self.parents]
        for node, parent in enumerate(self.parents[1:], 1):
            kids[parent].append(node)
        return tuple(tuple(sorted(k, key=lambda n: self.ranks[n])) for k in kids)

    def fact(self, name: str) -> tuple[int, ...]:
        """`depth`, `rank`, or one of `facts`, of every node."""
        return {"depth": self.depths, "rank": self.ranks, **dict(self.facts)}[name]


def chain(length: int) -> Tree:
    """`length` nodes below the root, each the only child of the one before."""
    return Tree(tuple(max(i - 1, 0) for i in range(length + 1)), (0,) * (length + 1))
