"""Functions of the language: regions, `take` and `top`, reductions, arithmetic; and rules, which are inlined."""

from __future__ import annotations

from collections.abc import Callable as Fn

from dcompile.diagnostic import Label, suggest
from dcompile.dsl import dists, externs, syntax, tables, vectors
from dcompile.dsl.inline import rule
from dcompile.dsl.scope import Callable, Context, Distribution, ModelName, Scope, Trained, lookup
from dcompile.dsl.values import constant, described, expression, number, op, region, to_float, value
from dcompile.strategy import (
    BOOL,
    FIELD,
    INT,
    REGION,
    TOKEN,
    Dilate,
    Expr,
    Extern,
    Learned,
    Literal,
    Module,
    Near,
    Reduce,
    Running,
    Take,
    Type,
    Unreadable,
    Whole,
)

Arguments = dict[str, syntax.Argument]


def apply(ctx: Context, scope: Scope, node: syntax.Apply) -> Expr:
    """`name(arguments)` as a value."""
    name = node.function.name
    if scope.frame is not None and name in FUNCTIONS and name not in OF_NODES:
        help = "assign what you need of the canvas to a variable before"
        ctx.fail("misplaced-node", f"`{name}` looks at the canvas: here are nodes of a draft", node.span, help=help)
    if name in FUNCTIONS:
        names, only_named, build = FUNCTIONS[name]
        return build(ctx, scope, node, bind(ctx, node, names, only_named))
    found = scope.find(name)
    if found is None:
        known = FUNCTIONS.keys() | {n for n in scope.visible() if isinstance((scope.find(n) or (0, 0))[1], Callable)}
        ctx.fail(
            "unknown-function",
            f"there is no function `{name}`",
            node.function.span,
            help=suggest(name, known, "functions"),
        )
    binding = lookup(ctx, scope, name, node.function.span)
    if isinstance(binding, ModelName):
        ctx.fail(
            "misplaced-call",
            "a model call is a statement of its own",
            node.span,
            help=f"write `p = {name}(region)` on a line before, then use `p`",
        )
    if isinstance(binding, Trained) and isinstance(binding.module, Module) and binding.module.takes:
        return vectors.called(ctx, scope, node)
    if isinstance(binding, Trained):
        if scope.frame is not None:
            ctx.fail("misplaced-node", f"`{name}` looks at the canvas: here are nodes of a draft", node.span)
        if isinstance(binding.module, Extern):
            return externs.apply(ctx, _plain(scope), binding.module, node)
        return _learned(ctx, _plain(scope), binding.module.name, node)
    if not isinstance(binding, Callable):
        what = "a distribution" if isinstance(binding, Distribution) else "a value"
        ctx.fail("wrong-type", f"`{name}` is {what}, not a function", node.function.span)
    if binding.function.kind == "action":
        ctx.fail(
            "misplaced-action",
            f"`{name}` is an action: a statement, not a value",
            node.span,
            help="put it on a line of its own, or make it a `rule`",
        )
    return rule(ctx, scope, binding, node)


def bind(ctx: Context, node: syntax.Apply, names: tuple[str, ...], only_named: tuple[str, ...] = ()) -> Arguments:
    """Arguments by name; the missing ones are left out."""
    out: Arguments = {}
    called = node.function.name
    for i, argument in enumerate(node.arguments):
        if argument.name is None and i >= len(names):
            ctx.fail(
                "unknown-argument",
                f"`{called}` takes {len(names)} arguments without a name",
                argument.span,
                help=f"name it: {', '.join(f'`{n}:`' for n in only_named)}" if only_named else None,
            )
        name = names[i] if argument.name is None else argument.name.name
        if name not in names + only_named:
            ctx.fail(
                "unknown-argument",
                f"`{called}` has no argument `{name}`",
                argument.span,
                help=suggest(name, names + only_named, "arguments"),
            )
        if name in out:
            ctx.fail(
                "repeated-argument",
                f"`{name}` is given twice",
                argument.span,
                also=(Label(out[name].span, "first here"),),
            )
        if argument.order and name != "by":
            ctx.fail("unknown-argument", f"`{argument.order}` stands only behind `by:`", argument.span)
        out[name] = argument
    return out


def need(ctx: Context, node: syntax.Apply, arguments: Arguments, name: str) -> syntax.Expr:
    """An argument that must be there."""
    if name not in arguments:
        called = node.function.name
        ctx.fail(
            "missing-argument", f"`{called}` needs its {name}", node.span, help=f"`{USAGE.get(called, called + '(x)')}`"
        )
    return arguments[name].value


def _learned(ctx: Context, scope: Scope, module: str, node: syntax.Apply) -> Expr:
    """`module(x in block)`."""
    called = node.function.name
    (only, *more) = node.arguments or (None,)
    if only is None or more or only.name is not None or not isinstance(only.value, syntax.In):
        help = f"`{called}(p.max in b)`"
        ctx.fail("missing-region", f"`{called}` takes one value for each position of a block", node.span, help=help)
    around = region(ctx, scope, only.value.region, "what stands behind `in`")
    inner = number(ctx, expression(ctx, scope, only.value.value), "the value")
    return Learned(FIELD, node.span, module, to_float(inner), around)


