"""Fast-dLLM (Wu et al. 2025) and LLaDA's threshold decoding as their papers have it: plain PyTorch around a model.

`none` feeds the whole canvas in each step and takes probabilities in float64, as the published code does; `dual`
computes keys and values of all positions once a block and feeds the block alone after that, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from planted import MASK, random_model
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, silu

BLOCK, THRESHOLD = 32, 0.9


@dataclass(frozen=True)
class Model:
    """A stock Llama with full attention; `forward` may be compiled."""

    parts: Any
    mask: int
    forward: Callable[..., Tensor]

    @classmethod
    def planted(cls, compiled: bool) -> Model:
        """The model of planted.py."""
        return cls(random_model(), MASK, torch.compile(forward, dynamic=False) if compiled else forward)

    def caches(self, length: int) -> list[tuple[Tensor, Tensor]]:
        """Room for the keys and values of every layer [1, heads, length, width]."""
        c = self.parts.config
        shape = (1, c.num_key_value_heads, length, c.hidden_size // c.num_attention_heads)
        return [(torch.zeros(shape), torch.zeros(shape)) for _ in self.parts.model.layers]


def forward(parts: Any, ids: Tensor, places: Tensor, caches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Logits [1, W, V] of ids [1, W] at places [W]; their keys and values go into the caches, all of which is seen."""
    c, body = parts.config, parts.model
    x = body.embed_tokens(ids)
    cos, sin = body.rotary_emb(x, places[None])
    for layer, (keys, values) in zip(body.layers, caches, strict=True):
        h, at = layer.input_layernorm(x), layer.self_attn
        q, k, v = (_heads(p(h), c.hidden_size // c.num_attention_heads) for p in (at.q_proj, at.k_proj, at.v_proj))
        keys.index_copy_(2, places, _turned(k, cos, sin))
        values.index_copy_(2, places, v)
        seen = scaled_dot_product_attention(_turned(q, cos, sin), keys, values, enable_gqa=True)
        x = x + at.o_proj(seen.transpose(1, 2).flatten(2))
        h = layer.post_attention_layernorm(x)
        x = x + layer.mlp.down_proj(silu(layer.mlp.gate_proj(h)) * layer.mlp.up_proj(h))
    return parts.lm_head(body.norm(x))


def _heads(x: Tensor, width: int) -> Tensor:
    return x.unflatten(2, (-1, width)).transpose(1, 2)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos[:, None] + torch.cat((-second, first), -1) * sin[:, None]


@torch.no_grad()
def none(model: Model, prompt: list[int], count: int) -> tuple[list[int], int]:
    """The whole canvas in each step."""
    canvas, everything, caches, calls = *_start(model, prompt, count), 0
    for start in range(len(prompt), len(prompt) + count, BLOCK):
        block = slice(start, min(start + BLOCK, len(prompt) + count))
        while bool((canvas[0, block] == model.mask).any()):
            logits = model.forward(model.parts, canvas, everything, caches)
            _commit(canvas, block, logits[0, block].double(), model.mask)
            calls += 1
    return canvas[0, len(prompt) :].tolist(), calls


@torch.no_grad()
def dual(model: Model, prompt: list[int], count: int) -> tuple[list[int], int]:
    """The whole canvas once a block, then the block alone."""
    canvas, everything, caches, calls = *_start(model, prompt, count), 0
    for start in range(len(prompt), len(prompt) + count, BLOCK):
        block = slice(start, min(start + BLOCK, len(prompt) + count))
        logits = model.forward(model.parts, canvas, everything, caches)[0, block]
        _commit(canvas, block, logits, model.mask)
        calls += 1
        while bool((canvas[0, block] == model.mask).any()):
            logits = model.forward(model.parts, canvas[:, block], everything[block], caches)[0]
            _commit(canvas, block, logits, model.mask)
            calls += 1
    return canvas[0, len(prompt) :].tolist(), calls


def _start(model: Model, prompt: list[int], count: int) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    canvas = torch.tensor([[*prompt, *[model.mask] * count]])
    return canvas, torch.arange(canvas.shape[1]), model.caches(canvas.shape[1])


def _commit(canvas: Tensor, block: slice, logits: Tensor, mask: int) -> None:
    """Commit the masked positions whose best token is sure enough, or the surest one. logits [W, V] of the block."""
    prob, token = torch.softmax(logits, -1).max(-1)
    masked = canvas[0, block] == mask
    prob = torch.where(masked, prob, -1.0)
    chosen = prob >= THRESHOLD
    chosen[prob.argmax()] = True
    canvas[0, block] = torch.where(chosen & masked, token, canvas[0, block])


LOOPS = {"none": none, "dual": dual}
