"""From FX to ONNX: walk a graph in order; a loop becomes `Loop`, a branch `If`, anything else goes by the tables.

A value of an outer graph that a body reads is captured by ONNX' own scoping and costs nothing, whereas ORT copies every
carried tensor in every turn: so what a body hands on unchanged is captured, even where the Program carries it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx

from dcompile.backends.onnx import fuse
from dcompile.backends.onnx.fusion import Fusion
from dcompile.backends.onnx.rows import Live, marks
from dcompile.backends.onnx.scope import Model, Scope, Typed
from dcompile.backends.onnx.tables import HANDLERS
from dcompile.backends.origin import origin
from dcompile.program import COND, WHILE, Graph, attribute

Values = Any  # a Typed, or a sequence of them where a node has several results


def emit_graph(model: Model, graph: Graph) -> ir.Graph:
    """A graph of a program as the main graph of a model, with the names of its ports. An output that would take the
    name of an input is called `<name>.out`."""
    scope = Scope(model, graph.name)
    inputs = [scope.input(p.name, getattr(torch, p.dtype), p.shape) for p in graph.inputs]
    for port in graph.outputs:
        model.names.setdefault(output_name(graph, port.name), 0)
    results = inline(scope, graph.module, inputs)
    for port in graph.outputs:
        del model.names[output_name(graph, port.name)]
    outputs = [(r, output_name(graph, p.name)) for r, p in zip(results, graph.outputs, strict=True)]
    return scope.finish([x.value for x in inputs], outputs)


def output_name(graph: Graph, name: str) -> str:
    return f"{name}.out" if name in {p.name for p in graph.inputs} else name


def inline(at: Scope, module: fx.GraphModule, inputs: Sequence[Typed]) -> list[Typed]:
    """Emit the nodes of a graph into a scope; its results."""
    env: dict[fx.Node, Values] = {}
    given = iter(inputs)
    fusions = fuse.find(module)
    for node in module.graph.nodes:
        at.model.origin = origin(node)
        if node in fusions:
            env |= _fused(at, fusions[node], env)
        if node in env:
            continue
        if node.op == "placeholder":
            env[node] = next(given)
        elif node.op == "get_attr":
            value = attribute(module, str(node.target))
            env[node] = at.weight(str(node.target), value) if isinstance(value, Tensor) else value
        elif node.op == "output":
            return [env[result] for result in _results(node)]
        else:
            env[node] = _call(at, node, env)
        if "rows" in node.meta and marks(width := int(node.meta["rows"]), at.model.sizes):
            at.live = Live(width, env[node].value)
            env = {n: _live_rows(at, value) for n, value in env.items()}
    raise AssertionError("a graph without an output")


def _live_rows(at: Scope, value: Values) -> Values:
    if not isinstance(value, Typed):
        return value
    return Typed(at.live_rows(value), value.dtype, value.shape)


def _fused(at: Scope, fusion: Fusion, env: dict[fx.Node, Values]) -> dict[fx.Node, Values]:
    results = fusion.emit(at, *_read(env, fusion.args))
    if results is None:
        return {}
    likes = [described(node.meta["val"]) for node in fusion.gives]
    made = [_made(at, value, like) for value, like in zip(results, likes, strict=True)]
    return dict(zip(fusion.gives, made, strict=True))


def _call(at: Scope, node: fx.Node, env: dict[fx.Node, Values]) -> Values:
    args = _read(env, normalized(node)) if node.target not in (WHILE, COND) else _read(env, node.args)
    if node.target is operator.getitem:
        return args[0][args[1]]
    if node.target is WHILE:
        return loop(at, *args)
    if node.target is COND:
        return branch(at, *args)
    out = described(node.meta["val"])
    made = HANDLERS[node.target](at, out, *args)
    if isinstance(out, Typed):
        return _made(at, made, out)
    return [_made(at, value, like) for value, like in zip(made, out, strict=True)]


def _made(at: Scope, value: ir.Value, like: Typed) -> Typed:
    return Typed(at.shaped(value, like.shape), like.dtype, like.shape)


def _read(env: dict[fx.Node, Values], args: Any) -> Any:
    """The arguments with values in the place of nodes."""
    if isinstance(args, fx.Node):
        return env[args]
    return [_read(env, a) for a in args] if isinstance(args, (list, tuple)) else args


def described(fake: Any) -> Any:
    """Dtype and shape of what a node gives, without a value yet."""
    if isinstance(fake, Tensor):
        return Typed(ir.Value(name=None), fake.dtype, tuple(fake.shape))
    return [described(f) for f in fake]


def normalized(node: fx.Node) -> tuple[Any, ...]:
    """All arguments in the order of the operation's schema, defaults filled in; dtype, device and such come last."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return node.args
    rest = schema.arguments[len(node.args) :]
    return (*node.args, *(node.kwargs.get(a.name, a.default_value) for a in rest))


