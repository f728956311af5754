"""Expressions: a row value is a 0-d tensor, a value per position a tensor [N] over the whole canvas."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dcompile.diagnostic import error
from dcompile.foreign import called, function, shape
from dcompile.reference import areas, dists, nodes, scores, takes, vectors
from dcompile.reference.networks import answer
from dcompile.reference.row import Row, Sorted
from dcompile.strategy import (
    Accepted,
    Applied,
    Area,
    AtLast,
    Base,
    Chance,
    Dilate,
    Divergence,
    Embedding,
    Ended,
    Entry,
    Expr,
    Field,
    Foreign,
    Found,
    Hidden,
    Kept,
    Learned,
    Literal,
    Logits,
    MaskToken,
    Name,
    Near,
    NodeFact,
    OneHot,
    Op,
    Own,
    Parent,
    Probabilities,
    Ranked,
    Reduce,
    RunInput,
    Running,
    Score,
    Take,
    TextAt,
    Unreadable,
    Whole,
)  # fmt: skip

DTYPES: dict[Base, torch.dtype] = {
    "int": torch.int64, "float": torch.float32, "bool": torch.bool, "token": torch.int64,
    "dist": torch.float32, "vector": torch.float32,
}  # fmt: skip
OPS: dict[str, Callable[..., Tensor]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "div": lambda a, b: a.float() / b.float(), "floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b,
    "neg": lambda a: -a, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b, "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "and": lambda a, b: a & b,
    "or": lambda a, b: a | b, "min": torch.minimum, "max": torch.maximum, "floor": lambda a: a.floor().long(),
    "ceil": lambda a: a.ceil().long(), "float": lambda a: a.float(), "log": torch.log, "exp": torch.exp,
    "sqrt": torch.sqrt, "cos": torch.cos, "abs": torch.abs, "select": torch.where,
    "silu": lambda a: a * torch.sigmoid(a),
}  # fmt: skip


def value(row: Row, expr: Expr, running: Sorted | None = None) -> Tensor:
    """The value of an expression as the row now stands."""
    match expr:
        case Literal(value=v):
            found = torch.tensor(v, dtype=DTYPES[expr.type.base])
            return found.expand(row.extent, row.model.facts.vocab) if expr.type.wide else found
        case Name(name=name):
            return row.variables[name]
        case RunInput(name="length"):
            return torch.tensor(row.length)
        case Ended():
            return torch.tensor(row.ended)
        case MaskToken():
            assert row.model.facts.mask_id is not None, "a model without a mask token is refused before"
            return torch.tensor(row.model.facts.mask_id)
        case Field(name=name) if row.nodes is not None:
            return nodes.field(row, name)
        case Field(name="token"):
            return torch.tensor(row.tokens)
        case Field(name="position"):
            return torch.arange(row.size)
        case Op() if expr.type.base == "vector":
            return vectors.value(row, expr, value)
        case Op():
            return _op(row, expr, running)
        case Reduce():
            return _reduce(row, expr)
        case Score():
            return scores.value(row, expr, value)
        case Divergence(left=left, right=right):
            return dists.divergence(value(row, left).expand(row.size, -1), value(row, right).expand(row.size, -1))
        case OneHot(of=of):
            return dists.onehot(row, value(row, of))
        case Probabilities(of=of):
            return dists.probabilities(value(row, of))
        case Foreign():
            return _foreign(row, expr)
        case Learned():
            return _learned(row, expr)
        case Running():
            assert running is not None, "a running value outside of a predicate"
            return running[id(expr)]
        case NodeFact() | Parent() | Kept() | Chance() | Accepted() | Entry() | TextAt() | Found():
            return nodes.value(row, expr, value)
        case Hidden() | Embedding() | Logits() | Applied() | Ranked() | Own() | AtLast():
            return vectors.value(row, expr, value)
        case _:
            positions = region(row, expr)
            return torch.tensor([i in positions for i in range(row.size)])


def number(row: Row, expr: Expr) -> int | float | bool:
    """A row value as a Python number."""
    return value(row, expr).item()


def truth(row: Row, expr: Expr) -> bool:
    """A condition."""
    return bool(value(row, expr))


def region(row: Row, expr: Expr) -> list[int]:
    """The positions of a region, ascending."""
    match expr:
        case Area(name=name):
            return areas.area(row, name)
        case Near(kind=kind, region=inner):
            return areas.near(row, kind, region(row, inner))
        case Whole(region=inner, size=size):
            return areas.whole(region(row, inner), int(number(row, size)))
        case Dilate(region=inner, radius=radius):
            near, r = region(row, inner), number(row, radius)
            return [i for i in range(row.end) if any(abs(i - j) <= r for j in near)]
        case Unreadable(region=inner):
            inside = region(row, inner)
            return [i for i in inside if row.model.facts.shift and i - 1 not in inside]
        case Take():
            return takes.take(row, expr, region(row, expr.region), value)
    mask = value(row, expr)
    return [i for i in range(row.end) if mask.expand(row.size)[i]]


def _op(row: Row, expr: Op, running: Sorted | None) -> Tensor:
    args = [value(row, a, running) for a in expr.args]
    if expr.type.wide:
        args = [dists.column(a) for a in args]
    if expr.op == "not":
        return ~args[0] if not expr.type.each or row.nodes else ~args[0] & (torch.arange(row.size) < row.end)
    if expr.op in takes.COMPARISONS and running is None and torch.is_floating_point(args[0]):
        distance = (args[0] - args[1]).abs()
        if row.nodes is not None:
            distance = distance.expand(row.extent)[row.nodes.live]
        elif distance.dim():
            distance = distance[[i for i in range(row.end) if row.masked[i]]]
        row.note(min((float(d) for d in distance.reshape(-1) if d == d), default=float("inf")))
    return OPS[expr.op](*args)


def _reduce(row: Row, expr: Reduce) -> Tensor:
    around, row.nodes = row.nodes, None
    try:
        return _reduced(row, expr)
    finally:
        row.nodes = around


def _reduced(row: Row, expr: Reduce) -> Tensor:
    inside = region(row, expr.region)
    if expr.kind == "count":
        return torch.tensor(len(inside))
    if expr.kind == "any":
        return torch.tensor(len(inside) > 0)
    assert expr.value is not None
    items = value(row, expr.value).expand(row.size)[inside]
    if expr.kind == "all":
        return items.all()
    if expr.kind == "sum":
        return items.sum().to(items.dtype)
    if not inside:
        return torch.tensor({"mean": 0.0, "max": -3e38, "min": 3e38}[expr.kind])
    return {"mean": items.float().mean(), "max": items.float().max(), "min": items.float().min()}[expr.kind]


def _learned(row: Row, expr: Learned) -> Tensor:
    """A module's answer at the positions of a block, 0 elsewhere."""
    module = next(m for m in row.strategy.modules if m.name == expr.module)
    inside = region(row, expr.region)
    x = torch.zeros(module.size)
    x[: len(inside)] = value(row, expr.value).expand(row.size)[inside]
    out = torch.zeros(row.size)
    out[inside] = answer(module, x)[: len(inside)]
    return out


def _foreign(row: Row, expr: Foreign) -> Tensor:
    """What a function makes of the row's positions."""
    extern = next(e for e in row.strategy.externs if e.name == expr.name)
    live, vocab = torch.arange(row.size) < row.end, row.model.facts.vocab
    given = []
    for arg in expr.args:
        item = value(row, arg).clone()
        if arg.type.each:
            item = item.expand(shape(arg.type, row.size, vocab)).clone()
            item[~live] = 0
            if item.dtype == torch.float32 and item.isnan().any():
                title = f"`{extern.name}` is given a score of a position that its call cannot predict"
                raise error("unreadable-position", title, "give it `p.max if b else 0.0`")
        given.append(item)
    found = called(extern, function(extern), live, given, vocab)
    return found & live if found.dtype == torch.bool and found.dim() else found
