"""Matrices in blocks: MatMulNBits, whose kernels for codes with a fixed middle are fast and those for others slow.

So an offset of each block, scale · q + least = scale · (q − 8) + (least + 8 · scale), is a product of its own: of the
means of x over blocks with a matrix a thirty-second as wide. Scales lie in the file as float16; ONNX Runtime folds what
is computed from them alone when it loads the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import onnx_ir as ir
import torch

from dcompile import ops
from dcompile.backends.onnx.products import product
from dcompile.backends.onnx.scope import CONTRIB, DTYPES, Scope, Typed, size_of
from dcompile.ops import block_size

FLOAT = torch.float32
NEAR, ROUGH = 0, 4  # accuracy levels: products in float32, or with activations of eight bits


def linear_blocks(
    at: Scope, out: Typed, x: Typed, codes: Typed, scale: Typed, least: Typed | None, bits: int, rough: bool
) -> ir.Value:
    """x [.., K] by a matrix [N, K]. Codes of eight bits have a fast kernel for activations of eight bits only: for
    floats they are the sum of two of four, q − 128 = 16 · (upper − 8) + (lower − 8) + 8."""
    if bits == 8 and not rough:
        return _two_halves(at, x, codes, scale)
    result = _product(at, x, codes.value, _float(at, scale), codes.shape, bits, ROUGH if rough else NEAR)
    if least is None:
        return result
    offset = at.once(("offset", least.value), lambda: _offset(at, scale, least))
    return at.op("Add", result, _of_means(at, x, offset, least.shape))


def _two_halves(at: Scope, x: Typed, codes: Typed, scale: Typed) -> ir.Value:
    def times(factor: int) -> ir.Value:
        floats = _float(at, scale)
        return at.once((factor, scale.value), lambda: at.op("Mul", floats, at.constant(factor, FLOAT)))

    upper, lower = (at.once((n, codes.value), partial(_half, at, codes, n)) for n in ("upper", "lower"))
    shape = (*codes.shape[:2], codes.shape[2] // 2)
    first = _product(at, x, upper, times(16), shape, 4, NEAR)
    second = _product(at, x, lower, _float(at, scale), shape, 4, NEAR)
    return at.op("Add", at.op("Add", first, second), _of_means(at, x, times(8), scale.shape))


def _product(
    at: Scope, x: Typed, codes: ir.Value, scale: ir.Value, shape: tuple[int, ...], bits: int, level: int
) -> ir.Value:
    count, blocks, _ = shape
    size = block_size(shape, bits)
    return at.op(
        "MatMulNBits", x, codes, scale, domain=CONTRIB, name="matmul", K=blocks * size, N=count, bits=bits,
        block_size=size, accuracy_level=level,
    )  # fmt: skip


def _half(at: Scope, codes: Typed, which: str) -> ir.Value:
    """The upper or lower four bits of each code, two a byte."""
    four = at.constant(4, torch.uint8)
    if which == "upper":
        part = at.op("BitShift", codes, four, direction="RIGHT")
    else:
        part = at.op("BitwiseAnd", codes, at.constant(15, torch.uint8))
    even, odd = (at.op("Slice", part, at.ints(n), at.ints(codes.shape[2]), at.ints(2), at.ints(2)) for n in (0, 1))
    return at.op("BitwiseOr", even, at.op("BitShift", odd, four, direction="LEFT"))


def _of_means(at: Scope, x: Typed, matrix: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """The sums of x over blocks by a matrix [N, K/S], S the size of a block."""
    size = x.shape[-1] // shape[1]
    return product(at, _means(at, x, size), Typed(matrix, FLOAT, shape), FLOAT, flip=True, scale=size)


def _means(at: Scope, x: Typed, size: int) -> ir.Value:
    """Means over blocks [.., K/S] of x [.., K], in one node; S times that, the offset's product has."""

    def make() -> ir.Value:
        rows = x.value if x.rank == 3 else at.reshape(x, (1, size_of(x.shape[:-1]), x.shape[-1]))
        means = at.op("AveragePool", rows, kernel_shape=[size], strides=[size])
        return means if x.rank == 3 else at.reshape(means, (*x.shape[:-1], x.shape[-1] // size))

    return at.once(("block means", x.value, size), make)


def _offset(at: Scope, scale: Typed, least: Typed) -> ir.Value:
    return at.op("Add", _float(at, least), at.op("Mul", _float(at, scale), at.constant(8, FLOAT)))


def _float(at: Scope, x: Typed) -> ir.Value:
    return at.once(("float", x.value), lambda: at.op("Cast", x, to=DTYPES[FLOAT]))


def embed_blocks(
    at: Scope, out: Typed, codes: Typed, scale: Typed, least: Typed | None, bits: int, index: Typed
) -> ir.Value:
    """Rows of a matrix, as floats."""
    return at.reshape(rows_of(at, codes, scale, least, bits, index.value), out.shape)


def rows_of(
    at: Scope, codes: Typed, scale: Typed, least: Typed | None, bits: int, index: ir.Value | None = None
) -> ir.Value:
    """Rows of a matrix by an index of any shape, one after another, or all of them: float32 [n, K]."""
    _, blocks, width = codes.shape
    size = block_size(codes.shape, bits)

    def taken(x: Typed) -> ir.Value:
        return x.value if index is None else at.op("Gather", x, index, axis=0)

    def each(x: Typed) -> ir.Value:
        return at.op("Reshape", at.op("Cast", taken(x), to=DTYPES[FLOAT]), at.ints(-1, blocks, 1))

    q = taken(codes)
    if bits == 4:
        low = at.op("BitwiseAnd", q, at.constant(15, torch.uint8))
        high = at.op("BitShift", q, at.constant(4, torch.uint8), direction="RIGHT")
        pair = [at.op("Reshape", half, at.ints(-1, blocks, width, 1)) for half in (low, high)]
        q = at.op("Concat", *pair, axis=-1)
    floats = at.op("Cast", at.op("Reshape", q, at.ints(-1, blocks, size)), to=DTYPES[FLOAT])
    if least is None:
        floats = at.op("Sub", floats, at.constant(2 ** (bits - 1), FLOAT))
    rows = at.op("Mul", floats, each(scale))
    if least is not None:
        rows = at.op("Add", rows, each(least))
    return at.reshape(rows, (-1, blocks * size))


OPS: dict[Any, Callable[..., ir.Value]] = {ops.LINEAR_BLOCKS: linear_blocks, ops.EMBED_BLOCKS: embed_blocks}
