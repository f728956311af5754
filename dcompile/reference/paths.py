"""The nodes of a draft, one path at a time: how they are fed, and which numbers decide them.

No tree attention here: every path of a tree is fed as the chain that it is, behind what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dcompile.reference.expressions import value
from dcompile.reference.forward import states
from dcompile.reference.row import Dist, Drafted, Row
from dcompile.reference.threefry import uniform
from dcompile.reference.vectors import spread
from dcompile.strategy import Draft, Expr, walk


def over(row: Row, drafted: Drafted, expr: Expr) -> Tensor:
    """An expression's values [n], of vectors [n, E], at the nodes of a draft."""
    row.nodes = drafted
    try:
        found = value(row, expr)
        return found if expr.type.wide else spread(row, found, expr)
    finally:
        row.nodes = None


def level(drafted: Drafted, depth: int) -> list[int]:
    """The nodes of one depth that hold tokens."""
    return [node for node in range(drafted.tree.proper) if drafted.tree.depths[node] == depth]


def prune(row: Row, drafted: Drafted, node: int) -> None:
    """A node is alive with its parent, a token of its own, and no earlier child of the same parent with that token."""
    parents, tokens, live = drafted.tree.parents, drafted.tokens, drafted.live
    twin = any(tokens[i] == tokens[node] and live[i] for i in drafted.tree.twins[node])
    real = 0 <= tokens[node] < row.model.facts.vocab
    live[node] = live[parents[node]] and real and not twin


def path(row: Row, drafted: Drafted, node: int) -> tuple[list[int], range]:
    """The row's text with the tokens from below the root to `node` behind it, and the positions of these."""
    below = drafted.tree.ancestors[node][1:]
    tokens = row.tokens[: drafted.root + 1] + [drafted.tokens[i] for i in below]
    return tokens, range(drafted.root + 1, drafted.root + 1 + len(below))


def chain(row: Row, model: str, drafted: Drafted, node: int) -> Tensor:
    """Hidden states [d, E] of the nodes from below the root to `node`, fed one behind the other."""
    tokens, fed = path(row, drafted, node)
    return states(row.models[model], row.use(model), row.memories[model], tokens, fed, ())


def behind(row: Row, model: str, drafted: Drafted) -> list[int]:
    """What a model has not stored of the text up to the root."""
    return sorted(set(range(drafted.root + 1)) - row.memories[model].stored)


def said(
    row: Row, drafted: Drafted, nodes: Sequence[int], logits: Tensor, site: int, heat: float | None = None
) -> Dist:
    """What is predicted at these nodes. A draw there belongs to the position alone, whatever was drafted before: so it
    is the one that plain decoding makes."""
    paths = [drafted.tree.ancestors[i][1:] for i in nodes]
    text = frozenset(row.tokens[: row.end])
    seen = [text | {drafted.tokens[i] for i in path if drafted.tokens[i] >= 0} for path in paths]
    committed, targets = [row.filled + len(p) for p in paths], [drafted.root + len(p) + 1 for p in paths]
    heat = row.controls.temperature if heat is None else heat
    return Dist(
        logits, list(nodes), targets, site, heat, row.controls, seen, committed,
        [0] * len(paths), row.draws,
    )  # fmt: skip


def number(row: Row, stream: int, drafted: Drafted, node: int) -> float:
    """The number that decides a node: of those of its depth, in order, each is one draw at its position."""
    depths = drafted.tree.depths
    position = drafted.root + depths[node]
    among = sum(depths[i] == depths[node] for i in range(node))
    return uniform(row.controls.seed, stream, position, row.visits.get((stream, position), 0) + among)


def visited(row: Row, stream: int, drafted: Drafted) -> None:
    """All of a draft's numbers of a stream have been drawn."""
    for depth in drafted.tree.bare.depths:
        key = stream, drafted.root + depth
        row.visits[key] = row.visits.get(key, 0) + 1


def drafting(row: Row, name: str) -> Draft:
    """The statement that made a draft."""
    return next(n for n in walk(row.strategy.body) if isinstance(n, Draft) and n.name == name)
