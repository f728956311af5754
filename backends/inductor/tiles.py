"""How matrices in blocks lie for products that round what they multiply to eight bits (`cpp/rough.cpp`).

Sixteen rows of a matrix are a tile, a lane each. A word of a lane holds four bytes of a block, each a weight's code;
of four bits the lower halves are weights 8 v + 0 to 3 of the block, the upper ones 8 v + 4 to 7, in the v-th vector.
So instructions that multiply bytes by fours serve sixteen rows, and a block ends in one sum a lane. Beside them the
steps of each lane, as in `blocks.py`; codes of eight bits mean 0 at 128.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from dcompile.backends.inductor.blocks import LANES, Packed, pack_steps, product_shape, rows_shape, unpack_steps
from dcompile.ops import block_size


def pack_tiles(codes: Tensor, scale: Tensor, least: Tensor | None, bits: int) -> Packed:
    """A matrix as `from_blocks` takes it: codes int32 [N/16, K/S, V, 16], steps int32 [N/16, words, 16]."""
    rows, block = codes.shape[0], block_size(codes.shape, bits)
    if bits == 4:
        codes = torch.stack([codes % 16, codes // 16], -1).flatten(-2)
    blocks = codes.shape[1]
    more = -rows % LANES
    lanes = pad(codes, (0, 0, 0, 0, 0, more)).to(torch.int32).reshape(-1, LANES, blocks, block)
    if bits == 4:
        by_half = lanes.reshape(*lanes.shape[:-1], -1, 2, 4)
        bytes = by_half[..., 0, :] | by_half[..., 1, :] << 4
    else:
        bytes = lanes.reshape(*lanes.shape[:-1], -1, 4)
    words = bytes[..., 0] | bytes[..., 1] << 8 | bytes[..., 2] << 16 | bytes[..., 3] << 24
    pairs = pack_steps(scale, least)
    steps = pad(pairs, (0, 0, 0, more)).reshape(-1, LANES, pairs.shape[1]).transpose(1, 2)
    packed = words.permute(0, 2, 3, 1).contiguous()
    return Packed(packed, steps.contiguous(), bits, block, least is None, (rows, blocks * block))


def unpack_tiles(codes: Tensor, steps: Tensor, bits: int, symmetric: bool, rows: int) -> Tensor:
    """The matrix in float32 [N, K]."""
    shifts = torch.arange(4, dtype=torch.int32) * 8
    bytes = (codes.permute(0, 3, 1, 2).flatten(0, 1)[:rows].unsqueeze(-1) >> shifts) & 255
    lanes = torch.stack([bytes & 15, bytes >> 4], -2).flatten(-3) if bits == 4 else bytes.flatten(-2)
    of_rows = steps.transpose(1, 2).flatten(0, 1)[:rows]
    scale, least = unpack_steps(of_rows, lanes.shape[1], symmetric, 2 ** (bits - 1))
    floats: Tensor = lanes.to(torch.float32) * scale.unsqueeze(-1) + least.unsqueeze(-1)
    return floats.reshape(rows, -1)


@torch.library.custom_op("dcompile::linear_rough", mutates_args=(), tags=(torch.Tag.needs_contiguous_strides,))
def linear_rough(
    x: Tensor, codes: Tensor, steps: Tensor, bits: int, block: int, symmetric: bool, columns: int,
    live: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """x float32 [.., K], rounded to eight bits around 0 in blocks, times the transpose of a matrix [columns, K]; `live`
    as in `linear_packed`."""
    blocks = x.reshape(*x.shape[:-1], -1, block)
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    rounded = (blocks / torch.where(scale == 0, 1, scale)).round() * scale
    return torch.nn.functional.linear(rounded.flatten(-2), unpack_tiles(codes, steps, bits, symmetric, columns))


linear_rough.register_fake(product_shape)


@torch.library.custom_op("dcompile::embed_rough", mutates_args=(), tags=(torch.Tag.needs_contiguous_strides,))
def embed_rough(
    codes: Tensor, steps: Tensor, index: Tensor, bits: int, block: int, symmetric: bool, inner: int
) -> Tensor:
    """Rows of such a matrix [.., inner] by index int64 [..]: float32 [.., inner]."""
    return unpack_tiles(codes, steps, bits, symmetric, codes.shape[0] * LANES)[index]


embed_rough.register_fake(rows_shape)
LINEAR_ROUGH = torch.ops.dcompile.linear_rough.default
EMBED_ROUGH = torch.ops.dcompile.embed_rough.default
