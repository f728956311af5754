"""Trees that grow by scores of each depth: the program's is the oracle's, and that is the tree of a heap (DDTree)."""

from __future__ import annotations

import heapq
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from dcompile.reference import drafter, run
from dcompile.reference.row import Drafted, Row
from dcompile.strategy import Draft
from tests.lower.test_drafts import LENGTH, PROMPTS
from tests.lower.test_vectors import KEEP, both, folder, strategy
from tests.passes.rows import model, oracle, read

__all__ = ["folder"]

SCORES = {
    "heads": "lm.head(h + silu(head[(depth - 1) mod 3](h)))",
    "a head of its own": "guess(h * depth)",
    "the same at all depths": "lm.head(g)",
}
SHAPES = {
    "best first": "beam(4, 12, 12)",
    "a beam": "beam(3, 2, 6)",
    "a chain": "beam(4, 1, 3)",
    "wider than the vocabulary": "beam(3, 64, 130)",
    "more than there are": "beam(1, 50, 50)",
    "until the gain falls": "beam(4, 3, 3, gain: 0.05)",
    "no gain at all": "beam(4, 3, 6, gain: 9)",
}
WATCHED = KEEP + "\n table[t.rank mod 4] = t.parent.token where t.depth > 0"
QUICK = [("best first", "heads", 0.0), ("a beam", "a head of its own", 0.9), ("until the gain falls", "heads", 0.0)]


def cases() -> list[Any]:
    every = itertools.product(SHAPES, SCORES, [0.0, 0.9])
    return [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in every]


@pytest.mark.parametrize(("shape", "scores", "heat"), cases())
def test_the_program_grows_the_oracles_tree(folder: Path, shape: str, scores: str, heat: float) -> None:
    want, got = both(strategy(folder, f"scores = {SCORES[scores]}", behind=WATCHED, shape=SHAPES[shape]), heat)
    assert got == want
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
    assert [row.answer for row in want] == [row.answer for row in plain]


def heap(rows: list[list[float]], nodes: int) -> list[tuple[int, ...]]:
    """The likeliest texts by best-first search: each that is taken brings its next sibling and its first child."""
    ranked = [sorted(range(len(row)), key=lambda t, row=row: -row[t]) for row in rows]  # type: ignore[misc]
    waiting: list[tuple[float, tuple[int, ...]]] = [(-rows[0][ranked[0][0]], (0,))]
    taken: list[tuple[int, ...]] = []
    while waiting and len(taken) < nodes:
        cost, path = heapq.heappop(waiting)
        taken.append(tuple(ranked[d][rank] for d, rank in enumerate(path)))
        here, rank = len(path) - 1, path[-1]
        if rank + 1 < len(ranked[here]):
            step = rows[here][ranked[here][rank]] - rows[here][ranked[here][rank + 1]]
            heapq.heappush(waiting, (cost + step, (*path[:-1], rank + 1)))
        if len(path) < len(rows):
            heapq.heappush(waiting, (cost - rows[here + 1][ranked[here + 1][0]], (*path, 0)))
    return taken


def test_a_beam_as_wide_as_its_tree_is_the_tree_of_a_heap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[Drafted, list[list[float]]]] = []
    right = drafter.grown

    def noted(row: Row, stmt: Draft, root: int) -> Drafted:
        made = right(row, stmt, root)
        rows = [drafter._follows(row, stmt, made, [0], depth)[0] for depth in range(1, stmt.tree.depth + 1)]
        found.append((made, torch.log_softmax(torch.stack(list(rows)).double(), -1).tolist()))
        return made

    monkeypatch.setattr(drafter, "grown", noted)
    for nodes in (1, 7, 25):
        found.clear()
        shape = f"beam(4, {nodes}, {nodes})"
        run(strategy(folder, f"scores = {SCORES['heads']}", shape=shape), model(), PROMPTS[0], length=4)
        assert found
        for made, rows in found:
            paths = {tuple(made.tokens[i] for i in route[1:]) for route in made.tree.ancestors[1:]}
            assert paths == set(heap(rows, nodes)) and len(paths) == nodes
