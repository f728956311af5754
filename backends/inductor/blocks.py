"""How matrices in blocks lie for the kernels of the target `cpu` (`cpp/linear.cpp`), and what reads them.

A row's weights lie in groups of 64, a group in sixteen words: byte t of word i is the weight 16 t + i, less 128. Of
four bits two rows share the words of a group: half byte t of word i is the weight 16 t + i of the first, half byte
t + 4 of the second. So a whole vector of codes is one load, and a shift for each sixteen weights. Beside them lie
steps, words of two float16: of each block scale and offset, weight = scale · code + offset; where all offsets follow
from the scale, the matrix is symmetric, and a word holds the scales of two blocks, i and i + half of them, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    symmetric: bool
    shape: tuple[int, int]

    @property
    def form(self) -> tuple[int, int, bool]:
        """What products and embeddings are told of it."""
        return self.bits, self.block, self.symmetric


def pack(codes: Tensor, scale: Tensor, least: Tensor | None, bits: int) -> Packed:
    """A matrix as `dcompile.ops.from_blocks` takes it: codes int32 [N, K/64, 16], or of four bits [N/2, K/64, 16], both
    rounded up; steps int32 [N · words + 16]."""
    assert bits == 4 or least is None, "bytes are less 128, and have no offset"
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
    steps = pad(pack_steps(scale, least).reshape(-1), (0, LANES))
    return Packed(words.contiguous(), steps, bits, block, least is None, (rows, inner))


def pack_steps(scale: Tensor, least: Tensor | None) -> Tensor:
    """Steps of matrix rows, from float16 [N, K/S] to int32 [N, words]."""
    if least is None:
        half = width_of_steps(scale.shape[1], symmetric=True)
        scale, least = scale[:, :half], pad(scale[:, half:], (0, scale.shape[1] % 2))
    return torch.stack([scale, least], -1).contiguous().view(torch.int32).squeeze(-1)


def unpack_steps(steps: Tensor, count: int, symmetric: bool, middle: int) -> tuple[Tensor, Tensor]:
    """Scale and offset of `count` blocks, float32 [N, K/S], of steps int32 [N, words]. `middle`: the code of 0."""
    low, high = steps.contiguous().view(torch.float16).reshape(*steps.shape, 2).to(torch.float32).unbind(-1)
    if not symmetric:
        return low, high
    scale = torch.cat([low, high], -1)[:, :count]
    return scale, -middle * scale


def width_of_steps(blocks: int, symmetric: bool) -> int:
    """Words of a row's steps."""
    return (blocks + 1) // 2 if symmetric else blocks


def unpack(codes: Tensor, steps: Tensor, bits: int, block: int, symmetric: bool, rows: int, inner: int) -> Tensor:
    """The matrix in float32 [N, K]."""
    width, count = 32 // bits, GROUP // LANES
    shifts = torch.arange(width, dtype=torch.int32).reshape(-1, 1) * bits
    lanes = (codes.unsqueeze(-2) >> shifts) & (2**bits - 1)
    if bits == 4:
        lanes = lanes.unflatten(-2, (2, count)).movedim(-3, 1).flatten(0, 1)
    else:
        lanes = lanes - 256 * (lanes > 127)
    weights = lanes.flatten(1)[:rows, :inner].reshape(rows, inner // block, block).to(torch.float32)
    scale, least = unpack_steps(steps[:-LANES].reshape(rows, -1), inner // block, symmetric, 8 if bits == 4 else 0)
    floats: Tensor = weights * scale.unsqueeze(-1) + least.unsqueeze(-1)
    return floats.reshape(rows, inner)


@torch.library.custom_op("dcompile::linear_packed", mutates_args=(), tags=(torch.Tag.needs_contiguous_strides,))
def linear_packed(
    x: Tensor, codes: Tensor, steps: Tensor, bits: int, block: int, symmetric: bool, columns: int,
    live: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """x float32 [.., K] times the transpose of a packed matrix [columns, K]: [.., columns]. `live`: none, or how many
    rows of x hold something, int64 [1]; what the others give is left open."""
    return torch.nn.functional.linear(x, unpack(codes, steps, bits, block, symmetric, columns, x.shape[-1]))


@linear_packed.register_fake
def product_shape(x: Tensor, *given: Any) -> Tensor:
    """What a product gives, of either layout."""
    *_, columns, _ = given
    return x.new_empty((*x.shape[:-1], columns))


@torch.library.custom_op("dcompile::embed_packed", mutates_args=(), tags=(torch.Tag.needs_contiguous_strides,))
def embed_packed(
    codes: Tensor, steps: Tensor, index: Tensor, bits: int, block: int, symmetric: bool, inner: int
) -> Tensor:
    """Rows of a packed matrix [.., inner] by index int64 [..]: float32 [.., inner]."""
    rows = (steps.numel() - LANES) // width_of_steps(inner // block, symmetric)
    return unpack(codes, steps, bits, block, symmetric, rows, inner)[index]


@embed_packed.register_fake
def rows_shape(_: Tensor, steps: Tensor, index: Tensor, *given: Any) -> Tensor:
    """What a lookup gives, of either layout."""
    return index.new_empty((*index.shape, given[-1]), dtype=torch.float32)


LINEAR_PACKED = torch.ops.dcompile.linear_packed.default
EMBED_PACKED = torch.ops.dcompile.embed_packed.default
