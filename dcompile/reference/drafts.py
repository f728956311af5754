"""Draft trees, node by node: what is proposed, what the target says of it, which path is kept.

No tree attention here: every path of a tree is fed as the chain that it is, behind what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dcompile.ops import FLOOR
from dcompile.reference import appended, sampling
from dcompile.reference.accepts import accept as accept_by
from dcompile.reference.expressions import number, value
from dcompile.reference.forward import forward, logits_of, states
from dcompile.reference.result import Judged
from dcompile.reference.row import Dist, Drafted, Row
from dcompile.reference.threefry import uniform
from dcompile.reference.vectors import spread
from dcompile.reference.writes import follow, put, settle
from dcompile.strategy import ACCEPT, DRAFT, Accept, Best, Call, Draft, Expr, Fill, ModelUse, Nodes, walk
from dcompile.trees import Tree


def draft(row: Row, stmt: Draft) -> None:
    """Propose a token for each node."""
    root = row.end - 1
    drafted = Drafted(
        stmt.tree, root, [row.tokens[root]] + [-1] * (stmt.tree.size - 1), [True] + [False] * (stmt.tree.size - 1)
    )
    row.drafts[stmt.name] = drafted
    if stmt.model is not None:
        if stmt.tree.growth is not None:
            row.drafts[stmt.name] = _grown(row, stmt, root)
        else:
            _by_model(row, stmt, drafted)
        return
    assert stmt.tokens is not None
    for name, _ in stmt.own:
        drafted.own[name] = row.variables[name].expand(stmt.tree.size, *row.variables[name].shape).clone()
    for depth in range(1, stmt.tree.depth + 1):
        for name, expr in stmt.own:
            found = over(row, drafted, expr)
            drafted.own[name][_level(drafted, depth)] = found[_level(drafted, depth)]
        proposed = over(row, drafted, stmt.tokens)
        for node in _level(drafted, depth):
            drafted.tokens[node] = int(proposed[node])
            _prune(row, drafted, node)
    if stmt.law is not None:
        own = over(row, drafted, stmt.law)
        drafted.q = torch.zeros_like(own)
        for node in range(1, stmt.tree.size):
            drafted.q[stmt.tree.parents[node]] = own[node]
    for node in range(stmt.tree.proper, stmt.tree.size):
        drafted.live[node] = drafted.live[stmt.tree.parents[node]]


def over(row: Row, drafted: Drafted, expr: Expr) -> Tensor:
    """An expression's values [n], of vectors [n, E], at the nodes of a draft."""
    row.nodes = drafted
    try:
        found = value(row, expr)
        return found if expr.type.wide else spread(row, found, expr)
    finally:
        row.nodes = None


def _level(drafted: Drafted, depth: int) -> list[int]:
    return [node for node in range(drafted.tree.proper) if drafted.tree.depths[node] == depth]


def _prune(row: Row, drafted: Drafted, node: int) -> None:
    """A node is alive with its parent, a token of its own, and no earlier child of the same parent with that token."""
    parents, tokens, live = drafted.tree.parents, drafted.tokens, drafted.live
    twin = any(tokens[i] == tokens[node] and live[i] for i in drafted.tree.twins[node])
    real = 0 <= tokens[node] < row.model.facts.vocab
    live[node] = live[parents[node]] and real and not twin


# ---------------------------------------------------------------- a model that drafts


def _by_model(row: Row, stmt: Draft, drafted: Drafted) -> None:
    """Depth by depth: each forward predicts the children of one depth's nodes."""
    assert stmt.model is not None
    use = next(m for m in row.strategy.models if m.name == stmt.model)
    memory, model = row.memories[stmt.model], row.models[stmt.model]
    drafted.q = torch.zeros(stmt.tree.size, model.facts.vocab)
    for depth in range(stmt.tree.depth):
        nodes = [i for i in _level(drafted, depth) if drafted.live[i] and stmt.tree.children[i]]
        if not nodes:
            break
        row.calls += 1
        row.gaps.append(math.inf)
        if depth == 0:
            behind = sorted(set(range(drafted.root + 1)) - memory.stored)
            row.fed += len(behind)
            logits = forward(model, use, memory, row.tokens, behind, behind)[-1:]
        else:
            row.fed += len(nodes)
            logits = logits_of(model, torch.stack([_chain(row, stmt.model, use, drafted, n)[-1] for n in nodes]))
        dist = _tree_dist(row, drafted, nodes, logits, site=0)
        for node, processed, warped in zip(nodes, dist.processed, dist.warped, strict=True):
            _children(row, stmt, drafted, node, (processed, warped))
    _visited(row, DRAFT + stmt.site, drafted)


