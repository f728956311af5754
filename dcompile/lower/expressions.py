"""Expressions: a row value is a tensor [B], a value per position is [B, W] on the slots of a frame."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dcompile.lower import dists, ending, externs, modules, nodes, regions, scores, selection, vectors
from dcompile.lower.context import Context, Frame, Nodes
from dcompile.lower.frames import look, places
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
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.true_divide, "neg": torch.neg,
    "floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b,
    "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge, "eq": torch.eq, "ne": torch.ne,
    "and": torch.logical_and, "or": torch.logical_or, "min": torch.minimum, "max": torch.maximum,
    "log": torch.log, "exp": torch.exp, "sqrt": torch.sqrt, "cos": torch.cos, "abs": torch.abs,
    "floor": lambda a: torch.floor(a).to(torch.int64), "ceil": lambda a: torch.ceil(a).to(torch.int64),
    "float": lambda a: a.to(torch.float32), "select": torch.where, "silu": lambda a: a * torch.sigmoid(a),
}  # fmt: skip


VECTORS = (Hidden, Embedding, Logits, Applied, Ranked, Own, AtLast)


def value(ctx: Context, expr: Expr, frame: Frame | None) -> Tensor:
    """The value of an expression; one per position needs the frame to be computed on."""
    with ctx.recorder.at(expr.span):
        if isinstance(expr, VECTORS) or (isinstance(expr, Op) and expr.type.base == "vector"):
            return vectors.value(ctx, expr, frame)
        if not expr.type.each:
            return row_value(ctx, expr, frame)
        assert frame is not None, "a value per position needs a frame"
        return each_value(ctx, expr, frame)


def row_value(ctx: Context, expr: Expr, frame: Frame | None) -> Tensor:
    match expr:
        case Literal(value=v):
            return torch.full((ctx.batch,), v, dtype=DTYPES[expr.type.base])
        case Name(name=name):
            return ctx.values[name]
        case RunInput(name=name):
            return ctx.inputs[name]
        case Ended():
            return ending.ended(ctx)
        case MaskToken():
            assert ctx.model.facts.mask_id is not None, "a model without a mask token is refused before"
            return torch.full((ctx.batch,), ctx.model.facts.mask_id, dtype=torch.int64)
        case Reduce():
            return reduce(ctx, expr)
        case Foreign():
            return externs.foreign(ctx, expr, None)
        case Accepted() | Entry() | TextAt() | Found():
            return nodes.value(ctx, expr, None)
        case Op(op="not", args=(a,)):
            return torch.logical_not(value(ctx, a, frame))
        case Op(op=op, args=args):
            return OPS[op](*[value(ctx, a, frame) for a in args])
    raise AssertionError(f"no row value: {expr}")


def each_value(ctx: Context, expr: Expr, frame: Frame) -> Tensor:
    match expr:
        case Name(name=name) if name in ctx.blocks:
            return regions.block(ctx, name, frame)
        case Name(name=name) if expr.type.wide:
            return dists.look_wide(ctx, name, frame)
        case Name(name=name):
            return look(ctx, ctx.values[name], frame)
        case Literal(value=v):
            return torch.full((ctx.batch, frame.width, ctx.model.facts.vocab), float(v))
        case Divergence():
            return dists.divergence(ctx, expr, frame)
        case OneHot():
            return dists.onehot(ctx, expr, frame)
        case Probabilities(of=of):
            return dists.probabilities(ctx, of, frame)
        case Score(kind="dist"):
            return dists.whole(ctx, expr, frame)
        case Area():
            return regions.area(ctx, expr, frame)
        case NodeFact() | Parent() | Kept() | Chance() | Entry() | TextAt():
            return nodes.value(ctx, expr, frame)
        case Field(name="token") if isinstance(frame, Nodes):
            return vectors.pick(frame.tokens, frame)
        case Field(name="token"):
            return look(ctx, ctx.values["tokens"], frame)
        case Field(name="position"):
            return places(ctx, frame) - ctx.inputs["pad"].reshape(-1, 1)
        case Near():
            return regions.near(ctx, expr, frame)
        case Whole():
            return regions.whole(ctx, expr, frame)
        case Unreadable():
            return regions.unreadable(ctx, expr, frame)
        case Dilate():
            return regions.dilate(ctx, expr, frame)
        case Score():
            return scores.score(ctx, expr, frame)
        case Foreign():
            return externs.foreign(ctx, expr, frame)
        case Learned():
            return modules.learned(ctx, expr, frame)
        case Running():
            return selection.running(ctx, expr, frame)
        case Take():
            return selection.take(ctx, expr, frame)
        case Op(op="not", args=(a,)):
            return torch.logical_not(value(ctx, a, frame)) & regions.live(ctx, frame)
        case Op(op=op, args=args):
            column = _wide_column if expr.type.wide else _column
            return OPS[op](*[column(value(ctx, a, frame), a) for a in args])
    raise AssertionError(f"no value per position: {expr}")


def _column(tensor: Tensor, expr: Expr) -> Tensor:
    return tensor if expr.type.each else tensor.reshape(-1, 1)


def _wide_column(tensor: Tensor, expr: Expr) -> Tensor:
    if expr.type.wide:
        return tensor
    return tensor.unsqueeze(-1) if expr.type.each else tensor.reshape(-1, 1, 1)


def reduce(ctx: Context, expr: Reduce) -> Tensor:
    """Row values over the positions of a region."""
    frame = regions.frame_of(ctx, expr.region)
    inside = regions.inside(ctx, expr.region, frame)
    count = inside.to(torch.int64).sum(1)
    if expr.kind == "count":
        return count
    if expr.kind == "any":
        return count > 0
    assert expr.value is not None
    items = _column(value(ctx, expr.value, frame), expr.value).expand(ctx.batch, frame.width)
    match expr.kind:
        case "all":
            return (inside & ~items).to(torch.int64).sum(1) == 0
        case "sum":
            return torch.where(inside, items, 0).sum(1)
        case "mean":
            return torch.where(inside, items, 0).sum(1) / torch.clamp(count, min=1)
        case "max":
            return torch.where(inside, items.to(torch.float32), -3.0e38).amax(1)
        case "min":
            return torch.where(inside, items.to(torch.float32), 3.0e38).amin(1)
    raise AssertionError(expr.kind)
