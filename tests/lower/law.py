"""The law of the tokens that an accept graph commits, by enumeration: no sample is drawn, no formula of a rule used.

A random model says what follows each prefix (P), a drafter what it would draft there (q). Every draft that can be drawn
is a row, with its probability. In a row the graph's outcome is a step function of its uniforms. Where the steps are is
found by bisection along one uniform, the others held; the cells between them are then measured, and the outcome is read
off the graph at one point in each. Random points check that the cells are all there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from dcompile.lower import accepts
from dcompile.record import Recorder
from dcompile.strategy.drafts import Drawn, Rule
from dcompile.trees import Tree
from tests.lower.test_accepts import alive

STEPS = 44
LOW, HIGH = 2.0**-60, 1 - 2.0**-53
LARGEST = 1024
PROBES = 2048


@dataclass(frozen=True)
class Model:
    """tables[d][prefix]: what follows a prefix of d tokens, [V^d, V]; a prefix is its number in base V."""

    tables: tuple[Tensor, ...]

    @property
    def vocab(self) -> int:
        return self.tables[0].shape[1]


def model(vocab: int, length: int, seed: int, holes: float = 0.0) -> Model:
    """A random model, in float64; a share `holes` of the entries is zero (never all of a row)."""
    g = torch.Generator().manual_seed(seed)
    tables = []
    for d in range(length):
        raw = torch.rand((vocab**d, vocab), generator=g, dtype=torch.float64) ** 2 + 1e-3
        out = torch.rand(raw.shape, generator=g) < holes
        out[:, d % vocab] = False
        raw[out] = 0
        tables.append(raw / raw.sum(-1, keepdim=True))
    return Model(tuple(tables))


@dataclass(frozen=True)
class Drafts:
    """Every draft of a tree: tokens [M, n], the number of each node's prefix [M, n], and its probability [M]."""

    tokens: Tensor
    prefix: Tensor
    weight: Tensor


def drafts(tree: Tree, q: Model, drawn: Drawn) -> Drafts:
    """Children are drawn from q at their parent's prefix: independently, without replacement, the likeliest ones, or
    all but the last the likeliest and the last from the rest. Where nothing is left to draw from, the lowest token."""
    tokens = torch.zeros((1, tree.size), dtype=torch.int64)
    prefix, weight = tokens.clone(), torch.ones(1, dtype=torch.float64)
    for parent in range(tree.size):
        rest = q.tables[tree.depths[parent]][prefix[:, parent]] if tree.children[parent] else tokens
        taken = torch.zeros_like(rest, dtype=torch.bool)
        for child in tree.children[parent]:
            last = child == tree.children[parent][-1]
            fixed = drawn == "top" or (drawn == "greedy" and not last)
            left = rest.sum(1, keepdim=True)
            chance = torch.where(left > 0, rest / left, _first(~taken))
            if fixed:
                chance = _first(torch.where(left > 0, rest, (~taken).double()))
            row, token = chance.nonzero(as_tuple=True)
            weight = weight[row] * chance[row, token]
            tokens, prefix, rest, taken = tokens[row], prefix[row], rest[row], taken[row]
            tokens[:, child], prefix[:, child] = token, prefix[:, parent] * q.vocab + token
            if drawn != "sample":
                rest = rest.scatter(1, token.unsqueeze(1), 0.0)
                taken = taken.scatter(1, token.unsqueeze(1), True)
    return Drafts(tokens, prefix, weight)


def _first(score: Tensor) -> Tensor:
    """One-hot rows at the largest entry, the first of equals."""
    return torch.nn.functional.one_hot(score.double().argmax(1), score.shape[1]).double()


# ---------------------------------------------------------------- the graph


