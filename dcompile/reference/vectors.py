"""Vectors: [E] for the row, [n, E] over the nodes of a draft; scores [V] and [n, V]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dcompile.reference.forward import logits_of
from dcompile.reference.networks import answer
from dcompile.reference.row import Row, Value
from dcompile.strategy import Applied, AtLast, Embedding, Expr, Hidden, Logits, Op, Own, Ranked

WIDE = ("vector", "scores")
OPS: dict[str, Callable[..., Tensor]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
    "neg": lambda a: -a, "silu": lambda a: a * torch.sigmoid(a), "select": torch.where,
}  # fmt: skip


def spread(row: Row, found: Tensor, expr: Expr) -> Tensor:
    """A value of the row as one for each node; one of each node as it is."""
    return found.expand(row.extent, *(found.shape[-1:] if expr.type.base in WIDE else ()))


def value(row: Row, expr: Expr, of: Value) -> Tensor:
    """The value of an expression of this kind; `of` gives those of its parts."""
    match expr:
        case Hidden(dist=dist):
            hidden = row.dists[dist].hidden
            assert hidden is not None, "the hidden state is asked for of drafts and of `last`"
            return hidden
        case Embedding(of=token):
            table: Any = row.model.backbone.get_input_embeddings()  # type: ignore[operator]
            with torch.no_grad():
                found: Tensor = table(of(row, token).clamp(0, row.model.facts.vocab - 1))
            return found
        case Logits(of=inner):
            return _each(lambda x: logits_of(row.model, x[None])[0], of(row, inner))
        case Applied():
            return _applied(row, expr, of)
        case Ranked(of=inner, rank=rank):
            scores = spread(row, of(row, inner), inner) if expr.type.each else of(row, inner)
            ranked = _each(lambda x: torch.sort(x, descending=True, stable=True).indices, scores)
            number = of(row, rank).clamp(min=0).expand(ranked.shape[:-1])  # that of the root may be below 0
            return ranked.gather(-1, number[..., None])[..., 0]
        case Own(draft=draft, name=name):
            return row.drafts[draft].own[name]
        case AtLast(draft=draft, value=inner):
            drafted, around = row.drafts[draft], row.nodes
            row.nodes = drafted
            try:
                return spread(row, of(row, inner), inner)[drafted.last]
            finally:
                row.nodes = around
        case Op(op=name, args=args):
            return OPS[name](*(_column(of(row, a), a) for a in args))
    raise AssertionError(f"no value: {expr}")


def _column(found: Tensor, expr: Expr) -> Tensor:
    """A number meets a vector by repetition."""
    return found[..., None] if expr.type.each and expr.type.base not in WIDE else found


def _each(make: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """`make` of each row, once for rows that are equal."""
    if rows.dim() == 1:
        return make(rows)
    known: dict[bytes, Tensor] = {}
    for x in rows:
        known.setdefault(x.numpy().tobytes(), x)
    made = {key: make(x) for key, x in known.items()}
    return torch.stack([made[x.numpy().tobytes()] for x in rows])


def _applied(row: Row, expr: Applied, of: Value) -> Tensor:
    module = next(m for m in row.strategy.modules if m.name == expr.module)
    size = row.model.facts.hidden
    args = [of(row, a) for a in expr.args]
    number, part = of(row, expr.number), of(row, expr.part)

    def made(x: Tensor, which: Tensor, piece: Tensor) -> Tensor:
        out = answer(module, x, min(max(int(which), 0), module.count - 1))
        if module.gives == "number":
            return out[0]
        if module.gives == "scores":
            return out
        return out.reshape(module.parts, size)[min(max(int(piece), 0), module.parts - 1)]

    if not expr.type.each:
        return made(torch.cat(args), number, part)
    rows = [a.expand(row.extent, -1) for a in args]
    numbers, parts = number.expand(row.extent), part.expand(row.extent)
    return torch.stack([made(torch.cat([r[i] for r in rows]), numbers[i], parts[i]) for i in range(row.extent)])
