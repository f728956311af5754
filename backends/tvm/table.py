"""Every operation that Relax functions are made of, and those that are spelled out in others first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dcompile import ops
from dcompile.backends.tvm import arithmetic, folds, indices, products, shapes

aten = torch.ops.aten

CONVERT: dict[Any, Callable[..., Any]] = {
    **arithmetic.TABLE,
    **folds.TABLE,
    **indices.TABLE,
    **products.TABLE,
    **shapes.TABLE,
}


def layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    axes = list(range(-len(shape), 0))
    centred = x - x.mean(axes, keepdim=True)
    scaled = centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    scaled = scaled if weight is None else scaled * weight
    return scaled if bias is None else scaled + bias


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    **options: Any,
) -> Tensor:
    """`scaled_dot_product_attention` with as many heads of keys as of queries."""
    scale = options.get("scale")
    scores = torch.matmul(q * (q.shape[-1] ** -0.5 if scale is None else scale), k.transpose(-1, -2))
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = torch.where(mask, scores, ops.FLOOR) if mask.dtype == torch.bool else scores + mask
    return torch.matmul(torch.softmax(scores, -1), v)


def embed_blocks(codes: Tensor, scale: Tensor, least: Tensor | None, index: Tensor) -> Tensor:
    """Rows of a matrix in blocks, as floats; codes are whole numbers until then, which TVM divides as torch does."""
    packed = codes.shape[-1] < ops.BLOCK
    rows = codes[index].to(torch.int32)
    if packed:
        rows = torch.stack([rows % 16, rows // 16], -1).reshape(*index.shape, codes.shape[-2], ops.BLOCK)
    if least is None:
        rows = rows - (8 if packed else 128)
    floats = rows.to(torch.float32) * scale[index].to(torch.float32).unsqueeze(-1)
    floats = floats if least is None else floats + least[index].to(torch.float32).unsqueeze(-1)
    return floats.reshape(*index.shape, codes.shape[-2] * ops.BLOCK)


EXPAND: dict[Any, Callable[..., Any]] = {
    torch.ops.dcompile.attend.default: ops.attend_parts,
    ops.EMBED_BLOCKS: embed_blocks,
    ops.EXP_SUMS: ops.exp_sums_plainly,
    ops.BEST: ops.best_plainly,
    ops.BEST_TWO: ops.best_two_plainly,
    aten.layer_norm.default: layer_norm,
    aten.scaled_dot_product_attention.default: attention,
}
