"""Muon (Jordan et al., 2024) for the matrices inside the blocks, in fp32 and shared out over worker processes.

Muon orthogonalises the momentum of every weight matrix by a few Newton-Schulz iterations. On this small model it
needs clearly fewer steps than AdamW. `torch.optim.Muon` iterates in bf16, which is slow on CPUs without bf16 units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import distributed as dist

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Approximate the nearest semi-orthogonal matrix by the quintic Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    x: torch.Tensor = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised. Worker r of n makes the updates of every n-th matrix; sums gather them."""

    def __init__(self, params: Sequence[torch.nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        """Remember the matrices; `lr` is the spectral norm of one update of a square matrix."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.01})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update to every matrix."""
        rank, world = dist.get_rank(), dist.get_world_size()
        for group in self.param_groups:
            updates = [torch.zeros_like(p) for p in group["params"]]
            for i, parameter in enumerate(group["params"]):
                state = self.state[parameter]
                velocity = state.setdefault("velocity", torch.zeros_like(parameter))
                velocity.lerp_(parameter.grad, 1 - group["momentum"])
                if i % world == rank:
                    updates[i] = orthogonalise(parameter.grad.lerp(velocity, group["momentum"]))
            flat = torch.cat([update.reshape(-1) for update in updates])
            dist.all_reduce(flat)
            for parameter, part in zip(group["params"], torch.split(flat, [u.numel() for u in updates]), strict=True):
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(part.view_as(parameter), alpha=-group["lr"] * scale)
