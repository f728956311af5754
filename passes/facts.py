"""Read-only questions that several passes ask of a program."""

from __future__ import annotations

import hashlib

from torch import fx

from dcompile.program import COND, WHILE, Program, modules, submodules


def well_formed(program: Program) -> str | None:
    """What is wrong with a program, or None: graphs lint, every value has a fake tensor, loops fit their operands."""
    for graph in program.graphs:
        for module in modules(graph.module):
            try:
                module.graph.lint()
            except RuntimeError as problem:
                return f"{graph.name}: {problem}"
            for node in module.graph.nodes:
                if node.op in ("placeholder", "call_function") and "val" not in node.meta:
                    return f"{graph.name}: node {node.name} has no value"
            if problem_text := _calls_fit(module):
                return f"{graph.name}: {problem_text}"
        inputs = [n for n in graph.module.graph.nodes if n.op == "placeholder"]
        if len(inputs) != len(graph.inputs) or len(results(graph.module)) != len(graph.outputs):
            return f"{graph.name}: ports do not fit the graph"
    return None


def _calls_fit(module: fx.GraphModule) -> str | None:
    for node, name, inner in submodules(module):
        operands = [*node.args[2], *node.args[3]] if node.target is WHILE else list(node.args[3])
        places = [n for n in inner.graph.nodes if n.op == "placeholder"]
        if [_shape(n) for n in operands] != [_shape(n) for n in places]:
            return f"{node.name} {name}: operands and placeholders differ"
        if name == "body" and [_shape(n) for n in results(inner)] != [_shape(n) for n in node.args[2]]:
            return f"{node.name}: the body does not give back what it carries"
    return None


def _shape(node: fx.Node) -> tuple[object, ...]:
    value = node.meta["val"]
    return tuple(value.shape), value.dtype


def results(module: fx.GraphModule) -> list[fx.Node]:
    """The nodes that a graph returns."""
    (output,) = [n for n in module.graph.nodes if n.op == "output"]
    return list(output.args[0])




def is_control(node: fx.Node) -> bool:
    """A loop or a branch."""
    return node.op == "call_function" and node.target in (WHILE, COND)
