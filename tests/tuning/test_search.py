"""The search for trees against all trees of a size; the cost model; what is chosen, and when nothing is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from dcompile.trees import Tree, chain, paths
from dcompile.tuning.search import Cost, best_tree, bushes, chains, choose, count, rates, sequoia, tokens

RATES = [(0.6, 0.2, 0.1, 0.05), (0.5, 0.3, 0.05), (0.45, 0.1)]


def shapes(size: int, depth: int, width: int) -> Iterator[list[tuple[int, ...]]]:
    """The paths of every tree of `size` nodes, no deeper and no wider than said, by splitting among the children."""
    if size == 1:
        yield []
        return
    if depth == 0:
        return
    for n in range(1, min(width, size - 1) + 1):
        for parts in itertools.product(range(1, size), repeat=n):
            if sum(parts) == size - 1:
                below = [list(shapes(part, depth - 1, width)) for part in parts]
                for combined in itertools.product(*below):
                    yield [(rank, *path) for rank, kid in enumerate(combined) for path in [(), *kid]]


def test_there_are_as_many_shapes_as_ordered_trees() -> None:
    assert [len(list(shapes(n, n, n))) for n in range(1, 7)] == [1, 1, 2, 5, 14, 42]


@pytest.mark.parametrize("size", range(2, 8))
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_best_tree_of_all(size: int, depth: int) -> None:
    some = RATES[:depth]
    best = max((tokens(paths(s), some) for s in shapes(size, depth, 4)), default=None)
    found = best_tree(some, size)
    if best is None:
        assert found.size < size  # there are no more nodes that are ever reached
    else:
        assert found.size == size and found.depth <= depth
        assert tokens(found, some) == pytest.approx(best)


@pytest.mark.parametrize("row", [(0.6, 0.2, 0.1), (0.3, 0.45, 0.05), (0.9,)])
@pytest.mark.parametrize("size", range(2, 8))
def test_sequoias_table_against_all_trees(row: tuple[float, ...], size: int) -> None:
    plan = sequoia(row, 8, 3)
    for depth in (1, 2, 3):
        known = [tokens(paths(s), [row] * depth) for s in shapes(size, depth, len(row))]
        if not known:
            assert plan.tokens(size, depth) == -np.inf
            continue
        assert plan.tokens(size, depth) == pytest.approx(max(known))
        tree = plan.tree(size, depth)
        assert tree.size == size and tree.depth <= depth
        assert tokens(tree, [row] * depth) == pytest.approx(max(known))


def test_both_searches_agree_on_large_trees() -> None:
    row = (0.55, 0.2, 0.1, 0.04, 0.02)
    plan = sequoia(row, 64, 6)
    for size in (8, 33, 64):
        assert tokens(best_tree([row] * 6, size), [row] * 6) == pytest.approx(plan.tokens(size, 6))


def test_the_tokens_of_a_chain_are_a_geometric_sum() -> None:
    for n in (1, 4, 9):
        assert tokens(chain(n), [(0.7,)] * 9) == pytest.approx((1 - 0.7 ** (n + 1)) / 0.3)
    assert tokens(chain(4), [(0.7,)] * 2) == pytest.approx(1 + 0.7 + 0.49)


def test_tokens_are_what_random_acceptance_gives() -> None:
    """A walk from the root: which child stays is drawn by the rates."""
    tree = best_tree(RATES, 12)
    rng = np.random.default_rng(0)
    total = 0
    for _ in range(20000):
        node, depth = 0, 0
        while depth < len(RATES):
            rank = int(np.searchsorted(np.cumsum(RATES[depth]), rng.random()))
            if rank >= len(tree.children[node]):
                break
            node, depth = tree.children[node][rank], depth + 1
        total += depth + 1
    assert tokens(tree, RATES) == pytest.approx(total / 20000, abs=0.02)


COST = Cost({1: 1.0, 2: 1.05, 4: 1.1, 8: 1.3, 16: 1.9, 32: 3.2}, draft=0.1, host=0.02)


def test_the_cost_of_a_call_lies_on_lines_between_what_was_measured() -> None:
    assert COST.call(1) == 1.0 and COST.call(6) == pytest.approx(1.2)
    assert COST.call(48) == pytest.approx(3.2 + 1.3)
    assert COST.step(chain(3)) == pytest.approx(0.3 + 1.1 + 0.02)


def test_the_fastest_tree_is_chosen_by_tokens_for_time() -> None:
    choice = choose(bushes(RATES, 32, 3), RATES, COST)
    assert choice is not None
    value = {t: tokens(t, RATES) / COST.step(t) for n in range(2, 9) for s in shapes(n, 3, 4) for t in [paths(s)]}
    assert choice.speedup >= max(value.values()) - 1e-9
    assert choice.speedup == pytest.approx(choice.tokens / choice.seconds)
    assert 1 < choice.speedup < choice.tokens


def test_longer_chains_pay_where_more_is_accepted() -> None:
    lengths = []
    for rate in (0.3, 0.6, 0.8, 0.95):
        choice = choose(chains(30), [(rate,)] * 30, Cost({1: 1.0, 8: 1.2, 32: 2.0}, draft=0.05))
        assert choice is not None
        lengths.append(choice.tree.depth)
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]


@pytest.mark.parametrize(
    ("some", "cost"),
    [
        ([(0.05, 0.02)] * 4, COST),  # hardly anything stays
        ([(0.9,)] * 8, Cost({1: 1.0, 2: 2.0, 4: 4.0}, draft=0.1)),  # a machine with nothing to spare
        ([(0.6,)] * 8, Cost({1: 1.0, 8: 1.1}, draft=1.0)),  # a drafter as slow as its target
        ([], COST),
    ],
)
def test_do_not_speculate(some: list[tuple[float, ...]], cost: Cost) -> None:
    assert choose([*chains(8), *bushes(some, 16, min(4, len(some)))], some, cost) is None


def test_a_tree_of_one_node_is_no_choice() -> None:
    assert choose([Tree((0,), (0,))], RATES, Cost({1: 1.0}, host=-0.5)) is None


def test_rates_from_counts() -> None:
    tries = [[10, 10, 10], [0, 0, 0]]
    assert rates([[6, 1, 2], [0, 0, 0]], tries) == [(0.6, 0.1, 0.1), (0.0, 0.0, 0.0)]


def test_counts_from_what_was_kept() -> None:
    tree = paths([[0], [1], [0, 0], [1, 0], [1, 1]])
    kept = ([], [1], [2, 5], [2, 5], [2, 4], [1, 3])
    hits, tries = count([6, *(sum(node in nodes for nodes in kept) for node in range(1, 6))], tree)
    assert hits == [[2, 3], [2, 2]]
    assert tries == [[6, 6], [5, 3]]
