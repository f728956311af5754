"""Statements, and the run of a whole strategy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from dcompile.controls import Controls
from dcompile.diagnostic import error
from dcompile.models import Model
from dcompile.reference.expressions import DTYPES, number, region, truth, value
from dcompile.reference.forward import blank, forward
from dcompile.reference.result import Difference, Forced, Result
from dcompile.reference.row import Dist, Row
from dcompile.strategy import (
    Assign,
    Break,
    Call,
    Canvas,
    Ended,
    For,
    ForBlocks,
    If,
    ModelUse,
    Repeat,
    Score,
    State,
    Stmt,
    Stop,
    Strategy,
    While,
    Write,
    walk,
)  # fmt: skip


class _RowEnds(Exception):
    """The row is done; nothing more is run."""


class _LoopEnds(Exception):
    """A `break` of the innermost loop."""


def run(
    strategy: Strategy,
    model: Model,
    prompt: Sequence[int],
    *,
    length: int,
    sampling: Controls | None = None,
    forced: Forced | None = None,
) -> Result:
    """Run a strategy on one prompt, with `length` answer positions asked for.

    `forced`: follow another engine's commits instead of the own ones, and report where the two differ.
    """
    row = begin(strategy, model, prompt, length, sampling or Controls(), forced)
    for state in strategy.states:
        _reset(row, state)
    stopped = False
    try:
        _sequence(row, strategy.body)
    except _RowEnds:
        stopped = True
    return _result(row, stopped)


def begin(
    strategy: Strategy, model: Model, prompt: Sequence[int], length: int, controls: Controls, forced: Forced | None
) -> Row:
    """The row before its first statement."""
    assert prompt and length > 0, "an empty prompt or canvas is refused before"
    start, canvas = len(prompt), strategy.canvas
    masks = canvas.init == "masked"
    answer = extent(canvas, start, length) if masks else length
    mask_id = model.facts.mask_id if masks else 0
    if mask_id is None:
        raise error(
            "no-mask-token", f"`{strategy.name}` needs a model with a mask token", "use a masked diffusion model"
        )
    size = start + answer
    return Row(
        strategy, model, controls, [*prompt, *[mask_id] * answer], [False] * start + [masks] * answer, start, length,
        blank(model, size), answer if masks else 0, forced, [0] * size,
    )  # fmt: skip


def extent(canvas: Canvas, start: int, length: int) -> int:
    """The answer positions of a masked canvas: `length`, made longer to whole blocks where the canvas says so."""
    before = start if canvas.multiple_from == "canvas" else 0
    return math.ceil((before + length) / canvas.multiple) * canvas.multiple - before


def _result(row: Row, stopped: bool) -> Result:
    nodes = list(walk(row.strategy.body))
    stops = any(isinstance(n, Ended) or (isinstance(n, Stop) and n.condition is None) for n in nodes)
    grows = row.strategy.canvas.init == "empty"
    output = row.tokens[row.start : row.start + min(row.filled, row.length)]
    ids = row.controls.eos_ids
    eos = stops and any(t in ids for t in row.answer_run[: row.length])
    if eos:
        output = output[: next(n for n, token in enumerate(output) if token in ids) + 1]
    order = row.order[row.start : row.end]
    full = not grows or row.filled >= row.length
    return Result(
        output_ids=tuple(output),
        tokens=tuple(row.tokens[: row.end]),
        model_calls=row.calls,
        positions_fed=row.fed,
        order=tuple(order),
        committed_per_call=tuple(order.count(n) for n in range(1, row.calls + 1)),
        masks_left=sum(row.masked),
        finish_reason="eos" if eos else "stop" if stopped and not (grows and full) else "length",
        gaps=tuple(row.gaps),
        differences=tuple(row.differences),
    )


# ---------------------------------------------------------------- statements


def _sequence(row: Row, body: Sequence[Stmt]) -> None:
    for stmt in body:
        _statement(row, stmt)


def _statement(row: Row, stmt: Stmt) -> None:
    match stmt:
        case Call():
            _call(row, stmt)
        case Assign(name=name, value=expr):
            row.variables[name] = _spread(row, value(row, expr), expr.type.each)
        case Write(action="append"):
            _append(row, stmt)
        case Write():
            _write(row, stmt)
        case If(condition=condition, then=then, orelse=orelse):
            _sequence(row, then if truth(row, condition) else orelse)
        case Break(condition=condition):
            if truth(row, condition):
                raise _LoopEnds
        case Stop(condition=condition):
            if row.ended if condition is None else truth(row, condition):
                raise _RowEnds
        case _:
            with suppress(_LoopEnds):
                _loop(row, stmt)


def _spread(row: Row, item: Tensor, each: bool) -> Tensor:
    return item.expand(row.size).clone() if each else item


def _loop(row: Row, stmt: Stmt) -> None:
    match stmt:
        case ForBlocks():
            _for_blocks(row, stmt)
        case For(var=var, start=start, stop=stop, step=step):
            first, last = int(number(row, start)), int(number(row, stop))
            for i in range(first, last + step, step):
                row.variables[var] = torch.tensor(i)
                _turn(row, stmt.body)
        case While(condition=condition, body=body):
            while truth(row, condition):
                _turn(row, body)
        case Repeat(body=body, until=until):
            _turn(row, body)
            while not truth(row, until):
                _turn(row, body)
        case _:
            raise AssertionError(f"no meaning for {stmt}")


def _turn(row: Row, body: Sequence[Stmt]) -> None:
    for state in row.strategy.states:
        if state.lifetime == "step":
            _reset(row, state)
    _sequence(row, body)


def _reset(row: Row, state: State) -> None:
    initial = value(row, state.init).to(DTYPES[state.type.base])
    row.variables[state.name] = _spread(row, initial, state.type.each)


def _for_blocks(row: Row, stmt: ForBlocks) -> None:
    if stmt.over == "answer":
        first, stop = row.start, row.end
    elif stmt.over == "canvas":
        first, stop = 0, row.end
    else:
        inside = row.variables[stmt.over].nonzero().flatten().tolist()
        first, stop = (inside[0], inside[-1] + 1) if inside else (0, 0)
    if stmt.short == "error" and (stop - first) % stmt.size:
        title = f"{stop - first} positions are no whole number of blocks of {stmt.size}"
        raise error("uneven-blocks", title, f"ask for a multiple of {stmt.size} tokens")
    for begin_ in range(first, stop, stmt.size):
        if stmt.over == "canvas" and stmt.skip_prompt and begin_ + stmt.size <= row.start:
            continue
        positions = torch.arange(row.size)
        row.variables[stmt.var] = (positions >= begin_) & (positions < min(begin_ + stmt.size, stop))
        for state in row.strategy.states:
            if state.lifetime == "block":
                _reset(row, state)
        _turn(row, stmt.body)


# ---------------------------------------------------------------- the model


def _call(row: Row, stmt: Call) -> None:
    asked = region(row, stmt.feed)
    if not asked:
        return
    use = next(m for m in row.strategy.models if m.name == stmt.model)
    fed = asked
    if use.attention == "causal" and row.calls == 0:  # the prompt belongs to the row's first call
        fed = sorted({*asked, *(i for i in range(row.start) if i < asked[-1])})
    keep = set(fed) if stmt.keep is None else set(region(row, stmt.keep)) & set(asked) | set(fed) - set(asked)
    row.calls += 1
    row.fed += len(fed)
    row.gaps.append(math.inf)
    logits = forward(row.model, use, row.memory, row.tokens, fed, keep)
    if stmt.guidance is not None:
        logits = _guided(row, use, fed, logits, float(number(row, stmt.guidance)))
    if stmt.name is not None:
        row.dists[stmt.name] = _dist(row, stmt, use, fed, logits)


def _guided(row: Row, use: ModelUse, fed: list[int], clean: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance as in LLaDA's generate: away from what is predicted without the prompt."""
    mask_id = row.model.facts.mask_id
    assert mask_id is not None
    hidden = [mask_id] * row.start + row.tokens[row.start :]
    without = forward(row.model, use, blank(row.model, row.size), hidden, fed, ())
    return without + (scale + 1) * (clean - without)


