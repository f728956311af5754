"""Truth values and choices: comparisons, logic, bits, one of two, bounds."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir
import torch

from dcompile.backends.onnx.arithmetic import Handler, Number, promoted
from dcompile.backends.onnx.scope import DTYPES, Scope, Typed

aten = torch.ops.aten

# (a, b) -> whether it holds, compared in the promoted dtype of both.
COMPARISONS: dict[Any, str] = {
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


def _comparison(kind: str) -> Handler:
    def emit(at: Scope, out: Typed, a: Number, b: Number) -> ir.Value:
        common = promoted(a, b)
        if common == torch.bool and kind != "Equal":  # ORT orders numbers only
            common = torch.int32
        return at.op(kind, at.to(a, common), at.to(b, common))

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
    """One of two by a truth value. ORT's Where knows no truth values to choose from: those go by logic."""
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
    **{target: _comparison(kind) for target, kind in COMPARISONS.items()},
    **{target: _logical(kind) for target, kind in LOGICAL.items()},
    **{target: _bitwise(kinds) for target, kinds in BITWISE.items()},
    **dict.fromkeys((aten.ne.Tensor, aten.ne.Scalar), not_equal),
    **dict.fromkeys((aten.bitwise_not.default, aten.logical_not.default), negate),
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
}
