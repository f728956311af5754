"""Which call a committed token comes from, and whether two commits read the same one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dcompile.dsl.regions import EVERYTHING, MOVING, World, within
from dcompile.source import Span
from dcompile.strategy import (
    Area,
    Assign,
    Call,
    Expr,
    For,
    ForBlocks,
    If,
    Name,
    Op,
    Repeat,
    Score,
    Stmt,
    While,
    Write,
    walk,
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """What a variable holds: on `region`, the tokens that one of the `calls` proposed; `used`: one was committed."""

    region: Expr
    calls: frozenset[str]
    used: bool


@dataclass
class Known:
    """At a point of a body: the calls that a commit has read, and the variables that hold tokens of calls."""

    used: frozenset[str] = frozenset()
    held: dict[str, Origin] = field(default_factory=dict)

    def copy(self) -> Known:
        """The same, to be changed apart."""
        return Known(self.used, dict(self.held))

    def join(self, other: Known) -> Known:
        """What holds on both ways."""
        held = {n: _either(o, other.held[n]) for n, o in self.held.items() if n in other.held}
        return Known(self.used | other.used, {n: o for n, o in held.items() if o is not None})


def _either(a: Origin, b: Origin) -> Origin | None:
    region = b.region if a.region == EVERYTHING else a.region
    both = b.region in (region, EVERYTHING)
    return Origin(region, a.calls | b.calls, a.used or b.used) if both else None


def own(tokens: Expr | None) -> bool:
    """Whether tokens are, by their form, what a call proposed: its score, or a variable that may hold it."""
    return isinstance(tokens, Name) or (isinstance(tokens, Score) and tokens.kind in ("token", "sample"))


def losses(world: World, body: tuple[Stmt, ...]) -> Iterator[tuple[str, Span]]:
    """Commits of what is not a call's own token, or of a second token from the same call: why, and where."""
    yield from _body(world, body, Known())


def _body(world: World, body: tuple[Stmt, ...], known: Known) -> Iterator[tuple[str, Span]]:
    """Goes through a body; `known` is changed on the way."""
    for node in body:
        match node:
            case Call(name=str(name)):
                known.used -= {name}
            case Assign():
                _assign(world, node, known)
            case Write(tokens=tokens) if tokens is not None:
                yield from _write(world, node, tokens, known)
            case If():
                yes, no = known.copy(), known.copy()
                yield from _body(world, node.then, yes)
                yield from _body(world, node.orelse, no)
                _become(known, yes.join(no))
            case ForBlocks() | For() | While() | Repeat():
                for _ in range(3):  # what is known before a turn, until it stays
                    turn = known.copy()
                    turn.held = {n: o for n, o in turn.held.items() if not _mentions(o.region, node)}
                    yield from _body(world, node.body, turn)
                    _become(known, turn if isinstance(node, Repeat) else known.join(turn))


def _become(known: Known, other: Known) -> None:
    known.used, known.held = other.used, other.held


def _mentions(region: Expr, loop: Stmt) -> bool:
    """Whether a region is another one in the next turn of a loop over blocks."""
    return isinstance(loop, ForBlocks) and any(isinstance(n, Name) and n.name == loop.var for n in walk(region))


def _assign(world: World, node: Assign, known: Known) -> None:
    origin = _origin(world, node.value, known)
    known.held.pop(node.name, None)
    if origin is not None:
        known.held[node.name] = origin


def _origin(world: World, value: Expr, known: Known) -> Origin | None:
    match value:
        case Score(kind="token" | "sample", dist=dist):
            return Origin(EVERYTHING, frozenset({dist}), dist in known.used)
        case Op(op="select", args=(region, Score(kind="token" | "sample", dist=dist), _)) if _lasts(world, region):
            return Origin(region, frozenset({dist}), dist in known.used)
        case Name(name=other):
            return known.held.get(other)
    return None


def _lasts(world: World, region: Expr) -> bool:
    """Whether a region of now holds what the same words mean later: blocks stay, and what is masked gets less (`mask`
    is not lossless anyway)."""
    for n in walk(region):
        if isinstance(n, MOVING) or (isinstance(n, Name) and n.name not in world.blocks):
            return False
        if isinstance(n, Area) and n.name == "last":
            return False
    return region.type.each


def _write(world: World, node: Write, tokens: Expr, known: Known) -> Iterator[tuple[str, Span]]:
    again = ("a second position is committed from the same call", node.span)
    if isinstance(tokens, Score):
        if tokens.dist in known.used:
            yield again
        _use(known, frozenset({tokens.dist}))
    elif isinstance(tokens, Name):
        origin = known.held.get(tokens.name)
        if origin is None or node.region is None or not within(world, node.region, origin.region):
            yield ("what is written is not the model's own token", node.span)
            return
        if origin.used:
            yield again
        _use(known, origin.calls)


def _use(known: Known, calls: frozenset[str]) -> None:
    known.used |= calls
    known.held = {n: replace(o, used=o.used or bool(o.calls & calls)) for n, o in known.held.items()}
