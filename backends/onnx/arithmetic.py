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
    aten.eq.Tensor: "Equal",
    aten.eq.Scalar: "Equal",
    aten.lt.Tensor: "Less",
    aten.lt.Scalar: "Less",
    aten.le.Tensor: "LessOrEqual",
    aten.le.Scalar: "LessOrEqual",
    aten.gt.Tensor: "Greater",
    aten.gt.Scalar: "Greater",
    aten.ge.Tensor: "GreaterOrEqual",
    aten.ge.Scalar: "GreaterOrEqual",
}

LOGICAL: dict[Any, str] = {
    aten.logical_and.default: "And",
    aten.logical_or.default: "Or",
    aten.logical_xor.default: "Xor",
}

# On truth values the logical operation, on integers the bitwise one.
BITWISE: dict[Any, tuple[str, str]] = {
    aten.bitwise_and.Tensor: ("And", "BitwiseAnd"),
    aten.bitwise_and.Scalar: ("And", "BitwiseAnd"),
    aten.__and__.Tensor: ("And", "BitwiseAnd"),
    aten.__and__.Scalar: ("And", "BitwiseAnd"),
    aten.bitwise_or.Tensor: ("Or", "BitwiseOr"),
    aten.bitwise_or.Scalar: ("Or", "BitwiseOr"),
    aten.__or__.Tensor: ("Or", "BitwiseOr"),
    aten.__or__.Scalar: ("Or", "BitwiseOr"),
    aten.bitwise_xor.Tensor: ("Xor", "BitwiseXor"),
    aten.bitwise_xor.Scalar: ("Xor", "BitwiseXor"),
    aten.__xor__.Tensor: ("Xor", "BitwiseXor"),
    aten.__xor__.Scalar: ("Xor", "BitwiseXor"),
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
        common = promoted(a, b)
        if common == torch.bool and kind != "Equal":  # ORT orders and multiplies numbers only
            have = torch.bool if out.dtype == torch.bool and kind not in ("Mul", "Min", "Max") else torch.int32
            return _cast(at, at.op(kind, at.to(a, torch.int32), at.to(b, torch.int32)), have, out.dtype)
        value = at.op(kind, at.to(a, common), at.to(b, common))
        return value if out.dtype == torch.bool else _cast(at, value, common, out.dtype)

    return emit


def _logical(kind: str) -> Handler:
    return lambda at, out, a, b: at.op(kind, at.to(a, torch.bool), at.to(b, torch.bool))


def _bitwise(kinds: tuple[str, str]) -> Handler:
    return lambda at, out, a, b: at.op(kinds[out.dtype != torch.bool], at.to(a, out.dtype), at.to(b, out.dtype))


def not_equal(at: Scope, out: Typed, a: Number, b: Number) -> ir.Value:
    common = promoted(a, b)
    return at.op("Not", at.op("Equal", at.to(a, common), at.to(b, common)))


def negate(at: Scope, out: Typed, x: Typed) -> ir.Value:
    if out.dtype == torch.bool:
        return at.op("Not", at.to(x, torch.bool))
    return at.op("BitwiseNot", x)


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


def shift(direction: str) -> Handler:
    """Shifts of integers taken as non-negative (ONNX shifts unsigned numbers only)."""

    def emit(at: Scope, out: Typed, a: Number, b: Number) -> ir.Value:
        unsigned = ir.DataType.UINT64
        left, right = (at.op("Cast", at.to(x, torch.int64), to=unsigned) for x in (a, b))
        return at.op("Cast", at.op("BitShift", left, right, direction=direction), to=DTYPES[out.dtype])

    return emit


def isnan(at: Scope, out: Typed, x: Typed) -> ir.Value:
    if not x.dtype.is_floating_point:
        return at.constant(False, torch.bool, out.shape)
    return at.op("IsNaN", x)


def isinf(at: Scope, out: Typed, x: Typed) -> ir.Value:
    if not x.dtype.is_floating_point:
        return at.constant(False, torch.bool, out.shape)
    return at.op("IsInf", x)


def where(at: Scope, out: Typed, condition: Typed, a: Number, b: Number) -> ir.Value:
    """One of two by a truth value; of truth values themselves ORT's Where knows nothing, so those pass as bytes."""
    test = at.to(condition, torch.bool)
    if out.dtype == torch.bool:
        yes, no = at.to(a, torch.bool), at.to(b, torch.bool)
        return at.op("Or", at.op("And", test, yes), at.op("And", at.op("Not", test), no))
    return at.op("Where", test, at.to(a, out.dtype), at.to(b, out.dtype))


def masked_fill(at: Scope, out: Typed, x: Typed, mask: Typed, value: Number) -> ir.Value:
    return where(at, out, mask, value, x)


def clamp(at: Scope, out: Typed, x: Typed, low: Number | None = None, high: Number | None = None) -> ir.Value:
    value = at.to(x, out.dtype)
    if isinstance(low, Typed) or isinstance(high, Typed):
        value = value if low is None else at.op("Max", value, at.to(low, out.dtype))
        return value if high is None else at.op("Min", value, at.to(high, out.dtype))
    bounds = [None if b is None or math.isinf(b) else at.constant(b, out.dtype) for b in (low, high)]
    return at.op("Clip", value, *bounds)


def clamp_max(at: Scope, out: Typed, x: Typed, high: Number) -> ir.Value:
    return clamp(at, out, x, None, high)


OPS: dict[Any, Handler] = {
    **{target: _unary(kind) for target, kind in UNARY.items()},
    **{target: _rounding(kind) for target, kind in ROUNDING.items()},
    **{target: _binary(kind) for target, kind in BINARY.items()},
    **{target: _logical(kind) for target, kind in LOGICAL.items()},
    **{target: _bitwise(kinds) for target, kinds in BITWISE.items()},
    **dict.fromkeys((aten.ne.Tensor, aten.ne.Scalar), not_equal),
    **dict.fromkeys((aten.bitwise_not.default, aten.logical_not.default), negate),
    **dict.fromkeys((aten.add.Tensor, aten.add.Scalar), add),
    **dict.fromkeys((aten.sub.Tensor, aten.sub.Scalar), sub),
    **dict.fromkeys((aten.rsub.Tensor, aten.rsub.Scalar), rsub),
    **dict.fromkeys((aten.div.Tensor, aten.div.Scalar), divide),
    **dict.fromkeys((aten.div.Tensor_mode, aten.div.Scalar_mode), divide),
    **dict.fromkeys((aten.floor_divide.default, aten.floor_divide.Scalar), floor_divide),
    **dict.fromkeys((aten.remainder.Tensor, aten.remainder.Scalar, aten.remainder.Scalar_Tensor), remainder),
    **dict.fromkeys((aten.fmod.Tensor, aten.fmod.Scalar), fmod),
    **dict.fromkeys((aten.isnan.default,), isnan),
    **dict.fromkeys((aten.isinf.default,), isinf),
    **dict.fromkeys((aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar), where),
    **dict.fromkeys((aten.masked_fill.Scalar, aten.masked_fill.Tensor), masked_fill),
    **dict.fromkeys((aten.clamp.default, aten.clamp.Tensor), clamp),
    **dict.fromkeys((aten.clamp_min.default, aten.clamp_min.Tensor), clamp),
    **dict.fromkeys((aten.clamp_max.default, aten.clamp_max.Tensor), clamp_max),
    **{target: shift("LEFT") for target in (aten.bitwise_left_shift.Tensor, aten.bitwise_left_shift.Tensor_Scalar)},
    **{target: shift("RIGHT") for target in (aten.bitwise_right_shift.Tensor, aten.bitwise_right_shift.Tensor_Scalar)},
    **{target: shift("LEFT") for target in (aten.__lshift__.Tensor, aten.__lshift__.Scalar)},
    **{target: shift("RIGHT") for target in (aten.__rshift__.Tensor, aten.__rshift__.Scalar)},
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
