"""Matrix products and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from tvm import relax

from dcompile.backends.tvm import kernels
from dcompile.backends.tvm.blocks import by_blocks
from dcompile.backends.tvm.kernels import LANES
from dcompile.backends.tvm.values import Kind, Scope, Value
from dcompile.ops import LINEAR_BLOCKS, block_size

aten = torch.ops.aten
op = relax.op
Convert = Callable[..., Any]


def matmul(at: Scope, out: Kind, a: Value, b: Value) -> Any:
    if a.rank < 2 or b.rank < 2 or out.dtype != "float32":
        return op.matmul(a.expr, b.expr, out_dtype=out.dtype)
    return _product(at, out, a, b, kernels.by_columns, b.shape[-1])


def matmul_transposed(at: Scope, out: Kind, a: Value, b: Value) -> Any:
    """`a @ b.transpose(-1, -2)`, without the transpose."""
    return _product(at, out, a, b, kernels.by_rows, b.shape[-2])


def _product(at: Scope, out: Kind, a: Value, b: Value, kernel: Callable[..., Any], n: int) -> Any:
    """A product as [B, m, k] by B matrices or by one; where the batches differ otherwise, they are spread out."""
    m, k = a.shape[-2:]
    shared = prod(b.shape[:-2]) == 1
    if shared:
        batch, left, right = 1, at.reshape(a.expr, [1, prod(a.shape[:-1]), k]), b.expr
        m = prod(a.shape[:-1])
    else:
        batch = prod(out.shape[:-2])
        left = at.reshape(_spread(at, a, out.shape[:-2]), [batch, m, k])
        right = _spread(at, b, out.shape[:-2])
    right = at.reshape(right, [batch, *b.shape[-2:]])
    result = Kind(out.dtype, (batch, m, n))
    return at.reshape(at.call(kernel(at.vectors, batch, m, n, k), [left, right], result), out.shape)


def _spread(at: Scope, x: Value, batch: tuple[int, ...]) -> Any:
    shape = [*batch, *x.shape[-2:]]
    return x.expr if list(x.shape) == shape else at.emit(op.broadcast_to(x.expr, shape))


def addmm(at: Scope, out: Kind, bias: Value, a: Value, b: Value, *, beta: float = 1, alpha: float = 1) -> Any:
    product = at.emit(matmul(at, out, a, b))
    if alpha != 1:
        product = at.emit(op.multiply(product, at.const(alpha, out.dtype)))
    added = bias.expr if beta == 1 else at.emit(op.multiply(bias.expr, at.const(beta, out.dtype)))
    return op.add(product, added)


def linear(at: Scope, out: Kind, x: Value, weight: Value, bias: Value | None = None) -> Any:
    if out.dtype == "float32":
        product = at.emit(matmul_transposed(at, out, x, weight))
    else:
        product = at.emit(op.matmul(x.expr, at.emit(op.permute_dims(weight.expr)), out_dtype=out.dtype))
    return product if bias is None else op.add(product, bias.expr)


def linear_blocks(
    at: Scope, out: Kind, x: Value, codes: Value, scale: Value, least: Value | None, bits: int, rough: bool
) -> Any:
    """A layer whose matrix is in blocks; what it multiplies with is not rounded."""
    m, n, share = prod(x.shape[:-1]), codes.shape[0], block_size(codes.shape, bits) // LANES
    count, packed = codes.shape[1] * share, bits == 4
    rows = at.reshape(x.expr, [m, count, LANES])
    if packed:  # as the codes lie: the even ones of a block, then the odd ones
        pairs = at.reshape(rows, [m, count, LANES // 2, 2])
        rows = at.reshape(at.emit(op.permute_dims(pairs, [0, 1, 3, 2])), [m, count, LANES])
    kernel = by_blocks(at.vectors, m, n, count, share, packed, least is not None)
    narrow = at.reshape(codes.expr, [n, count, codes.shape[2] // share])
    operands = [rows, narrow, scale.expr, (least or scale).expr]
    return at.reshape(at.call(kernel, operands, Kind("float32", (m, n))), out.shape)


TABLE: dict[Any, Convert] = {
    **dict.fromkeys(
        (aten.matmul.default, aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default), matmul
    ),
    aten.addmm.default: addmm,
    aten.linear.default: linear,
    LINEAR_BLOCKS: linear_blocks,
}
