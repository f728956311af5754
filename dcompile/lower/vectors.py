"""Vectors: one a row [B, E], or of the nodes of a draft [B, W, E]; scores [B, V] and [B, W, V].

What a head makes of a vector is asked for once for all nodes that have the same one: the children of a parent, or all
nodes of a depth. So scores are as many rows as there are vectors, not nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from dcompile.lower import trees
from dcompile.lower.context import Context, Frame, Nodes
from dcompile.lower.frames import rows
from dcompile.record import constant
from dcompile.strategy import (
    Applied,
    AtLast,
    Chance,
    Embedding,
    Expr,
    Field,
    Hidden,
    Kept,
    Logits,
    Module,
    NodeFact,
    Op,
    Own,
    Parent,
    Ranked,
    Score,
    at_build,
)
from dcompile.trees import Tree, chain

WIDE = ("vector", "scores")
OPS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.true_divide, "neg": torch.neg,
    "silu": lambda a: a * torch.sigmoid(a), "select": torch.where,
}  # fmt: skip


def value(ctx: Context, expr: Expr, frame: Frame | None) -> Tensor:
    """An expression of this kind on the nodes of a frame, or of the row."""
    match expr:
        case Hidden(dist=dist):
            hidden = ctx.dists[dist].hidden
            assert hidden is not None, "the hidden state is asked for of drafts and of `last`"
            return pick(hidden, frame) if expr.type.each else hidden.squeeze(1)
        case Embedding(of=token):
            ids = torch.clamp(ctx.value(token, frame), 0, ctx.model.facts.vocab - 1)
            found: Tensor = ctx.model.backbone.get_input_embeddings()(ids)  # type: ignore[operator]
            return found
        case Logits(of=inner):
            made: Tensor = ctx.model.head(ctx.value(inner, frame))
            return made
        case Applied():
            return _applied(ctx, expr, frame)
        case Ranked():
            return _ranked(ctx, expr, frame)
        case Own(draft=draft, name=name):
            assert isinstance(frame, Nodes)
            return pick(frame.own[name], frame)
        case AtLast(draft=draft, value=inner):
            return _at_last(ctx, ctx.drafts[draft], inner)
        case Op():
            return _op(ctx, expr, frame)
    raise AssertionError(f"no value: {expr}")


def pick(x: Tensor, frame: Frame | None) -> Tensor:
    """Of values [B, n, ...] of the nodes, those of a frame's."""
    if not isinstance(frame, Nodes) or not frame.rows:
        return x
    return few(x, frame.rows)


def few(x: Tensor, chosen: Sequence[int]) -> Tensor:
    """Of [B, n, ...] the entries `chosen`, which are known at the build."""
    first, count = chosen[0], len(chosen)
    if list(chosen) == list(range(first, first + count)):
        return x if count == x.shape[1] else x[:, first : first + count]
    return torch.index_select(x, 1, constant(list(chosen)))


def expanded(ctx: Context, found: Tensor, expr: Expr, frame: Frame) -> Tensor:
    """A value on all nodes of a frame [B, W], vectors [B, W, E]; one of the row stands for all."""
    if expr.type.base in WIDE:
        found = found if expr.type.each else found.unsqueeze(1)
        return found.expand(ctx.batch, frame.width, found.shape[-1])
    return found.reshape(ctx.batch, -1).expand(ctx.batch, frame.width)


def at_parent(ctx: Context, expr: Parent, frame: Nodes) -> Tensor:
    """A value as it is at the parents of a frame's nodes."""
    if not frame.rows:
        return trees.parents(frame, expanded(ctx, ctx.value(expr.value, frame), expr.value, frame))
    parents = [frame.tree.parents[i] for i in frame.nodes]
    above, place = _shared(expr.value, replace(frame, rows=tuple(parents), width=len(parents)))
    return few(expanded(ctx, ctx.value(expr.value, above), expr.value, above), place)


def on_few(ctx: Context, expr: Expr, frame: Nodes) -> Tensor:
    """A value on the nodes of a frame, computed once for those that share it."""
    if not expr.type.each:
        return expanded(ctx, ctx.value(expr, None), expr, frame)
    some, place = _shared(expr, frame)
    return few(expanded(ctx, ctx.value(expr, some), expr, some), place)


# ---------------------------------------------------------------- what nodes share


def _shared(expr: Expr, frame: Nodes) -> tuple[Nodes, list[int]]:
    """The nodes of a frame that have a value each, and for each of its nodes which of them has its value."""
    if frame.grown is not None:  # who shares a parent is known at the run
        return frame, list(range(frame.width))
    kinds = _reads(expr, dict(frame.given))
    keys: list[Hashable] = []
    for node in frame.nodes:
        key: list[Hashable] = [node] if "node" in kinds else []
        key += [frame.tree.parents[node]] if "parent" in kinds else []
        key += [frame.tree.fact(name)[node] for name in sorted(kinds - {"node", "parent"})]
        keys.append(tuple(key))
    first: dict[Hashable, int] = {}
    for node, found in zip(frame.nodes, keys, strict=True):
        first.setdefault(found, node)
    order = {found: n for n, found in enumerate(first)}
    chosen = tuple(first.values())
    return replace(frame, rows=chosen, width=len(chosen)), [order[found] for found in keys]


def _reads(expr: object, own: dict[str, Expr]) -> set[str]:
    """What of its node a value depends on: `parent` (whose child it is), a fact's name, `node` (anything else)."""
    match expr:
        case Parent():
            return {"parent"}
        case NodeFact(name=name):
            return {name}
        case Field(name="position"):
            return {"depth"}
        case Own(name=name) if name in own:
            return _reads(own[name], own)
        case Field() | Score() | Chance() | Kept() | Hidden() | Own():
            return {"node"}
    found: set[str] = set()
    for part in _below(expr):
        found |= _reads(part, own)
    return found


