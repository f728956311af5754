"""Matrix products, norms, attention."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

import dcompile.ops  # noqa: F401  (defines the operations of our own)
from dcompile.ops import FLOOR
from tests.backends.op_cases.inputs import INTS, Case, J, K, X, Y, bools, floats

MASK = torch.where(bools(2, 1, 3, 5), 0.0, FLOOR)
PARTS = [floats(2, 2, n, 8, seed=n) for n in (5, 3, 4, 6)]

LONG, LONG_MASK = floats(2, 2, 700, 8, seed=7), torch.where(bools(2, 1, 3, 700), 0.0, FLOOR)  # a cache of many slots


def attend(q: Tensor, *rest: Tensor) -> Tensor:
    n = len(rest) // 3
    return torch.ops.dcompile.attend(q, list(rest[:n]), list(rest[n : 2 * n]), list(rest[2 * n :]), 0.3)


def rms_norm(x: Tensor, w: Tensor) -> Tensor:
    wide = x.to(torch.float32)
    return w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


CASES: dict[str, Case] = {
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
