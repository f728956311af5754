"""Expressions over the nodes of a draft, and over tables and the text."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.ops import FLOOR
from dcompile.reference.row import Drafted, Row, Value
from dcompile.reference.vectors import spread
from dcompile.strategy import Accepted, Chance, Entry, Expr, Found, Kept, NodeFact, Parent, TextAt


def value(row: Row, expr: Expr, of: Value) -> Tensor:
    """The value of an expression of this kind; `of` gives those of its parts."""
    match expr:
        case NodeFact(name=name):
            return torch.tensor(_drafted(row).tree.fact(name))
        case Parent(value=inner):
            return spread(row, of(row, inner), inner)[list(_drafted(row).tree.parents)]
        case Kept(draft=draft):
            return torch.tensor([node in row.drafts[draft].kept for node in range(row.extent)])
        case Chance():
            dist = row.dists[expr.dist]
            logits = (dist.warped if expr.warped else dist.logits).clone()
            logits[:, list(expr.without)] = FLOOR
            tokens = of(row, expr.of).expand(row.extent)
            above = torch.softmax(logits, -1)[list(_drafted(row).tree.parents)]
            return torch.where(tokens >= 0, above.gather(1, tokens.clamp(min=0)[:, None])[:, 0], 0.0)
        case Accepted(draft=draft):
            return torch.tensor(row.accepted.get(draft, 0))
        case Entry():
            return _entry(row, expr, of)
        case TextAt(position=position):
            found = [row.tokens[i] if 0 <= i < row.end else -1 for i in of(row, position).reshape(-1).tolist()]
            return torch.tensor(found if position.type.each else found[0])
        case Found(size=size, latest=latest):
            return torch.tensor(_found(row.tokens[: row.end], int(of(row, size)), latest))
    raise AssertionError(f"no value: {expr}")


def field(row: Row, name: str) -> Tensor:
    """The nodes' own tokens and positions."""
    drafted = _drafted(row)
    if name == "token":
        return torch.tensor(drafted.tokens)
    return torch.tensor([drafted.root + depth for depth in drafted.tree.depths])


def _drafted(row: Row) -> Drafted:
    assert row.nodes is not None, "a value of nodes outside of a draft"
    return row.nodes


def _entry(row: Row, expr: Entry, of: Value) -> Tensor:
    table = row.variables[expr.table]
    indices = [of(row, i) for i in expr.index]
    count = row.extent if expr.type.each else 1
    cells = zip(*(i.expand(count).tolist() for i in indices), strict=True)
    if expr.type.wide or expr.type.base == "vector":
        nothing = torch.zeros(table.shape[-1])
        lines = [table[c] if all(0 <= i < s for i, s in zip(c, table.shape, strict=False)) else nothing for c in cells]
        return torch.stack(lines) if expr.type.wide or expr.type.each else lines[0]
    none = 0.0 if torch.is_floating_point(table) else -1
    found = [table[c].item() if all(0 <= i < s for i, s in zip(c, table.shape, strict=True)) else none for c in cells]
    out = torch.tensor(found, dtype=table.dtype)
    return out if expr.type.each else out[0]


def _found(text: list[int], size: int, latest: bool) -> int:
    """The position behind a place where the last `size` tokens stand already."""
    behind = [i + size for i in range(len(text) - size) if text[i : i + size] == text[-size:]]
    return (behind[-1] if latest else behind[0]) if behind else -1
