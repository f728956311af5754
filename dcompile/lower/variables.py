"""The variables of a program: what there is before the first statement, what a stretch may change, what is reset."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dcompile.lower import dists, eviction, forcing
from dcompile.lower.context import Context, Frame
from dcompile.lower.expressions import DTYPES
from dcompile.lower.frames import canvas, places
from dcompile.lower.threefry import any_token, uniform
from dcompile.strategy import (
    ACCEPT,
    DRAFT,
    NOISE,
    RANDOM,
    VERIFY,
    VOCABULARY,
    Accept,
    Assign,
    Break,
    Call,
    Draft,
    Fill,
    For,
    ForBlocks,
    Literal,
    Nodes,
    Random,
    Repeat,
    State,
    Stmt,
    Stop,
    Verify,
    While,
    Write,
    session_states,
    walk,
)  # fmt: skip

LOOPS = (ForBlocks, For, While, Repeat)


def declare(ctx: Context) -> None:
    """Give every variable its first value: canvas, counters, caches, draws, states, locals."""
    _canvas(ctx)
    shape = (ctx.batch, ctx.capacity)
    for used in ctx.models.values():
        facts = used.model.facts
        ctx.values[used.stored] = torch.zeros(shape, dtype=torch.bool)
        for name in used.caches:
            ctx.values[name] = torch.zeros(ctx.batch, facts.kv_heads, ctx.capacity, facts.head_dim)
    for name in features(ctx):
        ctx.values[name] = torch.zeros(ctx.batch, ctx.capacity, ctx.model.facts.hidden)
    for call in walk(ctx.strategy.body):
        if isinstance(call, Call) and call.name is not None and ctx.rng:
            ctx.values[f"visits{call.site}"] = torch.zeros(shape, dtype=torch.int64)
    _drafts(ctx)
    for state in ctx.strategy.states:
        ctx.values[state.name] = initial(ctx, state)
    for state in session_states(ctx.strategy):
        left = ctx.inputs[f"session_{state.name}"]
        fresh = ctx.inputs["fresh"].reshape(-1, *[1] * len(state.sizes))
        ctx.values[state.name] = torch.where(fresh, ctx.values[state.name], left)
    for node in walk(ctx.strategy.body):
        if isinstance(node, Assign) and node.name not in ctx.values:
            size: tuple[int, ...] = shape if node.value.type.each else shape[:1]
            size = (*size, ctx.model.facts.hidden) if node.value.type.base == "vector" else size
            ctx.values[node.name] = torch.zeros(size, dtype=DTYPES[node.value.type.base])


def _drafts(ctx: Context) -> None:
    """What drafts leave to the next turn: how much was accepted, and how often each position was drawn."""
    for node in walk(ctx.strategy.body):
        if isinstance(node, Draft):
            ctx.values[f"accepted_{node.name}"] = ctx.zeros()
        if ctx.rng and (stream := drawing(node)) is not None:
            ctx.values[f"visits{stream}"] = torch.zeros(ctx.batch, ctx.capacity, dtype=torch.int64)


def drawing(node: object) -> int | None:
    """The stream that a statement of drafts draws from."""
    match node:
        case Draft(draws=True, site=site):
            return DRAFT + site
        case Accept(rule=str(), site=site):
            return ACCEPT + site
    return None


def _canvas(ctx: Context) -> None:
    """The canvas and what is counted on it, int64 or bool [B, C] and [B]. Answer slots that come with another token
    than the mask are those of a template: they begin committed."""
    shape = (ctx.batch, ctx.capacity)
    ctx.values["tokens"] = ctx.inputs["tokens"]
    ctx.values["masked"] = torch.zeros(shape, dtype=torch.bool)
    if ctx.strategy.canvas.init == "uniform":
        ctx.values["masked"] = _answer(ctx)
        drawn = noise(ctx, NOISE, canvas(ctx), torch.zeros(1, 1, dtype=torch.int64))
        ctx.values["tokens"] = torch.where(_answer(ctx), drawn, ctx.inputs["tokens"])
    for site in (n.site for n in walk(ctx.strategy.body) if isinstance(n, Write) and n.action == "noise"):
        ctx.values[f"visits{NOISE + 1 + site}"] = torch.zeros(shape, dtype=torch.int64)
    for verify in (n for n in walk(ctx.strategy.body) if isinstance(n, Verify) and ctx.rng):
        ctx.values[f"visits{VERIFY + 2 * verify.site}"] = torch.zeros(shape, dtype=torch.int64)
    for random in (n for n in walk(ctx.strategy.body) if isinstance(n, Random)):
        ctx.values[f"visits{RANDOM + random.site}"] = ctx.zeros()
    if ctx.strategy.canvas.init == "masked":
        ctx.values["masked"] = _answer(ctx) & (ctx.inputs["tokens"] == mask_id(ctx))
    ctx.values["order"] = torch.zeros(shape, dtype=torch.int64)
    for name in ("calls", "fed", "filled"):
        ctx.values[name] = ctx.zeros()
    eviction.declare(ctx)
    if any(isinstance(n, Call) and n.depth is not None for n in walk(ctx.strategy.body)):
        ctx.values["deepest"] = ctx.zeros() + ctx.model.facts.layers
    ctx.values["batch_calls"] = torch.zeros(1, dtype=torch.int64)
    ctx.values["done"], ctx.values["ended"] = ctx.zeros(torch.bool), ctx.zeros(torch.bool)
    if any(isinstance(n, Write) and n.action == "truncate" for n in walk(ctx.strategy.body)):
        ctx.values["canvas_end"] = ctx.inputs["end"]
    if any(isinstance(n, Write) and n.action in ("mask", "overwrite", "noise") for n in walk(ctx.strategy.body)):
        ctx.inputs["fixed"] = _answer(ctx) & ~ctx.values["masked"]


def noise(ctx: Context, stream: int, frame: Frame, visits: Tensor) -> Tensor:
    """Random tokens on the slots of a frame [B, W]."""
    position = places(ctx, frame) - ctx.inputs["pad"].reshape(-1, 1)
    seed = ctx.inputs["seed"].reshape(-1, 1)
    drawn = any_token(seed, stream, position, visits, ctx.model.facts.vocab).expand(ctx.batch, frame.width)
    return forcing.forced(ctx, stream, position, visits, drawn)


def chance(ctx: Context, stream: int) -> Tensor:
    """A number in (0, 1) for each slot [B, C], and one visit more."""
    name = f"visits{stream}"
    position = places(ctx, canvas(ctx)) - ctx.inputs["pad"].reshape(-1, 1)
    visits = ctx.values[name]
    ctx.put(name, visits + 1)
    drawn = uniform(ctx.inputs["seed"].reshape(-1, 1), stream, position, visits.reshape(-1, 1))
    return drawn.expand(ctx.batch, ctx.capacity)


def _answer(ctx: Context) -> Tensor:
    """The slots of the answer, bool [B, C]."""
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    return (slots >= ctx.inputs["start"].reshape(-1, 1)) & (slots < ctx.inputs["end"].reshape(-1, 1))


def mask_id(ctx: Context) -> int:
    """The model's mask token; the checker has refused a model without one."""
    found = ctx.model.facts.mask_id
    assert found is not None, "a strategy with masks on a model without a mask token"
    return found


