"""The text form of a Strategy: one statement a line, defaults and spans left out (`show --stage strategy`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from dcompile.strategy import VOCABULARY, Area, Expr, Literal, Module, Name, Op, Stmt, Strategy, Type
from dcompile.trees import Tree

HIDDEN = ("span", "type", "text")


def text(strategy: Strategy) -> str:
    """The whole strategy."""
    return "\n".join(_strategy(strategy)) + "\n"


def _strategy(strategy: Strategy) -> Iterator[str]:
    yield f"strategy {strategy.name}" + (" (lossless required)" if strategy.lossless else "")
    for param in strategy.params:
        yield f"  param {param.name}: {param.type} = {_value(param.value)}"
    for model in strategy.models:
        yield f"  model {model.name}: {model.attention}" + (f" block={model.block}" if model.block else "")
    for module in strategy.modules:
        layers = " ".join(f"{layer.inputs}x{layer.outputs}" for layer in module.layers)
        what = _vectors(module) if module.takes else str(module.size)
        yield f"  module {module.name}: {what}" + " sigmoid" * module.probability + f" [{layers or module.format}]"
    for extern in strategy.externs:
        yield f"  extern {extern.name}: {', '.join(map(str, extern.taken))} -> {extern.given}"
    for rows in strategy.rows:
        adapted = f", adapters of {len(rows.adapters)} layers" if rows.adapters else ""
        begin = f" from layer {', '.join(map(str, rows.starts))}" if rows.starts else ""
        yield f"  rows {rows.name}: {rows.count}x{rows.width}{begin}{adapted}"
    yield f"  canvas {_arguments(strategy.canvas)}"
    for state in strategy.states:
        sides = ", ".join("vocab" if side == VOCABULARY else str(side) for side in state.sizes)
        type = f"{state.type}[{sides}]" if sides else f"{state.type}"
        yield f"  state {state.name}: {type} = {_value(state.init)} per {state.lifetime}"
    yield from _body(strategy.body, "  ")


def _vectors(module: Module) -> str:
    """`3 x (hidden, hidden) -> 4 hidden`."""
    takes = ", ".join("hidden" if n == 1 else f"{n} hidden" for n in module.takes)
    gives = {"number": "1", "scores": "vocab"}.get(
        module.gives, "hidden" if module.parts == 1 else f"{module.parts} hidden"
    )
    return f"{module.count} x " * (module.count > 1) + f"({takes}) -> {gives}"


def _body(body: tuple[Stmt, ...], indent: str) -> Iterator[str]:
    for statement in body:
        yield f"{indent}{type(statement).__name__.lower()} {_arguments(statement)}".rstrip()
        for field in fields(statement):
            inner = getattr(statement, field.name)
            if _is_body(inner):
                if field.name != "body":
                    yield f"{indent}{field.name}"
                yield from _body(inner, indent + "  ")


def _is_body(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, Stmt) for v in value)


def _arguments(node: Any) -> str:
    shown = [f for f in fields(node) if f.name not in HIDDEN and not _is_body(getattr(node, f.name))]
    return ", ".join(f"{f.name}={_value(getattr(node, f.name))}" for f in shown if not _is_default(f, node))


def _is_default(field: Field[Any], node: Any) -> bool:
    value = getattr(node, field.name)
    return value in (None, (), "") or (field.default is not MISSING and value == field.default)


def _value(value: Any) -> str:
    if isinstance(value, (Name, Area)):
        return value.name
    if isinstance(value, Literal):
        return str(value.value)
    if isinstance(value, Op):
        return f"{value.op}({', '.join(map(_value, value.args))})"
    if isinstance(value, Expr):
        return f"{type(value).__name__.lower()}({_arguments(value)})"
    if isinstance(value, Tree) and value.growth is not None:
        return f"tree of {value.size} nodes, {_arguments(value.growth)}"
    if isinstance(value, Tree):
        return f"tree of {value.size} nodes, by depth {' '.join(map(str, Counter(value.depths).values()))}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value) if isinstance(value, (Type, int, float, str)) else repr(value)
