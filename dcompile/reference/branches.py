"""Branches: each in turn on a copy of the row, then the chain of those that are accepted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import torch

from dcompile.reference.expressions import number
from dcompile.reference.result import Difference
from dcompile.reference.row import Row
from dcompile.reference.writes import write
from dcompile.strategy import Branches, Stmt, Write

Run = Callable[[Row, Sequence[Stmt]], None]
Canvas = tuple[list[int], list[bool]]


def branches(row: Row, stmt: Branches, run: Run) -> None:
    """Run the branches, `run` being what runs statements; the row becomes the last accepted one."""
    first, last = int(number(row, stmt.start)), int(number(row, stmt.stop))
    if last < first:
        return
    assert last < first + stmt.width, "the elaborator has bounded the number of branches"
    calls = row.calls
    row.calls += 1
    row.gaps.append(math.inf)
    made: list[Row] = []
    targets: list[Canvas] = []
    for j in range(first, last + 1):
        made.append(_branch(row, made[-1] if made else row, stmt, j, run))
        targets.append(_target(made[-1], stmt))
    best = _chain(stmt, [(b.tokens, b.masked) for b in made], targets)
    best = _followed(row, made, best)
    fed = sum(b.fed - row.fed for b in made)
    won = made[best]
    row.tokens, row.masked, row.order, row.memories = won.tokens, won.masked, won.order, won.memories
    row.variables, row.visits = won.variables, won.visits
    row.fed += fed
    if not fed:  # nothing was fed, so there was no call
        row.calls = calls
        row.gaps.pop()
        row.order = [min(n, calls) for n in row.order]


def _branch(row: Row, before: Row, stmt: Branches, j: int, run: Run) -> Row:
    """The row as branch `j` leaves it; it draws as if `before` had run before it."""
    branch = replace(
        row, tokens=[*row.tokens], masked=[*row.masked], order=[*row.order], memories=deepcopy(row.memories),
        variables={**row.variables, stmt.var: torch.tensor(j)}, dists={}, visits=dict(before.visits), forced=None,
        branch=True,
    )  # fmt: skip
    run(branch, stmt.body)
    return branch


def _target(branch: Row, stmt: Branches) -> Canvas:
    """The branch's canvas after what `accept` expects."""
    after = replace(branch, tokens=[*branch.tokens], masked=[*branch.masked], order=[*branch.order])
    write(after, Write(stmt.span, "commit", stmt.region, stmt.tokens))
    return after.tokens, after.masked


def _chain(stmt: Branches, drafts: Sequence[Canvas], targets: Sequence[Canvas]) -> int:
    """The last accepted branch: from an accepted one on to the last whose draft agrees with its target."""
    best = 0
    while further := [j for j in range(best + 1, len(drafts)) if _agrees(stmt, drafts[j], targets[best])]:
        best = further[-1]
    return best


def _agrees(stmt: Branches, draft: Canvas, target: Canvas) -> bool:
    if not stmt.within:
        return draft == target
    pairs = zip(*draft, *target, strict=True)
    return all(open_ or (token == wanted and not masked) for token, open_, wanted, masked in pairs)


def _followed(row: Row, made: Sequence[Row], best: int) -> int:
    """With another engine's commits to follow: the last branch that makes none but those, and a note if it is not the
    own one. If there is none, the first one takes them."""
    if row.forced is None:
        return best
    order, tokens = row.forced.order, row.forced.tokens
    due = {i: tokens[i - row.start] for i in range(row.start, row.end) if order[i - row.start] == row.calls}
    news = [_news(row, branch) for branch in made]
    right = [j for j, new in enumerate(news) if all(due.get(i) == token for i, token in new.items())]
    theirs = right[-1] if right else 0
    if right and theirs == best:
        return best
    other = news[theirs] if right else due
    note = (tuple(sorted(news[best].items())), tuple(sorted(other.items())))
    row.differences.append(Difference(row.calls, *note, row.gaps[-1]))
    if not right:
        won = made[0]
        won.tokens, won.masked, won.order = [*row.tokens], [*row.masked], [*row.order]
        for i, token in due.items():
            won.tokens[i], won.masked[i], won.order[i] = token, False, row.calls
    return theirs


def _news(row: Row, branch: Row) -> dict[int, int]:
    return {i: branch.tokens[i] for i in range(row.start, row.end) if row.masked[i] and not branch.masked[i]}
