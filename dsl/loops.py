"""Loops: over blocks, over numbers, and as long as something holds."""

from __future__ import annotations

from collections.abc import Callable as Fn

from dcompile.diagnostic import Label
from dcompile.dsl import syntax
from dcompile.dsl.scope import WORDS, Context, Scope, Value, close
from dcompile.dsl.selection import bind, need
from dcompile.dsl.values import constant, value
from dcompile.strategy import BOOL, INT, REGION, For, ForBlocks, Literal, Name, Repeat, Stmt, While

Body = Fn[[Context, Scope, tuple[syntax.Stmt, ...]], tuple[Stmt, ...]]
Loop = syntax.ForIn | syntax.ForCount | syntax.While | syntax.Repeat


def loop(ctx: Context, scope: Scope, node: Loop, body: Body) -> list[Stmt]:
    """The statements that a loop becomes; `body` elaborates what stands in it."""
    match node:
        case syntax.ForIn():
            return [for_blocks(ctx, scope, node, body)]
        case syntax.ForCount(span, name, start, stop, down):
            first = value(ctx, scope, start, INT, "the start")
            final = value(ctx, scope, stop, INT, "the end")
            inner, unique = _counter(ctx, scope, name, "a counter", INT)
            return [For(span, unique, first, final, -1 if down else 1, inside(ctx, inner, node.body, body))]
        case syntax.While(span, condition):
            holds = value(ctx, scope, condition, BOOL, "the condition")
            done = inside(ctx, scope.inner(), node.body, body)
            return [] if isinstance(holds, Literal) and not holds.value else [While(span, holds, done)]
        case syntax.Repeat(span, _, until):
            inner = scope.inner()
            mark = len(ctx.uses), len(ctx.assigned), ctx.serial
            done = _body(ctx, inner, node.body, body)
            ends = value(ctx, inner, until, BOOL, "the condition")
            _carried(ctx, mark)
            close(ctx, inner)
            return [Repeat(span, done, ends)]


def inside(ctx: Context, inner: Scope, statements: tuple[syntax.Stmt, ...], body: Body) -> tuple[Stmt, ...]:
    """A loop's body in a scope of its own."""
    mark = len(ctx.uses), len(ctx.assigned), ctx.serial
    out = _body(ctx, inner, statements, body)
    _carried(ctx, mark)
    close(ctx, inner)
    return out


def _body(ctx: Context, inner: Scope, statements: tuple[syntax.Stmt, ...], body: Body) -> tuple[Stmt, ...]:
    ctx.loops += 1
    try:
        return body(ctx, inner, statements)
    finally:
        ctx.loops -= 1


def _carried(ctx: Context, mark: tuple[int, int, int]) -> None:
    """A distribution from before the loop, used in it, under a name that the loop assigns: which turn's is meant?"""
    uses, assigned, serial = mark
    again = set(ctx.assigned[assigned:])
    for function, name, dist, span in ctx.uses[uses:]:
        if dist.serial <= serial and (function, name) in again:
            again.remove((function, name))
            ctx.report(
                "carried-distribution",
                f"`{name}` from before the loop is used in it, and assigned in it",
                span,
                help="call the model first in each turn, or give the two calls different names",
                also=(Label(dist.span, "assigned here, before the loop"),),
            )


def _counter(ctx: Context, scope: Scope, name: syntax.Ident, what: str, type: object) -> tuple[Scope, str]:
    if name.name in WORDS:
        ctx.fail("reserved-name", f"`{name.name}` is a word of the language", name.span, help="choose another name")
    inner, unique = scope.inner(), ctx.unique(name.name)
    kind = INT if type == INT else REGION
    inner.names[name.name] = Value(Name(kind, name.span, unique), what)
    return inner, unique


def for_blocks(ctx: Context, scope: Scope, node: syntax.ForIn, body: Body) -> Stmt:
    """`for b in blocks(answer | canvas | block, size, short: ...)`."""
    made = node.over
    if not isinstance(made, syntax.Apply) or made.function.name != "blocks":
        ctx.fail(
            "wrong-type",
            "a loop goes over blocks or over numbers",
            made.span,
            help=f"`for {node.name.name} in blocks(answer, 32)` or `for {node.name.name} in 1 to 8`",
        )
    arguments = bind(ctx, made, ("over", "size"), ("short",))
    over = _over(ctx, scope, need(ctx, made, arguments, "over"))
    size = constant(ctx, scope, need(ctx, made, arguments, "size"), "the block size", 1)
    short = "short"
    if "short" in arguments:
        chosen = arguments["short"].value
        short = chosen.name if isinstance(chosen, syntax.Word) else ""
        if short not in ("short", "error", "round_up"):
            ctx.fail("wrong-type", "`short:` is `short`, `error` or `round_up`", chosen.span)
    if short == "round_up":
        if over not in ("answer", "canvas"):
            ctx.fail("wrong-type", "only blocks of the answer or the canvas are rounded up", made.span)
        ctx.rounding.append((size, over, made.span))
        short = "short"
    inner, unique = _counter(ctx, scope, node.name, "a block", REGION)
    return ForBlocks(node.span, unique, over, size, short, inside(ctx, inner, node.body, body))  # type: ignore[arg-type]


def _over(ctx: Context, scope: Scope, node: syntax.Expr) -> str:
    if isinstance(node, syntax.Word):
        if node.name in ("answer", "canvas"):
            return node.name
        found = scope.find(node.name)
        if found is not None and isinstance(found[1], Value) and found[1].what == "a block":
            assert isinstance(found[1].expr, Name)
            return found[1].expr.name
    ctx.fail("wrong-type", "blocks are those of `answer`, of `canvas`, or of an enclosing block", node.span)
    return None
