"""Rows appended behind the nodes of a draft, one node at a time: its path is fed as it is, then its rows alone, by
a model whose adapted layers have the matrices W + BA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dcompile.models import Model
from dcompile.reference.forward import Memory, states
from dcompile.strategy import Layer, ModelUse, Rows


def hidden(
    model: Model, use: ModelUse, memory: Memory, tokens: Sequence[int], path: Sequence[int], rows: Rows, count: int
) -> Tensor:
    """Hidden states [count, E] of the first rows behind the last of the positions `path`, whose tokens stand in
    `tokens`; `memory` holds all before `path`, and stays as it is."""
    own = Memory(
        [_longer(k, len(path)) for k in memory.keys], [_longer(v, len(path)) for v in memory.values], set(memory.stored)
    )
    if path:
        states(model, use, own, tokens, path, path)
    first = (path[-1] if path else max(own.stored)) + 1
    places = list(range(first, first + count))
    vectors = _floats(rows.embeddings, rows.count, rows.width)[:count]
    with _merged(model.backbone, rows):
        return states(model, use, own, tokens, places, (), embeds=vectors)


def _longer(rows: Tensor, more: int) -> Tensor:
    """A copy of keys or values with room for further positions: a draft may reach beyond the canvas."""
    return torch.cat([rows, torch.zeros(*rows.shape[:2], more, rows.shape[3])], 2)


@contextmanager
def _merged(backbone: nn.Module, rows: Rows) -> Iterator[None]:
    layers = dict(backbone.named_modules())
    before = {name: layers[name].weight for name, _, _ in rows.adapters}
    with torch.no_grad():
        for name, down, up in rows.adapters:
            layers[name].weight = nn.Parameter(before[name] + _matrix(up) @ _matrix(down), requires_grad=False)
    try:
        yield
    finally:
        for name, weight in before.items():
            layers[name].weight = weight


def _matrix(layer: Layer) -> Tensor:
    return _floats(layer.weight, layer.outputs, layer.inputs)


def _floats(data: bytes, *shape: int) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(shape)
