"""Shapes, types and constants."""

from __future__ import annotations

import torch
from torch.nn import functional

from tests.backends.op_cases.inputs import INTS, B, C, Case, K, X, Y, floats, ints

CASES: dict[str, Case] = {
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
