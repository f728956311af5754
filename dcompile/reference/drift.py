"""dLLM-Cache, one row: in each layer only the positions whose values drifted most are computed."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dcompile.models import Model
from dcompile.ops import FLOOR
from dcompile.reference.forward import Feeding, Memory


@torch.no_grad()
def forward(model: Model, memory: Memory, tokens: list[int], fed: list[int], share: float) -> Tensor:
    """Logits [W, V] of the W positions `fed` (ascending): in each layer the `share` of them whose values differ most in
    direction from the stored ones are computed; the others keep what attention and feed-forward last added to them."""
    backbone: Any = model.backbone
    x: Tensor = backbone.embed_tokens(torch.tensor([tokens[i] for i in fed]))
    for number, module in enumerate(backbone.layers):
        attended, forwarded = memory.features.setdefault(
            number, (torch.zeros(len(tokens), x.shape[1]), torch.zeros(len(tokens), x.shape[1]))
        )
        normed = module.input_layernorm(x)
        chosen = _drifted(memory, module, normed, number, fed, share)
        here = [fed[n] for n in chosen]
        feeding = Feeding(memory, sorted(memory.stored - set(here)))
        seen, _ = module.self_attn(
            hidden_states=normed[chosen][None],
            position_embeddings=backbone.rotary_emb(x[None], position_ids=torch.tensor([here])),
            attention_mask=_bias(memory, here),
            past_key_values=feeding,
        )
        key, value = feeding.fresh[number]
        memory.keys[number][:, :, here], memory.values[number][:, :, here] = key, value
        attended[here] = seen[0]
        x = x + attended[fed]
        forwarded[here] = module.mlp(module.post_attention_layernorm(x[chosen]))
        x = x + forwarded[fed]
    if share == 1:
        memory.stored |= set(fed)
    found: Tensor = backbone.norm(x)
    return found


def _drifted(memory: Memory, module: Any, normed: Tensor, number: int, fed: list[int], share: float) -> list[int]:
    """Which of the fed positions are computed, as indices into `fed`, ascending. Drifts are told apart in steps of
    1/1024 of a cosine; of equal ones the first go before."""
    if share == 1:
        return list(range(len(fed)))
    new = module.self_attn.v_proj(normed)
    old = memory.values[number][0][:, fed].transpose(0, 1).reshape(new.shape)
    cosine = (new * old).sum(1) / (new.norm(dim=1) * old.norm(dim=1)).clamp(min=1e-12)
    drift = torch.floor(1024 * (1 - cosine) + 0.5).tolist()
    count = math.ceil(float(torch.tensor(float(len(fed))) * share))
    return sorted(sorted(range(len(fed)), key=lambda n: -drift[n])[:count])


def _bias(memory: Memory, here: list[int]) -> Tensor:
    """All that is stored and all that is computed is attended."""
    return torch.zeros(1, 1, len(here), len(memory.stored - set(here)) + len(here)).clamp(min=FLOOR)