def _dist(row: Row, stmt: Call, use: ModelUse, fed: list[int], logits: Tensor) -> Dist:
    """Which positions the rows of a forward predict: their own, or the one behind on a shifted model."""
    shift, ahead = (1 if row.model.facts.shift else 0), (1 if use.attention == "causal" else 0)
    rows = [n for n, i in enumerate(fed) if i + shift < row.size]
    positions = [fed[n] + shift for n in rows]
    visits = [row.visits.get((stmt.site, i), 0) for i in positions]
    for i in positions:
        row.visits[stmt.site, i] = row.visits.get((stmt.site, i), 0) + 1
    seen = frozenset(row.tokens[i] for i in range(row.end) if not row.masked[i])
    committed = sum(not row.masked[i] for i in range(row.start, row.end))
    temperature = row.controls.temperature if stmt.temperature is None else float(number(row, stmt.temperature))
    return Dist(logits[rows], positions, ahead, stmt.site, temperature, row.controls, seen, committed, visits)


# ---------------------------------------------------------------- the canvas


def _append(row: Row, stmt: Write) -> None:
    assert stmt.tokens is not None
    room = row.filled < row.length
    if room:
        last = row.run - 1
        token = int(value(row, stmt.tokens).expand(row.size)[last])
        _note_tokens(row, stmt, [last])
        row.filled += 1
        _put(row, _follow(row, {last + 1: token}))
    if row.filled >= row.length:  # a full canvas: no further call could add to it
        raise _RowEnds


