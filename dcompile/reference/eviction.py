"""Keyformer, one row: head by head, what each key was attended, and which keys are forgotten."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from dcompile.models import Model
from dcompile.reference.forward import Feeding, Memory
from dcompile.reference.threefry import uniform

NAME = "dcompile_oracle"


@dataclass
class Keys:
    """`scores`: how much each position was attended, by layer and head of keys; `gone`: which are forgotten there."""

    seed: int
    stream: int
    scores: dict[tuple[int, int], dict[int, float]] = field(default_factory=dict)
    gone: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    def noise(self, position: int) -> float:
        return -math.log(-math.log(uniform(self.seed, self.stream, position, 0)))


@dataclass
class _Watched:
    keys: Keys
    positions: list[int]
    fed: list[int]
    heats: list[float]


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None,
    *, watched: _Watched, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Plain causal attention of each head to the keys that it has not forgotten."""
    layer: Any = module.layer_idx
    heads, groups = query.shape[1], key.shape[1]
    noise = torch.tensor([watched.keys.noise(p) for p in watched.positions])
    out = torch.zeros(query.shape[2], heads, query.shape[3])
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    for head in range(heads):
        place = layer, head * groups // heads
        gone = watched.keys.gone.setdefault(place, set())
        scores = watched.keys.scores.setdefault(place, {})
        for row, (at, heat) in enumerate(zip(watched.fed, watched.heats, strict=True)):
            seen = [n for n, p in enumerate(watched.positions) if p <= at and p not in gone]
            logits = key[0, place[1], seen] @ query[0, head, row] * scale
            out[row, head] = torch.softmax(logits, 0) @ value[0, place[1], seen]
            shares = torch.softmax((logits + noise[seen]) / heat, 0)
            for n, share in zip(seen, shares.tolist(), strict=True):
                scores[watched.positions[n]] = scores.get(watched.positions[n], 0.0) + share
    return out[None], None


AttentionInterface.register(NAME, _attention)


@torch.no_grad()
def forward(model: Model, memory: Memory, keys: Keys, tokens: list[int], fed: list[int], heats: list[float]) -> Tensor:
    """Logits [W, V] of the positions `fed`, which are stored; each query's scores are divided by its heat."""
    backbone: Any = model.backbone
    old = sorted(memory.stored - set(fed))
    feeding = Feeding(memory, old)
    before, backbone.config._attn_implementation = backbone.config._attn_implementation, NAME
    try:
        hidden = backbone(
            input_ids=torch.tensor([[tokens[i] for i in fed]]), position_ids=torch.tensor([fed]),
            past_key_values=feeding, use_cache=True, watched=_Watched(keys, [*old, *fed], fed, heats),
        ).last_hidden_state  # fmt: skip
    finally:
        backbone.config._attn_implementation = before
    for layer, (key, value) in feeding.fresh.items():
        memory.keys[layer][:, :, fed], memory.values[layer][:, :, fed] = key, value
    memory.stored |= set(fed)
    found: Tensor = hidden[0]
    return found


def forget(memory: Memory, keys: Keys, many: int, recent: int) -> None:
    """Of the positions before the last `recent` ones, those of most score stay, in each layer for each head."""
    old = [p for p in sorted(memory.stored) if p <= max(memory.stored) - recent]
    for place, scores in keys.scores.items():
        left = [p for p in old if p not in keys.gone[place]]
        ranked = sorted(left, key=lambda p, scores=scores: (-scores.get(p, 0.0), p))  # type: ignore[misc]
        keys.gone[place] |= set(ranked[max(many, 0) :])
