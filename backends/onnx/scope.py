"""An ONNX graph under construction: typed values, constants, weights, and names that are unique in the whole model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from dcompile.backends.onnx.rows import Live, Rows, parts
from dcompile.backends.weights import Region, adjacent

OPSET = 23
CONTRIB = "com.microsoft"
LARGE = 4096  # bytes of a constant that bodies capture from the outermost graph

DTYPES: dict[torch.dtype, ir.DataType] = {
    torch.bool: ir.DataType.BOOL,
    torch.uint8: ir.DataType.UINT8,
    torch.int8: ir.DataType.INT8,
    torch.int32: ir.DataType.INT32,
    torch.int64: ir.DataType.INT64,
    torch.float16: ir.DataType.FLOAT16,
    torch.float32: ir.DataType.FLOAT,
    torch.float64: ir.DataType.DOUBLE,
}


@dataclass(frozen=True)
class Typed:
    """An ONNX value with the dtype and static shape that the Program gives it."""

    value: ir.Value
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


Operand = Typed | ir.Value


@dataclass
class Model:
    """What all graphs of one model share: names, where each large weight lies in the weights file, and the `origin` of
    what is being emitted, which the names of nodes begin with: profiles tell a strategy's lines apart by it."""

    regions: Mapping[int, Region]
    weights_file: str
    sizes: frozenset[int] = frozenset()  # those that the width of a prompt's chunk must not divide (rows.py)
    origin: str = ""
    names: dict[str, int] = field(default_factory=dict)
    expanded: dict[ir.Value, Typed] = field(default_factory=dict)  # what a value is the expansion of
    shapes: dict[ir.Value, tuple[int, ...]] = field(default_factory=dict)  # of results, as the Program gives them
    fronts: dict[ir.Value, ir.Value] = field(default_factory=dict)  # what may be shorter than its shape: its length

    def name(self, hint: str) -> str:
        """A name that no other value of the model has; the same for the same order of calls."""
        count = self.names.get(hint, 0)
        self.names[hint] = count + 1
        return hint if count == 0 else f"{hint}.{count}"


