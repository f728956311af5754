"""One number after another, and pairs of them."""

from __future__ import annotations

import torch
from torch.nn import functional

from dcompile.ops import FLOOR
from tests.backends.op_cases.inputs import INTS, B, C, Case, J, N, P, X, Y, ints, with_

UNARY = [
    "exp",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "sin",
    "cos",
    "tan",
    "tanh",
    "sigmoid",
    "erf",
    "neg",
    "abs",
    "sign",
    "floor",
    "ceil",
    "round",
    "trunc",
    "square",
    "expm1",
]
CASES: dict[str, Case] = {name: (getattr(torch, name), (X if name not in ("sqrt", "rsqrt") else P,)) for name in UNARY}
CASES |= {name: (getattr(torch, name), (P,)) for name in ("log", "log1p", "log2", "log10")}
CASES |= {f"{name}_int": (getattr(torch, name), (N,)) for name in ("exp", "neg", "abs", "sign", "floor", "sigmoid")}
CASES |= {name: (getattr(functional, name), (X,)) for name in ("relu", "silu", "gelu")}
PAIRS = ["add", "sub", "mul", "div", "minimum", "maximum", "eq", "ne", "lt", "le", "gt", "ge", "remainder"]
CASES |= {
    f"{name}_{kind}": (getattr(torch, name), ab)
    for name in PAIRS
    for kind, ab in {
        "float": (X, Y),
        "int": (N, J),
        "mixed": (X, J),
        "row": (X, Y[0]),
        "zero_dim": (INTS, torch.tensor(2.5)),
    }.items()
}
CASES |= {f"{name}_number": (with_(name, 3), (INTS,)) for name in PAIRS if "imum" not in name}
CASES |= {f"{name}_half": (with_(name, 0.5), (INTS,)) for name in PAIRS if "imum" not in name}
CASES |= {f"{name}_bool": (getattr(torch, name), (B, C)) for name in ["add", "mul", "eq", "ne", "lt", "le", "gt", "ge"]}
CASES |= {f"{name}_bool_int": (getattr(torch, name), (B, INTS)) for name in ["add", "mul", "eq"]}
CASES |= {
    f"{name}_{kind}": (getattr(torch, name), ab)
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor")
    for kind, ab in {"int": (INTS, J), "bool": (B, C), "negative": (N, J)}.items()
}
CASES |= {name: (getattr(torch, name), (B, C)) for name in ("logical_and", "logical_or", "logical_xor")}
CASES |= {
    "logical_and_int": (torch.logical_and, (INTS, N)),
    "logical_not": (torch.logical_not, (B,)),
    "logical_not_int": (torch.logical_not, (ints(3, 4, high=2),)),
    "bitwise_not": (torch.bitwise_not, (N,)),
    "invert_bool": (lambda b: ~b, (B,)),
    "and_number": (lambda x: x & 0xFFFFFFFF, (INTS * 2**34 + 5,)),
    "and_tensor_big": (lambda x, m: x & m, (INTS * 2**34 + 5, torch.tensor(0xFFFFFFFF))),
    "shift_left": (lambda x: x << 3, (INTS,)),
    "shift_right": (lambda x: x >> 2, (INTS,)),
    "floor_divide": (lambda a, b: a // b, (INTS * 2**33 + 1, J)),
    "floor_divide_negative": (lambda a, b: a // b, (N, J)),
    "floor_divide_number": (lambda a: a // 512, (INTS * 1000,)),
    "div_floor": (lambda a, b: torch.div(a, b, rounding_mode="floor"), (INTS * 2**40 + 3, J)),
    "div_trunc": (lambda a, b: torch.div(a, b, rounding_mode="trunc"), (N, J)),
    "div_floor_float": (lambda a, b: torch.div(a, b, rounding_mode="floor"), (X, P)),
    "div_trunc_float": (lambda a, b: torch.div(a, b, rounding_mode="trunc"), (X, P)),
    "fmod": (torch.fmod, (X, P)),
    "rotate": (
        lambda x, c, d, m: ((x * c) & m) + x // d,
        (ints(64, high=2**32), torch.tensor(2**13), torch.tensor(2**19), torch.tensor(0xFFFFFFFF)),
    ),
    "uniform": (lambda x: (x // 512) * 2.0**-23 + 2.0**-24, (torch.tensor([0, 1, 512, 2**31, 2**32 - 1]),)),
    "add_alpha": (lambda a, b: torch.add(a, b, alpha=2), (X, Y)),
    "rsub": (lambda a: 1 - a, (X,)),
    "rsub_int": (lambda a: 1 - a, (INTS,)),
    "pow_2": (lambda x: x**2, (X,)),
    "pow_3": (lambda x: x**3, (X,)),
    "pow_int": (lambda x: x**2, (INTS,)),
    "pow_half": (lambda x: x**0.5, (P,)),
    "pow_tensor": (torch.pow, (P, Y)),
    "pow_scalar_base": (lambda x: torch.pow(2.0, x), (X,)),
    "gelu_tanh": (lambda x: functional.gelu(x, approximate="tanh"), (X,)),
    "isnan": (torch.isnan, (torch.tensor([1.0, float("nan"), float("inf")]),)),
    "isinf": (torch.isinf, (torch.tensor([1.0, float("nan"), float("-inf")]),)),
    "float64_log": (lambda x: torch.log(x.to(torch.float64)), (P,)),
    "where": (torch.where, (B, X, Y)),
    "where_int": (torch.where, (B, INTS, J)),
    "where_bool": (torch.where, (B, C, ~C)),
    "where_number": (lambda b, x: torch.where(b, x, -1.0), (B, X)),
    "where_numbers": (lambda b: torch.where(b, 1, 0), (B,)),
    "where_promotes": (torch.where, (B, X, J)),
    "where_broadcast": (torch.where, (B[:, :1], X, Y[0])),
    "masked_fill": (lambda x, b: x.masked_fill(b, FLOOR), (X, B)),
    "masked_fill_int": (lambda x, b: x.masked_fill(b, -1), (INTS, B)),
    "masked_fill_tensor": (lambda x, b, v: x.masked_fill(b, v), (X, B, torch.tensor(2.0))),
    "clamp": (lambda x: torch.clamp(x, -0.5, 0.5), (X,)),
    "clamp_int": (lambda x: torch.clamp(x, max=7), (INTS,)),
    "clamp_min": (lambda x: x.clamp(min=0), (N,)),
    "clamp_tensor": (lambda x, a, b: torch.clamp(x, a, b), (X, Y - 1, Y)),
    "clamp_promotes": (lambda x: torch.clamp(x, 0.5, 20.5), (INTS,)),
}
