"""What is kept of a draft: the path that its accept takes, and what is written of its nodes into tables."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.reference import paths
from dcompile.reference.accepts import accept as accept_by
from dcompile.reference.expressions import value
from dcompile.reference.forward import forward
from dcompile.reference.result import Judged
from dcompile.reference.row import Dist, Drafted, Row
from dcompile.reference.sampling import distribution
from dcompile.reference.writes import follow, put, settle
from dcompile.strategy import ACCEPT, Accept, Best, Call, Fill, walk


def accept(row: Row, stmt: Accept) -> bool:
    """Append the accepted path and one token more, and store what was accepted; whether the canvas is full."""
    drafted, dist = row.drafts[stmt.draft], row.dists[stmt.dist]
    node, bonus = _by_rule(row, stmt, drafted, dist) if stmt.rule else (_deepest(row, stmt, drafted), -1)
    if bonus < 0:
        bonus = dist.token[node]
    path = drafted.tree.ancestors[node]
    for i in path:
        row.note(dist.token_gap(i))
    new = [drafted.tokens[i] for i in path[1:]] + [bonus]
    ends = [n for n, token in enumerate(new, 1) if token in row.controls.eos_ids]
    new = new[: min([row.length - row.filled, *ends])]
    row.accepted[stmt.draft] = min(len(path) - 1, len(new))
    tree, last = drafted.tree, path[min(len(path), len(new)) - 1]
    behind = {i for i in range(tree.proper, tree.size) if drafted.live[i] and new and tree.hosts[i] == last}
    drafted.kept = frozenset({*path[1 : len(new) + 1], *behind})
    drafted.last = path[row.accepted[stmt.draft]]
    row.judged.append(_judged(row, stmt, drafted, dist))
    first = row.end
    row.filled += len(new) if row.forced is None else sum(call == row.calls for call in row.forced.order)
    put(row, follow(row, dict(enumerate(new, first))))
    settle(row)
    fed = range(first, row.end - 1)
    if fed:
        name = next(n.model for n in walk(row.strategy.body) if isinstance(n, Call) and n.name == stmt.dist)
        forward(row.models[name], row.use(name), row.memories[name], row.tokens, fed, fed)
    return row.filled >= row.length


def _judged(row: Row, stmt: Accept, drafted: Drafted, dist: Dist) -> Judged:
    kept = frozenset(i for i in drafted.kept if i < drafted.tree.proper)
    if drafted.q is None:
        return Judged(stmt.draft, kept)
    p = distribution(dist.processed[0], dist.warped[0], row.controls.temperature <= 0)
    return Judged(stmt.draft, kept, p, drafted.q[0])


def _deepest(row: Row, stmt: Accept, drafted: Drafted) -> int:
    """The deepest node whose whole path holds, of equal depth the lowest."""
    assert stmt.where is not None
    holds, tree = paths.over(row, drafted, stmt.where), drafted.tree
    good = [i for i in range(tree.proper) if all(drafted.live[j] and holds[j] for j in tree.ancestors[i][1:])]
    return max(good, key=lambda i: (tree.depths[i], -i))


def _by_rule(row: Row, stmt: Accept, drafted: Drafted, dist: Dist) -> tuple[int, int]:
    assert stmt.rule is not None and drafted.q is not None
    cold = row.controls.temperature <= 0
    p = torch.stack([distribution(a, b, cold) for a, b in zip(dist.processed, dist.warped, strict=True)])
    tree = drafted.tree.bare  # appended rows are no part of what is judged
    u = [paths.number(row, ACCEPT + stmt.site, drafted, node) for node in range(tree.size)]
    paths.visited(row, ACCEPT + stmt.site, drafted)
    distinct = paths.drafting(row, stmt.draft).drawn == "distinct"
    tokens, live = drafted.tokens[: tree.size], drafted.live[: tree.size]
    allowed = None if stmt.where is None else [bool(x) for x in paths.over(row, drafted, stmt.where)[: tree.size]]
    return accept_by(stmt.rule, tree, tokens, live, p, drafted.q, u, distinct=distinct, allowed=allowed)


def fill(row: Row, stmt: Fill) -> None:
    """Write cells of a table, node by node, so that the last one stays."""
    table = row.variables[stmt.table]
    if stmt.draft is None:
        index = tuple(int(value(row, i)) for i in stmt.index)
        if _inside(table, index):
            table[index] = value(row, stmt.value)
        return
    drafted = row.drafts[stmt.draft]
    indices = [paths.over(row, drafted, i) for i in stmt.index]
    where = None if stmt.where is None else paths.over(row, drafted, stmt.where)
    if isinstance(stmt.value, Best):
        logits = row.dists[stmt.value.dist].logits
        new = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, : stmt.value.count]
    else:
        new = paths.over(row, drafted, stmt.value)
    for node in range(drafted.tree.size):
        index = tuple(int(i[node]) for i in indices)
        if drafted.live[node] and (where is None or where[node]) and _inside(table, index):
            table[index] = new[node]


def _inside(table: Tensor, index: tuple[int, ...]) -> bool:
    return all(0 <= i < size for i, size in zip(index, table.shape, strict=False))
