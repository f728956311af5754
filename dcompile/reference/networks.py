"""What a module's network answers, by the plainest means: layer by layer, or by the runtime that its file is for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dcompile.networks import Shape, exported, shapes
from dcompile.strategy import Module


@torch.no_grad()
def answer(module: Module, x: Tensor, number: int = 0) -> Tensor:
    """What network `number` of a module makes of the numbers x [n]."""
    assert module.data, "a module without its file is refused before"
    if module.format == "safetensors":
        return _layers(module, x, number)
    taken = _taken(module.format, module.data)
    x = x if len(taken) == 1 else x[None]
    if module.format == "onnx":
        session = _session(module.data)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        return torch.from_numpy(found).reshape(-1)
    out: Tensor = _program(module.data)(x)
    return out.reshape(-1)


def _layers(module: Module, x: Tensor, network: int) -> Tensor:
    for number, layer in enumerate(module.networks[network]):
        x = torch.relu(x) if number else x
        x = _floats(layer.weight).reshape(layer.outputs, layer.inputs) @ x
        x = x if layer.bias is None else x + _floats(layer.bias)
    return torch.sigmoid(x) if module.probability else x


def _floats(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.float32)


@lru_cache(4)
def _taken(format: str, data: bytes) -> Shape:
    return shapes(format, data)[0]


@lru_cache(4)
def _session(data: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(data)


@lru_cache(4)
def _program(data: bytes) -> Any:
    return exported(data).module()
