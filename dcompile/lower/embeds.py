"""Mixed embeddings: what a call feeds in place of its tokens' own, from a weight for each token of the vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dcompile.lower.context import Context, Frame
from dcompile.strategy import Call, Expr, Literal, OneHot, Op

LEAST = 1e-30  # a length that something may be divided by


def mixed(ctx: Context, stmt: Call, frame: Frame) -> Tensor | None:
    """The embeddings [B, W, E] that a call feeds, None where they are those of the tokens."""
    if stmt.embeds is None:
        return None
    table, scale = embedding(ctx.model.backbone)
    out = _mix(ctx, stmt.embeds, frame, table)
    if stmt.rescale:
        lengths = torch.sqrt((table * table).sum(1, keepdim=True))
        length = torch.sqrt((out * out).sum(2, keepdim=True))
        out = out * (_mix(ctx, stmt.embeds, frame, lengths) / torch.clamp(length, min=LEAST))
    return out * scale


def embedding(backbone: Any) -> tuple[Tensor, float]:
    """A model's embeddings [V, E] and the number that it scales them by (Gemma)."""
    module = backbone.get_input_embeddings()
    return module.weight, float(getattr(module, "scalar_embed_scale", getattr(module, "embed_scale", 1.0)))


def _mix(ctx: Context, expr: Expr, frame: Frame, table: Tensor) -> Tensor:
    """`expr` [B, W, V] times `table` [V, X]; a look-up where one token alone has a weight."""
    match expr:
        case Literal(value=0):
            return torch.zeros(ctx.batch, frame.width, table.shape[1])
        case OneHot(of=of):
            index = ctx.value(of, frame).reshape(ctx.batch, -1).expand(ctx.batch, frame.width)
            rows = functional.embedding(torch.clamp(index, min=0), table)
            return torch.where((index >= 0).unsqueeze(-1), rows, 0.0)
        case Op(op="neg", args=(a,)):
            return -_mix(ctx, a, frame, table)
        case Op(op="add" | "sub" as op, args=(a, b)) if _mixes(a) and _mixes(b):
            left, right = _mix(ctx, a, frame, table), _mix(ctx, b, frame, table)
            return left + right if op == "add" else left - right
        case Op(op="mul", args=(a, b)) if not (a.type.wide and b.type.wide):
            return _mix(ctx, a if a.type.wide else b, frame, table) * _column(ctx, b if a.type.wide else a, frame)
        case Op(op="div", args=(a, b)) if not b.type.wide:
            return _mix(ctx, a, frame, table) / _column(ctx, b, frame)
        case Op(op="select", args=(condition, a, b)) if _mixes(a) and _mixes(b):
            chosen = _column(ctx, condition, frame)
            return torch.where(chosen, _mix(ctx, a, frame, table), _mix(ctx, b, frame, table))
    return torch.matmul(ctx.value(expr, frame).expand(ctx.batch, frame.width, table.shape[0]), table)


def _mixes(expr: Expr) -> bool:
    """Whether `_mix` reads it: a table, or nothing for all tokens."""
    return expr.type.wide or (isinstance(expr, Literal) and expr.value == 0)


def _column(ctx: Context, expr: Expr, frame: Frame) -> Tensor:
    return ctx.value(expr, frame).reshape(ctx.batch, -1, 1)
