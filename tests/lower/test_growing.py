"""Trees that grow by the drafter's chances: the program's is the oracle's, and that is the likeliest of all."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from dcompile.controls import Controls
from dcompile.reference import drafter as drafting
from dcompile.reference import run
from dcompile.reference.forward import blank, forward
from dcompile.reference.row import Drafted, Row
from dcompile.strategy import Draft, ModelUse
from tests.lower.test_drafts import LENGTH, PROMPTS, both, drafter, program
from tests.passes.rows import VOCAB, model, oracle, read

SECOND = "model small: causal\n state table: int[8, 4] = 0"
WATCHED = "accept t where token == parent.p.token\n table[t.rank, t.depth] = t.parent.position where t.depth > 0"
SHAPES = {
    "beam": "beam(3, 2, 6)",
    "wide": "beam(2, 5, 9)",
    "narrow": "beam(4, 1, 3)",
    "one": "beam(1, 4, 2)",
    "until the gain falls": "beam(4, 3, 3, gain: 0.05)",
    "no gain at all": "beam(4, 3, 6, gain: 9)",
    "wider than the vocabulary": "beam(3, 50, 60)",
}


QUICK = [("wide", 0.9), ("until the gain falls", 0.0)]


def cases() -> list[Any]:
    every = itertools.product(SHAPES, [0.0, 0.9])
    return [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in every]


@pytest.mark.parametrize(("name", "heat"), cases())
def test_the_program_grows_the_oracles_tree(name: str, heat: float) -> None:
    strategy = program(f"{SHAPES[name]} from last by small", WATCHED, SECOND)
    plain = oracle(read("greedy"), PROMPTS, LENGTH, temperature=heat, seed=3)
    for layers in (1, 2):
        want, got = both(strategy, {"lm": model(), "small": drafter(layers)}, temperature=heat, seed=3)
        assert got == want
        assert [row.answer for row in want] == [row.answer for row in plain]
    if name == "narrow" and heat == 0:  # the target itself is right every time
        assert all(row.calls == -(-LENGTH // 4) * 5 for row in got)


def test_penalties_and_bans_shape_it_too() -> None:
    strategy = program("beam(3, 3, 8) from last by small", WATCHED, SECOND)
    want, got = both(strategy, {"lm": model(), "small": drafter(1)}, repetition_penalty=1.5, min_length=3)
    assert got == want


@pytest.mark.parametrize(
    ("steps", "nodes", "gain"), [(2, 4, None), (3, 5, 0.3), pytest.param(3, 7, None, marks=pytest.mark.slow)]
)
def test_it_is_the_likeliest_tree(steps: int, nodes: int, gain: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a beam of the whole vocabulary, against all paths."""
    found: list[Drafted] = []
    right = drafting.grown

    def noted(row: Row, stmt: Draft, root: int) -> Drafted:
        tree = stmt.tree.growth
        assert tree is not None
        found.append(right(row, replace(stmt, tree=replace(stmt.tree, growth=replace(tree, width=VOCAB))), root))
        return found[-1]

    monkeypatch.setattr(drafting, "grown", noted)
    shape = f"beam({steps}, 4, {nodes}" + (")" if gain is None else f", gain: {gain})")
    strategy = program(f"{shape} from last by small", members="model small: causal")
    run(strategy, {"lm": model(), "small": drafter(1)}, PROMPTS[0], length=1, sampling=Controls())
    tree = found[0].tree
    paths = {tuple(found[0].tokens[i] for i in path[1:]) for path in tree.ancestors[1:]}
    chances = all_paths(steps)
    total = [
        sum(sorted((c for p, c in chances.items() if len(p) <= d), reverse=True)[:nodes]) for d in range(steps + 1)
    ]
    deep = next((d for d in range(1, steps) if gain is not None and total[d] - total[d - 1] <= gain), steps)
    best = sorted((p for p in chances if len(p) <= deep), key=lambda p: -chances[p])[:nodes]
    assert paths == set(best)


def all_paths(steps: int) -> dict[tuple[int, ...], float]:
    """How likely the drafter finds each text of up to so many tokens behind the prompt."""
    small, use = drafter(1), ModelUse("small", "causal", None)
    chances: dict[tuple[int, ...], float] = {(): 1.0}
    for length in range(steps):
        for path in [p for p in chances if len(p) == length]:
            ids = (*PROMPTS[0], *path)
            logits = forward(small, use, blank(small, len(ids)), ids, range(len(ids)), ())[-1]
            chances |= {(*path, t): chances[path] * float(c) for t, c in enumerate(torch.softmax(logits, -1))}
    return {p: c for p, c in chances.items() if p}
