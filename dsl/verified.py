"""Do verified branches change the tokens? Compared with the same strategy whose branches are the first one alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from dcompile.dsl.fold import fold
from dcompile.dsl.regions import World, occupied, steady, within
from dcompile.source import Span
from dcompile.strategy import (
    Assign,
    Branches,
    Call,
    Expr,
    Literal,
    Name,
    Op,
    Reduce,
    Stmt,
    Strategy,
    Take,
    Type,
    While,
    Write,
    walk,
)


def alone(strategy: Strategy) -> Strategy:
    """The strategy with the first branch of each statement in its place."""
    return replace(strategy, body=_alone(strategy.body))


def _alone(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for node in body:
        if isinstance(node, Branches):
            out += put(node.body, node.var, node.start)
            continue
        inner: dict[str, Any] = {f.name: _alone(v) for f in fields(node) if _is_body(v := getattr(node, f.name))}
        out.append(replace(node, **inner) if inner else node)
    return tuple(out)


def _is_body(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, Stmt) for v in value)


def put(node: Any, name: str, value: Expr) -> Any:
    """A tree with a variable replaced by a value, folded where that makes it known."""
    if isinstance(node, tuple):
        return tuple(put(n, name, value) for n in node)
    if isinstance(node, Name):
        return value if node.name == name else node
    if not is_dataclass(node) or isinstance(node, (Span, Type, type)):
        return node
    parts = {f.name: getattr(node, f.name) for f in fields(node)}
    new = replace(node, **{n: put(part, name, value) for n, part in parts.items()})
    return fold(new) if isinstance(new, Op) else new


def drafts(world: World, strategy: Strategy) -> Iterator[tuple[Branches, str, Span]]:
    """For each statement, why its drafts may change a token, and the place; an empty reason where they cannot."""
    loops = {id(w.body[0]): (w, then) for w, then in _loops(strategy.body)}
    for node in (n for n in walk(strategy.body) if isinstance(n, Branches)):
        if id(node) not in loops:
            yield node, "the branches are not all that a turn of a `while` does", node.span
            continue
        yield (node, *(_why(world, strategy, node, *loops[id(node)]) or ("", node.span)))


def _loops(body: tuple[Stmt, ...]) -> Iterator[tuple[While, Stmt | None]]:
    """Each `while` that holds branches and nothing else, and the statement behind it."""
    for at, node in enumerate(body):
        if isinstance(node, While) and len(node.body) == 1 and isinstance(node.body[0], Branches):
            yield node, body[at + 1] if at + 1 < len(body) else None
        for f in fields(node):
            if _is_body(inner := getattr(node, f.name)):
                yield from _loops(inner)


def _why(world: World, strategy: Strategy, node: Branches, loop: While, then: Stmt | None) -> tuple[str, Span] | None:
    """A first draft is the policy's step, a further one is accepted where it is the step of an accepted one, and what
    a branch leaves depends on its canvas alone. So the row goes through canvases that one branch would go through."""
    head, *rest = node.body
    first = put(head, node.var, node.start)
    if not (isinstance(first, Write) and first.action == "commit" and isinstance(rest[0] if rest else None, Call)):
        return "a branch does not begin with a draft and its call", node.span
    if (first.tokens, first.region) != (node.tokens, node.region):
        return "the first draft is not what `accept` expects of the canvas before it", head.span
    if node.within and not _grows(node):
        return "a draft that lacks some of the policy's tokens is accepted, which is no state of the policy", node.span
    for part in rest:
        if (wrong := _depends(part, node)) is not None:
            return wrong, part.span
    if not _leaves(world, node, loop, then):
        return "the loop may end between two accepted drafts", loop.span
    if (late := _read_elsewhere(strategy, node, loop, then)) is not None:
        return f"`{late.name}` is what the last accepted branch left, and is read elsewhere too", late.span
    return None


def _grows(node: Branches) -> bool:
    """Whether draft j holds exactly the j most preferred positions, of which a step is the first."""
    write = node.body[0]
    step, draft = node.region, write.region if isinstance(write, Write) else None
    if not isinstance(step, Take) or not isinstance(draft, Take) or step.predicate is not None:
        return False
    one = isinstance(step.atmost, Literal) and step.atmost.value == 1
    nested = isinstance(draft.atmost, Name) and draft.atmost.name == node.var
    return one and nested and not step.per and replace(draft, atmost=step.atmost) == step


def _depends(part: Stmt, node: Branches) -> str | None:
    """Why what a statement behind the draft leaves may depend on more than the canvas and the call."""
    named = {n.name for n in walk(node.body) if isinstance(n, Assign)} | {node.var}
    if isinstance(part, Call):
        given = (part.feed, part.keep, part.temperature)
        fixed = steady(part.feed) and (part.keep is None or steady(part.keep))
        if not fixed or any(isinstance(n, Name) and n.name in named for n in walk(given)):
            return "what the call feeds or keeps depends on the draft"
        return None
    if not isinstance(part, Assign):
        return "a branch does more than to draft, call and note"
    value = part.value
    if isinstance(value, Op) and value.op == "select" and value.args[2] == Name(value.type, value.span, part.name):
        value = replace(value, args=(*value.args[:2], value.args[1]))
    if any(isinstance(n, Name) and n.name in named for n in walk(value)):
        return f"`{part.name}` depends on more than the canvas and its call"
    return None


def _leaves(world: World, node: Branches, loop: While, then: Stmt | None) -> bool:
    """Whether the loop goes on as long as the policy's step leaves something masked: so it ends between accepted
    drafts only where the step behind it commits what the next draft did."""
    match loop.condition:
        case (
            Reduce(kind="any", region=region)
            | Op(op="gt", args=(Reduce(kind="count", region=region), Literal(value=0)))
        ):
            return within(world, node.region, region)
        case Op(op="gt", args=(Reduce(kind="count", region=region), bound)):
            pass
        case _:
            return False
    one = isinstance(bound, Literal) and bound.value == 1
    whole = isinstance(bound, Reduce) and bound.kind == "count" and bound.region == node.region
    if not isinstance(then, Write) or (then.action, then.tokens, then.region) != ("commit", node.tokens, node.region):
        return False
    return within(world, node.region, region) and occupied(world, node.region, region) and (one or whole)


def _read_elsewhere(strategy: Strategy, node: Branches, loop: While, then: Stmt | None) -> Name | None:
    """A use of what a branch assigns, outside of its loop and of the step behind it."""
    named = {n.name for n in walk(node.body) if isinstance(n, Assign)}
    for part in _others(strategy.body, (loop, then)):
        if isinstance(part, Assign) and part.name in named:
            continue
        for n in walk(_own_parts(part)):
            if isinstance(n, Name) and n.name in named:
                return n
    return None


def _others(body: tuple[Stmt, ...], without: tuple[Stmt | None, ...]) -> Iterator[Stmt]:
    """Every statement of a body and inside of its statements, without some."""
    for node in body:
        if any(node is w for w in without):
            continue
        yield node
        for f in fields(node):
            if _is_body(inner := getattr(node, f.name)):
                yield from _others(inner, without)


def _own_parts(node: Stmt) -> tuple[object, ...]:
    """What a statement holds, without the statements inside it."""
    return tuple(v for f in fields(node) if not _is_body(v := getattr(node, f.name)))
