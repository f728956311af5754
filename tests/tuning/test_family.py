"""Families of trees by state: their long run against a walk, their prompt tokens against all ways to hang them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dcompile.dsl import STANDARD
from dcompile.trees import CARRIES, Tree, attach, expand, paths, read
from dcompile.tuning.family import Family, carried, ends, family, fastest, joined, steady
from dcompile.tuning.search import Cost

RATES = [(0.6, 0.15, 0.1), (0.4, 0.15), (0.3, 0.1)]


def test_where_paths_end_is_a_law() -> None:
    tree = paths([[0], [1], [0, 0], [0, 1]])
    last = ends(tree, RATES)
    assert sum(last) == pytest.approx(1)
    assert last == pytest.approx([0.25, 0.6 * 0.45, 0.15, 0.6 * 0.4, 0.6 * 0.15])


@pytest.mark.parametrize("budget", [5, 7, 9, 12])
def test_prompt_tokens_hang_where_they_are_worth_most(budget: int) -> None:
    """Each further one is worth less than the one before, so taking the least away is best."""
    tree, values = expand(2, 1), [1.0, 1.7, 2.0]
    last = ends(tree, RATES)

    def worth(hung: tuple[int, ...]) -> float:
        return sum(p * values[n] for p, n in zip(last, hung, strict=True))

    best = max(worth(h) for h in itertools.product(range(3), repeat=5) if sum(h) <= max(budget - 5, 0))
    found = carried(tree, RATES, values, budget)
    assert sum(found) <= max(budget - 5, 0)
    assert worth(found) == pytest.approx(best)


def test_the_long_run() -> None:
    moves = np.array([[0.0, 1.0], [0.4, 0.6]])
    assert steady(moves) == pytest.approx([0.4 / 1.4, 1 / 1.4])
    assert steady(np.array([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx([0.5, 0.5])


def test_a_family_commits_what_a_walk_through_its_states_does() -> None:
    found = family(RATES, 3, 14)
    assert found is not None and found.positions <= 14
    assert all(tree.depth <= state for state, tree in enumerate(found.trees))
    assert len(set(found.states)) > 2
    rng = np.random.default_rng(0)
    state, total = 3, 0
    for _ in range(20000):
        tree = found.trees[state]
        node = int(rng.choice(tree.size, p=ends(tree, RATES)))
        total += tree.depths[node] + 1
        state = found.prompts[state][node]
    assert found.tokens == pytest.approx(total / 20000, abs=0.02)


def test_more_room_never_commits_less() -> None:
    known = [f.tokens for budget in (2, 4, 8, 12) if (f := family(RATES, 2, budget)) is not None]
    assert known == sorted(known) and known[0] > 1
    assert family(RATES, 2, 1) is None


def test_the_fastest_family_under_a_cost() -> None:
    flat, steep = Cost({1: 1.0, 16: 1.1}), Cost({1: 1.0, 2: 2.0, 16: 16.0})
    wide = fastest(RATES, 2, (2, 4, 8, 12), flat)
    assert wide is not None and wide.positions > 8
    assert fastest(RATES, 2, (2, 4, 8, 12), steep) is None


def published() -> Family:
    """The family of the standard library."""
    found = family([tuple(0.4 * 0.7**depth * 0.45**rank for rank in range(10)) for depth in range(3)], 3, 32)
    assert found is not None
    return found


def test_the_librarys_trees_by_state() -> None:
    found = published()
    for state in (1, 2, 3):
        made = Tree(found.trees[state].parents, found.trees[state].ranks, ((CARRIES, found.prompts[state]),))
        held = read((STANDARD / f"ppd_{state}.tree").read_text(), "x.tree")
        assert (held.parents, held.ranks) == (made.parents, made.ranks)
        assert attach(held, 3).size <= found.positions + 1  # the root carries all, whatever it is said to


def test_one_tree_holds_all_of_a_family() -> None:
    """What the standard library's tree for PPD is."""
    found = published()
    whole = attach(joined(found), 3)
    for tree, carried_ in zip(found.trees, found.prompts, strict=True):
        assert tree.size + sum(carried_) <= whole.size < 2 * found.positions
    assert attach(read((STANDARD / "ppd.tree").read_text(), "ppd.tree"), 3) == whole
