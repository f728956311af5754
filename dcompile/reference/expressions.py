"""Expressions: a row value is a 0-d tensor, a value per position a tensor [N] over the whole canvas.

A score of a position that cannot be read is NaN, its token -1: no comparison holds for it, and choosing it is an error.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dcompile.diagnostic import error
from dcompile.foreign import called, function, shape
from dcompile.ops import FLOOR
from dcompile.reference import dists, nodes, vectors
from dcompile.reference.networks import answer
from dcompile.reference.row import Row
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
    walk,
)  # fmt: skip

DTYPES: dict[Base, torch.dtype] = {
    "int": torch.int64, "float": torch.float32, "bool": torch.bool, "token": torch.int64,
    "dist": torch.float32, "vector": torch.float32,
}  # fmt: skip
COMPARISONS = ("lt", "le", "gt", "ge")
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
Sorted = dict[int, Tensor]  # the value of each Running node (by id) while a predicate is evaluated


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
            return _score(row, expr)
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
            return _area(row, name)
        case Near(kind=kind, region=inner):
            return _near(row, kind, region(row, inner))
        case Whole(region=inner, size=size):
            return _whole(region(row, inner), int(number(row, size)))
        case Dilate(region=inner, radius=radius):
            near, r = region(row, inner), number(row, radius)
            return [i for i in range(row.end) if any(abs(i - j) <= r for j in near)]
        case Unreadable(region=inner):
            inside = region(row, inner)
            return [i for i in inside if row.model.facts.shift and i - 1 not in inside]
        case Take():
            return _take(row, expr)
    mask = value(row, expr)
    return [i for i in range(row.end) if mask.expand(row.size)[i]]


def _area(row: Row, name: str) -> list[int]:
    live = range(row.end)
    match name:
        case "everything":
            return list(live)
        case "prompt":
            return list(range(row.start))
        case "answer":
            return list(range(row.start, row.end))
        case "masked":
            return [i for i in live if row.masked[i]]
        case "last":
            return [row.run - 1]
    raise AssertionError(name)


def _near(row: Row, kind: str, inside: list[int]) -> list[int]:
    if not inside:
        return []
    first, last = inside[0], inside[-1]
    ranges = {
        "before": range(first - 1, first),
        "after": range(last + 1, last + 2),
        "first": range(first, first + 1),
        "from": range(first, row.end),
        "upto": range(first),
    }
    return [i for i in ranges[kind] if 0 <= i < row.end]


def _whole(inside: list[int], size: int) -> list[int]:
    within = set(inside)
    runs: list[list[int]] = [[]]
    for block in range(max(inside, default=-1) // size + 1):
        positions = range(block * size, block * size + size)
        if within.issuperset(positions):
            runs[-1].extend(positions)
        else:
            runs.append([])
    return max(runs, key=len)


def _op(row: Row, expr: Op, running: Sorted | None) -> Tensor:
    args = [value(row, a, running) for a in expr.args]
    if expr.type.wide:
        args = [dists.column(a) for a in args]
    if expr.op == "not":
        return ~args[0] if not expr.type.each or row.nodes else ~args[0] & (torch.arange(row.size) < row.end)
    if expr.op in COMPARISONS and running is None and torch.is_floating_point(args[0]):
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


# ---------------------------------------------------------------- scores


def _score(row: Row, expr: Score) -> Tensor:
    """A score of every readable position."""
    if expr.dist not in row.dists:
        raise error("unread-call", f"`{expr.dist}` is read before its call has run")
    dist = row.dists[expr.dist]
    if expr.kind == "dist":
        return dists.stored(row, dist.warped if expr.warped else dist.logits, dist.positions)
    if expr.kind in ("token", "sample"):
        out = torch.full((row.extent,), -1)
        out[dist.positions] = torch.tensor(dist.token, dtype=torch.int64)
        return out
    logits = dist.warped if expr.warped else dist.logits
    if expr.without:
        logits = logits.clone()
        logits[:, list(expr.without)] = FLOOR
    of = None if expr.of is None else value(row, expr.of).expand(row.extent)[dist.positions]
    if expr.kind == "top":
        out = torch.full((row.extent,), -1)
        out[dist.positions] = logits.argmax(-1)
        return out
    out = torch.full((row.extent,), torch.nan)
    out[dist.positions] = _score_of(logits, expr.kind, of, torch.nan if row.nodes is None else 0.0)
    return out


def _score_of(logits: Tensor, kind: str, of: Tensor | None, none: float) -> Tensor:
    """One number [R] for each row of logits [R, V]; `none` is the probability of no token."""
    probs = torch.softmax(logits, -1)
    if kind == "max":
        return probs.max(-1).values
    if kind == "entropy":
        return -(probs * torch.log(probs.clamp(min=1e-38))).sum(-1)
    if kind in ("margin", "gap"):
        best = torch.topk(probs if kind == "margin" else logits, 2).values
        return best[:, 0] - best[:, 1]
    assert kind == "prob" and of is not None
    chosen = probs.gather(-1, of.clamp(min=0)[:, None])[:, 0]
    return torch.where(of >= 0, chosen, none)


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


# ---------------------------------------------------------------- take


def _take(row: Row, expr: Take) -> list[int]:
    """`take`, in each group of its region by itself."""
    inside = region(row, expr.region)
    key = None if expr.key is None else value(row, expr.key).expand(row.size)
    if key is not None and torch.is_floating_point(key) and key[inside].isnan().any():
        title = "a position is chosen that its call cannot predict"
        raise error("unreadable-position", title, "feed the position before it, or commit it from the earlier call")
    chosen = [i for group in _groups(row, expr, inside) for i in _take_group(row, expr, group, key)]
    return sorted(chosen)


def _groups(row: Row, expr: Take, inside: list[int]) -> list[list[int]]:
    if not expr.per:
        return [inside]
    groups: list[list[int]] = []
    size = int(number(row, expr.per_size)) if expr.per_size is not None else 1
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


def _take_group(row: Row, expr: Take, group: list[int], key: Tensor | None) -> list[int]:
    if key is None:
        order = list(group)
    else:
        order = sorted(group, key=lambda i: -key[i].item() if expr.descending else key[i].item())  # stable
    length = len(order)
    if expr.predicate is not None:
        running = {id(n): _running(row, n, order) for n in walk(expr.predicate) if isinstance(n, Running)}
        holds = value(row, expr.predicate, running).expand(row.size)
        length = next((n for n, i in enumerate(order) if not holds[i]), length)
        _note_bounds(row, expr.predicate, running, order[: length + 1])
    wanted = length
    if expr.atleast is not None:
        length = max(length, int(number(row, expr.atleast)))
    if expr.atmost is not None:
        length = min(length, int(number(row, expr.atmost)))
    length = max(0, min(length, len(order)))
    if key is not None and 0 < length < len(order) and length != wanted:
        row.note(abs(float(key[order[length - 1]]) - float(key[order[length]])))
    return order[:length]


def _running(row: Row, expr: Running, order: list[int]) -> Tensor:
    """`count`, `sum` or `max` over the positions in order up to each position."""
    floating = expr.value is not None and expr.value.type.base == "float"
    out = torch.zeros(row.size, dtype=torch.float32 if floating else torch.int64)
    values = None if expr.value is None else value(row, expr.value).expand(row.size)
    for n, position in enumerate(order):
        if values is None:
            out[position] = n + 1
            continue
        before = out[order[n - 1]] if n else None
        item = values[position]
        out[position] = item if before is None else before + item if expr.kind == "sum" else torch.maximum(before, item)
    return out


def _note_bounds(row: Row, predicate: Expr, running: Sorted, upto: list[int]) -> None:
    for node in walk(predicate):
        if isinstance(node, Op) and node.op in COMPARISONS:
            a, b = (value(row, arg, running).expand(row.size) for arg in node.args)
            for i in upto:
                row.note(abs(float(a[i]) - float(b[i])))
