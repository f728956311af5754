"""What the cases of the op suite are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

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
