"""FX graph -> Relax function. The graph is read as it is, so that names and spans stay."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from tvm import relax

from dcompile.backends.tvm.table import CONVERT, EXPAND
from dcompile.backends.tvm.values import Kind, Scope, Value
from dcompile.backends.weights import attribute
from dcompile.passes.expand import expand

INLINE = 256  # constants up to this many elements go into the code, where the simplifier sees them


@dataclass(frozen=True)
class Imported:
    """A Relax function, and the weights that follow its inputs, in order."""

    function: Any
    weights: tuple[tuple[str, Tensor], ...]


def supports(node: fx.Node) -> bool:
    """Whether a node of a straight-line graph has a form in Relax."""
    return node.op != "call_function" or node.target in CONVERT or node.target in (*EXPAND, operator.getitem)


def convert(module: fx.GraphModule, name: str) -> Imported:
    """The function `name(inputs..., weights...) -> (outputs...)`."""
    module = expand(module, EXPAND)
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
    builder = relax.BlockBuilder()
    with builder.function(name=name, params=[*inputs, *[v.expr for v, _ in weights.values()]]):
        with builder.dataflow():
            for node in (n for n in module.graph.nodes if n.op == "call_function"):
                env[node] = _convert_node(Scope(builder), node, env)
            found: Any = fx.map_arg(module.graph.output_node().args[0], env.__getitem__)
            results = [found] if isinstance(found, Value) else found
            output = builder.emit_output(relax.Tuple([value.expr for value in results]))
        builder.emit_func_output(output)
    return Imported(builder.get()[name], tuple((key, tensor) for key, (_, tensor) in weights.items()))


def _convert_node(at: Scope, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
    args: Any = fx.map_arg(node.args, env.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, env.__getitem__)
    if node.target is operator.getitem:
        return args[0][args[1]]
    fake = node.meta["val"]
    kinds = Kind.of(fake) if isinstance(fake, Tensor) else tuple(Kind.of(f) for f in fake)
    made = CONVERT[node.target](at, kinds, *args, **kwargs)
    if isinstance(kinds, Kind):
        return _checked(node, kinds, at.emit(made))
    return [_checked(node, kind, expr) for kind, expr in zip(kinds, made, strict=True)]


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
