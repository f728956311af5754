"""Models that predict in any order: `p = lm(everything, order: x)`, and what such calls draft and verify."""

from __future__ import annotations

from collections.abc import Mapping

from dcompile.diagnostic import Diagnostic, Label
from dcompile.dsl import syntax
from dcompile.dsl.scope import Context, Distribution, ModelName, Scope, lookup
from dcompile.dsl.values import region, value
from dcompile.strategy import BOOL, TOKENS, Area, Expr, Literal, Stmt, Strategy, Type, Verify

USAGE = "`p = lm(everything, order: place)`"


def order(
    ctx: Context, scope: Scope, model: ModelName, name: syntax.Ident | None, feed: Expr,
    named: Mapping[str, syntax.Argument], given: dict[str, Expr | None],
) -> Expr | None:  # fmt: skip
    """The order that a call predicts in, None for a model that has one of its own."""
    asked = named.get("order")
    if model.use.attention != "permutation":
        if asked is not None:
            title = "only a model that predicts in any order is given one"
            ctx.fail("unknown-argument", title, asked.span, help="`model lm: permutation`")
        return None
    if asked is None:
        title = "this model predicts in any order, and is given none"
        ctx.fail("missing-argument", title, feed.span, help=USAGE)
    if model.use is not ctx.models[0]:
        ctx.fail("second-model", "only the first model of a strategy predicts in any order", asked.span)
    if name is None or not (isinstance(feed, Area) and feed.name == "everything"):
        title = "a model of any order stores nothing: each call is fed everything, and has a name"
        ctx.fail("misplaced-order", title, feed.span, help=USAGE)
    clash = next((n for n, e in given.items() if e is not None and n != "temperature"), None)
    if clash is not None:
        ctx.fail("misplaced-option", f"a call in an order has no `{clash}`", asked.span)
    given["keep"] = Literal(BOOL, feed.span, False)
    return value(ctx, scope, asked.value, Type("float", True), "the order")


def verify(ctx: Context, scope: Scope, node: syntax.Write) -> Stmt:
    """`commit tokens at region by rejection(q, p)`."""
    assert node.tokens is not None and node.region is not None and node.rule is not None
    tokens = value(ctx, scope, node.tokens, TOKENS, "what is committed")
    where = region(ctx, scope, node.region, "where `commit` writes")
    usage = "`commit guess at b by rejection(q, p)`"
    if node.rule.name != "rejection":
        ctx.fail("unknown-rule", f"there is no rule `{node.rule.name}` for positions", node.rule.span, help=usage)
    if len(node.arguments) != 2 or any(a.name is not None for a in node.arguments):
        title = "the rule takes the call that judges and the one that the tokens are of"
        ctx.fail("missing-argument", title, node.rule.span, help=usage)
    found = [_dist(ctx, scope, a.value, usage) for a in node.arguments]
    site, ctx.verifies = ctx.verifies, ctx.verifies + 1
    return Verify(node.span, "commit", where, tokens, site, found[0].name, found[1].name)


def _dist(ctx: Context, scope: Scope, node: syntax.Expr, usage: str) -> Distribution:
    found = lookup(ctx, scope, node.name, node.span) if isinstance(node, syntax.Word) else None
    if not isinstance(found, Distribution):
        ctx.fail("wrong-type", "this is not the result of a model call", node.span, help=usage)
    model = next(m for m in ctx.models if m.name == found.model)
    if model.attention != "permutation":
        also = (Label(found.span, "called here"),)
        title = "positions are judged by calls of a model that predicts in any order"
        ctx.fail("misplaced-order", title, node.span, help=USAGE, also=also)
    return found


def unfit(strategy: Strategy) -> list[Diagnostic]:
    """A model of any order on a canvas that grows."""
    first = strategy.models[0]
    if first.attention != "permutation" or strategy.canvas.init != "empty":
        return []
    title = "a model that predicts in any order fills a canvas of masks"
    return [Diagnostic("wrong-canvas", title, Label(strategy.canvas.span), help="`masked(length)`")]
