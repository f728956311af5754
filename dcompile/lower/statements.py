"""Statements: straight ones change the variables, loops become graphs that carry what they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dcompile.lower import ending
from dcompile.lower.calls import cache_names, call
from dcompile.lower.context import Block, Context, Frame, either
from dcompile.lower.expressions import DTYPES
from dcompile.lower.frames import canvas, look, places, store
from dcompile.lower.regions import frame_of, present_end
from dcompile.strategy import (
    Assign, Break, Call, For, ForBlocks, If, Repeat, State, Stmt, Stop, While, Write, walk,
)  # fmt: skip

LOOPS = (ForBlocks, For, While, Repeat)


def sequence(ctx: Context, body: Sequence[Stmt]) -> None:
    """Statements one behind the other; rows that end on the way skip the rest."""
    before = ctx.active
    for at, stmt in enumerate(body):
        with ctx.recorder.at(stmt.span):
            statement(ctx, stmt)
        last = at == len(body) - 1
        gone = {Stop: "done", Write: "done", Break: f"broken{ctx.depth}", If: ""}.get(type(stmt))
        if not last and gone is not None and _may_leave(stmt):
            leaves = [ctx.values["done"]] + ([ctx.values[f"broken{ctx.depth}"]] if ctx.depth else [])
            rows = torch.logical_not(leaves[0] if len(leaves) == 1 else leaves[0] | leaves[1])
            ctx.active = rows if before is None else before & rows
    ctx.active = before


def _may_leave(stmt: Stmt) -> bool:
    """Whether rows can end or leave the loop in this statement."""
    return any(isinstance(n, (Stop, Break)) or (isinstance(n, Write) and n.action == "append") for n in walk(stmt))


def statement(ctx: Context, stmt: Stmt) -> None:
    match stmt:
        case Call():
            call(ctx, stmt)
        case Assign():
            assign(ctx, stmt)
        case Write(action="append"):
            append(ctx, stmt)
        case Write():
            write(ctx, stmt)
        case Break():
            ctx.put(f"broken{ctx.depth}", ctx.values[f"broken{ctx.depth}"] | ctx.value(stmt.condition, None))
        case Stop():
            ended = ending.ended(ctx) if stmt.condition is None else ctx.value(stmt.condition, None)
            ctx.put("done", ctx.values["done"] | ended)
        case If():
            branches(ctx, stmt)
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


# ---------------------------------------------------------------- straight statements


def assign(ctx: Context, stmt: Assign) -> None:
    each = stmt.value.type.each
    new = ctx.value(stmt.value, canvas(ctx) if each else None)
    shape = (ctx.batch, ctx.capacity) if each else (ctx.batch,)
    ctx.put(stmt.name, new.expand(shape))


def write(ctx: Context, stmt: Write) -> None:
    """`commit`, `overwrite` and `mask` at a region."""
    assert stmt.region is not None
    frame = frame_of(ctx, stmt.region)
    from_ = ctx.inputs["pad" if stmt.action == "overwrite" else "start"]
    slots, start, end = places(ctx, frame), from_.reshape(-1, 1), present_end(ctx).reshape(-1, 1)
    masked = look(ctx, ctx.values["masked"], frame)
    at = ctx.value(stmt.region, frame) & (slots >= start) & (slots < end)
    if stmt.action == "commit":
        at = at & masked
    if ctx.active is not None:
        at = at & ctx.active.reshape(-1, 1)
    if stmt.action == "mask":
        ctx.values["masked"] = store(ctx, ctx.values["masked"], frame, masked | at)
        new = torch.full((1, 1), ctx.model.facts.mask_id, dtype=torch.int64)
    else:
        assert stmt.tokens is not None
        new = ctx.value(stmt.tokens, frame)
        new = new if stmt.tokens.type.each else new.reshape(-1, 1)
        if stmt.action == "commit":
            ctx.values["masked"] = store(ctx, ctx.values["masked"], frame, masked & ~at)
    _set(ctx, frame, at, "tokens", new)
    _set(ctx, frame, at, "order", ctx.values["calls"].reshape(-1, 1))


def append(ctx: Context, stmt: Write) -> None:
    """The slot behind the last takes the token read at the last."""
    assert stmt.tokens is not None
    last = present_end(ctx) - 1
    new = ctx.value(stmt.tokens, Frame(last, 1)) if stmt.tokens.type.each else ctx.value(stmt.tokens, None).reshape(-1, 1)
    frame = Frame(last + 1, 1)
    room = ctx.values["filled"] < ctx.inputs["length"]
    room = room if ctx.active is None else room & ctx.active
    at = room.reshape(-1, 1)
    _set(ctx, frame, at, "tokens", new)
    _set(ctx, frame, at, "order", ctx.values["calls"].reshape(-1, 1))
    ctx.values["filled"] = ctx.values["filled"] + room.to(torch.int64)
    ctx.values["ended"] = ctx.values["ended"] | (room & ending.is_eos(ctx, new.reshape(-1)))
    ctx.values["done"] = ctx.values["done"] | (ctx.values["filled"] >= ctx.inputs["length"])


def _set(ctx: Context, frame: Frame, at: Tensor, name: str, new: Tensor) -> None:
    new = torch.where(at, new, look(ctx, ctx.values[name], frame)).expand(ctx.batch, frame.width)
    ctx.values[name] = store(ctx, ctx.values[name], frame, new)


# ---------------------------------------------------------------- branches and loops


def branches(ctx: Context, stmt: If) -> None:
    """Both sides, each for its own rows; a side that calls the model is a loop of at most one turn."""
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


def for_blocks(ctx: Context, stmt: ForBlocks) -> None:
    """Blocks of `size` slots from the answer's start, from position 0, or from an enclosing block's start."""
    if stmt.over in ctx.blocks:
        origin, stop = ctx.blocks[stmt.over].start, ctx.blocks[stmt.over].end
    elif stmt.over == "canvas":
        origin, stop = ctx.inputs["pad"], present_end(ctx)
    else:
        origin, stop = ctx.inputs["start"], present_end(ctx)
    first = torch.zeros(ctx.batch, dtype=torch.int64)
    if stmt.over == "canvas" and stmt.skip_prompt:
        size = torch.full((1,), stmt.size, dtype=torch.int64)
        first = (ctx.inputs["start"] - origin) // size
    counter = f"block{ctx.depth}"

    def here() -> Tensor:
        return origin + ctx.values[counter] * stmt.size

    def enter() -> None:
        start = here()
        ctx.blocks[stmt.var] = Block(start, torch.minimum(start + stmt.size, stop), min(stmt.size, ctx.capacity))
        reset(ctx, "block")

    def step() -> Tensor:
        ctx.put(counter, ctx.values[counter] + 1)
        return here() < stop

    loop(ctx, stmt, stmt.body, {counter: first}, step, enter=enter, start=lambda: origin + first * stmt.size < stop)
    ctx.blocks.pop(stmt.var, None)


def for_count(ctx: Context, stmt: For) -> None:
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
    outer, outer_dists, outer_active = dict(ctx.values), dict(ctx.dists), ctx.active
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
        reset(ctx, "step") if counts else None
        sequence(ctx, body)
        more = again() & ~ctx.values["done"]
        if counts:
            more = more & ~ctx.values[flag]
        result = {n: ctx.values[n] for n in carried}
        return {**result, "go": more if ctx.batch == 1 else values["go"] & more}

    result = ctx.recorder.loop(carried, lambda v: either(v["go"]), turn)
    ctx.values = {**outer, **{n: result[n] for n in names}}
    ctx.dists, ctx.active = outer_dists, outer_active
    ctx.depth -= counts


def written(ctx: Context, body: Sequence[Stmt]) -> set[str]:
    """The variables that a stretch of program may change."""
    names: set[str] = set()
    for node in walk(tuple(body)):
        match node:
            case Call(keep=keep, site=site):
                names |= {"calls", "batch_calls", "fed", f"visits{site}"}
                if keep is None or not hasattr(keep, "value"):
                    names |= {"stored", *cache_names(ctx)}
            case Write(action=action):
                names |= {"tokens", "order", "masked"} | ({"filled", "ended", "done"} if action == "append" else set())
                names -= {"masked"} if action == "append" else set()
            case Assign(name=name) | For(var=name):
                names.add(name)
            case Stop():
                names.add("done")
            case Break():
                names |= {f"broken{depth}" for depth in range(ctx.depth + 1)}
            case ForBlocks():
                names |= {s.name for s in ctx.strategy.states if s.lifetime == "block"}
    if any(isinstance(n, LOOPS) for n in walk(tuple(body))):
        names |= {s.name for s in ctx.strategy.states if s.lifetime == "step"}
    return names


def reset(ctx: Context, lifetime: str) -> None:
    """Set the states of a lifetime to their initial values."""
    for state in ctx.strategy.states:
        if state.lifetime == lifetime:
            ctx.put(state.name, initial(ctx, state))


def initial(ctx: Context, state: State) -> Tensor:
    shape = (ctx.batch, ctx.capacity) if state.type.each else (ctx.batch,)
    value = ctx.value(state.init, canvas(ctx) if state.init.type.each else None)
    if state.type.each and not state.init.type.each:
        value = value.reshape(-1, 1)
    return value.to(DTYPES[state.type.base]).expand(shape)
