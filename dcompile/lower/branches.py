"""Branches: the rows of a batch, each as often as there are branches, in one forward; then the accepted ones' rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dcompile.lower.calls import count, keep
from dcompile.lower.context import Block, Context, Frame
from dcompile.lower.fork import Fork, Kept
from dcompile.lower.variables import written
from dcompile.lower.writes import write
from dcompile.strategy import Branches, Stmt, Write
from dcompile.trace import Slots

Run = Callable[[Context, Sequence[Stmt]], None]
SHARED = ("eos", "banned", "batch_calls")  # what has no axis of rows


def branches(ctx: Context, stmt: Branches, run: Run) -> None:
    """Lower the statement; `run` lowers a body."""
    fork = Fork(ctx.batch, stmt.width)
    number = ctx.value(stmt.start, None).reshape(-1, 1) + torch.arange(stmt.width).reshape(1, -1)
    live = number <= ctx.value(stmt.stop, None).reshape(-1, 1)
    live = live if ctx.active is None else live & ctx.active.reshape(-1, 1)
    inner = _inner(ctx, fork, live)
    inner.values[stmt.var] = number.reshape(-1)
    run(inner, stmt.body)
    best = _chain(_agreement(inner, fork, stmt, live), stmt.width)
    _count(ctx, fork)
    skipped = {"calls", "batch_calls", "fed", ctx.first.stored, *ctx.first.caches}
    for name in sorted((written(ctx, stmt.body) & ctx.values.keys()) - skipped):
        new = fork.pick(inner.values[name], best)
        if name == "order":  # where nothing was fed there was no call
            new = torch.minimum(new, ctx.values["calls"].reshape(-1, 1))
        ctx.put(name, new)
    for kept in fork.kept:
        _store(ctx, fork, kept, best)


def _store(ctx: Context, fork: Fork, kept: Kept, best: Tensor) -> None:
    """Store the keys and values of the accepted branch."""
    start = None if kept.start is None else fork.pick(kept.start, best)
    chosen = Slots(None, None, kept.slots.fresh_bias)
    for layer, (k, v) in kept.slots.fresh.items():
        chosen.fresh[layer] = (fork.pick(k, best), fork.pick(v, best))
    with ctx.recorder.tagged(**kept.tags):
        keep(ctx, ctx.first, Frame(start, kept.width), fork.pick(kept.marks, best), chosen)


def _inner(ctx: Context, fork: Fork, live: Tensor) -> Context:
    """The rows' branches as the rows of a context of their own."""
    inputs = {n: t if n in SHARED else fork.spread(t) for n, t in ctx.inputs.items()}
    narrow = {n for n, t in ctx.values.items() if t.dim() <= 2 and n not in SHARED}
    values = {n: fork.spread(t) if n in narrow else t for n, t in ctx.values.items()}
    values["calls"] = values["calls"] + 1  # what a branch writes counts as written by its call
    blocks = {n: Block(fork.spread(b.start), fork.spread(b.end), b.width) for n, b in ctx.blocks.items()}
    return replace(
        ctx, batch=ctx.batch * fork.width, inputs=inputs, values=values, blocks=blocks, dists={}, memo={},
        active=live.reshape(-1), fork=fork,
    )  # fmt: skip


def _agreement(inner: Context, fork: Fork, stmt: Branches, live: Tensor) -> Tensor:
    """Whether a later live branch's canvas is what `accept` makes of an earlier one's: bool [B, K earlier, K later]."""
    drafts = dict(inner.values)
    write(inner, Write(stmt.span, "commit", stmt.region, stmt.tokens))
    tokens, masked = (fork.split(drafts[n]).unsqueeze(1) for n in ("tokens", "masked"))
    wanted, open_ = (fork.split(inner.values[n]).unsqueeze(2) for n in ("tokens", "masked"))
    inner.values = drafts
    differs = ~masked & (open_ | (tokens != wanted)) if stmt.within else (tokens != wanted) | (masked != open_)
    return (differs.to(torch.int64).sum(3) == 0) & live.unsqueeze(1)


def _chain(agree: Tensor, width: int) -> Tensor:
    """The last accepted branch [B]: from an accepted one to the last later one that agrees with its target."""
    best = torch.zeros(agree.shape[0], dtype=torch.int64)
    for i in range(width - 1):
        later = torch.arange(i + 1, width).reshape(1, -1)
        found = torch.where(agree[:, i, i + 1 :], later, 0).amax(1)
        best = torch.where((best == i) & (found > 0), found, best)
    return best


def _count(ctx: Context, fork: Fork) -> None:
    """One call for all branches, and what each of them fed."""
    assert fork.ran is not None, "the elaborator lets no branch be without a call"
    running, number = (fork.split(x) for x in fork.ran)
    fed = torch.where(running, number, 0).sum(1)
    count(ctx, fed > 0, fed)
