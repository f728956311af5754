"""How often some child of a node stays: by each rule, and at best.

p is the target's distribution at the node, q the drafter's, k the number of children. `optimal` is the value of the
optimal transport between the drafts and the target, in its dual form (Hu et al. 2025): 1 + min over sets H of tokens of
P(H) - Pr(all drafts are in H). The best H holds the tokens of the smallest p / q, so there are V + 1 to try.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float64]

LIMIT, PATHS = 4096, 64
"""Up to LIMIT drafts a rule for draws without replacement is reckoned over all of them; beyond, over PATHS of them."""
STEP = 0.25
"""Of the trapezoid rule below; its error falls as exp(-pi^2 / STEP)."""


def optimal(p: Row, q: Row, k: int, drawn: str) -> float:
    """The largest probability, over all rules that keep the target's law, that one of k drafts stays. `drawn`:
    `sample` (independent), `distinct` (without replacement), `greedy` (the k - 1 likeliest and one of the rest), `top`
    (the k likeliest)."""
    if drawn in ("greedy", "top"):
        return ACCEPTANCE["greedy" if drawn == "greedy" else "match"](p, q, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(q > 0, p / q, np.inf)
    order = np.argsort(ratio, kind="stable")
    mass = np.concatenate([[0.0], np.cumsum(q[order])])
    inside = np.minimum(mass, 1.0) ** k if drawn == "sample" else all_inside(q[order], k)
    return float(1 + (np.concatenate([[0.0], np.cumsum(p[order])]) - inside).min())


def condensed(p: Row, q: Row, size: int) -> tuple[Row, Row]:
    """The `size` tokens of which either model thinks most, and the rest as one: for large vocabularies."""
    if len(p) <= size + 1:
        return p, q
    keep = np.sort(np.argsort(-np.maximum(p, q), kind="stable")[:size])
    p, q = (np.append(x[keep], max(1 - float(x[keep].sum()), 0.0)) for x in (p, q))
    return p / p.sum(), q / q.sum()


def all_inside(q: Row, k: int) -> Row:
    """For each m from 0 to V the probability that k draws from q without replacement are all among its first m tokens.

    Draws without replacement are arrivals: token i comes at a time that is exponential of rate q_i, so the question is
    whether k of the first m have come before any of the rest. Given the time that is a Poisson binomial, built up token
    by token; over the time it is one integral, on a logarithmic scale.
    """
    support = int((q > 0).sum())
    k = min(k, support)
    rest = np.concatenate([np.cumsum(q[::-1])[::-1], [0.0]])
    low, high = np.log(1e-9), np.log(80 / float(rest[rest > 0].min()))
    time = np.exp(np.arange(low, high + STEP, STEP))
    fewer = np.zeros((k, len(time)))  # the chance that 0 .. k - 1 of the tokens so far have come by then
    fewer[0] = 1
    out = np.zeros(len(q) + 1)
    for m in range(len(q) + 1):
        if m > 0:
            came = -np.expm1(-q[m - 1] * time)
            fewer[1:] += came * (fewer[:-1] - fewer[1:])
            fewer[0] *= 1 - came
        if rest[m] <= 0:
            out[m] = 1
        elif m >= k:
            density = rest[m] * time * np.exp(-rest[m] * time)
            out[m] = (density * np.clip(1 - fewer.sum(0), 0, 1)).sum() * STEP
    return out


# ---------------------------------------------------------------- what each rule accepts


def rejection(p: Row, q: Row, k: int) -> float:
    """The first child alone."""
    return float(np.minimum(p, q).sum())


def recursive(p: Row, q: Row, k: int) -> float:
    """Independent children, one after the other: what is left of p does not depend on what was refused."""
    refused = 1.0
    for _ in range(k):
        stays = float(np.minimum(p, q).sum())
        refused *= 1 - stays
        p = _remainder(p, q)
    return 1 - max(refused, 0.0)


def recursive_distinct(p: Row, q: Row, k: int) -> float:
    """Children without replacement, one after the other: over all that may be refused on the way, or over samples."""
    if len(q) ** (k - 1) <= LIMIT:
        return 1 - _refused(p, q, k, None)
    rng = np.random.default_rng(0)
    return float(1 - np.mean([_refused(p, q, k, rng) for _ in range(PATHS)]))


def _refused(p: Row, q: Row, k: int, rng: np.random.Generator | None) -> float:
    """The chance that k children are refused, given what is left of p and of q before the first; with `rng` along one
    path, each child drawn from those that are refused."""
    lost = np.maximum(q - p, 0)
    chance = float(lost.sum())
    if k == 1 or chance <= 0:
        return chance
    left = _remainder(p, q)
    if rng is None:
        return sum(float(lost[x]) * _refused(left, _without(q, x), k - 1, None) for x in np.flatnonzero(lost).tolist())
    x = int(np.searchsorted(np.cumsum(lost), rng.random() * chance))
    return chance * _refused(left, _without(q, min(x, len(q) - 1)), k - 1, rng)


def _without(q: Row, token: int) -> Row:
    out = q.copy()
    out[token] = 0
    return out / out.sum() if out.sum() > 0 else out


def kseq(p: Row, q: Row, k: int) -> float:
    """Independent children with a try each (SpecTr): 1 - (1 - beta)^k at the least gamma that keeps the law."""

    def beta(gamma: float) -> float:
        return float(np.minimum(p / gamma, q).sum())

    low, high = 1.0, float(k)
    for _ in range(60):
        middle = (low + high) / 2
        enough = 1 - (1 - beta(middle)) ** k <= middle * beta(middle)
        low, high = (low, middle) if enough else (middle, high)
    return 1 - (1 - beta(high)) ** k


def greedy(p: Row, q: Row, k: int) -> float:
    """The k - 1 likeliest tokens of q, and one drawn from the rest."""
    top = np.argsort(-q, kind="stable")[: k - 1]
    rest = q.copy()
    rest[top] = 0
    rest = rest / rest.sum() if rest.sum() > 0 else rest
    last = np.minimum(p, rest)
    last[top] = 0
    return float(p[top].sum() + last.sum())


def match(p: Row, q: Row, k: int) -> float:
    """The k likeliest tokens of q against a draw of p."""
    return float(p[np.argsort(-q, kind="stable")[:k]].sum())


def _remainder(p: Row, q: Row) -> Row:
    left = np.maximum(p - q, 0)
    return left / left.sum() if left.sum() > 0 else p


ACCEPTANCE: dict[str, Callable[[Row, Row, int], float]] = {
    "rejection": rejection,
    "recursive": recursive,
    "kseq": kseq,
    "recursive_distinct": recursive_distinct,
    "greedy": greedy,
    "match": match,
}
"""The probability that one of k children stays, by rule. `match` stands for all rules on given children."""

DRAWS = {
    "rejection": "sample",
    "recursive": "sample",
    "kseq": "sample",
    "recursive_distinct": "distinct",
    "greedy": "greedy",
    "match": "top",
}
"""How each rule's children are drawn."""
