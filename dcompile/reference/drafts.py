"""Draft trees: a token for each node, and what the target says of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dcompile.reference import appended, drafter, joining, paths
from dcompile.reference.expressions import number
from dcompile.reference.forward import logits_of, states
from dcompile.reference.row import Drafted, Row
from dcompile.strategy import DRAFT, Call, Draft, Nodes


def draft(row: Row, stmt: Draft) -> None:
    """Propose a token for each node."""
    root = row.end - 1
    drafted = Drafted(
        stmt.tree, root, [row.tokens[root]] + [-1] * (stmt.tree.size - 1), [True] + [False] * (stmt.tree.size - 1)
    )
    row.drafts[stmt.name] = drafted
    if stmt.of:
        row.drafts[stmt.name] = joining.joined(row, stmt, root)
        return
    if stmt.tree.growth is not None:
        row.drafts[stmt.name] = drafter.grown(row, stmt, root)
        return
    if stmt.model is not None:
        drafter.by_model(row, stmt, drafted)
        return
    for name, _ in stmt.own:
        drafted.own[name] = row.variables[name].expand(stmt.tree.size, *row.variables[name].shape).clone()
    for depth in range(1, stmt.tree.depth + 1):
        for name, expr in stmt.own:
            found = paths.over(row, drafted, expr)
            drafted.own[name][paths.level(drafted, depth)] = found[paths.level(drafted, depth)]
        if stmt.scores is not None:
            drafter.by_scores(row, stmt, drafted, depth)
            continue
        assert stmt.tokens is not None
        proposed = paths.over(row, drafted, stmt.tokens)
        for node in paths.level(drafted, depth):
            drafted.tokens[node] = int(proposed[node])
            paths.prune(row, drafted, node)
    if stmt.draws:
        paths.visited(row, DRAFT + stmt.site, drafted)
    if stmt.law is not None:
        own = paths.over(row, drafted, stmt.law)
        drafted.q = torch.zeros_like(own)
        for node in range(1, stmt.tree.size):
            drafted.q[stmt.tree.parents[node]] = own[node]
    for node in range(stmt.tree.proper, stmt.tree.size):
        drafted.live[node] = drafted.live[stmt.tree.parents[node]]


def call(row: Row, stmt: Call) -> None:
    """Feed the live nodes, and before the first time the prompt."""
    assert isinstance(stmt.feed, Nodes) and stmt.name is not None
    use, drafted = row.use(stmt.model), row.drafts[stmt.feed.draft]
    behind = paths.behind(row, stmt.model, drafted)
    row.calls += 1
    row.gaps.append(math.inf)
    row.fed += len(behind) + sum(drafted.live) - 1
    first = states(row.models[stmt.model], use, row.memories[stmt.model], row.tokens, behind, behind)[-1:]
    hidden = torch.zeros(drafted.tree.size, first.shape[1])
    hidden[0] = first
    for node in _leaves(drafted):
        hidden[list(drafted.tree.ancestors[node][1:])] = paths.chain(row, stmt.model, drafted, node)
    _appended(row, stmt, drafted, hidden)
    logits = logits_of(row.models[stmt.model], hidden)
    heat = None if stmt.temperature is None else float(number(row, stmt.temperature))
    row.dists[stmt.name] = paths.said(row, drafted, range(drafted.tree.size), logits, stmt.site, heat)
    row.dists[stmt.name].hidden = hidden


def _appended(row: Row, stmt: Call, drafted: Drafted, hidden: Tensor) -> None:
    """What becomes of the rows behind each node."""
    tree, model = drafted.tree, row.models[stmt.model]
    assert isinstance(stmt.feed, Nodes)
    for node in range(tree.proper):
        rows = [i for i in range(tree.proper, tree.size) if tree.hosts[i] == node]
        if not rows or not drafted.live[node]:
            continue
        tokens, fed = paths.path(row, drafted, node)
        given = next(r for r in row.strategy.rows if r.name == paths.drafting(row, stmt.feed.draft).rows)
        hidden[rows] = appended.hidden(
            model, row.use(stmt.model), row.memories[stmt.model], tokens, fed, given, len(rows)
        )


def _leaves(drafted: Drafted) -> list[int]:
    """The live nodes below the root that hold a token, and that none such stands below."""
    tokens = range(1, drafted.tree.proper)
    inner = {drafted.tree.parents[i] for i in tokens if drafted.live[i]}
    return [i for i in tokens if drafted.live[i] and i not in inner]