def _grown(row: Row, stmt: Draft, root: int) -> Drafted:
    """Depth by depth, the likeliest paths go on; of all nodes that were seen the likeliest stay."""
    growth = stmt.tree.growth
    assert growth is not None and stmt.model is not None
    seen = Drafted(Tree((0,), (0,)), root, [row.tokens[root]], [True])
    scores, ends, most = torch.zeros(1), [0], 0.0
    for depth in range(growth.depth):
        first = seen.tree.size
        for node, logits in zip(ends, _ahead(row, stmt, seen, ends, depth), strict=True):
            chances = torch.log_softmax(logits, -1)
            best = torch.sort(logits, descending=True, stable=True).indices[: growth.width]
            scores = torch.cat([scores, scores[node] + chances[best]])
            parents, ranks = (*seen.tree.parents, *[node] * len(best)), (*seen.tree.ranks, *range(len(best)))
            seen = Drafted(Tree(parents, ranks), root, [*seen.tokens, *best.tolist()], [True] * len(parents))
        ends = [first + i for i in _likeliest(scores[first:], growth.width)]
        total = float(scores[1:][_likeliest(scores[1:], stmt.tree.size - 1)].exp().sum())
        if growth.gain is not None and total - most <= growth.gain:
            break
        most = total
    kept = [0, *sorted(1 + i for i in _likeliest(scores[1:], stmt.tree.size - 1))]
    parents = tuple(kept.index(seen.tree.parents[i]) for i in kept)
    tree = Tree(parents, tuple(seen.tree.ranks[i] for i in kept))
    return Drafted(tree, root, [seen.tokens[i] for i in kept], [float(scores[i]) > FLOOR / 2 for i in kept])


def _likeliest(scores: Tensor, count: int) -> list[int]:
    found: list[int] = torch.sort(scores, descending=True, stable=True).indices[:count].tolist()
    return found


def _ahead(row: Row, stmt: Draft, seen: Drafted, ends: list[int], depth: int) -> Tensor:
    """What the drafter says behind the nodes where paths end [n, V]: one call."""
    assert stmt.model is not None
    use = next(m for m in row.strategy.models if m.name == stmt.model)
    memory, model = row.memories[stmt.model], row.models[stmt.model]
    row.calls += 1
    row.gaps.append(math.inf)
    if depth == 0:
        behind = sorted(set(range(seen.root + 1)) - memory.stored)
        row.fed += len(behind)
        logits = forward(model, use, memory, row.tokens, behind, behind)[-1:]
    else:
        row.fed += len(ends)
        logits = logits_of(model, torch.stack([_chain(row, stmt.model, use, seen, node)[-1] for node in ends]))
    return _tree_dist(row, seen, ends, logits, site=0).processed


def _chain(row: Row, model: str, use: ModelUse, drafted: Drafted, node: int) -> Tensor:
    """Hidden states [d, E] of the nodes from below the root to `node`, fed one behind the other."""
    path = drafted.tree.ancestors[node][1:]
    tokens = row.tokens[: drafted.root + 1] + [drafted.tokens[i] for i in path]
    fed = range(drafted.root + 1, drafted.root + 1 + len(path))
    return states(row.models[model], use, row.memories[model], tokens, fed, ())


