"""The networks of modules as tensor code: linear layers, ONNX graphs, exported programs."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dcompile.networks import Node, Onnx, Shape, exported, read_onnx, shapes
from dcompile.strategy import Layer, Module


@dataclass(frozen=True)
class Network:
    """Weights by the names that they bear in an artifact, and what is done with rows of numbers [B, size]."""

    weights: Mapping[str, Tensor]
    run: Callable[..., Tensor]


def network(module: Module) -> Network:
    """The networks of a module: `run(x)`, or `run(x, number)` where there are several."""
    assert module.data, "a module without its file is refused before"
    if module.format == "onnx":
        return _onnx(module.name, read_onnx(module.data))
    if module.format == "pt2":
        return _exported(module.name, exported(module.data), shapes("pt2", module.data)[0])
    return _linear(module)


def _safe(name: str) -> str:
    """A name that Python code can bear: graphs are printed as such."""
    return f"{name}_" if keyword.iskeyword(name) else name


def _linear(module: Module) -> Network:
    networks = [[_tensors(layer) for layer in layers] for layers in module.networks]
    weights: dict[str, Tensor] = {}
    for n, (weight, bias) in enumerate(pair for layers in networks for pair in layers):
        weights[f"module.{_safe(module.name)}.{n}.weight"] = weight
        if bias is not None:
            weights[f"module.{_safe(module.name)}.{n}.bias"] = bias

    def run(x: Tensor, number: int = 0) -> Tensor:
        for n, (weight, bias) in enumerate(networks[number]):
            x = torch.nn.functional.linear(torch.relu(x) if n else x, weight, bias)
        return torch.sigmoid(x) if module.probability else x

    return Network(weights, run)


def _tensors(layer: Layer) -> tuple[Tensor, Tensor | None]:
    bias = None if layer.bias is None else _floats(layer.bias, layer.outputs)
    return _floats(layer.weight, layer.outputs, layer.inputs), bias


def _floats(data: bytes, *shape: int) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(shape).clone()  # a weight is no view


# ---------------------------------------------------------------- ONNX

SIMPLE: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add, "Div": torch.div, "Identity": lambda x: x, "MatMul": torch.matmul, "Mul": torch.mul,
    "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Sub": torch.sub, "Tanh": torch.tanh,
}  # fmt: skip


def _onnx(name: str, graph: Onnx) -> Network:
    weights = {n: torch.from_numpy(array.copy()) for n, array in graph.weights.items()}

    def run(x: Tensor) -> Tensor:
        values = {**weights, graph.taken: x}
        for node in graph.nodes:
            given = [values[n] for n in node.inputs if n]
            values[node.output] = _gemm(node, *given) if node.kind == "Gemm" else SIMPLE[node.kind](*given)
        return values[graph.given]

    return Network({f"module.{_safe(name)}.{n}": w for n, w in weights.items()}, _shaped(run, graph.shapes[0]))


def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha * a @ b + beta * c, either matrix transposed first."""
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    a = a.transpose(0, 1) if node.attributes.get("transA") else a
    b = b.transpose(0, 1) if node.attributes.get("transB") else b
    out = torch.matmul(a, b)
    out = out if alpha == 1 else out * alpha
    return out if c is None else out + (c if beta == 1 else c * beta)


def _shaped(run: Callable[[Tensor], Tensor], taken: Shape) -> Callable[..., Tensor]:
    """`run` for any number of rows, of a network that may take one row, or one vector, at a time."""

    def each(x: Tensor, number: int = 0) -> Tensor:
        if taken[0] is None:
            return run(x)
        rows = [x[r : r + 1] for r in range(x.shape[0])] if x.shape[0] > 1 else [x]
        size = x.shape[1]
        found = [run(row.reshape(size) if len(taken) == 1 else row).reshape(1, -1) for row in rows]
        return torch.cat(found) if len(found) > 1 else found[0]

    return each


# ---------------------------------------------------------------- torch.export


def _exported(name: str, program: Any, taken: Shape) -> Network:
    signature = program.graph_signature
    places = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    places |= signature.inputs_to_lifted_tensor_constants
    held = {**program.state_dict, **program.constants}
    weights = {n: held[place].detach().clone() for n, place in places.items()}

    def run(x: Tensor) -> Tensor:
        values: dict[Any, Any] = {}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                values[node] = weights.get(node.name, x)
            elif node.op == "output":
                found: Tensor = _of(node.args[0], values)[0]
                return found
            elif node.target is torch.ops.aten.sym_size.int:
                values[node] = _of(node.args[0], values).shape[node.args[1]]
            else:
                values[node] = node.target(*_of(node.args, values), **_of(node.kwargs, values))
        raise AssertionError("a graph has an output")

    return Network({f"module.{_safe(name)}.{places[n]}": w for n, w in weights.items()}, _shaped(run, taken))


def _of(args: Any, values: Mapping[Any, Any]) -> Any:
    """Arguments with the values of nodes in their place."""
    if isinstance(args, Mapping):
        return {k: _of(v, values) for k, v in args.items()}
    if isinstance(args, Sequence) and not isinstance(args, str):
        return type(args)(_of(a, values) for a in args) if isinstance(args, tuple) else [_of(a, values) for a in args]
    return values.get(args, args) if isinstance(args, torch.fx.Node) else args
