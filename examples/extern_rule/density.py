"""A rule that the language cannot say: how much is known around each position (d2Cache's certainty density)."""

import torch
from torch import Tensor


def density(live: Tensor, known: Tensor, width: Tensor) -> Tensor:
    """The share of known positions near each position, near ones counting more: float [positions]."""
    at = torch.arange(live.shape[0]).to(torch.float32)
    apart = (at.reshape(-1, 1) - at.reshape(1, -1)) / width
    near = torch.exp(-0.5 * apart * apart) * live.to(torch.float32).reshape(1, -1)
    return torch.matmul(near, known.to(torch.float32)) / near.sum(1)
