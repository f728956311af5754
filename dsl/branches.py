"""Verified branches: their elaboration, and whether their drafts change the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable as Fn

from dcompile.diagnostic import Label
from dcompile.dsl import syntax
from dcompile.dsl.progress import head
from dcompile.dsl.regions import World, most
from dcompile.dsl.scope import WORDS, Context, Scope, Value, close
from dcompile.dsl.values import constant, region, value
from dcompile.strategy import INT, TOKENS, Assign, Branches, Call, Expr, If, Literal, Name, Random, Stmt, Write, walk

Body = Fn[[Context, Scope, tuple[syntax.Stmt, ...]], tuple[Stmt, ...]]
WIDEST = 64  # branches; each is a copy of what the call feeds


def branches(ctx: Context, scope: Scope, node: syntax.Branches, body: Body) -> Stmt:
    """`branch j in a to b { } accept tokens at region`."""
    if node.name.name in WORDS:
        title = f"`{node.name.name}` is a word of the language"
        ctx.fail("reserved-name", title, node.name.span, help="choose another name")
    first = constant(ctx, scope, node.start, "the first branch")
    stop = value(ctx, scope, node.stop, INT, "the last branch")
    width = _width(ctx, first, stop)
    inner, unique = scope.inner(), ctx.unique(node.name.name)
    inner.names[node.name.name] = Value(Name(INT, node.name.span, unique), "a branch's number")
    mark = len(ctx.uses), ctx.serial
    loops, ctx.loops = ctx.loops, 0
    try:
        done = body(ctx, inner, node.body)
    finally:
        ctx.loops = loops
    tokens = value(ctx, inner, node.tokens, TOKENS, "what `accept` expects")
    where = region(ctx, inner, node.region, "where `accept` expects it")
    _outer_calls(ctx, mark)
    close(ctx, inner)
    _straight(ctx, node, done)
    start = Literal(INT, node.start.span, first)
    return Branches(node.span, unique, start, stop, width, done, tokens, where, node.within)


def _width(ctx: Context, first: int, stop: Expr) -> int:
    last = most(World(), stop)
    if not math.isfinite(last) or last - first + 1 > WIDEST:
        how = f"this may be {int(last - first) + 1}" if math.isfinite(last) else "this has no bound"
        title = f"how many branches there are at most must be known at the build, and be no more than {WIDEST}"
        ctx.fail("branch-width", title, stop.span, how, "`min(width, ...)`, with a `param width`")
    if last < first:
        ctx.fail("branch-width", "there is no branch", stop.span, f"the first is {first}")
    return int(last) - first + 1


def _outer_calls(ctx: Context, mark: tuple[int, int]) -> None:
    """A distribution from before: its rows belong to no branch."""
    uses, serial = mark
    for _, name, dist, span in ctx.uses[uses:]:
        if dist.serial <= serial:
            also = (Label(dist.span, "called here"),)
            help = f"keep what is needed in a variable first: `guess = {name}.token`"
            ctx.report(
                "branch-distribution", f"`{name}` is read in a branch, and called before", span, help=help, also=also
            )


def _allowed(node: Stmt) -> bool:
    match node:
        case Write(action="commit" | "overwrite" | "mask") | Call() | If():
            return True
        case Assign(value=given):
            return not given.type.wide and not isinstance(given, Random)
    return False


def _straight(ctx: Context, node: syntax.Branches, body: tuple[Stmt, ...]) -> None:
    """One call, not inside an `if`; commits, assignments and `if`s around it."""
    for inner in (n for n in walk(body) if isinstance(n, Stmt)):
        if not _allowed(inner):
            help = "a branch writes its draft, calls the model once, and notes what it needs"
            ctx.fail("branch-statement", "this cannot stand in a branch", head(inner.span), help=help)
    calls = [n for n in walk(body) if isinstance(n, Call)]
    if len(calls) != 1 or calls[0] not in body:
        where = calls[1].span if len(calls) > 1 else calls[0].span if calls else node.name.span
        title = "a branch calls the model once, outside of every `if`"
        ctx.fail("branch-call", title, where, help="all branches' calls are one forward")
    if calls[0].embeds is not None:
        ctx.fail("branch-call", "a branch's call is fed tokens", calls[0].embeds.span)
    if calls[0].order is not None:
        ctx.fail("branch-call", "a branch's call has no order of its own", calls[0].span)
    if any(m.name == calls[0].model and m.attention == "canvas" for m in ctx.models):
        ctx.fail("branch-call", "the branches' calls are one forward, and this model has two halves", calls[0].span)
    if calls[0].share is not None:
        ctx.fail("branch-call", "a branch's call computes all that it feeds", calls[0].span)
    if calls[0].model != ctx.models[0].name:
        ctx.fail("branch-call", "a branch calls the first model of the strategy", calls[0].span)
    if calls[0].shadow is not None:
        ctx.fail("branch-call", "a branch's call has no shadows", calls[0].shadow.region.span)
    if calls[0].guidance is not None:
        ctx.fail("branch-call", "a branch's call has no guidance", calls[0].guidance.span)
