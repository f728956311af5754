"""The one text form of a Program: dumps, `show`, golden files.

    graph main(tokens: int64[1, 8], seed: int64[1]) -> (tokens: int64[1, 8])
      %add = aten.add.Tensor(%tokens, 1)                : int64[1, 8]        # line 12
      %while_loop = while(tokens=%add; %seed)           : (int64[1, 8])
        cond(%arg0, %captured_0)
        ...

Names are FX's own, which number nodes of a kind in the order of their making; weights are named, never shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from dcompile.program import COND, WHILE, Graph, Program, submodules

COLUMN = 76


def text(program: Program) -> str:
    """All graphs of a program."""
    head = f"program {program.strategy.name}: batch {program.batch}, capacity {program.capacity}, loop {program.loop}"
    return "\n\n".join([head, *("\n".join(_graph(g)) for g in program.graphs)]) + "\n"


def _graph(graph: Graph) -> Iterator[str]:
    inputs, outputs = (
        ", ".join(f"{p.name}: {p.dtype}{list(p.shape)}" for p in x) for x in (graph.inputs, graph.outputs)
    )
    yield f"graph {graph.name}({inputs})"
    yield f"  -> ({outputs})"
    yield from _nodes(graph.module, "  ")


def _nodes(module: fx.GraphModule, indent: str) -> Iterator[str]:
    inner: dict[fx.Node, list[tuple[str, fx.GraphModule]]] = {}
    for node, name, graph in submodules(module):
        inner.setdefault(node, []).append((name, graph))
    hidden = {p for n in inner for p in n.args if isinstance(p, fx.Node)}  # the get_attr nodes of inner graphs
    for node in module.graph.nodes:
        if node.op == "placeholder" or (node in hidden and node.op == "get_attr" and "val" not in node.meta):
            continue
        yield indent + _line(node)
        for name, graph in inner.get(node, []):
            places = ", ".join(f"%{n.name}" for n in graph.graph.nodes if n.op == "placeholder")
            yield f"{indent}  {name}({places})"
            yield from _nodes(graph, indent + "    ")


def _line(node: fx.Node) -> str:
    if node.op == "output":
        return f"return {_value(node.args[0])}"
    left = f"%{node.name} = {_call(node)}"
    kind = f": {_shape(node.meta['val'])}" if "val" in node.meta else ""
    span = node.meta.get("span")
    where = f"  # line {span.source.place(span.start)[0]}" if span is not None and span.source is not None else ""
    return f"{left:<{COLUMN}} {kind}{where}".rstrip()


def _call(node: fx.Node) -> str:
    if node.op == "get_attr":
        return f"weight {node.target}"
    if node.target is WHILE:
        carried = node.meta.get("carried") or [""] * len(node.args[2])  # type: ignore[arg-type]
        given = ", ".join(f"{n}={_value(a)}" if n else _value(a) for n, a in zip(carried, node.args[2], strict=True))  # type: ignore[arg-type]
        return f"while({given}; {', '.join(map(_value, node.args[3]))})"  # type: ignore[arg-type]
    if node.target is COND:
        return f"if({_value(node.args[0])}; {', '.join(map(_value, node.args[3]))})"  # type: ignore[arg-type]
    arguments = [_value(a) for a in node.args] + [f"{k}={_value(v)}" for k, v in node.kwargs.items()]
    return f"{_target(node)}({', '.join(arguments)})"


def _target(node: fx.Node) -> str:
    target: Any = node.target
    return str(target) if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", str(target))


def _value(value: Any) -> str:
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else repr(value)


def _shape(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_shape, value))})"
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return type(value).__name__
