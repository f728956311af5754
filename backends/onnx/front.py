"""An operation that only this backend introduces: the front of a cache, as far as it is attended."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("dcompile::front", mutates_args=())
def front(x: Tensor, count: Tensor, axis: int, fill: float) -> Tensor:
    """x with `fill` from place `count` (int64 [1]) on along an axis.

    Only `dcompile::attend` may read the result, as keys and values filled with 0 beside a bias filled with FLOOR:
    leaving those places out changes nothing, and ONNX, whose shapes may vary while it runs, does leave them out.
    """
    places = torch.arange(x.shape[axis]).reshape([-1 if a == axis else 1 for a in range(x.dim())])
    return torch.where(places < count, x, fill)


@front.register_fake
def _(x: Tensor, count: Tensor, axis: int, fill: float) -> Tensor:
    return x.new_empty(x.shape)


FRONT = torch.ops.dcompile.front.default