def _children(row: Row, stmt: Draft, drafted: Drafted, node: int, logits: tuple[Tensor, Tensor]) -> None:
    """Draw the children of a node from the drafter's distribution there."""
    processed, warped = logits
    cold = row.controls.temperature <= 0
    ranked = torch.sort(processed, descending=True, stable=True).indices.tolist()
    assert drafted.q is not None
    drafted.q[node] = distribution(processed, warped, cold)
    left = warped.clone()
    kids = drafted.tree.children[node]
    for child in kids:
        rank = drafted.tree.ranks[child]
        by_rank = (
            stmt.drawn == "top"
            or (stmt.drawn == "greedy" and rank < len(kids) - 1)
            or (cold and stmt.drawn != "sample")
        )
        if by_rank or cold:
            token = ranked[rank if by_rank else 0]
        else:
            token = sampling.draw(
                warped if stmt.drawn == "sample" else left, _uniform(row, DRAFT + stmt.site, drafted, child)
            )
        left[token] = -math.inf
        drafted.tokens[child] = token
        _prune(row, drafted, child)


def distribution(processed: Tensor, warped: Tensor, cold: bool) -> Tensor:
    """What is drawn from [V]: at temperature 0 the likeliest token for certain."""
    if not cold:
        return torch.softmax(warped, -1)
    return torch.nn.functional.one_hot(processed.argmax(), len(processed)).float()


def _uniform(row: Row, stream: int, drafted: Drafted, node: int) -> float:
    """The number that decides a node: of those of its depth, in order, each is one draw at its position."""
    depths = drafted.tree.depths
    position = drafted.root + depths[node]
    among = sum(depths[i] == depths[node] for i in range(node))
    return uniform(row.controls.seed, stream, position, row.visits.get((stream, position), 0) + among)


def _visited(row: Row, stream: int, drafted: Drafted) -> None:
    for depth in drafted.tree.depths:
        key = stream, drafted.root + depth
        row.visits[key] = row.visits.get(key, 0) + 1


# ---------------------------------------------------------------- the target's call


def call(row: Row, stmt: Call) -> None:
    """Feed the live nodes, and before the first time the prompt."""
    assert isinstance(stmt.feed, Nodes) and stmt.name is not None
    use = next(m for m in row.strategy.models if m.name == stmt.model)
    drafted, memory = row.drafts[stmt.feed.draft], row.memories[stmt.model]
    behind = sorted(set(range(drafted.root + 1)) - memory.stored)
    row.calls += 1
    row.gaps.append(math.inf)
    row.fed += len(behind) + sum(drafted.live) - 1
    first = states(row.models[stmt.model], use, memory, row.tokens, behind, behind)[-1:]
    hidden = torch.zeros(drafted.tree.size, first.shape[1])
    hidden[0] = first
    for node in _leaves(drafted):
        hidden[list(drafted.tree.ancestors[node][1:])] = _chain(row, stmt.model, use, drafted, node)
    logits = logits_of(row.models[stmt.model], hidden)
    _appended(row, stmt, drafted, logits)
    heat = None if stmt.temperature is None else float(number(row, stmt.temperature))
    row.dists[stmt.name] = _tree_dist(row, drafted, range(drafted.tree.size), logits, stmt.site, heat)
    row.dists[stmt.name].hidden = hidden


def _appended(row: Row, stmt: Call, drafted: Drafted, logits: Tensor) -> None:
    """What is predicted at the rows behind each node."""
    tree, model = drafted.tree, row.models[stmt.model]
    use = next(m for m in row.strategy.models if m.name == stmt.model)
    assert isinstance(stmt.feed, Nodes)
    for node in range(tree.proper):
        rows = [i for i in range(tree.proper, tree.size) if node in tree.ancestors[i] and _host(tree, i) == node]
        if not rows or not drafted.live[node]:
            continue
        path = tree.ancestors[node][1:]
        tokens = row.tokens[: drafted.root + 1] + [drafted.tokens[i] for i in path]
        fed = range(drafted.root + 1, drafted.root + 1 + len(path))
        given = next(r for r in row.strategy.rows if r.name == _drafting(row, stmt.feed.draft).rows)
        logits[rows] = appended.logits(model, use, row.memories[stmt.model], tokens, fed, given, len(rows))