# ------------------------------------------------------------ loops and branches


def unchanged(body: fx.GraphModule, count: int) -> set[int]:
    """Which of its first `count` inputs a loop body hands on as they are, also through loops inside it."""
    places = body.graph.find_nodes(op="placeholder")
    results = _results(body.graph.output_node())
    return {i for i in range(count) if _source(body, results[i]) is places[i]}


def _results(output: fx.Node) -> Sequence[Any]:
    given = output.args[0]
    return (given,) if isinstance(given, fx.Node) else list(given)  # type: ignore[arg-type]


def _source(module: fx.GraphModule, node: Any) -> Any:
    """The node whose value this is, behind copies and loops that leave it alone."""
    if node.op == "call_function" and node.target in (torch.ops.aten.clone.default, torch.ops.aten.alias.default):
        return _source(module, node.args[0])
    if node.op == "call_function" and node.target is operator.getitem and node.args[0].target is WHILE:
        _, inner, carried, _ = node.args[0].args
        if node.args[1] in unchanged(getattr(module, inner.target), len(carried)):
            return _source(module, carried[node.args[1]])
    return node


def loop(
    at: Scope, cond: fx.GraphModule, body: fx.GraphModule, carried: Sequence[Typed], captured: Sequence[Typed] = ()
) -> list[Typed]:
    """`while cond: body` as a Loop without a trip count; `cond` is asked before it and at the end of each turn."""
    fixed = unchanged(body, len(carried))
    moving = [i for i in range(len(carried)) if i not in fixed]
    inner = Scope(at.model, f"{at.name}.loop", at)
    turn = inner.input("turn", torch.int64, ())
    again = inner.input("again", torch.bool, ())
    inside = list(carried)
    for i in moving:
        inside[i] = inner.input(f"carried_{i}", carried[i].dtype, carried[i].shape)
    after = inline(inner, body, [*inside, *captured])
    after = [carried[i] if i in fixed else value for i, value in enumerate(after)]
    more = _truth(inner, inline(inner, cond, [*after, *captured])[0])
    results = [(more, "more"), *((after[i], f"next_{i}") for i in moving)]
    graph = inner.finish([turn.value, again.value, *(inside[i].value for i in moving)], results)
    start = _truth(at, inline(at, cond, [*carried, *captured])[0])
    finals = at.ops("Loop", None, start, *(carried[i] for i in moving), outputs=len(moving), name="loop", body=graph)
    out = list(carried)
    for i, value in zip(moving, finals, strict=True):
        out[i] = Typed(value, carried[i].dtype, carried[i].shape)
    return out


def branch(
    at: Scope, test: Typed, yes: fx.GraphModule, no: fx.GraphModule, operands: Sequence[Typed] = ()
) -> list[Typed]:
    """`yes if test else no` as an If; both sides capture what they read."""
    graphs = []
    like: list[Typed] = []
    for side, module in (("yes", yes), ("no", no)):
        inner = Scope(at.model, f"{at.name}.{side}", at)
        like = inline(inner, module, operands)
        graphs.append(inner.finish([], [(value, f"{side}_{i}") for i, value in enumerate(like)]))
    sides: dict[str, Any] = {"then_branch": graphs[0], "else_branch": graphs[1]}
    values = at.ops("If", _truth(at, test), outputs=len(like), name="branch", **sides)
    return [Typed(value, t.dtype, t.shape) for value, t in zip(values, like, strict=True)]


def _truth(at: Scope, test: Typed) -> Typed:
    """A condition as the scalar that ONNX wants."""
    return Typed(at.reshape(test, ()), torch.bool, ())
