"""Element by element: one ONNX node where types allow it, with ATen's type promotion in front of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch

from dcompile.backends.onnx.scope import DTYPES, Scope, Typed

aten = torch.ops.aten

Handler = Callable[..., ir.Value]
Number = Typed | float

# x -> f(x), computed in the result's dtype (integers become floats first, as in ATen).
UNARY: dict[Any, str] = {
    aten.exp.default: "Exp",
    aten.log.default: "Log",
    aten.sqrt.default: "Sqrt",
    aten.reciprocal.default: "Reciprocal",
    aten.sin.default: "Sin",
    aten.cos.default: "Cos",
    aten.tan.default: "Tan",
    aten.tanh.default: "Tanh",
    aten.sigmoid.default: "Sigmoid",
    aten.erf.default: "Erf",
    aten.neg.default: "Neg",
    aten.abs.default: "Abs",
    aten.sign.default: "Sign",
    aten.sgn.default: "Sign",
    aten.relu.default: "Relu",
}

# The same for integers as doing nothing.
ROUNDING: dict[Any, str] = {
    aten.floor.default: "Floor",
    aten.ceil.default: "Ceil",
    aten.round.default: "Round",
}

# (a, b) -> f(a, b), computed in the promoted dtype of both.
BINARY: dict[Any, str] = {
    aten.mul.Tensor: "Mul",
    aten.mul.Scalar: "Mul",
    aten.minimum.default: "Min",
    aten.maximum.default: "Max",
    aten.pow.Tensor_Tensor: "Pow",
    aten.pow.Scalar: "Pow",
}


def promoted(a: Number, b: Number) -> torch.dtype:
    """ATen's common dtype: tensors outrank zero-dimensional tensors, and those outrank numbers."""
    left, right = (torch.empty((1,) * min(x.rank, 1), dtype=x.dtype) if isinstance(x, Typed) else x for x in (a, b))
    return torch.result_type(left, right)


def _cast(at: Scope, value: ir.Value, have: torch.dtype, want: torch.dtype) -> ir.Value:
    return value if have == want else at.op("Cast", value, to=DTYPES[want])


def _unary(kind: str) -> Handler:
    return lambda at, out, x: at.op(kind, at.to(x, out.dtype))


def _rounding(kind: str) -> Handler:
    return lambda at, out, x: at.op(kind, x) if x.dtype.is_floating_point else x.value


def _binary(kind: str) -> Handler:
    def emit(at: Scope, out: Typed, a: Number, b: Number) -> ir.Value:
        """In int32 for truth values: ORT computes with numbers only."""
        common = promoted(a, b)
        number = torch.int32 if common == torch.bool else common
        return _cast(at, at.op(kind, at.to(a, number), at.to(b, number)), number, out.dtype)

    return emit


def add(at: Scope, out: Typed, a: Number, b: Number, alpha: float = 1) -> ir.Value:
    return _linear(at, "Add", "Or", out, a, b, alpha)


def sub(at: Scope, out: Typed, a: Number, b: Number, alpha: float = 1) -> ir.Value:
    return _linear(at, "Sub", "Xor", out, a, b, alpha)


def rsub(at: Scope, out: Typed, a: Number, b: Number, alpha: float = 1) -> ir.Value:
    return _linear(at, "Sub", "Xor", out, b, a, 1) if alpha == 1 else sub(at, out, b, _times(at, out, a, alpha))


def _linear(at: Scope, kind: str, on_bools: str, out: Typed, a: Number, b: Number, alpha: float) -> ir.Value:
    if out.dtype == torch.bool:
        return at.op(on_bools, at.to(a, torch.bool), at.to(b, torch.bool))
    right = at.to(b, out.dtype) if alpha == 1 else _times(at, out, b, alpha).value
    return at.op(kind, at.to(a, out.dtype), right)


def _times(at: Scope, out: Typed, x: Number, factor: float) -> Typed:
    value = at.op("Mul", at.to(x, out.dtype), at.constant(factor, out.dtype))
    return Typed(value, out.dtype, x.shape if isinstance(x, Typed) else ())


