"""Calls that leave out layers (SkipDecode): the lowest and the highest run, and what lies between is a branch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dcompile.diagnostic import CompileError, Diagnostic, Label
from dcompile.lower.context import Context, either, spread
from dcompile.strategy import Call, Expr


def _runs(ctx: Context, depth: Expr) -> list[Tensor]:
    """Of each layer which rows [B] it runs for. A row never goes deeper than it last did."""
    layers = ctx.model.facts.layers
    asked = torch.ceil(ctx.value(depth, None).to(torch.float32) * layers).to(torch.int64)
    ctx.put("deepest", torch.minimum(torch.clamp(asked, 1, layers), ctx.values["deepest"]))
    number = ctx.values["deepest"]
    found = [torch.ones(ctx.batch, dtype=torch.bool), *(number > layers - layer for layer in range(1, layers))]
    return found if ctx.active is None else [rows & ctx.active for rows in found]


@contextmanager
def left_out(ctx: Context, stmt: Call) -> Iterator[None]:
    """Inside, where a call has a depth, the layers but the lowest are branches: they run if any of their rows does."""
    backbone: Any = ctx.model.backbone
    if stmt.depth is None:
        yield
        return
    if not hasattr(backbone, "layers"):
        title = f"the layers of `{ctx.model.facts.family}` are not known, so none can be left out"
        raise CompileError([Diagnostic("no-layers", title, Label(stmt.span))])
    rows, layers = _runs(ctx, stmt.depth), list(backbone.layers)[1:]
    try:
        for number, layer in enumerate(layers, 1):
            layer.forward = _maybe(ctx, layer.forward, number, rows[number])
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)  # the class has it


def _maybe(ctx: Context, run: Callable[..., Tensor], number: int, rows: Tensor) -> Callable[..., Tensor]:
    """A layer that leaves the hidden states of other rows than these as they are, and their keys and values zero."""
    facts = ctx.model.facts

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        slots = kwargs["past_key_values"]

        def through() -> list[Tensor]:
            out = run(hidden, *args, **kwargs)
            return [out, *slots.fresh.pop(number)]

        def past() -> list[Tensor]:
            none = (hidden.shape[0], facts.kv_heads, hidden.shape[1], facts.head_dim)
            return [torch.clone(hidden), torch.zeros(none), torch.zeros(none)]

        out, key, value = ctx.recorder.branch(either(rows), through, past)
        slots.fresh[number] = key, value
        return out if ctx.batch == 1 else torch.where(spread(rows, hidden), out, hidden)

    return forward
