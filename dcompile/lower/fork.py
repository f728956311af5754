"""What branches are to the one model call that they share: rows of a batch, each as often as there are branches."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dcompile.ops import FLOOR
from dcompile.trace import Slots, call_backbone


@dataclass(frozen=True)
class Kept:
    """Keys and values that a call would store for each branch: of the `width` slots from `start` [B * K] on (None: of
    all), where `marks` [B * K, W] says so; and the words that its nodes carry."""

    start: Tensor | None
    width: int
    marks: Tensor
    slots: Slots
    tags: dict[str, str]


@dataclass
class Fork:
    """How the rows of branches [B * K, ...] belong to the `batch` rows that they are branches of, a row's `width`
    branches next to each other; and what their one call leaves: which of them `ran` and how many positions they fed,
    and what is to be `kept` of the one that is accepted."""

    batch: int
    width: int
    ran: tuple[Tensor, Tensor] | None = None
    kept: list[Kept] = field(default_factory=list)

    def spread(self, x: Tensor) -> Tensor:
        """A row's value for each of its branches."""
        shape = x.shape
        return x.unsqueeze(1).expand(shape[0], self.width, *shape[1:]).reshape(shape[0] * self.width, *shape[1:])

    def split(self, x: Tensor) -> Tensor:
        """[B * K, ...] as [B, K, ...]."""
        return x.reshape(self.batch, self.width, *x.shape[1:])

    def pick(self, x: Tensor, best: Tensor) -> Tensor:
        """The values [B, ...] of one branch of each row, by its index [B]."""
        return torch.index_select(x, 0, torch.arange(self.batch) * self.width + best)

    def earlier(self, marks: Tensor) -> Tensor:
        """How many branches of the same row before each one have a mark: int64, like the bool [B * K, C]."""
        counts = self.split(marks.to(torch.int64))
        return (counts.cumsum(1) - counts).reshape(marks.shape)

    def backbone(self, backbone: nn.Module, ids: Tensor, positions: Tensor, slots: Slots) -> Tensor:
        """One forward for all branches. Where a cache is read, a row's branches stand behind each other in one
        sequence and see only themselves, so that nothing is read or copied for each of them."""
        if slots.caches is None:
            return call_backbone(backbone, ids, positions, slots)
        batch, wide = self.batch, self.width * ids.shape[1]
        assert slots.bias is not None
        bias, own = (b.expand(-1, 1, ids.shape[1], b.shape[3]) for b in (slots.bias, slots.fresh_bias))
        joined = Slots(slots.caches, bias.reshape(batch, 1, wide, bias.shape[3]), self._own(own))
        hidden = call_backbone(backbone, ids.reshape(batch, wide), positions.reshape(batch, wide), joined)
        for layer, pair in joined.fresh.items():
            k, v = (self._apart(x) for x in pair)
            slots.fresh[layer] = (k, v)
        return hidden.reshape(*ids.shape, hidden.shape[-1])

    def _own(self, bias: Tensor) -> Tensor:
        """The bias [B * K, 1, W, W] of each branch as that of all of them [B, 1, K * W, K * W]."""
        width = bias.shape[-1]
        wide = self.width * width
        whose = torch.arange(self.width).reshape(-1, 1).expand(self.width, width).reshape(wide)
        mine = (whose.reshape(-1, 1) == whose.reshape(1, -1)).reshape(1, 1, wide, wide)
        repeated = torch.cat([bias.reshape(self.batch, 1, wide, width)] * self.width, 3)
        return torch.where(mine, repeated, FLOOR)

    def _apart(self, x: Tensor) -> Tensor:
        """Keys or values [B, G, K * W, D] of a joined sequence as [B * K, G, W, D]."""
        batch, groups, wide, dim = x.shape
        each = x.reshape(batch, groups, self.width, wide // self.width, dim).transpose(1, 2)
        return each.reshape(batch * self.width, groups, wide // self.width, dim)
