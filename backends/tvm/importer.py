"""FX graph -> Relax function. The graph is read as it is, so that names and spans stay."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from tvm import relax

from dcompile.backends.tvm.products import matmul_transposed
from dcompile.backends.tvm.table import CONVERT, EXPAND
from dcompile.backends.tvm.values import Kind, Scope, Value, axis_of
from dcompile.passes.expand import expand
from dcompile.program import Graph, attribute

aten = torch.ops.aten

INLINE = 256  # constants up to this many elements go into the code, where the simplifier sees them


@dataclass(frozen=True)
class Imported:
    """A module with a Relax function for each graph, and the weights that follow the inputs of each, in order."""

    module: Any
    weights: dict[str, tuple[tuple[str, Tensor], ...]]


def supports(node: fx.Node) -> bool:
    """Whether a node of a straight-line graph has a form in Relax."""
    return node.op != "call_function" or node.target in CONVERT or node.target in (*EXPAND, operator.getitem)


def convert(graphs: Sequence[Graph], vectors: bool = True) -> Imported:
    """Functions `name(inputs..., weights...) -> (outputs...)`; without `vectors`, such as can be written in C."""
    builder = relax.BlockBuilder()
    at = Scope(builder, vectors)
    weights = {graph.name: _function(at, expand(graph.module, EXPAND), graph.name) for graph in graphs}
    return Imported(builder.get(), weights)


def _function(at: Scope, module: fx.GraphModule, name: str) -> tuple[tuple[str, Tensor], ...]:
    """Add a function to the module under construction; the weights that it takes."""
    env: dict[fx.Node, Any] = {}
    inputs, weights = [], {}
    for node in module.graph.find_nodes(op="placeholder"):
        env[node] = _variable(node.name, node.meta["val"])
        inputs.append(env[node].expr)
    for node in module.graph.find_nodes(op="get_attr"):
        key, tensor = str(node.target), attribute(module, str(node.target))
        assert isinstance(tensor, Tensor)
        if tensor.numel() <= INLINE:
            env[node] = Value(*_kind(tensor), relax.const(tensor.detach().cpu().numpy(), Kind.of(tensor).dtype))
            continue
        if key not in weights:
            weights[key] = (_variable(key.replace(".", "_"), tensor), tensor)
        env[node] = weights[key][0]
    with at.builder.function(name=name, params=[*inputs, *[v.expr for v, _ in weights.values()]]):
        with at.builder.dataflow():
            for node in (n for n in module.graph.nodes if n.op == "call_function"):
                env[node] = _convert_node(at, node, env)
            found: Any = fx.map_arg(module.graph.output_node().args[0], env.__getitem__)
            results = [found] if isinstance(found, Value) else found
            output = at.builder.emit_output(relax.Tuple([value.expr for value in results]))
        at.builder.emit_func_output(output)
    return tuple((key, tensor) for key, (_, tensor) in weights.items())


def _convert_node(at: Scope, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
    args: Any = fx.map_arg(node.args, env.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, env.__getitem__)
    if node.target is operator.getitem:
        return args[0][args[1]]
    fake = node.meta["val"]
    if (plain := _untransposed(node)) is not None:
        return _checked(node, Kind.of(fake), at.emit(matmul_transposed(at, Kind.of(fake), args[0], env[plain])))
    kinds = Kind.of(fake) if isinstance(fake, Tensor) else tuple(Kind.of(f) for f in fake)
    made = CONVERT[node.target](at, kinds, *args, **kwargs)
    if isinstance(kinds, Kind):
        return _checked(node, kinds, at.emit(made))
    return [_checked(node, kind, expr) for kind, expr in zip(kinds, made, strict=True)]


def _untransposed(node: fx.Node) -> fx.Node | None:
    """What stands under the transpose that is the right side of a product, if one does."""
    if node.target is not aten.matmul.default or node.meta["val"].dtype != torch.float32:
        return None
    left, right = node.args
    assert isinstance(left, fx.Node) and isinstance(right, fx.Node)
    rank = right.meta["val"].ndim
    if right.target is not aten.transpose.int or left.meta["val"].ndim < 2:
        return None
    axes = {axis_of(int(a), rank) for a in right.args[1:]}  # type: ignore[arg-type]
    base = right.args[0]
    return base if axes == {rank - 2, rank - 1} and isinstance(base, fx.Node) else None


def _checked(node: fx.Node, kind: Kind, expr: Any) -> Value:
    """The result, held against what the Program says it is."""
    found = expr.ty.dtype, tuple(int(n) for n in expr.ty.shape.values)
    assert (str(found[0]), found[1]) == (kind.dtype, kind.shape), f"{node.format_node()}: {found} for {kind}"
    return Value(kind.dtype, kind.shape, expr)


def _variable(name: str, tensor: Tensor) -> Value:
    dtype, shape = _kind(tensor)
    return Value(dtype, shape, relax.Var(name, relax.TensorType(list(shape), dtype)))


def _kind(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    kind = Kind.of(tensor)
    return kind.dtype, kind.shape