def _host(tree: Tree, row: int) -> int:
    """The node that an appended row hangs at."""
    return next(i for i in reversed(tree.ancestors[row]) if tree.ahead[i] == 0)


def _leaves(drafted: Drafted) -> list[int]:
    """The live nodes below the root that hold a token, and that none such stands below."""
    tokens = range(1, drafted.tree.proper)
    inner = {drafted.tree.parents[i] for i in tokens if drafted.live[i]}
    return [i for i in tokens if drafted.live[i] and i not in inner]


def _tree_dist(
    row: Row, drafted: Drafted, nodes: Sequence[int], logits: Tensor, site: int, heat: float | None = None
) -> Dist:
    """What is predicted at these nodes. A draw there belongs to the position alone, whatever was drafted before: so it
    is the one that plain decoding makes."""
    paths = [drafted.tree.ancestors[i][1:] for i in nodes]
    said = frozenset(row.tokens[: row.end])
    seen = [said | {drafted.tokens[i] for i in path if drafted.tokens[i] >= 0} for path in paths]
    committed, targets = [row.filled + len(p) for p in paths], [drafted.root + len(p) + 1 for p in paths]
    heat = row.controls.temperature if heat is None else heat
    return Dist(
        logits, list(nodes), targets, site, heat, row.controls, seen, committed,
        [0] * len(paths), row.draws,
    )  # fmt: skip


# ---------------------------------------------------------------- what is kept


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
    behind = {i for i in range(tree.proper, tree.size) if drafted.live[i] and new and _host(tree, i) == last}
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
        use = next(m for m in row.strategy.models if m.name == name)
        forward(row.models[name], use, row.memories[name], row.tokens, fed, fed)
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
    holds, tree = over(row, drafted, stmt.where), drafted.tree
    good = [i for i in range(tree.proper) if all(drafted.live[j] and holds[j] for j in tree.ancestors[i][1:])]
    return max(good, key=lambda i: (tree.depths[i], -i))


def _by_rule(row: Row, stmt: Accept, drafted: Drafted, dist: Dist) -> tuple[int, int]:
    assert stmt.rule is not None and drafted.q is not None
    cold = row.controls.temperature <= 0
    p = torch.stack([distribution(a, b, cold) for a, b in zip(dist.processed, dist.warped, strict=True)])
    u = [_uniform(row, ACCEPT + stmt.site, drafted, node) for node in range(drafted.tree.size)]
    _visited(row, ACCEPT + stmt.site, drafted)
    distinct = _drafting(row, stmt.draft).drawn == "distinct"
    allowed = None if stmt.where is None else [bool(x) for x in over(row, drafted, stmt.where)]
    return accept_by(
        stmt.rule, drafted.tree, drafted.tokens, drafted.live, p, drafted.q, u, distinct=distinct, allowed=allowed
    )


def _drafting(row: Row, name: str) -> Draft:
    return next(n for n in walk(row.strategy.body) if isinstance(n, Draft) and n.name == name)


def fill(row: Row, stmt: Fill) -> None:
    """Write cells of a table, node by node, so that the last one stays."""
    table = row.variables[stmt.table]
    if stmt.draft is None:
        index = tuple(int(value(row, i)) for i in stmt.index)
        if _inside(table, index):
            table[index] = value(row, stmt.value)
        return
    drafted = row.drafts[stmt.draft]
    indices = [over(row, drafted, i) for i in stmt.index]
    where = None if stmt.where is None else over(row, drafted, stmt.where)
    if isinstance(stmt.value, Best):
        logits = row.dists[stmt.value.dist].logits
        new = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, : stmt.value.count]
    else:
        new = over(row, drafted, stmt.value)
    for node in range(drafted.tree.size):
        index = tuple(int(i[node]) for i in indices)
        if drafted.live[node] and (where is None or where[node]) and _inside(table, index):
            table[index] = new[node]


def _inside(table: Tensor, index: tuple[int, ...]) -> bool:
    return all(0 <= i < size for i, size in zip(index, table.shape, strict=False))