def divide(at: Scope, out: Typed, a: Number, b: Number, rounding_mode: str | None = None) -> ir.Value:
    """True, truncating or flooring division. Integers stay integers: through floats they would lose bits."""
    if rounding_mode is None or out.dtype.is_floating_point:
        quotient = at.op("Div", at.to(a, out.dtype), at.to(b, out.dtype))
        if rounding_mode is None:
            return quotient
        if rounding_mode == "floor":
            return at.op("Floor", quotient)
        return at.op("Mul", at.op("Sign", quotient), at.op("Floor", at.op("Abs", quotient)))
    top, bottom = at.to(a, out.dtype), at.to(b, out.dtype)
    if rounding_mode == "floor":  # what is left after the remainder divides exactly
        top = at.op("Sub", top, at.op("Mod", top, bottom))
    return at.op("Div", top, bottom)


def floor_divide(at: Scope, out: Typed, a: Number, b: Number) -> ir.Value:
    return divide(at, out, a, b, "floor")


def remainder(at: Scope, out: Typed, a: Number, b: Number) -> ir.Value:
    """The remainder with the sign of the divisor."""
    left, right = at.to(a, out.dtype), at.to(b, out.dtype)
    if not out.dtype.is_floating_point:
        return at.op("Mod", left, right)
    whole = at.op("Floor", at.op("Div", left, right))
    return at.op("Sub", left, at.op("Mul", whole, right))


def fmod(at: Scope, out: Typed, a: Number, b: Number) -> ir.Value:
    return at.op("Mod", at.to(a, out.dtype), at.to(b, out.dtype), fmod=1)


def power(at: Scope, out: Typed, x: Typed, exponent: float) -> ir.Value:
    base = at.to(x, out.dtype)
    if exponent == 2:
        return at.op("Mul", base, base)
    if exponent == 0.5:
        return at.op("Sqrt", base)
    return at.op("Pow", base, at.constant(exponent, out.dtype))


def rsqrt(at: Scope, out: Typed, x: Typed) -> ir.Value:
    return at.op("Reciprocal", at.op("Sqrt", at.to(x, out.dtype)))


def silu(at: Scope, out: Typed, x: Typed) -> ir.Value:
    return at.op("Mul", x, at.op("Sigmoid", x))


def gelu(at: Scope, out: Typed, x: Typed, approximate: str = "none") -> ir.Value:
    return at.op("Gelu", x, approximate=approximate)


def expm1(at: Scope, out: Typed, x: Typed) -> ir.Value:
    return at.op("Sub", at.op("Exp", at.to(x, out.dtype)), at.constant(1, out.dtype))


def log_of(factor: float, shift: float = 0.0) -> Handler:
    """log(x + shift) · factor."""

    def emit(at: Scope, out: Typed, x: Typed) -> ir.Value:
        value = at.to(x, out.dtype)
        if shift:
            value = at.op("Add", value, at.constant(shift, out.dtype))
        value = at.op("Log", value)
        return value if factor == 1 else at.op("Mul", value, at.constant(factor, out.dtype))

    return emit


OPS: dict[Any, Handler] = {
    **{target: _unary(kind) for target, kind in UNARY.items()},
    **{target: _rounding(kind) for target, kind in ROUNDING.items()},
    **{target: _binary(kind) for target, kind in BINARY.items()},
    **dict.fromkeys((aten.add.Tensor, aten.add.Scalar), add),
    **dict.fromkeys((aten.sub.Tensor, aten.sub.Scalar), sub),
    **dict.fromkeys((aten.rsub.Tensor, aten.rsub.Scalar), rsub),
    **dict.fromkeys((aten.div.Tensor, aten.div.Scalar), divide),
    **dict.fromkeys((aten.div.Tensor_mode, aten.div.Scalar_mode), divide),
    **dict.fromkeys((aten.floor_divide.default, aten.floor_divide.Scalar), floor_divide),
    **dict.fromkeys((aten.remainder.Tensor, aten.remainder.Scalar, aten.remainder.Scalar_Tensor), remainder),
    **dict.fromkeys((aten.fmod.Tensor, aten.fmod.Scalar), fmod),
    aten.pow.Tensor_Scalar: power,
    aten.square.default: lambda at, out, x: power(at, out, x, 2),
    aten.trunc.default: lambda at, out, x: divide(at, out, x, 1, "trunc"),
    aten.rsqrt.default: rsqrt,
    aten.silu.default: silu,
    aten.gelu.default: gelu,
    aten.expm1.default: expm1,
    aten.log1p.default: log_of(1, shift=1),
    aten.log2.default: log_of(1 / math.log(2)),
    aten.log10.default: log_of(1 / math.log(10)),
}
