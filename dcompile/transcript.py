"""FX graphs as JSON: what the eager target writes, and what builds keep of calls that they traced. Nothing is pickled:
reading one runs no code from it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx._lazy_graph_module import _LazyGraphModule

from dcompile.program import attribute

Json = Any

HIGHER = "higher_order"


def write(module: fx.GraphModule, weight_name: Callable[[str, Tensor], str | None]) -> Json:
    """A graph and the graphs inside it. `weight_name` gives a tensor its name in the weights file, or None for one
    that is written here."""
    inner: dict[str, Json] = {}
    tensors: dict[str, Json] = {}
    nodes = []
    for node in module.graph.nodes:
        if node.op == "get_attr":
            path = str(node.target)
            value = attribute(module, path)
            if isinstance(value, fx.GraphModule):
                inner[path] = write(value, weight_name)
            else:
                assert isinstance(value, Tensor), f"{path}: neither graph nor tensor"
                name = weight_name(path, value)
                tensors[path] = {"weight": name} if name is not None else _tensor(value)
        nodes.append([node.op, node.name, _target(node), _encode(node.args), _encode(dict(node.kwargs))])
    return {"nodes": nodes, "graphs": inner, "tensors": tensors}


def read(text: Json, weights: Mapping[str, Tensor]) -> fx.GraphModule:
    """The graph that `write` wrote; KeyError, TypeError, ValueError or AttributeError when it is damaged."""
    root: dict[str, Any] = {path: read(inner, weights) for path, inner in text["graphs"].items()}
    for path, tensor in text["tensors"].items():
        root[path] = weights[tensor["weight"]] if "weight" in tensor else _constant(tensor)
    graph = fx.Graph()
    env: dict[str, fx.Node] = {}
    for op, name, target, args, kwargs in text["nodes"]:
        found = _function(target) if op == "call_function" else target
        env[name] = graph.create_node(op, found, _decode(args, env), _decode(kwargs, env), name)
    return _LazyGraphModule(root, graph)


def _tensor(value: Tensor) -> Json:
    return {"data": value.tolist(), "dtype": _word(value.dtype), "shape": list(value.shape)}


def _constant(tensor: Json) -> Tensor:
    return torch.tensor(tensor["data"], dtype=getattr(torch, tensor["dtype"])).reshape(tensor["shape"])


def _target(node: fx.Node) -> str:
    if node.op != "call_function":
        return str(node.target)
    if node.target is operator.getitem:
        return "getitem"
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return f"{HIGHER}.{node.target._name}"
    assert isinstance(node.target, torch._ops.OpOverload), f"{node.target}: not an operation of a Program"
    return f"{node.target.namespace}.{node.target.__name__}"


def _function(name: str) -> Any:
    if name == "getitem":
        return operator.getitem
    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part)
    if not isinstance(found, (torch._ops.OpOverload, torch._ops.HigherOrderOperator)):
        raise ValueError(f"`{name}` is not an operation")
    return found


def _word(value: Any) -> str:
    return str(value).removeprefix("torch.")


def _encode(value: Any) -> Json:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    if isinstance(value, dict):
        return {"map": {key: _encode(v) for key, v in value.items()}}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"float": str(value)}
    if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
        return {"torch": _word(value)}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    assert value is None or isinstance(value, (bool, int, float, str)), f"{value!r} in a Program"
    return value


def _decode(value: Json, env: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(v, env) for v in value)
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "node":
        return env[content]
    if kind == "map":
        return {key: _decode(v, env) for key, v in content.items()}
    if kind == "float":
        return float(content)
    return torch.device(content) if kind == "device" else getattr(torch, content)