def _below(expr: object) -> list[object]:
    if isinstance(expr, tuple):
        return list(expr)
    return [getattr(expr, f.name) for f in fields(expr)] if isinstance(expr, Expr) else []


# ---------------------------------------------------------------- operations


def _op(ctx: Context, expr: Op, frame: Frame | None) -> Tensor:
    """Arithmetic of vectors; a choice that the tree makes computes the one side alone."""
    if expr.op == "select" and isinstance(frame, Nodes):
        known = at_build(expr.args[0], frame.tree)
        sides = {known[i] for i in frame.nodes} if known is not None else {0, 1}
        if len(sides) == 1:
            chosen = expr.args[1 if sides.pop() else 2]
            return expanded(ctx, ctx.value(chosen, frame), chosen, frame)
    return OPS[expr.op](*(_column(ctx, a, frame, expr) for a in expr.args))


def _column(ctx: Context, arg: Expr, frame: Frame | None, whole: Expr) -> Tensor:
    """An argument that meets vectors: [B, E], or over nodes [B, W, E]; a number has 1 in place of E."""
    found = ctx.value(arg, frame)
    if arg.type.base not in WIDE:
        found = found.unsqueeze(-1)
    return found.unsqueeze(1) if whole.type.each and not arg.type.each else found


def _ranked(ctx: Context, expr: Ranked, frame: Frame | None) -> Tensor:
    """The likeliest tokens, as many as are asked for, once for each vector; then each node's."""
    if not isinstance(frame, Nodes) or not expr.type.each:
        (rank,) = _numbers(expr.rank, chain(0), (0,))
        best: Tensor = torch.ops.dcompile.best(ctx.value(expr.of, frame), rank + 1)
        return best[:, rank]
    ranks = [max(n, 0) for n in _numbers(expr.rank, frame.tree, frame.nodes)]  # that of the root may be below 0
    if expr.of.type.each:
        some, place = _shared(expr.of, frame)
        scores = expanded(ctx, ctx.value(expr.of, some), expr.of, some)
    else:
        scores, place = ctx.value(expr.of, None).unsqueeze(1), [0] * frame.width
    most = max(ranks) + 1
    found: Tensor = torch.ops.dcompile.best(scores, most)
    index = [row * most + rank for row, rank in zip(place, ranks, strict=True)]
    return few(found.reshape(ctx.batch, -1), index)


def _numbers(expr: Expr, tree: Tree, chosen: Sequence[int]) -> list[int]:
    known = at_build(expr, tree)
    assert known is not None, "the checker lets only numbers through that are known at the build"
    return [known[i] for i in chosen]


def _applied(ctx: Context, expr: Applied, frame: Frame | None) -> Tensor:
    """What a module gives: each of its networks for the vectors that ask for it."""
    module = next(m for m in ctx.strategy.modules if m.name == expr.module)
    if not isinstance(frame, Nodes) or not expr.type.each:
        (number,), (part,) = _numbers(expr.number, chain(0), (0,)), _numbers(expr.part, chain(0), (0,))
        x = (
            torch.cat([ctx.value(a, frame) for a in expr.args], -1)
            if len(expr.args) > 1
            else ctx.value(expr.args[0], frame)
        )
        out = _given(ctx, module, ctx.modules[module.name].run(x, number))
        return out[:, part] if module.gives == "vectors" else out
    some, place = _shared(replace(expr, part=expr.number), frame)
    args = [expanded(ctx, ctx.value(a, some if a.type.each else None), a, some) for a in expr.args]
    x = torch.cat(args, -1) if len(args) > 1 else args[0]
    numbers = [min(max(n, 0), module.count - 1) for n in _numbers(expr.number, frame.tree, some.nodes)]
    order: list[int] = []
    found = []
    for number in sorted(set(numbers)):
        mine = [i for i, n in enumerate(numbers) if n == number]
        flat = few(x, mine).reshape(ctx.batch * len(mine), x.shape[-1])
        out = ctx.modules[module.name].run(flat, number)
        found.append(out.reshape(ctx.batch, len(mine), -1))
        order += mine
    joined = torch.cat(found, 1) if len(found) > 1 else found[0]
    at = [order.index(i) for i in place]
    if module.gives != "vectors":
        answer = few(joined, at)
        return answer.squeeze(-1) if module.gives == "number" else answer
    parts = [min(max(n, 0), module.parts - 1) for n in _numbers(expr.part, frame.tree, frame.nodes)]
    pieces = joined.reshape(ctx.batch, -1, ctx.model.facts.hidden)
    return few(pieces, [i * module.parts + part for i, part in zip(at, parts, strict=True)])


def _given(ctx: Context, module: Module, out: Tensor) -> Tensor:
    """The numbers that a network gives for each row [B, m], as what they are."""
    if module.gives == "number":
        return out.reshape(-1)
    return out if module.gives == "scores" else out.reshape(ctx.batch, module.parts, ctx.model.facts.hidden)


def _at_last(ctx: Context, nodes: Nodes, expr: Expr) -> Tensor:
    found = expanded(ctx, ctx.value(expr, nodes), expr, nodes)
    last = torch.zeros_like(nodes.start) if nodes.last is None and nodes.start is not None else nodes.last
    assert last is not None
    if found.dim() == 2:
        return torch.gather(found, 1, last.reshape(-1, 1)).reshape(-1)
    return rows(found, last.reshape(-1, 1)).squeeze(1)
