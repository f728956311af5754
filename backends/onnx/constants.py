"""Tensors that are known when the graph is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from dcompile.backends.onnx.scope import DTYPES, Scope, Typed, size_of

aten = torch.ops.aten

INLINE = 4096  # elements; a larger constant of one value is made when the model runs


def filled(at: Scope, dtype: torch.dtype, shape: Sequence[int], value: float) -> ir.Value:
    if size_of(shape) <= INLINE:
        return at.constant(value, dtype, shape)
    fill = ir.tensor(np.array([value], dtype=DTYPES[dtype].numpy()))
    return at.op("ConstantOfShape", at.ints(*shape), value=fill)


def full(at: Scope, out: Typed, shape: Sequence[int], value: float, *_: Any) -> ir.Value:
    return filled(at, out.dtype, out.shape, value)


def full_of(value: float) -> Callable[..., ir.Value]:
    return lambda at, out, *_: filled(at, out.dtype, out.shape, value)


def new_full(at: Scope, out: Typed, like: Typed, shape: Sequence[int], value: float, *_: Any) -> ir.Value:
    return filled(at, out.dtype, out.shape, value)


def scalar_tensor(at: Scope, out: Typed, value: float, *_: Any) -> ir.Value:
    return at.constant(value, out.dtype)


def arange(at: Scope, out: Typed, *bounds: Any) -> ir.Value:
    """(end), (start, end) or (start, end, step); the rest says dtype and device."""
    numbers = [b for b in bounds if isinstance(b, (int, float)) and not isinstance(b, bool)]
    start, step = (numbers[0] if len(numbers) > 1 else 0), (numbers[2] if len(numbers) > 2 else 1)
    return at.constant(start + step * np.arange(out.shape[0]), out.dtype)


OPS: dict[Any, Callable[..., Any]] = {
    **{target: full_of(0) for target in (aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default)},
    **{target: full_of(0) for target in (aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default)},
    **{target: full_of(1) for target in (aten.ones.default, aten.ones_like.default, aten.new_ones.default)},
    **dict.fromkeys((aten.arange.default, aten.arange.start, aten.arange.start_step), arange),
    aten.full.default: full,
    aten.full_like.default: lambda at, out, like, value, *_: filled(at, out.dtype, out.shape, value),
    aten.new_full.default: new_full,
    aten.scalar_tensor.default: scalar_tensor,
}
