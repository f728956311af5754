"""Syntax tree to Strategy: declarations, then the body. All mistakes of a file are collected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass

from dcompile.diagnostic import CompileError, Diagnostic, Label, error, suggest
from dcompile.dsl import syntax
from dcompile.dsl.checker import check
from dcompile.dsl.declare import Setting, canvas, model, param, parameter, state
from dcompile.dsl.externs import extern
from dcompile.dsl.modules import module
from dcompile.dsl.rows import rows
from dcompile.dsl.scope import WORDS, Broken, Callable, Context, Failed, Scope, Value
from dcompile.dsl.scores import score
from dcompile.dsl.selection import FUNCTIONS, apply
from dcompile.dsl.statements import block
from dcompile.dsl.tables import index
from dcompile.dsl.treelike import tree
from dcompile.source import Span
from dcompile.strategy import Canvas, Extern, Module, Param, Rows, State, Strategy, TreeFile, Type

LARGEST = 50_000
DEEPEST = 200
SET = (syntax.Param, syntax.Module, syntax.Extern, syntax.Tree, syntax.Rows)  # what `--set` may name
DECLARATIONS = (*SET, syntax.Model, syntax.Canvas, syntax.State, syntax.Require, syntax.Function)


def elaborate(file: syntax.File, settings: Mapping[str, Setting] | None = None) -> Strategy:
    """The meaning of a file with one strategy; `settings` replace parameters. Raises CompileError with all mistakes."""
    ctx = Context(apply, score, index)
    top = Scope()
    functions = [item for item in file.items if isinstance(item, syntax.Function)]
    strategies = [item for item in file.items if isinstance(item, syntax.Strategy)]
    for function in functions:
        _function(ctx, top, function)
    if len(strategies) != 1:
        raise CompileError([*ctx.diagnostics, _not_one(file, strategies)])
    try:
        strategy = _strategy(ctx, top, strategies[0], dict(settings or {}), file.source.text)
    except RecursionError:
        raise CompileError([_too_large(strategies[0])]) from None
    if not ctx.diagnostics and strategy is not None:
        ctx.diagnostics += check(strategy)
    if ctx.diagnostics or strategy is None:
        raise CompileError(_in_order(ctx.diagnostics))
    return strategy


def _not_one(file: syntax.File, strategies: list[syntax.Strategy]) -> Diagnostic:
    if not strategies:
        return Diagnostic(
            "missing-strategy",
            "this file has no strategy",
            Label(Span(0, 1, file.source)),
            help="`strategy name { ... }`",
        )
    return Diagnostic(
        "second-strategy",
        "a file holds one strategy",
        Label(strategies[1].name.span),
        (Label(strategies[0].name.span, "the first one"),),
    )


def _too_large(node: syntax.Strategy) -> Diagnostic:
    return Diagnostic(
        "too-deep",
        "the program is too large once its rules are put in",
        Label(node.name.span),
        help="rules are inlined: assign the parts that are used often to variables",
    )


def _in_order(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """By place, each once (an action that is used twice is elaborated twice)."""
    unique = {(str(d.code), d.title, d.primary.span.start if d.primary else -1): d for d in diagnostics}
    return sorted(unique.values(), key=lambda d: d.primary.span.start if d.primary else -1)


def _function(ctx: Context, scope: Scope, function: syntax.Function) -> None:
    name = function.name.name
    if name in FUNCTIONS or name in WORDS:
        ctx.report(
            "reserved-name", f"`{name}` is a word of the language", function.name.span, help="choose another name"
        )
    elif name in scope.names:
        ctx.report("repeated-name", f"`{name}` is declared twice", function.name.span)
    else:
        scope.names[name] = Callable(function, scope)
    seen: set[str] = set()
    for taken in function.parameters:
        given = taken.name.name
        if given in WORDS:
            ctx.report("reserved-name", f"`{given}` is a word of the language", taken.span, help="choose another name")
        if given in seen:
            ctx.report("repeated-name", f"`{given}` is declared twice", taken.span)
        seen.add(given)


@dataclass
class Declared:
    """What the declarations of a strategy gave."""

    params: list[Param] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    canvases: list[Canvas] = field(default_factory=list)
    modules: list[Module] = field(default_factory=list)
    externs: list[Extern] = field(default_factory=list)
    trees: list[TreeFile] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    lossless: bool = False


def _strategy(
    ctx: Context, top: Scope, node: syntax.Strategy, settings: dict[str, Setting], text: str
) -> Strategy | None:
    scope = top.inner()
    given = Declared()
    for member in node.members:
        if isinstance(member, syntax.Function):
            _function(ctx, scope, member)
    for member in (*map(parameter, node.parameters), *(m for m in node.members if isinstance(m, DECLARATIONS))):
        _declare(ctx, scope, member, settings, given)
    _settings(node, settings)
    _complete(ctx, node)
    body = block(ctx, scope.inner(), tuple(m for m in node.members if not isinstance(m, DECLARATIONS)))
    if ctx.diagnostics:
        return None
    canvas_ = _rounded(ctx, given.canvases[0])
    params, states = tuple(given.params), tuple(given.states)
    models, modules = tuple(ctx.models), tuple(given.modules)
    externs, files = tuple(given.externs), tuple(given.trees)
    name, lossless = node.name.name, given.lossless
    more = modules, externs, files, tuple(given.rows)
    strategy = Strategy(name, params, models, canvas_, states, body, lossless, text, *more)
    if _oversized(strategy):
        ctx.diagnostics.append(_too_large(node))
    return strategy


def _declare(ctx: Context, scope: Scope, member: syntax.Stmt, settings: dict[str, Setting], given: Declared) -> None:
    name = member.name if isinstance(member, (*SET, syntax.Model, syntax.State)) else None
    try:
        if name is not None:
            _free(ctx, scope, name)
        match member:
            case syntax.Param():
                given.params.append(param(ctx, scope, member, settings))
            case syntax.Model():
                model(ctx, scope, member)
            case syntax.Module():
                given.modules.append(module(ctx, scope, member, settings))
            case syntax.Extern():
                given.externs.append(extern(ctx, scope, member, settings))
            case syntax.Canvas():
                given.canvases.append(canvas(ctx, member, given.canvases))
            case syntax.State():
                given.states.append(state(ctx, scope, member))
            case syntax.Tree():
                given.trees += tree(ctx, scope, member, settings)
            case syntax.Rows():
                given.rows.append(rows(ctx, scope, member, settings))
            case syntax.Require():
                given.lossless = _require(ctx, member)
    except Failed:
        if name is not None:
            scope.names.setdefault(name.name, Broken())


def _oversized(strategy: Strategy) -> bool:
    """Beyond what a later stage can walk: too many nodes, or nested too deeply. Shared parts count each time."""
    level: list[object] = [strategy]
    nodes = 0
    for _ in range(DEEPEST):
        nodes += len(level)
        if nodes > LARGEST or not level:
            return nodes > LARGEST
        level = [part for node in level for part in _parts(node)]
    return True


def _parts(node: object) -> list[object]:
    if isinstance(node, tuple):
        return list(node)
    if not is_dataclass(node) or isinstance(node, (Span, Type)):
        return []
    values = (getattr(node, f.name) for f in fields(node))
    return [v for v in values if isinstance(v, tuple) or is_dataclass(v)]


def _free(ctx: Context, scope: Scope, name: syntax.Ident) -> None:
    if name.name in WORDS:
        ctx.fail("reserved-name", f"`{name.name}` is a word of the language", name.span, help="choose another name")
    if name.name in scope.names:
        first = scope.names[name.name]
        place = first.expr.span if isinstance(first, Value) else getattr(first, "span", None)
        also = (Label(place, "first here"),) if place is not None else ()
        ctx.fail("repeated-name", f"`{name.name}` is declared twice", name.span, also=also)
    ctx.taken.add(name.name)


def _require(ctx: Context, node: syntax.Require) -> bool:
    if node.what.name != "lossless":
        ctx.fail(
            "unknown-requirement", f"`{node.what.name}` cannot be required", node.what.span, help="`require lossless`"
        )
    return True


def _settings(node: syntax.Strategy, settings: dict[str, Setting]) -> None:
    declared = {m.name.name for m in node.members if isinstance(m, SET)} | {p.name.name for p in node.parameters}
    for name in settings:
        if name not in declared:
            raise error(
                "unknown-parameter",
                f"the strategy `{node.name.name}` has no parameter `{name}`",
                suggest(name, declared, "parameters"),
            )


def _complete(ctx: Context, node: syntax.Strategy) -> None:
    members = node.members
    if not any(isinstance(m, syntax.Model) for m in members):
        ctx.report(
            "missing-model",
            "the strategy names no model",
            node.name.span,
            help="`model lm: causal` or `model lm: masked`",
        )
    if not any(isinstance(m, syntax.Canvas) for m in members):
        ctx.report(
            "missing-canvas",
            "the strategy has no canvas",
            node.name.span,
            help="`canvas answer = masked(length)`, or `empty(length)` to append",
        )


def _rounded(ctx: Context, made: Canvas) -> Canvas:
    """The canvas with its length rounded up as the loops ask."""
    if not ctx.rounding:
        return made
    origins = {over for _, over, _ in ctx.rounding}
    if len(origins) > 1:
        first, second = (next(span for _, o, span in ctx.rounding if o == origin) for origin in sorted(origins))
        ctx.report(
            "clashing-blocks",
            "the length cannot be rounded up from two origins",
            second,
            help="round up blocks of `answer` or of `canvas`, not both",
            also=(Label(first, "the other one"),),
        )
    sizes = (size for size, _, _ in ctx.rounding)
    over = origins.pop()
    return Canvas(made.init, math.lcm(*sizes), "canvas" if over == "canvas" else "answer", made.span)
