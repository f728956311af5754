"""How matrices in blocks lie for the kernels of the target `cpu` (`cpp/linear.cpp`), and what reads them.

A row's weights lie in groups of 64, a group in sixteen words: byte t of word i is the weight 16 t + i, less 128. Of
four bits two rows share the words of a group: half byte t of word i is the weight 16 t + i of the first, half byte
t + 4 of the second. So a whole vector of codes is one load, and a shift for each sixteen weights. Beside them a word
for each block: float16 scale and, in the upper half, float16 offset: weight = scale · code + offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from dcompile.ops import block_size

GROUP, LANES = 64, 16
MOST = 2048  # blocks of a row, for which the kernels have room


@dataclass(frozen=True, eq=False)
class Packed:
    """A matrix [N, K] in blocks of S weights, as `pack` or `pack_tiles` lays it."""

    codes: Tensor
    steps: Tensor
    bits: int
    block: int
    shape: tuple[int, int]


def pack(codes: Tensor, scale: Tensor, least: Tensor | None, bits: int) -> Packed:
    """A matrix as `dcompile.ops.from_blocks` takes it: codes int32 [N, K/64, 16], or of four bits [N/2, K/64, 16], both
    rounded up; steps int32 [N · K/S + 16]."""
    rows, block = codes.shape[0], block_size(codes.shape, bits)
    if bits == 4:
        codes = torch.stack([codes % 16, codes // 16], -1)
    flat = codes.reshape(rows, -1)
    inner = flat.shape[1]
    assert inner <= MOST * block, f"rows of {inner} weights"
    flat = pad(flat, (0, -inner % GROUP, 0, rows % 2 if bits == 4 else 0))
    lanes = flat.to(torch.int32).reshape(flat.shape[0], -1, GROUP // LANES, LANES)
    if bits == 4:
        words = sum(lanes[j::2, :, t] << (16 * j + 4 * t) for j in range(2) for t in range(4))
    else:
        words = sum(((lanes[:, :, t] - 128) & 255) << (8 * t) for t in range(4))
    assert isinstance(words, Tensor)
    offset = torch.zeros_like(scale) if bits == 8 else offsets(scale, least, bits)
    steps = torch.stack([scale, offset], -1).reshape(-1).contiguous().view(torch.int32)
    return Packed(words.contiguous(), pad(steps, (0, LANES)), bits, block, (rows, inner))


def offsets(scale: Tensor, least: Tensor | None, bits: int) -> Tensor:
    """What the code 0 means."""
    return least if least is not None else -(2 ** (bits - 1)) * scale


def unpack(codes: Tensor, steps: Tensor, bits: int, block: int, rows: int, inner: int) -> Tensor:
    """The matrix in float32 [N, K]."""
    width, count = 32 // bits, GROUP // LANES
    shifts = torch.arange(width, dtype=torch.int32).reshape(-1, 1) * bits
    lanes = (codes.unsqueeze(-2) >> shifts) & (2**bits - 1)
    if bits == 4:
        lanes = lanes.unflatten(-2, (2, count)).movedim(-3, 1).flatten(0, 1)
    else:
        lanes = lanes - 256 * (lanes > 127)
    weights = lanes.flatten(1)[:rows, :inner].reshape(rows, inner // block, block).to(torch.float32)
    pairs = steps[:-LANES].view(torch.float16).reshape(rows, inner // block, 2).to(torch.float32)
    floats: Tensor = weights * pairs[..., :1] + pairs[..., 1:]
    return floats.reshape(rows, inner)


@torch.library.custom_op("dcompile::linear_packed", mutates_args=(), tags=(torch.Tag.needs_contiguous_strides,))
def linear_packed(x: Tensor, codes: Tensor, steps: Tensor, bits: int, block: int, columns: int) -> Tensor:
    """x float32 [.., K] times the transpose of a packed matrix [columns, K]: [.., columns]."""
    return torch.nn.functional.linear(x, unpack(codes, steps, bits, block, columns, x.shape[-1]))


@linear_packed.register_fake
def _(x: Tensor, codes: Tensor, steps: Tensor, bits: int, block: int, columns: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], columns))


@torch.library.custom_op("dcompile::embed_packed", mutates_args=(), tags=(torch.Tag.needs_contiguous_strides,))
def embed_packed(codes: Tensor, steps: Tensor, index: Tensor, bits: int, block: int, inner: int) -> Tensor:
    """Rows of a packed matrix [.., inner] by index int64 [..]: float32 [.., inner]."""
    rows = (steps.numel() - LANES) // (inner // block)
    return unpack(codes, steps, bits, block, rows, inner)[index]


@embed_packed.register_fake
def _(codes: Tensor, steps: Tensor, index: Tensor, bits: int, block: int, inner: int) -> Tensor:
    return index.new_empty((*index.shape, inner), dtype=torch.float32)


LINEAR_PACKED = torch.ops.dcompile.linear_packed.default
EMBED_PACKED = torch.ops.dcompile.embed_packed.default