class Scope:
    """One graph: the model's own, or the body of a loop or branch. Values of outer scopes may be used as they are."""

    def __init__(self, model: Model, name: str, parent: Scope | None = None) -> None:
        self.model = model
        self.name = model.name(name)
        self.parent = parent
        self.inputs: set[ir.Value] = set()
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self.made: set[ir.Value] = set()
        self.live: Live | None = None if parent is None else parent.live
        self._once: dict[tuple[Any, ...], ir.Value] = {}

    # ------------------------------------------------------------ values

    def input(self, name: str, dtype: torch.dtype, shape: Sequence[int]) -> Typed:
        value = ir.Value(name=self.model.name(name), type=ir.TensorType(DTYPES[dtype]), shape=ir.Shape(shape))
        self.inputs.add(value)
        return Typed(value, dtype, tuple(shape))

    def home(self, value: ir.Value) -> Scope:
        """The graph that a value belongs to: what is computed from it alone is computed there, once."""
        if self.parent is None or value in self.made or value in self.inputs or value.is_initializer():
            return self
        return self.parent.home(value)

    def op(self, kind: str, *inputs: Operand | None, domain: str = "", name: str = "", **attributes: Any) -> ir.Value:
        """Append a node with one result."""
        return self.ops(kind, *inputs, outputs=1, domain=domain, name=name, **attributes)[0]

    def ops(
        self, kind: str, *inputs: Operand | None, outputs: int, domain: str = "", name: str = "", **attributes: Any
    ) -> Sequence[ir.Value]:
        """Append a node with several results."""
        values = [x.value if isinstance(x, Typed) else x for x in inputs]
        results = [ir.Value(name=self.model.name(name or kind.lower())) for _ in range(outputs)]
        attrs = ir.convenience.convert_attributes(attributes)
        node = ir.Node(
            domain, kind, values, attrs, outputs=results, name=f"{self.model.origin}{kind}_{results[0].name}"
        )
        self.nodes.append(node)
        self.made.update(results)
        return results

    def constant(self, value: Any, dtype: torch.dtype, shape: Sequence[int] | None = None) -> ir.Value:
        """An inline initializer: a number, a list or an array; `shape` fills it with one number."""
        data = np.asarray(value, dtype=DTYPES[dtype].numpy())
        if shape is not None:
            data = np.broadcast_to(data, tuple(shape))
        data = np.ascontiguousarray(data).reshape(data.shape)
        return self.live_rows(Typed(self._constant(data, dtype), dtype, data.shape))

    def _constant(self, data: Any, dtype: torch.dtype) -> ir.Value:
        key = (dtype, data.shape, data.tobytes())
        if data.nbytes > LARGE and self.parent is not None:
            return self.parent._constant(data, dtype)  # once for all bodies that read it
        return self.once(key, lambda: self._initializer(ir.tensor(data, name=self.model.name("k"))))

    def ints(self, *values: int) -> ir.Value:
        """An int64 list, as ONNX wants shapes and axes."""
        live = self.live
        found = [values] if live is None else parts(values, live.width, self.model.sizes)
        if live is None or all(isinstance(part, tuple) for part in found):
            return self.constant(values, torch.int64)

        def said(part: Rows | tuple[int, ...]) -> ir.Value:
            if isinstance(part, tuple):
                return self.constant(part, torch.int64)
            times = self.op("Mul", live.count, self.constant([part.times], torch.int64))
            return self.op("Add", times, self.constant([part.more], torch.int64)) if part.more else times

        return self.once(("ints", values), lambda: self.join([said(part) for part in found], 0))

    def live_rows(self, x: Typed) -> ir.Value:
        """A value that was made with the whole width of a prompt's chunk, without the dead rows."""
        live = self.live
        axes = [a for a, n in enumerate(x.shape) if n and live is not None and n % live.width == 0]
        if live is None or not axes:
            return x.value
        assert len(axes) == 1 and x.shape[axes[0]] == live.width, f"rows of several chunks in one: {x.shape}"
        ends = [self._constant(np.asarray([n]), torch.int64) for n in (0, axes[0])]
        return self.once(("live", x.value), lambda: self.op("Slice", x, ends[0], live.count, ends[1]))

    def weight(self, name: str, tensor: torch.Tensor) -> Typed:
        """An initializer of this graph: a region of the weights file, or inline where the file does not hold it."""
        value = self.once(("weight", id(tensor)), lambda: self._initializer(self._stored(name, tensor)))
        return Typed(value, tensor.dtype, tuple(tensor.shape))

    def joined_weights(self, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> Typed | None:
        """One initializer over weights [out, in] that lie one behind another in the weights file."""
        region = adjacent([self.model.regions.get(id(t)) for t in tensors])
        if region is None:
            return None
        first = tensors[0]
        shape = (sum(t.shape[0] for t in tensors), *first.shape[1:])
        key = ("weight", *map(id, tensors))
        data = self._external("+".join(names), region, first.dtype, shape)
        return Typed(self.once(key, lambda: self._initializer(data)), first.dtype, shape)

    def _stored(self, name: str, tensor: torch.Tensor) -> ir.TensorProtocol:
        region = self.model.regions.get(id(tensor))
        if region is None:
            return ir.tensor(tensor.detach().cpu().contiguous().numpy(), name=self.model.name(name))
        return self._external(name, region, tensor.dtype, tuple(tensor.shape))

    def _external(self, name: str, region: Region, dtype: torch.dtype, shape: tuple[int, ...]) -> ir.TensorProtocol:
        place = (self.model.weights_file, region.offset, region.length)
        return ir.ExternalTensor(*place, DTYPES[dtype], shape=ir.Shape(shape), name=self.model.name(name))

    def _initializer(self, data: ir.TensorProtocol) -> ir.Value:
        value = ir.Value(
            name=data.name, type=ir.TensorType(data.dtype), shape=ir.Shape(data.shape.numpy()), const_value=data
        )
        self.initializers.append(value)
        return value

    # ------------------------------------------------------------ what most operations need

    def to(self, x: Typed | float, dtype: torch.dtype) -> ir.Value:
        """A tensor in this dtype, or a number as a constant of it."""
        if not isinstance(x, Typed):
            return self.constant(x, dtype)
        if x.dtype == dtype:
            return x.value
        return self.op("Cast", x, to=DTYPES[dtype])

    def reshape(self, x: Operand, shape: Sequence[int]) -> ir.Value:
        """The same elements in another shape; reshapes of reshapes are one."""
        value = x.value if isinstance(x, Typed) else x
        if isinstance(x, Typed) and x.shape == tuple(shape):
            return value
        producer = value.producer()
        if producer is not None and producer.op_type == "Reshape" and producer.inputs[0] is not None:
            value = producer.inputs[0]
        if self.model.shapes.get(value) == tuple(shape):
            return value
        return self.shaped(self.op("Reshape", value, self.ints(*shape)), shape)

    def shaped(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """A value that is known to have this shape: a reshape back to it is the value itself."""
        self.model.shapes[value] = tuple(shape)
        return value

    def join(self, parts: Sequence[ir.Value], axis: int) -> ir.Value:
        """The parts one after another; the same parts are joined once."""
        if len(parts) == 1:
            return parts[0]
        return self.once(("join", axis, *parts), lambda: self.op("Concat", *parts, axis=axis))

    def once(self, key: tuple[Any, ...], make: Callable[[], ir.Value]) -> ir.Value:
        """A value that several nodes of this graph need, made when it is first asked for."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]

    def expand(self, x: Typed, shape: Sequence[int]) -> ir.Value:
        if x.shape == tuple(shape):
            return x.value
        value = self.op("Expand", x, self.ints(*shape))
        self.model.expanded[value] = x
        return value

    def finish(self, inputs: Sequence[ir.Value], outputs: Sequence[tuple[Typed, str]]) -> ir.Graph:
        """The graph. Results take these names; each is made here, and only once (ONNX knows no other results)."""
        results: list[ir.Value] = []
        for typed, name in outputs:
            value = typed.value
            if value not in self.made or value in results:
                value = self.op("Identity", value)
            value.name = self.model.name(name)
            value.type = ir.TensorType(DTYPES[typed.dtype])
            value.shape = ir.Shape(typed.shape)
            results.append(value)
        nodes = _used(self.nodes, set(results))
        known = [value for value in self.initializers if value.uses()]
        opsets = {"": OPSET, CONTRIB: 1}
        return ir.Graph(inputs, results, nodes=nodes, initializers=known, opset_imports=opsets, name=self.name)


def _used(nodes: Sequence[ir.Node], results: set[ir.Value]) -> list[ir.Node]:
    """The nodes without those whose results nobody reads."""
    kept: list[ir.Node] = []
    for node in reversed(nodes):
        if any(value.uses() or value in results for value in node.outputs):
            kept.append(node)
        else:
            for i in range(len(node.inputs)):
                node.replace_input_with(i, None)
    return kept[::-1]


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis % rank if rank else 0


def size_of(shape: Sequence[int]) -> int:
    return math.prod(shape)
