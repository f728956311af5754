"""Elementwise operations. Operands are brought to one dtype first, as torch promotes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tvm import relax

from dcompile.backends.tvm.values import Kind, Number, Scope, Value, promoted

aten = torch.ops.aten
op = relax.op
Convert = Callable[..., Any]
Operand = Value | Number


def unary(relax_op: Any) -> Convert:
    return lambda at, out, x, *_: relax_op(at.cast(x, out.dtype))


def unary_of_floats(relax_op: Any) -> Convert:
    """For `floor` and its like: integers are their own result."""
    return lambda at, out, x: relax_op(x.expr) if x.dtype.startswith("float") else x.expr


def test(relax_op: Any) -> Convert:
    return lambda at, out, x: relax_op(x.expr)


def binary(relax_op: Any, of_bools: Any = None) -> Convert:
    def convert(at: Scope, out: Kind, a: Operand, b: Operand, *, alpha: Number = 1) -> Any:
        if out.dtype == "bool" and of_bools is not None:
            return of_bools(*at.pair(a, b, "bool"))
        left, right = at.pair(a, b, out.dtype)
        if alpha != 1:
            right = at.emit(op.multiply(right, at.const(alpha, out.dtype)))
        return relax_op(left, right)

    return convert


def reverse(a_then_b: Convert) -> Convert:
    return lambda at, out, a, b, alpha=1: a_then_b(at, out, b, a if alpha == 1 else _scaled(at, out, a, alpha))


def _scaled(at: Scope, out: Kind, x: Value, alpha: Number) -> Value:
    return Value(out.dtype, x.shape, at.emit(op.multiply(at.cast(x, out.dtype), at.const(alpha, out.dtype))))


def compare(relax_op: Any) -> Convert:
    def convert(at: Scope, out: Kind, a: Operand, b: Operand) -> Any:
        dtype = promoted(a, b)
        return relax_op(*at.pair(a, b, "int8" if dtype == "bool" else dtype))

    return convert


def logical(relax_op: Any) -> Convert:
    return lambda at, out, *xs: relax_op(*[at.cast(x, "bool") for x in xs])


def bitwise(relax_op: Any, of_bools: Any) -> Convert:
    def convert(at: Scope, out: Kind, *operands: Operand) -> Any:
        xs = [at.cast(x, out.dtype) for x in operands]
        return of_bools(*xs) if out.dtype == "bool" else relax_op(*xs)

    return convert


def divide(at: Scope, out: Kind, a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Any:
    left, right = at.pair(a, b, out.dtype)
    if rounding_mode is None:
        return op.divide(left, right)
    if rounding_mode == "floor":
        return floor_divide(at, out, a, b)
    if out.dtype.startswith("float"):
        return op.trunc(at.emit(op.divide(left, right)))
    rest = at.emit(op.mod(left, right))
    return op.floor_divide(at.emit(op.subtract(left, rest)), right)


def floor_divide(at: Scope, out: Kind, a: Operand, b: Operand) -> Any:
    left, right = at.pair(a, b, out.dtype)
    if not out.dtype.startswith("float"):
        return op.floor_divide(left, right)
    return op.floor(at.emit(op.divide(left, right)))


def remainder(at: Scope, out: Kind, a: Operand, b: Operand) -> Any:
    """With the sign of the divisor: for floats, the exact remainder of truncation, corrected where the signs differ."""
    left, right = at.pair(a, b, out.dtype)
    if not out.dtype.startswith("float"):
        return op.floor_mod(left, right)
    rest, zero = at.emit(op.mod(left, right)), at.const(0, out.dtype)
    parts = at.emit(op.less(at.emit(op.multiply(rest, right)), zero))
    return op.where(parts, at.emit(op.add(rest, right)), rest)


def power(at: Scope, out: Kind, a: Operand, b: Operand) -> Any:
    """Small whole exponents become products, which are exact for integers."""
    if isinstance(b, int) and 1 <= b <= 4:
        base = result = at.cast(a, out.dtype)
        for _ in range(b - 1):
            result = at.emit(op.multiply(result, base))
        return result
    if b == 0.5:
        return op.sqrt(at.cast(a, out.dtype))
    return op.power(*at.pair(a, b, out.dtype))


def where(at: Scope, out: Kind, test: Value, a: Operand, b: Operand) -> Any:
    return op.where(at.cast(test, "bool"), *at.pair(a, b, out.dtype))


def masked_fill(at: Scope, out: Kind, x: Value, mask: Value, value: Operand) -> Any:
    return op.where(mask.expr, at.cast(value, out.dtype), x.expr)


def clamp(at: Scope, out: Kind, x: Value, low: Operand | None = None, high: Operand | None = None) -> Any:
    expr = at.cast(x, out.dtype)
    if low is not None:
        expr = at.emit(op.maximum(expr, at.cast(low, out.dtype)))
    if high is not None:
        expr = at.emit(op.minimum(expr, at.cast(high, out.dtype)))
    return expr


def cast(at: Scope, out: Kind, x: Value, *_: Any, **__: Any) -> Any:
    return at.cast(x, out.dtype)


def reciprocal(at: Scope, out: Kind, x: Value) -> Any:
    return op.divide(at.const(1, out.dtype), at.cast(x, out.dtype))


def scaled_log(base: float) -> Convert:
    """log2 and log10, from the natural logarithm in double precision so that powers of the base come out whole."""

    def convert(at: Scope, out: Kind, x: Value) -> Any:
        wide = at.emit(op.log(at.cast(x, "float64")))
        return op.astype(at.emit(op.divide(wide, at.const(base, "float64"))), out.dtype)

    return convert


def log1p(at: Scope, out: Kind, x: Value) -> Any:
    wide = at.emit(op.add(at.cast(x, "float64"), at.const(1, "float64")))
    return op.astype(at.emit(op.log(wide)), out.dtype)


def expm1(at: Scope, out: Kind, x: Value) -> Any:
    wide = at.emit(op.exp(at.cast(x, "float64")))
    return op.astype(at.emit(op.subtract(wide, at.const(1, "float64"))), out.dtype)


def gelu(at: Scope, out: Kind, x: Value, *, approximate: str = "none") -> Any:
    return op.nn.gelu(x.expr) if approximate == "none" else op.nn.gelu_tanh(x.expr)


ADD = binary(op.add, op.logical_or)
SUBTRACT = binary(op.subtract)
MULTIPLY = binary(op.multiply, op.logical_and)

TABLE: dict[Any, Convert] = {
    **{
        getattr(aten, n).default: unary(getattr(op, n))
        for n in ["exp", "sqrt", "rsqrt", "sin", "cos", "tan", "tanh", "sigmoid", "erf", "log"]
    },
    **{getattr(aten, n).default: unary(getattr(op, n)) for n in ["abs", "sign", "square"]},
    **{getattr(aten, n).default: unary_of_floats(getattr(op, n)) for n in ["floor", "ceil", "round", "trunc"]},
    **{getattr(aten, n).default: test(getattr(op, n)) for n in ["isnan", "isinf", "isfinite"]},
    aten.neg.default: unary(op.negative),
    aten.relu.default: unary(op.nn.relu),
    aten.silu.default: unary(op.nn.silu),
    aten.gelu.default: gelu,
    aten.reciprocal.default: reciprocal,
    aten.log1p.default: log1p,
    aten.expm1.default: expm1,
    aten.log2.default: scaled_log(0.6931471805599453),
    aten.log10.default: scaled_log(2.302585092994046),
    **dict.fromkeys((aten.add.Tensor, aten.add.Scalar), ADD),
    **dict.fromkeys((aten.sub.Tensor, aten.sub.Scalar), SUBTRACT),
    **dict.fromkeys((aten.mul.Tensor, aten.mul.Scalar), MULTIPLY),
    **{o: reverse(SUBTRACT) for o in (aten.rsub.Tensor, aten.rsub.Scalar)},
    **dict.fromkeys((aten.div.Tensor, aten.div.Scalar, aten.div.Tensor_mode, aten.div.Scalar_mode), divide),
    **dict.fromkeys((aten.floor_divide.default, aten.floor_divide.Scalar), floor_divide),
    **dict.fromkeys((aten.remainder.Tensor, aten.remainder.Scalar, aten.remainder.Scalar_Tensor), remainder),
    **{o: binary(op.mod) for o in (aten.fmod.Tensor, aten.fmod.Scalar)},
    **dict.fromkeys((aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor, aten.pow.Scalar), power),
    aten.minimum.default: binary(op.minimum, op.logical_and),
    aten.maximum.default: binary(op.maximum, op.logical_or),
    **{
        getattr(getattr(aten, n), kind): compare(f)
        for n, f in {
            "eq": op.equal,
            "ne": op.not_equal,
            "lt": op.less,
            "le": op.less_equal,
            "gt": op.greater,
            "ge": op.greater_equal,
        }.items()
        for kind in ("Tensor", "Scalar")
    },
    **{
        getattr(getattr(aten, f"{prefix}{n}{suffix}"), kind): bitwise(
            getattr(op, f"bitwise_{n}"), getattr(op, f"logical_{n}")
        )
        for n in ("and", "or", "xor")
        for prefix, suffix in (("bitwise_", ""), ("__", "__"))
        for kind in ("Tensor", "Scalar")
    },
    aten.bitwise_not.default: bitwise(op.bitwise_not, op.logical_not),
    **{
        getattr(aten, f"logical_{n}").default: logical(getattr(op, f"logical_{n}")) for n in ("and", "or", "xor", "not")
    },
    **{
        getattr(getattr(aten, n), kind): binary(f)
        for n, f in {
            "__lshift__": op.left_shift,
            "bitwise_left_shift": op.left_shift,
            "__rshift__": op.right_shift,
            "bitwise_right_shift": op.right_shift,
        }.items()
        for kind in (("Scalar", "Tensor") if n.startswith("_") else ("Tensor", "Tensor_Scalar"))
    },
    **dict.fromkeys((aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar), where),
    **dict.fromkeys((aten.masked_fill.Scalar, aten.masked_fill.Tensor), masked_fill),
    **dict.fromkeys((aten.clamp.default, aten.clamp.Tensor, aten.clamp_min.default, aten.clamp_min.Tensor), clamp),
    **{
        o: (lambda at, out, x, high: clamp(at, out, x, None, high))
        for o in (aten.clamp_max.default, aten.clamp_max.Tensor)
    },
    **dict.fromkeys((aten.to.dtype, aten._to_copy.default, aten.to.dtype_layout, aten.type_as.default), cast),
    aten.to.other: cast,
}
