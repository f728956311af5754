"""Syntax tree to Strategy: declarations, then the body. All mistakes of a file are collected."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dcompile.diagnostic import CompileError, Diagnostic, Label, error, suggest
from dcompile.dsl import syntax
from dcompile.dsl.checker import check
from dcompile.dsl.declare import Setting, canvas, model, param, parameter, state
from dcompile.dsl.scope import WORDS, Broken, Callable, Context, Failed, Scope, Value
from dcompile.dsl.scores import score
from dcompile.dsl.selection import FUNCTIONS, apply
from dcompile.dsl.statements import block
from dcompile.source import Span
from dcompile.strategy import Canvas, Param, State, Strategy, walk

LARGEST = 20_000
DECLARATIONS = (syntax.Param, syntax.Model, syntax.Canvas, syntax.State, syntax.Require, syntax.Function)


def elaborate(file: syntax.File, settings: Mapping[str, Setting] | None = None) -> Strategy:
    """The meaning of a file with one strategy; `settings` replace parameters. Raises CompileError with all mistakes."""
    ctx = Context(apply, score)
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


def _strategy(
    ctx: Context, top: Scope, node: syntax.Strategy, settings: dict[str, Setting], text: str
) -> Strategy | None:
    scope = top.inner()
    params: list[Param] = []
    states: list[State] = []
    canvases: list[Canvas] = []
    lossless = False
    for member in node.members:
        if isinstance(member, syntax.Function):
            _function(ctx, scope, member)
    for member in (*map(parameter, node.parameters), *(m for m in node.members if isinstance(m, DECLARATIONS))):
        name = member.name if isinstance(member, (syntax.Param, syntax.Model, syntax.State)) else None
        try:
            if name is not None:
                _free(ctx, scope, name)
            match member:
                case syntax.Param():
                    params.append(param(ctx, scope, member, settings))
                case syntax.Model():
                    model(ctx, scope, member)
                case syntax.Canvas():
                    canvases.append(canvas(ctx, member, canvases))
                case syntax.State():
                    states.append(state(ctx, scope, member))
                case syntax.Require():
                    lossless = _require(ctx, member)
        except Failed:
            if name is not None:
                scope.names.setdefault(name.name, Broken())
    _settings(node, settings, params)
    _complete(ctx, node, canvases)
    body = block(ctx, scope.inner(), tuple(m for m in node.members if not isinstance(m, DECLARATIONS)))
    if ctx.diagnostics:
        return None
    rounded = _rounded(ctx, canvases[0])
    strategy = Strategy(node.name.name, tuple(params), tuple(ctx.models), rounded, tuple(states), body, lossless, text)
    if sum(1 for _, _ in zip(walk(strategy), range(LARGEST + 1), strict=False)) > LARGEST:
        ctx.diagnostics.append(_too_large(node))
    return strategy


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


def _settings(node: syntax.Strategy, settings: dict[str, Setting], params: list[Param]) -> None:
    declared = {m.name.name for m in node.members if isinstance(m, syntax.Param)} | {
        p.name.name for p in node.parameters
    }
    for name in settings:
        if name not in declared:
            raise error(
                "unknown-parameter",
                f"the strategy `{node.name.name}` has no parameter `{name}`",
                suggest(name, declared, "parameters"),
            )
    assert all(p.name in declared for p in params)


def _complete(ctx: Context, node: syntax.Strategy, canvases: list[Canvas]) -> None:
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
