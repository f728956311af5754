"""A short tail of keys and values goes into the cache (capture-cache)."""

from __future__ import annotations

import torch
from torch import Tensor


class Merge:
    """Stores a tail's rows in their slots, by one scatter of as many rows as the tail has.

    `row` [B, C] says which tail row each slot holds (-1: none). A tail row that no slot holds writes the same as the
    first that is held, and where there is none, what was in slot 0.
    """

    def __init__(self, row: Tensor, turns: int) -> None:
        holds = row.unsqueeze(1) == torch.arange(turns).reshape(1, -1, 1)  # [B, T, C]
        slots = torch.arange(row.shape[1]).reshape(1, 1, -1)
        slot = torch.where(holds, slots, -1).amax(2)  # [B, T]
        first = (slot >= 0).to(torch.int64).argmax(1, keepdim=True)
        self.turn = torch.where(slot >= 0, torch.arange(turns).reshape(1, -1), first)
        self.slot = torch.gather(slot, 1, self.turn)
        self.any = (self.slot >= 0).reshape(*self.slot.shape[:1], 1, -1, 1)

    def __call__(self, cache: Tensor, tail: Tensor) -> Tensor:
        """The cache [B, G, C, D] with the rows of the tail [B, G, T, D]."""
        spread = (*tail.shape[:2], self.slot.shape[1], tail.shape[3])
        index = torch.clamp(self.slot, min=0).reshape(self.slot.shape[0], 1, -1, 1).expand(spread)
        turn = self.turn.reshape(self.slot.shape[0], 1, -1, 1).expand(spread)
        new = torch.where(self.any, torch.gather(tail, 2, turn), torch.gather(cache, 2, index))
        return torch.scatter(cache, 2, index, new)