# ---------------------------------------------------------------- take and top


def _take(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    plain = _plain(scope)
    around = region(ctx, plain, need(ctx, node, a, "region"), "what `take` takes from")
    key, descending = _key(ctx, plain, a.get("by"), "asc")
    predicate = None
    if "while" in a:
        predicate = value(ctx, plain.inner(predicate=True), a["while"].value, REGION, "what stands behind `while:`")
        predicate = None if isinstance(predicate, Literal) and predicate.value else predicate
    least, most = (_count(ctx, plain, a.get(name)) for name in ("atleast", "atmost"))
    per, size = _per(ctx, plain, a.get("per"))
    return Take(REGION, node.span, around, key, descending, predicate, least, most, per, size)  # type: ignore[arg-type]


def _top(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    plain = _plain(scope)
    around = region(ctx, plain, need(ctx, node, a, "region"), "what `top` takes from")
    most = value(ctx, plain, need(ctx, node, a, "count"), INT, "the count")
    key, descending = _key(ctx, plain, a.get("by"), "desc")
    return Take(REGION, node.span, around, key, descending, None, None, most)


def _plain(scope: Scope) -> Scope:
    inner = scope.inner()
    inner.predicate = False
    return inner


def _key(ctx: Context, scope: Scope, by: syntax.Argument | None, order: str) -> tuple[Expr | None, bool]:
    if by is None:
        return None, False
    descending = (by.order or order) == "desc"
    if isinstance(by.value, syntax.Word) and by.value.name == "position" and (by.order or "asc") == "asc":
        return None, False
    key = number(ctx, expression(ctx, scope, by.value), "the key")
    if not key.type.each:
        ctx.fail(
            "wrong-type",
            "the key must be a number per position",
            key.span,
            f"this is {described(key.type)}",
            "sort by a score: `p.max`, `p.entropy`, or by `position`",
        )
    return to_float(key), descending


def _count(ctx: Context, scope: Scope, argument: syntax.Argument | None) -> Expr | None:
    if argument is None:
        return None
    assert argument.name is not None
    return value(ctx, scope, argument.value, INT, f"`{argument.name.name}`")


def _per(ctx: Context, scope: Scope, argument: syntax.Argument | None) -> tuple[str, Expr | None]:
    if argument is None:
        return "", None
    match argument.value:
        case syntax.Word(_, "runs"):
            return "runs", None
        case syntax.Apply(span, syntax.Ident(_, "blocks"), (syntax.Argument(_, None, size),)):
            return "blocks", Literal(INT, span, constant(ctx, scope, size, "the block size", 1))
    ctx.fail("wrong-type", "`per:` is `runs` or `blocks(n)`", argument.value.span)
    return None


# ---------------------------------------------------------------- regions


def _near(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    around = region(ctx, scope, need(ctx, node, a, "region"))
    return Near(REGION, node.span, node.function.name, around)  # type: ignore[arg-type]


def _dilate(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    around = region(ctx, scope, need(ctx, node, a, "region"))
    return Dilate(REGION, node.span, around, value(ctx, scope, need(ctx, node, a, "radius"), INT, "the radius"))


def _whole(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    around = region(ctx, scope, need(ctx, node, a, "region"))
    return Whole(REGION, node.span, around, value(ctx, scope, need(ctx, node, a, "size"), INT, "the block size"))


def _unreadable(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    around = region(ctx, scope, need(ctx, node, a, "region"))
    if not ctx.models:
        ctx.fail("missing-model", "`unreadable` needs a model", node.span)
    return Unreadable(REGION, node.span, around, ctx.models[0].name)


# ---------------------------------------------------------------- reductions and arithmetic


def _set(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    """`any(R)`, `count(R)`."""
    kind = node.function.name
    return Reduce(BOOL if kind == "any" else INT, node.span, kind, region(ctx, scope, need(ctx, node, a, "region")))  # type: ignore[arg-type]


def _over(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    """`sum(x in R)`, `all(x in R)`, `max(x in R)`; without `in`, a running value; of two arguments, arithmetic."""
    kind = node.function.name
    first = need(ctx, node, a, "value")
    if "other" in a:
        return _larger(ctx, scope, node, first, a["other"].value)
    if isinstance(first, syntax.In):
        around = region(ctx, scope, first.region, "what stands behind `in`")
        if kind == "all":
            truth = value(ctx, scope, first.value, REGION, "what must hold")
            return Reduce(BOOL, node.span, "all", around, truth)
        inner = number(ctx, expression(ctx, scope, first.value), "the value")
        inner = inner if kind == "sum" else to_float(inner)
        return Reduce(Type(inner.type.base), node.span, kind, around, inner)  # type: ignore[arg-type]
    if scope.predicate and kind in ("sum", "max"):
        inner = to_float(number(ctx, expression(ctx, _plain(scope), first), "the value"))
        return Running(Type("float", True), node.span, kind, inner)  # type: ignore[arg-type]
    ctx.fail("missing-region", f"`{kind}` must be told over which positions", node.span, help=f"`{kind}(x in region)`")
    return None


def _larger(ctx: Context, scope: Scope, node: syntax.Apply, first: syntax.Expr, second: syntax.Expr) -> Expr:
    kind = node.function.name
    if kind not in ("min", "max"):
        ctx.fail("unknown-argument", f"`{kind}` takes one argument", second.span, help=f"`{kind}(x in region)`")
    left, right = (number(ctx, expression(ctx, scope, e), "the value", wide=True) for e in (first, second))
    if left.type.base != right.type.base:
        left, right = to_float(left), to_float(right)
    return op(kind, left.type.base, (left, right), node.span)


def _math(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    kind = node.function.name
    given = expression(ctx, scope, need(ctx, node, a, "value"))
    inner = number(ctx, given, "the value", wide=kind not in ("floor", "ceil"))
    if kind == "abs":
        return op("abs", inner.type.base, (inner,), node.span)
    if kind in ("floor", "ceil"):
        return inner if inner.type.base == "int" else op(kind, "int", (inner,), node.span)
    return op(kind, "float", (to_float(inner),), node.span)


def _silu(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    """x times its sigmoid."""
    inner = expression(ctx, scope, need(ctx, node, a, "value"))
    inner = inner if inner.type.base == "vector" else to_float(number(ctx, inner, "the value"))
    return op("silu", inner.type.base, (inner,), node.span)


def _kl(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    return dists.kl(ctx, scope, node.span, need(ctx, node, a, "distribution"), need(ctx, node, a, "other"))


def _probs(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    return dists.probs(ctx, scope, node.span, need(ctx, node, a, "distribution"))


def _onehot(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    return dists.onehot(ctx, scope, node.span, need(ctx, node, a, "token"))


def _token(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    return Literal(TOKEN, node.span, constant(ctx, scope, need(ctx, node, a, "id"), "a token id"))


def _blocks(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    ctx.fail("misplaced-blocks", "`blocks` stands only in `for b in blocks(...)` and behind `per:`", node.span)


Build = Fn[[Context, Scope, syntax.Apply, Arguments], Expr]


def _found(ctx: Context, scope: Scope, node: syntax.Apply, a: Arguments) -> Expr:
    which = a["which"].value if "which" in a else None
    return tables.found(ctx, scope, node, need(ctx, node, a, "size"), which)


def _random(ctx: Context, scope: Scope, node: syntax.Apply, given: dict[str, syntax.Argument]) -> Expr:
    ctx.fail(
        "misplaced-random",
        "`random()` stands alone behind `=`, in a strategy or an action",
        node.span,
        help="`u = random()`, then `u < 0.5`: what is drawn once can be read often",
    )


FUNCTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Build]] = {
    "random": ((), (), _random),
    "take": (("region",), ("by", "while", "atleast", "atmost", "per"), _take),
    "top": (("region", "count"), ("by",), _top),
    "dilate": (("region", "radius"), (), _dilate),
    "whole": (("region", "size"), (), _whole),
    "unreadable": (("region",), (), _unreadable),
    "token": (("id",), (), _token),
    "found": (("size", "which"), (), _found),
    "kl": (("distribution", "other"), (), _kl),
    "onehot": (("token",), (), _onehot),
    "probs": (("distribution",), (), _probs),
    "blocks": (("over", "size"), ("short",), _blocks),
    **dict.fromkeys(("before", "after", "from", "upto", "first"), (("region",), (), _near)),
    **dict.fromkeys(("any", "count"), (("region",), (), _set)),
    **dict.fromkeys(("all", "sum", "mean", "max", "min"), (("value", "other"), (), _over)),
    "silu": (("value",), (), _silu),
    **dict.fromkeys(("floor", "ceil", "log", "exp", "sqrt", "cos", "abs"), (("value",), (), _math)),
}
USAGE = {
    "take": "take(R, by: p.max desc, while: p.max >= 0.9, atleast: 1)", "top": "top(R, n, by: p.max)",
    "dilate": "dilate(R, radius)", "whole": "whole(R, size)", "token": "token(id)", "any": "any(R)", "kl": "kl(p, P)",
    "count": "count(R)", "onehot": "onehot(p.token)", "probs": "probs(P)",
    "sum": "sum(x in R)", "mean": "mean(x in R)", "all": "all(x in R)", "max": "max(x in R)", "min": "min(x in R)",
    "blocks": "blocks(answer, size)", "found": "found(2)",
}  # fmt: skip
OF_NODES = ("token", "found", "min", "max", "floor", "ceil", "log", "exp", "sqrt", "cos", "abs", "silu")