def feature_names(layer: int) -> tuple[str, str]:
    """The variables that hold what a layer's attention and its feed-forward added, [B, C, E] each."""
    return f"attended{layer}", f"forwarded{layer}"


def features(ctx: Context) -> list[str]:
    """Those of all layers, where a call computes a share of its rows."""
    if all(n.share is None for n in walk(ctx.strategy.body) if isinstance(n, Call)):
        return []
    return [name for layer in range(ctx.model.facts.layers) for name in feature_names(layer)]


def written(ctx: Context, body: Sequence[Stmt]) -> set[str]:
    """The variables that a stretch of program may change."""
    names: set[str] = set()
    for node in walk(tuple(body)):
        match node:
            case Call(feed=Nodes()):
                names |= {"calls", "batch_calls", "fed"}
            case Draft(model=model):
                if model is not None:
                    names |= {"calls", "batch_calls", "fed", ctx.models[model].stored, *ctx.models[model].caches}
            case Accept(draft=draft, dist=dist):
                target = ctx.models[
                    next(c.model for c in walk(ctx.strategy.body) if isinstance(c, Call) and c.name == dist)
                ]
                names |= {"tokens", "order", "filled", "ended", "done", f"accepted_{draft}"}
                names |= {target.stored, *target.caches}
            case Fill(table=table):
                names.add(table)
            case Call(keep=keep, site=site, model=model):
                names |= {"calls", "batch_calls", "fed", f"visits{site}", "deepest", *eviction.variables(ctx)}
                names |= set(features(ctx))
                if not isinstance(keep, Literal):
                    names |= {ctx.models[model].stored, *ctx.models[model].caches}
            case Write(action="append"):
                names |= {"tokens", "order", "filled", "ended", "done"}
            case Write(action="truncate"):
                names |= {"order", "masked", "canvas_end"}
            case Write(action="noise", site=site):
                names |= {"tokens", "order", f"visits{NOISE + 1 + site}"}
            case Write():
                names |= {"tokens", "order", "masked"}
                if isinstance(node, Verify):
                    names.add(f"visits{VERIFY + 2 * node.site}")
            case Random(site=site):
                names.add(f"visits{RANDOM + site}")
            case Assign(name=name) | For(var=name):
                names.add(name)
            case Stop():
                names.add("done")
            case Break():
                names |= {f"broken{depth}" for depth in range(ctx.depth + 1)}
            case ForBlocks():
                names |= {s.name for s in ctx.strategy.states if s.lifetime == "block"}
        if ctx.rng and (stream := drawing(node)) is not None:
            names.add(f"visits{stream}")
    if any(isinstance(n, LOOPS) for n in walk(tuple(body))):
        names |= {s.name for s in ctx.strategy.states if s.lifetime == "step"}
    return names


def reset(ctx: Context, lifetime: str) -> None:
    """Set the states of a lifetime to their initial values."""
    for state in ctx.strategy.states:
        if state.lifetime == lifetime:
            ctx.put(state.name, initial(ctx, state))


def sides(ctx: Context, state: State) -> tuple[int, ...]:
    """The sizes of a table, known with the model; none of any other state."""
    return tuple(ctx.model.facts.vocab if s == VOCABULARY else s for s in state.sizes)


def initial(ctx: Context, state: State) -> Tensor:
    """A state's first value, [B] or [B, C]."""
    if state.type.wide:
        return dists.initial(ctx, state)
    shape: tuple[int, ...] = (ctx.batch, ctx.capacity) if state.type.each else (ctx.batch,)
    if state.sizes:
        shape = (ctx.batch, *sides(ctx, state))
        shape = (*shape, ctx.model.facts.hidden) if state.type.base == "vector" else shape
        first = ctx.value(state.init, None).reshape(-1, *[1] * (len(shape) - 1))
        return first.to(DTYPES[state.type.base]).expand(shape)
    if state.type.base == "vector":
        return ctx.value(state.init, None).reshape(-1, 1).expand(ctx.batch, ctx.model.facts.hidden)
    value = ctx.value(state.init, canvas(ctx) if state.init.type.each else None)
    if state.type.each and not state.init.type.each:
        value = value.reshape(-1, 1)
    return value.to(DTYPES[state.type.base]).expand(shape)
