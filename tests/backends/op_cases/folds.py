"""Sums, extremes, orders: many numbers to few."""

from __future__ import annotations

import torch

import dcompile.ops  # noqa: F401  (defines the operations of our own)
from dcompile.ops import FLOOR
from tests.backends.op_cases.inputs import INTS, TIES, B, Case, J, K, N, X, floats, with_

FEW = torch.cat([floats(2, 7), torch.full((2, 19993), FLOOR)], 1)  # what top-k leaves of a vocabulary

CASES: dict[str, Case] = {
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
    "exp_sums_odd": (lambda x: torch.ops.dcompile.exp_sums(x, False), (floats(3, 20011),)),  # a prime
    "exp_sums_of_few": (lambda x: torch.ops.dcompile.exp_sums(x, True), (FEW,)),
    "exp_sums_rows": (lambda x: torch.ops.dcompile.exp_sums(x, False), (5 * floats(1, 32, 10240),)),
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
