"""A Relax function under construction: values with the dtype and shape that the Program gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tvm import relax

Number = bool | int | float


@dataclass(frozen=True)
class Kind:
    """Dtype (by its NumPy name) and static shape."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Kind:
        return cls(name(tensor.dtype), tuple(tensor.shape))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def torch(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.dtype)
        return found


@dataclass(frozen=True)
class Value(Kind):
    """A Relax expression of a kind."""

    expr: Any


def name(dtype: torch.dtype) -> str:
    """The NumPy name of a torch dtype."""
    return str(dtype).removeprefix("torch.")


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis % rank if rank else 0


class Scope:
    """Where converters emit: a dataflow block of one function. `vectors`: false where C source is made."""

    def __init__(self, builder: Any, vectors: bool = True) -> None:
        self.builder = builder
        self.vectors = vectors

    def emit(self, expr: Any) -> Any:
        return self.builder.emit(expr)

    def const(self, value: Any, dtype: str) -> Any:
        return relax.const(np.asarray(value, dtype), dtype)  # without the dtype, int64 becomes int32

    def cast(self, x: Value | Number, dtype: str) -> Any:
        """An expression of this dtype; numbers become constants, and truth is `!= 0`."""
        if not isinstance(x, Value):
            return self.const(x, dtype)
        if x.dtype == dtype:
            return x.expr
        if dtype == "bool":
            return self.emit(relax.op.not_equal(x.expr, self.const(0, x.dtype)))
        return self.emit(relax.op.astype(x.expr, dtype))

    def pair(self, a: Value | Number, b: Value | Number, dtype: str | None = None) -> tuple[Any, Any]:
        """Two operands in one dtype: the given one, or what torch promotes them to."""
        common = dtype or promoted(a, b)
        return self.cast(a, common), self.cast(b, common)

    def call(self, kernel: Any, operands: Sequence[Any], out: Kind) -> Any:
        """The result of a TIR function; the same function is kept once."""
        place = self.builder.add_func(kernel, "product")
        return self.emit(relax.call_tir(place, list(operands), relax.TensorType(list(out.shape), out.dtype)))

    def reshape(self, expr: Any, shape: Sequence[int]) -> Any:
        return self.emit(relax.op.reshape(expr, list(shape)))

    def slice(self, x: Any, axis: int, start: int, end: int, step: int = 1) -> Any:
        return self.emit(relax.op.strided_slice(x, [axis], [start], [end], [step], assume_inbound=True))


def promoted(*operands: Value | Number) -> str:
    """The dtype that torch computes in, given tensors (of rank 0 or more) and numbers."""
    stand_ins = [torch.empty((1,) * x.rank, dtype=x.torch) if isinstance(x, Value) else x for x in operands]
    dtype = torch.result_type(stand_ins[0], stand_ins[-1])
    if len(stand_ins) == 3:
        dtype = torch.promote_types(
            torch.result_type(stand_ins[0], stand_ins[1]), torch.result_type(stand_ins[0], stand_ins[2])
        )
    return name(dtype)
