"""Operations on expressions whose values are known before the build are done here, in float32 like at run time."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable

from dcompile.strategy import BOOL, Expr, Literal, Op

Number = int | float | bool

ARITHMETIC: dict[str, Callable[..., Number]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "neg": operator.neg, "abs": abs,
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
    "min": min, "max": max, "floor": math.floor, "ceil": math.ceil, "float": float,
    "log": math.log, "exp": math.exp, "sqrt": math.sqrt, "cos": math.cos,
}  # fmt: skip


def float32(value: float) -> float:
    """The nearest float32; raises OverflowError beyond its range."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def fold(op: Op) -> Expr:
    """The same value, simpler where its arguments are literals."""
    if op.op in ("and", "or", "not", "select"):
        return _logic(op)
    values = [a.value for a in op.args if isinstance(a, Literal)]
    if len(values) < len(op.args) or op.op not in ARITHMETIC:
        return op
    try:
        args = [float32(v) if isinstance(v, float) else v for v in values]
        out = ARITHMETIC[op.op](*args)
        out = float32(float(out)) if op.type.base == "float" else out
    except (ArithmeticError, ValueError):
        return op
    if (isinstance(out, float) and not math.isfinite(out)) or (type(out) is int and abs(out) >= 1 << 62):
        return op
    return Literal(op.type, op.span, out)


def _logic(op: Op) -> Expr:
    """`and`, `or`, `not`, `select` with a row condition that is known; the type must not change by it."""
    first = op.args[0]
    if op.op == "select":
        if isinstance(first, Literal) and first.type == BOOL:
            chosen = op.args[1] if first.value else op.args[2]
            return chosen if chosen.type == op.type else op
        return op
    if op.op == "not":
        return Literal(op.type, op.span, not first.value) if isinstance(first, Literal) else op
    for known, other in ((op.args[0], op.args[1]), (op.args[1], op.args[0])):
        if isinstance(known, Literal):
            chosen = other if bool(known.value) == (op.op == "and") else known
            if chosen.type == op.type:
                return chosen
    return op
