"""Networks of modules that come as programs: an exported one (`.pt2`) or an ONNX graph, as they lie in a file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FORMATS = ("onnx", "pt2")
KNOWN = ("Add", "Div", "Gemm", "Identity", "MatMul", "Mul", "Relu", "Sigmoid", "Sub", "Tanh")
Shape = tuple[int | None, ...]  # None: any number of rows


class Unfit(Exception):
    """A file that is no network, or one with what is not known here; its text goes on from "the file of `x` "."""


@dataclass(frozen=True)
class Node:
    """One operation of an ONNX graph; an input that is left out is the empty name."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, float]


@dataclass(frozen=True)
class Onnx:
    """An ONNX graph from `taken` to `given`, with its weights as float32 arrays."""

    taken: str
    given: str
    nodes: tuple[Node, ...]
    weights: dict[str, Any]
    shapes: tuple[Shape, Shape]


def shapes(format: str, data: bytes) -> tuple[Shape, Shape]:
    """What a network takes and gives. Raises Unfit."""
    if format == "onnx":
        return read_onnx(data).shapes
    program = exported(data)
    taken = next(n.meta["val"] for n in program.graph.nodes if n.name in program.graph_signature.user_inputs)
    given = next(n.meta["val"] for n in program.graph.nodes if n.name in program.graph_signature.user_outputs)
    return _dimensions(taken.shape), _dimensions(given.shape)


def fits(shape: Shape, size: int) -> bool:
    """`size` numbers, as they are or in one row of a matrix."""
    return shape in ((size,), (1, size), (None, size))


def _dimensions(shape: Sequence[Any]) -> Shape:
    return tuple(d if isinstance(d, int) else None for d in shape)


# ---------------------------------------------------------------- ONNX


def read_onnx(data: bytes) -> Onnx:
    """The graph of a file, if it is made of what is known. Raises Unfit."""
    import onnx
    import onnx_ir

    try:
        graph: Any = onnx_ir.from_proto(onnx.load_from_string(data)).graph
    except Exception as e:  # protobuf's own error type derives from Exception alone
        raise Unfit(f"is no ONNX model: {_first(e)}") from e
    inputs = [v for v in graph.inputs if v.name not in graph.initializers]
    _one(inputs, graph.outputs)
    nodes, weights = [], {name: _weight(name, v.const_value) for name, v in graph.initializers.items()}
    for node in graph:
        if node.domain == "" and node.op_type == "Constant" and "value" in node.attributes:
            weights[node.outputs[0].name] = _weight(node.outputs[0].name, node.attributes["value"].as_tensor())
            continue
        if node.domain or node.op_type not in KNOWN:
            raise Unfit(f"has the operation `{node.op_type}`, and known are {', '.join(KNOWN)}")
        names = tuple("" if v is None else v.name for v in node.inputs)
        nodes.append(Node(node.op_type, names, node.outputs[0].name, _attributes(node)))
    both = tuple(_dimensions([getattr(d, "value", d) for d in v.shape or ()]) for v in (inputs[0], graph.outputs[0]))
    return Onnx(inputs[0].name, graph.outputs[0].name, tuple(nodes), weights, (both[0], both[1]))


def _attributes(node: Any) -> dict[str, float]:
    return {k: float(a.value) for k, a in node.attributes.items() if isinstance(a.value, (int, float))}


def _weight(name: str, value: Any) -> Any:
    import numpy

    if value is None or type(value).__name__ == "ExternalTensor":
        raise Unfit(f"keeps `{name}` in another file")
    array = value.numpy()
    if array.dtype != numpy.float32:
        raise Unfit(f"holds `{name}` as {array.dtype}")
    return array


def _one(inputs: Sequence[object], outputs: Sequence[object]) -> None:
    if len(inputs) != 1 or len(outputs) != 1:
        raise Unfit(f"takes {len(inputs)} tensors and gives {len(outputs)}: it must be one each")


# ---------------------------------------------------------------- torch.export


def exported(data: bytes) -> Any:
    """The exported program of a file. Raises Unfit."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.export.load(io.BytesIO(data))
    except Exception as e:  # a damaged archive fails in many ways
        raise Unfit(f"is no program of torch.export: {_first(e)}") from e
    signature = program.graph_signature
    _one(signature.user_inputs, signature.user_outputs)
    for name, value in {**program.state_dict, **program.constants}.items():
        if value.dtype != torch.float32:
            raise Unfit(f"holds `{name}` as {str(value.dtype).removeprefix('torch.')}")
    if len(signature.output_specs) != 1:
        raise Unfit("changes what it holds while it runs")
    return program


def _first(problem: Exception) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]
