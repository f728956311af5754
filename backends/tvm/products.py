"""Matrix products and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tvm import relax

from dcompile.backends.tvm.values import Kind, Scope, Value

aten = torch.ops.aten
op = relax.op
Convert = Callable[..., Any]


def matmul(at: Scope, out: Kind, a: Value, b: Value) -> Any:
    return op.matmul(a.expr, b.expr, out_dtype=out.dtype)


def addmm(at: Scope, out: Kind, bias: Value, a: Value, b: Value, *, beta: float = 1, alpha: float = 1) -> Any:
    product = at.emit(op.matmul(a.expr, b.expr, out_dtype=out.dtype))
    if alpha != 1:
        product = at.emit(op.multiply(product, at.const(alpha, out.dtype)))
    added = bias.expr if beta == 1 else at.emit(op.multiply(bias.expr, at.const(beta, out.dtype)))
    return op.add(product, added)


def linear(at: Scope, out: Kind, x: Value, weight: Value, bias: Value | None = None) -> Any:
    product = at.emit(op.matmul(x.expr, at.emit(op.permute_dims(weight.expr)), out_dtype=out.dtype))
    return product if bias is None else op.add(product, bias.expr)


TABLE: dict[Any, Convert] = {
    **dict.fromkeys(
        (aten.matmul.default, aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default), matmul
    ),
    aten.addmm.default: addmm,
    aten.linear.default: linear,
}
