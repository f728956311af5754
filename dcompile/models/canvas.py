"""Models of two halves with one set of weights (DiffusionGemma): an encoder stores what is written by causal attention,
a decoder predicts a canvas whose positions see each other and what is stored, and is fed its last prediction besides.

Mixtures of experts run densely in a graph: each expert sees each token, and counts by its weight. A graph has no shape
that depends on data, and a call of a whole canvas reaches most experts anyway.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from dcompile.model import Facts
from dcompile.models.facts import unsupported
from dcompile.models.probe import TOLERANCE, Head, Recorder

class CanvasBackbone(nn.Module):
    """Token ids to hidden states. `forward` runs the library's own layers and is for a cache that joins keys itself;
    `traced` is for graphs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = model.model.encoder.language_model, model.model.decoder
        self.config = self.encoder.config
        module: Any
        for module in self.modules():  # one switch for the attention of all layers
            if hasattr(module, "config") and hasattr(module.config, "layer_types"):
                module.config = self.config
            if hasattr(module, "layer_scalar"):
                module.layer_scalar = torch.clone(module.layer_scalar)  # a weight is no view

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past_key_values: Any,
        condition: Tensor | None = None, use_cache: bool = True,
    ) -> SimpleNamespace:  # fmt: skip
        """Hidden states of the encoder, or, with the probabilities [B, W, V] that it is fed, of the decoder."""

        def layer(module: nn.Module, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
            out: Tensor = module(
                hidden, position_embeddings=rotary, attention_mask=attention_mask, position_ids=position_ids,
                past_key_values=past_key_values,
            )  # fmt: skip
            return out

        return SimpleNamespace(last_hidden_state=self._run(input_ids, position_ids, condition, layer))

    def traced(self, ids: Tensor, positions: Tensor, slots: Any, condition: Tensor | None) -> Tensor:
        """The same, with `slots` (trace.Slots) for a cache; the decoder leaves no keys and values in them."""

        def layer(module: nn.Module, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
            return _layer(module, hidden, rotary, slots, stores=condition is None)

        return self._run(ids, positions, condition, layer)

    def _run(self, ids: Tensor, positions: Tensor, condition: Tensor | None, layer: Any) -> Tensor:
        half = self.encoder if condition is None else self.decoder
        hidden: Tensor = half.embed_tokens(ids)
        if condition is not None:
            soft = torch.matmul(condition, half.embed_tokens.weight) * half.embed_tokens.embed_scale
            hidden = half.self_conditioning(hidden, soft)
        rotary = {kind: half.rotary_emb(hidden, positions, kind) for kind in sorted(set(self.config.layer_types))}
        for kind, module in zip(self.config.layer_types, half.layers, strict=True):
            hidden = layer(module, hidden, rotary[kind])
        out: Tensor = half.norm(hidden)
        return out


def _layer(module: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], slots: Any, stores: bool) -> Tensor:
    seen, _ = module.self_attn(
        hidden_states=module.input_layernorm(hidden), position_embeddings=rotary, attention_mask=None,
        past_key_values=slots if stores else None, slots=slots,
    )  # fmt: skip
    hidden = hidden + module.post_attention_layernorm(seen)
    plain = module.post_feedforward_layernorm_1(module.mlp(module.pre_feedforward_layernorm(hidden)))
    mixed = module.post_feedforward_layernorm_2(_experts(module, hidden))
    out: Tensor = (hidden + module.post_feedforward_layernorm(plain + mixed)) * module.layer_scalar
    return out


def _experts(module: Any, hidden: Tensor) -> Tensor:
    """The mixture [B, W, E] of all experts by the router's weights."""
    router, experts = module.router, module.experts
    flat = hidden.reshape(-1, hidden.shape[-1])
    probs = torch.softmax(router.proj(router.norm(flat) * router.scale * router.scalar_root_size), -1)
    best = torch.ops.dcompile.order(probs)[:, : router.config.top_k_experts]
    chosen = torch.gather(probs, 1, best)
    weight = torch.scatter(torch.zeros_like(probs), 1, best, chosen / chosen.sum(-1, keepdim=True))
    weight = weight * router.per_expert_scale
    tokens = module.pre_feedforward_layernorm_2(flat).unsqueeze(0)
    wide = torch.matmul(tokens, experts.gate_up_proj.transpose(1, 2))
    gate, up = wide[..., : experts.intermediate_dim], wide[..., experts.intermediate_dim :]
    each = torch.matmul(experts.act_fn(gate) * up, experts.down_proj.transpose(1, 2))
    mixed: Tensor = (each * weight.transpose(0, 1).unsqueeze(-1)).sum(0).reshape(hidden.shape)
    return mixed


def split_canvas(whole: nn.Module, facts: Facts) -> tuple[nn.Module, nn.Module]:
    """Backbone and head of a canvas model, found to give the logits of the library's own forward."""
    model: Any = whole
    backbone = CanvasBackbone(model)
    head = Head(model.lm_head, 1.0, model.final_logit_softcapping)
    with torch.no_grad():
        _check(model, backbone, head, facts)
    return backbone, head


def _check(model: Any, backbone: CanvasBackbone, head: nn.Module, facts: Facts) -> None:
    """One token stored and two predicted, without and with a condition."""
    ids, canvas = torch.tensor([[0]]), torch.tensor([[1, 2]])
    logits = torch.linspace(-3, 3, 2 * facts.vocab).reshape(1, 2, facts.vocab)
    for given, probs in ((None, torch.zeros_like(logits)), (logits, torch.softmax(logits, -1))):
        plain = model(input_ids=ids, decoder_input_ids=canvas, self_conditioning_logits=given).logits
        kept = Recorder()
        backbone(ids, torch.zeros(1, 1, 1, 1), torch.tensor([[0]]), kept)
        row = (1, facts.kv_heads, 1, facts.head_dim)
        if kept.shapes != dict.fromkeys(range(facts.layers), (row, row)):
            raise unsupported(facts.family, f"its layers do not keep one K and V of shape {row[1:]} each")
        own = head(backbone(canvas, torch.zeros(1, 1, 2, 3), torch.tensor([[1, 2]]), kept, probs).last_hidden_state)
        if (own - plain).abs().max() > TOLERANCE * plain.abs().max():
            raise unsupported(facts.family, "its logits are not those of the library's own forward")
