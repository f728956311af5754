"""Weights in blocks along a row, each with a scale and perhaps an offset: as GGUF stores them, or rounded here.

A weight is scale · (q − middle), middle 8 or 128, or scale · q + least where a `least` is kept (Q4_1). Scales and
offsets are float16, as in GGUF. Codes lie as ONNX Runtime's MatMulNBits wants them: one a byte, or two, lower half first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dcompile.ops import block_size, from_blocks

BLOCK = 32  # weights of a GGUF block
WIDE = 64  # of a block that is rounded here to steps around 0: half as many scales to read
Q4_0, Q4_1, Q8_0 = 2, 3, 8  # ggml's numbers
BYTES = {Q4_0: 18, Q4_1: 20, Q8_0: 34}  # of a block
PIECE = 4096  # blocks at a time, which a processor's cache holds
ROUNDED = 1 << 20  # weights that are rounded at a time, which a processor's cache holds
SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8)  # how much of a block's range codes may cover; the best one is taken

Bits = Literal["int4", "int4-symmetric", "int8"]
Steps = tuple[Tensor, Tensor | None]
"""Scales [N, K/S] and, where they do not go around 0, the least weights."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """A matrix [N, K] in blocks of S weights: `codes` uint8 [N, K/S, S], or of four bits [N, K/S, S/2], `scale` and
    `least` float16 [N, K/S]."""

    codes: Tensor
    scale: Tensor
    least: Tensor | None
    bits: int

    @property
    def floats(self) -> Tensor:
        """The matrix in float32."""
        return from_blocks(self.codes, self.scale, self.least, self.bits)

    @property
    def shape(self) -> tuple[int, int]:
        """[N, K]"""
        return self.codes.shape[0], self.codes.shape[1] * block_size(self.codes.shape, self.bits)


def of_gguf(raw: np.ndarray, kind: int, shape: tuple[int, ...]) -> Blocks | None:
    """A tensor's bytes, code for code; None for types that have no such form."""
    if kind not in (Q4_0, Q4_1, Q8_0) or len(shape) != 2 or shape[1] % BLOCK:
        return None
    rows = torch.from_numpy(raw.copy()).reshape(shape[0], shape[1] // BLOCK, -1)
    halves = rows[..., : 4 if kind == Q4_1 else 2].contiguous().view(torch.float16)
    data = rows[..., 4 if kind == Q4_1 else 2 :]
    if kind == Q8_0:
        codes = (data.view(torch.int8).to(torch.int16) + 128).to(torch.uint8)
    else:
        codes = pack(torch.cat([data % 16, data // 16], -1))  # a block's first half lies in the lower halves
    least = halves[..., 1].contiguous() if kind == Q4_1 else None
    return Blocks(codes, halves[..., 0].contiguous(), least, 8 if kind == Q8_0 else 4)


def floats_of_gguf(raw: np.ndarray, kind: int, shape: tuple[int, ...]) -> Tensor | None:
    """A tensor's bytes as the float32 numbers that they mean, to the bit what the `gguf` package makes of them, in a
    tenth of its time; None for types that it does better."""
    if kind not in (Q4_0, Q4_1, Q8_0) or not shape or shape[-1] % BLOCK:
        return None
    count = math.prod(shape) // BLOCK
    if raw.size != count * BYTES[kind]:
        return None  # a file that ends early, which the package tells
    rows, out = raw.reshape(count, -1), np.empty((count, BLOCK), np.float32)
    for at in range(0, count, PIECE):
        _dequantise(rows[at : at + PIECE], kind, out[at : at + PIECE])
    return torch.from_numpy(out.reshape(shape))


def _dequantise(rows: np.ndarray, kind: int, out: np.ndarray) -> None:
    """Blocks as they lie in a file, into their numbers [N, 32]. NumPy: torch's threads would wait for each other."""
    first = 4 if kind == Q4_1 else 2
    halves, data = rows[:, :first].copy().view(np.float16).astype(np.float32), rows[:, first:]
    if kind == Q8_0:
        np.multiply(data.view(np.int8), halves[:, :1], out=out)
        return
    out[:, : BLOCK // 2] = data & 15
    out[:, BLOCK // 2 :] = data >> 4
    if kind == Q4_0:
        out -= 8
    out *= halves[:, :1]
    if kind == Q4_1:
        out += halves[:, 1:]


def select(blocks: Blocks, rows: Tensor) -> Blocks:
    """The rows at these indices."""
    least = None if blocks.least is None else blocks.least[rows]
    return replace(blocks, codes=blocks.codes[rows], scale=blocks.scale[rows], least=least)


def pack(codes: Tensor) -> Tensor:
    """Codes below 16, two a byte."""
    return codes[..., 0::2] + codes[..., 1::2] * 16


def nearest(weight: Tensor, bits: Bits) -> Blocks:
    """A float matrix [N, K] rounded. int8: to the nearest of 255 steps around 0. Others: to 16 steps, of several ranges
    the one with the smallest squared error: int4 between a least and a greatest weight, int4-symmetric around 0. A
    block has 32 weights, 64 around 0 where that divides K."""
    size = BLOCK if bits == "int4" or weight.shape[1] % WIDE else WIDE
    rows = max(ROUNDED // weight.shape[1], 1)
    made = [
        _nearest(weight[at : at + rows].float().reshape(-1, weight.shape[1] // size, size), bits)
        for at in range(0, weight.shape[0], rows)
    ]
    least = None if made[0].least is None else torch.cat([m.least for m in made if m.least is not None])
    return Blocks(torch.cat([m.codes for m in made]), torch.cat([m.scale for m in made]), least, made[0].bits)


def _nearest(blocks: Tensor, bits: Bits) -> Blocks:
    if bits == "int8":
        scale = _half(blocks.abs().amax(-1) / 127)
        codes = (_steps(blocks, scale).round().clamp(-127, 127) + 128).to(torch.uint8)
        return Blocks(codes, scale.half(), None, 8)
    if bits == "int4":
        return _best(blocks, [_between(blocks, share) for share in SHRINK])
    farthest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)).squeeze(-1)
    # Of sixteen steps around 0 the last, 7 or -8, means a share of each block's weight that is farthest from 0.
    return _best(blocks, [(_half(farthest * share / end), None) for share in SHRINK for end in (7, -8)])


def _between(blocks: Tensor, share: float) -> Steps:
    """Sixteen steps over the middle `share` of each block's range."""
    low, high = blocks.amin(-1), blocks.amax(-1)
    middle, reach = (low + high) / 2, (high - low) / 2 * share
    return _half(2 * reach / 15), _half(middle - reach)


def _best(blocks: Tensor, ways: Sequence[Steps]) -> Blocks:
    """Of each block the way whose squared error is smallest, of equal ones the first."""
    (scale, least), *others = ways
    smallest = _error(blocks, scale, least)
    for other_scale, other_least in others:
        error = _error(blocks, other_scale, other_least)
        better = error < smallest
        scale = torch.where(better, other_scale, scale)
        least = torch.where(better, other_least, least) if least is not None and other_least is not None else None
        smallest = torch.minimum(error, smallest)
    codes = pack((_codes(blocks, scale, least) + (8 if least is None else 0)).to(torch.uint8))
    return Blocks(codes, scale.half(), None if least is None else least.half(), 4)


def _error(blocks: Tensor, scale: Tensor, least: Tensor | None) -> Tensor:
    meant = _codes(blocks, scale, least).mul_(scale.unsqueeze(-1))
    meant = meant if least is None else meant.add_(least.unsqueeze(-1))
    return meant.sub_(blocks).square_().sum(-1)


def _codes(blocks: Tensor, scale: Tensor, least: Tensor | None) -> Tensor:
    """The nearest of sixteen steps, as numbers: from -8 around 0, from 0 above a least weight."""
    if least is None:
        return _steps(blocks, scale).round_().clamp_(-8, 7)
    return _steps(blocks - least.unsqueeze(-1), scale).round_().clamp_(0, 15)


def _steps(blocks: Tensor, scale: Tensor) -> Tensor:
    return blocks / torch.where(scale == 0, 1, scale).unsqueeze(-1)


def _half(x: Tensor) -> Tensor:
    """As float16 will hold it, in float32."""
    return x.half().float()
