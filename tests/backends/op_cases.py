"""Small functions and their inputs, by name: what the op suite runs on every backend. Any order of results counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import dcompile.ops  # noqa: F401  (defines the operations of our own)
from dcompile.ops import FLOOR

Case = tuple[Callable[..., Any], Sequence[Tensor]]


def floats(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def with_(name: str, *rest: Any) -> Callable[[Tensor], Any]:
    """`torch.name` of a tensor and these constants."""
    return lambda x: getattr(torch, name)(x, *rest)


def ints(*shape: int, low: int = 0, high: int = 100, seed: int = 0) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def bools(*shape: int, seed: int = 0) -> Tensor:
    return floats(*shape, seed=seed) > 0


X, Y, P = floats(3, 4), floats(3, 4, seed=1), floats(3, 4).abs() + 0.1
INTS, J, N = ints(3, 4), ints(3, 4, low=1, high=9, seed=1), ints(3, 4, low=-50, high=50)
B, C = bools(3, 4), bools(3, 4, seed=1)
K = floats(2, 5, 6)
ROW = torch.tensor([4, 1, 4])
TIES = torch.tensor([[1.0, 3.0, 3.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])

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
# ------------------------------------------------------------ folds and orders
CASES |= {
    f"{name}_{kind}": (with_(name, *args), (x,))
    for name in ("sum", "mean", "amax", "amin")
    for kind, x, args in (("last", K, (-1,)), ("keep", K, (1, True)), ("two", K, ([0, 2],)))
}
CASES |= {
    "sum_all": (torch.sum, (X,)),
    "mean_all": (torch.mean, (X,)),
    "sum_bool": (lambda b: b.sum(-1), (B,)),
    "sum_int": (lambda i: i.sum(), (INTS,)),
    "sum_to_float": (lambda b: b.sum(-1, dtype=torch.float32), (B,)),
    "sum_zero_dim": (torch.sum, (torch.tensor(3.0),)),
    "prod": (lambda x: x.prod(-1), (J,)),
    "amax_int": (lambda i: i.amax(-1), (N,)),
    "max_all": (torch.max, (X,)),
    "min_all_int": (torch.min, (N,)),
    "max_dim": (lambda x: torch.max(x, -1), (TIES,)),
    "min_dim": (lambda x: torch.min(x, -1), (TIES,)),
    "max_dim_int": (lambda x: torch.max(x, 1, keepdim=True), (INTS,)),
    "argmax_ties": (lambda x: torch.argmax(x, -1), (TIES,)),
    "argmin_ties": (lambda x: torch.argmin(x, -1), (TIES,)),
    "argmax_keep": (lambda x: torch.argmax(x, 0, keepdim=True), (X,)),
    "argmax_all": (lambda x: torch.argmax(x), (X,)),
    "argmax_int": (lambda x: torch.argmax(x, -1), (N,)),
    "argmax_of_bools": (lambda b: b.to(torch.int64).argmax(-1), (B,)),
    "any_all": (torch.any, (B,)),
    "any_dim": (lambda b: b.any(-1), (B,)),
    "any_keep": (lambda b: b.any(1, keepdim=True), (B,)),
    "any_one": (torch.any, (B[:1, :1],)),
    "all_all": (torch.all, (B,)),
    "all_dim": (lambda b: b.all(0), (B,)),
    "any_int": (lambda i: i.any(-1), (INTS,)),
    "cumsum": (lambda x: x.cumsum(-1), (X,)),
    "cumsum_int": (lambda x: x.cumsum(0), (INTS,)),
    "cumsum_bool": (lambda b: b.cumsum(-1), (B,)),
    "leading_trues": (lambda ok: ((~ok).to(torch.int64).cumsum(-1) == 0).sum(-1), (B,)),
    "softmax": (lambda x: torch.softmax(x, -1), (K,)),
    "softmax_middle": (lambda x: torch.softmax(x, 1), (K,)),
    "softmax_masked_row": (lambda x: torch.softmax(x, -1), (torch.full((2, 5), FLOOR),)),
    "log_softmax": (lambda x: torch.log_softmax(x, -1), (K,)),
    "softmax_dtype": (lambda x: torch.softmax(x, -1, dtype=torch.float64), (K,)),
    "logsumexp": (lambda x: torch.logsumexp(x, -1), (K * 50,)),
    "order": (torch.ops.dcompile.order, (TIES,)),
    "order_long": (torch.ops.dcompile.order, (floats(3, 1000).round(decimals=1),)),
    "order_zeros": (torch.ops.dcompile.order, (torch.tensor([[0.0, -0.0, 0.0, -0.0]]),)),
    "exp_sums": (lambda x: torch.ops.dcompile.exp_sums(x, True), (floats(2, 3, 50),)),
    "exp_sums_wide": (lambda x: torch.ops.dcompile.exp_sums(x, False), (floats(1, 3, 20001),)),
    "exp_sums_weighed_wide": (lambda x: torch.ops.dcompile.exp_sums(x, True), (floats(2, 9000),)),
    "best": (
        lambda x: torch.ops.dcompile.best(x, 3),
        (torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, -5.0, -5.0, -5.0]]),),
    ),
    "best_two": (torch.ops.dcompile.best_two, (torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, -5.0, 4.0, 1.0]]),)),
    "argmax_wide": (lambda x: torch.argmax(x, -1), (floats(2, 3, 16384).round(decimals=1),)),
    "argmax_wide_kept": (lambda x: torch.argmax(x, -1, keepdim=True), (floats(3, 10240).round(),)),
    "order_masked": (torch.ops.dcompile.order, (torch.full((2, 300), FLOOR),)),
    "sort_stable": (lambda x: torch.sort(x, stable=True, dim=-1), (TIES,)),
    "sort_stable_down": (lambda x: torch.sort(x, stable=True, dim=-1, descending=True), (TIES,)),
    "sort_values": (lambda x: torch.sort(x, dim=0).values, (X,)),
    "topk_values": (lambda x: torch.topk(x, 3).values, (X,)),
}
# ------------------------------------------------------------ products
MASK = torch.where(bools(2, 1, 3, 5), 0.0, FLOOR)
PARTS = [floats(2, 2, n, 8, seed=n) for n in (5, 3, 4, 6)]

LONG, LONG_MASK = floats(2, 2, 700, 8, seed=7), torch.where(bools(2, 1, 3, 700), 0.0, FLOOR)  # a cache of many slots


def attend(q: Tensor, *rest: Tensor) -> Tensor:
    n = len(rest) // 3
    return torch.ops.dcompile.attend(q, list(rest[:n]), list(rest[n : 2 * n]), list(rest[2 * n :]), 0.3)


def rms_norm(x: Tensor, w: Tensor) -> Tensor:
    wide = x.to(torch.float32)
    return w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


CASES |= {
    "matmul": (torch.matmul, (X, Y.T.contiguous())),
    "matmul_batched": (torch.matmul, (K, floats(2, 6, 3))),
    "matmul_by_matrix": (torch.matmul, (K, floats(6, 3))),
    "matmul_transposed": (lambda a, b: a @ b.transpose(-1, -2), (K, floats(2, 3, 6))),
    "matmul_left_transposed": (lambda a, b: a.transpose(-1, -2) @ b, (K, floats(2, 5, 3))),
    "matmul_4d": (lambda a, b: a @ b.transpose(2, 3), (floats(2, 3, 4, 8), floats(2, 3, 5, 8))),
    "matmul_int": (torch.matmul, (INTS, J.T.contiguous())),
    "matmul_vector": (torch.matmul, (X, Y[0])),
    "bmm": (torch.bmm, (K, floats(2, 6, 3))),
    "mm_t": (lambda a, w: torch.mm(a, w.t()), (X, floats(7, 4))),
    "addmm": (lambda b, a, w: torch.addmm(b, a, w.t()), (floats(7), X, floats(7, 4))),
    "linear": (functional.linear, (X, floats(7, 4), floats(7))),
    "linear_3d": (functional.linear, (floats(2, 3, 4), floats(7, 4), floats(7))),
    "linear_3d_plain": (functional.linear, (floats(2, 3, 4), floats(7, 4))),
    "rms_norm": (rms_norm, (floats(2, 3, 16), floats(16))),
    "layer_norm": (lambda x, w, b: functional.layer_norm(x, (6,), w, b), (K, floats(6), floats(6, seed=1))),
    "attend": (attend, (floats(2, 4, 3, 8), PARTS[0], PARTS[0] * 2, MASK)),
    "attend_parts": (attend, (floats(2, 4, 3, 8), *PARTS[:2], *(2 * p for p in PARTS[:2]), MASK, MASK[..., :3])),
    "attend_one_query": (attend, (floats(2, 4, 1, 8), *PARTS[:2], *PARTS[:2], MASK[:, :, :1], MASK[:, :, :1, :3])),
    "attend_same_heads": (attend, (floats(2, 2, 3, 8), *PARTS[:2], *PARTS[:2], MASK, MASK[..., :3])),
    "attend_shared_mask": (
        attend,
        (floats(2, 4, 3, 8), *PARTS[:2], *PARTS[:2], MASK[:1, :, :1], MASK[:, :, :1, :3]),
    ),
    "attend_shared_mask_alone": (attend, (floats(2, 4, 3, 8), PARTS[0], PARTS[0], MASK[:1, :, :1])),
    "attend_three_parts": (attend, (floats(2, 4, 3, 8), *PARTS[:3], *PARTS[:3], MASK, MASK[..., :3], MASK[..., :4])),
    "attend_long": (attend, (floats(2, 4, 3, 8), LONG, PARTS[0], LONG * 2, PARTS[0], LONG_MASK, MASK)),
    "attend_long_one_query": (
        attend,
        (floats(2, 4, 1, 8), LONG, PARTS[0], LONG * 2, PARTS[0], LONG_MASK[:, :, :1], MASK[:, :, :1]),
    ),
    "attend_long_many_heads": (
        attend,
        (floats(2, 16, 1, 8), LONG, PARTS[0], LONG * 2, PARTS[0], LONG_MASK[:, :, :1], MASK[:, :, :1]),
    ),
    "attend_masked_row": (attend, (floats(2, 4, 3, 8), PARTS[0], PARTS[0], torch.full_like(MASK, FLOOR))),
    "sdpa": (functional.scaled_dot_product_attention, (floats(2, 2, 3, 8), PARTS[0], PARTS[0])),
    "sdpa_mask": (functional.scaled_dot_product_attention, (floats(2, 2, 3, 8), PARTS[0], PARTS[0], MASK)),
}
# ------------------------------------------------------------ shapes and constants
CASES |= {
    "reshape": (lambda x: x.reshape(2, -1), (X,)),
    "reshape_again": (lambda x: x.reshape(2, 6).reshape(12).reshape(4, 3), (X,)),
    "view_of_expand": (lambda x: (x[:, None].expand(3, 2, 4) + 1).reshape(6, 4), (X,)),
    "expand": (lambda x: x[:, :, None].expand(-1, -1, 5).contiguous(), (X,)),
    "permute": (lambda x: x.permute(2, 0, 1).contiguous(), (K,)),
    "permute_ones": (lambda x: x.permute(0, 2, 1, 3).contiguous(), (floats(2, 1, 5, 6),)),
    "transpose": (lambda x: x.transpose(0, 2) * 1, (K,)),
    "unsqueeze": (lambda x: x.unsqueeze(1) + x.unsqueeze(0), (X,)),
    "squeeze": (lambda x: x.unsqueeze(1).squeeze(1) * 2, (X,)),
    "cat": (lambda a, b: torch.cat([a, b], -1), (X, Y)),
    "cat_promotes": (lambda a, b: torch.cat([a, b], 0), (X, INTS)),
    "cat_bool": (lambda a, b: torch.cat([a, b], 0), (B, C)),
    "stack": (lambda a, b: torch.stack([a, b], 1), (X, Y)),
    "slice": (lambda x: x[:, 1:-1] + x[:, :-2], (K,)),
    "slice_step": (lambda x: x[:, ::2] * 1, (K,)),
    "slice_empty": (lambda x: torch.cat([x[:, 2:2], x], 1), (X,)),
    "select": (lambda x: x[:, -1] + x[:, 0], (K,)),
    "split": (lambda x: torch.split(x, 2, 1), (K,)),
    "split_sizes": (lambda x: torch.split(x, [1, 4], 1), (K,)),
    "chunk": (lambda x: torch.chunk(x, 2, -1), (K,)),
    "unbind": (lambda x: [y * 2 for y in torch.unbind(x, 1)], (X,)),
    "flip": (lambda x: torch.flip(x, [0, 2]), (K,)),
    "roll": (lambda x: torch.roll(x, 2, 1), (K,)),
    "roll_back": (lambda x: torch.roll(x, (-1, 1), (0, 1)), (X,)),
    "shifted": (lambda x: functional.pad(x, (1, 0))[:, :-1] * 1, (INTS,)),
    "pad_bool": (lambda b: functional.pad(b, (2, 1), value=True), (B,)),
    "repeat": (lambda x: x.repeat(2, 1, 2), (X,)),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1), (X,)),
    "tril": (torch.tril, (X,)),
    "triu_bool": (lambda b: torch.triu(b, 1), (B,)),
    "full": (lambda x: torch.full((3, 4), 7) + x, (X,)),
    "zeros_big": (lambda x: torch.zeros(100, 100) + x, (torch.tensor(2.0),)),
    "bool_big": (lambda x: torch.zeros(100, 100, dtype=torch.bool) | x, (torch.tensor(True),)),
    "ones_like": (lambda x: torch.ones_like(x) - x, (INTS,)),
    "full_like": (lambda x: torch.full_like(x, -1) * x, (X,)),
    "new_zeros": (lambda x: x.new_zeros(2, 2) + 1, (X,)),
    "arange": (lambda x: torch.arange(4) + x, (X,)),
    "arange_step": (lambda x: torch.arange(1, 9, 2) + x, (X,)),
    "arange_float": (lambda x: torch.arange(0, 4, dtype=torch.float32) * x, (X,)),
    "scalar_tensor": (lambda x: x + torch.scalar_tensor(1.5), (X,)),
    "to_int": (lambda x: (x * 3).to(torch.int64), (X,)),
    "to_bool": (lambda x: x.to(torch.bool), (ints(3, 4, high=2),)),
    "to_float": (lambda x: x.to(torch.float32), (INTS,)),
    "to_int32": (lambda x: x.to(torch.int32), (INTS,)),
    "type_as": (lambda x, y: x.type_as(y), (INTS, X)),
    "clone": (lambda x: x.clone(), (X,)),
    "result_twice": (lambda x: (x + 1, x, x), (X,)),
}
# ------------------------------------------------------------ indices
CASES |= {
    "gather": (lambda x, i: torch.gather(x, 1, i), (K[0], ints(5, 3, high=6))),
    "gather_bool": (lambda x, i: torch.gather(x, 1, i), (B, ints(3, 6, high=4))),
    "scatter": (lambda x, i, s: x.scatter(1, i, s), (X, torch.tensor([[1, 3], [0, 2], [2, 1]]), Y)),
    "scatter_value": (lambda x, i: x.scatter(1, i, 9.0), (X, torch.tensor([[1], [0], [2]]))),
    "scatter_bool": (lambda x, i: x.scatter(1, i, True), (B, torch.tensor([[1], [0], [2]]))),
    "scatter_4d": (
        lambda x, i, s: x.scatter(2, i, s),
        (
            floats(2, 2, 5, 3),
            torch.tensor([1, 4]).reshape(1, 1, 2, 1).expand(2, 2, 2, 3).contiguous(),
            floats(2, 2, 2, 3),
        ),
    ),
    "scatter_add": (lambda x, i, s: x.scatter_add(1, i, s), (X, ints(3, 4, high=4), Y)),
    "index_select": (lambda x, i: torch.index_select(x, 1, i), (K, torch.tensor([3, 0]))),
    "index_rows": (lambda x, i: x[i], (X, torch.tensor([2, 0, 2]))),
    "index_pairs": (lambda x, b, i: x[b, i], (K, torch.tensor([[0], [1]]), torch.tensor([[3, 1], [0, 4]]))),
    "index_negative": (lambda x, i: x[i], (X, torch.tensor([-1, 0]))),
    "index_middle": (lambda x, i: x[:, i], (K, torch.tensor([[3, 1], [0, 4]]))),
    "index_middle_pair": (lambda x, i, j: x[:, i, j], (K, torch.tensor([3, 1]), torch.tensor([0, 5]))),
    "index_bool_values": (lambda x, i: x[i], (B, torch.tensor([1, 1]))),
    "index_put": (lambda x, i, v: torch.index_put(x, [i], v), (X, torch.tensor([2, 0]), Y[:2])),
    "index_put_pair": (
        lambda x, b, i, v: torch.index_put(x, [b, i], v),
        (K, torch.tensor([[0], [1]]), torch.tensor([[3, 1], [0, 4]]), floats(2, 2, 6)),
    ),
    "index_put_middle": (
        lambda x, i, v: torch.ops.aten.index_put(x, [None, i], v),
        (K, torch.tensor([3, 1]), floats(2, 2, 6)),
    ),
    "index_put_number": (lambda x, i, v: torch.index_put(x, [i], v), (X, torch.tensor([1]), torch.tensor(5.0))),
    "index_put_add": (lambda x, i, v: torch.index_put(x, [i], v, accumulate=True), (X, torch.tensor([1, 1]), Y[:2])),
    "index_copy": (lambda x, i, v: torch.index_copy(x, 1, i, v), (K, torch.tensor([3, 1]), floats(2, 2, 6))),
    "slice_scatter": (lambda x, v: torch.slice_scatter(x, v, 1, 1, 3), (K, floats(2, 2, 6))),
    "slice_scatter_step": (lambda x, v: torch.slice_scatter(x, v, 1, 0, 5, 2), (K, floats(2, 3, 6))),
    "select_scatter": (lambda x, v: torch.select_scatter(x, v, 1, -1), (K, floats(2, 6))),
    "embedding": (functional.embedding, (ints(2, 3, high=5), floats(5, 4))),
    "one_hot": (lambda i: (i[..., None] == torch.arange(5)).to(torch.float32), (ints(2, 3, high=5),)),
    "pairwise_rank": (
        lambda x: (
            (x[:, None, :] > x[:, :, None])
            | ((x[:, None, :] == x[:, :, None]) & (torch.arange(6)[None, None, :] < torch.arange(6)[None, :, None]))
        ).sum(-1),
        (TIES,),
    ),
    "compare_and_sum": (
        lambda x, u: (x.cumsum(-1) <= u).sum(-1),
        (torch.softmax(K[0], -1), P[0].repeat(2)[:5, None] / 9),
    ),
}


# ------------------------------------------------------------ control flow
def count_down(n: Tensor, x: Tensor) -> Any:
    """A loop that hands on a captured value, and one that nothing changes."""
    return torch.ops.higher_order.while_loop(
        lambda n, x, kept, step: (n > 0).any(),
        lambda n, x, kept, step: (n - 1, x + step, kept.clone()),
        (n, x, x * 2),
        (torch.full((4,), 0.5),),
    )


def nested(n: Tensor, x: Tensor) -> Any:
    def turn(i: Tensor, x: Tensor, n: Tensor) -> Any:
        def inner(j: Tensor, y: Tensor, i: Tensor) -> Any:
            return j + 1, torch.cond((j % 2 == 0).all(), lambda y: (y + 1.0,), lambda y: (y * 2.0,), (y,))[0]

        _, x = torch.ops.higher_order.while_loop(
            lambda j, y, i: (j < i).all(), inner, (torch.zeros(1, dtype=torch.int64), x), (i,)
        )
        return i + 1, x

    return torch.ops.higher_order.while_loop(
        lambda i, x, n: (i < n).all(), turn, (torch.zeros(1, dtype=torch.int64), x), (n,)
    )


def exchange(n: Tensor, a: Tensor, b: Tensor) -> Any:
    """Carried values that change places."""
    return torch.ops.higher_order.while_loop(
        lambda n, a, b: n > 0, lambda n, a, b: (n - 1, b.clone(), a.clone()), (n, a, b), ()
    )


CASES |= {
    "while_loop": (count_down, (torch.tensor([3]), X)),
    "while_never": (count_down, (torch.tensor([0]), X)),
    "while_nested": (nested, (torch.tensor([4]), X)),
    "while_exchange": (exchange, (torch.tensor(3), X, Y)),
    "cond": (
        lambda p, x, y: torch.cond(p, lambda a, b: (a + b, a.clone()), lambda a, b: (a - b, b.clone()), (x, y)),
        (torch.tensor(False), X, Y),
    ),
}

# What a tracer may hand over as one operation or as several: these run in both forms.
COMPOSITE = [
    *("silu", "gelu", "pow_2", "clamp_min", "where_number", "masked_fill", "div_floor", "floor_divide_number"),
    *("softmax", "softmax_dtype", "log_softmax", "argmax_all", "any_all", "order", "sort_values", "topk_values"),
    *("matmul_batched", "matmul_by_matrix", "matmul_4d", "matmul_vector", "linear", "linear_3d", "linear_3d_plain"),
    *("layer_norm", "rms_norm", "attend_parts", "sdpa", "sdpa_mask", "reshape", "expand", "chunk", "roll_back"),
    *("shifted", "pad_bool", "repeat_interleave", "unbind", "to_int", "type_as", "embedding", "index_put_middle"),
    *("gather", "scatter_value", "while_loop", "while_nested", "cond"),
]
