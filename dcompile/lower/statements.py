"""Statements: straight ones change the variables, loops become graphs that carry what they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dcompile.lower import branches, dists, drafts, ending, nodes, permuted
from dcompile.lower.calls import call
from dcompile.lower.context import Block, Context, either
from dcompile.lower.regions import present_end
from dcompile.lower.variables import LOOPS, reset, written
from dcompile.lower.writes import append, assign, truncate, write
from dcompile.strategy import (
    Accept,
    Adjust,
    Assign,
    Branches,
    Break,
    Call,
    Draft,
    Expr,
    Fill,
    For,
    ForBlocks,
    If,
    Nodes,
    Op,
    Reduce,
    Repeat,
    Stmt,
    Stop,
    Unreadable,
    Verify,
    While,
    Write,
    walk,
)


def sequence(ctx: Context, body: Sequence[Stmt]) -> None:
    """Statements one behind the other; rows that end on the way skip the rest."""
    before = ctx.active
    for at, stmt in enumerate(body):
        with ctx.recorder.at(stmt.span):
            statement(ctx, stmt)
        if at < len(body) - 1 and _may_leave(stmt):
            leaves = [ctx.values["done"]] + ([ctx.values[f"broken{ctx.depth}"]] if ctx.depth else [])
            rows = torch.logical_not(leaves[0] if len(leaves) == 1 else leaves[0] | leaves[1])
            ctx.active = rows if before is None else before & rows
    ctx.active = before


def _may_leave(stmt: Stmt) -> bool:
    """Whether rows can end in this statement, or leave the loop that it stands in."""
    leaving = Stop if isinstance(stmt, LOOPS) else (Stop, Break)  # a `break` inside a loop leaves only that one
    ends = (isinstance(n, Accept) or (isinstance(n, Write) and n.action == "append") for n in walk(stmt))
    return any(ends) or any(isinstance(n, leaving) for n in walk(stmt))


def statement(ctx: Context, stmt: Stmt) -> None:
    """Lower one statement."""
    match stmt:
        case Call(feed=Nodes()):
            drafts.call(ctx, stmt)
        case Call():
            call(ctx, stmt)
        case Draft():
            drafts.draft(ctx, stmt)
        case Accept():
            drafts.accept(ctx, stmt)
        case Fill():
            nodes.fill(ctx, stmt)
        case Assign():
            assign(ctx, stmt)
        case Adjust():
            dists.adjust(ctx, stmt)
        case Verify():
            permuted.verify(ctx, stmt)
        case Write(action="append"):
            append(ctx, stmt)
        case Write(action="truncate"):
            truncate(ctx, stmt)
        case Write():
            write(ctx, stmt)
        case Break():
            ctx.put(f"broken{ctx.depth}", ctx.values[f"broken{ctx.depth}"] | ctx.value(stmt.condition, None))
        case Stop():
            ended = ending.ended(ctx) if stmt.condition is None else ctx.value(stmt.condition, None)
            ctx.put("done", ctx.values["done"] | ended)
        case Branches():
            branches.branches(ctx, stmt, sequence)
        case If():
            either_side(ctx, stmt)
        case ForBlocks():
            for_blocks(ctx, stmt)
        case For():
            for_count(ctx, stmt)
        case While():
            loop(ctx, stmt, stmt.body, {}, lambda: ctx.value(stmt.condition, None))
        case Repeat():
            loop(ctx, stmt, stmt.body, {}, lambda: ~ctx.value(stmt.until, None), first=False)
        case _:
            raise AssertionError(f"no lowering for {stmt}")


def either_side(ctx: Context, stmt: If) -> None:
    """Both sides, each for its own rows; a side that calls the model is a loop of at most one turn."""
    if _never(ctx, stmt.condition):
        sequence(ctx, stmt.orelse)
        return
    condition = ctx.value(stmt.condition, None)
    for rows, body in ((condition, stmt.then), (~condition, stmt.orelse)):
        if not body:
            continue
        if any(isinstance(n, (Call, *LOOPS)) for n in walk(body)):
            go = rows if ctx.active is None else rows & ctx.active
            _run_loop(ctx, stmt, body, {}, go, lambda: torch.zeros(ctx.batch, dtype=torch.bool), counts=False)
        else:
            with ctx.only(rows):
                sequence(ctx, body)


def _never(ctx: Context, condition: Expr) -> bool:
    """Whether no row can take this side: it is for shifted models, and this is none."""
    match condition:
        case Reduce(kind="any", region=Unreadable()):
            return not ctx.model.facts.shift
        case Op(op="and", args=args):
            return any(_never(ctx, a) for a in args)
    return False


def for_blocks(ctx: Context, stmt: ForBlocks) -> None:
    """Blocks of `size` slots from the answer's start, from position 0, or from an enclosing block's start."""
    origin, stop = _stretch(ctx, stmt.over)
    first = ctx.zeros()
    if stmt.over == "canvas" and stmt.skip_prompt:
        first = (ctx.inputs["start"] - origin) // torch.full((1,), stmt.size, dtype=torch.int64)
    counter = f"block{ctx.depth}"
    width = min(stmt.size, ctx.capacity)

    def here() -> Tensor:
        return origin + ctx.values[counter] * stmt.size

    def enter() -> None:
        start = here()
        ctx.blocks[stmt.var] = Block(start, torch.minimum(start + stmt.size, stop), width)
        reset(ctx, "block")

    def step() -> Tensor:
        ctx.put(counter, ctx.values[counter] + 1)
        more = here() < stop
        return more & (here() < present_end(ctx)) if "canvas_end" in ctx.values else more

    loop(ctx, stmt, stmt.body, {counter: first}, step, enter=enter, start=lambda: origin + first * stmt.size < stop)
    ctx.blocks.pop(stmt.var, None)


def _stretch(ctx: Context, over: str) -> tuple[Tensor, Tensor]:
    """The slots [first, end) that blocks are counted over, [B] each."""
    if over in ctx.blocks:
        start, end = ctx.blocks[over].start, ctx.blocks[over].end
        return start, torch.minimum(end, present_end(ctx)) if "canvas_end" in ctx.values else end
    return ctx.inputs["pad" if over == "canvas" else "start"], present_end(ctx)


def for_count(ctx: Context, stmt: For) -> None:
    """A loop with a counter; both ends are evaluated here, once."""
    start, stop = ctx.value(stmt.start, None), ctx.value(stmt.stop, None)

    def inside(i: Tensor) -> Tensor:
        return i <= stop if stmt.step > 0 else i >= stop

    def step() -> Tensor:
        ctx.put(stmt.var, ctx.values[stmt.var] + stmt.step)
        return inside(ctx.values[stmt.var])

    loop(ctx, stmt, stmt.body, {stmt.var: start}, step, start=lambda: inside(start))


def loop(
    ctx: Context,
    stmt: Stmt,
    body: Sequence[Stmt],
    counters: dict[str, Tensor],
    again: Callable[[], Tensor],
    *,
    first: bool = True,
    start: Callable[[], Tensor] | None = None,
    enter: Callable[[], None] = lambda: None,
) -> None:
    """A loop over `body`: `again` is evaluated behind it (and, where `first`, before it, unless `start` says it)."""
    go = ~ctx.values["done"]
    if start is not None or first:
        go = go & (start() if start is not None else again())
    go = go if ctx.active is None else go & ctx.active
    _run_loop(ctx, stmt, body, counters, go, again, enter=enter)


def _run_loop(
    ctx: Context,
    stmt: Stmt,
    body: Sequence[Stmt],
    counters: dict[str, Tensor],
    go: Tensor,
    again: Callable[[], Tensor],
    *,
    enter: Callable[[], None] = lambda: None,
    counts: bool = True,
) -> None:
    """Carry what `body` writes; `counts` False is a branch, which no `break` leaves and which is no turn of a state."""
    outer, outer_active, trees = dict(ctx.values), ctx.active, dict(ctx.drafts)
    outer_dists = dict(ctx.dists)
    ctx.depth += counts
    flag = f"broken{ctx.depth}"
    if counts:
        counters = {**counters, flag: torch.zeros(ctx.batch, dtype=torch.bool)}
    names = [n for n in outer if n in written(ctx, body)]
    carried = {**{n: outer[n] for n in names}, **counters, "go": go}

    def turn(values: dict[str, Tensor]) -> dict[str, Tensor]:
        ctx.values = {**outer, **values}
        ctx.active = None if ctx.batch == 1 else values["go"]
        enter()
        if counts:
            reset(ctx, "step")
        sequence(ctx, body)
        more = again() & ~ctx.values["done"]
        if counts:
            more = more & ~ctx.values[flag]
        result = {n: ctx.values[n] for n in carried}
        return {**result, "go": more if ctx.batch == 1 else values["go"] & more}

    result = ctx.recorder.loop(carried, lambda v: either(v["go"]), turn)
    ctx.values = {**outer, **{n: result[n] for n in names}}
    ctx.dists, ctx.active, ctx.drafts = outer_dists, outer_active, trees
    ctx.depth -= counts
