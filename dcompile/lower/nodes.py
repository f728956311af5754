"""Expressions over the nodes of a draft tree [B, n], over tables and the text; and what is written into tables."""

from __future__ import annotations

import torch
from torch import Tensor

from dcompile.lower import scores
from dcompile.lower.context import Context, Frame, Nodes
from dcompile.lower.frames import rows
from dcompile.lower.regions import present_end
from dcompile.lower.vectors import at_parent
from dcompile.record import constant
from dcompile.strategy import (
    VOCABULARY,
    Accepted,
    Best,
    Chance,
    Entry,
    Expr,
    Fill,
    Found,
    Kept,
    Literal,
    NodeFact,
    Parent,
    TextAt,
)


def value(ctx: Context, expr: Expr, frame: Frame | None) -> Tensor:
    """An expression of this kind: [B, n] where it has a value for each node, else [B]."""
    match expr:
        case NodeFact(name=name):
            return _fact(nodes_of(frame), name).expand(ctx.batch, -1)
        case Parent():
            return at_parent(ctx, expr, nodes_of(frame))
        case Kept(draft=draft):
            kept, live = ctx.drafts[draft].kept, ctx.drafts[draft].live
            return torch.zeros_like(live) if kept is None else kept
        case Chance():
            return scores.chance(ctx, expr, nodes_of(frame))
        case Accepted(draft=draft):
            return ctx.values[f"accepted_{draft}"]
        case Entry():
            return _entry(ctx, expr, frame)
        case TextAt(position=position):
            return _text_at(ctx, ctx.value(position, frame))
        case Found():
            return _found(ctx, expr)
    raise AssertionError(f"no value: {expr}")


def nodes_of(frame: Frame | None) -> Nodes:
    assert isinstance(frame, Nodes), "a value of nodes outside of a draft"
    return frame


def _fact(nodes: Nodes, name: str) -> Tensor:
    if nodes.grown is None:
        fact = nodes.tree.fact(name)
        return constant([[fact[i] for i in nodes.nodes]])
    return {"depth": nodes.grown.depths, "rank": nodes.grown.ranks}[name]


def _text_at(ctx: Context, position: Tensor) -> Tensor:
    flat = position.reshape(ctx.batch, -1)
    slot = flat + ctx.inputs["pad"].reshape(-1, 1)
    inside = (flat >= 0) & (slot < present_end(ctx).reshape(-1, 1))
    picked = torch.gather(ctx.values["tokens"], 1, torch.clamp(slot, 0, ctx.capacity - 1))
    return torch.where(inside, picked, -1).reshape(position.shape)


def _found(ctx: Context, expr: Found) -> Tensor:
    """Compare each slot and those before it with the last ones; the text's own end does not count."""
    assert isinstance(expr.size, Literal), "the elaborator makes it a number"
    size, tokens = int(expr.size.value), ctx.values["tokens"]
    slots = torch.arange(ctx.capacity).reshape(1, -1)
    end, pad = present_end(ctx).reshape(-1, 1), ctx.inputs["pad"].reshape(-1, 1)
    match = (slots < end - 1) & (slots - pad >= size - 1)
    for back in range(size):
        wanted = torch.gather(tokens, 1, torch.clamp(end - 1 - back, min=0))
        earlier = tokens if back == 0 else torch.cat([torch.full((ctx.batch, back), -1), tokens[:, :-back]], 1)
        match = match & (earlier == wanted)
    if expr.latest:
        return torch.where(match, slots + 1 - pad, -1).amax(1)
    nearest = torch.where(match, slots + 1 - pad, ctx.capacity + 1).amin(1)
    return torch.where(nearest > ctx.capacity, -1, nearest)


# ---------------------------------------------------------------- tables


def sides(ctx: Context, table: str) -> list[int]:
    """The sizes of a table."""
    state = next(s for s in ctx.strategy.states if s.name == table)
    return [ctx.model.facts.vocab if s == VOCABULARY else s for s in state.sizes]


