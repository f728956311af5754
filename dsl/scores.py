"""Scores: what is read from the distribution that a model call gave."""

from __future__ import annotations

from dcompile.diagnostic import suggest
from dcompile.dsl import nodes, shadows, syntax, vectors
from dcompile.dsl.mistakes import not_yet
from dcompile.dsl.scope import Context, Distribution, Failed, Scope, TokenList, lookup
from dcompile.dsl.values import builtin, constant, value
from dcompile.source import Span
from dcompile.strategy import TOKENS, Expr, Score, Type

SCORES = ("max", "top", "token", "sample", "entropy", "margin", "gap")
LATER = {"logits": "`logits`"}


def view(ctx: Context, scope: Scope, node: syntax.Expr) -> tuple[Distribution, bool, tuple[int, ...]]:
    """The distribution that a score is read from: whether warped, and the tokens taken out."""
    match node:
        case syntax.Word(span, name):
            binding = lookup(ctx, scope, name, span) if builtin(scope, span, name) is None else None
            if isinstance(binding, Distribution):
                return binding, False, ()
            ctx.fail(
                "wrong-type",
                f"`{name}` is not a distribution",
                span,
                help="scores are read from `p` of `p = lm(region)`",
            )
        case syntax.Attribute(_, inner, syntax.Ident(_, "warped")):
            dist, _, without = view(ctx, scope, inner)
            return dist, True, without
        case syntax.Attribute(_, inner, syntax.Ident(_, "shadow")):
            dist, warped, without = view(ctx, scope, inner)
            return shadows.of(ctx, dist, node), warped, without
        case syntax.Method(_, inner, syntax.Ident(_, "without"), arguments):
            dist, warped, without = view(ctx, scope, inner)
            return dist, warped, without + tokens_of(ctx, scope, arguments, node.span)
    if isinstance(node, syntax.Apply):
        ctx.apply(ctx, scope, node)
    ctx.fail(
        "wrong-type",
        "scores are read from the result of a model call",
        node.span,
        help="`p = lm(region)`, then `p.max`",
    )
    return None


def tokens_of(ctx: Context, scope: Scope, arguments: tuple[syntax.Argument, ...], span: Span) -> tuple[int, ...]:
    """Token ids that are known before the build: `without(hidden)`, `without([1, 2])`, `without(5)`."""
    out: list[int] = []
    for argument in arguments:
        node = argument.value
        if isinstance(node, syntax.Word) and builtin(scope, span, node.name) is None:
            binding = lookup(ctx, scope, node.name, node.span)
            if isinstance(binding, TokenList):
                out += binding.ids
                continue
        for item in node.items if isinstance(node, syntax.Listing) else (node,):
            out.append(constant(ctx, scope, item, "a token id"))
    return tuple(dict.fromkeys(out))


def score(ctx: Context, scope: Scope, node: syntax.Attribute | syntax.Method) -> Expr:
    """`p.max`, `p.warped.entropy`, `p.without(ids).prob(p.token)`."""
    name = node.name.name
    if (found := nodes.attribute(ctx, scope, node) or vectors.attribute(ctx, scope, node)) is not None:
        return found
    if name in LATER:
        ctx.diagnostics.append(not_yet(LATER[name], node.name.span))
        raise Failed
    if name == "top" and isinstance(node, syntax.Method):
        help = "`table[t.token] = p.top(8)`: the likeliest tokens at each node of a draft"
        ctx.fail("misplaced-top", "`top(k)` stands only as what a table is filled with", node.span, help=help)
    dist, warped, without = view(ctx, scope, node.value)
    nodes.known(ctx, scope, dist, node.span)
    if name == "prob":
        return _prob(ctx, scope, node, dist, warped, without)
    if name not in SCORES:
        ctx.fail(
            "unknown-score",
            f"a distribution has no `{name}`",
            node.name.span,
            help=suggest(name, {*SCORES, "prob", "warped", "without", "shadow"}, "scores"),
        )
    if isinstance(node, syntax.Method):
        ctx.fail("unknown-argument", f"`{name}` takes no arguments", node.name.span, help=f"write `.{name}`")
    if name in shadows.DRAWS and _of_shadows(node.value):
        ctx.fail("unknown-score", "nothing is drawn from shadows", node.span, help="the likeliest token is `.top`")
    if name in shadows.DRAWS and (warped or without):
        ctx.fail(
            "unknown-score", f"`{name}` is one, whatever is taken out or warped", node.span, help=f"write `p.{name}`"
        )
    type = TOKENS if name in ("top", "token", "sample") else Type("float", True)
    return Score(type, node.span, dist.name, name, None, warped, without)  # type: ignore[arg-type]


def _of_shadows(node: syntax.Expr) -> bool:
    inner = node
    while isinstance(inner, (syntax.Attribute, syntax.Method)):
        if inner.name.name == "shadow":
            return True
        inner = inner.value
    return False


def _prob(ctx: Context, scope: Scope, node: syntax.Attribute | syntax.Method, dist: Distribution, warped: bool,
          without: tuple[int, ...]) -> Expr:  # fmt: skip
    arguments = node.arguments if isinstance(node, syntax.Method) else ()
    if len(arguments) != 1:
        ctx.fail("missing-argument", "`prob` takes one argument: the token", node.span, help="`p.prob(p.token)`")
    of = value(ctx, scope, arguments[0].value, TOKENS, "the token")
    return Score(Type("float", True), node.span, dist.name, "prob", of, warped, without)