def _write(row: Row, stmt: Write) -> None:
    assert stmt.region is not None
    first = 0 if stmt.action == "overwrite" else row.start
    at = [i for i in region(row, stmt.region) if first <= i < row.end]
    if stmt.action == "mask":
        mask_id = row.model.facts.mask_id
        assert mask_id is not None
        _put(row, dict.fromkeys(at, mask_id), masked=True)
        return
    assert stmt.tokens is not None
    if stmt.action == "commit":
        at = [i for i in at if row.masked[i]]
    tokens = value(row, stmt.tokens).expand(row.size)
    _note_tokens(row, stmt, at)
    if any(tokens[i] < 0 for i in at):
        title = "a token is read at a position that its call cannot predict"
        raise error("unreadable-position", title, "feed the position before it, or commit it from the earlier call")
    chosen = {i: int(tokens[i]) for i in at}
    _put(
        row, _follow(row, chosen) if stmt.action == "commit" else chosen, None if stmt.action == "overwrite" else False
    )


def _put(row: Row, chosen: dict[int, int], masked: bool | None = False) -> None:
    for position, token in chosen.items():
        row.tokens[position] = token
        row.order[position] = row.calls
        if masked is not None:
            row.masked[position] = masked


def _note_tokens(row: Row, stmt: Write, at: list[int]) -> None:
    """The gaps of the tokens that are about to be written."""
    for node in walk(stmt.tokens):
        if isinstance(node, Score) and node.kind in ("token", "sample"):
            dist = row.dists[node.dist]
            for i in at:
                if i in dist.positions:
                    row.note(dist.token_gap(i))


def _follow(row: Row, own: dict[int, int]) -> dict[int, int]:
    """The commits to make: the row's own, or those of the engine that is followed, with a note where they differ."""
    if row.forced is None:
        return own
    order, tokens = row.forced.order, row.forced.tokens
    due = {i: tokens[i - row.start] for i in range(row.start, row.end) if order[i - row.start] == row.calls}
    due = {i: token for i, token in due.items() if row.order[i] == 0}
    if all(due.get(i) == token for i, token in own.items()):
        return own  # further commits of this call may still bring the rest
    row.differences.append(
        Difference(row.calls, tuple(sorted(own.items())), tuple(due.items()), row.gaps[row.calls - 1])
    )
    return due
