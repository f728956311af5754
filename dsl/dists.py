"""Whole distributions, `state P: dist`; tables, a number for each position and token; `kl`, `onehot`, `p plus x`."""

from __future__ import annotations

from collections.abc import Iterator

from dcompile.diagnostic import Diagnostic, Label
from dcompile.dsl import nodes, places, syntax
from dcompile.dsl.mistakes import not_yet
from dcompile.dsl.scope import Context, Distribution, Failed, Scope, Value, Variable, lookup
from dcompile.dsl.values import builtin, described, value
from dcompile.source import Span
from dcompile.strategy import (
    DIST,
    FIELD,
    NONE,
    REGION,
    TABLE,
    TOKENS,
    Adjust,
    Area,
    Assign,
    Divergence,
    Expr,
    ForBlocks,
    Literal,
    Name,
    OneHot,
    Op,
    Probabilities,
    Score,
    Stmt,
    Strategy,
    Type,
    outer_blocks,
    walk,
)


def state(ctx: Context, node: syntax.State) -> tuple[Type, Expr]:
    """The type of `state P: dist = none` and its start."""
    if node.dimensions:
        ctx.fail(
            "unknown-type",
            "a `dist` has no dimensions: it holds a distribution for each position",
            node.dimensions[0].span,
            help=f"`state {node.name.name}: dist = none`",
        )
    if not _is_none(node.init):
        ctx.fail("not-constant", "a stored distribution starts as `none`", node.init.span)
    return DIST, Literal(DIST, node.init.span, NONE)


def dimensions(ctx: Context, node: syntax.State) -> Type:
    """What `[canvas]` and `[canvas, vocab]` make of a state's type."""
    names = [d.name if isinstance(d, syntax.Word) else "" for d in node.dimensions]
    if names == ["canvas", "vocab"] and node.kind.name == "float":
        return TABLE
    if names not in ([], ["canvas"]):
        ctx.diagnostics.append(not_yet("tables as state", node.dimensions[0].span))
        raise Failed
    return Type(node.kind.name, bool(names))  # type: ignore[arg-type]


def _is_none(node: syntax.Expr) -> bool:
    return isinstance(node, syntax.Word) and node.name == "none"


def whole(ctx: Context, scope: Scope, node: syntax.Expr, what: str) -> Expr:
    """A distribution as a value: of a call, of a state, or `none`."""
    if _is_none(node):
        return Literal(DIST, node.span, NONE)
    if isinstance(node, syntax.Attribute) and node.name.name == "warped":
        found = _distribution(ctx, scope, node.value)
        _kept(ctx, scope, found, node.span)
        return Score(DIST, node.span, found.name, "dist", None, True)
    if isinstance(node, syntax.Word) and builtin(scope, node.span, node.name) is None:
        binding = lookup(ctx, scope, node.name, node.span)
        if isinstance(binding, Distribution):
            _kept(ctx, scope, binding, node.span)
            return Score(DIST, node.span, binding.name, "dist")
        if isinstance(binding, Variable) and binding.type == DIST:
            places.variable(ctx, scope, node.span, node.name)
            return Name(DIST, node.span, binding.name)
        if isinstance(binding, Value) and binding.expr.type == DIST:
            return binding.expr
    ctx.fail(
        "wrong-type",
        f"{what} must be a distribution",
        node.span,
        help="the `p` of `p = lm(region)`, a `state` of type `dist`, or `none`",
    )
    return None


def _kept(ctx: Context, scope: Scope, dist: Distribution, span: Span) -> None:
    """For nodes where nodes are meant, in what fills a table; for positions of the canvas elsewhere."""
    (nodes.canvas if scope.frame is None else nodes.known)(ctx, scope, dist, span)


def assign(ctx: Context, scope: Scope, node: syntax.Assign, target: Variable) -> Stmt:
    """`P = p`, `P = none`."""
    return Assign(node.span, target.name, whole(ctx, scope, node.value, f"`{node.name.name}`"))


def spread(expr: Expr) -> Expr:
    """A number, for the row or each position, as one for each token too."""
    if expr.type.wide:
        return expr
    return Op(TABLE, expr.span, "select", (Area(REGION, expr.span, "everything"), expr, expr))


def adjust(ctx: Context, scope: Scope, node: syntax.Assign) -> Stmt:
    """`q = p plus x`."""
    (option, *more) = node.options
    if more:
        ctx.fail("misplaced-option", "one `plus` behind a distribution", more[0].span)
    found = _distribution(ctx, scope, node.value)
    nodes.canvas(ctx, scope, found, node.span)
    assert option.value is not None
    added = value(ctx, scope, option.value, TABLE, "what is added")
    if not added.type.wide:
        ctx.fail(
            "wrong-type",
            "what is added must be a number for each token",
            added.span,
            f"this is {described(added.type)}",
            "a number that is the same for all tokens changes nothing: `onehot(token)`, or a `float[canvas, vocab]`",
        )
    name = node.name.name
    taken = scope.find(name)
    if taken is not None and isinstance(taken[1], Variable):
        also = (Label(taken[1].span, "assigned here"),)
        ctx.fail("not-assignable", f"`{name}` holds a value, not a distribution", node.name.span, also=also)
    unique = ctx.unique(name)
    ctx.serial += 1
    scope.names[name] = Distribution(unique, found.model, found.feed, ctx.serial, node.name.span)
    scope.stale.pop(name, None)
    ctx.assigned.append((scope.function, name))
    return Adjust(node.span, unique, found.name, added)


def _distribution(ctx: Context, scope: Scope, node: syntax.Expr) -> Distribution:
    if isinstance(node, syntax.Word) and builtin(scope, node.span, node.name) is None:
        binding = lookup(ctx, scope, node.name, node.span)
        if isinstance(binding, Distribution):
            return binding
    ctx.fail(
        "misplaced-option",
        "`plus` stands only behind the result of a model call",
        node.span,
        help="`p = lm(region)`, then `q = p plus x`",
    )
    return None


def kl(ctx: Context, scope: Scope, span: Span, left: syntax.Expr, right: syntax.Expr) -> Expr:
    """`kl(p, P)`."""
    both = [whole(ctx, scope, node, "each argument of `kl`") for node in (left, right)]
    return Divergence(FIELD, span, both[0], both[1])


def probs(ctx: Context, scope: Scope, span: Span, of: syntax.Expr) -> Expr:
    """`probs(P)`."""
    return Probabilities(TABLE, span, whole(ctx, scope, of, "the argument of `probs`"))


def onehot(ctx: Context, scope: Scope, span: Span, of: syntax.Expr) -> Expr:
    """`onehot(p.token)`."""
    return OneHot(TABLE, span, value(ctx, scope, of, TOKENS, "the token"))


# ---------------------------------------------------------------- checks


def unfit(strategy: Strategy) -> Iterator[Diagnostic]:
    """An error for each wide state of a block that is used where there is no block."""
    wide = {s.name: s for s in strategy.states if s.type.wide and s.lifetime == "block"}
    inside = {id(n) for loop in outer_blocks(strategy.body) for n in walk(loop.body)}
    for node in walk(strategy.body):
        if id(node) in inside or isinstance(node, ForBlocks) or not isinstance(node, (Name, Assign)):
            continue
        if (state_ := wide.pop(node.name, None)) is not None:
            yield Diagnostic(
                "outside-of-blocks",
                f"`{node.name}` lives for a block, and here is none",
                Label(node.span),
                (Label(state_.span, "declared here"),),
                "use it inside `for b in blocks(...)`; without `per block` it holds the whole canvas",
            )
