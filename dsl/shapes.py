"""Static shapes and bytes: how wide each call is, how much memory the state takes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dcompile.model import Facts
from dcompile.source import Span
from dcompile.strategy import (
    VOCABULARY,
    Area,
    Call,
    Dilate,
    Draft,
    Expr,
    ForBlocks,
    Literal,
    Name,
    Near,
    Nodes,
    Op,
    State,
    Strategy,
    Take,
    Whole,
    held,
    walk,
)

BYTES = {"int": 8, "float": 4, "bool": 1, "token": 8, "dist": 4, "vector": 4}


def positions(strategy: Strategy, region: Expr) -> int | None:
    """The most positions that a region can have, or None if only the canvas bounds it."""
    blocks = {n.var: n.size for n in walk(strategy.body) if isinstance(n, ForBlocks)}
    if isinstance(region, Nodes):
        return next(n.tree.size for n in walk(strategy.body) if isinstance(n, Draft) and n.name == region.draft)
    return _positions(region, blocks)


def _positions(region: Expr, blocks: dict[str, int]) -> int | None:
    match region:
        case Area(name="last") | Near(kind="first" | "before" | "after"):
            return 1
        case Name(name=name):
            return blocks.get(name)
        case Op(op="and", args=args):
            known = [n for a in args if (n := _positions(a, blocks)) is not None]
            return min(known, default=None)
        case Op(op="or", args=args):
            parts = [_positions(a, blocks) for a in args]
            return None if None in parts else sum(n for n in parts if n is not None)
        case Take(region=core, atmost=Literal(value=bound), per=""):
            inner = _positions(core, blocks)
            return int(bound) if inner is None else min(int(bound), inner)
        case Take(region=core):
            return _positions(core, blocks)
        case Dilate(region=Name(name=name), radius=Literal(value=radius)) if name in blocks:
            return blocks[name] + 2 * int(radius)
        case Dilate(region=core, radius=Literal(value=radius)):
            inner = _positions(core, blocks)
            return None if inner is None else inner * (2 * int(radius) + 1)
    return None


def width(strategy: Strategy, feed: Expr, capacity: int | None) -> str:
    """The shape class of what a call feeds, in words."""
    count = positions(strategy, feed)
    whole = f"up to {capacity} positions" if capacity else "up to the capacity"
    if count is None:
        return f"{'whole blocks, ' if isinstance(feed, Whole) else ''}{whole}"
    if isinstance(feed, Nodes):
        return f"{count} nodes; the first call feeds the prompt too, {whole}"
    if isinstance(feed, Area) and feed.name == "last":
        return f"1 position; the first call feeds the prompt, {whole}"
    return f"{count} position{'s' * (count > 1)}"


def memory(
    strategy: Strategy, models: Mapping[str, Facts], capacity: int, batch: int, kv_bytes: int
) -> tuple[tuple[str, int], ...]:
    """Bytes of the K/V cache, the canvas and each state, for all rows together."""
    out: list[tuple[str, int]] = []
    slots = capacity + strategy.canvas.multiple - 1
    facts = models.get(strategy.models[0].name)
    for name, own in models.items():
        if own.attention == "permutation":  # it stores nothing
            continue
        what = f"keys and values of {name}" if len(models) > 1 else "keys and values"
        out.append((what, 2 * own.layers * own.kv_heads * own.head_dim * slots * batch * kv_bytes))
    if facts is not None and any(isinstance(n, Call) and n.share is not None for n in walk(strategy.body)):
        out.append(("features of the layers", 2 * facts.layers * facts.hidden * slots * batch * BYTES["float"]))
    if facts is not None and any(isinstance(n, Call) and n.eviction is not None for n in walk(strategy.body)):
        each = facts.layers * facts.kv_heads * slots * batch
        out.append(("how much each key was attended", each * (BYTES["float"] + BYTES["bool"])))
    out.append(("canvas (token, status)", batch * slots * (BYTES["token"] + 1)))
    for state in strategy.states:
        if (state.type.wide or state.type.base == "vector" or VOCABULARY in state.sizes) and facts is None:
            continue  # how many numbers there are is the model's to say
        if state.type.base == "vector" and facts is not None:
            size = batch * cells(state, facts) * facts.hidden * BYTES["vector"]
            out.append((f"state {state.name}: {table(state)}", size))
            continue
        if state.sizes:
            out.append((f"state {state.name}: {table(state)}", batch * BYTES[state.type.base] * cells(state, facts)))
            continue
        rows = held(state, strategy)
        size = BYTES[state.type.base] * (facts.vocab if facts is not None and state.type.wide else 1)
        out.append(
            (f"state {state.name}: {state.type}", batch * size * (slots if rows is None else max(min(rows, slots), 1)))
        )
    return (*out, ("total", sum(size for _, size in out)))


def cells(state: State, facts: Facts | None) -> int:
    """How many cells a table has."""
    return math.prod(facts.vocab if facts is not None and side == VOCABULARY else side for side in state.sizes)


def table(state: State) -> str:
    """`token[vocab, 8]`, `float[hidden]`."""
    sides = ["vocab" if side == VOCABULARY else str(side) for side in state.sizes]
    base, last = ("float", ["hidden"]) if state.type.base == "vector" else (str(state.type), [])
    return f"{base}[{', '.join([*sides, *last])}]"


def pretty(size: int) -> str:
    """`1.5 MiB`."""
    if size < 1024:
        return f"{size} B"
    step = min(4, int(math.log(size, 1024)))
    return f"{size / 1024**step:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[step - 1]}"


def first_words(span: Span) -> str:
    """The first line of what stands at a span, without its comment and brace."""
    if span.source is None:
        return ""
    line = span.source.text[span.start : span.end].split("\n")[0]
    return line.split("#")[0].split("{")[0].strip()
