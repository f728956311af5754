"""Statements, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from dcompile.diagnostic import error
from dcompile.reference import dists, drafts, kept
from dcompile.reference.branches import branches
from dcompile.reference.calls import call
from dcompile.reference.expressions import DTYPES, number, truth, value
from dcompile.reference.permuted import verify
from dcompile.reference.row import Row
from dcompile.reference.writes import append, chance, settle, write
from dcompile.strategy import (
    RANDOM,
    VOCABULARY,
    Accept,
    Adjust,
    Assign,
    Branches,
    Break,
    Call,
    Draft,
    Expr,
    Fill,
    For,
    ForBlocks,
    If,
    Nodes,
    Random,
    Repeat,
    State,
    Stmt,
    Stop,
    Verify,
    While,
    Write,
)


class RowEnds(Exception):
    """The row is done; nothing more is run."""


class _LoopEnds(Exception):
    """A `break` of the innermost loop."""


def sequence(row: Row, body: Sequence[Stmt]) -> None:
    """Run statements; raises RowEnds where the row is done."""
    for stmt in body:
        _statement(row, stmt)


def _statement(row: Row, stmt: Stmt) -> None:
    if row.calls and isinstance(stmt, (Call, Draft, Branches, Break, Stop)):
        settle(row)
    match stmt:
        case Call():
            if _lost(row):
                raise RowEnds
            (drafts.call if isinstance(stmt.feed, Nodes) else call)(row, stmt)
        case Draft():
            drafts.draft(row, stmt)
        case Accept():
            if kept.accept(row, stmt):
                raise RowEnds
        case Fill():
            kept.fill(row, stmt)
        case Assign(name=name, value=expr) if expr.type.wide:
            state = next(s for s in row.strategy.states if s.name == name)
            row.variables[name] = dists.bounded(row, state, value(row, expr), value(row, state.init))
        case Assign(name=name, value=Random(site=site)):
            row.variables[name] = torch.tensor([chance(row, RANDOM + site, i) for i in range(row.size)])
        case Assign(name=name, value=expr):
            row.variables[name] = _spread(row, value(row, expr), expr.type.each)
        case Adjust(plus=plus):
            dists.adjust(row, stmt, value(row, plus))
        case Verify():
            verify(row, stmt)
        case Write(action="append"):
            if append(row, stmt):
                raise RowEnds
        case Write():
            write(row, stmt)
        case Branches():
            if _lost(row):
                raise RowEnds
            branches(row, stmt, sequence)
        case If(condition=condition, then=then, orelse=orelse):
            sequence(row, then if truth(row, condition) else orelse)
        case Break(condition=condition):
            if truth(row, condition):
                raise _LoopEnds
        case Stop(condition=condition):
            if row.ended if condition is None else truth(row, condition):
                raise RowEnds
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
            while _holds(row, condition, True):
                _turn(row, body)
        case Repeat(body=body, until=until):
            _turn(row, body)
            while not _holds(row, until, False):
                _turn(row, body)
        case _:
            raise AssertionError(f"no meaning for {stmt}")


def _turn(row: Row, body: Sequence[Stmt]) -> None:
    for state in row.strategy.states:
        if state.lifetime == "step":
            reset(row, state)
    sequence(row, body)


def _holds(row: Row, condition: Expr, again: bool) -> bool:
    """A loop's condition, which says `again` or not. Before another turn, it is asked of what a followed engine has
    committed; at the end that can still be done by what stands behind the loop."""
    found = truth(row, condition)
    if found == again and row.calls and row.forced is not None:
        settle(row)
        found = truth(row, condition)
    return found


def _lost(row: Row) -> bool:
    """Whether the followed engine came to its end long ago: its commits need not end the loops of this strategy."""
    return row.forced is not None and row.calls > max(row.forced.order, default=0) + row.size


def reset(row: Row, state: State) -> None:
    """Set a state to what its lifetime begins with."""
    initial = value(row, state.init).to(DTYPES[state.type.base])
    if state.type.base == "vector":
        row.variables[state.name] = initial.expand(*state.sizes, row.model.facts.hidden).clone()
        return
    if state.type.wide:
        row.variables[state.name] = initial.expand(row.size, row.model.facts.vocab).clone()
        return
    if state.sizes:
        sides = [row.model.facts.vocab if s == VOCABULARY else s for s in state.sizes]
        row.variables[state.name] = initial.expand(sides).clone()
        return
    row.variables[state.name] = _spread(row, initial, state.type.each)


def _for_blocks(row: Row, stmt: ForBlocks) -> None:
    if stmt.over == "answer":
        first, stop = row.start, row.end
    elif stmt.over == "canvas":
        first, stop = 0, row.end
    else:
        inside = [i for i in row.variables[stmt.over].nonzero().flatten().tolist() if i < row.end]
        first, stop = (inside[0], inside[-1] + 1) if inside else (0, 0)
    if stmt.short == "error" and (stop - first) % stmt.size:
        title = f"{stop - first} positions are no whole number of blocks of {stmt.size}"
        raise error("uneven-blocks", title, f"ask for a multiple of {stmt.size} tokens")
    for begin_ in range(first, stop, stmt.size):
        if begin_ >= row.end:  # truncated since
            break
        if stmt.over == "canvas" and stmt.skip_prompt and begin_ + stmt.size <= row.start:
            continue
        positions = torch.arange(row.size)
        row.variables[stmt.var] = (positions >= begin_) & (positions < min(begin_ + stmt.size, stop))
        for state in row.strategy.states:
            if state.lifetime == "block":
                reset(row, state)
        row.blocks.append(stmt.var)
        try:
            _turn(row, stmt.body)
        finally:
            row.blocks.pop()
