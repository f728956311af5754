"""How wide should this strategy draft, here? Measure what calls cost, record what is accepted, choose, and check.

Every tree is tried as what it will be: an artifact of the strategy with that tree, which counts for the session how
often each node was kept. So a trial says what a step costs, what it brings, and what other trees would bring.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dcompile import compiler
from dcompile.trees import LIMIT, Tree, chain
from dcompile.tuning import trials
from dcompile.tuning.search import Choice, Cost, Rates, best_tree, bushes, choose, tokens
from dcompile.tuning.shaping import the_draft
from dcompile.tuning.trials import Job, Trial

SIZES = (1, 2, 4, 8, 16, 32, 64)
PRIOR = (0.5, 0.2, 0.1, 0.06, 0.04, 0.03, 0.02, 0.01)
"""How likely children are by rank before anything is known: the trees that are timed and recorded have this shape."""


@dataclass(frozen=True)
class Report:
    """`seconds`: of a step, by the nodes that it verifies; `rates`: what was accepted; `choice`: the fastest tree as it
    was predicted, None where plain decoding is; `measured`: its speed over that of plain decoding, in each repeat."""

    seconds: Mapping[int, float]
    rates: Rates
    choice: Choice | None
    measured: tuple[float, ...] = ()

    @property
    def speedup(self) -> float | None:
        return statistics.median(self.measured) if self.measured else None

    @property
    def worth(self) -> bool:
        """Whether to speculate: it was predicted to be faster, and is."""
        return self.speedup is not None and self.speedup > 1


def tune(job: Job, sizes: Sequence[int] = SIZES, tell: Callable[[str], None] = lambda line: None) -> Report:
    """Try trees, choose, say what that should bring, and measure it; `tell` hears each part as it is known."""
    with tempfile.TemporaryDirectory() as shelf:
        return _tune(replace(job, shelf=Path(shelf)), sizes, tell)


def _tune(job: Job, sizes: Sequence[int], tell: Callable[[str], None]) -> Report:
    first = the_draft(compiler.read(job.source)).tree
    straight = first.straight
    plain = trials.trial(job, None)
    tell(f"1 position: {1000 * plain.seconds:.2f} ms")
    tried: dict[int, Trial] = {}
    for size in sorted(n for n in set(sizes) if 1 < n <= LIMIT):
        tree = chain(size - 1) if straight else best_tree(_foreseen(first, tried), size)
        if tree.size not in tried:
            found = tried[tree.size] = trials.trial(job, tree)
            tell(f"{tree.size} positions: {1000 * found.seconds:.2f} ms, {found.tokens:.2f} tokens a step")
    widest = tried[max(tried)]
    tell("accepted: " + "  ".join(f"{100 * row[0]:.0f} %" for row in widest.rates if row[0] > 0))
    cost = Cost({1: plain.seconds, **{n: t.seconds for n, t in tried.items()}})
    choice = _choice(tried, cost, straight)
    if choice is not None and choice.tree.size not in tried:  # now that it is known, what it commits can be counted
        choice = replace(choice, tokens=trials.tallied(trials.built(job, choice.tree), job, choice.tree)[0])
    if choice is None or choice.speedup <= 1:
        return Report(cost.verify, widest.rates, None)
    tell(f"predicted: {choice.tokens:.2f} tokens a step, {choice.speedup:.2f} x plain decoding")
    return Report(cost.verify, widest.rates, choice, trials.alternating(job, choice.tree))


def _foreseen(own: Tree, tried: Mapping[int, Trial]) -> Rates:
    """What is thought of a strategy's children: what was seen last, and of ranks that were not, the prior in proportion
    to the last that was."""
    prior = PRIOR[: max(map(len, own.children))]
    seen = tried[max(tried)].rates if tried else []
    rows = [tuple(r for r in row if r > 0) for row in seen] + [()] * (own.depth - len(seen))
    return [(*row, *(_share(row, prior) * r for r in prior[len(row) :])) for row in rows]


def _share(row: Sequence[float], prior: Sequence[float]) -> float:
    return min(1.0, row[-1] / prior[len(row) - 1]) if row else 1.0


def _choice(tried: Mapping[int, Trial], cost: Cost, straight: bool) -> Choice | None:
    """The fastest of the trees that were tried, and of those between them, foreseen from the next larger one."""
    known = [Choice(t.tree, t.tokens, t.seconds, cost.plain) for t in tried.values() if t.tree is not None]
    widest = max(tried)
    if straight:
        for size in (n for n in range(2, widest) if n not in tried):
            above = tried[min(n for n in tried if n > size)]
            known.append(Choice(chain(size - 1), tokens(chain(size - 1), above.rates), cost.call(size), cost.plain))
    else:
        rated = tried[widest]
        assert rated.tree is not None
        better = choose(bushes(rated.rates, widest, rated.tree.depth), rated.rates, cost)
        known += [better] if better is not None else []
    best = max(known, key=lambda c: c.speedup)
    return best if best.speedup > 1 else None
