"""Models that predict in any order (XLNet): a position is predicted from those before it in an order that a call gives.

Two rows a position: one holds its token and is seen by what comes later, one asks what stands there and is seen by none
(Yang et al. 2019, two streams). There are no keys and values to store: another order sees others.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from dcompile.model import Facts
from dcompile.models.facts import unsupported
from dcompile.models.probe import TOLERANCE
from dcompile.ops import FLOOR


class PermutedBackbone(nn.Module):
    """Token ids and who sees whom to hidden states. `forward` is the library's own; `traced` is for graphs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.transformer, self.config = model.transformer, model.config

    def forward(self, input_ids: Tensor, sees: Tensor) -> SimpleNamespace:
        """Hidden states [B, N, E] of what is asked at each position; `sees` bool [B, N, N]: which tokens it may read."""
        batch, size = input_ids.shape
        mapping = torch.eye(size).expand(batch, size, size)
        out = self.transformer(input_ids, perm_mask=(~sees).float(), target_mapping=mapping, use_mems=False)
        return SimpleNamespace(last_hidden_state=out.last_hidden_state)

    def traced(self, ids: Tensor, sees: Tensor) -> Tensor:
        """The same, in operations that graphs may have. The rows that hold tokens stand before those that ask."""
        batch, size = ids.shape
        model: Any = self.transformer
        own = torch.arange(size).reshape(-1, 1) == torch.arange(size).reshape(1, -1)
        bias = torch.where(torch.cat([sees | own, sees], 1).unsqueeze(1), 0.0, FLOOR)
        asked = model.mask_emb.reshape(1, 1, -1).expand(batch, size, model.d_model)
        x = torch.cat([model.word_embedding(ids), asked], 1)
        distances = _distances(size, model.d_model)
        for layer in model.layer:
            x = _attended(layer.rel_attn, x, size, distances, bias)
            ff = layer.ff
            x = _normed(ff.layer_norm, ff.layer_2(ff.activation_function(ff.layer_1(x))) + x)
        return x[:, size:]


def _distances(size: int, width: int) -> Tensor:
    """What stands for each distance, [2 N, E]: from N down to 1 - N."""
    steps = torch.exp(torch.arange(width // 2).to(torch.float32) * (-2 * math.log(10000.0) / width))
    angles = (size - torch.arange(2 * size)).to(torch.float32).reshape(-1, 1) * steps.reshape(1, -1)
    return torch.cat([torch.sin(angles), torch.cos(angles)], 1)


def _attended(module: Any, x: Tensor, size: int, distances: Tensor, bias: Tensor) -> Tensor:
    """Attention of all rows [B, 2 N, E] to those that hold tokens, by content and by distance, and the norm behind."""
    batch, rows, width = x.shape
    heads, dim = module.n_head, module.d_head

    def split(given: Tensor, weight: Tensor) -> Tensor:
        flat = torch.matmul(given, weight.reshape(width, heads * dim))
        return flat.reshape(*given.shape[:-1], heads, dim).transpose(-3, -2)

    query, key, value = split(x, module.q), split(x[:, :size], module.k), split(x[:, :size], module.v)
    near = split(distances, module.r)
    content = torch.matmul(query + module.r_w_bias.reshape(heads, 1, dim), key.transpose(-1, -2))
    far = torch.matmul(query + module.r_r_bias.reshape(heads, 1, dim), near.transpose(-1, -2))
    step = size - torch.arange(size).reshape(-1, 1) + torch.arange(size).reshape(1, -1)
    index = torch.cat([step, step]).reshape(1, 1, rows, size).expand(batch, heads, rows, size)
    scores = (content + torch.gather(far, 3, index)) * dim**-0.5 + bias
    seen = torch.matmul(torch.softmax(scores, -1), value).transpose(1, 2).reshape(batch, rows, heads * dim)
    return _normed(module.layer_norm, torch.matmul(seen, module.o.reshape(width, heads * dim).transpose(0, 1)) + x)


def _normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Layer norm in operations that every backend has."""
    x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + norm.eps) * norm.weight + norm.bias


@torch.no_grad()
def split_permuted(whole: nn.Module, facts: Facts) -> tuple[nn.Module, nn.Module]:
    """Backbone and head of a model of any order, found to give the logits of the library's own forward."""
    model: Any = whole
    config = model.config
    if (config.attn_type, config.bi_data, config.clamp_len) != ("bi", False, -1):
        raise unsupported(facts.family, "its distances are not those of a plain XLNet")
    backbone, head = PermutedBackbone(model), model.lm_loss
    ids = torch.arange(4).reshape(1, 4)
    rank = torch.tensor([0, 3, 1, 2])
    sees = (rank.reshape(1, -1) < rank.reshape(-1, 1)).unsqueeze(0)
    plain = head(backbone(ids, sees).last_hidden_state)[:, 1:]  # the first in the order sees nothing
    own = head(backbone.traced(ids, sees))[:, 1:]
    if not math.isfinite(float(plain.sum())) or (own - plain).abs().max() > TOLERANCE * plain.abs().max():
        raise unsupported(facts.family, "its logits are not those of the library's own forward")
    return backbone, head
