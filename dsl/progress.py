"""Every loop ends: each turn commits a position of a set whose emptiness ends the loop, appends, or counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dcompile.diagnostic import Diagnostic, Label
from dcompile.dsl.regions import MASKED, World, assigned, least, occupied, within
from dcompile.source import Span
from dcompile.strategy import (
    Accept,
    Assign,
    Branches,
    Break,
    Expr,
    For,
    ForBlocks,
    If,
    Literal,
    Name,
    Op,
    Reduce,
    Repeat,
    Stmt,
    Stop,
    Take,
    While,
    Write,
    walk,
)


@dataclass(frozen=True)
class Ending:
    """A loop and why it ends; `why` is empty if that could not be proved."""

    span: Span
    why: str


def endings(world: World, body: tuple[Stmt, ...]) -> Iterator[Ending]:
    """Every loop of a body, outermost first."""
    for node in body:
        match node:
            case ForBlocks(size=size):
                yield Ending(node.span, f"one turn for each block of {size}")
                yield from endings(world, node.body)
            case For():
                yield Ending(node.span, "a number of turns known at its start")
                yield from endings(world, node.body)
            case While() | Repeat():
                yield Ending(node.span, why(world, node))
                yield from endings(world, node.body)
            case If():
                yield from endings(world, node.then)
                yield from endings(world, node.orelse)


def why(world: World, loop: While | Repeat) -> str:
    """Why a loop ends, or an empty text."""
    goes_on = _going_on(loop)
    if any(isinstance(c, Literal) and not c.value for c in goes_on):
        return "it has one turn"
    inside = replace(world.only(loop.body), holds=(loop.condition,) if isinstance(loop, While) else ())
    if advances(inside, loop.body, None):
        return "each turn appends" if _appends(loop.body) else "each turn accepts at least one token"
    for condition in goes_on:
        for filled in _nonempty(condition, world):
            if within(world, filled, MASKED) and not _remasks(loop.body) and advances(inside, loop.body, filled):
                return "each turn commits at least one position"
        if _counts(loop.body, condition):
            return "it counts to a bound"
    return ""


def _appends(body: tuple[Stmt, ...]) -> bool:
    return not any(isinstance(n, Accept) for n in walk(body))


def _remasks(body: tuple[Stmt, ...]) -> bool:
    return any(isinstance(n, Write) and n.action == "mask" for n in walk(body))


def _going_on(loop: While | Repeat) -> list[Expr]:
    """Conditions that all hold whenever the loop takes another turn."""
    out = list(_parts(loop.condition)) if isinstance(loop, While) else list(_negated(loop.until))
    for node in loop.body:
        if isinstance(node, (Break, Stop)) and node.condition is not None:
            out += _negated(node.condition)
    return out


def _parts(condition: Expr) -> Iterator[Expr]:
    if isinstance(condition, Op) and condition.op == "and":
        for arg in condition.args:
            yield from _parts(arg)
    elif isinstance(condition, Op) and condition.op == "not":
        yield from _negated(condition.args[0])
    else:
        yield condition


OPPOSITE = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}


def _negated(condition: Expr) -> Iterator[Expr]:
    """The parts of what holds where `condition` does not."""
    if isinstance(condition, Literal):
        yield Literal(condition.type, condition.span, not condition.value)
    elif isinstance(condition, Op) and condition.op == "or":
        for arg in condition.args:
            yield from _negated(arg)
    elif isinstance(condition, Op) and condition.op == "not":
        yield from _parts(condition.args[0])
    elif isinstance(condition, Op) and condition.op in OPPOSITE:
        yield Op(condition.type, condition.span, OPPOSITE[condition.op], condition.args)


def _nonempty(condition: Expr, world: World) -> Iterator[Expr]:
    """Regions that have a position where `condition` holds: `any(R)`, `count(R) > n`, `count(R) != 0`."""
    match condition:
        case Reduce(kind="any", region=region):
            yield region
        case Op(op="gt", args=(Reduce(kind="count", region=region), bound)) if least(world, bound) >= 0:
            yield region
        case Op(op="ne", args=(Reduce(kind="count", region=region), Literal(value=0))):
            yield region
        case Op(op="ge", args=(Reduce(kind="count", region=region), Literal(value=n))) if n >= 1:
            yield region
        case Op(op="lt" | "ne", args=(Literal(value=0), Reduce(kind="count", region=region))):
            yield region


def advances(world: World, body: tuple[Stmt, ...], filled: Expr | None) -> bool:
    """Whether each way through a body appends, or (given that `filled` has a position) commits a masked one."""
    return any(_advances(world, node, filled) for node in body)


def _advances(world: World, node: Stmt, filled: Expr | None) -> bool:
    match node:
        case Write(action="append") | Accept():  # a draft's root is followed by one token at least
            return True
        case Write(action="commit", region=region) if filled is not None and region is not None:
            return within(world, region, MASKED) and occupied(world, region, filled)
        case If():
            return advances(world, node.then, filled) and advances(world, node.orelse, filled)
        case Branches(start=start, stop=stop):  # the first branch is accepted in any case
            return _reaches(world, stop, least(world, start), filled) and advances(world, node.body, filled)
        case Repeat():
            return advances(world, node.body, filled)
        case While(condition=condition) if filled is not None:
            first = any(occupied(world, r, filled) for part in [condition] for r in _nonempty(part, world))
            return first and advances(world, node.body, filled)
        case Break(condition=Literal(value=True)) | Stop(condition=Literal(value=True)):
            return True
    return False


def _reaches(world: World, number: Expr, bound: float, filled: Expr | None) -> bool:
    """Whether a number is certainly at least `bound`, given that `filled` has a position."""
    match number:
        case Op(op="min", args=args):
            return all(_reaches(world, arg, bound, filled) for arg in args)
        case Reduce(kind="count", region=region) if filled is not None and bound <= 1:
            return occupied(world, region, filled)
        case Op(op="sub", args=(Reduce(kind="count", region=region), less)) if filled is not None:
            return any(_exceeds(condition, region, less, bound) for condition in world.holds)
    return least(world, number) >= bound


def _exceeds(condition: Expr, region: Expr, less: Expr, bound: float) -> bool:
    """Whether a condition says that `count(region) - less` is at least `bound`."""
    match condition:
        case Op(op="gt", args=(Reduce(kind="count", region=counted), Literal(value=n))) if isinstance(less, Literal):
            return counted == region and n + 1 - less.value >= bound
        case Op(op="gt", args=(Reduce(kind="count", region=counted), other)):
            return bound <= 1 and counted == region and other == less
    return False


def _counts(body: tuple[Stmt, ...], condition: Expr) -> bool:
    """`while t < n` with `t = t + 1` in each turn and an `n` that stays, or the same downwards."""
    if not isinstance(condition, Op) or condition.op not in ("lt", "le", "gt", "ge"):
        return False
    changed = assigned(body)
    for name, bound in (condition.args, condition.args[::-1]):
        up = (condition.op in ("lt", "le")) == (name is condition.args[0])
        if not isinstance(name, Name) or len(changed.get(name.name, ())) != 1 or not _stays(bound, changed):
            continue
        steps = [n.value for n in body if isinstance(n, Assign) and n.name == name.name]
        if steps and _step(steps[0], name, up):
            return True
    return False


def _stays(bound: Expr, changed: dict[str, tuple[Expr, ...]]) -> bool:
    return all(
        isinstance(n, (Literal, Op))
        or (isinstance(n, Expr) and type(n).__name__ == "RunInput")
        or (isinstance(n, Name) and n.name not in changed)
        for n in walk(bound)
    )


def _step(value: Expr, name: Name, up: bool) -> bool:
    match value:
        case Op(op="add", args=(a, b)) if up:
            return (a == name and least(World(), b) >= 1) or (b == name and least(World(), a) >= 1)
        case Op(op="sub", args=(a, b)) if not up:
            return a == name and least(World(), b) >= 1
        case Op(op="floordiv", args=(a, b)) if not up:
            return a == name and least(World(), b) >= 2
    return False


def diagnostics(world: World, body: tuple[Stmt, ...]) -> Iterator[Diagnostic]:
    """An error for each loop that is not known to end."""
    loops = {id(n.span): n for n in walk(body) if isinstance(n, (While, Repeat))}
    for ending in endings(world, body):
        if ending.why:
            continue
        loop = loops[id(ending.span)]
        culprit = next((t for t in walk(loop.body) if isinstance(t, Take) and _lax(world, t)), None)
        also = (Label(culprit.span, "this may select nothing"),) if culprit is not None else ()
        help = (
            "add `atleast: 1`"
            if also
            else ("commit from `masked` with `atleast: 1` while any are left, or count turns: `for t in 1 to n`")
        )
        yield Diagnostic(
            "no-progress",
            "this loop may run for ever",
            Label(head(ending.span), "a turn need not commit anything"),
            also,
            help,
        )


def _lax(world: World, take: Take) -> bool:
    if take.predicate is not None:
        return take.atleast is None or least(world, take.atleast) < 1
    return take.atmost is not None and least(world, take.atmost) < 1


def head(span: Span) -> Span:
    """The first line of a loop, without its body's brace."""
    if span.source is None:
        return span
    line = span.source.text[span.start : span.end].split("\n")[0].split("{")[0].rstrip()
    return Span(span.start, span.start + max(1, len(line)), span.source)
