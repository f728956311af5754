"""One model call as tensor code: the transformers backbone with our attention over explicit key and value slots.

A cache object handed in as `past_key_values` takes each layer's new keys and values; an attention function registered
with transformers joins them with the slots. So one wrapper gives causal, full, block-causal and tree attention for
every architecture, and the recorder sees keys and values as plain tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

import dcompile.ops  # noqa: F401  (registers dcompile::attend)
from dcompile.models.canvas import CanvasBackbone

NAME = "dcompile"


@dataclass
class Slots:
    """Keys and values of one call. `caches[l]` is layer l's (k, v) [B, G, C, D], or None when nothing cached is read;
    `bias` [B, 1, W, C] for the cached part, `fresh_bias` [B, 1, W, W] for the rows being fed (see ops.attend).
    `earlier`: rows of calls before, by layer, and their bias."""

    caches: Sequence[tuple[Tensor, Tensor]] | None
    bias: Tensor | None
    fresh_bias: Tensor
    fresh: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    earlier: Sequence[tuple[Mapping[int, tuple[Tensor, Tensor]], Tensor]] = ()

    def update(self, key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """What transformers calls with a layer's new keys and values [B, G, W, D]."""
        self.fresh[layer] = (key, value)
        return key, value

    def get_seq_length(self, layer: int = 0) -> int:
        return 0


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None,
    *, slots: Slots, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    assert mask is None, "transformers made a mask of its own"
    layer: Any = module.layer_idx
    parts = [(*pairs[layer], bias) for pairs, bias in slots.earlier]
    parts.append((key, value, slots.fresh_bias))
    if slots.caches is not None:
        assert slots.bias is not None
        parts.insert(0, (*slots.caches[layer], slots.bias))
    keys, values, biases = (list(column) for column in zip(*parts, strict=True))
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    out = torch.ops.dcompile.attend(query, keys, values, biases, scale)
    return out.transpose(1, 2), None


AttentionInterface.register(NAME, _attention)


def call_backbone(
    backbone: nn.Module, ids: Tensor, positions: Tensor, slots: Slots, condition: Tensor | None = None,
    embeds: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Hidden states [B, W, E] behind the last norm for token ids and positions [B, W]; fills `slots.fresh`. `condition`
    [B, W, V] is fed to the decoder of a canvas model; without it its encoder runs. `embeds` [B, W, E]:
    what is fed in place of the ids' embeddings."""
    config: Any = backbone.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        if isinstance(backbone, CanvasBackbone):
            return backbone.traced(ids, positions, slots, condition)
        fed = {"input_ids": ids} if embeds is None else {"inputs_embeds": embeds}
        out = backbone(**fed, position_ids=positions, past_key_values=slots, use_cache=True, slots=slots)
    finally:
        config._attn_implementation = before
    hidden: Tensor = out.last_hidden_state
    return hidden


def named_weights(backbone: nn.Module, head: nn.Module) -> Mapping[str, Tensor]:
    """Parameters and buffers by dotted name; a tied weight keeps the backbone's name."""
    found: dict[str, Tensor] = {}
    for prefix, module in (("model", backbone), ("head", head)):
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            found.setdefault(f"{prefix}.{name}", tensor)
    return found