def _cell(ctx: Context, index: list[Tensor], sizes: list[int]) -> tuple[Tensor, Tensor]:
    """The number of a cell among all those of the first sides [B, n], and whether it is one at all."""
    cell, inside = torch.zeros_like(index[0]), torch.ones_like(index[0], dtype=torch.bool)
    for i, size in zip(index, sizes, strict=False):
        cell, inside = cell * size + torch.clamp(i, 0, size - 1), inside & (i >= 0) & (i < size)
    return cell, inside


def _indices(ctx: Context, exprs: tuple[Expr, ...], frame: Frame | None) -> list[Tensor]:
    """The values of indices, all of the same shape: [B, n], or [B, 1] of the row."""
    width = frame.width if frame is not None and any(e.type.each for e in exprs) else 1
    return [ctx.value(e, frame).reshape(ctx.batch, -1).expand(ctx.batch, width) for e in exprs]


def _entry(ctx: Context, expr: Entry, frame: Frame | None) -> Tensor:
    cell, inside = _cell(ctx, _indices(ctx, expr.index, frame), sides(ctx, expr.table))
    if expr.type.wide or expr.type.base == "vector":
        table = ctx.values[expr.table]
        lines = torch.where(inside.unsqueeze(2), rows(table.reshape(ctx.batch, -1, table.shape[-1]), cell), 0.0)
        return lines if expr.type.wide or expr.type.each else lines.squeeze(1)
    found = torch.gather(ctx.values[expr.table].reshape(ctx.batch, -1), 1, cell)
    none = 0.0 if torch.is_floating_point(found) else -1
    out = torch.where(inside, found, none)
    return out if expr.type.each else out.reshape(-1)


def fill(ctx: Context, stmt: Fill) -> None:
    """Lower `table[index] = value`. Nodes that may not write, and those that a later one overwrites, write what the
    cell holds in the end all the same, so that no two writes of a scatter differ."""
    sizes, table = sides(ctx, stmt.table), ctx.values[stmt.table]
    frame = None if stmt.draft is None else ctx.drafts[stmt.draft]
    cell, good = _cell(ctx, _indices(ctx, stmt.index, frame), sizes)
    new = _new(ctx, stmt, frame, cell.shape[1])
    wide = new.shape[2]
    if frame is not None:
        good = good & frame.live
    if stmt.where is not None:
        good = good & ctx.value(stmt.where, frame).reshape(ctx.batch, -1)
    flat = table.reshape(ctx.batch, -1, wide)
    width = cell.shape[1]
    later = torch.arange(width).reshape(1, 1, -1)
    same = (cell.unsqueeze(2) == cell.unsqueeze(1)) & good.unsqueeze(1) & good.unsqueeze(2)
    any_good = torch.where(good, later.reshape(1, -1), -1).amax(1, keepdim=True)
    winner = torch.maximum(torch.where(same, later, -1).amax(2), torch.where(good, -1, any_good))
    none = winner < 0
    winner = torch.clamp(winner, min=0)
    cell = torch.where(none, 0, torch.gather(cell, 1, winner))
    spread = cell.unsqueeze(2).expand(ctx.batch, width, wide)
    chosen = torch.gather(new, 1, winner.unsqueeze(2).expand(ctx.batch, width, wide))
    chosen = torch.where(none.unsqueeze(2), torch.gather(flat, 1, spread), chosen)
    ctx.put(stmt.table, torch.scatter(flat, 1, spread, chosen).reshape(table.shape))


def _new(ctx: Context, stmt: Fill, frame: Nodes | None, width: int) -> Tensor:
    """What is to be written [B, n, wide]."""
    if isinstance(stmt.value, Best):
        found: Tensor = torch.ops.dcompile.best(ctx.dists[stmt.value.dist].logits, stmt.value.count)
        return found
    if stmt.value.type.wide:
        return ctx.value(stmt.value, frame)
    if stmt.value.type.base == "vector":
        found = ctx.value(stmt.value, frame)
        return found if frame is not None else found.unsqueeze(1)
    return ctx.value(stmt.value, frame).reshape(ctx.batch, -1, 1).expand(ctx.batch, width, 1)
