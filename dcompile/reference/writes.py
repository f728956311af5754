"""Changes of the canvas, the row's own or those of an engine that is followed."""

from __future__ import annotations

from dcompile.diagnostic import error
from dcompile.reference.expressions import region, value
from dcompile.reference.result import Difference
from dcompile.reference.row import Row
from dcompile.reference.threefry import any_token, uniform
from dcompile.strategy import NOISE, Score, Write, walk


def append(row: Row, stmt: Write) -> bool:
    """One more token; whether the canvas is full, so that no further call could add to it."""
    assert stmt.tokens is not None
    room = row.filled < row.length
    if room:
        last = row.run - 1
        token = int(value(row, stmt.tokens).expand(row.size)[last])
        _note_tokens(row, stmt, [last])
        row.filled += 1
        put(row, follow(row, {last + 1: token}))
    return row.filled >= row.length


def write(row: Row, stmt: Write) -> None:
    """`commit`, `overwrite`, `mask`, `noise`, `truncate`."""
    assert stmt.region is not None
    if stmt.action == "truncate":
        _truncate(row, region(row, stmt.region))
        return
    first = 0 if stmt.action == "overwrite" else row.start
    at = [i for i in region(row, stmt.region) if first <= i < row.end and i not in row.fixed]
    if stmt.action == "mask":
        mask_id = row.model.facts.mask_id
        assert mask_id is not None
        put(row, dict.fromkeys(at, mask_id), masked=True)
        return
    if stmt.action == "noise":
        put(row, {i: noise(row, NOISE + 1 + stmt.site, i) for i in at}, masked=None)
        return
    assert stmt.tokens is not None
    if stmt.action == "commit":
        at = [i for i in at if row.masked[i]]
    if not at:  # nothing is read, so a call that fed nothing may stand before
        return
    tokens = value(row, stmt.tokens).expand(row.size)
    _note_tokens(row, stmt, at)
    if any(tokens[i] < 0 for i in at):
        title = "a token is read at a position that its call cannot predict"
        raise error("unreadable-position", title, "feed the position before it, or commit it from the earlier call")
    chosen = {i: int(tokens[i]) for i in at}
    if stmt.action == "commit":
        put(row, follow(row, chosen))
    else:
        put(row, chosen, masked=None)


def noise(row: Row, stream: int, position: int) -> int:
    """A random token, and one visit more."""
    visit = row.visits.get((stream, position), 0)
    row.visits[stream, position] = visit + 1
    own = any_token(row.controls.seed, stream, position, visit, row.model.facts.vocab)
    return row.draws.get((stream, position, visit), own)


def chance(row: Row, stream: int, position: int) -> float:
    """A number in (0, 1), and one visit more."""
    visit = row.visits.get((stream, position), 0)
    row.visits[stream, position] = visit + 1
    return uniform(row.controls.seed, stream, position, visit)


def _truncate(row: Row, behind: list[int]) -> None:
    """The canvas ends before the first of these positions."""
    if not behind:
        return
    row.filled = max(behind[0] - row.start, 0)
    for memory in row.memories.values():
        memory.stored -= set(range(row.end, row.size))
    for position in range(row.end, row.size):
        row.masked[position], row.order[position] = False, 0


def put(row: Row, chosen: dict[int, int], masked: bool | None = False) -> None:
    for position, token in chosen.items():
        row.tokens[position] = token
        row.order[position] = row.calls
        if masked is not None:
            row.masked[position] = masked


def _note_tokens(row: Row, stmt: Write, at: list[int]) -> None:
    """The gaps of the tokens that are about to be written."""
    for node in walk(stmt.tokens):
        if isinstance(node, Score) and node.kind in ("top", "token", "sample"):
            dist = row.dists[node.dist]
            for i in at:
                if i in dist.positions:
                    row.note(dist.top_gap(i) if node.kind == "top" else dist.token_gap(i))


def follow(row: Row, own: dict[int, int]) -> dict[int, int]:
    """The commits to make: the row's own, or those of the engine that is followed, with a note where they differ."""
    due = _due(row)
    if row.forced is None or all(due.get(i) == token for i, token in own.items()):
        return own  # the next statement may commit the rest of what is due
    _differ(row, own, due)
    return due


def settle(row: Row) -> None:
    """Behind the commits of a call: make those of the followed engine that the row has not made by itself."""
    if missing := _due(row):
        _differ(row, {}, missing)
        put(row, missing)


def _due(row: Row) -> dict[int, int]:
    """What the followed engine committed by the present call and the row has not."""
    if row.forced is None:
        return {}
    order, tokens = row.forced.order, row.forced.tokens
    answer = range(row.start, row.end)
    return {i: tokens[i - row.start] for i in answer if order[i - row.start] == row.calls and row.order[i] == 0}


def _differ(row: Row, own: dict[int, int], other: dict[int, int]) -> None:
    gap = row.gaps[row.calls - 1]
    row.differences.append(Difference(row.calls, tuple(sorted(own.items())), tuple(sorted(other.items())), gap))
