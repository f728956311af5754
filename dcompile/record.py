"""Writes down tensor code as FX graphs: run ordinary torch functions on fake tensors, get graphs with loops inside.

A `Recorder` is a dispatch mode. Under it every ATen call becomes a node of the current graph; `loop` and `branch` open
graphs of their own. A value of an outer graph that is used inside is captured: it becomes a placeholder of the inner
graph and an operand of the node that runs it. Real tensors (weights, constants) become `get_attr` nodes.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx._lazy_graph_module import _LazyGraphModule
from torch.utils._python_dispatch import TorchDispatchMode

from dcompile.program import COND, WHILE, attribute
from dcompile.source import Span

aten = torch.ops.aten

# Composite ops that say more than their decomposition: backends have a better form for them.
KEPT = frozenset({aten.linear.default, aten.matmul.default, aten.softmax.int, aten.reshape.default, aten.to.dtype})

Values = dict[str, Tensor]
_ACTIVE: ContextVar[Recorder | None] = ContextVar("the recorder that records", default=None)
_SERIAL = itertools.count()  # tells scopes apart where an id would be used again


class Scope:
    """A graph under construction, and the node that stands for each tensor in it."""

    def __init__(self, parent: Scope | None) -> None:
        self.graph = fx.Graph()
        self.serial = next(_SERIAL)
        self.parent = parent
        self.nodes: dict[int, fx.Node] = {}
        self.inputs: list[fx.Node] = []
        self.captured: dict[int, tuple[Tensor, fx.Node]] = {}
        self.attributes: list[fx.Node] = []
        self.root: dict[str, Any] = {}
        self.alive: list[Any] = []

    def bind(self, tensor: Tensor, node: fx.Node) -> fx.Node:
        node.meta["val"] = tensor
        self.nodes[id(tensor)] = node
        self.alive.append(tensor)  # an id is a name only while its tensor lives
        return node

    def knows(self, tensor: Tensor) -> bool:
        return id(tensor) in self.nodes or (self.parent is not None and self.parent.knows(tensor))

    def capture(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self.captured:
            node = self.bind(tensor, self.graph.placeholder(f"captured_{len(self.captured)}"))
            self.captured[id(tensor)] = (tensor, node)
        return self.captured[id(tensor)][1]

    def attribute(self, name: str, value: Any) -> fx.Node:
        self.root[name] = value
        node = self.graph.create_node("get_attr", name)
        self.attributes.append(node)
        return node

    def close(self, outputs: Sequence[fx.Node], captured: Sequence[Tensor] = ()) -> fx.GraphModule:
        """Finish: inputs first, then the captured values in the given order, then attributes, then the work."""
        captures = [self.capture(t) for t in captured]
        anchor = self.graph._root
        for node in [*self.inputs, *captures, *self.attributes]:
            anchor.append(node)
            anchor = node
        self.graph.output(tuple(outputs))
        return _LazyGraphModule(self.root, self.graph)  # its Python text is made if anyone runs it as Python


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what runs inside `recording()`. `weights` gives parameters and buffers their dotted names."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.names = {id(t): name for name, t in reversed(list(weights.items()))}
        self.fakes: dict[int, tuple[Tensor, FakeTensor]] = {}
        self.real: dict[int, Tensor] = {}
        self.metas: dict[tuple[Any, ...], Tensor] = {}
        self.scope = Scope(None)
        self.span: Span | None = None
        self.tags: dict[str, str] = {}
        self.graphs: dict[str, fx.GraphModule] = {}  # what `inline` was given, by whatever name
        self.counter = 0

    @contextmanager
    def recording(self) -> Iterator[Recorder]:
        token = _ACTIVE.set(self)
        try:
            with torch.inference_mode(), self.fake, self:
                yield self
        finally:
            _ACTIVE.reset(token)

    @contextmanager
    def at(self, span: Span | None) -> Iterator[None]:
        """Nodes made inside come from this line of the strategy."""
        before, self.span = self.span, span
        try:
            yield
        finally:
            self.span = before

    @contextmanager
    def tagged(self, **tags: str) -> Iterator[None]:
        """Nodes made inside carry these words in their `meta`; passes ask for them."""
        before, self.tags = self.tags, {**self.tags, **tags}
        try:
            yield
        finally:
            self.tags = before

    # ------------------------------------------------------------ every operation comes by here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)
        if func in (aten.detach.default, aten.lift_fresh_copy.default, aten.contiguous.default):
            return args[0]
        if func not in KEPT and func._can_decompose() and func.namespace == "aten":
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        assert not func._schema.is_mutable, f"{func}: a Program never writes in place"
        args, kwargs = _mapped((args, kwargs), self._fake_of)
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and self.scope.knows(out):
            return out
        return self._emit(func, args, kwargs, out)

    def _emit(self, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
        node_args, node_kwargs = _mapped((args, kwargs), self.node)
        node_kwargs = {k: v for k, v in node_kwargs.items() if k not in ("device", "pin_memory", "layout")}
        node = self.scope.graph.call_function(func, node_args, node_kwargs)
        self._describe(node)
        if isinstance(out, Tensor):
            self.scope.bind(out, node)
            return out
        node.meta["val"] = tuple(out)
        for i, item in enumerate(out):
            self.scope.bind(item, self.scope.graph.call_function(operator.getitem, (node, i)))
        return out

    def again(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """Record the operation of another graph's node on values of the shapes that it has there. What it gives has the
        shapes of then, so it need not be dispatched, which takes most of the time of recording."""
        args, kwargs = _mapped((args, kwargs), self._fake_of)
        out = _mapped(node.meta["val"], lambda t: self._new(t, t.stride()))
        with self.tagged(**({"part": node.meta["part"]} if "part" in node.meta else {})):
            return self._emit(node.target, args, kwargs, out)

    def inline(self, module: fx.GraphModule, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Record all operations of a graph without loops on inputs of the shapes that it was made for; its results."""
        env: dict[fx.Node, Any] = {}
        given = iter(inputs)
        for node in module.graph.nodes:
            if node.op == "placeholder":
                env[node] = next(given)
            elif node.op == "get_attr":
                found = attribute(module, str(node.target))
                assert isinstance(found, Tensor), "a graph without loops holds tensors alone"
                env[node] = self._fake_of(found)
            elif node.op == "output":
                return [env[result] for result in node.args[0]]
            elif node.target is operator.getitem:
                env[node] = env[node.args[0]][node.args[1]]
            else:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), env.__getitem__)
                env[node] = self.again(node, args, kwargs)
        raise AssertionError("a graph without an output")

    def _describe(self, node: fx.Node) -> None:
        node.meta.update(self.tags)
        if self.span is not None:
            node.meta["span"] = self.span

    def _fake_of(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        if id(tensor) not in self.fakes:
            with torch.inference_mode(tensor.is_inference()):  # views of the one kind cannot stand for the other's
                fake = self._new(tensor, tensor.stride())
            self.fakes[id(tensor)] = (tensor, fake)
            self.real[id(fake)] = tensor
        return self.fakes[id(tensor)][1]

    # ------------------------------------------------------------ values and their nodes

    def node(self, tensor: Tensor) -> fx.Node:
        """The node that stands for a tensor in the current graph: its own, a weight, or a capture."""
        scope = self.scope
        if id(tensor) in scope.nodes:
            return scope.nodes[id(tensor)]
        if id(tensor) in self.real:
            return scope.bind(tensor, scope.attribute(self._name(self.real[id(tensor)]), self.real[id(tensor)]))
        assert scope.knows(tensor), "a tensor that no recorded operation made"
        return scope.capture(tensor)

    def _name(self, real: Tensor) -> str:
        return self.names.setdefault(id(real), f"constant_{len(self.names)}")

    def fresh(self, like: Tensor) -> Tensor:
        """A new fake tensor of the same shape and dtype that no graph knows yet."""
        return self._new(like, contiguous(like.shape))

    def _new(self, like: Tensor, strides: Sequence[int]) -> FakeTensor:
        """Made by hand: by way of `torch.empty` it takes ten times as long, and a build makes ten thousands."""
        key = (like.shape, tuple(strides), like.dtype, torch.is_inference_mode_enabled())
        if key not in self.metas:
            self.metas[key] = meta(like.shape, strides, like.dtype)
        return FakeTensor(self.fake, self.metas[key], torch.device("cpu"))

    def input(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An input of the graph being recorded."""
        return self.input_like(name, meta(shape, contiguous(shape), dtype))

    def input_like(self, name: str, like: Tensor) -> Tensor:
        """An input of the shape and layout of a tensor."""
        value = self._new(like, like.stride())
        self._placeholder(name, value)
        return value

    def _placeholder(self, name: str, value: Tensor) -> None:
        self.scope.inputs.append(self.scope.bind(value, self.scope.graph.placeholder(name)))

    # ------------------------------------------------------------ control flow

    def loop(self, carried: Values, condition: Callable[[Values], Tensor], body: Callable[[Values], Values]) -> Values:
        """`while condition(values): values = body(values)`; the condition has one bool element."""
        names = list(carried)
        cond = self._inside(carried, lambda v: [condition(v)])
        turn = self._inside(carried, lambda v: _named(body(v), names))
        node_args, captured = self._close("loop", {"cond": cond, "body": turn})
        operands = tuple(self._distinct(list(carried.values()), {}))
        node = self.scope.graph.call_function(WHILE, (*node_args, operands, captured))
        node.meta["carried"] = tuple(names)
        return dict(zip(names, self._results(node, [carried[n] for n in names]), strict=True))

    def branch(
        self, pred: Tensor, yes: Callable[[], Sequence[Tensor]], no: Callable[[], Sequence[Tensor]]
    ) -> list[Tensor]:
        """`yes() if pred else no()`; `pred` has one bool element, both sides give the same shapes."""
        sides = {"yes": self._inside({}, lambda _: list(yes())), "no": self._inside({}, lambda _: list(no()))}
        node_args, captured = self._close("branch", sides)
        node = self.scope.graph.call_function(COND, (self.node(pred), *node_args, captured))
        return self._results(node, [n.meta["val"] for n in sides["yes"][1]])

    def _inside(self, carried: Values, run: Callable[[Values], list[Tensor]]) -> tuple[Scope, list[fx.Node]]:
        scope = self.scope = Scope(self.scope)
        try:
            values = {name: self.fresh(t) for name, t in carried.items()}
            for name, value in values.items():
                self._placeholder(name, value)
            return scope, self._distinct(run(values), values)
        finally:
            assert scope.parent is not None
            self.scope = scope.parent

    def _distinct(self, results: Sequence[Tensor], values: Values) -> list[fx.Node]:
        """One node a result: a value given twice, or carried under another name, is copied (ops.md: aliasing)."""
        nodes: list[fx.Node] = []
        names = [*values, *[""] * len(results)][: len(results)]
        for name, tensor in zip(names, results, strict=True):
            node = self.node(tensor)
            if node in nodes or (node.op != "call_function" and tensor is not values.get(name)):
                node = self.node(torch.clone(tensor))
            nodes.append(node)
        return nodes

    def _close(
        self, kind: str, sides: dict[str, tuple[Scope, list[fx.Node]]]
    ) -> tuple[list[fx.Node], tuple[fx.Node, ...]]:
        union = {i: t for scope, _ in sides.values() for i, (t, _) in scope.captured.items()}
        captured = list(union.values())
        name = f"{kind}_{self.counter}"
        self.counter += 1
        places = []
        for label, (scope, outputs) in sides.items():
            module = scope.close(outputs, captured)
            places.append(self.scope.attribute(f"{name}_{label}", module))
        return places, tuple(self.node(t) for t in captured)

    def _results(self, node: fx.Node, like: Sequence[Tensor]) -> list[Tensor]:
        outs = [self.fresh(t) for t in like]
        node.meta["val"] = tuple(outs)
        self._describe(node)
        for i, out in enumerate(outs):
            self.scope.bind(out, self.scope.graph.call_function(operator.getitem, (node, i)))
        return outs

    def finish(self, outputs: Sequence[Tensor]) -> fx.GraphModule:
        """The outermost graph, with these results; call it inside `recording()`."""
        return self.scope.close(self._distinct(outputs, {}))


def active() -> Recorder | None:
    """The recorder that writes down what runs now."""
    return _ACTIVE.get()


_CONSTANTS: dict[tuple[object, ...], Tensor] = {}


def constant(values: Sequence[Any]) -> Tensor:
    """A tensor of these numbers while a graph is recorded: an attribute of the graph, the same one wherever the same
    numbers are asked for."""
    with torch.utils._python_dispatch._disable_current_modes(), torch.inference_mode(False):
        made = torch.tensor(values)
        return _CONSTANTS.setdefault((made.dtype, made.shape, made.numpy().tobytes()), made)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Arguments with every tensor in them changed; many times as quick as torch's own for what operations take."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_mapped(v, change) for v in value])
    if isinstance(value, dict):
        return {k: _mapped(v, change) for k, v in value.items()}
    return value


def _named(values: Values, names: Sequence[str]) -> list[Tensor]:
    return [values[name] for name in names]


def meta(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor that has nothing but a shape, a layout and a dtype, even while something is recorded."""
    with torch.utils._python_dispatch._disable_current_modes():
        return torch.empty_strided(tuple(shape), tuple(strides), dtype=dtype, device="meta")


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a tensor whose elements lie in order."""
    return tuple(math.prod(max(d, 1) for d in shape[at + 1 :]) for at in range(len(shape)))
