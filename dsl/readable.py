"""A score is read only where it is known: at positions that were fed, or, on a shifted model, behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dcompile.diagnostic import Diagnostic, Label
from dcompile.dsl.regions import EVERYTHING, World, ahead, conjuncts, steady, within
from dcompile.source import NOWHERE
from dcompile.strategy import (
    REGION,
    Accept,
    Adjust,
    Area,
    Assign,
    Branches,
    Break,
    Call,
    Divergence,
    Entry,
    Expr,
    Fill,
    For,
    ForBlocks,
    Foreign,
    If,
    Learned,
    Near,
    OneHot,
    Op,
    Reduce,
    Repeat,
    Running,
    Score,
    Stmt,
    Stop,
    Strategy,
    Take,
    TextAt,
    Unreadable,
    While,
    Write,
    reads_back,
    walk,
)

LAST = Area(REGION, NOWHERE, "last")


@dataclass(frozen=True)
class Demand:
    """A score that is read at the positions of a region."""

    score: Score
    region: Expr


def demands(expr: Expr | None, region: Expr = EVERYTHING) -> Iterator[Demand]:
    """Where each score below `expr` is read, if `expr` is wanted at `region`."""
    match expr:
        case Score(kind="dist"):  # `none` where it is not known
            return
        case Divergence(left=left, right=right):
            yield from (Demand(e, region) for e in (left, right) if isinstance(e, Score))
        case OneHot(of=of):
            yield from demands(of, region)
        case Score(of=of):
            yield Demand(expr, region)
            yield from demands(of, region)
        case Op(op="and", args=args) if expr.type == REGION:
            plain = [a for a in args if not _scored(a)]
            inside = _both(region, *plain)
            for i, arg in enumerate(args):
                earlier = [a for a in args[:i] if a not in plain]
                yield from demands(arg, _both(inside, *earlier) if arg not in plain else region)
        case Op(op="select", args=(condition, then, other)) if condition.type.each:
            yield from demands(condition, region)
            yield from demands(then, _both(region, condition))
            yield from demands(other, _both(region, Op(REGION, condition.span, "not", (condition,))))
        case Take(region=core):
            yield from demands(core)
            for part in (expr.key, expr.predicate):
                yield from demands(part, core)
            for part in (expr.atleast, expr.atmost, expr.per_size):
                yield from demands(part)
        case Reduce(region=core, value=value) | Learned(region=core, value=value):
            yield from demands(core)
            yield from demands(value, core)
        case Foreign(args=args) | Entry(index=args):
            for arg in args:
                yield from demands(arg)
        case TextAt(position=at):
            yield from demands(at)
        case Op(args=args):
            for arg in args:
                yield from demands(arg, region)
        case Running(value=value):
            yield from demands(value, region)
        case Expr():
            for name in ("region", "size", "radius"):
                yield from demands(getattr(expr, name, None))


def _scored(expr: Expr) -> bool:
    return any(isinstance(n, Score) for n in walk(expr))


def _both(region: Expr, *others: Expr) -> Expr:
    for other in others:
        region = other if region == EVERYTHING else Op(REGION, region.span, "and", (region, other))
    return region


def wanted(node: Stmt) -> Iterator[Demand]:
    """What one statement reads (not the statements inside it)."""
    match node:
        case Write(action="append", tokens=tokens):
            yield from demands(tokens, LAST)
        case Write(region=region, tokens=tokens):
            yield from demands(region)
            yield from demands(tokens, region or EVERYTHING)
        case Call():
            for part in (node.feed, node.keep, node.guidance, node.temperature):
                yield from demands(part)
            yield from demands(node.shadow.region if node.shadow is not None else None)
            yield from demands(node.tokens, node.feed)
            yield from demands(node.condition, node.feed)
            yield from demands(node.embeds, node.feed)
        case Assign(value=value) | Repeat(until=value):
            yield from demands(value)
        case (
            While(condition=condition)
            | If(condition=condition)
            | Break(condition=condition)
            | Stop(condition=condition)
        ):
            yield from demands(condition)
        case For(start=start, stop=stop):
            yield from demands(start)
            yield from demands(stop)
        case Fill(draft=None):
            for part in (*node.index, node.value, node.where):
                yield from demands(part)
        case Branches(stop=stop, tokens=tokens, region=region):
            yield from demands(stop)
            yield from demands(region)
            yield from demands(tokens, region)


def called(strategy: Strategy) -> dict[str | None, Call]:
    """The call that each distribution comes from."""
    out: dict[str | None, Call] = {}
    for node in walk(strategy.body):
        if isinstance(node, Call):
            out[node.name] = node
            if node.shadow is not None:
                out[node.shadow.name] = replace(node, name=node.shadow.name, feed=node.shadow.region)
        elif isinstance(node, Adjust):
            out[node.name] = out[node.dist]
    return out


def unread(world: World, strategy: Strategy, shift: bool = False) -> Iterator[Diagnostic]:
    """An error for each score that is read where it may be unknown."""
    calls = called(strategy)
    seen: set[tuple[int, str]] = set()
    first, back = strategy.models[0].name, {m.name for m in strategy.models if reads_back(strategy, m)}
    for node in (n for n in walk(strategy.body) if isinstance(n, Stmt)):
        added = demands(node.plus, calls[node.name].feed) if isinstance(node, Adjust) else ()
        for demand in (*wanted(node), *added):
            feed = calls[demand.score.dist].feed
            late = calls[demand.score.dist].model in back or (shift and calls[demand.score.dist].model == first)
            known = readable(world, feed, demand.region, late and demand.region != LAST)
            place = (node.span.start, demand.score.dist)
            if not known and place not in seen:
                seen.add(place)
                yield _shifted(demand, calls[demand.score.dist]) if late else _unfed(demand, calls[demand.score.dist])


def appended(body: tuple[Stmt, ...], moved: frozenset[str] = frozenset()) -> tuple[frozenset[str], list[Diagnostic]]:
    """Distributions that `append` has left behind (it moves `last`), and an error for each that is appended again."""
    out: list[Diagnostic] = []
    calls = frozenset(n.name for n in walk(body) if isinstance(n, Call) and n.name)
    for node in body:
        found: list[Diagnostic] = []
        match node:
            case Call(name=str(name)):
                moved -= {name}
            case Accept():
                moved |= calls
            case Adjust(name=name, dist=dist):
                moved = moved | {name} if dist in moved else moved - {name}
            case Write(action="append", tokens=tokens):
                names = {n.dist for n in walk(tokens) if isinstance(n, Score)}
                if names & moved:
                    found = [_moved(node, min(names & moved))]
                moved |= names
            case If():
                yes, found = appended(node.then, moved)
                no, more = appended(node.orelse, moved)
                moved, found = yes | no, found + more
            case ForBlocks() | For() | While() | Repeat():
                once, _ = appended(node.body, moved)
                again, found = appended(node.body, moved | once)
                moved |= once | again
        out += found
    return moved, out


def _moved(node: Write, name: str) -> Diagnostic:
    return Diagnostic(
        "unfed-position",
        f"`{name}` does not know what follows the token just appended",
        Label(node.span),
        help="call the model again before the next `append`",
    )


def readable(world: World, feed: Expr, region: Expr, shift: bool) -> bool:
    """Whether all of `region` can be read after `feed` was fed."""
    match region:
        case Op(op="or", args=args) | Op(op="select", args=(_, *args)):
            return all(readable(world, feed, arg, shift) for arg in args)
    if steady(feed) and any(ahead(part) == feed for part in conjuncts(world, region)):
        return True
    fed = within(world, region, feed) and (not world.remasks or steady(feed) or feed == LAST or region == feed)
    if not shift:
        return fed
    if within(world, EVERYTHING, feed):
        return True
    heads = [feed, *([feed.region] if isinstance(feed, Near) and feed.kind == "from" else [])]
    for part in conjuncts(world, region):
        match part:
            case Op(op="not", args=(Unreadable(region=head) | Near(kind="first", region=head),)):
                if fed and head in heads:
                    return True
    fed_parts = feed.args if isinstance(feed, Op) and feed.op == "or" else (feed,)
    return any(
        isinstance(part, Near)
        and part.kind == "before"
        and part.region in fed_parts
        and within(world, region, part.region)
        for part in fed_parts
    )


def _unfed(demand: Demand, call: Call) -> Diagnostic:
    return Diagnostic(
        "unfed-position",
        f"`{demand.score.dist}` is read at positions that it may not know",
        Label(demand.score.span, "read here"),
        (Label(call.feed.span, "only these were fed"),),
        "read it inside what was fed: `... in b` after `p = lm(b)`, or `p.max if b else 0.0`",
    )


def _shifted(demand: Demand, call: Call) -> Diagnostic:
    return Diagnostic(
        "unreadable-position",
        "this model predicts each position from the one before, which may not be fed here",
        Label(demand.score.span, "read here"),
        (Label(call.feed.span, "only these are fed"),),
        "feed `before(b) or b` (which rewrites the K/V of that position), or commit `unreadable(b)` from an earlier "
        "call and select from `... and not unreadable(b)`",
    )
