"""Move a graph to another device: its weights, and the devices written into its nodes."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from dcompile.program import modules


def move(module: fx.GraphModule, device: str) -> None:
    """Move a graph and the graphs inside it to `device`, in place; the tensors it held before are left as they are."""
    for inner in modules(module):
        for node in inner.graph.nodes:
            if node.op == "call_function" and _chooses_device(node):
                node.update_kwarg("device", torch.device(device))
        for owner in list(inner.modules()):
            _move_tensors(owner, device)
        inner.recompile()


def _chooses_device(node: fx.Node) -> bool:
    """Whether the operation makes a tensor of nothing, or says where it goes."""
    if "device" in node.kwargs:
        return True
    schema = getattr(node.target, "_schema", None)
    if schema is None or not any(a.name == "device" for a in schema.arguments):
        return False
    return not any(isinstance(a, fx.Node) for a in node.all_input_nodes)


def _move_tensors(owner: torch.nn.Module, device: str) -> None:
    for name, parameter in list(owner._parameters.items()):
        if parameter is not None and parameter.device.type != device:
            owner._parameters[name] = torch.nn.Parameter(parameter.detach().to(device), requires_grad=False)
    for name, buffer in list(owner._buffers.items()):
        if buffer is not None and buffer.device.type != device:
            owner._buffers[name] = buffer.to(device)
    for name, value in list(vars(owner).items()):
        if isinstance(value, Tensor) and value.device.type != device:
            setattr(owner, name, value.to(device))