Outcome = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Node and bonus token, both [N], of drafts by number [N] under uniforms [N, n]."""


def graph(rule: Rule, tree: Tree, drawn: Drawn, vocab: int, batch: int) -> fx.GraphModule:
    """The accept rule as the lowering records it, in float64, `batch` rows at a time."""
    recorder = Recorder({})
    with recorder.recording():
        n = tree.size
        tokens, live = recorder.input("tokens", (batch, n), torch.int64), recorder.input("live", (batch, n), torch.bool)
        p, q = (recorder.input(name, (batch, n, vocab), torch.float64) for name in "pq")
        u = recorder.input("u", (batch, n), torch.float64)
        return recorder.finish(accepts.accept(rule, tree, tokens, live, p, q, u, distinct=drawn == "distinct"))


Builder = Callable[[Rule, Tree, Drawn, int, int], Callable[..., tuple[Tensor, ...]]]
"""From a rule, a tree, how it is drawn, the vocabulary and the batch to a graph of tokens, live, p, q, u."""


def rows(of: Model, tree: Tree, found: Drafts, shift: int = 0) -> Tensor:
    """What a model says at each node of each draft [M, n, V]; with `shift`, of that many nodes before."""
    by_node = [of.tables[tree.depths[i]][found.prefix[:, i]] for i in range(tree.size)]
    return torch.stack(by_node[-shift:] + by_node[:-shift] if shift else by_node, 1)


def outcome(
    build: Builder, rule: Rule, tree: Tree, drawn: Drawn, found: Drafts, target: Model, drafter: Model, wrong: int
) -> Outcome:
    """Run the graph on given drafts. `wrong`: a fault of the caller, q's rows handed over that many nodes too late."""
    batch = min(LARGEST, 64 * -(-len(found.weight) * tree.size // 64))
    lowered = build(rule, tree, drawn, target.vocab, batch)
    live = alive(tree, found.tokens)
    p, q = rows(target, tree, found), rows(drafter, tree, found, wrong)

    def run(draft: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        parts = [torch.zeros((0, 2), dtype=torch.int64)]
        for start in range(0, len(draft), batch):
            some = torch.arange(start, start + batch).clamp(max=len(draft) - 1)
            at = draft[some]
            with torch.inference_mode():
                parts.append(torch.stack(lowered(found.tokens[at], live[at], p[at], q[at], u[some]), 1))
        both = torch.cat(parts)[: len(draft)]
        return both[:, 0], both[:, 1]

    return run


# ---------------------------------------------------------------- its steps


def _bisect(above: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """For each of `size` monotone step functions of a number in (0, 1), true up to its step: the step's place."""
    low, high = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    for _ in range(STEPS):
        middle = (low + high) / 2
        up = above(middle)
        low, high = torch.where(up, middle, low), torch.where(up, high, middle)
    return torch.where(low == 0, 0.0, torch.where(high == 1, 1.0, (low + high) / 2))


def thresholds(run: Outcome, tree: Tree, count: int) -> Tensor:
    """[count, n]: below which u[i] the node that is reached changes, when ancestors of i pass and others fail."""
    n = tree.size
    draft, node = torch.arange(count).repeat_interleave(n - 1), torch.arange(1, n).repeat(count)
    places = []
    for passing in (_above(tree, False), _above(tree, True)):  # a sibling of the same token may stand for an ancestor
        u = torch.where(passing, LOW, HIGH).double()[node]
        base, _ = run(draft, u)
        places.append(_steps(run, draft, node, u, base))
    place = torch.maximum(*places)
    return torch.cat([torch.ones(count, 1, dtype=torch.float64), place.reshape(count, n - 1)], 1)


def _above(tree: Tree, siblings: bool) -> Tensor:
    """Which nodes stand between the root and each node [n, n], with their `siblings` or without."""
    out = torch.zeros((tree.size, tree.size), dtype=torch.bool)
    for i, path in enumerate(tree.ancestors):
        for j in path[1:-1]:
            out[i, list(tree.children[tree.parents[j]]) if siblings else [j]] = True
    return out


def _steps(run: Outcome, draft: Tensor, node: Tensor, u: Tensor, base: Tensor) -> Tensor:
    return _bisect(lambda m: run(draft, u.scatter(1, node.unsqueeze(1), m.unsqueeze(1)))[0] != base, len(draft))


@dataclass(frozen=True)
class Cells:
    """The cells of the uniforms but u[0]: a point in each [N, n], its measure [N], and the number of its draft [N]."""

    draft: Tensor
    point: Tensor
    size: Tensor


def cells(steps: Tensor) -> Cells:
    count, n = steps.shape
    sides = torch.tensor(list(itertools.product((False, True), repeat=n - 1)))
    draft, side = torch.arange(count).repeat_interleave(len(sides)), sides.repeat(count, 1)
    step = steps[draft, 1:]
    size = torch.where(side, 1 - step, step).prod(1)
    point = torch.cat([torch.full_like(step[:, :1], 0.5), torch.where(side, (1 + step) / 2, step / 2)], 1)
    real = size > 0
    return Cells(draft[real], point[real], size[real])


def bonuses(run: Outcome, draft: Tensor, point: Tensor, vocab: int) -> Tensor:
    """[N, V]: where the bonus token goes beyond each token as u[0] grows; the last is 1."""
    wide, token = torch.arange(len(draft)).repeat_interleave(vocab - 1), torch.arange(vocab - 1).repeat(len(draft))

    def stays(u0: Tensor) -> Tensor:
        return run(draft[wide], torch.cat([u0.unsqueeze(1), point[wide, 1:]], 1))[1] <= token

    ends = _bisect(stays, len(wide)).reshape(len(draft), vocab - 1)
    return torch.cat([ends, torch.ones(len(draft), 1, dtype=torch.float64)], 1)


# ---------------------------------------------------------------- the law


def law_error(
    rule: Rule, tree: Tree, drawn: Drawn, target: Model, drafter: Model, wrong: int = 0, build: Builder | None = None
) -> float:
    """The largest difference, over all texts one longer than the tree is deep, between the probability that a draft, an
    accept and plain sampling of what is missing give and that of plain sampling."""
    found = drafts(tree, drafter, drawn)
    assert abs(float(found.weight.sum()) - 1) < 1e-12
    run = outcome(build or graph, rule, tree, drawn, found, target, drafter, wrong)
    steps = thresholds(run, tree, len(found.weight))
    cell = cells(steps)
    node, _ = run(cell.draft, cell.point)
    # Cells of one draft that end at the same node leave the same row behind: `_check` holds them to that.
    key, group = torch.unique(cell.draft * tree.size + node, return_inverse=True)
    first = torch.full_like(key, len(node)).scatter_reduce(0, group, torch.arange(len(node)), "amin")
    ends = bonuses(run, cell.draft[first], cell.point[first], target.vocab)
    _check(run, cell, node, ends[group], steps, key, ends, tree)
    weight = (
        torch.zeros(len(key), dtype=torch.float64).scatter_add(0, group, cell.size) * found.weight[key // tree.size]
    )
    chance = weight.unsqueeze(1) * torch.diff(ends, prepend=torch.zeros(len(ends), 1, dtype=torch.float64), dim=1)
    before = found.prefix[key // tree.size, key % tree.size]
    depth = torch.tensor(tree.depths)[key % tree.size]
    return compare(target, before, depth, chance)


def compare(target: Model, before: Tensor, depth: Tensor, chance: Tensor) -> float:
    """Texts [N] of `depth` tokens with the probability [N, V] of each next token, continued by plain sampling."""
    plain = torch.ones(1, dtype=torch.float64)
    law = torch.zeros(1, dtype=torch.float64)
    for d, table in enumerate(target.tables):
        here = depth == d
        law = (law.unsqueeze(1) * table).index_add(0, before[here], chance[here]).reshape(-1)
        plain = (plain.unsqueeze(1) * table).reshape(-1)
    assert abs(float(law.sum()) - 1) < 1e-9
    return float((law - plain).abs().max())


def _check(
    run: Outcome, cell: Cells, node: Tensor, ends: Tensor, steps: Tensor, key: Tensor, known: Tensor, tree: Tree
) -> None:
    """In every cell the bonus token changes where it was said to; and random points lie in cells as said."""
    starts = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], 1)
    for token in range(ends.shape[1]):
        some = ((ends - starts)[:, token] > 1e-12).nonzero().squeeze(1)
        middle = (starts + ends)[some, token : token + 1] / 2
        found = run(cell.draft[some], torch.cat([middle, cell.point[some, 1:]], 1))
        assert torch.equal(found[0], node[some]) and bool((found[1] == token).all()), "not one row for a draft and node"
    g = torch.Generator().manual_seed(0)
    draft = torch.randint(len(steps), (PROBES,), generator=g)
    u = torch.rand((PROBES, tree.size), generator=g, dtype=torch.float64)
    got, bonus = run(draft, u)
    inside = torch.where(u < steps[draft], steps[draft] / 2, (1 + steps[draft]) / 2)
    expected, _ = run(draft, inside)
    assert torch.equal(got, expected), "a step that was not found"
    place = torch.searchsorted(key, draft * tree.size + got)
    assert torch.equal((known[place] <= u[:, :1]).sum(1), bonus), "a step of the last token that was not found"
