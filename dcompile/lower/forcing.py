"""Draws that are given instead of made: how a published sampler is replayed by one with a generator of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcompile.lower.context import Context
from dcompile.strategy import NOISE, Call, Strategy, Write, walk


def streams(strategy: Strategy) -> list[int]:
    """Every random stream of a strategy, in the order of the input."""
    calls = [n.site for n in walk(strategy.body) if isinstance(n, Call)]
    noises = [NOISE + 1 + n.site for n in walk(strategy.body) if isinstance(n, Write) and n.action == "noise"]
    return sorted({*calls, NOISE, *noises})


def shape(ctx: Context, visits: int) -> tuple[int, ...]:
    """`draws`: int64 [B, S, C, T], the token for row, stream, position and visit, -1 where the own draw stays."""
    return ctx.batch, len(streams(ctx.strategy)), ctx.capacity, visits


def forced(ctx: Context, stream: int, position: Tensor, visits: Tensor, own: Tensor) -> Tensor:
    """The tokens [B, W] that are given for these positions and visits, or the own ones."""
    if "draws" not in ctx.inputs:
        return own
    table = ctx.inputs["draws"][:, streams(ctx.strategy).index(stream)]
    batch, capacity, most = table.shape
    place = torch.clamp(position, 0, capacity - 1) * most + torch.clamp(visits, max=most - 1)
    given = torch.gather(table.reshape(batch, capacity * most), 1, place.expand(own.shape))
    return torch.where((given >= 0) & (visits < most), given, own)


def array(
    strategy: Strategy, batch: int, capacity: int, visits: int, draws: Mapping[tuple[int, int, int], int], row: int
) -> npt.NDArray[np.int64]:
    """The input that gives one row its draws."""
    order = streams(strategy)
    out = np.full((batch, len(order), capacity, visits), -1, np.int64)
    for (stream, position, visit), token in draws.items():
        out[row, order.index(stream), position, visit] = token
    return out
