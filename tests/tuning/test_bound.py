"""The optimal acceptance against linear algebra by hand; each rule's formula against its oracle, by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dcompile.reference.accepts import accept
from dcompile.strategy.drafts import Rule
from dcompile.trees import expand
from dcompile.tuning import bound
from dcompile.tuning.bound import ACCEPTANCE, DRAWS, Row, all_inside, optimal

SEEDS = range(8)


def pair(seed: int, vocab: int = 5) -> tuple[Row, Row]:
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(vocab, 0.7), 2)
    if seed % 4 == 3:  # a token that the drafter does not have, and one that it alone has
        p[0], q[1] = 0, 0
    return p / p.sum(), q / q.sum()


def draws(q: Row, k: int, drawn: str) -> list[tuple[tuple[int, ...], float]]:
    """Every draft of k tokens and its probability."""
    tokens = range(len(q))
    if drawn == "sample":
        return [(d, float(np.prod(q[list(d)]))) for d in itertools.product(tokens, repeat=k)]
    found = []
    for draft in itertools.permutations(tokens, k):
        chance, left = 1.0, 1.0
        for token in draft:
            chance *= q[token] / left if left > 0 else 0.0
            left -= q[token]
        found.append((draft, float(chance)))
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("drawn", ["sample", "distinct"])
def test_the_optimum_over_all_subsets(seed: int, k: int, drawn: str) -> None:
    """The dual of the transport by brute force: every set of tokens, every draft."""
    p, q = pair(seed)
    known = draws(q, k, drawn)
    best = 0.0
    for size in range(6):
        for inside in map(set, itertools.combinations(range(5), size)):
            best = min(best, p[list(inside)].sum() - sum(w for d, w in known if set(d) <= inside))
    assert optimal(p, q, k, drawn) == pytest.approx(1 + best, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_some_transport_reaches_the_optimum(seed: int) -> None:
    """The primal: a largest flow from drafts to the tokens in them, from an augmenting-path search of its own."""
    p, q = pair(seed, 4)
    for drawn in ("sample", "distinct"):
        assert optimal(p, q, 2, drawn) == pytest.approx(flow(p, draws(q, 2, drawn)), abs=1e-9)


def flow(p: Row, known: list[tuple[tuple[int, ...], float]]) -> float:
    """How much of the drafts' mass can go to tokens in them, token x taking p[x] at most."""
    spare, room = np.array([w for _, w in known]), p.copy()
    sent = np.zeros((len(known), len(p)))

    def push(draft: int, seen: set[int], amount: float) -> float:
        for token in set(known[draft][0]) - seen:
            seen.add(token)
            if room[token] > 1e-15:
                moved = min(amount, room[token])
                room[token] -= moved
                sent[draft, token] += moved
                return float(moved)
            for other in np.flatnonzero(sent[:, token] > 1e-15):
                moved = push(int(other), seen, min(amount, float(sent[other, token])))
                if moved > 0:
                    sent[other, token] -= moved
                    sent[draft, token] += moved
                    return moved
        return 0.0

    for draft in range(len(known)):
        while spare[draft] > 1e-15 and (moved := push(draft, set(), float(spare[draft]))) > 0:
            spare[draft] -= moved
    return float(sent.sum())


@pytest.mark.parametrize("k", [2, 3, 4])
def test_draws_without_replacement_by_arrivals(k: int) -> None:
    q = np.array([0.5, 1e-7, 0.2, 0.0, 0.2999999, 1e-20])
    q /= q.sum()
    for m, found in enumerate(all_inside(q, k)):
        expected = sum(w for d, w in draws(q, k, "distinct") if all(t < m for t in d))
        assert found == pytest.approx(expected, abs=1e-8)


RULES: list[Rule] = ["recursive", "kseq", "recursive_distinct", "greedy"]


@pytest.mark.parametrize(("rule", "k"), [(r, k) for r in RULES for k in (2, 3) if (r, k) != ("kseq", 3)])
def test_what_a_rule_accepts_is_what_its_oracle_accepts(rule: Rule, k: int) -> None:
    """The oracle on every draft; up to where its numbers let a child pass is found by bisection."""
    p, q = pair(1, 4)
    known = draws(q, k, DRAWS[rule]) if rule != "greedy" else top_and_last(q, k)
    rows = torch.tensor(np.stack([p] * (k + 1))), torch.tensor(np.stack([q] * (k + 1)))
    total = 0.0
    for draft, weight in known:
        live = [True, *(t not in draft[:i] for i, t in enumerate(draft))]

        def passes(child: int, u: float, draft: tuple[int, ...] = draft, live: list[bool] = live) -> bool:
            tries = [u if i == child else 1 - 2.0**-53 for i in range(k + 1)]
            return accept(rule, expand(k), [0, *draft], live, *rows, tries)[0] > 0

        refused = 1.0
        for child in range(1, k + 1):
            low, high = 0.0, 1.0
            for _ in range(20):
                middle = (low + high) / 2
                low, high = (middle, high) if passes(child, middle) else (low, middle)
            refused *= 1 - high
        total += weight * (1 - refused)
    assert ACCEPTANCE[rule](p, q, k) == pytest.approx(total, abs=1e-5)


def top_and_last(q: Row, k: int) -> list[tuple[tuple[int, ...], float]]:
    top = tuple(np.argsort(-q, kind="stable")[: k - 1].tolist())
    left = 1 - q[list(top)].sum()
    return [((*top, t), float(q[t] / left)) for t in range(len(q)) if t not in top]


@pytest.mark.parametrize("rule", ACCEPTANCE)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_no_rule_beats_the_optimum(rule: str, k: int) -> None:
    for seed in SEEDS:
        p, q = pair(seed)
        best = optimal(p, q, k, DRAWS[rule])
        assert 0 <= ACCEPTANCE[rule](p, q, k) <= best + 1e-9
        if rule in ("greedy", "match"):  # optimal for the draws that they read
            assert ACCEPTANCE[rule](p, q, k) == pytest.approx(best)


def test_one_child_is_rejection_whatever_the_rule() -> None:
    p, q = pair(0)
    for rule in ("recursive", "kseq", "recursive_distinct", "greedy"):
        assert ACCEPTANCE[rule](p, q, 1) == pytest.approx(bound.rejection(p, q, 1))
    assert optimal(p, q, 1, "sample") == pytest.approx(bound.rejection(p, q, 1))


def test_a_sample_of_drafts_is_near_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = pair(4, 12)
    exact = bound.recursive_distinct(p, q, 3)
    monkeypatch.setattr(bound, "LIMIT", 0)
    assert bound.recursive_distinct(p, q, 3) == pytest.approx(exact, abs=0.01)
    assert bound.recursive_distinct(p, q, 3) != exact


def test_condensed_tails_change_little() -> None:
    rng = np.random.default_rng(3)
    p, q = (rng.dirichlet(np.full(400, 0.05)) for _ in range(2))
    short = bound.condensed(p, q, 200)
    assert all(len(x) == 201 and x.sum() == pytest.approx(1) for x in short)
    for drawn in ("sample", "distinct"):
        assert optimal(*short, 3, drawn) == pytest.approx(optimal(p, q, 3, drawn), abs=0.01)
