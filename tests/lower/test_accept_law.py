"""Lossless, proved: what a rule's graph commits has the law of plain sampling, to 1e-12; a broken one has not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from dcompile.lower import accepts
from dcompile.strategy.drafts import Drawn, Rule
from dcompile.trees import Tree, chain, expand, paths
from tests.lower.law import law_error, model

TREES = {
    "chain": chain(3),
    "pair": expand(2),
    "three": expand(3),
    "two, one": expand(2, 1),
    "two, two": expand(2, 2),
    "uneven": paths([[0], [1], [0, 0], [0, 1], [1, 0]]),
    "deep": paths([[0], [1], [0, 0], [1, 0], [1, 0, 0]]),
}
SOUND: list[tuple[Rule, Drawn, list[str]]] = [
    ("rejection", "sample", ["chain"]),
    ("block", "sample", ["chain"]),
    ("recursive", "sample", ["chain", "pair", "three", "two, one", "two, two", "uneven"]),
    ("kseq", "sample", ["pair", "two, one"]),
    ("recursive_distinct", "sample", ["three", "two, one", "uneven"]),
    ("recursive_distinct", "distinct", ["pair", "three", "two, two", "deep"]),
    ("greedy", "sample", ["three", "two, one", "uneven"]),
    ("greedy", "distinct", ["three", "two, two"]),
    ("greedy", "greedy", ["pair", "three", "two, two", "deep"]),
    ("traversal", "sample", ["pair", "two, one", "uneven"]),
    ("traversal", "distinct", ["pair", "three", "two, two", "deep"]),
]
PROVED = {(rule, drawn) for rule, drawn, _ in SOUND}
LARGE = ["two, two", "uneven"]  # hundreds of drafts each


def cases() -> Iterator[Any]:
    for rule, drawn, names in SOUND:
        for name in names:
            large = name in LARGE or (rule, name) == ("kseq", "two, one")
            yield pytest.param(rule, drawn, name, marks=pytest.mark.slow if large else [])


def error(
    rule: Rule, drawn: Drawn, tree: Tree, vocab: int = 0, seed: int = 1, holes: float = 0.0, **more: Any
) -> float:
    vocab = vocab or {1: 4, 2: 3, 3: 3}[tree.depth]
    target, drafter = model(vocab, tree.depth + 1, seed, holes), model(vocab, tree.depth + 1, seed + 100, holes)
    return law_error(rule, tree, drawn, target, drafter, **more)


@pytest.mark.parametrize(("rule", "drawn", "name"), list(cases()))
def test_the_law_is_that_of_plain_sampling(rule: Rule, drawn: Drawn, name: str) -> None:
    assert error(rule, drawn, TREES[name]) < 1e-12


BIASED: list[tuple[Rule, Drawn]] = [
    ("recursive", "distinct"),
    ("recursive", "greedy"),
    ("recursive", "top"),
    ("recursive_distinct", "greedy"),
    ("recursive_distinct", "top"),
    ("kseq", "distinct"),
    ("greedy", "top"),
    ("traversal", "greedy"),
    ("traversal", "top"),
]
HOLES: list[tuple[Rule, Drawn, str]] = [
    ("rejection", "sample", "chain"),
    ("block", "sample", "chain"),
    ("recursive", "sample", "pair"),
    ("kseq", "sample", "pair"),
    ("recursive_distinct", "distinct", "three"),
    ("recursive_distinct", "sample", "three"),
    ("greedy", "greedy", "three"),
    ("greedy", "distinct", "three"),
    ("greedy", "sample", "three"),
    ("traversal", "distinct", "three"),
]


@pytest.mark.parametrize(("rule", "drawn", "name"), HOLES)
def test_the_law_where_models_have_no_chance_for_some_tokens(rule: Rule, drawn: Drawn, name: str) -> None:
    """A drafter of fewer tokens than siblings proposes what it does not have; such a token counts as given."""
    assert error(rule, drawn, TREES[name], holes=0.5) < 1e-12


@pytest.mark.parametrize(("rule", "drawn"), BIASED)
def test_every_other_pair_of_draws_and_rule_is_biased(rule: Rule, drawn: Drawn) -> None:
    """What the checker's verdicts say of pairs. (A rule that counts a repeated token as given reads more draws than its
    paper says: with what is left of q it takes independent siblings too.)"""
    assert (rule, drawn) not in PROVED
    assert error(rule, drawn, TREES["pair"]) > 1e-3


@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_a_chain_of_likeliest_tokens_is_not_a_sample(rule: Rule) -> None:
    assert error(rule, "top", chain(2)) > 1e-3


def unscaled(row: Tensor, otherwise: Tensor) -> Tensor:
    return row


def live_only(kids: Tensor, token: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    return kids, alive


# What is broken, in which of the graph's parts, and where it shows.
FAULTS: dict[str, tuple[str, Callable[..., Any], Rule, Drawn, Tree]] = {
    "the remainder is not renormalised": ("normal", unscaled, "rejection", "sample", chain(2)),
    "nor between siblings": ("normal", unscaled, "recursive", "sample", expand(2)),
    "nor for distinct siblings": ("normal", unscaled, "recursive_distinct", "distinct", expand(2)),
    "nor behind a block": ("normal", unscaled, "block", "sample", chain(2)),
    "nor in traversal": ("normal", unscaled, "traversal", "sample", expand(2)),
    "a refused token leaves p as it was": ("remainder", lambda row, source: row, "rejection", "sample", chain(2)),
    "and in a tree": ("remainder", lambda row, source: row, "recursive", "sample", expand(2)),
    "siblings that repeat a token are skipped": ("_twins", live_only, "recursive", "sample", expand(2)),
    "q forgets nothing of distinct siblings": (
        "without",
        lambda source, token: source,
        "recursive_distinct",
        "distinct",
        expand(2),
    ),
    "the last child's q is not what the others leave": (
        "without",
        lambda source, token: source,
        "greedy",
        "greedy",
        expand(2),
    ),
    "gamma is 1": ("_gamma", lambda p, q, drawn: torch.ones_like(p[:, :1]), "kseq", "sample", expand(2)),
    "one try is reckoned where there were two": (
        "_misses",
        lambda beta, drawn: 1 - beta,
        "kseq",
        "sample",
        expand(2),
    ),
    "a block's height is its reach": ("share", lambda over, reach: reach, "block", "sample", chain(2)),
    "traversal divides by what was, not by what is": (
        "share",
        lambda over, reach: torch.clamp(over, max=1),
        "traversal",
        "sample",
        expand(2),
    ),
    "a token that q does not have is taken for a draw": (
        "given",
        lambda source, token: source,
        "recursive_distinct",
        "distinct",
        expand(3),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_shows(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    part, broken, rule, drawn, tree = FAULTS[fault]
    holes = 0.5 if part == "given" else 0.0
    monkeypatch.setattr(accepts, part, broken)
    assert error(rule, drawn, tree, holes=holes) > 1e-3


@pytest.mark.parametrize(
    ("rule", "drawn", "tree"),
    [
        ("rejection", "sample", chain(2)),
        ("block", "sample", chain(2)),
        ("recursive", "sample", expand(2)),
        ("recursive_distinct", "distinct", expand(2)),
        ("greedy", "greedy", expand(2)),
        ("kseq", "sample", expand(2)),
        ("traversal", "sample", expand(2)),
    ],
)
def test_the_drafters_rows_of_other_nodes_show(rule: Rule, drawn: Drawn, tree: Tree) -> None:
    assert error(rule, drawn, tree, wrong=1) > 1e-3


def test_one_number_for_two_decisions_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    right: Callable[..., Any] = accepts.accept

    def shared(*args: Any, **more: Any) -> Any:
        *others, u = args
        return right(*others, u[:, :1].expand(u.shape), **more)

    monkeypatch.setattr(accepts, "accept", shared)
    with pytest.raises(AssertionError, match=r"not one row|a step"):
        error("rejection", "sample", chain(2))
