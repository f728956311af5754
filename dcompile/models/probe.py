"""A loaded causal LM taken apart into backbone and head, and checked to be what the facts say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from dcompile.model import Facts
from dcompile.models.facts import unsupported

FLOOR = -3.0e38
TOLERANCE = 1e-3  # of the largest logit; two ways to mask must agree to rounding


class Head(nn.Module):
    """An LM head whose logits are scaled (Granite, Cohere) or soft-capped (Gemma 2)."""

    def __init__(self, linear: nn.Module, scale: float, cap: float | None) -> None:
        super().__init__()
        self.linear, self.scale, self.cap = linear, scale, cap

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.linear(hidden) * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


class Recorder:
    """Stands where transformers expects a cache; keeps the shapes that it is shown."""

    def __init__(self) -> None:
        self.shapes: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self.layers: list[SimpleNamespace] = []  # what a decoder that only reads asks a cache for
        self.is_compileable = False

    def update(self, key: Tensor, value: Tensor, layer: int, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        self.shapes[layer] = (tuple(key.shape), tuple(value.shape))
        self.layers.append(SimpleNamespace(keys=key, values=value))
        return key, value

    def get_seq_length(self, layer: int = 0) -> int:
        return 0


def split(model: nn.Module, facts: Facts) -> tuple[nn.Module, nn.Module]:
    """Backbone (ids to hidden states) and head (hidden states to logits) of a transformers causal LM."""
    causal_lm: Any = model
    backbone, linear, config = causal_lm.base_model, causal_lm.get_output_embeddings(), causal_lm.config
    if backbone is model or linear is None:
        raise unsupported(facts.family, "it has no separate LM head")
    cap = getattr(config, "final_logit_softcapping", None)
    divisor, factor = getattr(config, "logits_scaling", None), getattr(config, "logit_scale", None)
    scale = 1.0 / divisor if divisor else float(factor or 1.0)
    if cap is None and scale == 1.0:
        return backbone, linear
    return backbone, Head(linear, scale, cap)


@torch.no_grad()
def check_modules(whole: nn.Module, backbone: nn.Module, head: nn.Module, facts: Facts) -> None:
    """Three tokens through both: the same logits, and one K/V pair of the stated shape a layer."""
    ids = torch.tensor([[0, 1, 2]]).clamp(max=facts.vocab - 1)
    bias = torch.full((3, 3), FLOOR).triu(1)[None, None]
    seen = Recorder()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # three tokens are read faster than threads are woken on a busy machine
    try:
        plain = whole(input_ids=ids, use_cache=False).logits
        out = backbone(
            input_ids=ids, attention_mask=bias, position_ids=torch.arange(3)[None], past_key_values=seen, use_cache=True
        )
        logits = head(out.last_hidden_state)
    except Exception as problem:  # whatever a foreign class raises, the answer is the same
        first = (str(problem) or type(problem).__name__).splitlines()[0]
        raise unsupported(facts.family, f"it does not run with an explicit cache and mask ({first})") from problem
    finally:
        torch.set_num_threads(threads)
    row = (1, facts.kv_heads, 3, facts.head_dim)
    if seen.shapes != dict.fromkeys(range(facts.layers), (row, row)):
        raise unsupported(facts.family, f"its layers do not keep one K and V of shape {row[1:]} each")
    if logits.shape != (1, 3, facts.vocab) or (logits - plain).abs().max() > TOLERANCE * plain.abs().max():
        raise unsupported(facts.family, "its logits are not those of a decoder with a causal mask and a linear head")
