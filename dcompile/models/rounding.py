"""A model whose matrices are rounded: what `--quantize` makes of it before anything is lowered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from dcompile.models import kept
from dcompile.models.base import Model
from dcompile.models.blocks import BLOCK, Bits, nearest

HALF = "bfloat16"


def rounded(model: Model, precision: str) -> Model:
    """The model with its weights as an artifact of that precision has them."""
    return halved(model) if precision == HALF else quantised(model, cast("Bits", precision))


def halved(model: Model) -> Model:
    """The model with its linear layers rounded to bfloat16, but for the head (and with it tied embeddings)."""
    for weight in _matrices(model):
        if model.facts.vocab not in weight.shape[:1]:
            weight.data.copy_(weight.to(torch.bfloat16))
            kept.changed(weight)
    return model


def quantised(model: Model, bits: Bits) -> Model:
    """The model with matrices in blocks, and its float weights set to what these mean: it computes as the artifact will.

    Matrices that the checkpoint holds in blocks stay as they are, but for those that `int4-symmetric` can make faster:
    with offsets, or of eight bits in narrow blocks. Embeddings and the head become int8 at least.
    """
    found = dict(model.blocks)
    vocab = model.facts.vocab
    for weight in _matrices(model):
        held = found.get(weight.data_ptr())
        fits = held is not None and (bits != "int4-symmetric" or (held.least is None and held.bits == 4))
        if not fits and weight.shape[1] % BLOCK == 0:
            blocks = nearest(weight, "int8" if vocab in weight.shape[:1] else bits)
            weight.data.copy_(blocks.floats)
            kept.changed(weight)
            found[weight.data_ptr()] = blocks
    return replace(model, blocks=found)


def _matrices(model: Model) -> Iterator[Tensor]:
    """The weights of linear layers and embeddings, each once."""
    seen: set[int] = set()
    for part in (model.backbone, model.head):
        for module in part.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)) and module.weight.data_ptr() not in seen:
                seen.add(module.weight.data_ptr())
                yield module.weight
