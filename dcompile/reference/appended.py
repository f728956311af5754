"""Rows appended behind the nodes of a draft, one node at a time: its path is fed as it is, then its rows alone, by
a model whose adapted layers have the matrices W + BA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

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
    if rows.starts:
        return _inside(model, use, own, tokens, places, rows)
    vectors = _floats(rows.embeddings, rows.count, rows.width)[:count]
    with _merged(model.backbone, rows):
        return states(model, use, own, tokens, places, (), embeds=vectors)


def _inside(
    model: Model, use: ModelUse, own: Memory, tokens: Sequence[int], places: Sequence[int], rows: Rows
) -> Tensor:
    """Rows that begin inside the model: stretch by stretch of its layers, each with the rows that are there by then."""
    node, layers, last = places[0] - 1, model.facts.layers, {}
    borders = sorted({*rows.starts[: len(places)], layers})
    for low, high in pairwise(borders):
        with _only(model.backbone, 0, low):
            host = states(model, use, own, tokens, [node], ())[0]
        for row, start in enumerate(rows.starts[: len(places)]):
            if start == low:
                bias = rows.maps[row].bias
                last[row] = _matrix(rows.maps[row]) @ host + (0 if bias is None else _floats(bias, rows.width))
        known = sorted(last)
        fed = torch.stack([last[row] for row in known])
        with _merged(model.backbone, rows), _only(model.backbone, low, high):
            found = states(model, use, own, tokens, [places[row] for row in known], (), embeds=fed)
        last = dict(zip(known, found, strict=True))
    return torch.stack([last[row] for row in sorted(last)])


@contextmanager
def _only(backbone: Any, low: int, high: int) -> Iterator[None]:
    """Inside, the backbone has these of its layers alone, and its norm behind the last one of all."""
    layers, norm = backbone.layers, backbone.norm
    backbone.layers = nn.ModuleList(layers[low:high])
    backbone.norm = norm if high == len(layers) else nn.Identity()
    try:
        yield
    finally:
        backbone.layers, backbone.norm = layers, norm


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
