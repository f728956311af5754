"""What can be proved about regions and numbers of a Strategy without running it. All answers are on the safe side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from dcompile.source import NOWHERE
from dcompile.strategy import (
    REGION,
    Accepted,
    Area,
    Assign,
    Branches,
    Dilate,
    Entry,
    Expr,
    For,
    ForBlocks,
    Found,
    Literal,
    Name,
    Near,
    Op,
    Reduce,
    Repeat,
    RunInput,
    Score,
    Stmt,
    Strategy,
    Take,
    TextAt,
    Unreadable,
    While,
    Whole,
    Write,
    walk,
)

MASKED = Area(REGION, NOWHERE, "masked")
EVERYTHING = Area(REGION, NOWHERE, "everything")
MOVING = (Score, Entry, TextAt, Found, Accepted)


@dataclass(frozen=True)
class World:
    """Every value that a variable gets, what each block lies in, and whether positions can become masked again.
    `holds`: conditions that hold when a turn of the loop that is looked at begins."""

    values: Mapping[str, tuple[Expr, ...]] = field(default_factory=dict)
    blocks: Mapping[str, ForBlocks] = field(default_factory=dict)
    counters: Mapping[str, For | Branches] = field(default_factory=dict)
    remasks: bool = False
    holds: tuple[Expr, ...] = ()

    def only(self, body: tuple[Stmt, ...]) -> World:
        """The same, knowing just the variables that `body` alone assigns."""
        inside = assigned(body)
        kept = {name: v for name, v in self.values.items() if len(inside.get(name, ())) == len(v)}
        return replace(self, values=kept)


def survey(strategy: Strategy) -> World:
    """Collect what is known about the variables of a strategy."""
    values = assigned(strategy.body)
    for state in strategy.states:
        values[state.name] = (state.init, *values.get(state.name, ()))
    nodes = list(walk(strategy.body))
    blocks = {n.var: n for n in nodes if isinstance(n, ForBlocks)}
    counters = {n.var: n for n in nodes if isinstance(n, (For, Branches))}
    return World(values, blocks, counters, any(isinstance(n, Write) and n.action == "mask" for n in nodes))


def assigned(body: tuple[Stmt, ...]) -> dict[str, tuple[Expr, ...]]:
    """The values that each variable is given anywhere in a body."""
    out: dict[str, tuple[Expr, ...]] = {}
    for node in walk(body):
        if isinstance(node, Assign):
            out[node.name] = (*out.get(node.name, ()), node.value)
    return out


def inside_of(body: tuple[Stmt, ...]) -> Iterator[tuple[Stmt, ...]]:
    """The bodies directly inside each statement of a body."""
    for node in body:
        match node:
            case ForBlocks() | For() | While() | Repeat():
                yield node.body


# ---------------------------------------------------------------- regions


def within(world: World, a: Expr, b: Expr, seen: frozenset[str] = frozenset()) -> bool:
    """Whether every position of `a` certainly lies in `b`."""
    if a == b or b == EVERYTHING or (isinstance(a, Literal) and not a.value):
        return True
    return _from_above(world, a, b, seen) or _from_below(world, a, b, seen)


def _from_above(world: World, a: Expr, b: Expr, seen: frozenset[str]) -> bool:
    """By what `b` is made of."""
    match b:
        case Op(op="and", args=args):
            return all(within(world, a, arg, seen) for arg in args)
        case Op(op="or", args=args):
            return any(within(world, a, arg, seen) for arg in args)
        case Near(kind="from", region=start):
            inner = a.region if isinstance(a, Near) and a.kind in ("from", "after") else a
            return within(world, inner, start, seen)
        case Dilate(region=core):
            return within(world, a, core, seen)
        case Area(name="answer"):
            if a == MASKED:
                return True
            return isinstance(a, Name) and a.name in world.blocks and _origin(world, a.name) == "answer"
        case Name(name=name) if name not in seen and len(world.values.get(name, ())) == 1:
            return within(world, a, world.values[name][0], seen | {name})
    return False


def _origin(world: World, block: str) -> str:
    over = world.blocks[block].over
    return _origin(world, over) if over in world.blocks else over


def _from_below(world: World, a: Expr, b: Expr, seen: frozenset[str]) -> bool:
    """By what `a` is made of."""
    match a:
        case Op(op="and", args=args):
            return any(within(world, arg, b, seen) for arg in args)
        case Op(op="or", args=args):
            return all(within(world, arg, b, seen) for arg in args)
        case Op(op="select", args=(_, then, other)):
            return within(world, then, b, seen) and within(world, other, b, seen)
        case Take(region=core) | Whole(region=core) | Unreadable(region=core) | Near(kind="first", region=core):
            return within(world, core, b, seen)
        case Name(name=name) if name in world.blocks:
            over = world.blocks[name].over
            return over in world.blocks and within(world, Name(REGION, NOWHERE, over), b, seen)
        case Name(name=name) if name not in seen and world.values.get(name):
            return all(within(world, value, b, seen | {name}) for value in world.values[name])
    return False


def occupied(world: World, a: Expr, given: Expr, seen: frozenset[str] = frozenset()) -> bool:
    """Whether `a` certainly has a position if `given` has one."""
    if within(world, given, a):
        return True
    match a:
        case Take(region=core, predicate=predicate, atleast=least_, atmost=most_):
            enough = predicate is None or (least_ is not None and least(world, least_) >= 1)
            room = most_ is None or least(world, most_) >= 1
            return enough and room and occupied(world, core, given, seen)
        case Near(kind="first" | "from", region=core) | Dilate(region=core):
            return occupied(world, core, given, seen)
        case Op(op="or", args=args):
            return any(occupied(world, arg, given, seen) for arg in args)
        case Op(op="select", args=(Reduce(kind="any", region=region), then, other)) if then == region:
            return occupied(world, other, given, seen)  # `R if any(R) else other`
        case Op(op="select", args=(_, then, other)):
            return occupied(world, then, given, seen) and occupied(world, other, given, seen)
        case Name(name=name) if name not in seen and world.values.get(name):
            return all(occupied(world, v, given, seen | {name}) for v in world.values[name])
    return False


def conjuncts(world: World, region: Expr) -> Iterator[Expr]:
    """Regions that `region` certainly lies in, itself first."""
    yield region
    match region:
        case Op(op="and", args=args):
            for arg in args:
                yield from conjuncts(world, arg)
        case Take(region=core) | Near(kind="first", region=core):
            yield from conjuncts(world, core)
        case Name(name=name) if len(world.values.get(name, ())) == 1:
            yield from conjuncts(World(blocks=world.blocks), world.values[name][0])


def ahead(region: Expr) -> Expr | None:
    """The `b` of `unreadable(after(b))`: what a call on `b` predicts beyond it. That is the position behind `b` on a
    shifted model, which a call on the next region could not read, and none on any other."""
    match region:
        case Unreadable(region=Near(kind="after", region=before)):
            return before
    return None


def steady(region: Expr) -> bool:
    """Whether a region is the same whenever it is evaluated in a turn: it does not look at the canvas, a model or a
    table."""
    return not any(
        isinstance(n, MOVING) or (isinstance(n, Area) and n.name in ("masked", "last")) for n in walk(region)
    )


# ---------------------------------------------------------------- numbers


def least(world: World, expr: Expr, seen: frozenset[str] = frozenset()) -> float:
    """A lower bound of a number."""
    match expr:
        case Literal(value=value):
            return float(value)
        case RunInput(name="length"):
            return 1.0
        case Reduce(kind="count"):
            return 0.0
        case Op(op=op, args=args):
            return _least_op(world, op, args, seen)
        case Name(name=name) if name in world.counters:
            loop = world.counters[name]
            return least(world, loop.stop if isinstance(loop, For) and loop.step < 0 else loop.start, seen)
        case Name(name=name) if name not in seen and world.values.get(name):
            return min(least(world, v, seen | {name}) for v in world.values[name])
    return -math.inf


def _least_op(world: World, op: str, args: tuple[Expr, ...], seen: frozenset[str]) -> float:
    bounds = [least(world, arg, seen) for arg in args]
    match op:
        case "add" | "float" | "floor" | "ceil":
            return math.floor(sum(bounds)) if op == "floor" and math.isfinite(sum(bounds)) else sum(bounds)
        case "max":
            return max(bounds)
        case "min":
            return min(bounds)
        case "select":
            return min(bounds[1:])
        case "mul" | "floordiv" | "mod" | "div" if min(bounds) >= 0:
            return bounds[0] * bounds[1] if op == "mul" else 0.0
        case "mod" | "floordiv" | "abs" | "sqrt" | "exp":
            return 0.0
    return -math.inf


def most(world: World, expr: Expr | None) -> float:
    """An upper bound of a number."""
    match expr:
        case Literal(value=value):
            return float(value)
        case Op(op="min", args=args):
            return min(most(world, arg) for arg in args)
        case Op(op="max" | "float", args=args):
            return max(most(world, arg) for arg in args)
        case Op(op="select", args=(_, then, other)):
            return max(most(world, then), most(world, other))
        case Op(op="add", args=args):
            return sum(most(world, arg) for arg in args)
        case Op(op="sub", args=(whole, less)):
            return most(world, whole) - least(world, less)
    return math.inf
