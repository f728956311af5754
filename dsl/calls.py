"""Model calls: what is fed, what is kept, how it is read."""

from __future__ import annotations

from dcompile.diagnostic import Label, suggest
from dcompile.dsl import syntax
from dcompile.dsl.scope import Context, Distribution, ModelName, Scope, Variable, lookup
from dcompile.dsl.values import region, value
from dcompile.strategy import BOOL, FLOAT, Call, Expr, Literal, Stmt


def call(ctx: Context, scope: Scope, name: syntax.Ident | None, node: syntax.Apply,
         options: tuple[syntax.Option, ...]) -> Stmt:  # fmt: skip
    """A model call, with what it keeps and how it reads."""
    binding = lookup(ctx, scope, node.function.name, node.function.span)
    if not isinstance(binding, ModelName):
        ctx.fail("wrong-type", f"`{node.function.name}` is not a model", node.function.span)
    if len(node.arguments) != 1 or node.arguments[0].name is not None:
        wrong = next((a for a in node.arguments if a.name is not None), None)
        ctx.fail(
            "unknown-argument" if wrong else "missing-argument",
            "a model call takes one region: what is fed",
            wrong.span if wrong else node.span,
            help=f"`{node.function.name}(everything)`",
        )
    feed = region(ctx, scope, node.arguments[0].value, "what is fed")
    given = _options(ctx, scope, options)
    site, ctx.calls = ctx.calls, ctx.calls + 1
    unique = None
    if name is not None:
        found = scope.find(name.name)
        if found is not None and isinstance(found[1], Variable):
            ctx.fail(
                "not-assignable",
                f"`{name.name}` holds a value, so it cannot name the result of a call",
                name.span,
                also=(Label(found[1].span, "assigned here"),),
            )
        unique = ctx.unique(name.name)
        ctx.serial += 1
        scope.names[name.name] = Distribution(unique, binding.use.name, feed, ctx.serial, name.span)
        scope.stale.pop(name.name, None)
        ctx.assigned.append((scope.function, name.name))
    span = name.span.to(node.span) if name else node.span
    if options:
        span = span.to(options[-1].span)
    return Call(span, unique, binding.use.name, feed, given["keep"], given["guidance"], given["temperature"], site)


def _options(ctx: Context, scope: Scope, options: tuple[syntax.Option, ...]) -> dict[str, Expr | None]:
    out: dict[str, Expr | None] = {"keep": None, "guidance": None, "temperature": None}
    seen: set[str] = set()
    for option in options:
        name = option.name.name
        if name == "plus":
            ctx.fail(
                "misplaced-option",
                "`plus` stands behind a distribution",
                option.span,
                help="on the next line: `q = p plus x`",
            )
        if name not in out:
            ctx.fail(
                "unknown-argument",
                f"a model call has no `{name}`",
                option.name.span,
                help=suggest(name, out, "options"),
            )
        if name in seen:
            ctx.fail("repeated-argument", f"`{name}` is given twice", option.span)
        seen.add(name)
        if option.value is None:
            out[name] = Literal(BOOL, option.span, False)
        elif name == "keep":
            out[name] = region(ctx, scope, option.value, "what is kept")
        else:
            out[name] = value(ctx, scope, option.value, FLOAT, f"the {name}")
    guidance = out["guidance"]
    if isinstance(guidance, Literal) and guidance.value == 0:
        out["guidance"] = None
    return out
