"""A draft whose tokens are draws that were kept: is each one judged once, by what it was drawn from, where it belongs?

So it is in one form, that of Speculative Jacobi Decoding: behind the accept the laws are forgotten, and what the call
drew behind each node, and from what, moves to the cells that the next draft reads for the same position. A draw is then
a function of its position's random number and of what stands before; nothing that is decided earlier depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from dcompile.strategy import (
    NONE,
    Accept,
    Accepted,
    Branches,
    Break,
    Draft,
    Entry,
    Expr,
    Fill,
    Literal,
    NodeFact,
    Op,
    Probabilities,
    Score,
    State,
    Stmt,
    Stop,
    Strategy,
    Write,
    walk,
)

JUDGED_ONE_BY_ONE = ("rejection", "recursive", "recursive_distinct", "kseq", "greedy")


def fault(strategy: Strategy, draft: Draft, accept: Accept) -> str:
    """Why the kept laws may not be those of the draft's tokens; empty where they are."""
    token, law = draft.tokens, draft.law
    if accept.rule not in JUDGED_ONE_BY_ONE:
        return f"`{accept.rule}` looks at tokens behind the one that it refuses, and they are drafted again"
    if not (isinstance(token, Entry) and isinstance(law, Entry) and token.index == law.index and _is_place(token)):
        return "a token and what it was drawn from are not read from one place each, `depth - 1`"
    states = {s.name: s for s in strategy.states}
    if not all(_starts_fresh(states[name]) for name in (token.table, law.table)) or not _is_zero(
        states[law.table].init
    ):
        return "what is kept does not begin as `0` with each sequence"
    if any(
        isinstance(n, (Write, Branches)) or (isinstance(n, Accept) and n is not accept) for n in walk(strategy.body)
    ):
        return "the text moves on elsewhere too, and what was kept stands for other positions then"
    if not any(_moved(body, draft, accept, token.table, law.table) for body in _bodies(strategy.body)):
        name = draft.name
        return (
            f"behind the accept the laws are not forgotten at `{name}.depth - 1`, and then draws and laws moved to "
            f"`{name}.depth - {name}.accepted - 1`"
        )
    return ""


def _starts_fresh(state: State) -> bool:
    return state.lifetime == "sequence"


def _is_zero(init: Expr) -> bool:
    return isinstance(init, Literal) and init.value == 0


def _bodies(body: tuple[Stmt, ...]) -> Iterator[tuple[Stmt, ...]]:
    yield body
    for node in walk(body):
        if isinstance(node, Stmt) and isinstance(inner := getattr(node, "body", None), tuple):
            yield inner


def _moved(body: tuple[Stmt, ...], draft: Draft, accept: Accept, tokens: str, laws: str) -> bool:
    """Whether a body drafts, accepts, forgets, and moves, one behind the other, and nothing else fills these tables."""
    if draft not in body or accept not in body or any(isinstance(n, (Break, Stop)) for n in body):
        return False
    fills = [n for n in walk(body) if isinstance(n, Fill) and n.table in (tokens, laws)]
    if len(fills) != 3 or any(f not in body or f.where is not None or f.draft != draft.name for f in fills):
        return False
    if any(body.index(f) < body.index(accept) for f in fills):
        return False
    forgets, *moves = fills
    found = {f.table: f.value for f in moves if len(f.index) == 1 and _is_next(f.index[0], draft.name)}
    return (
        forgets.table == laws
        and len(forgets.index) == 1
        and _is_depth_less_one(forgets.index[0])
        and _is_none(forgets.value)
        and found.keys() == {tokens, laws}
        and _is_draw(found[tokens], accept.dist)
        and _is_law(found[laws], accept.dist)
    )


def _is_place(entry: Entry) -> bool:
    return len(entry.index) == 1 and _is_depth_less_one(entry.index[0])


def _is_depth_less_one(index: Expr) -> bool:
    match index:
        case Op(op="sub", args=(NodeFact(name="depth"), Literal(value=1))):
            return True
    return False


def _is_next(index: Expr, draft: str) -> bool:
    """`t.depth - t.accepted - 1`."""
    match index:
        case Op(op="sub", args=(Op(op="sub", args=(NodeFact(name="depth"), Accepted(draft=of))), Literal(value=1))):
            return of == draft
    return False


def _is_none(value: Expr) -> bool:
    match value:
        case Probabilities(of=Literal(value=v)):
            return v == NONE
    return False


def _is_draw(value: Expr, dist: str) -> bool:
    match value:
        case Score(dist=of, kind="token" | "sample", without=()):
            return of == dist
    return False


def _is_law(value: Expr, dist: str) -> bool:
    match value:
        case Probabilities(of=Score(dist=of, kind="dist", warped=True)):
            return of == dist
    return False
