"""One forward of one row: which positions are fed, what they may attend, whose keys and values are kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from dcompile.models import Model
from dcompile.ops import FLOOR
from dcompile.strategy import ModelUse


@dataclass
class Memory:
    """Keys and values [1, G, N, D] of each layer for all N positions of the row, and which of them were ever stored.
    `features`: what each layer's attention and feed-forward [N, E] last added, where calls compute a share of them."""

    keys: list[Tensor]
    values: list[Tensor]
    stored: set[int]
    features: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


def blank(model: Model, size: int) -> Memory:
    """A memory of `size` positions with nothing stored."""
    facts = model.facts
    shape = (1, facts.kv_heads, size, facts.head_dim)
    layers = range(facts.layers)
    return Memory([torch.zeros(shape) for _ in layers], [torch.zeros(shape) for _ in layers], set())


class Feeding:
    """What transformers takes for a cache: shows the old rows and the fresh ones, and remembers the fresh ones."""

    def __init__(self, memory: Memory, old: list[int]) -> None:
        self.memory, self.old = memory, old
        self.fresh: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, key: Tensor, value: Tensor, layer: int, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        self.fresh[layer] = (key, value)
        keys, values = self.memory.keys[layer], self.memory.values[layer]
        return torch.cat([keys[:, :, self.old], key], 2), torch.cat([values[:, :, self.old], value], 2)

    def get_seq_length(self, layer: int = 0) -> int:
        return len(self.old)

    is_compileable = False

    @property
    def layers(self) -> list[SimpleNamespace]:
        """The old rows, for a decoder that only reads."""
        pairs = zip(self.memory.keys, self.memory.values, strict=True)
        return [SimpleNamespace(keys=k[:, :, self.old], values=v[:, :, self.old]) for k, v in pairs]


def sees(use: ModelUse, query: int, key: int, encodes: bool = False) -> bool:
    """Whether position `query` may attend to position `key`; `encodes`: in the encoder of a canvas model."""
    if use.attention == "causal" or encodes:
        return key <= query
    if use.attention == "block_causal":
        assert use.block is not None
        return key // use.block <= query // use.block
    return True


@contextmanager
def _cut(backbone: Any, layers: int) -> Iterator[None]:
    """Inside, the backbone has so many layers (0: all): its lowest and its highest ones."""
    if not layers:
        yield
        return
    whole = backbone.layers
    backbone.layers = nn.ModuleList([whole[0], *whole[len(whole) - layers + 1 :]])
    try:
        yield
    finally:
        backbone.layers = whole


@torch.no_grad()
def forward(
    model: Model, use: ModelUse, memory: Memory, tokens: Sequence[int], fed: Sequence[int], keep: Collection[int],
    condition: Tensor | None = None, embeds: Tensor | None = None, shadow: Sequence[int] = (), layers: int = 0,
) -> Tensor:  # fmt: skip
    """Logits [W + S, V]: the head's, of what `states` gives."""
    return logits_of(model, states(model, use, memory, tokens, fed, keep, condition, embeds, shadow, layers))


@torch.no_grad()
def logits_of(model: Model, hidden: Tensor) -> Tensor:
    """What the head makes of hidden states [W, E]: [W, V]."""
    logits: Tensor = model.head(hidden)
    assert not torch.isnan(logits).any(), "the model returned NaN"
    return logits.float()


@torch.no_grad()
def states(
    model: Model, use: ModelUse, memory: Memory, tokens: Sequence[int], fed: Sequence[int], keep: Collection[int],
    condition: Tensor | None = None, embeds: Tensor | None = None, shadow: Sequence[int] = (), layers: int = 0,
) -> Tensor:  # fmt: skip
    """Hidden states [W + S, E], behind the last norm, of the W positions `fed` (ascending). They attend to each other
    and to every stored position that is not fed, as far as the model's kind of attention lets them; then those in
    `keep` are stored. `condition` [W, V]: the probabilities that a canvas model is fed, zeros where there are none;
    None is a call of its encoder. `embeds` [W, E]: what is fed in place of the tokens' embeddings. `shadow`: S
    positions with a second row, masked, which sees the other shadows and all but its own position; nothing else sees
    it. `layers`: where not 0, only so many run, the lowest and the highest ones."""
    old = sorted(memory.stored - set(fed))
    feeding = Feeding(memory, old)
    encodes = use.attention == "canvas" and condition is None
    bias = [[0.0 if sees(use, q, k, encodes) else FLOOR for k in (*old, *fed)] + [FLOOR] * len(shadow) for q in fed]
    bias += [[FLOOR if k == q else 0.0 for k in (*old, *fed)] + [0.0] * len(shadow) for q in shadow]
    extra: dict[str, Tensor | None] = (
        {} if use.attention != "canvas" else {"condition": None if condition is None else condition[None]}
    )
    if embeds is not None:
        extra["inputs_embeds"] = embeds[None]
    else:
        extra["input_ids"] = torch.tensor([[tokens[i] for i in fed] + [model.facts.mask_id] * len(shadow)])
    if not fed:
        return torch.zeros(0, model.facts.hidden)
    with _cut(model.backbone, layers):
        hidden = model.backbone(
            attention_mask=torch.tensor(bias)[None, None],
            position_ids=torch.tensor([[*fed, *shadow]]),
            past_key_values=feeding,
            use_cache=True,
            **extra,
        ).last_hidden_state
    for row, position in enumerate(fed):
        if position in keep:
            for layer, (key, value) in feeding.fresh.items():
                memory.keys[layer][:, :, position] = key[:, :, row]
                memory.values[layer][:, :, position] = value[:, :, row]
            memory.stored.add(position)
    found: Tensor = hidden[0]
    return found
