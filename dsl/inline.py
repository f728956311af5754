"""Rules and actions are inlined: their parameters become what was given for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dcompile.diagnostic import Label, suggest
from dcompile.dsl import syntax
from dcompile.dsl.scope import (
    Binding,
    Broken,
    Callable,
    Context,
    Distribution,
    DraftName,
    Failed,
    ModelName,
    RowsName,
    Scope,
    Table,
    TokenList,
    Trained,
    TreeName,
    Value,
    lookup,
)
from dcompile.dsl.values import builtin, expression
from dcompile.source import Span
from dcompile.strategy import Expr

DEEPEST = 16
PASSED = (Distribution, ModelName, TokenList, Trained, Table, TreeName, RowsName, DraftName)  # as they are


def arguments(ctx: Context, scope: Scope, called: Callable, node: syntax.Apply) -> tuple[Scope, list[tuple[str, Expr]]]:
    """A scope with the parameters bound, and those that are expressions (an action evaluates them first)."""
    function = called.function
    if function in ctx.stack or len(ctx.stack) >= DEEPEST:
        ctx.fail(
            "recursive-rule",
            f"`{function.name.name}` uses itself",
            node.function.span,
            help=f"{function.kind}s are inlined, so they cannot call themselves",
        )
    ctx.functions += 1
    inner = Scope(called.scope, predicate=scope.predicate, function=ctx.functions, caller=scope)
    inner.frame, inner.above = scope.frame, scope.above
    given = _match(ctx, function, node)
    exprs: list[tuple[str, Expr]] = []
    for parameter in function.parameters:
        name = parameter.name.name
        if name in given:
            binding = _argument(ctx, scope, given[name].value, name)
        elif parameter.default is not None:
            binding = _argument(ctx, called.scope, parameter.default, name)
        else:
            ctx.fail(
                "missing-argument",
                f"`{function.name.name}` needs `{name}`",
                node.span,
                also=(Label(parameter.span, "it has no default"),),
            )
        inner.names[name] = binding
        if isinstance(binding, Value):
            exprs.append((name, binding.expr))
    return inner, exprs


def _match(ctx: Context, function: syntax.Function, node: syntax.Apply) -> dict[str, syntax.Argument]:
    names = [p.name.name for p in function.parameters]
    return matched(ctx, function.name.name, names, node, function.name.span)


def matched(
    ctx: Context, called: str, names: Sequence[str], node: syntax.Apply, declared: Span
) -> dict[str, syntax.Argument]:
    """The arguments of a rule or an action by their names."""
    out: dict[str, syntax.Argument] = {}
    for i, argument in enumerate(node.arguments):
        if argument.name is None and i >= len(names):
            ctx.fail(
                "unknown-argument",
                f"`{called}` takes {len(names)} arguments",
                argument.span,
                also=(Label(declared, "declared here"),),
            )
        name = names[i] if argument.name is None else argument.name.name
        if name not in names:
            ctx.fail(
                "unknown-argument",
                f"`{called}` has no argument `{name}`",
                argument.span,
                help=suggest(name, names, "arguments"),
            )
        if name in out:
            ctx.fail(
                "repeated-argument",
                f"`{name}` is given twice",
                argument.span,
                also=(Label(out[name].span, "first here"),),
            )
        if argument.order:
            ctx.fail("unknown-argument", f"`{argument.order}` stands only behind `by:`", argument.span)
        out[name] = argument
    return out


def _argument(ctx: Context, scope: Scope, node: syntax.Expr, name: str) -> Binding:
    """A distribution, a model, a draft, a table ... is passed on as such; anything else by its value."""
    if isinstance(node, syntax.Word) and builtin(scope, node.span, node.name) is None:
        binding = lookup(ctx, scope, node.name, node.span)
        if isinstance(binding, PASSED):
            return binding
    return Value(expression(ctx, scope, node), "an argument")


def rule(ctx: Context, scope: Scope, called: Callable, node: syntax.Apply) -> Expr:
    """The value of a rule: its definitions are put in where they are used, then what it returns."""
    inner, _ = arguments(ctx, scope, called, node)
    body = called.function.body
    if not body or not isinstance(body[-1], syntax.Return):
        ctx.fail(
            "missing-return",
            f"the rule `{called.function.name.name}` returns nothing",
            called.function.name.span,
            help="its last line is `return value`",
        )
    ctx.stack.append(called.function)
    try:
        for statement in body[:-1]:
            _definition(ctx, inner, statement)
        return replace(expression(ctx, inner, body[-1].value))
    finally:
        ctx.stack.pop()


def _definition(ctx: Context, scope: Scope, statement: syntax.Stmt) -> None:
    if not isinstance(statement, syntax.Assign) or statement.options:
        ctx.fail(
            "impure-rule",
            "a rule only names values and returns one",
            statement.span,
            help="statements that act belong in an `action`",
        )
    name = statement.name.name
    try:
        scope.names[name] = _argument(ctx, scope, statement.value, name)
    except Failed:
        scope.names[name] = Broken()
        raise
