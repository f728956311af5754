"""`take`: positions sorted by a key, and the longest initial run in which a predicate holds."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.diagnostic import error
from dcompile.reference.row import Row, Sorted, Value
from dcompile.strategy import Expr, Op, Running, Take, walk

COMPARISONS = ("lt", "le", "gt", "ge")


def take(row: Row, expr: Take, inside: list[int], of: Value) -> list[int]:
    """What is taken of the positions `inside` its region, in each group of them by itself."""
    key = None if expr.key is None else of(row, expr.key).expand(row.size)
    if key is not None and torch.is_floating_point(key) and key[inside].isnan().any():
        title = "a position is chosen that its call cannot predict"
        raise error("unreadable-position", title, "feed the position before it, or commit it from the earlier call")
    chosen = [i for group in _groups(row, expr, inside, of) for i in _taken(row, expr, group, key, of)]
    return sorted(chosen)


def _groups(row: Row, expr: Take, inside: list[int], of: Value) -> list[list[int]]:
    if not expr.per:
        return [inside]
    groups: list[list[int]] = []
    size = int(of(row, expr.per_size)) if expr.per_size is not None else 1
    for i in inside:
        before = groups[-1][-1] if groups else None
        same = (
            i - 1 == before
            if expr.per == "runs"
            else before is not None and _block(row, i, size) == _block(row, before, size)
        )
        groups[-1].append(i) if same else groups.append([i])
    return groups


def _block(row: Row, position: int, size: int) -> int:
    return (position - row.start) // size


def _taken(row: Row, expr: Take, group: list[int], key: Tensor | None, of: Value) -> list[int]:
    if key is None:
        order = list(group)
    else:
        order = sorted(group, key=lambda i: -key[i].item() if expr.descending else key[i].item())  # stable
    length = len(order)
    if expr.predicate is not None:
        running = {id(n): _running(row, n, order, of) for n in walk(expr.predicate) if isinstance(n, Running)}
        holds = of(row, expr.predicate, running).expand(row.size)
        length = next((n for n, i in enumerate(order) if not holds[i]), length)
        _note_bounds(row, expr.predicate, running, order[: length + 1], of)
    wanted = length
    if expr.atleast is not None:
        length = max(length, int(of(row, expr.atleast)))
    if expr.atmost is not None:
        length = min(length, int(of(row, expr.atmost)))
    length = max(0, min(length, len(order)))
    if key is not None and 0 < length < len(order) and length != wanted:
        row.note(abs(float(key[order[length - 1]]) - float(key[order[length]])))
    return order[:length]


def _running(row: Row, expr: Running, order: list[int], of: Value) -> Tensor:
    """`count`, `sum` or `max` over the positions in order up to each position."""
    floating = expr.value is not None and expr.value.type.base == "float"
    out = torch.zeros(row.size, dtype=torch.float32 if floating else torch.int64)
    values = None if expr.value is None else of(row, expr.value).expand(row.size)
    for n, position in enumerate(order):
        if values is None:
            out[position] = n + 1
            continue
        before = out[order[n - 1]] if n else None
        item = values[position]
        out[position] = item if before is None else before + item if expr.kind == "sum" else torch.maximum(before, item)
    return out


def _note_bounds(row: Row, predicate: Expr, running: Sorted, upto: list[int], of: Value) -> None:
    """How near the positions `upto` and with the first that is refused came to the border."""
    for node in walk(predicate):
        if isinstance(node, Op) and node.op in COMPARISONS:
            a, b = (of(row, arg, running).expand(row.size) for arg in node.args)
            for i in upto:
                row.note(abs(float(a[i]) - float(b[i])))
